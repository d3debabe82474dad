"""`tidegate keys`: make, extend, rotate and show what signs policy and who may connect."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click
from tuf.api.metadata import Root

from netpolicy.errors import StalledError
from netpolicy.trust import ONLINE_ROLES, ROOT_ROLE
from reconciler.sign import authority, certificates
from reconciler.sign import keys as key_store

DIRECTORY = click.argument(
    "directory", type=click.Path(file_okay=False, path_type=Path), metavar="DIR"
)
LAID_OUT: Final = {
    "add": "Give tls/ca.pem to the reconciler and to every agent. Ten minutes after the last has it: use",
    "use": "Give tls to the reconciler, nodes/NAME to each node. A day after the last has it: drop",
    "drop": "Give tls/ca.pem to the reconciler and to every agent.",
}
NODES = click.option(
    "--node", "nodes", multiple=True, metavar="NAME", help="Make a certificate for this node."
)


@click.group()
def keys() -> None:
    """Keys that sign policy, and certificates of the reconciler and its nodes.

    \b
    Examples:
      tidegate keys init /etc/tidegate/keys --server-name reconciler.example --node node-a
      tidegate keys add-node /etc/tidegate/keys --node node-b
      tidegate keys rotate timestamp /etc/tidegate/keys
      tidegate keys show /etc/tidegate/keys
    """


@keys.command()
@DIRECTORY
@NODES
@click.option(
    "--server-name",
    "server_names",
    multiple=True,
    required=True,
    metavar="NAME|IP",
    help="A name or address by which agents dial the reconciler. May be repeated.",
)
@click.option("--root-keys", default=3, show_default=True, help="How many root keys to make.")
@click.option("--root-threshold", default=2, show_default=True, help="How many must sign a root.")
def init(
    directory: Path,
    nodes: tuple[str, ...],
    server_names: tuple[str, ...],
    root_keys: int,
    root_threshold: int,
) -> None:
    """Make all keys and certificates in DIR. Never overwrites.

    Afterwards move DIR/root away: its keys are needed to rotate others, not to run.

    \b
    Example:
      tidegate keys init keys --server-name 10.0.0.1 --node node-a --node node-b
    """
    now = datetime.now(UTC)
    with _faults():
        key_store.init_keys(directory, now=now, root_keys=root_keys, root_threshold=root_threshold)
        certificates.init_certificates(directory, server_names=server_names, now=now)
        _add_nodes(directory, nodes, now)
    click.echo(f"Move {directory / 'root'} to a safe place: it is needed only to rotate keys.")


@keys.command("add-node")
@DIRECTORY
@NODES
def add_node(directory: Path, nodes: tuple[str, ...]) -> None:
    """Make a certificate for further nodes, each in DIR/nodes/NAME.

    \b
    Example:
      tidegate keys add-node keys --node node-c
    """
    if not nodes:
        raise click.UsageError("name at least one --node")
    with _faults():
        _add_nodes(directory, nodes, datetime.now(UTC))


@keys.command()
@DIRECTORY
@click.option("--node", "nodes", multiple=True, metavar="NAME", help="Renew this node's.")
@click.option("--server", is_flag=True, help="Renew the reconciler's.")
def renew(directory: Path, nodes: tuple[str, ...], server: bool) -> None:
    """Make new certificates and keys in place of those that expire.

    Copy a node's to it afterwards; a running reconciler takes its own by itself.

    \b
    Example:
      tidegate keys renew keys --server --node node-a
    """
    if not nodes and not server:
        raise click.UsageError("name at least one --node, or --server")
    now = datetime.now(UTC)
    with _faults():
        if server:
            certificates.renew_server(directory, now=now)
        for node in nodes:
            certificates.renew_node(directory, node, now=now)


@keys.command()
@click.argument("role", type=click.Choice((ROOT_ROLE, *ONLINE_ROLES)))
@DIRECTORY
def rotate(role: str, directory: Path) -> None:
    """Replace the keys of ROLE. Needs DIR/root, except for `bins`.

    It counts from the next publication on; agents follow by themselves.

    \b
    Example:
      tidegate keys rotate snapshot keys
    """
    with _faults():
        version = key_store.rotate(directory, role, now=datetime.now(UTC))
    click.echo(f"{role}: new keys; root metadata is version {version}")


@keys.command("renew-authority")
@click.argument("step", type=click.Choice(("add", "use", "drop")))
@DIRECTORY
@click.option("--now", "at_once", is_flag=True, help="For a stolen key: wait for nobody.")
def renew_authority(step: str, directory: Path, at_once: bool) -> None:
    """Replace the authority that signs certificates, in three steps.

    `add` has its successor trusted beside it, `use` has the successor sign, `drop` ends the trust in the
    former. After each, lay out what it says; a step that comes too early is refused.

    \b
    Example:
      tidegate keys renew-authority add keys
    """
    now = datetime.now(UTC)
    with _faults():
        if step == "add":
            authority.add_authority(directory, now=now)
        elif step == "use":
            authority.use_authority(directory, now=now, at_once=at_once)
        else:
            authority.drop_authority(directory, now=now, at_once=at_once)
    click.echo(LAID_OUT[step])


@keys.command()
@DIRECTORY
def show(directory: Path) -> None:
    """Say which keys count, until when, and which nodes have a certificate.

    \b
    Example:
      tidegate keys show keys
    """
    with _faults():
        root = key_store.roots_in(directory)
        if not root:
            raise StalledError(f"{directory} holds no root metadata", reason="SigningFailed")
        _show_root(root[-1])
        _show_authorities(directory)
    for node in sorted((directory / "nodes").glob("*/node.pem")):
        click.echo(f"node {node.parent.name}")


def _show_root(root: Root) -> None:
    click.echo(f"root version {root.version}, expires {root.expires:%Y-%m-%d}")
    for name, role in sorted(root.roles.items()):
        ids = ", ".join(key_id[:16] for key_id in role.keyids)
        click.echo(f"{name}: {role.threshold} of {len(role.keyids)}: {ids}")


def _show_authorities(directory: Path) -> None:
    signs = certificates.load_authority(directory).certificate
    for found in certificates.trusted_authorities(directory / "tls" / "ca.pem"):
        does = "signs" if found == signs else "is trusted"
        name = found.subject.rfc4514_string().removeprefix("CN=")
        click.echo(f"authority {name}: {does}, until {found.not_valid_after_utc:%Y-%m-%d}")


def _add_nodes(directory: Path, nodes: tuple[str, ...], now: datetime) -> None:
    root = key_store.trusted_root(directory)
    for node in nodes:
        click.echo(f"node {node}: {certificates.add_node(directory, node, root=root, now=now)}")


@contextmanager
def _faults() -> Iterator[None]:
    """Show what went wrong as a sentence, not a traceback."""
    try:
        yield
    except OSError as error:
        why = f"{error.filename}: {error.strerror}" if error.filename else str(error)
        raise click.ClickException(why) from error
    except (StalledError, ValueError) as error:
        raise click.ClickException(str(error)) from error
