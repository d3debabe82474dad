"""Run Tidegate on a conformance corpus: `python -m tests.support.corpus DIR`.

In:   a folder with acceptance/, verdicts/, cyclonus/ or field/ in it, or one of these itself
Out:  how far both agree, by kind and by feature, and the first open disagreements
Exit: 0 if every difference is declared, 1 if not, 2 if there is nothing to run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from tests.support import corpus_acceptance, corpus_cyclonus
from tests.support.corpus_acceptance import judge_acceptance
from tests.support.corpus_cyclonus import judge_cyclonus
from tests.support.corpus_field import judge_field
from tests.support.corpus_report import KindReport, as_data, as_text, is_clean
from tests.support.corpus_verdicts import PATTERN, judge_verdicts

FolderJudge = Callable[[Path], KindReport]

JUDGES: Final[dict[str, FolderJudge]] = {
    "acceptance": judge_acceptance,
    "verdicts": judge_verdicts,
    "cyclonus": judge_cyclonus,
    "field": judge_field,
}
DEFAULT_SHOWN: Final = 10


def run_corpus(folder: Path) -> list[KindReport]:
    """Judge the folder, or each of its parts."""
    return [JUDGES[kind](part) for kind, part in parts_of(folder)]


def parts_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """What there is to judge: (kind, folder)."""
    here = _kind_of(folder)
    if here:
        yield here, folder
        return
    for kind in JUDGES:
        if (folder / kind).is_dir():
            yield kind, folder / kind


def _kind_of(folder: Path) -> str | None:
    """The kind of a folder that is itself a part, by what is in it."""
    if (folder / corpus_acceptance.VERDICTS).is_file():
        return "acceptance"
    if (folder / corpus_cyclonus.FILE).is_file():
        return "cyclonus"
    if any(folder.glob(PATTERN)):
        return "verdicts"
    return "field" if any(folder.glob("*.yaml")) else None


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="corpus", description="Run a conformance corpus.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    parser.add_argument("--show", type=int, default=DEFAULT_SHOWN, help="disagreements a kind")
    given = parser.parse_args(arguments)
    reports = run_corpus(given.folder)
    if not reports:
        print(f"{given.folder} holds no part of a corpus", file=sys.stderr)
        return 2
    if given.output == "json":
        print(json.dumps(as_data(reports, shown=given.show), indent=2, ensure_ascii=False))
    else:
        print(as_text(reports, shown=given.show))
    return 0 if is_clean(reports) else 1


if __name__ == "__main__":
    sys.exit(main())
