"""`nodeagent`: run the agent, and ask it or the kernel what they hold.

Exit codes: 0 done, 1 failed, 2 wrong usage.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Final

import click

from netpolicy.version import VERSION
from nodeagent.cli_bpf import bpf
from nodeagent.cli_cni import cni
from nodeagent.cli_encrypt import encrypt
from nodeagent.cli_options import (
    asking_agent,
    config_option,
    fail,
    output_option,
    read_config,
    socket_option,
    why_not,
)
from nodeagent.cli_proxy import proxy
from nodeagent.cli_trace import trace

_EXAMPLES: Final = """\b
Examples:
  nodeagent run --config /etc/tidegate/agent.yaml
  nodeagent status
  nodeagent policy get e-commerce/frontend
  nodeagent flows --follow --verdict DROPPED
  nodeagent trace e-commerce/frontend e-commerce/catalog 8080     (works without the agent)
  nodeagent trace --drops --pod e-commerce/frontend
  nodeagent bpf policy get          (works without the agent)
"""

_LOST: Final = {
    "kernel": "more came than the agent could read",
    "reader": "this reader is too slow",
    "proxy": "what the proxy told of requests did not come in",
}


@click.group(epilog=_EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, prog_name="nodeagent")
def main() -> None:
    """Enforce network policy on this node, and show what is enforced.

    Exits 0 if done, 1 if not, 2 if called wrongly; `trace` has its own codes.
    """


@main.command()
@config_option
@click.option("--verbose", is_flag=True, help="Log more.")
def run(config_path: Path, verbose: bool) -> None:
    """Run the agent, in the network namespace of the pods' interfaces, until it is told to stop.

    SIGTERM and Ctrl-C stop it. What the kernel enforces stays; `nodeagent detach` takes it out.

    \b
    Example:
      nodeagent run --config /etc/tidegate/agent.yaml
    """
    from netpolicy.errors import StalledError  # noqa: PLC0415
    from netpolicy.logs import configure_logs  # noqa: PLC0415
    from nodeagent.app import run_agent  # noqa: PLC0415  # only this command pays for its memory
    from nodeagent.datapath import DatapathError  # noqa: PLC0415

    os.umask(0o077)  # what the agent writes is its own
    config = read_config(config_path)
    configure_logs(node=config.node, verbose=verbose)
    try:
        asyncio.run(run_agent(config))
    except DatapathError as error:
        fail(f"the datapath does not work: {error}")
    except OSError as error:
        fail(why_not(error))
    except StalledError as error:
        fail(str(error))


@main.command()
@socket_option
@output_option("table", "json")
def status(socket: Path | None, config_path: Path, output: str) -> None:
    """What is enforced, and whether it is what is desired.

    \b
    Examples:
      nodeagent status
      nodeagent status -o json
    """
    from nodeagent import cli_render  # noqa: PLC0415
    from nodeagent.local_api_messages import message_fields  # noqa: PLC0415

    with asking_agent(socket, config_path) as agent:
        found = agent.status()
    if output == "json":
        cli_render.print_json(message_fields(found))
    else:
        cli_render.print_status(found)


@main.group()
def endpoint() -> None:
    """The pods of this node."""


@endpoint.command("list")
@socket_option
@output_option("table", "json")
def endpoint_list(socket: Path | None, config_path: Path, output: str) -> None:
    """List the pods of this node.

    \b
    Examples:
      nodeagent endpoint list
      nodeagent endpoint list -o json
    """
    from nodeagent import cli_render  # noqa: PLC0415
    from nodeagent.local_api_messages import message_fields  # noqa: PLC0415

    with asking_agent(socket, config_path) as agent:
        found = agent.endpoints()
    if output == "json":
        cli_render.print_json(message_fields(found)["endpoints"])
        return
    cli_render.print_table(
        ("ID", "POD", "IDENTITY", "ADDRESSES", "INTERFACE", "MAC", "INGRESS", "EGRESS", "POLICIES"),
        (
            (
                e.id,
                f"{e.namespace}/{e.pod}",
                e.identity,
                " ".join(e.addresses),
                e.interface if e.attached else f"{e.interface} (awaited)",
                e.mac or "not checked",
                "default-deny" if e.ingress_default_deny else "open",
                "default-deny" if e.egress_default_deny else "open",
                " ".join(e.policies) or "-",
            )
            for e in found.endpoints
        ),
    )


@main.group()
def policy() -> None:
    """The policy of a pod."""


@policy.command("get")
@click.argument("endpoint_name", metavar="ENDPOINT")
@socket_option
@output_option("table", "json")
def policy_get(endpoint_name: str, socket: Path | None, config_path: Path, output: str) -> None:
    """Show the policy of ENDPOINT: an id, or NAMESPACE/POD.

    \b
    Examples:
      nodeagent policy get e-commerce/frontend
      nodeagent policy get 4711 -o json
    """
    from nodeagent import cli_render  # noqa: PLC0415
    from nodeagent.local_api_messages import message_fields  # noqa: PLC0415

    with asking_agent(socket, config_path) as agent:
        found = agent.policy(endpoint_name)
    if output == "json":
        cli_render.print_json(message_fields(found))
    else:
        cli_render.print_policy(found)


@main.group()
def identity() -> None:
    """The identities this node knows."""


@identity.command("list")
@socket_option
@output_option("table", "json")
def identity_list(socket: Path | None, config_path: Path, output: str) -> None:
    """List identities: their numbers mean something on this node only.

    \b
    Example:
      nodeagent identity list
    """
    from nodeagent import cli_render  # noqa: PLC0415
    from nodeagent.local_api_messages import message_fields  # noqa: PLC0415

    with asking_agent(socket, config_path) as agent:
        found = agent.identities()
    if output == "json":
        cli_render.print_json(message_fields(found)["identities"])
        return
    cli_render.print_table(
        ("IDENTITY", "CLASS", "ADDRESSES", "LABELS"),
        ((i.number, i.peer_class, i.addresses, ",".join(i.labels)) for i in found.identities),
    )


@main.command()
@socket_option
@click.option("--follow", "-f", is_flag=True, help="Go on with new flows.")
@click.option("--last", type=click.IntRange(min=0), default=0, help="Only the last N; 0: all kept.")
@click.option(
    "--verdict",
    "verdicts",
    multiple=True,
    type=click.Choice(["FORWARDED", "REDIRECTED", "DROPPED", "AUDIT"], case_sensitive=False),
    help="What became of them; AUDIT: what would, by what is not enforced yet.",
)
@click.option("--direction", "directions", multiple=True,
              type=click.Choice(["INGRESS", "EGRESS"], case_sensitive=False),
              help="At the pod of this node.")  # fmt: skip
@click.option(
    "--pod", "pods", multiple=True, help="NAMESPACE/POD, NAMESPACE/ or POD, at either end."
)
@click.option(
    "--port", "ports", multiple=True, type=click.IntRange(1, 65535), help="Destination port."
)
@output_option("text", "json")
def flows(  # noqa: PLR0917
    socket: Path | None,
    config_path: Path,
    follow: bool,
    last: int,
    verdicts: tuple[str, ...],
    directions: tuple[str, ...],
    pods: tuple[str, ...],
    ports: tuple[int, ...],
    output: str,
) -> None:
    """Show flows: one line each; as JSON, one object a line with Hubble's names.

    An option that is given several times takes any of its values; different options must all hold.

    \b
    Examples:
      nodeagent flows --last 20
      nodeagent flows --follow --verdict DROPPED
      nodeagent flows --pod e-commerce/ --port 80 --port 5432 -o json
    """
    from netpolicy.flow import flow_json, flow_text  # noqa: PLC0415
    from nodeagent.flows.filters import FlowFilter  # noqa: PLC0415
    from nodeagent.flows.ring import Lost  # noqa: PLC0415
    from nodeagent.interrupts import interrupts_held  # noqa: PLC0415

    wanted = FlowFilter(
        verdicts=frozenset(map(str.upper, verdicts)),
        directions=frozenset(map(str.upper, directions)),
        pods=frozenset(pods),
        ports=frozenset(ports),
    )
    with interrupts_held() as on_interrupt, asking_agent(socket, config_path) as agent:
        on_interrupt(agent.end_following)
        for item in agent.flows(wanted, last=last, follow=follow):
            if isinstance(item, Lost):
                click.echo(f"nodeagent: {item.count} flows lost here: {_LOST[item.at]}", err=True)
            else:
                click.echo(json.dumps(flow_json(item)) if output == "json" else flow_text(item))
                if follow:
                    sys.stdout.flush()


@main.command()
@config_option
@click.option("--yes", is_flag=True, help="Do not ask.")
def detach(config_path: Path, yes: bool) -> None:
    """Take the agent out of the kernel: every filter, program and map of it, and the fence.

    Afterwards everything is open: every pod of this node may send and receive anything, also those that
    were refused everything because nobody had listed them. The last good bundle stays in the state
    directory: `nodeagent run` enforces it again. Stop the agent first. Asks, unless --yes is given.

    \b
    Examples:
      nodeagent detach
      nodeagent detach --yes
    """
    from netpolicy.errors import StalledError  # noqa: PLC0415
    from nodeagent.app import datapath_config, only_agent  # noqa: PLC0415
    from nodeagent.cni.fence import remove_fence  # noqa: PLC0415
    from nodeagent.datapath import Datapath, DatapathError  # noqa: PLC0415
    from nodeagent.datapath.pins import current_version  # noqa: PLC0415
    from nodeagent.proxying import remove_proxy  # noqa: PLC0415
    from nodeagent.wireguard.service import remove_tunnels  # noqa: PLC0415

    config = read_config(config_path)
    if not yes:
        click.confirm("Pods of this node will be without any policy. Go on?", abort=True)
    try:
        # A running agent would attach again what is taken off.
        with only_agent(config.state_dir):
            if current_version(config.bpffs) is not None:
                Datapath.open(datapath_config(config)).remove_all()
            remove_tunnels()
            remove_fence()
            remove_proxy(config.state_dir)
    except StalledError as error:
        fail(f"stop the agent first: {error}")
    except OSError as error:
        fail(why_not(error))
    except DatapathError as error:
        fail(str(error))
    click.echo("removed: this node enforces nothing")


main.add_command(bpf)
main.add_command(encrypt)
main.add_command(cni)
main.add_command(proxy)
main.add_command(trace)


if __name__ == "__main__":
    main()
