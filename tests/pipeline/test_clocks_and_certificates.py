"""Certificates that ended, clocks that are wrong by hours: what is enforced stays, and somebody says why."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from netpolicy.inventory import AddressEntry, Change
from netpolicy.labels import Labels
from nodeagent.bootstrap import CertificateKeeper
from nodeagent.bootstrap.credential import Credential, new_key
from reconciler.sign.certificates import certify_node
from tests.support.beside import beside
from tests.support.certifying import DAY, Clock, agent_of, certifying
from tests.support.push_fleet import make_keys, publish, running, serving, unit_of, until

SOON = timedelta(seconds=0.5)
HOURS = timedelta(hours=1)
PATIENCE = 60.0


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys") / "keys")


def lay_down(keys: Path, path: Path, *, begins: datetime) -> bytes:
    """A certificate of node-a for a day, from then on."""
    key = new_key()
    certificate = certify_node(keys, "node-a", key.public_key(), now=begins, lifetime=DAY)
    path.write_bytes(Credential(certificate=certificate, key=key).encode())
    return path.read_bytes()


def test_an_agent_whose_certificate_ended_enforces_what_it_has_and_gets_another_by_its_token(
    keys: Path, tmp_path: Path
) -> None:
    async def script() -> None:
        async with serving(keys) as (push, heard, port):
            push.publish(publish(keys, 1, unit_of("shop", "one")))
            async with certifying(keys) as certify:
                bootstrap, receive = agent_of(keys, tmp_path, certify=certify, push=port)
                keeper = CertificateKeeper(bootstrap)
                async with beside(keeper.run()):
                    await asyncio.wait_for(keeper.usable.wait(), PATIENCE)
                async with running(receive) as node:
                    await until(lambda: heard.last and heard.last.sequence == 1, seconds=PATIENCE)
            ended = datetime.now(UTC) - 30 * HOURS
            old = lay_down(keys, bootstrap.credential, begins=ended)
            keeper = CertificateKeeper(bootstrap, least_pause=SOON)
            async with running(receive) as node:
                async with beside(keeper.run()):
                    await until(
                        lambda: "expired" in node.receiver.status().last_error, seconds=PATIENCE
                    )
                    await until(lambda: "UNAVAILABLE" in "".join(keeper.alarms()), seconds=PATIENCE)
                    assert "ended at" in "".join(keeper.alarms())
                    assert node.store.load_last_good() is not None
                    assert bootstrap.credential.read_bytes() == old
                push.publish(publish(keys, 2, unit_of("shop", "two")))
                async with certifying(keys) as certify:
                    bootstrap, _ = agent_of(keys, tmp_path, certify=certify, push=port)
                    keeper = CertificateKeeper(bootstrap, least_pause=SOON)
                    async with beside(keeper.run()):
                        await until(
                            lambda: heard.last and heard.last.sequence == 2, seconds=PATIENCE
                        )
                        assert keeper.alarms() == ()

    asyncio.run(script())


@pytest.mark.parametrize("hours", [-30, 3, 30])
def test_a_node_whose_clock_is_wrong_by_hours_keeps_its_policy_and_says_so(
    keys: Path, tmp_path: Path, hours: int
) -> None:
    """Only what says itself that it ended is not taken; the inventory comes in any case."""

    async def script() -> None:
        clock = Clock()
        async with serving(keys) as (push, heard, port), certifying(keys) as certify:
            bootstrap, receive = agent_of(keys, tmp_path, certify=certify, push=port)
            push.publish(publish(keys, 1, unit_of("shop", "one")))
            keeper = CertificateKeeper(bootstrap, clock=clock.now)
            async with running(receive, clock=clock.seconds), beside(keeper.run()):
                await until(lambda: heard.last and heard.last.sequence == 1, seconds=PATIENCE)
                assert keeper.alarms() == ()
            clock.ahead = hours * HOURS
            bootstrap.credential.unlink()
            keeper = CertificateKeeper(bootstrap, clock=clock.now)
            async with running(receive, clock=clock.seconds) as node, beside(keeper.run()):
                side = "ahead of" if hours > 0 else "behind"
                said = f"clock is {abs(hours) * 60} minutes {side} the reconciler's"
                await until(lambda: said in "".join(keeper.alarms()), seconds=PATIENCE)
                await until(lambda: node.receiver.status().connected, seconds=PATIENCE)
                entry = AddressEntry(address="10.0.0.1", labels=Labels())
                push.move_inventory(Change(come=(entry,)))
                await until(lambda: node.inventories, seconds=PATIENCE)
                push.publish(publish(keys, 2, unit_of("shop", "two")))
                if hours > DAY / HOURS:
                    await until(lambda: heard.acks[-1][1].reason == "Expired", seconds=PATIENCE)
                    assert "expired" in " ".join(node.receiver.status().alarms)
                    clock.ahead = timedelta()
                await until(lambda: heard.last and heard.last.sequence == 2, seconds=PATIENCE)

    asyncio.run(script())


def test_a_certificate_of_a_reconciler_whose_clock_was_wrong_is_replaced_once_it_is_right(
    keys: Path, tmp_path: Path
) -> None:
    """It is refused without a word. By our clock it is of the future: another is asked for."""

    async def script() -> None:
        clock = Clock(ahead=3 * HOURS)
        async with serving(keys) as (_, heard, port), certifying(keys, clock) as certify:
            bootstrap, receive = agent_of(keys, tmp_path, certify=certify, push=port)
            keeper = CertificateKeeper(bootstrap, least_pause=SOON)
            async with running(receive) as node, beside(keeper.run()):
                said = "180 minutes behind the reconciler's"
                await until(lambda: said in "".join(keeper.alarms()), seconds=PATIENCE)
                error = "our certificate is good from"
                await until(lambda: error in node.receiver.status().last_error, seconds=PATIENCE)
                assert not heard.connected
                clock.ahead = timedelta()
                await until(lambda: heard.connected, seconds=PATIENCE)
                await until(lambda: keeper.alarms() == (), seconds=PATIENCE)

    asyncio.run(script())


def test_an_agent_that_is_not_let_in_with_a_certificate_that_seems_good_asks_for_another(
    keys: Path, tmp_path: Path
) -> None:
    """Its clock and that of whoever certified it were wrong alike."""

    async def script() -> None:
        clock = Clock(ahead=4 * HOURS)
        async with serving(keys) as (_, heard, port), certifying(keys) as certify:
            bootstrap, receive = agent_of(keys, tmp_path, certify=certify, push=port)
            lay_down(keys, bootstrap.credential, begins=datetime.now(UTC) + 3 * HOURS)
            async with running(receive, clock=clock.seconds) as node:
                keeper = CertificateKeeper(
                    bootstrap,
                    clock=clock.now,
                    least_pause=SOON,
                    is_let_in=lambda: node.receiver.status().connected,
                    shut_out_seconds=0.3,
                )
                async with beside(keeper.run()):
                    await until(lambda: heard.connected, seconds=PATIENCE)

    asyncio.run(script())
