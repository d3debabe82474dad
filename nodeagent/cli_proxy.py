"""`nodeagent proxy`: run the node's Envoy apart from the agent."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from nodeagent.cli_options import config_option, fail, read_config

if TYPE_CHECKING:
    from nodeagent.envoy.settings import EnvoySettings

LOOK_SECONDS: Final = 0.1


@click.command()
@config_option
@click.option("--verbose", is_flag=True, help="Log more.")
def proxy(config_path: Path, verbose: bool) -> None:
    """Keep this node's Envoy running, in a process or a container of its own, until told to stop.

    The agent's configuration must say `envoy: {apart: true}`; the agent then only writes Envoy's files.
    Neither's end is the other's. Needs no capability but NET_ADMIN.

    \b
    Example:
      nodeagent proxy --config /etc/tidegate/agent.yaml
    """
    from netpolicy.errors import StalledError, TransientError  # noqa: PLC0415
    from netpolicy.logs import configure_logs  # noqa: PLC0415  # `nodeagent --help` does without
    from nodeagent.proxy_settings import envoy_settings  # noqa: PLC0415

    os.umask(0o077)  # what Envoy writes is the agent's own
    config = read_config(config_path)
    if config.envoy is None or not config.envoy.is_apart:
        fail(f"{config_path} has no `envoy: {{apart: true}}`: the agent runs Envoy itself, or none")
    configure_logs(node=config.node, verbose=verbose)
    try:
        asyncio.run(_keep(envoy_settings(config.envoy, config.state_dir)))
    except (StalledError, TransientError, OSError) as error:
        fail(str(error))


async def _keep(settings: EnvoySettings) -> None:
    from nodeagent.envoy.supervisor import Supervisor  # noqa: PLC0415

    task = asyncio.current_task()
    assert task is not None
    # The first process of a container gets no signal that it does not ask for.
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with suppress(asyncio.CancelledError):
        while not (settings.listeners.exists() and settings.clusters.exists()):
            await asyncio.sleep(LOOK_SECONDS)  # the agent lays them down when it starts
        await Supervisor(settings).run()
