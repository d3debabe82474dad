"""The index of label sets, held to matching each by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from netpolicy.label_index import LabelIndex
from netpolicy.labels import Label, Labels, Operator, Requirement, selector

KEYS = st.sampled_from("abc")
VALUES = st.sampled_from(("", "x", "y"))
LABEL_SETS = st.lists(
    st.builds(Label, st.sampled_from(("any", "cidr", "k8s", "reserved")), KEYS, VALUES), max_size=4
).map(Labels)
REQUIREMENTS = st.builds(
    Requirement,
    source=st.sampled_from(("any", "k8s", "reserved")),
    key=KEYS,
    operator=st.sampled_from(Operator),
    values=st.lists(VALUES, max_size=2).map(tuple),
)
SELECTORS = st.lists(REQUIREMENTS, max_size=3).map(selector)


@given(label_sets=st.lists(LABEL_SETS, max_size=8), wanted=SELECTORS)
def test_the_index_finds_what_the_selector_matches(label_sets, wanted):
    index = LabelIndex(label_sets)
    found = [number for number, labels in enumerate(label_sets) if wanted.matches(labels)]
    assert list(index.matching(wanted)) == found
    assert index.matches_any(wanted) == bool(found)


@given(label_sets=st.lists(LABEL_SETS, max_size=8), wanted=SELECTORS)
def test_changing_an_answer_changes_no_later_one(label_sets, wanted):
    index = LabelIndex(label_sets)
    before = list(index.matching(wanted))
    index.matching(wanted).clear()
    assert list(index.matching(wanted)) == before
