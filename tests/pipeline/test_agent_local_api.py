"""`nodeagent`'s commands against a real socket, with a kernel in memory behind it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netpolicy.errors import StalledError
from netpolicy.rules import Direction
from netpolicy.wire.tidegate.v1 import agent_pb2 as pb
from nodeagent.cli import main
from nodeagent.cni.fence import Fence
from nodeagent.drift.status import DriftStatus
from nodeagent.enforcer import Enforcer
from nodeagent.flow_collection import CollectionStatus
from nodeagent.flows.ring import FlowRing
from nodeagent.local_api import AgentParts, serve
from nodeagent.placement import Placement
from nodeagent.planner import Planner
from nodeagent.pod_source import FilePods
from nodeagent.proxying import Proxying
from nodeagent.request_pump import RequestPump
from nodeagent.request_shadows import RequestShadows
from nodeagent.rollout.channels import Channels
from nodeagent.wireguard.status import TunnelStatus
from tests.support.agent_scene import INTERFACES, VIEW, WEB, make_bundle, make_channels
from tests.support.datapath_model import ModelDatapath
from tests.support.flow_samples import sample_batch
from tests.support.plan_strategies import policy, web_from_anyone

WAIT_SECONDS = 10
ENFORCED = make_channels(1, web_from_anyone())


class _Unencrypted:
    def status(self) -> TunnelStatus:
        return TunnelStatus()

    async def rotate(self) -> None:
        raise StalledError("this node does not encrypt", reason="NotEncrypting")


class _Offline:
    def describe(self, status: pb.StatusResponse) -> None:
        status.receive_error = "connection refused"


@dataclass
class Served:
    """A running agent's socket, and the loop it lives in."""

    socket: Path
    ring: FlowRing
    loop: asyncio.AbstractEventLoop
    kernel: ModelDatapath

    def ask(self, *words: str) -> Result:
        """Run one command as a user would."""
        return CliRunner().invoke(main, [*words, "--socket", str(self.socket)])

    def add_flows(self, *ports: int) -> None:
        """Let the kernel report flows."""
        for port in ports:
            self.loop.call_soon_threadsafe(self.ring.add, sample_batch(source_port=[port]))


class _Swept:
    """The conntrack maps were swept once."""

    status = CollectionStatus(flows=12, expired=3, orphaned=4, swept_at=1.0)


class _Steady:
    """Nothing has drifted."""

    status = DriftStatus()


@contextmanager
def _running(directory: Path, channels: Channels = ENFORCED) -> Iterator[Served]:
    ready: list[Served] = []
    started, stop = threading.Event(), asyncio.Event()

    async def run() -> None:
        kernel, ring = ModelDatapath(), FlowRing()
        enforcer = Enforcer(kernel)
        placement = Placement(kernel)
        planner = Planner(
            enforcer,
            placement,
            node="here",
            state_dir=directory,
            admit_local_host=True,
            channels=None,
        )
        await planner.take_interfaces(INTERFACES)
        planner.take_view(VIEW)
        await planner.take(channels)
        parts = AgentParts(
            node="here",
            version="0",
            started_at=1.0,
            datapath=kernel,
            enforcer=enforcer,
            placement=placement,
            planner=planner,
            drift=_Steady(),
            collection=_Swept(),
            ring=ring,
            requests=RequestPump(enforcer, ring, "here", lambda _: (), RequestShadows()),
            channel=_Offline(),
            source=FilePods(directory / "inventory.yaml"),
            tunnels=_Unencrypted(),
            fence=Fence(()),
            proxy=Proxying(kernel, config=None, state_dir=directory),
        )
        server = await serve(parts, directory / "run" / "agent.sock")
        loop = asyncio.get_running_loop()
        ready.append(Served(directory / "run" / "agent.sock", ring, loop, kernel))
        started.set()
        await stop.wait()
        await server.stop(0)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert started.wait(WAIT_SECONDS)
        yield ready[0]
    finally:
        ready[0].loop.call_soon_threadsafe(stop.set)
        thread.join(WAIT_SECONDS)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with _running(tmp_path_factory.mktemp("agent")) as found:
        yield found


def test_only_its_owner_may_open_the_socket(served: Served):
    assert stat.S_IMODE(served.socket.stat().st_mode) == 0o600


def test_status_says_what_is_enforced_and_that_the_kernel_agrees(served: Served):
    found = json.loads(served.ask("status", "-o", "json").output)
    assert found["sequence"] == 1
    assert found["generation_digest"] == found["kernel_generation_digest"] != ""
    assert found["kernel_agrees"]
    assert found["in_sync"]
    assert found["receive_error"] == "connection refused"
    assert found["drops"] == [{"reason": 133, "direction": "ingress", "packets": 4}]
    assert found["flow_table"] == {
        "flows": 12, "expired": 3, "orphaned": 4, "swept_at": 1.0, "error": "",
    }  # fmt: skip
    assert "12 flows; 3 idle and 4 of gone pods removed" in served.ask("status").output
    assert "4 ingress: Policy denied (133)" in served.ask("status").output


def test_endpoints_are_listed_with_their_policies(served: Served):
    (found,) = json.loads(served.ask("endpoint", "list", "-o", "json").output)
    assert (found["id"], found["pod"], found["attached"]) == (WEB.endpoint_id, "web", True)
    assert found["ingress_default_deny"]
    assert not found["egress_default_deny"]
    assert found["policies"] == ["a/web"]
    listed = served.ask("endpoint", "list").output
    assert "shop/web" in listed
    assert found["mac"] == ""
    assert "not checked" in listed


@pytest.mark.parametrize("name", ["5", "shop/web"])
def test_the_policy_of_an_endpoint_names_rules(served: Served, name: str):
    text = served.ask("policy", "get", name).output
    assert "ingress: default deny by a/web" in text
    assert "80/TCP" in text
    assert "a/web ingress[0]" in text


def test_an_unknown_endpoint_is_an_error_that_says_so(served: Served):
    result = served.ask("policy", "get", "nobody")
    assert result.exit_code == 1
    assert 'no endpoint "nobody"' in result.output


def test_identities_are_listed(served: Served):
    found = json.loads(served.ask("identity", "list", "-o", "json").output)
    assert {1, 9, 10} <= {identity["number"] for identity in found}
    assert all(identity["peer_class"] >= 1 for identity in found)


def test_flows_are_shown_as_text_and_json_and_filtered(served: Served):
    served.add_flows(41001, 41002)
    lines = served.ask("flows", "--last", "2", "-o", "json").output.splitlines()
    assert [json.loads(line)["l4"]["TCP"]["source_port"] for line in lines] == [41001, 41002]
    assert "policy-verdict: DENIED" in served.ask("flows", "--verdict", "dropped").output
    assert served.ask("flows", "--verdict", "FORWARDED").output == ""
    assert (
        served.ask("flows", "--pod", "e-commerce/frontend", "--last", "1").output.count("\n") == 1
    )


def test_following_shows_new_flows(tmp_path: Path):
    from nodeagent.flows.filters import FlowFilter
    from nodeagent.local_api_client import open_agent

    with _running(tmp_path) as served, open_agent(served.socket) as agent:
        served.add_flows(1)
        stream = agent.flows(FlowFilter(), last=1, follow=True)
        assert next(stream).source.port == 1
        served.add_flows(2)
        assert next(stream).source.port == 2
        stream.close()


def test_an_interrupt_ends_following_without_a_complaint(tmp_path: Path):
    with _running(tmp_path) as served:
        served.add_flows(1)
        words = ["flows", "--follow", "--last", "1", "--socket", str(served.socket)]
        command = [sys.executable, "-m", "nodeagent.cli", *words]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
            assert following.stdout is not None
            assert following.stdout.readline()
            following.send_signal(signal.SIGINT)
            try:
                _, complaints = following.communicate(timeout=WAIT_SECONDS)
            finally:
                following.kill()
    assert (following.returncode, complaints) == (0, b"")


def test_cookies_are_told_of_each_loaded_generation_and_of_no_other(tmp_path: Path):
    from nodeagent.local_api_client import open_agent

    shut = policy("shut", default_deny=(Direction.INGRESS,))
    channels = make_channels(2, web_from_anyone(), candidate=make_bundle(2, shut, name=9))
    with _running(tmp_path, channels) as served, open_agent(served.socket) as agent:
        word, told = served.kernel.word, {}
        for slot in (word.active, word.candidate):
            assert slot is not None
            answer = agent.attributions(served.kernel.slots[slot][1].generation_digest)
            assert answer.is_known
            told[slot] = {rule.name for one in answer.attributions for rule in one.rules}
        assert told == {word.active: {"web"}, word.candidate: {"shut"}}
        unknown = agent.attributions("0" * 64)
        assert (unknown.is_known, list(unknown.attributions)) == (False, [])


def test_without_an_agent_the_command_says_so(tmp_path: Path):
    result = CliRunner().invoke(main, ["status", "--socket", str(tmp_path / "no.sock")])
    assert result.exit_code == 1
    assert "no agent listens on" in result.output


def test_a_socket_that_a_dead_agent_left_is_no_agent(tmp_path: Path):
    path = tmp_path / "agent.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(path))
        result = CliRunner().invoke(main, ["status", "--socket", str(path)])
    assert result.exit_code == 1
    assert f"no agent listens on {path}" in result.output


def test_wrong_usage_is_exit_code_2_and_help_shows_examples():
    assert CliRunner().invoke(main, ["flows", "--verdict", "MAYBE"]).exit_code == 2
    assert "Examples:" in CliRunner().invoke(main, ["--help"]).output


def test_a_faulty_configuration_ends_the_program_with_its_place(tmp_path: Path):
    path = tmp_path / "agent.yaml"
    path.write_text("node: a\ninventry: i.yaml\n")
    result = CliRunner().invoke(main, ["run", "--config", str(path)])
    assert result.exit_code == 1
    assert f"{path}:2:1" in result.output
