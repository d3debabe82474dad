"""Many flows as columns: what takes little to keep, filter and send.

In:   columns, and the tables that some of them point into
Out:  fewer of their rows; FlowRecords
Pure. Frozen values.

Holds always:
1. All columns are equally long, and every index points into its table.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Final, NamedTuple, TypeVar

from netpolicy.evaluate import Outcome
from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict, Occasion, TcpFlag
from netpolicy.http_flow import HttpExchange
from netpolicy.rules import Direction, RuleId

CAUSES: Final = (None, *(cause for cause in Cause if cause is not Cause.NOT_OBSERVED))
"""What the numbers of the column `cause` stand for."""

_Key = TypeVar("_Key", bound=Hashable)


class IndexOf(dict[_Key, int]):
    """Key → its place in the order in which keys were first asked for."""

    def __missing__(self, key: _Key) -> int:
        place = self[key] = len(self)
        return place


class Because(NamedTuple):
    """Why a verdict was given, under which revision."""

    revision: int
    commit: str = ""
    outcome: Outcome | None = None
    rules: tuple[RuleId, ...] = ()


class FlowRows(NamedTuple):
    """One value a flow in each. `source` and `destination` are indices of ends, `because` of causes.

    `http` is the place of its exchange, counted from 1 (0: none). One-byte columns may be bytes.
    """

    time_ns: Sequence[int] = ()
    source: Sequence[int] = ()
    destination: Sequence[int] = ()
    because: Sequence[int] = ()
    endpoint_id: Sequence[int] = ()
    source_port: Sequence[int] = ()
    destination_port: Sequence[int] = ()
    drop_reason: Sequence[int] = b""
    direction: Sequence[int] = b""
    protocol: Sequence[int] = b""
    tcp_flags: Sequence[int] = b""
    icmp_type: Sequence[int] = b""
    icmp_code: Sequence[int] = b""
    is_reply: Sequence[int] = b""
    shadow: Sequence[int] = b""
    cause: Sequence[int] = b""
    occasion: Sequence[int] = b""
    packets: Sequence[int] = ()
    bytes: Sequence[int] = ()
    reply_packets: Sequence[int] = ()
    reply_bytes: Sequence[int] = ()
    encrypted: Sequence[int] = b""
    redirected: Sequence[int] = b""
    http: Sequence[int] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowColumns:
    """Flows of one node. `ends` are without ports."""

    node: str
    ends: tuple[FlowEnd, ...]
    causes: tuple[Because, ...]
    rows: FlowRows
    exchanges: tuple[HttpExchange, ...] = ()

    def __len__(self) -> int:
        return len(self.rows.time_ns)

    def verdict(self, row: int) -> FlowVerdict:
        """What became of a row's packet."""
        if self.rows.shadow[row]:
            return FlowVerdict.AUDIT
        if self.rows.drop_reason[row]:
            return FlowVerdict.DROPPED
        return FlowVerdict.REDIRECTED if self.rows.redirected[row] else FlowVerdict.FORWARDED

    def select(self, wanted: Sequence[bool]) -> FlowColumns:
        """The rows that are wanted, with no more of the tables than they need."""
        if all(wanted):
            return self
        rows = FlowRows._make(_compressed(column, wanted) for column in self.rows)
        ends, causes, exchanges = IndexOf[int](), IndexOf[int](), IndexOf[int]()
        rows = rows._replace(
            source=[ends[end] for end in rows.source],
            destination=[ends[end] for end in rows.destination],
            because=[causes[cause] for cause in rows.because],
            http=[place and exchanges[place - 1] + 1 for place in rows.http],
        )
        return replace(
            self,
            ends=tuple(self.ends[end] for end in ends),
            causes=tuple(self.causes[cause] for cause in causes),
            rows=rows,
            exchanges=tuple(self.exchanges[exchange] for exchange in exchanges),
        )

    def last(self, count: int) -> FlowColumns:
        """So many of the newest."""
        surplus = len(self) - count
        return self.select([index >= surplus for index in range(len(self))])

    def records(self) -> Iterable[FlowRecord]:
        """Each flow as a value."""
        return map(self._record, range(len(self)))

    def _record(self, row: int) -> FlowRecord:
        rows = self.rows
        because = self.causes[rows.because[row]]
        return FlowRecord(
            time_ns=rows.time_ns[row],
            node=self.node,
            verdict=self.verdict(row),
            direction=Direction(rows.direction[row]),
            source=replace(self.ends[rows.source[row]], port=rows.source_port[row]),
            destination=replace(self.ends[rows.destination[row]], port=rows.destination_port[row]),
            protocol=rows.protocol[row],
            drop_reason=rows.drop_reason[row],
            is_reply=bool(rows.is_reply[row]),
            tcp_flags=TcpFlag(rows.tcp_flags[row]),
            icmp_type=rows.icmp_type[row],
            icmp_code=rows.icmp_code[row],
            policies=because.rules,
            outcome=because.outcome,
            revision=because.revision,
            commit=because.commit,
            endpoint_id=rows.endpoint_id[row],
            shadow=Shadow(rows.shadow[row]) if rows.shadow[row] else None,
            cause=CAUSES[rows.cause[row]],
            occasion=Occasion(rows.occasion[row]),
            packets=rows.packets[row],
            bytes=rows.bytes[row],
            reply_packets=rows.reply_packets[row],
            reply_bytes=rows.reply_bytes[row],
            encrypted=bool(rows.encrypted[row]),
            http=self.exchanges[rows.http[row] - 1] if rows.http[row] else None,
        )


def last_flows(batches: Iterable[FlowColumns], count: int) -> tuple[FlowColumns, ...]:
    """The newest flows of all batches, so many of them (0: all), oldest first."""
    kept: list[FlowColumns] = []
    room = count
    for flows in reversed([flows for flows in batches if flows]):
        if count and not room:
            break
        chosen = flows.last(room) if count and len(flows) > room else flows
        kept.append(chosen)
        room -= len(chosen)
    return tuple(reversed(kept))


def _compressed(column: Sequence[int], wanted: Sequence[bool]) -> Sequence[int]:
    kept = compress(column, wanted)
    return bytes(kept) if isinstance(column, bytes) else list(kept)
