"""`nodeagent cni`: install the CNI plugin on this host, and remove it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import click

from nodeagent.cli_options import Command, fail
from nodeagent.config import DEFAULT_CNI_SOCKET

DEFAULT_PLUGIN: Final = "/usr/lib/tidegate/tidegate-cni"
DEFAULT_BIN_DIR: Final = "/opt/cni/bin"
DEFAULT_CONF_DIR: Final = "/etc/cni/net.d"


def _folder_options(command: Command) -> Command:
    for name, default, text in (
        ("--conf-dir", DEFAULT_CONF_DIR, "Where the runtime's CNI configurations are."),
        ("--bin-dir", DEFAULT_BIN_DIR, "Where its CNI plugins are."),
    ):
        kind: Any = click.Path(file_okay=False, path_type=Path)
        command = click.option(name, type=kind, default=default, show_default=True, help=text)(
            command
        )
    return command


@click.group()
def cni() -> None:
    """The plugin that starts a pod only when it is under policy."""


@cni.command("install")
@_folder_options
@click.option("--plugin", type=click.Path(dir_okay=False, path_type=Path), default=DEFAULT_PLUGIN,
              show_default=True, help="The plugin to install.")  # fmt: skip
@click.option("--socket", default=DEFAULT_CNI_SOCKET, show_default=True,
              help="Where the plugin finds the agent.")  # fmt: skip
@click.option("--timeout-seconds", type=click.IntRange(1, 300), default=20, show_default=True,
              help="How long a pod's start may be held.")  # fmt: skip
@click.option("--failure-mode", type=click.Choice(["closed", "open"]), default="closed",
              show_default=True, help="Whether a pod starts whose agent did not answer in time.")  # fmt: skip
def install_command(  # noqa: PLR0917
    bin_dir: Path,
    conf_dir: Path,
    plugin: Path,
    socket: str,
    timeout_seconds: int,
    failure_mode: str,
) -> None:
    """Put the plugin at the end of the host's CNI chain. Doing it again changes nothing.

    \b
    Examples:
      nodeagent cni install
      nodeagent cni install --bin-dir /usr/lib/cni --failure-mode open
    """
    from nodeagent.cni.conflist import PluginOptions  # noqa: PLC0415
    from nodeagent.cni.install import InstallError, install  # noqa: PLC0415

    options = PluginOptions(
        socket=socket, timeout_seconds=timeout_seconds, failure_mode=failure_mode
    )
    try:
        changed = install(plugin, bin_dir=bin_dir, conf_dir=conf_dir, options=options)
    except InstallError as error:
        fail(str(error))
    _tell(changed, "it is installed already")


@cni.command("uninstall")
@_folder_options
def uninstall_command(bin_dir: Path, conf_dir: Path) -> None:
    """Take the plugin out of the host's CNI chains and remove it. Pods start without it then.

    \b
    Example:
      nodeagent cni uninstall
    """
    from nodeagent.cni.install import InstallError, uninstall  # noqa: PLC0415

    try:
        changed = uninstall(bin_dir=bin_dir, conf_dir=conf_dir)
    except InstallError as error:
        fail(str(error))
    _tell(changed, "it is not installed")


def _tell(changed: list[str], nothing: str) -> None:
    for line in changed or [nothing]:
        click.echo(line)
