"""Every reason that the kernel can give has a text and a name."""

from __future__ import annotations

from netpolicy.drop_reasons import DROP_REASONS, drop_reason
from nodeagent.datapath import Reason


def test_every_reason_of_the_datapath_is_explained():
    assert {int(reason) for reason in Reason if reason} <= DROP_REASONS.keys()


def test_names_and_texts_are_unique():
    assert len({reason.name for reason in DROP_REASONS.values()}) == len(DROP_REASONS)
    assert len({reason.text for reason in DROP_REASONS.values()}) == len(DROP_REASONS)


def test_an_unknown_reason_still_says_its_number():
    assert "77" in drop_reason(77).text
