"""The control word keeps every slot that something reads; two judgements differ as a packet notices."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpolicy.evidence import Cause, Shadow
from nodeagent.datapath import Control, DatapathError, abi_numbers
from nodeagent.flows.columns import CAUSES
from nodeagent.plan.difference import difference
from nodeagent.plan.generation import Verdict
from nodeagent.plan.model import Judgement

slots = st.one_of(st.none(), st.integers(min_value=0, max_value=7))
words = st.builds(
    Control,
    revision=st.integers(min_value=0, max_value=(1 << 32) - 1),
    active=slots,
    candidate=slots,
    preview=slots,
    previous=slots,
)


@given(word=words, keep=st.frozensets(st.integers(min_value=0, max_value=7), max_size=3))
def test_a_spare_slot_is_one_that_nothing_reads(word: Control, keep: frozenset[int]) -> None:
    assert word.spare_slot(keep=keep) not in {
        word.active, word.candidate, word.preview, word.previous, *keep,
    }  # fmt: skip


def test_no_slot_is_spare_when_all_are_kept() -> None:
    with pytest.raises(DatapathError, match="taken"):
        Control(revision=0, active=0).spare_slot(keep=frozenset(range(8)))


@given(word=words, slot=st.integers(min_value=0, max_value=7))
def test_what_is_activated_is_no_shadow_any_more_and_other_shadows_stay(
    word: Control, slot: int
) -> None:
    after = word.activated(slot)
    assert after.active == slot
    for shadow in Shadow:
        before = word.slot_of(shadow)
        assert after.slot_of(shadow) == (None if before == slot else before)


@given(word=words, candidate=slots, preview=slots)
def test_setting_shadows_changes_nothing_that_is_enforced(
    word: Control, candidate: int | None, preview: int | None
) -> None:
    after = word.shadowed(candidate=candidate, preview=preview)
    assert (after.active, after.previous) == (word.active, word.previous)
    assert (after.slot_of(Shadow.CANDIDATE), after.slot_of(Shadow.PREVIEW)) == (candidate, preview)
    assert after.revision == (word.revision + 1) % (1 << 32)


def judgement(verdict: Verdict | None, *, allowed: bool = True) -> Judgement:
    return Judgement(allowed=allowed, verdict=verdict, because=None)


ALLOWED, BY_DEFAULT = judgement(Verdict.ALLOW), judgement(None)
REDIRECTED = judgement(Verdict.REDIRECT)
DENIED, ISOLATED = judgement(Verdict.DENY, allowed=False), judgement(None, allowed=False)


@pytest.mark.parametrize(
    ("enforced", "shadowed", "cause"),
    [
        (ALLOWED, DENIED, Cause.WOULD_DENY),
        (REDIRECTED, ISOLATED, Cause.WOULD_DENY),
        (ISOLATED, BY_DEFAULT, Cause.WOULD_ALLOW),
        (DENIED, REDIRECTED, Cause.WOULD_ALLOW),
        (ALLOWED, REDIRECTED, Cause.WOULD_REDIRECT),
        (REDIRECTED, BY_DEFAULT, Cause.WOULD_NOT_REDIRECT),
        (ALLOWED, BY_DEFAULT, None),
        (DENIED, ISOLATED, None),
        (REDIRECTED, REDIRECTED, None),
    ],
)
def test_a_difference_is_what_a_packet_would_notice(
    enforced: Judgement, shadowed: Judgement, cause: Cause | None
) -> None:
    assert difference(enforced, shadowed) is cause


def test_a_flow_reads_the_kernels_number_of_a_cause_as_the_kernel_means_it() -> None:
    assert (None, *map(abi_numbers.cause_of, range(1, len(CAUSES)))) == CAUSES
    assert len(CAUSES) == len(abi_numbers.CauseNumber)
