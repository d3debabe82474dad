"""The denials that a repository's intents declare: a rollout expects them.

In:   intents
Out:  ExpectedDenial values
Pure.

Holds always:
1. An intent about less than a flow (one request, one outside address, one name) expects nothing:
   what is counted is flows, and more than the author said would be taken as meant.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from netpolicy.evaluate import End
from reconciler.intents.read import Intent
from reconciler.rollout.expected import ExpectedDenial

MAX_EXPECTED: Final = 1_000
"""More are not remembered: then a denial that was meant holds the rollout, never the reverse."""


def expected_denials(intents: Iterable[Intent]) -> tuple[ExpectedDenial, ...]:
    """What the intents declare denied."""
    found = [
        ExpectedDenial(
            name=intent.name,
            source=intent.flow.source.labels.items,
            destination=intent.flow.destination.labels.items,
            protocol=intent.flow.protocol,
            port=intent.flow.port,
        )
        for intent in intents
        if not intent.allowed and _is_about_flows(intent)
    ]
    return tuple(found[:MAX_EXPECTED])


def _is_about_flows(intent: Intent) -> bool:
    flow = intent.flow
    plain = flow.request is None and flow.server_name is None
    return plain and _is_known_by_labels(flow.source) and _is_known_by_labels(flow.destination)


def _is_known_by_labels(end: End) -> bool:
    return end.is_endpoint or not (end.address or end.dns_names)
