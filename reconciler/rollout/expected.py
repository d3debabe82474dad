"""Denials that the authors mean: flows that an intent declares denied.

In:   what an intent says of its ends, a Difference
Out:  is the difference one of those denials
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass

from netpolicy.evidence import Difference, FlowSide
from netpolicy.labels import Label
from netpolicy.rules import Protocol


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpectedDenial:
    """A flow that an intent declares denied: ends by the labels they bear at least."""

    name: str
    source: tuple[Label, ...]
    destination: tuple[Label, ...]
    protocol: Protocol
    port: int

    def covers(self, difference: Difference) -> bool:
        """True if the difference is a denial of this flow."""
        return (
            (difference.protocol, difference.port) == (self.protocol, self.port)
            and _bears(difference.source, self.source)
            and _bears(difference.destination, self.destination)
        )


def _bears(side: FlowSide, labels: tuple[Label, ...]) -> bool:
    return all(label in side.labels.items for label in labels)
