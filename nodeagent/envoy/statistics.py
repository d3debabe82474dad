"""Which of its statistics Envoy keeps: what the agent asks for, and what is counted once a connection.

In:   nothing
Out:  a part of the bootstrap
Pure.

What Envoy counts and times of each request costs it a twentieth of its processor time. Requests are counted
by the agent, from the log: with who asked whom, and by which rule.

Holds always:
1. Every statistic that the agent reads is kept.
"""

from __future__ import annotations

from typing import Final

from nodeagent.envoy.document import Json

_PREFIXES: Final = (
    "cluster_manager.",
    "filesystem.",
    "listener_manager.",
    "server.",
)
_SUFFIXES: Final = (
    ".version_text",
    ".update_rejected",
    "stream_cx_active",
    "stream_cx_total",
    ".upstream_cx_connect_fail",
)
"""Of listeners, clusters and route configurations."""


def kept_statistics() -> Json:
    """The bootstrap's `stats_config`."""
    kept = [
        *({"prefix": prefix} for prefix in _PREFIXES),
        *({"suffix": suffix} for suffix in _SUFFIXES),
    ]
    return {"stats_matcher": {"inclusion_list": {"patterns": kept}}}
