"""The file that Envoy tells requests in: bounded, put aside under load, read on after a kill, counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from netpolicy.rules import HttpRule
from nodeagent.envoy.admin import Admin
from nodeagent.envoy.log_file import LogFile
from nodeagent.l7.requests import JudgedRequest
from nodeagent.request_losses import RequestLosses
from tests.support.access_log import begun_log, log_of, running
from tests.support.envoy_scene import EnvoyScene, envoy_scene, request, rules, status_on

PATIENCE_SECONDS = 30.0
SET = rules(HttpRule(method="GET", path="/[a-z0-9]*"))
ASKED = request("GET", "/other")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvoyScene]:
    with envoy_scene(tmp_path_factory.mktemp("file"), workers=2) as made:
        made.serve(SET)
        yield made


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ask_often(scene: EnvoyScene, count: int) -> None:
    with scene.connect() as client:
        for _ in range(count):
            assert status_on(client, ASKED) == 200


@pytest.mark.slow
def test_a_file_put_aside_under_load_loses_no_request(
    scene: EnvoyScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.envoy.log_file.TURN_OVER_BYTES", 16_384)
    monkeypatch.setattr("nodeagent.request_log.ASK_SECONDS", 0.0)
    begun: list[None] = []
    begin = Admin.begin_new_logs
    monkeypatch.setattr(Admin, "begin_new_logs", lambda admin: begun.append(begin(admin)))
    taken: list[JudgedRequest] = []
    sent: list[int] = []
    deadline = time.monotonic() + PATIENCE_SECONDS

    def ask() -> None:
        while len(begun) < 4 and time.monotonic() < deadline:
            ask_often(scene, 50)
            sent.append(50)

    with running(scene, begun_log(scene, taken.extend).run()):
        clients = [threading.Thread(target=ask) for _ in range(3)]
        for client in clients:
            client.start()
        for client in clients:
            client.join(PATIENCE_SECONDS)
        wait_until(lambda: len(taken) >= sum(sent))
    told = {(one.source_port, one.time_ns) for one in taken}
    assert len(begun) >= 4
    assert len(told) == len(taken) == sum(sent)


@pytest.mark.slow
def test_an_agent_killed_between_putting_aside_and_asking_leaves_nothing_that_misleads_the_next(
    scene: EnvoyScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = scene.settings.access_log
    with log_of(scene) as told:
        assert scene.status(ASKED) == 200
        told.first(1)
    killed = LogFile(path)
    with monkeypatch.context() as patched:
        patched.setattr("nodeagent.envoy.log_file.TURN_OVER_BYTES", 1)
        assert killed.turn_over()
    killed.close()
    assert not path.exists()
    with log_of(scene) as told:
        ports = []
        for _ in range(3):
            with scene.connect() as client:
                ports.append(client.getsockname()[1])
                assert status_on(client, ASKED) == 200
            assert told.first(1)[0].source_port == ports[-1]
        wait_until(path.exists)
        assert scene.status(ASKED) == 200
        assert len(told.first(1)) == 1


@pytest.mark.slow
def test_a_file_that_nobody_reads_is_bounded_what_it_lacks_is_counted_and_envoy_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = 8192
    monkeypatch.setattr("nodeagent.envoy.process.MAX_FILE_BYTES", bound)
    monkeypatch.setattr("nodeagent.envoy.log_file.TURN_OVER_BYTES", bound // 2)
    monkeypatch.setattr("nodeagent.request_losses.LOOK_SECONDS", 0.9)
    monkeypatch.setattr("nodeagent.request_losses.ARRIVAL_SECONDS", 0.8)
    taken: list[JudgedRequest] = []
    with envoy_scene(tmp_path) as scene:
        log = begun_log(scene, taken.extend)
        losses = RequestLosses(
            scene.settings.admin, lambda: len(taken), lambda _: None, log.read_up
        )
        scene.call(losses.begin())
        scene.serve(SET)
        pid = scene.proxy.status().pid
        path = scene.settings.access_log
        ask_often(scene, 60)
        wait_until(lambda: path.stat().st_size == bound)
        ask_often(scene, 1)
        wait_until(lambda: has_written(scene, 61))
        with running(scene, losses.run()), running(scene, log.run()):
            wait_until(lambda: len(taken) + losses.lost == 61)
            assert 0 < len(taken) < 40
            # Another file, in which there is room.
            wait_until(lambda: path.exists() and path.stat().st_size < bound)
            before = len(taken)
            ask_often(scene, 3)
            wait_until(lambda: len(taken) == before + 3)
        assert scene.proxy.status().pid == pid
        assert path.stat().st_mode & 0o077 == 0


def has_written(scene: EnvoyScene, count: int) -> bool:
    """True if Envoy has so many entries behind it, and keeps none back."""
    told = Admin(scene.settings.admin).statistics("^filesystem[.]write_")
    return (
        told["filesystem.write_buffered"] == count and told["filesystem.write_total_buffered"] == 0
    )


def lines_of(file: LogFile) -> bytes:
    """All that can be read now."""
    found = b""
    while (more := file.read()) is not None:
        found += more
    return found


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "requests.log"


def write(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def test_reading_begins_behind_what_is_there_and_behind_a_line_that_is_torn_there(
    path: Path,
) -> None:
    write(path, b"old\nto")
    file = LogFile(path)
    write(path, b"rn\nnew\nun")
    assert lines_of(file) == b"new\n"
    write(path, b"finished\n")
    assert lines_of(file) == b"unfinished\n"


def test_a_file_that_appears_later_is_read_from_its_beginning(path: Path) -> None:
    file = LogFile(path)
    assert file.read() is None
    assert not file.turn_over()
    write(path, b"one\n")
    assert lines_of(file) == b"one\n"


def test_the_file_before_is_read_to_its_end_before_the_next_one_and_then_removed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.envoy.log_file.TURN_OVER_BYTES", 8)
    file = LogFile(path)
    write(path, b"first..\n")
    assert lines_of(file) == b"first..\n"
    assert file.turn_over()
    before = path.with_name("requests.log.1")
    write(before, b"late\ntor")  # Envoy has it open still
    assert lines_of(file) == b"late\n"
    assert before.exists()
    assert file.turn_over()  # to be asked again
    write(path, b"second.\n")
    assert not file.turn_over()  # one file aside is enough
    write(before, b"n\nlast\n")
    assert lines_of(file) == b"torn\nlast\nsecond.\n"
    assert not before.exists()
    assert file.turn_over()


@pytest.mark.parametrize("both", [True, False])
def test_what_an_agent_left_behind_is_not_told_again(path: Path, both: bool) -> None:
    before = path.with_name("requests.log.1")
    write(before, b"told\n")
    if both:
        write(path, b"told too\n")
    file = LogFile(path)
    assert before.exists() is not both
    assert file.turn_over() is not both
    write(path if both else before, b"new\n")
    assert lines_of(file) == b"new\n"


def test_a_line_without_end_is_not_kept_and_what_follows_it_is_read(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nodeagent.envoy.log_file.MAX_LINE_BYTES", 64)
    monkeypatch.setattr("nodeagent.envoy.log_file.READ_BYTES", 32)
    file = LogFile(path)
    write(path, b"x" * 500 + b"\nnext\n")
    assert lines_of(file) == b"next\n"
