"""Match whole texts against regular expressions, as RE2 would.

In:   an expression's text; texts
Out:  Expression; does the whole text match
Pure. Time is bounded by the length of the text times the size of the expression, whatever either holds.

Thompson's construction: an expression becomes states with moves; a text moves a set of states.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from netpolicy.regex_syntax import (
    Assertion,
    BadExpression,
    Characters,
    Choice,
    Node,
    Repeat,
    Sequence,
    parse,
)

CACHED: Final = 4096

__all__ = ["BadExpression", "Expression", "compile_expression"]


@dataclass(slots=True)
class _State:
    """A place in the expression: what moves on to `then`; without `asks`, to all of `then` for nothing."""

    asks: Characters | Assertion | None
    then: list[int]


class Expression:
    """A compiled expression. Made once, never changed."""

    __slots__ = ("_end", "_start", "_states")

    def __init__(self, node: Node) -> None:
        self._states: list[_State] = []
        self._end = self._add(None)
        self._start = self._build(node, self._end)

    def matches(self, text: str) -> bool:
        """True if the whole text matches."""
        current = self._reached([self._start], text, 0)
        for index, character in enumerate(text):
            code = ord(character)
            moved = [
                target
                for number in current
                if isinstance(asks := self._states[number].asks, Characters) and _holds(asks, code)
                for target in self._states[number].then
            ]
            if not moved:
                return False
            current = self._reached(moved, text, index + 1)
        return self._end in current

    def _add(self, asks: Characters | Assertion | None, *then: int) -> int:
        self._states.append(_State(asks, list(then)))
        return len(self._states) - 1

    def _build(self, node: Node, after: int) -> int:
        """Add the states of a node that lead to `after`; return the first."""
        match node:
            case Characters() | Assertion():
                return self._add(node, after)
            case Sequence(parts=parts):
                for part in reversed(parts):
                    after = self._build(part, after)
                return after
            case Choice(parts=parts):
                return self._add(None, *(self._build(part, after) for part in parts))
            case Repeat(part=part, least=least, most=most):
                return self._repeat(part, least, most, after)

    def _repeat(self, part: Node, least: int, most: int | None, after: int) -> int:
        if most is None:
            loop = self._add(None, after)
            self._states[loop].then.append(self._build(part, loop))
            after = loop
        else:
            for _ in range(most - least):
                after = self._add(None, self._build(part, after), after)
        for _ in range(least):
            after = self._build(part, after)
        return after

    def _reached(self, starts: Iterable[int], text: str, at: int) -> set[int]:
        """All states that these lead to without a character."""
        found: set[int] = set()
        waiting = list(starts)
        while waiting:
            number = waiting.pop()
            if number in found:
                continue
            found.add(number)
            state = self._states[number]
            if state.asks is None or (
                isinstance(state.asks, Assertion) and _is_place(state.asks.kind, text, at)
            ):
                waiting += state.then
        return found


@lru_cache(maxsize=CACHED)
def compile_expression(text: str) -> Expression:
    """Compile an expression; raises BadExpression for what RE2 would refuse."""
    return Expression(parse(text))


def _holds(asks: Characters, code: int) -> bool:
    if _within(asks, code):
        return True
    if not asks.fold_case:
        return False
    folded = {chr(code).lower(), chr(code).upper()}
    return any(_within(asks, ord(other)) for other in folded if len(other) == 1)


def _within(asks: Characters, code: int) -> bool:
    return any(first <= code <= last for first, last in asks.ranges)


def _is_place(kind: str, text: str, at: int) -> bool:
    match kind:
        case "^" | "\\A":
            return at == 0
        case "$" | "\\z":
            return at == len(text)
        case "m^":
            return at == 0 or text[at - 1] == "\n"
        case "m$":
            return at == len(text) or text[at] == "\n"
    is_boundary = _is_word(text, at - 1) != _is_word(text, at)
    return is_boundary if kind == "\\b" else not is_boundary


def _is_word(text: str, at: int) -> bool:
    return 0 <= at < len(text) and text[at].isascii() and (text[at].isalnum() or text[at] == "_")
