"""`nodeagent encrypt`: the tunnels to other nodes, and the key of this one.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import click

from nodeagent.cli_options import asking_agent, output_option, socket_option

_BYTE_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB")
_STEP: Final = 1024


@click.group()
def encrypt() -> None:
    """WireGuard between nodes."""


@encrypt.command()
@socket_option
@output_option("table", "json")
def status(socket: Path | None, config_path: Path, output: str) -> None:
    """Show the mode, the keys of this node, and each tunnel.

    \b
    Examples:
      nodeagent encrypt status
      nodeagent encrypt status -o json
    """
    from nodeagent import cli_render  # noqa: PLC0415
    from nodeagent.local_api_messages import message_fields  # noqa: PLC0415

    with asking_agent(socket, config_path) as agent:
        found = agent.encryption()
    if output == "json":
        cli_render.print_json(message_fields(found))
        return
    now = time.time()
    by = f", by WireGuard in {found.implementation}" if found.implementation else ""
    ports = f", UDP from {found.port} on" if found.port else ""
    click.echo(f"mode: {found.mode}{by}{ports}")
    for key in found.keys:
        click.echo(f"key: {key.public_key}, {_age(now - key.made_at)} old")
    if found.tunnels:
        cli_render.print_table(
            ("NODE", "DEVICE", "ENDPOINT", "ADDRESSES", "HANDSHAKE", "RECEIVED", "SENT", "SENDS"),
            (
                (
                    tunnel.node,
                    tunnel.device,
                    tunnel.endpoint or "unknown",
                    tunnel.addresses,
                    f"{_age(now - tunnel.handshake_at)} ago" if tunnel.handshake_at else "never",
                    _bytes(tunnel.received_bytes),
                    _bytes(tunnel.sent_bytes),
                    "yes" if tunnel.is_sending else "no",
                )
                for tunnel in found.tunnels
            ),
        )
    for node in found.silent_nodes:
        click.echo(f"silent: {node} has not shaken hands for 3 minutes")
    for alarm in found.alarms:
        click.echo(f"alarm: {alarm}")


@encrypt.command()
@socket_option
def rotate(socket: Path | None, config_path: Path) -> None:
    """Make a new key and change over to it; no packet is lost.

    Both keys are in use until every other node has changed over: see `nodeagent encrypt status`.

    \b
    Example:
      nodeagent encrypt rotate
    """
    with asking_agent(socket, config_path) as agent:
        made = agent.rotate_key()
    click.echo(f"changing over to {made.public_key}")


def _age(seconds: float) -> str:
    whole = max(int(seconds), 0)
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if whole >= 2 * size:
            return f"{whole // size} {unit}"
    return f"{whole} s"


def _bytes(count: int) -> str:
    value, unit = float(count), 0
    while value >= _STEP and unit + 1 < len(_BYTE_UNITS):
        value, unit = value / _STEP, unit + 1
    return f"{value:.0f} {_BYTE_UNITS[unit]}" if unit == 0 else f"{value:.1f} {_BYTE_UNITS[unit]}"
