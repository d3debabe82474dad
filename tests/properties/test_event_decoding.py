"""Events decoded many at a time are what ctypes reads of each, wherever in the ring they stood."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.datapath import DatapathError, abi, packing
from nodeagent.datapath.event_ring import (
    BUSY,
    DISCARDED,
    HEADER_BYTES,
    committed,
    stride_of,
    without_discarded,
)
from nodeagent.datapath.events import EVENT_BYTES, RECORD_BYTES, EventColumns, EventDecoder

PADDING = RECORD_BYTES - HEADER_BYTES - EVENT_BYTES
EVENTS = st.lists(st.binary(min_size=EVENT_BYTES, max_size=EVENT_BYTES), max_size=20)


def records_of(events: list[bytes]) -> bytes:
    header = struct.pack("=II", EVENT_BYTES, 0)
    return b"".join(header + event + bytes(PADDING) for event in events)


def field_of(event: bytes, name: str) -> object:
    """What ctypes reads."""
    value = getattr(abi.Event.from_buffer_copy(event), name)
    return packing.unpack_address(bytes(value.bytes)) if isinstance(value, abi.Address) else value


@given(EVENTS)
def test_columns_are_what_ctypes_reads(events: list[bytes]) -> None:
    columns = EventDecoder().columns(records_of(events))
    for name, column in zip(columns._fields, columns, strict=True):
        assert list(column) == [field_of(event, name) for event in events]


def test_every_field_of_an_event_has_its_column() -> None:
    fields = [name for name, *_ in abi.Event._fields_ if name != "padding"]
    assert list(EventColumns._fields) == fields


STATES = st.sampled_from([0, 0, 0, BUSY, DISCARDED, BUSY | DISCARDED])


@given(st.lists(STATES, max_size=12), st.integers(1, 40))
def test_records_are_taken_up_to_the_first_that_is_not_committed(
    states: list[int], size: int
) -> None:
    lengths = [size | state for state in states]
    stride = stride_of(size)
    records = b"".join(bytes([index]) * stride for index in range(len(states)))
    whole = committed(lengths, size)
    assert whole == next((i for i, s in enumerate(states) if s & BUSY), len(states))
    taken = without_discarded(records[: whole * stride], lengths[:whole], stride)
    wanted = [i for i, s in enumerate(states[:whole]) if not s & DISCARDED]
    assert [taken[i] for i in range(0, len(taken), stride)] == wanted


@pytest.mark.parametrize("state", [0, DISCARDED])
def test_a_record_of_another_size_is_an_error(state: int) -> None:
    with pytest.raises(DatapathError, match="a record of 24 bytes"):
        committed([88, 24 | state], 88)
