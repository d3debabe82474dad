"""The plugin itself, called as a runtime calls it, against the agent's own server and a gate that is held."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from nodeagent.cni.messages import Answer, CniCode, Outcome, Request
from nodeagent.cni.server import serve_cni
from tests.support.world import PROJECT

pytestmark = pytest.mark.slow

PLUGIN = PROJECT / "build/cni/tidegate-cni"
RESULT = '{"cniVersion": "1.0.0",  "ips": [{"address": "10.0.0.7/24"}], "x": "\\u00e9"}'
DONE = Answer(outcome=Outcome.DONE)


@pytest.fixture(scope="module", autouse=True)
def _built() -> None:
    subprocess.run(["make", "-s", "-C", str(PROJECT / "cni")], check=True)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short one: a socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory() as found:
        yield Path(found)


class HeldGate:
    """Answers what it is told to."""

    def __init__(self, *answers: Answer | Callable[[], None]) -> None:
        self.asked: list[Request] = []
        self._answers = list(answers)

    async def answer(self, request: Request) -> Answer:
        self.asked.append(request)
        if not self._answers:
            await asyncio.Event().wait()
        answer = self._answers.pop(0)
        if isinstance(answer, Answer):
            return answer
        answer()
        raise asyncio.CancelledError


@contextmanager
def serving(gate: HeldGate, socket: Path) -> Iterator[None]:
    """The agent's server, in a thread of its own."""
    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(serve_cni(gate, socket))  # type: ignore[arg-type]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()


def _call(
    command: str, text: str | bytes, **environment: str
) -> tuple[int, str, dict[str, Any] | None]:
    done = subprocess.run(
        [PLUGIN],
        input=text.encode() if isinstance(text, str) else text,
        capture_output=True,
        timeout=30,
        check=False,
        env={"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", **environment},
    )
    out = done.stdout.decode()
    failed = json.loads(out) if done.returncode else None
    return done.returncode, out, failed


def _configuration(folder: Path, **more: Any) -> str:
    members = {"name": "pods", "socket": str(folder / "s"), "timeoutSeconds": 5, **more}
    return f'{{"cniVersion": "1.0.0", "prevResult": {RESULT}, {json.dumps(members)[1:]}'


def test_the_result_is_handed_on_byte_for_byte(folder: Path):
    gate = HeldGate(DONE)
    with serving(gate, folder / "s"):
        code, out, _ = _call("ADD", _configuration(folder), CNI_ARGS="A=b", CNI_NETNS="/n")
    assert (code, out) == (0, RESULT + "\n")
    (asked,) = gate.asked
    assert (asked.command, asked.container, asked.interface) == ("ADD", "c1", "eth0")
    assert (asked.arguments, asked.namespace) == ("A=b", "/n")
    assert json.loads(asked.configuration)["name"] == "pods"
    assert 4 < asked.budget_seconds < 5, "the agent stops first, so that it is heard why"


def test_check_says_nothing_and_what_is_refused_keeps_the_agents_words(folder: Path):
    refused = Answer(outcome=Outcome.REFUSED, code=CniCode.BAD_CONFIGURATION, text='a "b" \\ ö\n')
    with serving(HeldGate(DONE, refused), folder / "s"):
        assert _call("CHECK", _configuration(folder))[:2] == (0, "")
        code, _, failed = _call("ADD", _configuration(folder))
    assert code == 1
    assert failed == {
        "cniVersion": "1.0.0",
        "code": 7,
        "msg": "the Tidegate agent refused the pod",
        "details": 'a "b" \\ ???',
    }


def test_one_who_waits_in_vain_is_told_for_what_by_the_failure_mode(folder: Path):
    late = Answer(outcome=Outcome.NOT_READY, code=CniCode.TRY_AGAIN, text="the moon")
    with serving(HeldGate(late, late), folder / "s"):
        code, _, failed = _call("ADD", _configuration(folder))
        assert (code, failed and failed["code"], failed and failed["details"]) == (
            1,
            11,
            "the moon",
        )
        opened = _configuration(folder, failureMode="open")
        assert _call("ADD", opened)[:2] == (0, RESULT + "\n")


def test_failure_mode_open_does_not_open_for_what_is_refused(folder: Path):
    refused = Answer(outcome=Outcome.REFUSED, code=CniCode.BAD_CONFIGURATION, text="no")
    with serving(HeldGate(refused), folder / "s"):
        assert _call("ADD", _configuration(folder, failureMode="open"))[0] == 1


@pytest.mark.parametrize("command", ["ADD", "CHECK", "STATUS"])
def test_an_agent_that_never_answers_is_waited_for_no_longer_than_allowed(
    folder: Path, command: str
):
    with serving(HeldGate(), folder / "s"):
        started = time.monotonic()
        code, _, failed = _call(command, _configuration(folder, timeoutSeconds=1))
        assert time.monotonic() - started < 3
    assert (code, failed and failed["code"]) == (1, 50 if command == "STATUS" else 11)


@pytest.mark.parametrize("command", ["DEL", "GC"])
def test_a_pod_may_always_go(folder: Path, command: str):
    assert _call(command, _configuration(folder, timeoutSeconds=1))[:2] == (0, "")
    with serving(HeldGate(DONE), folder / "s"):
        assert _call(command, _configuration(folder))[:2] == (0, "")


def test_status_asks_the_agent(folder: Path):
    late = Answer(outcome=Outcome.NOT_READY, code=CniCode.TRY_AGAIN, text="no plan")
    with serving(HeldGate(DONE, late), folder / "s"):
        assert _call("STATUS", _configuration(folder))[:2] == (0, "")
        _, _, failed = _call("STATUS", _configuration(folder))
    assert failed
    assert (failed["code"], failed["details"]) == (50, "no plan")


def test_an_agent_that_hangs_up_is_asked_again(folder: Path):
    def hang_up() -> None:
        """Cancelled before it answers: the connection ends."""

    gate = HeldGate(hang_up, hang_up, DONE)
    with serving(gate, folder / "s"):
        assert _call("ADD", _configuration(folder))[0] == 0
    assert len(gate.asked) == 3


@pytest.mark.parametrize(
    "answer",
    [b"", b"\0\0\0\x05\x07\0\0\0\0", b"\xff\xff\xff\xff\0\0\0\0\0", b"\0\0\0\x04\0\0\0\0\0",
     b"\0\0\0\x09\0\0"],
)  # fmt: skip
def test_an_answer_that_is_none_opens_nothing(folder: Path, answer: bytes):
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(answer)
        await writer.drain()
        writer.close()

    loop = asyncio.new_event_loop()
    server = loop.run_until_complete(asyncio.start_unix_server(talk, folder / "s"))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        code, _, failed = _call("ADD", _configuration(folder, timeoutSeconds=1))
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
    assert (code, failed and failed["code"]) == (1, 11)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", 6), ("{", 6), ("[]", 6), ('{"cniVersion": "1.0.0", "cniVersion": "0.4.0"}', 6),
        ('{"cniVersion": "0.2.0", "prevResult": {}}', 1), ('{"prevResult": {}}', 1),
        ('{"cniVersion": "1.0.0"}', 7), ('{"cniVersion": "1.0.0", "prevResult": null}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "timeoutSeconds": 0}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "timeoutSeconds": 301}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "timeoutSeconds": 1.5}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "timeoutSeconds": -1}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "timeoutSeconds": 99999999999999999999}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "failureMode": "opened"}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "failureMode": true}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "socket": "relative"}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "socket": "/' + "x" * 107 + '"}', 7),
        ('{"cniVersion": "1.0.0", "prevResult": {}, "a": "' + "x" * (1 << 20) + '"}', 5),
    ],
)  # fmt: skip
def test_what_cannot_be_used_is_refused_with_the_specifications_code(text: str, code: int):
    status, _, failed = _call("ADD", text)
    assert (status, failed and failed["code"]) == (1, code)


def test_a_variable_that_is_too_long_is_refused(folder: Path):
    _, _, failed = _call("ADD", _configuration(folder), CNI_ARGS="x" * 5000)
    assert failed
    assert failed["code"] == 4


def test_without_a_command_it_says_what_it_is():
    done = subprocess.run([PLUGIN], capture_output=True, check=False, env={}, input=b"")
    assert done.returncode == 1
    assert json.loads(done.stdout)["code"] == 4


def test_it_tells_its_versions():
    code, out, _ = _call("VERSION", '{"cniVersion": "0.4.0"}')
    assert code == 0
    assert json.loads(out) == {
        "cniVersion": "0.4.0",
        "supportedVersions": ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"],
    }


def test_a_result_that_nobody_reads_is_a_failure(folder: Path):
    with serving(HeldGate(DONE), folder / "s"), open("/dev/full", "wb") as full:
        done = subprocess.run(
            [PLUGIN],
            input=_configuration(folder).encode(),
            stdout=full,
            check=False,
            env={"CNI_COMMAND": "ADD"},
        )
    assert done.returncode == 1


def test_the_socket_is_for_root_alone(folder: Path):
    with serving(HeldGate(), folder / "s"):
        assert os.stat(folder / "s").st_mode & 0o777 == 0o600
