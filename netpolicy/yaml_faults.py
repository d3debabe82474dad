"""What to tell an author whose file is not the YAML we read: one entry for each code TG050–TG063.

In:   a code, or the parser's word for a broken syntax
Out:  message, why and fix, in our own words
Pure data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Fault:
    """The texts of one code; `{subject}` in the message stands for what was found."""

    title: str
    message: str
    why: str
    fix: str


FAULTS: Final[dict[str, Fault]] = {
    "TG050": Fault(
        "file too large", "the file has {subject}",
        "a larger file is refused before it is parsed, so that no commit can exhaust the reconciler",
        "split it into several files",
    ),
    "TG051": Fault(
        "not UTF-8", "byte {subject} is not UTF-8 text",
        "files are read as UTF-8, as Kubernetes reads them",
        "save the file as UTF-8",
    ),
    "TG052": Fault(
        "invisible character", "character {subject} is not allowed",
        "control and text-direction characters can make a reviewer see another policy than the one applied",
        "delete the character",
    ),
    "TG053": Fault(
        "broken YAML syntax", "this is not YAML: {subject}",
        "the file cannot be read past this point",
        "check the indentation, quotes and brackets here and just above",
    ),
    "TG054": Fault(
        "nested too deeply", "nested more than {subject} levels deep",
        "no policy needs it, and deep nesting is a way to exhaust a reader",
        "flatten the document",
    ),
    "TG055": Fault(
        "too many values", "the file holds more than {subject} values",
        "the size of a file is bounded so that no commit can exhaust the reconciler",
        "split it into several files",
    ),
    "TG056": Fault(
        "list or mapping too long", "more than {subject} entries here",
        "checks grow with the length of a list",
        "split it into several rules or policies",
    ),
    "TG057": Fault(
        "anchor", "anchor {subject} is not allowed",
        "with anchors a line can change what a distant line means, and a small file can grow without bound",
        "write the value out",
    ),
    "TG058": Fault(
        "alias", "alias {subject} is not allowed",
        "with aliases a line can change what a distant line means, and a small file can grow without bound",
        "write the value out",
    ),
    "TG059": Fault(
        "explicit tag", "tag {subject} is not allowed",
        "policies hold plain text, numbers, lists and mappings only",
        "remove the tag; put quotes around a value that must be text",
    ),
    "TG060": Fault(
        "duplicate key", "key {subject} is given twice",
        "a reader would silently keep only one of the two",
        "remove one, or join them",
    ),
    "TG061": Fault(
        "key that is not text", "{subject} cannot be a key",
        "a key must be text; yes, no, on, off, null and numbers are not, unless quoted",
        "put it in quotes",
    ),
    "TG062": Fault(
        "merge key", "merge key {subject} is not allowed",
        "merging hides from a reviewer what the mapping holds",
        "write the keys out",
    ),
    "TG063": Fault(
        "too many faults", "more than {subject} faults; the rest of the file was not read",
        "one cause often makes many faults",
        "mend the ones above first",
    ),
}  # fmt: skip

# The parser's phrases, each put as what an author did. Compared by their beginning.
_SYNTAX: Final = (
    ("mapping values are not allowed", 'there is a second ": " on this line',
     "quote the text, or start a new line"),
    ("found character '\\t'", "a tab is used for indentation", "indent with spaces"),
    ("found character that cannot start", "no value can start with this character",
     "indent with spaces, and put the value in quotes"),
    ("did not find expected key", "a key is expected here",
     "check that this line is indented like its neighbours"),
    ("could not find expected ':'", 'a ":" is missing after the key', 'write "key: value"'),
    ("did not find expected '-' indicator", 'an item that starts with "- " is expected here',
     "check that this line is indented like the other items"),
    ("did not find expected ',' or", "a list or mapping in brackets is not closed",
     "add the missing comma or bracket"),
    ("did not find expected node content", "a value is missing here", "write the value"),
    ("block sequence entries are not allowed", "a list cannot start here",
     "start the list on a new line below its key"),
    ("found unexpected end of stream", "a quote or bracket is never closed", "close it"),
    ("did not find expected <document start>", "text goes on after the end of the document",
     'check the indentation, or separate documents with "---"'),
    ("found undefined tag handle", "the tag is not known", "remove the tag"),
    ("did not find expected alphabetic", "an anchor or alias has no name",
     'put a text that starts with "&" or "*" in quotes'),
    ("found unknown escape character", "no such escape in double quotes",
     "use single quotes, or double the backslash"),
)  # fmt: skip


def syntax_fault(problem: str) -> tuple[str, str, str]:
    """Message, why and fix for a syntax the parser refuses."""
    base = FAULTS["TG053"]
    for phrase, meaning, fix in _SYNTAX:
        if problem.startswith(phrase):
            return base.message.format(subject=meaning), base.why, fix
    return base.message.format(subject="it cannot be read from here on"), base.why, base.fix
