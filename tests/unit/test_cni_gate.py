"""The agent's side of the CNI plugin, without a kernel: what is asked, kept, waited for and answered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from netpolicy.inventory import Pod
from nodeagent.cni.fence import Fence, open_links, ruleset, usable_patterns
from nodeagent.cni.gate import Gate
from nodeagent.cni.messages import (
    SIZE,
    Answer,
    CniCode,
    Outcome,
    Refusal,
    Request,
    decode_answer,
    decode_request,
    encode_answer,
    encode_request,
)
from nodeagent.cni.sandboxes import Sandbox, read_sandbox, with_sandboxes
from nodeagent.cni.store import SANDBOXES_FILE, SandboxStore
from nodeagent.endpoints.links import Link

RESULT: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "interfaces": [
        {"name": "cni0", "mac": "02:00:00:00:00:01"},
        {"name": "veth7", "mac": "02:00:00:00:00:02"},
        {"name": "eth0", "mac": "02:00:00:00:00:0A", "sandbox": "/run/netns/x"},
    ],
    "ips": [
        {"address": "10.0.0.7/24", "interface": 2},
        {"address": "fd00::7/64", "interface": 2},
        {"address": "10.0.0.1/24", "interface": 0},
    ],
}
LINKS = (
    Link(name="cni0", index=3),
    Link(name="veth7", index=7, leads_elsewhere=True),
    Link(name="veth8", index=8, leads_elsewhere=True),
)
SANDBOX = Sandbox(
    container="c1",
    namespace="shop",
    name="web",
    uid="u1",
    addresses=("10.0.0.7", "fd00::7"),
    mac="02:00:00:00:00:0a",
    interfaces=("cni0", "veth7"),
    interface="veth7",
)
POD = Pod(namespace="shop", name="web", node="here", labels={"app": "web"})


def _request(command: str = "ADD", **changes: Any) -> Request:
    configuration = {"cniVersion": "1.0.0", "name": "pods", "prevResult": RESULT}
    request = Request(
        command=command,
        container="c1",
        interface="eth0",
        arguments="IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u1",
        configuration=json.dumps(configuration).encode(),
        budget_seconds=5.0,
    )
    return replace(request, **changes)


class Starts:
    """The rest of an agent: a pod is under policy once `lack` is empty."""

    def __init__(self, lack: str = "") -> None:
        self.lack = lack
        self.guarded: dict[str, int] = {}
        self.seen: list[tuple[Sandbox, ...]] = []
        self.moved = asyncio.Event()

    async def guard(self, interfaces: Mapping[str, int]) -> None:
        assert not self.seen, "nothing may be told of a pod before its interface is shut"
        self.guarded.update(interfaces)

    def take_sandboxes(self, sandboxes: tuple[Sandbox, ...]) -> None:
        self.seen.append(sandboxes)

    def awaits(self, sandbox: Sandbox) -> str:
        return self.lack

    async def next_placement(self) -> None:
        await self.moved.wait()
        self.moved.clear()

    def is_ready(self) -> bool:
        return not self.lack


def _gate(starts: Starts, folder: Path) -> Gate:
    return Gate(starts, SandboxStore(folder), lambda: LINKS)


def test_messages_survive_the_way():
    request = _request()
    assert decode_request(encode_request(request)[SIZE.size :]) == request
    answer = Answer(outcome=Outcome.REFUSED, code=CniCode.CANNOT_DECODE, text="nö")
    assert decode_answer(encode_answer(answer)) == answer


def test_a_request_that_is_cut_anywhere_is_refused():
    whole = encode_request(_request())[SIZE.size :]
    for size in range(len(whole)):
        with pytest.raises(Refusal):
            decode_request(whole[:size])
    with pytest.raises(Refusal):
        decode_request(whole + b"x")
    with pytest.raises(Refusal, match="different versions"):
        decode_request(b"\x02" + whole[1:])


def test_a_sandbox_has_what_the_result_says_of_the_pods_side():
    assert replace(read_sandbox(_request()), interface="veth7") == SANDBOX


@pytest.mark.parametrize(
    "result",
    [None, [], {}, {"ips": 1}, {"ips": ["x"]}, {"ips": [{"address": "x"}]}, {"ips": [{"address": 1}]},
     {"ips": [{"address": "10.0.0.1"}], "interfaces": [{"name": "\ud800"}]},
     {"ips": [{"address": "10.0.0.1"}] * 65}, {"ips": [{"address": "10.0.0.1"}], "interfaces": "x"}],
)  # fmt: skip
def test_a_result_that_is_none_is_refused(result: object):
    data = json.dumps({"prevResult": result}).encode()
    with pytest.raises(Refusal):
        read_sandbox(_request(configuration=data))


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b"[" * 100_000, b"\xff"])
def test_a_configuration_that_is_none_is_refused(data: bytes):
    with pytest.raises(Refusal):
        read_sandbox(_request(configuration=data))


def test_a_call_that_names_no_pod_is_refused():
    with pytest.raises(Refusal, match="K8S_POD_NAME"):
        read_sandbox(_request(arguments="IgnoreUnknown=1"))


def test_a_sandbox_fills_what_the_inventory_leaves_open_and_nothing_else():
    (pod,) = with_sandboxes([POD], [SANDBOX], node="here")
    assert (pod.interface, pod.addresses, pod.mac) == ("veth7", SANDBOX.addresses, SANDBOX.mac)
    told = replace(POD, interface="veth7", addresses=SANDBOX.addresses, mac="02:00:00:00:00:ff")
    assert with_sandboxes([told], [SANDBOX], node="here") == (told,)


@pytest.mark.parametrize(
    "changes",
    [{"node": "there"}, {"uid": "u0"}, {"addresses": ("10.0.0.6",)}, {"interface": "veth6"}],
)
def test_a_sandbox_adds_nothing_to_another_pod_of_its_name(changes: dict[str, Any]):
    other = replace(POD, **changes)
    assert with_sandboxes([other], [SANDBOX], node="here") == (other,)


def test_add_guards_then_keeps_then_answers(tmp_path: Path):
    async def scene() -> None:
        starts = Starts()
        assert (await _gate(starts, tmp_path).answer(_request())).outcome is Outcome.DONE
        assert starts.guarded == {"veth7": 7}, "not the bridge, and nobody else's"
        assert starts.seen == [(SANDBOX,)]
        assert SandboxStore(tmp_path).sandboxes == (SANDBOX,), "for the next start"

    asyncio.run(scene())


def test_add_waits_until_the_pod_is_under_policy(tmp_path: Path):
    async def scene() -> None:
        starts = Starts("its policy is not in force yet")
        waiting = asyncio.ensure_future(_gate(starts, tmp_path).answer(_request()))
        starts.moved.set()
        while starts.moved.is_set():
            await asyncio.sleep(0.001)
        assert not waiting.done(), "something was placed, but not this pod"
        starts.lack = ""
        starts.moved.set()
        assert (await asyncio.wait_for(waiting, 5)).outcome is Outcome.DONE

    asyncio.run(scene())


def test_add_that_waits_in_vain_says_for_what(tmp_path: Path):
    async def scene() -> Answer:
        gate = _gate(Starts("the moon"), tmp_path)
        return await gate.answer(_request(budget_seconds=0.05))

    assert asyncio.run(scene()) == Answer(
        outcome=Outcome.NOT_READY, code=CniCode.TRY_AGAIN, text="the moon"
    )


def test_check_of_a_pod_that_was_never_added_fails(tmp_path: Path):
    answer = asyncio.run(_gate(Starts(), tmp_path).answer(_request("CHECK")))
    assert answer.outcome is Outcome.NOT_READY


def test_delete_forgets_a_pod_and_may_come_twice(tmp_path: Path):
    async def scene() -> None:
        gate = _gate(starts := Starts(), tmp_path)
        await gate.answer(_request())
        for _ in range(2):
            assert (await gate.answer(_request("DEL"))).outcome is Outcome.DONE
        assert starts.seen == [(SANDBOX,), ()]
        assert SandboxStore(tmp_path).sandboxes == ()

    asyncio.run(scene())


def test_the_late_end_of_an_old_sandbox_leaves_the_new_one_of_its_pod(tmp_path: Path):
    store = SandboxStore(tmp_path)
    store.put(SANDBOX)
    new = replace(SANDBOX, container="c2", interface="veth8")
    store.put(new)
    assert not store.remove(frozenset({"c1"}))
    assert store.sandboxes == (new,)


def test_a_collection_forgets_what_the_runtime_has_no_more(tmp_path: Path):
    async def scene() -> None:
        gate = _gate(Starts(), tmp_path)
        await gate.answer(_request())
        valid = json.dumps({"cni.dev/valid-attachments": [{"containerID": "c1"}]}).encode()
        await gate.answer(_request("GC", configuration=valid))
        assert SandboxStore(tmp_path).sandboxes == (SANDBOX,)
        await gate.answer(_request("GC", configuration=b'{"cni.dev/valid-attachments": []}'))
        assert SandboxStore(tmp_path).sandboxes == ()

    asyncio.run(scene())


def test_status_says_whether_a_plan_is_in_force(tmp_path: Path):
    ready, not_ready = Starts(), Starts("a plan")
    for starts, wanted in ((ready, Outcome.DONE), (not_ready, Outcome.NOT_READY)):
        answer = asyncio.run(_gate(starts, tmp_path).answer(_request("STATUS")))
        assert answer.outcome is wanted


def test_a_pod_that_cannot_be_kept_is_not_started(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("where a folder should be")

    async def scene() -> Answer:
        gate = Gate(Starts(), SandboxStore(blocked / "state"), lambda: LINKS)
        return await gate.answer(_request())

    answer = asyncio.run(scene())
    assert (answer.outcome, answer.code) == (Outcome.REFUSED, CniCode.IO_FAILURE)


@pytest.mark.parametrize("data", [b"", b"{", b'{"format":2,"sandboxes":[]}', b'{"format":1}'])
def test_a_file_that_cannot_be_read_is_not_used(tmp_path: Path, data: bytes):
    (tmp_path / SANDBOXES_FILE).write_bytes(data)
    assert SandboxStore(tmp_path).sandboxes == ()


def test_the_fence_is_open_where_ours_judge_and_where_no_pod_is():
    pair = Link(name="veth9", index=9)
    uplink = Link(name="eth0", index=2, leads_elsewhere=True)
    opened = open_links((*LINKS, pair, uplink), ["veth*"], {7})
    assert opened == {("cni0", 3), ("veth7", 7), ("veth9", 9), ("eth0", 2)}


def test_what_is_listed_by_its_name_is_shut_until_ours_judge_whatever_kind_it_is():
    tap = Link(name="tap5", index=5)
    assert open_links([tap], ["veth*"], set(), {"tap5"}) == frozenset()
    assert open_links([tap], ["veth*"], {5}, {"tap5"}) == {("tap5", 5)}
    assert '{ "tap5", "veth*" } drop' in ruleset(["veth*", "tap5"], set())
    assert "drop" not in ruleset([], set())


def test_the_fence_takes_patterns_that_nftables_knows():
    assert usable_patterns(["veth*", "tg-*", "lxc1", "ve?h*", '"; flush ruleset; "', "*", ""]) == (
        "veth*",
        "tg-*",
        "lxc1",
    )


def test_what_has_no_fence_is_an_alarm():
    (alarm,) = Fence(["veth*", "*"]).alarms()
    assert "*" in alarm
    assert Fence(["veth*"]).alarms() == ()


def test_the_fence_keeps_the_chains_that_stand():
    text = ruleset(["veth*"], {("veth7", 7)})
    assert "delete" not in text
    for family in ("bridge", "inet", "arp"):
        assert text.index(f"flush set {family}") < text.index(f"add element {family}")
