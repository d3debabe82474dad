"""Read a regular expression in RE2's syntax, and nothing that RE2 would refuse.

In:   the text of an expression
Out:  a tree of Node, or BadExpression with what is wrong
Pure. What RE2 has and no policy needs (Unicode scripts, \\C) is refused too.

Holds always:
1. No look-around and no back-reference: what is read can be matched in linear time.
2. The tree is bounded: at most MAX_DEPTH deep, at most MAX_SIZE positions when written out.

Source: https://github.com/google/re2/wiki/Syntax
"""

from __future__ import annotations

import string
from dataclasses import dataclass, replace
from typing import Final

MAX_CHARACTERS: Final = 4096
MAX_DEPTH: Final = 100
MAX_SIZE: Final = 20_000
MAX_REPEAT: Final = 1000
LAST_CHARACTER: Final = 0x10FFFF

Range = tuple[int, int]


class BadExpression(Exception):
    """The text is no expression that RE2 would take; the message says why."""


@dataclass(frozen=True, slots=True)
class Flags:
    """What (?i), (?m) and (?s) have turned on."""

    fold_case: bool = False
    multi_line: bool = False
    dot_is_all: bool = False


@dataclass(frozen=True, slots=True)
class Characters:
    """One character of these ranges, sorted; `fold_case`: in either case."""

    ranges: tuple[Range, ...]
    fold_case: bool = False
    size: int = 1


@dataclass(frozen=True, slots=True)
class Assertion:
    """No character, but a place: `^`, `$`, `\\A`, `\\z`, `\\b`, `\\B`; `(?m)^` is `m^`."""

    kind: str
    size: int = 1


@dataclass(frozen=True, slots=True)
class Sequence:
    """One part after the other."""

    parts: tuple[Node, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Any one part."""

    parts: tuple[Node, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Repeat:
    """A part some number of times; no `most`: without end."""

    part: Node
    least: int
    most: int | None
    size: int


Node = Characters | Assertion | Sequence | Choice | Repeat

_DIGITS: Final[tuple[Range, ...]] = ((48, 57),)
_SPACES: Final[tuple[Range, ...]] = ((9, 10), (12, 13), (32, 32))
_WORDS: Final[tuple[Range, ...]] = ((48, 57), (65, 90), (95, 95), (97, 122))
_PERL: Final = {"d": _DIGITS, "s": _SPACES, "w": _WORDS}
_POSIX: Final[dict[str, tuple[Range, ...]]] = {
    "alnum": ((48, 57), (65, 90), (97, 122)), "alpha": ((65, 90), (97, 122)), "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)), "cntrl": ((0, 31), (127, 127)), "digit": _DIGITS,
    "graph": ((33, 126),), "lower": ((97, 122),), "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)), "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),), "word": _WORDS, "xdigit": ((48, 57), (65, 70), (97, 102)),
}  # fmt: skip
_CONTROLS: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_ALNUM: Final = frozenset(string.ascii_letters + string.digits)
_OCTAL: Final = frozenset(string.octdigits)


def parse(text: str) -> Node:
    """Read an expression."""
    if len(text) > MAX_CHARACTERS:
        raise BadExpression(f"it is longer than {MAX_CHARACTERS} characters")
    parser = _Parser(text)
    node = parser.choice(Flags(), depth=0)
    if parser.at < len(text):
        raise BadExpression('")" closes no group')
    return node


def complement(ranges: tuple[Range, ...]) -> tuple[Range, ...]:
    """All other characters."""
    gaps, start = [], 0
    for first, last in sorted(ranges):
        if first > start:
            gaps.append((start, first - 1))
        start = max(start, last + 1)
    return (*gaps, (start, LAST_CHARACTER)) if start <= LAST_CHARACTER else tuple(gaps)


class _Parser:
    """Recursive descent; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def choice(self, flags: Flags, depth: int) -> Node:
        """Parts between bars, up to the end or an unmatched `)`. A lone (?i) holds from there on."""
        if depth > MAX_DEPTH:
            raise BadExpression(f"groups are nested more than {MAX_DEPTH} deep")
        branches: list[Node] = []
        parts: list[Node] = []
        while self.at < len(self.text) and self.text[self.at] != ")":
            if self._take("|"):
                branches.append(_sequence(parts))
                parts = []
            elif (changed := self._flags_alone(flags)) is not None:
                flags = changed
            elif self._take("\\Q"):
                parts += self._quoted(flags)
            else:
                parts.append(self._repeated(self._atom(flags, depth)))
        branches.append(_sequence(parts))
        return branches[0] if len(branches) == 1 else _choice(branches)

    def _take(self, token: str) -> bool:
        if self.text.startswith(token, self.at):
            self.at += len(token)
            return True
        return False

    def _next(self, wanted: str) -> str:
        if self.at >= len(self.text):
            raise BadExpression(f"it ends where {wanted} should be")
        self.at += 1
        return self.text[self.at - 1]

    def _quoted(self, flags: Flags) -> list[Node]:
        stop = self.text.find("\\E", self.at)
        quoted = self.text[self.at : stop if stop >= 0 else len(self.text)]
        self.at += len(quoted) + (2 if stop >= 0 else 0)
        return [Characters(((ord(c), ord(c)),), flags.fold_case) for c in quoted]

    # Atoms

    def _atom(self, flags: Flags, depth: int) -> Node:
        character = self._next("an expression")
        match character:
            case "(":
                return self._group(flags, depth)
            case "[":
                return self._class(flags)
            case ".":
                newline: tuple[Range, ...] = () if flags.dot_is_all else ((10, 10),)
                return Characters(complement(newline))
            case "^" | "$":
                return Assertion(("m" if flags.multi_line else "") + character)
            case "*" | "+" | "?":
                raise BadExpression(f'"{character}" repeats nothing')
            case "{" if self._is_bounds(self.at - 1):
                raise BadExpression('"{" repeats nothing')
            case "\\":
                return self._escape(flags)
        return Characters(((ord(character), ord(character)),), flags.fold_case)

    def _group(self, flags: Flags, depth: int) -> Node:
        if self._take("?"):
            flags = self._group_opening(flags)
        inner = self.choice(flags, depth + 1)
        if not self._take(")"):
            raise BadExpression('")" is missing')
        return inner

    def _group_opening(self, flags: Flags) -> Flags:
        """After `(?`: a name, or flags and a colon."""
        if self._take("P<") or (
            self.text[self.at : self.at + 2] not in ("<=", "<!") and self._take("<")
        ):
            stop = self.text.find(">", self.at)
            name = self.text[self.at : stop] if stop >= 0 else ""
            if not name or not set(name) <= _ALNUM | {"_"}:
                raise BadExpression("a group has a bad name")
            self.at = stop + 1
            return flags
        changed, end = self._read_flags(flags)
        if end != ":":
            raise BadExpression(f'"(?{self.text[self.at : self.at + 1]}" is not part of RE2')
        return changed

    def _flags_alone(self, flags: Flags) -> Flags | None:
        """`(?i)` and the like, which change what follows in the same group."""
        start = self.at
        if not self._take("(?"):
            return None
        if self.text[self.at : self.at + 1] in ("P", "<", "="):
            self.at = start
            return None
        changed, end = self._read_flags(flags)
        if end != ")":
            self.at = start
            return None
        return changed

    def _read_flags(self, flags: Flags) -> tuple[Flags, str]:
        turns_on, any_given = True, False
        while (letter := self._next("a flag")) not in (":", ")"):
            match letter:
                case "-" if turns_on:
                    turns_on, any_given = False, False
                    continue
                case "i":
                    flags = replace(flags, fold_case=turns_on)
                case "m":
                    flags = replace(flags, multi_line=turns_on)
                case "s":
                    flags = replace(flags, dot_is_all=turns_on)
                case "U":
                    pass  # Who is greedy does not change whether the whole text matches.
                case _:
                    raise BadExpression(f'"(?{letter}" is not part of RE2')
            any_given = True
        if not any_given and (letter == ")" or not turns_on):
            raise BadExpression("a group has no flags")
        return flags, letter

    # Repetition

    def _repeated(self, node: Node) -> Node:
        repeats = 0
        while (bounds := self._repetition()) is not None:
            repeats += 1
            if repeats > 1:
                raise BadExpression("one repetition follows another")
            node = _repeat(node, *bounds)
        return node

    def _repetition(self) -> tuple[int, int | None] | None:
        bounds: tuple[int, int | None] | None = None
        if self._take("*"):
            bounds = (0, None)
        elif self._take("+"):
            bounds = (1, None)
        elif self._take("?"):
            bounds = (0, 1)
        elif self._is_bounds(self.at):
            stop = self.text.index("}", self.at)
            least, comma, most = self.text[self.at + 1 : stop].partition(",")
            self.at = stop + 1
            bounds = (int(least), (int(most) if most else None) if comma else int(least))
        if bounds is not None:
            self._take("?")  # Lazy: the same texts match.
        return bounds

    def _is_bounds(self, at: int) -> bool:
        """True if `{n}`, `{n,}` or `{n,m}` stands here; any other brace is a character."""
        if self.text[at : at + 1] != "{":
            return False
        stop = self.text.find("}", at)
        least, comma, most = self.text[at + 1 : max(stop, at + 1)].partition(",")
        if not (least.isascii() and least.isdigit()) or len(least) > 9:
            return False
        return not comma or not most or (most.isascii() and most.isdigit() and len(most) <= 9)

    # Escapes and classes

    def _escape(self, flags: Flags) -> Node:
        letter = self._next("an escape")
        if letter.lower() in _PERL:
            ranges = _PERL[letter.lower()]
            return Characters(ranges if letter.islower() else complement(ranges))
        if letter in ("A", "z", "b", "B"):
            return Assertion(f"\\{letter}")
        code = self._escaped_character(letter)
        return Characters(((code, code),), flags.fold_case)

    def _escaped_character(self, letter: str) -> int:
        if letter in _CONTROLS:
            return _CONTROLS[letter]
        if letter == "x":
            return self._hexadecimal()
        follows = self.text[self.at : self.at + 1]
        if letter == "0" or (letter in _OCTAL and follows in _OCTAL and follows):
            return self._octal(letter)
        if letter in _ALNUM or not letter.isascii():
            raise BadExpression(f'"\\{letter}" is not part of RE2')
        return ord(letter)

    def _octal(self, digits: str) -> int:
        while (
            len(digits) < 3
            and self.text[self.at : self.at + 1] in _OCTAL
            and self.at < len(self.text)
        ):
            digits += self._next("a digit")
        return int(digits, 8)

    def _hexadecimal(self) -> int:
        if self._take("{"):
            stop = self.text.find("}", self.at)
            digits = self.text[self.at : max(stop, self.at)]
            self.at = stop + 1
        else:
            digits = self.text[self.at : self.at + 2]
            self.at += 2
            if len(digits) < 2:
                digits = ""
        if not digits or len(digits) > 6 or not set(digits) <= set(string.hexdigits):
            raise BadExpression('"\\x" needs two hexadecimal digits, or some in braces')
        if (code := int(digits, 16)) > LAST_CHARACTER:
            raise BadExpression("there is no such character")
        return code

    def _class(self, flags: Flags) -> Node:
        is_negated = self._take("^")
        ranges: list[Range] = []
        is_first = True
        while is_first or not self._take("]"):
            is_first = False
            ranges += self._class_part()
        if flags.fold_case:
            ranges += _other_case(ranges)
        found = tuple(sorted(set(ranges)))
        return Characters(complement(found) if is_negated else found)

    def _class_part(self) -> tuple[Range, ...]:
        if self._take("[:"):
            stop = self.text.find(":]", self.at)
            name = self.text[self.at : max(stop, self.at)]
            self.at = stop + 2
            if name.removeprefix("^") not in _POSIX:
                raise BadExpression(f'there is no class "[:{name[:20]}:]"')
            posix = _POSIX[name.removeprefix("^")]
            return complement(posix) if name.startswith("^") else posix
        first = self._next('"]"')
        if first == "\\":
            letter = self._next("an escape")
            if letter.lower() in _PERL:
                ranges = _PERL[letter.lower()]
                return ranges if letter.islower() else complement(ranges)
            start = self._escaped_character(letter)
        else:
            start = ord(first)
        return ((start, self._range_end(start)),)

    def _range_end(self, start: int) -> int:
        if self.text[self.at : self.at + 1] != "-" or self.text[self.at + 1 : self.at + 2] in (
            "]",
            "",
        ):
            return start
        self.at += 1
        last = self._next('"]"')
        end = self._escaped_character(self._next("an escape")) if last == "\\" else ord(last)
        if end < start:
            raise BadExpression("a range ends before it begins")
        return end


def _other_case(ranges: list[Range]) -> list[Range]:
    """The ASCII letters of the ranges, in their other case."""
    found = []
    for first, last in ranges:
        for low, high, shift in ((65, 90, 32), (97, 122, -32)):
            if first <= high and last >= low:
                found.append((max(first, low) + shift, min(last, high) + shift))
    return found


def _sequence(parts: list[Node]) -> Node:
    if len(parts) == 1:
        return parts[0]
    return Sequence(tuple(parts), _bounded(sum(part.size for part in parts) + 1))


def _choice(parts: list[Node]) -> Node:
    return Choice(tuple(parts), _bounded(sum(part.size for part in parts) + 1))


def _repeat(part: Node, least: int, most: int | None) -> Node:
    if max(least, most or 0) > MAX_REPEAT:
        raise BadExpression(f"more than {MAX_REPEAT} repetitions")
    if most is not None and most < least:
        raise BadExpression("a repetition ends before it begins")
    copies = max(least, most or 0, 1) + (1 if most is None else 0)
    return Repeat(part, least, most, _bounded(part.size * copies + copies + 1))


def _bounded(size: int) -> int:
    if size > MAX_SIZE:
        raise BadExpression("its repetitions multiply beyond all measure")
    return size
