"""The JSON lines between the command and its probe: one question in, answers out.

In/Out: Question, and the answers Ready, Dropped, Seen, Lost, Refused
Pure. Each is one line; an unknown kind or field raises ValueError.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from ipaddress import IPv6Network
from typing import Any

from netpolicy.rules import Protocol
from nodeagent.trace.filters import DropFilter, Networks, View
from nodeagent.trace.missing import Missing
from nodeagent.trace.records import Drop
from nodeagent.trace.sightings import Process, Sighting


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What to trace and for how long; 0 drops (or sightings) or 0 seconds set no limit."""

    wanted: DropFilter
    view: View = View.DROPS
    drops: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """The program is attached: drops from now on are seen."""


@dataclass(frozen=True, slots=True)
class Dropped:
    """A drop that was asked for."""

    drop: Drop


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet, or its socket, somewhere on its way."""

    sighting: Sighting


@dataclass(frozen=True, slots=True)
class Lost:
    """So many drops that were asked for, in all, did not fit into the ring buffer."""

    drops: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Tracing is not possible here."""

    missing: Missing


Answer = Ready | Dropped | Seen | Lost | Refused


def encode_question(question: Question) -> str:
    """One line, without its line break."""
    wanted = question.wanted
    fields = {
        "pod": _texts(wanted.pod),
        "peer": _texts(wanted.peer),
        "port": wanted.port,
        "protocol": wanted.protocol,
        "view": question.view.value,
        "drops": question.drops,
        "seconds": question.seconds,
    }
    return json.dumps(fields)


def decode_question(line: str) -> Question:
    """Read the probe's one line of input."""
    fields = _object(line)
    protocol = fields["protocol"]
    wanted = DropFilter(
        pod=_networks(fields["pod"]),
        peer=_networks(fields["peer"]),
        port=fields["port"],
        protocol=None if protocol is None else Protocol(protocol),
    )
    return Question(
        wanted=wanted,
        view=View(fields["view"]),
        drops=fields["drops"],
        seconds=fields["seconds"],
    )


def encode_answer(answer: Answer) -> str:
    """One line, without its line break."""
    match answer:
        case Ready():
            return json.dumps({"kind": "ready"})
        case Dropped(drop):
            return json.dumps({"kind": "drop", **asdict(drop)})
        case Seen(sighting):
            return json.dumps({"kind": "seen", **asdict(sighting)})
        case Lost(drops):
            return json.dumps({"kind": "lost", "drops": drops})
        case Refused(missing):
            return json.dumps({"kind": "refused", **asdict(missing)})


def decode_answer(line: str) -> Answer:
    """Read one line of the probe's output."""
    fields = _object(line)
    kind = fields.pop("kind", None)
    try:
        match kind:
            case "ready":
                return Ready()
            case "drop":
                return Dropped(Drop(**fields))
            case "seen":
                return Seen(_sighting(fields))
            case "lost":
                return Lost(fields["drops"])
            case "refused":
                return Refused(Missing(**fields))
    except (TypeError, KeyError) as error:
        raise ValueError(f"a {kind} of unknown shape: {line!r}") from error
    raise ValueError(f"an answer of unknown kind: {line!r}")


def _sighting(fields: dict[str, Any]) -> Sighting:
    process = fields.pop("process")
    seen = Drop(**fields.pop("seen"))
    return Sighting(seen=seen, process=Process(**process) if process else None, **fields)


def _object(line: str) -> dict[str, Any]:
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError(f"not an object: {line!r}")
    return fields


def _texts(networks: Networks | None) -> list[str] | None:
    return None if networks is None else [str(network) for network in networks]


def _networks(texts: list[str] | None) -> Networks | None:
    return None if texts is None else tuple(IPv6Network(text) for text in texts)
