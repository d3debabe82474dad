"""The authority that signs certificates is replaced, and nobody is cut off meanwhile."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from netpolicy import durable_files
from netpolicy.errors import StalledError
from nodeagent.bootstrap import CertificateKeeper
from nodeagent.receive import ReceiveConfig
from reconciler.sign.authority import (
    AGENTS_LIFE,
    HEARD_OF,
    NEXT,
    add_authority,
    drop_authority,
    use_authority,
)
from reconciler.sign.certificates import load_authority, trusted_authorities
from reconciler.sign.keys_cli import keys as command
from tests.support.beside import beside
from tests.support.certifying import agent_of, certifying
from tests.support.push_fleet import (
    Heard,
    Node,
    config_of,
    make_keys,
    publish,
    running,
    serving,
    unit_of,
    until,
)

PATIENCE = 60.0
USED = datetime.now(UTC) - AGENTS_LIFE
ADDED = USED - HEARD_OF
STEPS: dict[str, Callable[[Path], None]] = {
    "add": lambda keys: add_authority(keys, now=ADDED),
    "use": lambda keys: use_authority(keys, now=USED),
    "drop": lambda keys: drop_authority(keys, now=datetime.now(UTC)),
}


def laid_out(keys: Path, folder: Path) -> ReceiveConfig:
    """node-a's files as they are now, on the node."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(keys / "nodes" / "node-a", folder)
    own = config_of(keys, folder.with_suffix(".state"), 0)
    return replace(
        own,
        ca=folder / "ca.pem",
        certificate=folder / "node.pem",
        key=folder / "node.key",
        root=folder / "root.json",
    )


async def is_served(heard: Heard, config: ReceiveConfig, port: int) -> None:
    """A new connection holds."""
    before = len(heard.connected)
    async with running(replace(config, address=f"127.0.0.1:{port}")) as node:
        await until(lambda: len(heard.connected) > before, seconds=PATIENCE)
        await until(lambda: node.receiver.status().connected, seconds=PATIENCE)
    await until(lambda: len(heard.gone) == len(heard.connected), seconds=PATIENCE)


async def is_refused(heard: Heard, config: ReceiveConfig, port: int) -> None:
    before = len(heard.connected)
    async with running(replace(config, address=f"127.0.0.1:{port}")) as node:
        await until(lambda: node.receiver.status().last_error, seconds=PATIENCE)
    assert len(heard.connected) == before


def test_at_each_step_agents_that_did_the_last_one_are_served(tmp_path: Path) -> None:
    """Those of today's files and those of the former step's; whoever missed two is not."""
    keys = make_keys(tmp_path / "keys")

    async def script() -> None:
        async with serving(keys) as (_, heard, port):
            former = laid_out(keys, tmp_path / "start")
            first = former
            for step, take in STEPS.items():
                take(keys)
                await is_served(heard, former, port)
                former = laid_out(keys, tmp_path / step)
                await is_served(heard, former, port)
            await is_refused(heard, first, port)

    asyncio.run(script())


def test_a_connection_lives_through_all_steps_and_hears_each_publication(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")

    async def script() -> None:
        async with AsyncExitStack() as stack:
            push, heard, port = await stack.enter_async_context(serving(keys))
            config = replace(laid_out(keys, tmp_path / "a"), address=f"127.0.0.1:{port}")
            node: Node = await stack.enter_async_context(running(config))
            for number, take in enumerate(STEPS.values(), start=1):
                take(keys)
                push.publish(publish(keys, number, unit_of("shop", f"policy-{number}")))
                await until(lambda: heard.last and heard.last.sequence == number, seconds=PATIENCE)  # noqa: B023
            assert len(heard.connected) == 1
            assert node.receiver.status().connected

    asyncio.run(script())


def test_an_agent_in_a_cluster_gets_a_certificate_of_whoever_is_trusted_by_itself(
    tmp_path: Path,
) -> None:
    """When its own is of an authority that is not trusted any more, without waiting for the renewal."""
    keys = make_keys(tmp_path / "keys")

    async def script() -> None:
        async with serving(keys) as (_, heard, port), certifying(keys) as certify:
            bootstrap, receive = agent_of(keys, tmp_path / "a", certify=certify, push=port)
            keeper = CertificateKeeper(bootstrap)
            async with beside(keeper.run()):
                await asyncio.wait_for(keeper.usable.wait(), PATIENCE)
            former = bootstrap.credential.read_bytes()
            for take in STEPS.values():
                take(keys)
            agent_of(keys, tmp_path / "a", certify=certify, push=port)
            async with running(receive), beside(CertificateKeeper(bootstrap).run()):
                await until(lambda: heard.connected, seconds=PATIENCE)
            assert bootstrap.credential.read_bytes() != former

    asyncio.run(script())


def test_a_step_out_of_turn_or_too_early_changes_nothing(tmp_path: Path) -> None:
    keys, now = make_keys(tmp_path / "keys"), datetime.now(UTC)
    with pytest.raises(StalledError, match="add one first"):
        use_authority(keys, now=now)
    add_authority(keys, now=now)
    trusted = (keys / "tls" / "ca.pem").read_bytes()
    with pytest.raises(StalledError, match="every agent trusts the successor"):
        use_authority(keys, now=now + HEARD_OF - timedelta(seconds=10))
    with pytest.raises(StalledError, match="use it first"):
        drop_authority(keys, now=now)
    add_authority(keys, now=now)
    assert (keys / "tls" / "ca.pem").read_bytes() == trusted
    use_authority(keys, now=now, at_once=True)
    with pytest.raises(StalledError, match="no agent has one of the predecessor"):
        drop_authority(keys, now=now + timedelta(hours=24))
    with pytest.raises(StalledError, match="drop it first"):
        add_authority(keys, now=now)
    drop_authority(keys, now=now, at_once=True)
    assert trusted_authorities(keys / "tls" / "ca.pem") == [load_authority(keys).certificate]


class Cut(Exception):
    """The power is gone."""


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_is_cut_short_leaves_an_authority_that_signs_and_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before each write in turn."""
    base = make_keys(tmp_path / "keys")
    for name, take in STEPS.items():
        if name == step:
            break
        take(base)
    real = durable_files.replace
    for last in range(20):
        keys, left = tmp_path / f"keys-{last}", [last]
        shutil.copytree(base, keys)

        def replace_or_cut(path: Path, data: bytes, *, mode: int = 0o600) -> None:
            left[0] -= 1  # noqa: B023
            if left[0] < 0:  # noqa: B023
                raise Cut
            real(path, data, mode=mode)

        monkeypatch.setattr(durable_files, "replace", replace_or_cut)
        try:
            STEPS[step](keys)
        except Cut:
            monkeypatch.setattr(durable_files, "replace", real)
            signs = load_authority(keys).certificate
            assert signs in trusted_authorities(keys / "tls" / "ca.pem")
            STEPS[step](keys)
        else:
            return
        assert (keys / NEXT / "ca.pem").exists() == (step == "add")
    raise AssertionError("it writes more often than that")


def test_the_command_says_what_to_lay_out(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    answers = [
        CliRunner().invoke(command, ["renew-authority", *words, str(keys)]).output
        for words in (["add"], ["use"], ["use", "--now"])
    ]
    assert "Give tls/ca.pem to the reconciler and to every agent" in answers[0]
    assert "wait until" in answers[1]
    assert "Give tls to the reconciler" in answers[2]
    shown = CliRunner().invoke(command, ["show", str(keys)]).output
    assert [
        line.split(": ")[1].split(",")[0] for line in shown.splitlines() if "authority" in line
    ] == [
        "signs",
        "is trusted",
    ]
