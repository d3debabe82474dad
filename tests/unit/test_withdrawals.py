"""What a leader learns from agents of revisions that were taken back without its knowledge."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from netpolicy.terms import decode_terms
from reconciler.rollout.carrying_on import OnItsWay
from reconciler.rollout.machine import Phase
from reconciler.sign import Held, HeldReader, Signer, read_held, sign_publication
from reconciler.surroundings import NOTHING_REMEMBERED, Remembered
from reconciler.withdrawals import BEGINS_ANEW, Withdrawals, remembering
from tests.support.push_fleet import make_keys, unit_of

FIRST, SECOND, THIRD = ("1" * 40, "2" * 40, "3" * 40)
WAY = OnItsWay(revision=THIRD, stable=SECOND, phase=Phase.SHADOW, stage=0, stages=("shadow",))
KNOWN = Remembered(stable=SECOND, sequence=100)
WORD = Held(sequence=101, withdrawn=SECOND, stable=FIRST)


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("withdrawals") / "keys", nodes=())


def held(keys: Path, *, withdrawn: str = SECOND, sequence: int = 101) -> bytes:
    """What an agent keeps of a publication."""
    unit = unit_of("shop", "a")
    publication = sign_publication(
        None,
        units={unit.namespace: unit},
        revision=FIRST,
        sequence=sequence,
        signer=Signer.load(keys),
        now=datetime.now(UTC),
        withdrawn=withdrawn,
    )
    assert publication.terms.withdrawn == withdrawn
    return next(
        data for name, data in publication.metadata.items() if name.endswith(".targets.json")
    )


def test_a_withdrawal_that_our_keys_signed_is_read(keys: Path) -> None:
    assert read_held(held(keys), Signer.load(keys).root) == WORD


def test_nobody_else_can_make_one(keys: Path, tmp_path: Path) -> None:
    root = Signer.load(keys).root
    others = make_keys(tmp_path / "others", nodes=())
    document = json.loads(held(keys, withdrawn=""))
    document["signed"]["custom"]["withdrawn"] = SECOND
    for word in (held(others), json.dumps(document).encode(), b"", b"{}", b"\xff", b"[]"):
        assert read_held(word, root) is None


def test_terms_say_what_is_taken_back_only_if_something_is(keys: Path) -> None:
    plain = json.loads(held(keys, withdrawn=""))["signed"]["custom"]
    assert "withdrawn" not in plain, "bundles of before are read as they are"
    with pytest.raises(Exception, match="withdrawn is missing or ill-formed"):
        decode_terms({**plain, "withdrawn": "HEAD"})


def test_what_was_undone_is_remembered_as_undone() -> None:
    learnt = remembering(KNOWN, WORD)
    assert learnt is not None
    assert (learnt.stable, learnt.taken_back, learnt.learnt) == (FIRST, (SECOND,), (SECOND,))
    assert learnt.sequence == 101
    assert remembering(learnt, WORD) is None, "the same word again"


def test_what_was_on_its_way_goes_with_what_it_rests_on() -> None:
    learnt = remembering(replace(KNOWN, on_its_way=WAY), WORD)
    assert learnt is not None
    assert (learnt.taken_back, learnt.on_its_way) == ((SECOND, THIRD), None)
    aborted = replace(WORD, withdrawn=THIRD, stable=SECOND)
    learnt = remembering(replace(KNOWN, on_its_way=WAY), aborted)
    assert learnt is not None
    assert (learnt.stable, learnt.taken_back, learnt.on_its_way) == (SECOND, (THIRD,), None)


def test_of_several_withdrawals_the_last_says_what_is_enforced() -> None:
    """Both were taken back, one after the other; a node holds the second word alone."""
    learnt = remembering(KNOWN, Held(sequence=102, withdrawn=FIRST, stable=THIRD))
    assert learnt is not None
    assert (learnt.stable, learnt.taken_back) == (THIRD, (FIRST, SECOND))


def test_what_a_person_went_back_to_is_not_taken_back_any_more() -> None:
    learnt = remembering(replace(KNOWN, taken_back=(FIRST,)), WORD)
    assert learnt is not None
    assert (learnt.stable, learnt.taken_back) == (FIRST, (SECOND,))


@pytest.mark.parametrize("known", [NOTHING_REMEMBERED, replace(KNOWN, sequence=101)])
def test_an_older_word_than_the_objects_is_no_news(known: Remembered) -> None:
    assert remembering(known, WORD) is None


def test_a_leader_that_announced_nothing_yet_only_takes_note(keys: Path) -> None:
    learns = Withdrawals(KNOWN, HeldReader(keys), first_announced=lambda: 0)
    assert learns.hear(held(keys)) == ""
    assert learns.remembered.stable == FIRST
    assert not learns.is_overruled


def test_a_leader_that_announced_it_begins_anew(keys: Path) -> None:
    learns = Withdrawals(KNOWN, HeldReader(keys), first_announced=lambda: 200)
    assert learns.hear(b"whatever") == ""
    assert learns.hear(held(keys)) == BEGINS_ANEW
    assert learns.is_overruled
    assert learns.hear(held(keys)) == BEGINS_ANEW, "nobody is served meanwhile"


def test_a_leaders_own_withdrawals_are_no_news_to_it(keys: Path) -> None:
    learns = Withdrawals(KNOWN, HeldReader(keys), first_announced=lambda: 101)
    assert learns.hear(held(keys)) == ""
    assert not learns.is_overruled


def test_a_leader_with_state_of_its_own_has_nothing_to_learn(keys: Path, tmp_path: Path) -> None:
    nowhere = HeldReader(tmp_path / "none")
    learns = Withdrawals(NOTHING_REMEMBERED, nowhere, first_announced=lambda: 0)
    assert learns.hear(held(keys)) == "", "not even the keys are read"


def test_the_same_word_of_many_nodes_is_verified_once(keys: Path, tmp_path: Path) -> None:
    moved = tmp_path / "keys"
    shutil.copytree(keys, moved)
    learns = Withdrawals(KNOWN, HeldReader(moved), first_announced=lambda: 200)
    word = held(keys)
    assert learns.hear(word) == BEGINS_ANEW
    shutil.rmtree(moved)
    assert learns.hear(word) == BEGINS_ANEW
