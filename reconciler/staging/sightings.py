"""Save what the fleet saw, for people: of the candidate, and of policies that are not enforced yet.

In:   evidence, the gates' verdict, who is in the inventory
Out:  Sightings in the state database
Shell over the store. Nothing is decided by what is saved here.

Holds always:
1. What did not change is not written; what only grows after a promotion, every PREVIEW_SECONDS at most.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from netpolicy.evidence import Cause
from reconciler.rollout.evidence import Evidence
from reconciler.rollout.gates import Verdict, unexpected
from reconciler.rollout.machine import HALTED, STAGES, Rollout
from reconciler.state.rollouts import Previewed, RolloutStore, Sighting

SILENT: Final = "silent"

MAX_SHOWN: Final = 200
"""Differences of each kind that are saved, the most frequent first."""

PREVIEW_SECONDS: Final = 5.0


class Sightings:
    """What was saved last."""

    def __init__(self, store: RolloutStore) -> None:
        self._store = store
        self._candidate: Sighting | None = None
        self._preview: tuple[str, Previewed | None] = ("", None)
        self._previewed_at = float("-inf")

    def of_candidate(
        self, rollout: Rollout, evidence: Evidence, verdict: Verdict, nodes: Iterable[str]
    ) -> None:
        """Save what was seen of a revision that is on its way."""
        if rollout.phase not in STAGES | HALTED:
            return
        differences = evidence.differences()
        meant_otherwise = unexpected(differences, rollout.expected)
        others = tuple(one for one in differences if one not in set(meant_otherwise))
        sighting = Sighting(
            revision=rollout.revision,
            nodes=_doings(evidence, nodes),
            flows=evidence.flows,
            pods=evidence.pods,
            omitted=evidence.omitted,
            answer=verdict.answer,
            reasons=verdict.reasons,
            unexpected=meant_otherwise[:MAX_SHOWN],
            others=others[:MAX_SHOWN],
        )
        if sighting != self._candidate:
            self._store.save_sighting(sighting)
            self._candidate = sighting

    def of_preview(self, revision: str, evidence: Evidence, *, now: float) -> None:
        """Save what the enforced revision's policies would do that it does not enforce yet."""
        is_too_soon = now - self._previewed_at < PREVIEW_SECONDS
        if not revision or (is_too_soon and self._preview[0] == revision):
            return
        self._previewed_at = now
        previewed = _previewed(evidence)
        if (revision, previewed) == self._preview:
            return
        known = self._store.sighting(revision) or Sighting(revision=revision)
        if known.preview != previewed:
            self._store.save_sighting(replace(known, preview=previewed))
        self._preview = (revision, previewed)


def _doings(evidence: Evidence, nodes: Iterable[str]) -> dict[str, str]:
    """What each node of the inventory does with the candidate; `silent` where it said nothing."""
    reports = evidence.reports
    return {
        name: reports[name].latest.role if name in reports else SILENT for name in sorted(nodes)
    }


def _previewed(evidence: Evidence) -> Previewed | None:
    """None where no node previews anything."""
    if not evidence.reports:
        return None
    differences = evidence.differences()
    cut = tuple(one for one in differences if one.cause is Cause.WOULD_DENY)
    others = tuple(one for one in differences if one.cause is not Cause.WOULD_DENY)
    return Previewed(
        flows=evidence.flows,
        pods=evidence.pods,
        omitted=evidence.omitted,
        cut=cut[:MAX_SHOWN],
        others=others[:MAX_SHOWN],
    )
