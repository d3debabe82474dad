"""What a check of a single value says, and the words it says it with. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from netpolicy.positions import NodePath


@dataclass(frozen=True, slots=True)
class ValueFault:
    """What is wrong with a value, or with what is at `path` inside it."""

    code: str
    message: str
    fix: str = ""
    path: NodePath = ()
    on_key: bool = False


def shown(value: object) -> str:
    """A value as it is quoted in a message: short, on one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 60 else text[:57] + "..."


def nearest(word: str, known: Mapping[str, object] | tuple[str, ...]) -> str | None:
    """The known word that the author most likely meant."""
    found = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return found[0] if found else None
