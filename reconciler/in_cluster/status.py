"""What our objects should say.

In:   Account, RolloutAccount, the objects as they are
Out:  statuses and Events, as the API server takes them
Pure. Every text and every list is bounded as the CRDs say.

Holds always:
1. What did not change says the same bytes, so that nothing is written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from netpolicy.errors import Severity
from netpolicy.evidence import Difference
from netpolicy.status import Condition, ConditionType
from reconciler.account import Account, RolloutAccount
from reconciler.cluster.kinds import API_VERSION, ROLLOUT, RepositoryObject, RolloutObject
from reconciler.rollout.gates import protocol_word, side_text
from reconciler.rollout.machine import HALTED, OVER, STAGES, TAKEN_BACK, Phase, Rollout
from reconciler.rollout.progress import opens_at
from reconciler.staging.entries import where
from reconciler.staging.text import SHORT_HASH, WOULD_BE
from reconciler.state.fleet import AgentRecord
from reconciler.state.rollouts import Entry, Previewed, Sighting

MAX_MESSAGE: Final = 1024
MAX_DIAGNOSTICS: Final = 10
MAX_WORST: Final = 10
MAX_HISTORY: Final = 20
ENFORCING: Final = "enforcing"

OF_THE_ENFORCED: Final = ("lastAppliedRevision", "enforced", "sequence", "policies", "nodes")

ALARMING: Final = TAKEN_BACK | {Phase.REJECTED, Phase.INCONCLUSIVE}
"""Phases whose Events are warnings."""


def rollout_name(repository: str, revision: str) -> str:
    """The object of a revision's rollout."""
    return f"{repository[:50]}-{revision[:SHORT_HASH]}"


def new_rollout(owner: RepositoryObject, revision: str) -> dict[str, Any]:
    """The object of a rollout that begins; it goes when its repository goes."""
    return {
        "apiVersion": API_VERSION,
        "kind": ROLLOUT,
        "metadata": {
            "name": rollout_name(owner.name, revision),
            "namespace": owner.namespace,
            "labels": {"tidegate.dev/repository": owner.name},
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "PolicyRepository",
                    "name": owner.name,
                    "uid": owner.uid,
                }
            ],
        },
        "spec": {"repository": owner.name, "revision": revision},
    }


def repository_status(
    found: RepositoryObject, account: Account, *, requested_at: str
) -> dict[str, Any]:
    """What a followed repository says. `requested_at`: the token of the last request that was passed on.

    What it says of the enforced revision stays while the account knows of none: a leader without state
    learns it from there, and so must the next one if this one gets no further.
    """
    judged, publication = account.judgement, account.publication
    diagnostics = judged.diagnostics if judged else ()
    errors = sum(one.severity is Severity.ERROR for one in diagnostics)
    status: dict[str, Any] = {
        "observedGeneration": found.generation,
        "lastAttemptedRevision": judged.revision if judged else "",
        "lastAppliedRevision": account.stable,
        "enforced": account.stable[:SHORT_HASH],
        "sequence": publication.sequence if publication else 0,
        "policies": account.policies,
        "nodes": _share(account, publication.sequence if publication else 0),
        "errors": errors,
        "warnings": len(diagnostics) - errors,
        "diagnostics": [
            event_text(f"{one.place}: {one.severity} {one.code}: {one.message}")
            for one in diagnostics[:MAX_DIAGNOSTICS]
        ],
        "conditions": _conditions(account.conditions, found.generation),
    }
    if requested_at:
        status["lastHandledReconcileAt"] = requested_at[:256]
    if not account.stable:
        status |= {key: found.status[key] for key in OF_THE_ENFORCED if key in found.status}
    return status


def refused_status(
    found: RepositoryObject, reason: str, message: str, *, now: float
) -> dict[str, Any]:
    """What a repository says that is not followed; all else that it says stays."""
    said = [
        Condition(
            type=ConditionType.READY, status=False, reason=reason, message=message, since=now
        ),
        Condition(
            type=ConditionType.STALLED, status=True, reason=reason, message=message, since=now
        ),
    ]
    before = {one["type"]: one for one in found.status.get("conditions", [])}
    conditions = _conditions(said, found.generation)
    for one in conditions:
        known = before.get(one["type"])
        if known is not None and known["status"] == one["status"]:
            one["lastTransitionTime"] = known["lastTransitionTime"]
    return {**found.status, "observedGeneration": found.generation, "conditions": conditions}


def rollout_status(
    found: RolloutObject,
    about: RolloutAccount,
    account: Account,
    *,
    answers: Mapping[str, tuple[str, str]],
    now: float,
) -> dict[str, Any]:
    """What a rollout says. `answers`: by action, tokens that were handled and what came of them."""
    rollout = about.rollout
    before = found.status
    status: dict[str, Any] = {
        "observedGeneration": 1,
        "phase": str(rollout.phase),
        "where": where(rollout),
        "message": event_text(_message(rollout)),
        "since": _time(rollout.since),
        "sequence": rollout.sequence,
        "replaces": rollout.stable,
        "stages": [stage.name for stage in rollout.plan.stages],
        "promotion": str(rollout.plan.promotion),
        "nodes": _nodes(rollout, about.sighting, account),
        "history": _history(about, before),
        "lastHandled": {
            **before.get("lastHandled", {}),
            **{action: token for action, (token, _) in answers.items()},
        },
        "answers": {
            **before.get("answers", {}),
            **{action: event_text(text) for action, (_, text) in answers.items() if text},
        },
        "conditions": _rollout_conditions(rollout),
    }
    if rollout.phase in STAGES | HALTED:
        status["stage"] = rollout.stage
        status["soakSeconds"] = rollout.plan.stages[rollout.stage].soak_seconds
    if (opens := opens_at(rollout, now)) is not None:
        status["windowOpens"] = _time(opens)
    seen = about.sighting
    if seen is not None and seen.answer:
        status["evidence"] = _evidence(seen)
    elif "evidence" in before:
        status["evidence"] = before["evidence"]
    if seen is not None and seen.preview is not None:
        status["preview"] = _preview(seen.preview)
    return status


def is_same_story(said: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """True if only the numbers of the evidence grew."""
    return _without_numbers(said) == _without_numbers(wanted)


def new_events(
    found: RolloutObject, about: RolloutAccount, *, instance: str
) -> list[dict[str, Any]]:
    """An Event for each entry of the history that the status does not show yet, the oldest first."""
    shown = {(one.get("at"), one.get("event")) for one in found.status.get("history", [])}
    told = [entry for entry in about.history if (_time(entry.at), entry.event) not in shown]
    return [_event(found, entry, instance=instance) for entry in reversed(told)]


def _event(found: RolloutObject, entry: Entry, *, instance: str) -> dict[str, Any]:
    is_alarm = any(entry.phase.startswith(phase) for phase in ALARMING)
    why = f": {entry.reason}" if entry.reason else ""
    by = f" by {entry.by}" if entry.by else ""
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        # A name that says what it tells: telling it twice is refused, and that is well.
        "metadata": {"name": f"{found.name}.{int(entry.at * 1e6):x}", "namespace": found.namespace},
        "eventTime": event_time(entry.at),
        "type": "Warning" if is_alarm else "Normal",
        "reason": "".join(word.capitalize() for word in entry.event.split())[:128]
        if " " in entry.event
        else entry.event[:128],
        "action": entry.event[:128],
        "note": event_text(f"{entry.phase or 'refused'}{by}{why}"),
        "reportingController": "tidegate.dev/reconciler",
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": ROLLOUT,
            "name": found.name,
            "namespace": found.namespace,
            "uid": found.uid,
        },
    }


def _without_numbers(status: Mapping[str, Any]) -> dict[str, Any]:
    evidence = status.get("evidence", {})
    kept = {key: evidence[key] for key in ("answer", "reasons", "nodes") if key in evidence}
    return {key: said for key, said in status.items() if key != "preview"} | {"evidence": kept}


def _message(rollout: Rollout) -> str:
    if rollout.reason:
        return rollout.reason
    return "" if rollout.phase in OVER or rollout.sequence else "not published yet"


def _nodes(rollout: Rollout, sighting: Sighting | None, account: Account) -> str:
    """Nodes that enforce it of all nodes."""
    total = len(account.nodes)
    if rollout.phase in STAGES | HALTED:
        seen = Counter(sighting.nodes.values()) if sighting else Counter[str]()
        return f"{seen[ENFORCING]}/{total}"
    if rollout.revision == account.stable:
        return _share(account, rollout.sequence)
    return f"0/{total}"


def _share(account: Account, sequence: int) -> str:
    enforcing = [one for one in account.agents if _enforces(one, account, sequence)]
    return f"{len(enforcing)}/{len(account.nodes)}"


def _enforces(agent: AgentRecord, account: Account, sequence: int) -> bool:
    return agent.node in account.nodes and agent.sequence >= sequence > 0 and not agent.error


def _evidence(sighting: Sighting) -> dict[str, Any]:
    return {
        "answer": sighting.answer,
        "reasons": [event_text(reason) for reason in sighting.reasons[:10]],
        "flows": sighting.flows,
        "pods": sighting.pods,
        "unexpectedFlows": sum(one.count for one in sighting.unexpected),
        "nodes": dict(sorted(Counter(sighting.nodes.values()).items())),
        "omitted": sighting.omitted,
        "worst": [_difference(one) for one in sighting.unexpected[:MAX_WORST]],
        "others": [_difference(one) for one in sighting.others[:MAX_WORST]],
    }


def _preview(preview: Previewed) -> dict[str, Any]:
    return {
        "flows": preview.flows,
        "pods": preview.pods,
        "omitted": preview.omitted,
        "cut": [_difference(one) for one in preview.cut[:MAX_WORST]],
        "others": [_difference(one) for one in preview.others[:MAX_WORST]],
    }


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "count": one.count,
        "from": event_text(side_text(one.source))[:512],
        "to": event_text(side_text(one.destination))[:512],
        "port": f"{protocol_word(one.protocol)}/{one.port}",
        **({"request": event_text(str(one.request))} if one.request else {}),
        "wouldBe": WOULD_BE[one.cause],
        "by": event_text(", ".join(map(str, one.rules)) or "no rule: default deny"),
    }


def _history(about: RolloutAccount, before: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What the database knows, then what only the object does: a leader before this one wrote it."""
    known = [_entry(entry) for entry in about.history]
    older = [one for one in before.get("history", []) if one not in known]
    return (known + older)[:MAX_HISTORY]


def _entry(entry: Entry) -> dict[str, Any]:
    said = {
        "at": _time(entry.at),
        "event": entry.event[:64],
        "phase": entry.phase[:64],
        "by": event_text(entry.by)[:512],
        "reason": event_text(entry.reason),
    }
    return {key: text for key, text in said.items() if text}


def _rollout_conditions(rollout: Rollout) -> list[dict[str, Any]]:
    """kstatus: Ready when it is enforced everywhere, Stalled when it was taken back."""
    is_ready, is_back = rollout.phase is Phase.PROMOTED, rollout.phase in TAKEN_BACK
    message = rollout.reason or where(rollout)
    kinds = [(ConditionType.READY, is_ready)]
    if is_back or rollout.phase is Phase.REJECTED:
        kinds.append((ConditionType.STALLED, True))
    elif rollout.phase not in OVER:
        kinds.append((ConditionType.RECONCILING, True))
    said = [
        Condition(
            type=kind,
            status=status,
            reason=str(rollout.phase),
            message=message,
            since=rollout.since,
        )
        for kind, status in kinds
    ]
    return _conditions(said, 1)


def _conditions(conditions: Any, generation: int) -> list[dict[str, Any]]:
    return [
        {
            "type": str(one.type),
            "status": "True" if one.status else "False",
            "reason": str(one.reason),
            "message": event_text(one.message),
            "lastTransitionTime": _time(one.since),
            "observedGeneration": generation,
        }
        for one in conditions
    ]


def event_text(text: str) -> str:
    """A text as objects and Events may bear it."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)[:MAX_MESSAGE]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def event_time(seconds: float) -> str:
    """A moment as an Event says it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
