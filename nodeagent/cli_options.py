"""What the agent's commands share: options, the configuration, and the way to say what is wrong."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from netpolicy.errors import render
from nodeagent.config import DEFAULT_SOCKET, AgentConfig, decode_config

if TYPE_CHECKING:
    from nodeagent.local_api_client import AgentClient

FAILED: Final = 1
DEFAULT_CONFIG: Final = "/etc/tidegate/agent.yaml"
NODE_VARIABLE: Final = "NODE_NAME"
"""The node's name, where one configuration is every node's."""

Command = Callable[..., Any]


def config_option(command: Command) -> Command:
    """`--config FILE`."""
    return click.option(
        "--config",
        "config_path",
        type=click.Path(dir_okay=False, path_type=Path),
        default=DEFAULT_CONFIG,
        show_default=True,
        envvar="TIDEGATE_AGENT_CONFIG",
        show_envvar=True,
        help="The agent's configuration file.",
    )(command)


def socket_option(command: Command) -> Command:
    """`--socket PATH`, or the one that the configuration names."""
    command = config_option(command)
    return click.option(
        "--socket",
        type=click.Path(path_type=Path),
        default=None,
        envvar="TIDEGATE_AGENT_SOCKET",
        show_envvar=True,
        help="The agent's socket; default: the one in its configuration.",
    )(command)


def output_option(*choices: str) -> Callable[[Command], Command]:
    """`-o FORMAT`; the first choice is the default."""
    return click.option(
        "-o", "--output", type=click.Choice(choices), default=choices[0], show_default=True,
        help="For people, or for machines.",
    )  # fmt: skip


def fail(message: str, *, exit_code: int = FAILED) -> NoReturn:
    """Say what is wrong and end."""
    click.echo(f"nodeagent: {message}", err=True)
    raise SystemExit(exit_code)


def why_not(error: OSError) -> str:
    """What the system refused, in one line."""
    if not error.filename:
        return str(error)
    needs_root = " (run it as root)" if isinstance(error, PermissionError) else ""
    return f"{error.filename}: {error.strerror}{needs_root}"


def read_config(path: Path, *, exit_code: int = FAILED) -> AgentConfig:
    """The configuration, or the end of the program with all that is wrong with it."""
    try:
        data = path.read_bytes()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror} (--config names another file)"
        fail(message, exit_code=exit_code)
    config, faults = decode_config(path, data, node=os.environ.get(NODE_VARIABLE, ""))
    if config is None:
        told = "\n".join(map(render, faults))
        fail(f"the configuration is refused\n{told}", exit_code=exit_code)
    return config


def socket_of(socket: Path | None, config_path: Path) -> Path:
    """The socket asked for, else the configured one, else the usual one."""
    if socket is not None:
        return socket
    if not config_path.exists() and str(config_path) == DEFAULT_CONFIG:
        return Path(DEFAULT_SOCKET)
    return read_config(config_path).socket


@contextmanager
def asking_agent(socket: Path | None, config_path: Path) -> Iterator[AgentClient]:
    """A client of this node's agent; if it does not answer, the end of the program."""
    from nodeagent.local_api_client import AgentUnreachable, open_agent  # noqa: PLC0415

    try:
        with open_agent(socket_of(socket, config_path)) as agent:
            yield agent
    except AgentUnreachable as error:
        fail(str(error))
