"""A publication that cuts an agent off is taken back: real gRPC through a line that can be cut."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from netpolicy.evidence import NodeEvidence, Role
from nodeagent.receive.trial_file import TrialFile
from nodeagent.rollout.confirm import Stage, Trial
from tests.support.cut_line import CutLine, cut_line
from tests.support.push_fleet import (
    NO_BUNDLE,
    Node,
    candidate_of,
    config_of,
    make_keys,
    publish,
    running,
    serving,
    unit_of,
    until,
)

pytestmark = pytest.mark.slow

CONFIRM = 1


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys")


def sequences(node: Node) -> list[int]:
    return [bundle.sequence for bundle in node.bundles]


def cut_at(node: Node, line: CutLine, sequence: int) -> None:
    """Let the policy of this publication cut the line, and any other one mend it."""

    async def before() -> None:
        held = node.receiver.status().sequence
        line.is_silent = held == sequence - 1 and not line.is_silent

    node.before_apply = before


def test_a_flip_that_is_confirmed_stays_and_becomes_the_last_good_one(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with serving(keys) as (server, heard, port):
            server.publish(publish(keys, 1, unit_of("shop", "one"), confirm_seconds=CONFIRM))
            async with running(config_of(keys, tmp_path / "a", port)) as node:
                await until(node.store.load_last_good)
                await asyncio.sleep(CONFIRM * 1.5)
                assert sequences(node) == [1]
                assert node.receiver.status().trial.stage is Stage.SETTLED
                assert len(heard.acks) == 1

    asyncio.run(scenario())


@pytest.mark.parametrize("confirm", [0, CONFIRM])
def test_a_policy_that_cuts_the_agent_off_is_taken_back_reported_and_not_taken_again(
    keys: Path, tmp_path: Path, confirm: int
) -> None:
    async def scenario() -> None:
        first = publish(keys, 1, unit_of("shop", "one"), confirm_seconds=CONFIRM)
        lethal = publish(
            keys,
            2,
            unit_of("shop", "lethal"),
            previous=first,
            confirm_seconds=CONFIRM,
            candidate=candidate_of(unit_of("shop", "next")),
        )
        async with serving(keys) as (server, heard, port), cut_line(port) as line:
            server.publish(first)
            async with running(config_of(keys, tmp_path / "a", line.port)) as node:
                await until(node.store.load_last_good)
                cut_at(node, line, 2)
                server.publish(lethal)
                await until(lambda: sequences(node) == [1, 2, 1])
                assert not line.is_silent
                await until(lambda: heard.last and heard.last.role is Role.REVERTED, seconds=60)
                assert heard.last is not None
                assert (heard.last.reason, heard.last.sequence) == ("Reverted", 1)
                await until(lambda: heard.reports)
                told = heard.reports[-1][1]
                assert lethal.terms.candidate is not None
                assert told.candidate_digest == lethal.terms.candidate.digest
                assert told.role is Role.REVERTED
                (alarm,) = node.receiver.status().alarms
                assert "publication 2 was taken back" in alarm
                kept = node.store.load_last_good()
                assert kept is not None
                assert kept.sequence == 1
                mended = publish(
                    keys, 3, unit_of("shop", "m"), previous=lethal, confirm_seconds=confirm
                )
                node.before_apply = None
                server.publish(mended)
                if confirm == 0:
                    await until(lambda: heard.last and heard.last.sequence == 3)
                    assert heard.last.role is Role.NONE
                await until(lambda: sequences(node) == [1, 2, 1, 3])
                await until(lambda: node.receiver.status().trial.stage is Stage.SETTLED)
                assert not node.receiver.status().alarms

    asyncio.run(scenario())


def test_the_first_publication_of_all_is_taken_back_to_the_bootstrap_policy(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            serving(keys) as (server, _, port),
            cut_line(port) as line,
            running(config_of(keys, tmp_path / "a", line.port)) as node,
        ):
            cut_at(node, line, 1)
            server.publish(publish(keys, 1, unit_of("shop", "one"), confirm_seconds=CONFIRM))
            await until(lambda: len(node.bundles) == 2)
            assert node.bundles[-1] == NO_BUNDLE
            assert node.store.load_last_good() is None

    asyncio.run(scenario())


@pytest.mark.parametrize("late", [False, True])
def test_a_restart_during_the_trial_goes_on_with_it(keys: Path, tmp_path: Path, late: bool) -> None:
    state = tmp_path / "a"

    async def scenario() -> None:
        first = publish(keys, 1, unit_of("shop", "one"), confirm_seconds=30)
        second = publish(keys, 2, unit_of("shop", "two"), previous=first, confirm_seconds=30)
        async with serving(keys) as (server, _, port), cut_line(port) as line:
            server.publish(first)
            async with running(config_of(keys, state, line.port)) as node:
                await until(node.store.load_last_good)
                cut_at(node, line, 2)
                server.publish(second)
                await until(lambda: node.receiver.status().trial.stage is Stage.AWAITING)
                await until(lambda: sequences(node) == [1, 2])
            trial = TrialFile(state).load()
            assert (trial.stage, trial.sequence) == (Stage.AWAITING, 2)
            if late:
                TrialFile(state).save(
                    Trial(stage=Stage.AWAITING, sequence=2, deadline=0.0, confirm_seconds=30)
                )
            line.is_silent = late
            async with running(config_of(keys, state, line.port)) as again:
                wanted = Stage.REVERTED if late else Stage.SETTLED
                await until(lambda: again.receiver.status().trial.stage is wanted)
                await until(lambda: not late or sequences(again) == [1])
                assert again.receiver.status().sequence == (1 if late else 2)

    asyncio.run(scenario())


def test_a_flip_that_changes_nothing_needs_no_confirmation(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        first = publish(keys, 1, unit_of("shop", "one"), confirm_seconds=CONFIRM)
        same = publish(keys, 2, unit_of("shop", "one"), previous=first, confirm_seconds=CONFIRM)
        async with serving(keys) as (server, _, port), cut_line(port) as line:
            server.publish(first)
            async with running(config_of(keys, tmp_path / "a", line.port)) as node:
                await until(node.store.load_last_good)
                cut_at(node, line, 2)
                server.publish(same)
                await until(lambda: sequences(node) == [1, 2])
                kept = node.store.load_last_good
                await until(lambda: (held := kept()) is not None and held.sequence == 2)
                assert node.receiver.status().trial.stage is Stage.SETTLED

    asyncio.run(scenario())


def test_a_damaged_trial_file_leaves_what_is_in_force(tmp_path: Path) -> None:
    file = TrialFile(tmp_path)
    file.save(Trial(stage=Stage.REVERTED, sequence=3, taken_back=3, confirm_seconds=5))
    whole = (tmp_path / "bundle" / "trial").read_bytes()
    assert file.load().taken_back == 3
    for damage in (b"", whole[:-2], b"[]", whole.replace(b"reverted", b"revert"), b"{}"):
        (tmp_path / "bundle" / "trial").write_bytes(damage)
        assert file.load() == Trial()


def test_a_report_of_a_candidate_that_was_taken_back_says_so(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        candidate = candidate_of(unit_of("shop", "next"))
        first = publish(keys, 1, unit_of("shop", "one"), confirm_seconds=CONFIRM)
        lethal = publish(
            keys,
            2,
            unit_of("shop", "x"),
            previous=first,
            candidate=candidate,
            confirm_seconds=CONFIRM,
        )
        assert lethal.terms.candidate is not None
        seen = NodeEvidence(
            node="node-a",
            candidate_digest=lethal.terms.candidate.digest,
            generation_digest="b" * 64,
            role=Role.SHADOW,
            flows=9,
        )
        async with serving(keys) as (server, heard, port), cut_line(port) as line:
            server.publish(first)
            async with running(config_of(keys, tmp_path / "a", line.port)) as node:
                await until(node.store.load_last_good)
                node.seen = seen
                cut_at(node, line, 2)
                server.publish(lethal)
                await until(
                    lambda: heard.reports and heard.reports[-1][1].role is Role.REVERTED, seconds=60
                )
                assert heard.reports[-1][1].flows == 9

    asyncio.run(scenario())
