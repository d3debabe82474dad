"""What PolicyRollout objects say and ask, without an API server."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from reconciler.account import Account, RolloutAccount
from reconciler.cluster.kinds import RolloutObject
from reconciler.in_cluster.requests import AnnotationRequests, RequestsOfBoth
from reconciler.in_cluster.shown import shown_status
from reconciler.in_cluster.status import rollout_status
from reconciler.rollout.machine import Phase, Rollout
from reconciler.rollout.plan import Plan, Stage, StageKind
from reconciler.rollout.windows import Window
from reconciler.staging.interfaces import Action, Request
from reconciler.staging.request_file import RolloutFile

REVISION = "a" * 40
MONDAY = 1_773_043_200.0  # 2026-03-09, 08:00 UTC
WAITING = Rollout(
    revision=REVISION,
    phase=Phase.WAITING,
    stable="b" * 40,
    plan=Plan(
        stages=(Stage(kind=StageKind.SHADOW, soak_seconds=60),),
        windows=(Window(days=(0,), start=8 * 60),),
    ),
)
OBJECT = RolloutObject(
    namespace="tidegate-system",
    name="policies-aaaa",
    uid="1",
    created="2026-03-01T00:00:00Z",
    repository="policies",
    revision=REVISION,
    annotations={},
    status={},
)
NOTHING = Account(
    publication=None,
    policies=0,
    judgement=None,
    current=WAITING,
    conditions=(),
    agents=(),
    nodes=frozenset(),
)


def test_an_object_says_when_the_windows_open_and_the_command_reads_it() -> None:
    about = RolloutAccount(rollout=WAITING, sighting=None, history=())
    closed = rollout_status(OBJECT, about, NOTHING, answers={}, now=MONDAY - 5000)
    assert closed["windowOpens"] == "2026-03-09T08:00:00Z"
    shown = shown_status(
        replace(OBJECT, status=closed), enforced=None, stable="b" * 40, now=MONDAY - 4000
    )
    assert shown["windowOpens"] == MONDAY
    opened = rollout_status(OBJECT, about, NOTHING, answers={}, now=MONDAY)
    assert "windowOpens" not in opened


def asked(token: str, action: Action = Action.ROLLBACK) -> Request:
    return Request(action=action, revision=REVISION, token=f"{REVISION}/{token}", by="ann")


def both(folder: Path, *found: RolloutObject) -> tuple[RequestsOfBoth, RolloutFile]:
    annotations = AnnotationRequests(lambda: found, told=lambda: None)
    return RequestsOfBoth(annotations, RolloutFile(folder)), RolloutFile(folder)


def test_what_the_file_asks_is_asked_once_whatever_is_asked_elsewhere(tmp_path: Path) -> None:
    requests, file = both(tmp_path)
    assert requests.requests() == ()
    file.ask(asked("1"))
    (request,) = requests.requests()
    assert request == asked("1")
    requests.forget()
    assert requests.requests() == (request,), "it was not handled"
    requests.tell(revision=REVISION, phase="RolledBack", answers={request: "done"})
    assert file.read().answers == {"rollback": "done"}
    requests.forget()
    assert requests.requests() == ()
    file.ask(asked("2", Action.PAUSE))
    assert requests.requests() == (asked("2", Action.PAUSE),), "the former one stays handled"


def test_an_answer_is_written_where_it_was_asked(tmp_path: Path) -> None:
    annotated = replace(OBJECT, annotations={"tidegate.dev/abort": "1"})
    requests, file = both(tmp_path, annotated)
    (request,) = requests.requests()
    requests.tell(revision=REVISION, phase="Aborted", answers={request: "done"})
    assert file.read().answers == {}
    assert not (tmp_path / "rollout.yaml").exists()
