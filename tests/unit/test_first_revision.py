"""What a start without state takes agents' word for, and what not."""

from __future__ import annotations

from pathlib import Path

import pytest

from nodeagent.receive.config import LONGEST_RETRY_SECONDS
from reconciler.config import DEFAULT_AGENTS_PATIENCE_SECONDS
from reconciler.first_revision import FirstRevision
from reconciler.sign import HeldReader
from reconciler.surroundings import NOTHING_REMEMBERED
from tests.support.push_fleet import make_keys
from tests.unit.test_withdrawals import FIRST, SECOND, held


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("first") / "keys", nodes=())


def asking(keys: Path) -> FirstRevision:
    return FirstRevision(HeldReader(keys), is_asking=lambda: True, all_spoke=lambda: True)


def test_the_highest_publication_that_an_agent_holds_counts(keys: Path) -> None:
    first = asking(keys)
    for sequence, withdrawn in ((101, ""), (103, SECOND), (102, "")):
        first.hear(held(keys, withdrawn=withdrawn, sequence=sequence))
    known = first.remembered
    assert (known.stable, known.sequence) == (FIRST, 103)
    assert known.taken_back == known.learnt == (SECOND,)


def test_what_our_keys_did_not_sign_is_nobodys_word(keys: Path, tmp_path: Path) -> None:
    first = asking(keys)
    for word in (b"", b"{}", held(make_keys(tmp_path / "others", nodes=()))):
        first.hear(word)
    assert first.remembered == NOTHING_REMEMBERED


def test_who_knows_what_is_enforced_asks_nobody(keys: Path, tmp_path: Path) -> None:
    first = FirstRevision(
        HeldReader(tmp_path / "none"), is_asking=lambda: False, all_spoke=lambda: True
    )
    first.hear(held(keys))
    assert first.remembered == NOTHING_REMEMBERED


def test_every_agent_dials_again_before_the_wait_is_over() -> None:
    assert LONGEST_RETRY_SECONDS < DEFAULT_AGENTS_PATIENCE_SECONDS
