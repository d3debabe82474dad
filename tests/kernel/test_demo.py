"""The demo plays to its end, and leaves nothing behind however it ends."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.support import world_sweep
from tests.support.world import PROJECT

pytestmark = [pytest.mark.kernel, pytest.mark.slow]


@pytest.fixture
def demo() -> Iterator[subprocess.Popen[str]]:
    playing = subprocess.Popen(
        [sys.executable, "-m", "demo"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with playing:
        yield playing
        playing.kill()
    for name in world_sweep.worlds_of(playing.pid):
        world_sweep.sweep(name)


@pytest.mark.timeout(500)
def test_every_scene_of_the_demo_is_as_expected(demo: subprocess.Popen[str]) -> None:
    shown, _ = demo.communicate(timeout=480)
    assert demo.returncode == 0, shown
    assert "observations were as expected" in shown
    assert world_sweep.worlds_of(demo.pid) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_takes_its_world_down(
    demo: subprocess.Popen[str], how: signal.Signals
) -> None:
    assert demo.stdout is not None
    for line in demo.stdout:
        if line.startswith("b. "):
            break
    (name,) = world_sweep.worlds_of(demo.pid)
    demo.send_signal(how)
    rest = demo.stdout.read()
    assert demo.wait(60) == 130, rest
    assert not world_sweep.survey(name)
