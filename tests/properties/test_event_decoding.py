"""Events decoded many at a time are what ctypes reads of each, wherever in the ring they stood."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.datapath import abi, packing
from nodeagent.datapath.abi_numbers import EVENT_RECORDS
from nodeagent.datapath.event_ring import runs_of, whole_records
from nodeagent.datapath.events import EVENT_BYTES, EventColumns, EventDecoder

EVENTS = st.lists(st.binary(min_size=EVENT_BYTES, max_size=EVENT_BYTES), max_size=20)


def records_of(events: list[bytes]) -> bytes:
    return b"".join(
        struct.pack("=Q", number) + event for number, event in enumerate(events, start=1)
    )


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


@given(st.integers(0, 3 * EVENT_RECORDS), st.lists(st.booleans(), max_size=12))
def test_records_are_whole_up_to_the_first_of_an_earlier_lap(
    taken: int, written: list[bool]
) -> None:
    numbers = [
        taken + 1 + index - (0 if is_written else EVENT_RECORDS)
        for index, is_written in enumerate(written)
    ]
    first = written.index(False) if False in written else len(written)
    assert whole_records(numbers, after=taken) == first


@given(st.integers(0, 3 * EVENT_RECORDS), st.integers(0, EVENT_RECORDS))
def test_runs_go_on_at_the_ring_s_begin(taken: int, count: int) -> None:
    places = [at for run in runs_of(taken, count) for at in run]
    assert places == [(taken + index) % EVENT_RECORDS for index in range(count)]
