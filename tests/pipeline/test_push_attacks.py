"""Whatever a hostile or broken server serves, the last good policy stays, and the reason is named."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from tuf.api.metadata import Metadata, Targets

from netpolicy.bundle import PackedUnit
from reconciler.publication import Publication
from reconciler.push import Ack
from reconciler.sign import Signer, refresh_timestamp, rotate, sign_publication
from tests.support.push_fleet import (
    config_of,
    make_keys,
    publish,
    running,
    serving,
    unit_of,
    until,
)
from tests.support.tampering import Attack, TamperingShelf

pytestmark = pytest.mark.slow

OLD_UNIT = unit_of("shop", "old")
MIDDLE_UNIT = unit_of("shop", "middle")
NEW_UNIT = unit_of("shop", "new")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return make_keys(tmp_path / "keys")


async def settle_on(keys: Path, state: Path, *publications: Publication) -> None:
    """Let an agent take publications from an honest server, and leave."""
    async with (
        serving(keys) as (server, heard, port),
        running(config_of(keys, state, port)),
    ):
        for publication in publications:
            server.publish(publication)
            await until(
                lambda wanted=publication: (
                    heard.last and heard.last.sequence == wanted.sequence and not heard.last.error
                )
            )


async def answer_to(
    keys: Path, state: Path, publication: Publication, *, shelf: TamperingShelf | None = None
) -> tuple[Ack, int]:
    """The answer to what a second server serves, and the sequence that stayed in force."""
    async with serving(keys, shelf=shelf) as (server, heard, port):
        if shelf is None:
            server.publish(publication)
        async with running(config_of(keys, state, port)) as node:
            await until(lambda: heard.acks)
            kept = node.store.load_last_good()
            assert not node.receiver.status().alarms
            return heard.acks[0][1], kept.sequence if kept else 0


@pytest.mark.parametrize(
    ("attack", "reasons"),
    [
        (Attack.UNIT, {"Tampered"}),
        (Attack.METADATA, {"Tampered"}),
        (Attack.MIX, {"MixAndMatch"}),
        (Attack.REPLAY, {"Rollback"}),
        (Attack.OVERSIZE, {"Tampered"}),
    ],
)
def test_an_attack_is_refused_and_the_last_good_policy_kept(
    keys: Path, tmp_path: Path, attack: Attack, reasons: set[str]
) -> None:
    async def scenario() -> None:
        first = publish(keys, 1, OLD_UNIT)
        second = publish(keys, 2, MIDDLE_UNIT, previous=first)
        third = publish(keys, 3, NEW_UNIT, previous=second)
        state = tmp_path / "state"
        await settle_on(keys, state, first, second)
        before = (state / "bundle" / "last-good").read_bytes()
        shelf = TamperingShelf([first, third], attack)
        answer, kept = await answer_to(keys, state, third, shelf=shelf)
        assert answer.reason in reasons, answer
        assert (answer.sequence, kept) == (2, 2)
        assert (state / "bundle" / "last-good").read_bytes() == before

    asyncio.run(scenario())


def test_an_agent_recovers_by_itself_once_the_attack_is_over(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        first = publish(keys, 1, OLD_UNIT)
        second = publish(keys, 2, NEW_UNIT, previous=first)
        shelf = TamperingShelf([first, second], Attack.UNIT)
        async with (
            serving(keys, shelf=shelf) as (_, heard, port),
            running(config_of(keys, tmp_path / "state", port)) as node,
        ):
            await until(lambda: heard.acks)
            assert heard.acks[0][1].reason == "Tampered"
            assert not node.bundles
            shelf.attack = Attack.NONE
            await until(lambda: node.bundles)

    asyncio.run(scenario())


def test_an_expired_publication_is_refused(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / "state"
        first = publish(keys, 1, OLD_UNIT)
        await settle_on(keys, state, first)
        stale = publish(keys, 2, NEW_UNIT, previous=first, age=timedelta(days=2))
        answer, kept = await answer_to(keys, state, stale)
        assert (answer.reason, kept) == ("Expired", 1)

    asyncio.run(scenario())


def test_a_clock_set_back_does_not_revive_expired_metadata(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / "state"
        in_two_days = datetime.now(UTC).timestamp() + 2 * 86_400
        async with serving(keys) as (server, heard, port):
            first = publish(keys, 1, OLD_UNIT, age=timedelta(days=-2))
            server.publish(first)
            async with running(config_of(keys, state, port), clock=lambda: in_two_days):
                await until(lambda: heard.acks)
            assert not heard.acks[0][1].error
            server.publish(publish(keys, 2, NEW_UNIT, previous=first))
            async with running(config_of(keys, state, port)) as node:
                await until(lambda: len(heard.acks) > 1)
                assert heard.acks[1][1].reason == "Expired"
                assert node.receiver.status().sequence == 1

    asyncio.run(scenario())


def test_keys_rotated_out_no_longer_count_and_new_ones_do(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        state = tmp_path / "state"
        first = publish(keys, 1, OLD_UNIT)
        stolen = Signer.load(keys)
        await settle_on(keys, state, first)
        for role in ("timestamp", "snapshot", "targets", "bins", "root"):
            rotate(keys, role, now=datetime.now(UTC))
        fresh = refresh_timestamp(first, signer=Signer.load(keys), now=datetime.now(UTC))
        second = publish(keys, 2, MIDDLE_UNIT, previous=fresh)
        await settle_on(keys, state, second)
        forged = sign_publication(
            second,
            units={"shop": NEW_UNIT},
            revision="d" * 40,
            sequence=3,
            signer=replace(stolen, roots=Signer.load(keys).roots),
            now=datetime.now(UTC),
        )
        answer, kept = await answer_to(keys, state, forged)
        assert (answer.reason, kept) == ("Tampered", 2)

    asyncio.run(scenario())


def test_a_refresh_after_a_rotation_is_taken_without_applying_anew(
    keys: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        first = publish(keys, 1, OLD_UNIT)
        async with (
            serving(keys) as (server, heard, port),
            running(config_of(keys, tmp_path / "state", port)) as node,
        ):
            server.publish(first)
            await until(lambda: len(heard.acks) == 1)
            rotate(keys, "snapshot", now=datetime.now(UTC))
            fresh = refresh_timestamp(first, signer=Signer.load(keys), now=datetime.now(UTC))
            server.publish(fresh)
            await until(lambda: len(heard.acks) == 2)
            assert not heard.acks[1][1].error
            assert len(node.bundles) == 1
            expires = node.receiver.status().metadata_expires
            assert expires is not None
            assert expires > datetime.now(UTC)

    asyncio.run(scenario())


def test_a_unit_that_unpacks_to_more_than_was_signed_is_refused(keys: Path, tmp_path: Path) -> None:
    async def scenario() -> None:
        bomb = unit_of("shop", *(f"policy-{number}" for number in range(20_000)))
        lying = PackedUnit(namespace="shop", digest=bomb.digest, raw_bytes=1000, data=bomb.data)
        answer, kept = await answer_to(keys, tmp_path / "state", publish(keys, 1, lying))
        assert (answer.reason, kept) == ("WrongSize", 0)

    asyncio.run(scenario())


def test_an_agent_that_is_too_old_says_so(
    keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("reconciler.sign.publish.MINIMUM_AGENT_VERSION", "9.0.0")

    async def scenario() -> None:
        answer, kept = await answer_to(keys, tmp_path / "state", publish(keys, 1, OLD_UNIT))
        assert (answer.reason, kept) == ("AgentTooOld", 0)

    asyncio.run(scenario())


def test_metadata_without_one_of_its_fields_is_refused(keys: Path, tmp_path: Path) -> None:
    signer = Signer.load(keys)

    class Forgetful(Targets):
        def to_dict(self) -> dict[str, object]:
            fields = super().to_dict()
            fields.get("custom", {}).pop("sequence", None)
            return dict(fields)

    async def scenario(monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("reconciler.sign.publish.Targets", Forgetful)
        publication = publish(keys, 1, OLD_UNIT)
        monkeypatch.undo()
        name = next(name for name in publication.metadata if name.endswith(".targets.json"))
        parsed: Metadata[Targets] = Metadata.from_bytes(publication.metadata[name])
        assert "sequence" not in parsed.signed.unrecognized_fields["custom"]
        answer, kept = await answer_to(keys, tmp_path / "state", publication)
        assert (answer.reason, kept) == ("Malformed", 0)

    assert signer.root.version == 1
    with pytest.MonkeyPatch.context() as monkeypatch:
        asyncio.run(scenario(monkeypatch))
