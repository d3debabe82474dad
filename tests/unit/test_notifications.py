"""Who is told what of a rollout, over real HTTPS, and what becomes of a target that is away."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from netpolicy.errors import Diagnostic, Place, Severity, StalledError, TransientError
from reconciler.notify import Kind, Notifier, Target, notifier
from reconciler.notify.send import send
from reconciler.notify.tell import MAX_DESCRIPTION, State, next_step, post_of, state_of
from reconciler.rollout.machine import Phase, Rollout
from reconciler.state.database import Database
from reconciler.state.judgements import Judgement, save_judgement
from reconciler.state.rollouts import Change, Entry, RolloutStore
from tests.support.beside import beside
from tests.support.push_fleet import until
from tests.support.told import TOKEN, Receiver, receiver

A, B = "a" * 40, "b" * 40


def entry(revision: str, phase: str, reason: str = "") -> Entry:
    return Entry(at=1.5, revision=revision, event="StagePassed", phase=phase, reason=reason)


STEPS = (
    (1, entry(A, "Shadow")),
    (2, entry(B, "Shadow")),
    (3, entry(A, "Superseded")),
    (4, entry(B, "Wave 50%")),
)


def test_a_commits_status_is_the_last_word_on_it_and_a_webhook_gets_every_word() -> None:
    assert next_step(STEPS, Kind.GITHUB) == STEPS[2]
    assert next_step(STEPS[3:], Kind.GITLAB) == STEPS[3]
    assert next_step(STEPS, Kind.WEBHOOK) == STEPS[0]
    assert next_step((), Kind.GITHUB) is None


def test_every_phase_is_a_state() -> None:
    failed = {phase for phase in Phase if state_of(phase) is State.FAILURE}
    assert failed == {
        Phase.REJECTED, Phase.ROLLING_BACK, Phase.ROLLED_BACK, Phase.QUARANTINED, Phase.ABORTING,
        Phase.ABORTED,
    }  # fmt: skip
    assert {phase for phase in Phase if state_of(phase) is State.SUCCESS} == {Phase.PROMOTED}
    assert state_of("Wave 50%") is State.PENDING


@pytest.mark.parametrize(
    ("fault", "complaint"),
    [
        ({"url": "http://git.example"}, "https"),
        ({"url": "https://user:word@git.example"}, "without credentials"),
        ({"url": "https:///path"}, "a host"),
        ({"url": "https://git.example/a b"}, "space"),
        ({"url": "https://git.example/a\nb"}, "control"),
        ({"project": "policies"}, "owner/name"),
        ({"project": "shop/../.. /x"}, "owner/name"),
        ({"context": ""}, "context"),
    ],
)
def test_a_target_that_cannot_be_told_is_refused(fault: dict[str, str], complaint: str) -> None:
    given = {"url": "https://git.example", "project": "shop/policies", **fault}
    with pytest.raises(StalledError, match=complaint):
        Target(kind=Kind.GITHUB, secret_file=Path("x"), **given)  # type: ignore[arg-type]


def test_a_secret_with_more_in_it_than_a_token_adds_no_header() -> None:
    target = Target(kind=Kind.GITHUB, url="https://h", project="a/b", secret_file=Path("x"))
    post = post_of(target, STEPS[0], b"token\r\nX-Evil: 1")
    assert post.headers["Authorization"] == "Bearer tokenX-Evil: 1"


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Receiver]:
    with receiver(tmp_path) as found:
        yield found


def test_github_is_told_a_status(told: Receiver) -> None:
    target = told.target(Kind.GITHUB, path="/api/v3/", context="blue")
    send(target, post_of(target, (7, entry(A, "Canary", "x" * 500)), TOKEN.encode()))
    (request,) = told.requests
    assert request.path == f"/api/v3/repos/shop/policies/statuses/{A}"
    assert request.headers["Authorization"] == f"Bearer {TOKEN}"
    assert (request.data["state"], request.data["context"]) == ("pending", "blue")
    assert len(request.data["description"]) == MAX_DESCRIPTION


def test_gitlab_is_told_a_status(told: Receiver) -> None:
    target = told.target(Kind.GITLAB, path="/api/v4")
    send(target, post_of(target, (7, entry(A, "Promoted")), TOKEN.encode()))
    (request,) = told.requests
    assert request.path == f"/api/v4/projects/shop%2Fpolicies/statuses/{A}"
    assert request.headers["PRIVATE-TOKEN"] == TOKEN
    assert request.data == {"state": "success", "name": "tidegate", "description": "Promoted"}


def test_a_webhook_is_told_by_signed_json_with_an_id_of_its_own(told: Receiver) -> None:
    target = told.target(Kind.WEBHOOK, path="/hook?x=1")
    for step in (STEPS[0], STEPS[0], STEPS[1]):
        send(target, post_of(target, step, TOKEN.encode()))
    first, again, other = told.requests
    signature = hmac.new(TOKEN.encode(), first.body, sha256).hexdigest()
    assert first.path == "/hook?x=1"
    assert first.headers["X-Tidegate-Signature-256"] == f"sha256={signature}"
    assert first.body == again.body
    assert first.data["id"] != other.data["id"]
    assert (first.data["phase"], first.data["revision"]) == ("Shadow", A)


@pytest.mark.parametrize(
    ("status", "kind"), [(500, TransientError), (429, TransientError), (401, TransientError),
                         (404, StalledError), (422, StalledError), (307, StalledError)],
)  # fmt: skip
def test_what_a_refusal_means_and_nothing_is_followed_elsewhere(
    told: Receiver, status: int, kind: type[Exception]
) -> None:
    told.answers = [status]
    target = told.target(Kind.WEBHOOK)
    with pytest.raises(kind, match=str(status)):
        send(target, post_of(target, STEPS[0], b"x"))
    assert len(told.requests) == 1


def test_a_server_of_another_authority_gets_no_secret(told: Receiver, tmp_path: Path) -> None:
    target = told.target(Kind.GITHUB)
    unknown = Target(
        kind=target.kind, url=target.url, project=target.project, secret_file=target.secret_file
    )
    with pytest.raises(TransientError, match="certificate"):
        send(unknown, post_of(unknown, STEPS[0], b"x"))
    assert not told.requests


def play(
    store: RolloutStore, targets: tuple[Target, ...], script: Callable[[Notifier], Awaitable[None]]
) -> None:
    async def main() -> None:
        telling = Notifier(store)
        telling.want(targets)
        async with beside(telling.run()):
            await script(telling)

    asyncio.run(main())


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RolloutStore]:
    monkeypatch.setattr(notifier, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(notifier, "LONGEST_PAUSE_SECONDS", 0.02)
    database = Database.open(tmp_path / "state")
    yield RolloutStore(database)
    database.close()


def phases(told: Receiver) -> list[str]:
    return [request.data["phase"] for request in told.requests]


def test_what_happens_is_told_in_order_and_after_a_restart_goes_on_where_it_was(
    told: Receiver, store: RolloutStore
) -> None:
    target = told.target(Kind.WEBHOOK)
    store.save(Change(entries=(entry(A, "Promoted"),)))  # before anybody was to be told

    async def first(telling: Notifier) -> None:
        await until(lambda: store.told(target.key) == 1)
        store.save(Change(entries=(entry(B, "Shadow"), entry(B, "Canary"))))
        telling.wake()
        await until(lambda: phases(told) == ["Shadow", "Canary"])
        await until(lambda: store.told(target.key) == 3)

    async def second(telling: Notifier) -> None:
        await until(lambda: phases(told) == ["Shadow", "Canary", "Wave 10%"])

    play(store, (target,), first)
    store.save(Change(entries=(entry(B, "Wave 10%"),)))
    play(store, (target,), second)


def test_a_target_that_fails_is_told_again_and_then_given_up_and_holds_up_no_other(
    told: Receiver, store: RolloutStore
) -> None:
    lost = Target(
        kind=Kind.WEBHOOK, url="https://127.0.0.1:1/", secret_file=told.root / "told-secret"
    )
    target = told.target(Kind.WEBHOOK)
    told.answers = [503, 503]

    async def script(telling: Notifier) -> None:
        await until(lambda: (store.told(target.key), store.told(lost.key)) == (0, 0))
        store.save(Change(entries=(entry(A, "Shadow"), entry(A, "Promoted"))))
        telling.wake()
        await until(lambda: phases(told) == ["Shadow", "Shadow", "Shadow", "Promoted"])
        await until(lambda: store.told(lost.key) == 2)

    play(store, (target, lost), script)


def test_a_secret_that_is_missing_is_waited_for(told: Receiver, store: RolloutStore) -> None:
    target = told.target(Kind.GITHUB)
    target.secret_file.unlink()

    async def script(telling: Notifier) -> None:
        await until(lambda: store.told(target.key) == 0)
        store.save(Change(entries=(entry(A, "Shadow"),)))
        telling.wake()
        await asyncio.sleep(0.02)
        target.secret_file.write_text("late")
        await until(lambda: bool(told.requests))
        assert told.requests[0].headers["Authorization"] == "Bearer late"

    play(store, (target,), script)


def test_a_refused_revision_is_a_line_of_the_history_once(tmp_path: Path) -> None:
    database = Database.open(tmp_path / "state")
    fault = Diagnostic(
        code="TG1", severity=Severity.ERROR, place=Place(path="a.yaml"), message="no such port"
    )
    refused = Judgement(revision=A, accepted=False, summary="", diagnostics=(fault,), judged_at=5.0)
    for _ in range(3):
        save_judgement(database, refused, Rollout(revision=A, phase=Phase.REJECTED))
    (line,) = RolloutStore(database).history()
    assert (line.phase, line.event, line.at) == ("Rejected", "Refused", 5.0)
    assert line.reason == "1 errors, the first a.yaml: no such port"
    database.close()
