"""What `nodeagent trace --live` and `--process` print: the joined stream, line by line.

In:   which packets, how long, the agent's socket
Out:  lines for people, or one JSON object a line; notes on standard error
Shell.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from netpolicy.flow import FlowRecord, flow_json, flow_text
from nodeagent.flows.filters import FlowFilter
from nodeagent.live_trace import AgentSilent, Item, denied_flows, live_items
from nodeagent.trace.cli import DropOptions
from nodeagent.trace.denied import Denied
from nodeagent.trace.filters import DropFilter, View
from nodeagent.trace.messages import Lost, Question, Ready, Refused, Seen
from nodeagent.trace.session import ProbeDied
from nodeagent.trace.sightings import process_text, render_sighting

_READY = {
    View.PATH: "following the packets of this flow; Ctrl-C ends",
    View.PROCESSES: "following denied flows; Ctrl-C ends",
}


def show_path(wanted: DropFilter, options: DropOptions, socket: Path) -> None:
    """Every sighting of the flow's packets, and what the agent tells of the flow."""
    question = _question(wanted, View.PATH, options)
    items = live_items(question, socket, FlowFilter(), lambda flow: _is_meant(flow, wanted))
    _print_all(items, options, View.PATH)


def show_denied_flows(wanted: DropFilter, options: DropOptions, socket: Path) -> None:
    """Denied flows, each with the process that opened it."""
    # The limit is of flows, not of the processes that are met meanwhile.
    question = Question(wanted=wanted, view=View.PROCESSES, seconds=options.duration)
    denials = FlowFilter(verdicts=frozenset({"DROPPED"}))
    items = live_items(question, socket, denials, lambda flow: _is_meant(flow, wanted))
    with closing(items):
        _print_all(_first(denied_flows(items), options.count), options, View.PROCESSES)


def _question(wanted: DropFilter, view: View, options: DropOptions) -> Question:
    return Question(wanted=wanted, view=view, drops=options.count, seconds=options.duration)


def _is_meant(flow: FlowRecord, wanted: DropFilter) -> bool:
    ports = (flow.source.port, flow.destination.port or flow.icmp_type)
    return wanted.matches(flow.source.address, flow.destination.address, ports, flow.protocol)


def _first(items: Iterable[Item | Denied], count: int) -> Iterator[Item | Denied]:
    """Up to so many denied flows; 0 sets no limit."""
    shown = 0
    for item in items:
        yield item
        shown += isinstance(item, Denied)
        if count and shown == count:
            return


def _print_all(items: Iterable[Item | Denied | None], options: DropOptions, view: View) -> None:
    try:
        for item in items:
            _print(item, as_json=options.output == "json", view=view)
            sys.stdout.flush()
    except ProbeDied as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        click.echo("", err=True)


def _print(item: Item | Denied | None, *, as_json: bool, view: View) -> None:
    match item:
        case Ready():
            click.echo(_READY[view], err=True)
        case Seen(sighting):
            clock = _clock(sighting.seen.time)
            text = render_sighting(sighting, clock=clock)
            click.echo(json.dumps(asdict(sighting)) if as_json else text)
        case Denied(flow, process):
            fields = flow_json(flow) | {"process": asdict(process) if process else None}
            whose = process_text(process) or "process not seen"
            click.echo(json.dumps(fields) if as_json else f"{flow_text(flow)}  by {whose}")
        case FlowRecord():
            said = flow_text(item).split(": ", 1)[-1]
            text = f"{_clock(item.time_ns / 1e9)}  {'verdict':<21}   {said}"
            click.echo(json.dumps(flow_json(item)) if as_json else text)
        case _:
            _note(item)


def _note(item: Any) -> None:
    """What concerns the trace itself, not the traffic."""
    match item:
        case AgentSilent(message=message):
            click.echo(f"nodeagent: no verdicts are shown: {message}", err=True)
        case Lost(drops) if drops:
            click.echo(f"{drops} records came too fast and are not shown", err=True)
        case Refused(missing):
            raise click.ClickException(str(missing))
        case _:
            pass


def _clock(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%H:%M:%S.%f")
