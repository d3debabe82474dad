"""`nodeagent trace`: why a flow passes or not, by the maps and live; and what the kernel drops.

Shell. Exit codes with FROM TO PORT: 0 allowed, 1 denied, 2 it cannot be told here.
"""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

from netpolicy.errors import StalledError
from netpolicy.labels import parse_labels
from netpolicy.port_argument import parse_port
from netpolicy.rules import Protocol
from nodeagent.cli_options import asking_agent, read_config, socket_of, socket_option
from nodeagent.trace.cli import DropOptions, drop_filter, drop_options, follow_drops

if TYPE_CHECKING:
    from nodeagent.config import AgentConfig
    from nodeagent.explain.lookups import Explanation, Question
    from nodeagent.explain.names import Names
    from nodeagent.explain.render import Legend
    from nodeagent.explain.state import KernelState

CANNOT_TELL: Final = 2
_VERSION_OF: Final = {Protocol.ICMP: 4, Protocol.ICMPV6: 6}


@click.command("trace", short_help="Why a flow passes or not; live packets and drops.")
@click.argument("source", metavar="[FROM", required=False)
@click.argument("destination", metavar="TO", required=False)
@click.argument("port_text", metavar="PORT]", required=False)
@click.option(
    "--slot", type=click.Choice(["active", "candidate", "preview"]), default="active",
    show_default=True, help="Which of the loaded generations to ask.",
)  # fmt: skip
@click.option("-6", "--ipv6", is_flag=True, help="Of two dual-stack ends take the IPv6 addresses.")
@click.option("--live", is_flag=True, help="Then follow the flow's own packets, hook by hook.")
@click.option("--drops", is_flag=True, help="Follow kernel drops; so it is without FROM TO PORT.")
@click.option("--process", is_flag=True, help="Follow denied flows, each with who asked for it.")
@drop_options
@socket_option
def trace(
    *,
    source: str | None,
    destination: str | None,
    port_text: str | None,
    slot: str,
    ipv6: bool,
    live: bool,
    drops: bool,
    process: bool,
    socket: Path | None,
    config_path: Path,
    **given: Any,
) -> None:
    """Say what the kernel would do with a new flow, with every lookup in its maps.

    FROM and TO are addresses, NAMESPACE/POD or a node's name; PORT is 443, 53/udp or icmp/8. Only
    the pinned maps are read: the agent need not run, but only it knows which policy a cookie is.
    With --live follow the packets of such flows afterwards: device by device with the time from one
    to the next, our verdicts, the kernel's drop reasons, and the process that asked.

    With --process follow denied flows, with the process and container that made each.

    Without FROM TO PORT: follow live kernel drops, with reason and place. Policy denials appear as
    TC_INGRESS (what a pod sent) and TC_EGRESS (what was sent to it): `nodeagent flows` names their
    policy. Everything else is the kernel's own doing.

    With FROM TO PORT exits 0 if it would pass, 1 if not, 2 if it cannot be told here.

    \b
    Examples:
      nodeagent trace e-commerce/frontend e-commerce/catalog 8080
      nodeagent trace e-commerce/frontend 10.0.0.53 53/udp --live --duration 10
      nodeagent trace --process --pod e-commerce/frontend
      nodeagent trace --drops --count 20 -o json
    """
    options = DropOptions(**given)
    if source is not None and (drops or process):
        raise click.UsageError(
            "--drops and --process take no FROM TO PORT: narrow by --pod, --port"
        )
    if source is None:
        if live:
            raise click.UsageError("--live follows one flow: say FROM TO PORT")
        _follow(options, socket, config_path, process=process)
        return
    if destination is None or port_text is None:
        raise click.UsageError("FROM, TO and PORT belong together")
    explanation, legend = _explain(
        (source, destination, port_text), slot, ipv6, socket, config_path
    )
    _show(explanation, legend, as_json=options.output == "json")
    if live:
        _follow_path(explanation.question, options, socket_of(socket, config_path))
    raise SystemExit(_exit_code(explanation))


def _follow(options: DropOptions, socket: Path | None, config_path: Path, *, process: bool) -> None:
    """Drops of the node, or denied flows with their processes."""

    def resolve(name: str) -> tuple[str, ...]:
        return _pod_addresses(name, socket, config_path)

    if not process or options.prepare_headers:
        follow_drops(options, resolve)
        return
    from nodeagent.cli_live import show_denied_flows  # noqa: PLC0415

    wanted = drop_filter(options, resolve)
    show_denied_flows(wanted, options, socket_of(socket, config_path))


class _CannotFollowError(click.ClickException):
    """With the code of any other failure the answer would read as: denied."""

    exit_code = CANNOT_TELL


def _follow_path(question: Question, options: DropOptions, socket: Path) -> None:
    from nodeagent.cli_live import show_path  # noqa: PLC0415
    from nodeagent.trace.filters import DropFilter, networks  # noqa: PLC0415

    # An ICMP answer has another type than its question.
    is_icmp = question.protocol in _VERSION_OF
    wanted = DropFilter(
        pod=networks([question.source]),
        peer=networks([question.destination]),
        port=None if is_icmp else question.port,
        protocol=question.protocol,
    )
    try:
        show_path(wanted, options, socket)
    except click.ClickException as error:
        raise _CannotFollowError(error.message) from error


def _explain(
    flow: tuple[str, str, str], slot: str, ipv6: bool, socket: Path | None, config_path: Path
) -> tuple[Explanation, Legend]:
    from nodeagent.explain.lookups import explain_flow  # noqa: PLC0415
    from nodeagent.explain.names import read_names  # noqa: PLC0415
    from nodeagent.known_inputs import FEED_FILE  # noqa: PLC0415

    config = read_config(config_path, exit_code=CANNOT_TELL)
    names = read_names(config.inventory, config.state_dir / FEED_FILE)
    try:
        question = _question(flow, names, ipv6=ipv6)
    except StalledError as error:
        _cannot_tell(str(error))
    state = _read_state(config, slot)
    return explain_flow(state, question), _legend(state, names, socket_of(socket, config_path))


def _question(flow: tuple[str, str, str], names: Names, *, ipv6: bool) -> Question:
    """Two addresses of one family, and the port. Raises StalledError if there are none such."""
    from nodeagent.explain.lookups import Question  # noqa: PLC0415
    from nodeagent.explain.names import pair_of  # noqa: PLC0415

    source, destination, port_text = flow
    protocol, port = parse_port(port_text)
    ends = (names.addresses_of(source), names.addresses_of(destination))
    versions = (_VERSION_OF[protocol],) if protocol in _VERSION_OF else (6, 4) if ipv6 else (4, 6)
    pair = next((p for v in versions if (p := pair_of(*ends, version=v)) is not None), None)
    if pair is None:
        raise StalledError(f"{source} and {destination} have no addresses of one family for that")
    return Question(source=pair[0], destination=pair[1], protocol=protocol, port=port)


def _read_state(config: AgentConfig, slot: str) -> KernelState:
    from nodeagent.app import datapath_config  # noqa: PLC0415
    from nodeagent.datapath import Datapath, DatapathError  # noqa: PLC0415
    from nodeagent.explain.read import read_state  # noqa: PLC0415
    from nodeagent.explain.state import SlotKind  # noqa: PLC0415

    try:
        with closing(Datapath.open(datapath_config(config))) as datapath:
            state = read_state(datapath, SlotKind(slot))
    except DatapathError as error:
        _cannot_tell(f"the pinned maps cannot be read: {error}")
    if state.slot is None and state.kind is not SlotKind.ACTIVE:
        _cannot_tell(f"no {slot} generation is loaded")
    return state


def _legend(state: KernelState, names: Names, socket: Path) -> Legend:
    """What the agent can tell; without it names alone."""
    from nodeagent.cli_render import because_text  # noqa: PLC0415
    from nodeagent.explain.render import Legend  # noqa: PLC0415
    from nodeagent.local_api_client import AgentUnreachable, open_agent  # noqa: PLC0415
    from nodeagent.local_api_messages import rule_of  # noqa: PLC0415
    from nodeagent.policy_rows import identity_text  # noqa: PLC0415

    try:
        with open_agent(socket) as agent:
            identities = {
                i.number: identity_text(parse_labels(i.labels), i.number)
                for i in agent.identities().identities
            }
            told = agent.attributions(state.generation_digest)
    except AgentUnreachable as error:
        click.echo(f"nodeagent: policies and labels stay numbers: {error}", err=True)
        return Legend(names=names)
    causes = {a.cookie: because_text(map(rule_of, a.rules), a.outcome) for a in told.attributions}
    return Legend(names=names, identities=identities, causes=causes)


def _show(explanation: Explanation, legend: Legend, *, as_json: bool) -> None:
    from nodeagent.explain.render import explanation_data, explanation_lines  # noqa: PLC0415

    if as_json:
        click.echo(json.dumps(explanation_data(explanation, legend), indent=2))
    else:
        click.echo("\n".join(explanation_lines(explanation, legend)))


def _exit_code(explanation: Explanation) -> int:
    from nodeagent.explain.lookups import Answer  # noqa: PLC0415

    return {Answer.ALLOWED: 0, Answer.DENIED: 1, Answer.CANNOT_TELL: CANNOT_TELL}[
        explanation.answer
    ]


def _cannot_tell(message: str) -> NoReturn:
    click.echo(f"nodeagent: {message}", err=True)
    raise SystemExit(CANNOT_TELL)


def _pod_addresses(name: str, socket: Path | None, config_path: Path) -> tuple[str, ...]:
    """The addresses of a pod of this node, by the agent's list; none for an unknown one."""
    with asking_agent(socket, config_path) as agent:
        return tuple(
            address
            for endpoint in agent.endpoints().endpoints
            if f"{endpoint.namespace}/{endpoint.pod}" == name
            for address in endpoint.addresses
        )
