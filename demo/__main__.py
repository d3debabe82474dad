"""Play the demo: `python -m demo [--keep]`, as root. `make demo` does it.

Exit codes: 0 all as expected, 1 something differed, 2 it could not run, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from types import FrameType
from typing import Final, NoReturn

from demo.author import BRANCH, Author
from demo.layout import BPF_OBJECT, PROGRAMS
from demo.scene_rollout import AT_ONCE, SETTINGS
from demo.scenes import SCENES
from demo.screen import Screen
from demo.services import RECONCILER, Services
from demo.stage import Stage
from demo.workload_commands import probe_command, target
from tests.support import world_sweep
from tests.support.world import World, WorldError
from tests.support.world_topology import CONTROL, ECOMMERCE

AS_EXPECTED: Final = 0
DIFFERED: Final = 1
COULD_NOT_RUN: Final = 2
INTERRUPTED: Final = 130

ENDING_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """A signal asked the demo to end; the world is taken down on the way out."""


def main(arguments: list[str]) -> int:
    """Build the world, play every scene, sum up, take it down."""
    parser = argparse.ArgumentParser(prog="demo", description="The main job of Tidegate, shown.")
    parser.add_argument(
        "--keep", action="store_true", help="leave the world up, unless interrupted"
    )
    parser.add_argument("--clean", action="store_true", help="only remove worlds that were left up")
    given = parser.parse_args(arguments)
    if missing := _missing():
        print(f"demo: {missing}", file=sys.stderr)
        return COULD_NOT_RUN
    screen = Screen()
    if given.clean:
        return _clean(screen)
    for signal_number in ENDING_SIGNALS:
        signal.signal(signal_number, _interrupt)
    try:
        return _play(screen, keep=given.keep)
    except Interrupted:
        screen.say("interrupted; everything is taken down")
        return INTERRUPTED
    except WorldError as error:
        screen.say(f"the demo broke off: {error}")
        screen.say("with --keep (make demo KEEP=1) the world stays up, logs included")
        return DIFFERED


def _play(screen: Screen, *, keep: bool) -> int:
    for name in world_sweep.abandoned():
        with screen.step(f"remove {name}, left by a demo that was killed"):
            world_sweep.sweep(name)
    with World(ECOMMERCE) as world:
        try:
            stage = _set_up(world, screen)
            for scene in SCENES:
                scene(stage)
        except WorldError:
            if keep:
                world.keep()
            raise
        as_expected = screen.summary()
        if keep:
            world.keep()
            screen.say("\nthe world stays up; explore it:")
            screen.say(_commands(stage))
    screen.say(
        f"total {screen.elapsed_seconds:.1f} s" + ("" if keep else "; nothing is left behind")
    )
    return AS_EXPECTED if as_expected else DIFFERED


def _set_up(world: World, screen: Screen) -> Stage:
    screen.scene("·", "A world of two nodes and five pods")
    screen.say(PICTURE)
    services = Services(world)
    with screen.step("Git server, keys, certificates, configuration"):
        remote = services.start_git_server()
        services.make_keys()
        services.write_configuration(remote, proxied=True)
        author = Author(world, remote, world.directory / "author")
        # Without intents: nothing is held yet to what is not there yet. Stages come in scene i.
        author.take_from_template(leave_out=("policies/e-commerce", "tests"))
        first = author.publish(
            "Begin from the template, without the shop's policies", {SETTINGS: AT_ONCE}
        )
    stage = Stage(world, services, author, screen)
    with screen.step("servers in all pods"):
        stage.start_workloads()
    with screen.step("reconciler, and an agent on each node"):
        services.start_reconciler()
        for node in services.nodes:
            services.start_agent(node)
        for node in services.nodes:
            services.wait_for_agent(node)
    stage.wait_until_enforced(first)
    return stage


def _commands(stage: Stage) -> str:
    world, layout = stage.world, stage.services.layout
    node = stage.services.nodes[-1]
    inside = "nsenter --net={}".format
    agent = (
        f"{inside(world.namespace_path(node))} {PROGRAMS / 'nodeagent'} {{}}"
        f" --config {layout.config_file(node)}"
    )
    gateway = world.topology.pod("api-gateway")
    probe = " ".join(probe_command([target(gateway, address) for address in gateway.addresses]))
    return "\n".join(
        [
            agent.format("status"),
            agent.format("flows --follow"),
            agent.format("policy get e-commerce/api-gateway"),
            agent.format("trace default/stranger e-commerce/api-gateway 80"),
            agent.format("bpf ct list"),
            f"{PROGRAMS / 'tidegate'} status --state-dir {layout.state(RECONCILER)}",
            f"{PROGRAMS / 'tidegate'} rollout history --state-dir {layout.state(RECONCILER)}",
            f"{inside(world.namespace_path('frontend'))} {probe}",
            f"cd {world.directory / 'author'}   # edit policies, git commit -a; then push:",
            f"{inside(world.namespace_path(CONTROL))} git push origin {BRANCH}",
            f"ls {world.directory / 'logs'}",
            f"{sys.executable} -m demo --clean   # takes it down",
        ]
    )


def _clean(screen: Screen) -> int:
    """Remove kept and abandoned worlds; one that a running demo owns is left alone."""
    abandoned = set(world_sweep.abandoned())
    for name in world_sweep.worlds():
        if name not in abandoned and not world_sweep.is_kept(name):
            screen.say(f"{name} belongs to a running demo: left alone")
            continue
        with screen.step(f"remove {name}"):
            left = world_sweep.sweep(name)
        if left:
            screen.say(f"still there: {left}")
            return DIFFERED
    return AS_EXPECTED


def _missing() -> str:
    if os.geteuid() != 0:
        return "needs root: it makes network namespaces and loads eBPF"
    for path in (BPF_OBJECT, PROGRAMS / "tidegate", PROGRAMS / "nodeagent"):
        if not path.exists():
            return f"{path} is missing; `make demo` builds it"
    return ""


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for signal_number in ENDING_SIGNALS:
        signal.signal(signal_number, signal.SIG_IGN)  # Taking down is not to be interrupted.
    raise Interrupted


PICTURE: Final = """\
                  control: Git server, reconciler
                 /                               \\
       node-a: agent ------------------------ node-b: agent
        |         |                        |        |        |
    frontend  products-db            api-gateway prometheus stranger
      :80       :5432                    :80        :80       :80"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
