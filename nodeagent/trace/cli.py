"""`nodeagent trace`: follow live kernel drops of the packets that were asked for.

In:   options; a resolver of pod names, given by whoever assembles the command line
Out:  a line for each drop; exit code 1 if this node cannot trace, and what to do about it
A shell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

import click

from netpolicy.rules import LAST_PORT, Protocol
from nodeagent.trace.filters import DropFilter, Networks, networks
from nodeagent.trace.headers import HeaderPlaces, prepare_headers
from nodeagent.trace.messages import Answer, Dropped, Lost, Question, Ready, Refused
from nodeagent.trace.missing import Missing
from nodeagent.trace.records import Drop, render
from nodeagent.trace.session import ProbeDied, answers

ResolvePod = Callable[[str], tuple[str, ...]]
"""NAMESPACE/NAME → addresses; none for an unknown pod; raises click.ClickException if it cannot ask."""


def drop_options(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which drops are meant, and when to end."""
    for option in reversed((
        click.option(
            "--pod", metavar="NAMESPACE/NAME", help="One end: a pod, an address or a block."
        ),
        click.option(
            "--peer", metavar="ADDRESS", help="The other end: an address, a block or a pod."
        ),
        click.option("--port", type=click.IntRange(0, LAST_PORT), help="Either port; ICMP: the type."),
        click.option("--protocol", type=click.Choice([p.word for p in Protocol]), help="Only this one."),
        click.option("--count", type=click.IntRange(0), default=0, help="End after so many lines."),
        click.option(
            "--duration", type=click.FloatRange(0), default=0.0, help="End after so many seconds."
        ),
        click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text",
                     help="For people, or for machines."),
        click.option(
            "--prepare-headers", is_flag=True, help="Make the tree of kernel headers, and end."
        ),
    )):  # fmt: skip
        command = option(command)
    return command


@dataclass(frozen=True, slots=True, kw_only=True)
class DropOptions:
    """What `drop_options` were given."""

    pod: str | None
    peer: str | None
    port: int | None
    protocol: str | None
    count: int
    duration: float
    output: str
    prepare_headers: bool


def trace_command(resolve_pod: ResolvePod) -> click.Command:
    """A command of its own, with pod names resolved by the caller's list of endpoints."""

    @click.command("trace")
    @drop_options
    def trace(**given: Any) -> None:
        """Follow live kernel drops, with reason and place, of the packets that were asked for."""
        follow_drops(DropOptions(**given), resolve_pod)

    return trace


def follow_drops(given: DropOptions, resolve_pod: ResolvePod) -> None:
    """Show drops until there were enough, or the time is over."""
    if given.prepare_headers:
        _prepare()
        return
    wanted = drop_filter(given, resolve_pod)
    question = Question(wanted=wanted, drops=given.count, seconds=given.duration)
    _follow(question, as_json=given.output == "json")


def drop_filter(given: DropOptions, resolve_pod: ResolvePod) -> DropFilter:
    """What the options ask for."""
    return DropFilter(
        pod=_networks(given.pod, resolve_pod, "--pod"),
        peer=_networks(given.peer, resolve_pod, "--peer"),
        port=given.port,
        protocol=Protocol[given.protocol.upper()] if given.protocol else None,
    )


def _networks(text: str | None, resolve_pod: ResolvePod, option: str) -> Networks | None:
    """What an option names; a name that stands for no address is refused, not read as "any"."""
    if text is None:
        return None
    try:
        return networks([text])
    except ValueError:
        pass  # no address and no block: a pod's name
    if text.count("/") != 1:
        raise click.BadParameter(
            f"{text!r} is no address, no block, no NAMESPACE/NAME", param_hint=option
        )
    addresses = resolve_pod(text)
    if not addresses:
        raise click.BadParameter(f"no pod {text} is known here", param_hint=option)
    return networks(addresses)


def _prepare() -> None:
    try:
        prepared = prepare_headers(HeaderPlaces())
    except OSError as error:
        raise click.ClickException(f"cannot make the tree of headers: {error}") from error
    if isinstance(prepared, Missing):
        raise click.ClickException(str(prepared))
    click.echo(f"kernel headers are ready in {prepared}")


def _follow(question: Question, *, as_json: bool) -> None:
    conversation = answers(question)
    try:
        for answer in conversation:
            _show(answer, as_json=as_json)
    except ProbeDied as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("", err=True)
    finally:
        conversation.close()


def _show(answer: Answer, *, as_json: bool) -> None:
    match answer:
        case Ready():
            click.echo("tracing kernel drops; Ctrl-C ends", err=True)
        case Dropped(drop):
            click.echo(json.dumps(asdict(drop)) if as_json else render(drop, clock=_clock(drop)))
            sys.stdout.flush()
        case Lost(drops) if drops:
            click.echo(f"{drops} drops came too fast and are not shown", err=True)
        case Refused(missing):
            raise click.ClickException(str(missing))
        case _:
            pass


def _clock(drop: Drop) -> str:
    return datetime.fromtimestamp(drop.time).strftime("%H:%M:%S.%f")[:-3]


def _no_agent(_name: str) -> tuple[str, ...]:
    raise click.ClickException(
        "pod names need the agent: give an address, or use `nodeagent trace`"
    )


trace = trace_command(_no_agent)
"""The command by itself, for addresses only: `python -m nodeagent.trace.cli`."""

if __name__ == "__main__":
    trace()
