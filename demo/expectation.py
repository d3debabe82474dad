"""What each scene expects: who may talk to whom, and which policies are to blame for a denial.

In:   nothing; written down by hand from what the policies are meant to do, not computed from them
Out:  one tuple of Expectation a scene
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.support.world_topology import ECOMMERCE, WorldPod

DEFAULT_DENY: Final = "e-commerce/default-deny"

PAIRS: Final = (
    ("frontend", "api-gateway"),
    ("api-gateway", "products-db"),
    ("prometheus", "api-gateway"),
    ("frontend", "products-db"),
    ("api-gateway", "frontend"),
    ("frontend", "prometheus"),
    ("prometheus", "products-db"),
    ("stranger", "frontend"),
    ("stranger", "api-gateway"),
    ("stranger", "products-db"),
    ("stranger", "prometheus"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """One pair of pods: allowed, or denied in the name of exactly these policies."""

    source: WorldPod
    destination: WorldPod
    blamed: frozenset[str] = frozenset()

    @property
    def allowed(self) -> bool:
        """True if nobody is to blame."""
        return not self.blamed


def _expect(
    denied: Mapping[tuple[str, str], frozenset[str]],
    pairs: Sequence[tuple[str, str]] = PAIRS,
) -> tuple[Expectation, ...]:
    return tuple(
        Expectation(
            source=ECOMMERCE.pod(source),
            destination=ECOMMERCE.pod(destination),
            blamed=denied.get((source, destination), frozenset()),
        )
        for source, destination in pairs
    )


def _closed_by(*policies: str) -> frozenset[str]:
    return frozenset((DEFAULT_DENY, *(f"e-commerce/{name}" for name in policies)))


_OUTSIDE: Final = (("stranger", "prometheus"),)

EVERYTHING_OPEN: Final = _expect({})

NAMESPACE_CLOSED: Final = _expect(
    {pair: frozenset((DEFAULT_DENY,)) for pair in PAIRS if pair not in _OUTSIDE}
)

# Who blames whom: the source's egress is judged first, on its node; then the destination's ingress.
# A pod is closed in a direction by default-deny and by each policy of its own that has rules in it.
_REFUSED: Final = {
    ("frontend", "products-db"): _closed_by("frontend"),
    ("api-gateway", "frontend"): _closed_by("api-gateway"),
    ("frontend", "prometheus"): _closed_by("frontend"),
    ("prometheus", "products-db"): _closed_by("products-db"),
    ("stranger", "frontend"): _closed_by(),
    ("stranger", "api-gateway"): _closed_by("api-gateway"),
    ("stranger", "products-db"): _closed_by("products-db"),
}

SHOP_ALLOWED: Final = _expect(_REFUSED)

FRONTEND_REVOKED: Final = _expect(
    _REFUSED | {("frontend", "api-gateway"): _closed_by("api-gateway")}
)

MONITORING_CLOSED: Final = _expect(
    _REFUSED | {("stranger", "prometheus"): frozenset(("monitoring/default-deny",))}
)

# What one commit opens: the frontend's ingress is judged on node-a, prometheus' on node-b.
_OPENED: Final = (("prometheus", "frontend"), ("stranger", "prometheus"))

OPENED_ON_NODE_A: Final = _expect(
    {("stranger", "prometheus"): frozenset(("monitoring/default-deny",))}, _OPENED
)

OPENED_EVERYWHERE: Final = _expect({}, _OPENED)
