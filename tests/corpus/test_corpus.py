"""The corpora as judges, where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.corpus import JUDGES
from tests.support.corpus_page import PAGE, page
from tests.support.corpus_report import as_text, is_clean

CORPUS = Path(__file__).parents[3] / "shared" / "corpus"


@pytest.mark.slow
@pytest.mark.parametrize("kind", JUDGES)
def test_every_difference_from_the_corpus_is_declared(kind: str) -> None:
    folder = CORPUS / kind
    if not folder.is_dir():
        pytest.skip("the corpus is not here")
    report = JUDGES[kind](folder)
    assert report.answers
    assert is_clean([report]), as_text([report], shown=3)


def test_the_page_of_differences_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m tests.support.corpus_page"
