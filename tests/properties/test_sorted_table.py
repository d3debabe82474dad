"""A table that is told of changes has what a sorted dictionary has."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpolicy import sorted_table
from netpolicy.sorted_table import SortedTable

keys = st.tuples(st.sampled_from("abcd"), st.sampled_from("xyz"))
changes = st.lists(st.tuples(st.sets(keys), st.dictionaries(keys, st.integers())), max_size=6)


@pytest.mark.parametrize("few", [0, 500])
@settings(deadline=None, max_examples=40)
@given(told=changes)
def test_values_are_in_the_order_of_their_keys(few: int, told: list[tuple[set, dict]]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sorted_table, "FEW", few)
        table: SortedTable[tuple[str, str], int] = SortedTable()
        plain: dict[tuple[str, str], int] = {}
        for gone, come in told:
            plain = {key: value for key, value in plain.items() if key not in gone} | come
            table.change(gone, come)
            assert table.values() == tuple(value for _, value in sorted(plain.items()))
            assert all((key in table) is (key in plain) for key in (*gone, *come))
