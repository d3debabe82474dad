"""Documents keep what they hold and where it stands, however small they are kept."""

from __future__ import annotations

from netpolicy.document import Document
from netpolicy.yaml_reader import Limits, read_documents

TEXT = b"""\
\xef\xbb\xbfa: {b: [1, two, ~, .inf, -3.5, yes]}\r
c:\r
  - text that goes
    on
  - {d: }
"""


def document(data: bytes = TEXT, *, limits: Limits | None = None) -> Document:
    (found,), faults = read_documents("p.yaml", data, limits=limits or Limits())
    assert not faults
    return found


def places(found: Document) -> dict[object, tuple[object, ...]]:
    return {path: (found.place(path), found.key_place(path)) for path in found.values}


def test_a_compacted_document_has_the_same_values_and_places():
    usual, compact = document(), document()
    compact.compact()
    assert compact.value == usual.value
    compact.compact()
    assert places(compact) == places(usual)
    assert compact.place(("c", 0)) == usual.place(("c", 0))
    assert usual.place(("c", 0)).length == len("text that goes")
    assert usual.excerpt(1) == "a: {b: [1, two, ~, .inf, -3.5, yes]}"


def test_places_are_the_same_before_and_after_an_index_is_made_of_them():
    found = document(b"".join(b"- {a: %d}\n" % number for number in range(900)))
    first = found.place((450, "a"))
    for number in range(900):
        assert found.place((number, "a")).line == number + 1
    assert found.place((450, "a")) == first
    assert found.place((450, "b")) == found.place((450,))
    assert found.key_place((450, "a")).column == 4


def test_lines_beyond_what_a_short_number_holds_are_found():
    limits = Limits(size_bytes=1 << 20)
    found = document(b"a: 1\n" + b"\n" * 70_000 + b"b: 2\n", limits=limits)
    assert found.place(("b",)).line == 70_002
