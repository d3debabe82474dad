"""The baseline of the flows benchmark: each event by itself becomes objects.

In:   the records of a reading
Out:  a FlowRecord an event
Pure.
"""

from __future__ import annotations

from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict, TcpFlag
from netpolicy.rules import Direction
from nodeagent.datapath import abi, packing
from nodeagent.datapath.event_ring import RECORD_BYTES


def flow_records(records: bytes) -> list[FlowRecord]:
    """Every record, one after another."""
    return [_record(records, at) for at in range(0, len(records), RECORD_BYTES)]


def _record(records: bytes, at: int) -> FlowRecord:
    event = abi.EventRecord.from_buffer_copy(records, at).event
    egress = event.direction == Direction.EGRESS
    return FlowRecord(
        time_ns=event.time_ns,
        node="bench",
        verdict=FlowVerdict.DROPPED if event.reason else FlowVerdict.FORWARDED,
        direction=Direction(event.direction),
        source=FlowEnd(
            identity=event.local_identity if egress else event.remote_identity,
            address=packing.unpack_address(bytes(event.source.bytes)),
            port=event.source_port,
        ),
        destination=FlowEnd(
            identity=event.remote_identity if egress else event.local_identity,
            address=packing.unpack_address(bytes(event.destination.bytes)),
            port=event.destination_port,
        ),
        protocol=event.protocol,
        tcp_flags=TcpFlag(event.tcp_flags),
        revision=event.revision,
        endpoint_id=event.endpoint_id,
    )
