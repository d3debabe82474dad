"""How many requests Envoy judged and nobody was told of.

In:   Envoy's own count of entries that it wrote or dropped; how many came in since
Out:  LogLosses: the sum of those that never came
Pure.

Holds always:
1. The sum only grows, and never counts what came in or may yet come in: while requests come, those of the
   last moments are left out until the next look. At rest it is exact.
2. An Envoy that was started anew counts from zero: what its predecessor had not sent is not known.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLosses:
    """`lost` in all. `written` and `received` as of the last look, `of_envoy` lost of the Envoy that runs.

    `base_written` and `base_received`: both counts where counting began.
    """

    lost: int = 0
    of_envoy: int = 0
    written: int = 0
    base_written: int = 0
    base_received: int = 0


def beginning(written: int, received: int) -> LogLosses:
    """Count from here on."""
    return LogLosses(written=written, base_written=written, base_received=received)


def looked(before: LogLosses, *, written: int, received: int) -> LogLosses:
    """The losses after a look: first `written`, then, once what was written could be here, `received`."""
    if written < before.written:
        return LogLosses(
            lost=before.lost, written=written, base_written=written, base_received=received
        )
    missing = (written - before.base_written) - (received - before.base_received)
    more = max(0, missing - before.of_envoy)
    return LogLosses(
        lost=before.lost + more,
        of_envoy=before.of_envoy + more,
        written=written,
        base_written=before.base_written,
        base_received=before.base_received,
    )
