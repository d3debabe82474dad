"""What a revision's tree may not hold, as diagnostics; and which names are allowed.

Pure. The codes are documented in docs/diagnostics/.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from netpolicy.errors import Diagnostic, Place, Severity

MAX_NAME_BYTES: Final = 255
MAX_SHOWN_CHARACTERS: Final = 200


class TreeFault(StrEnum):
    """Permanent codes of the faults that the source finds."""

    BAD_NAME = "TG001"
    SYMBOLIC_LINK = "TG002"
    SUBMODULE = "TG003"
    LFS_POINTER = "TG004"
    FILE_TOO_LARGE = "TG005"
    TOO_MANY_FILES = "TG006"
    TOO_MANY_BYTES = "TG007"
    CASE_COLLISION = "TG008"
    WRONG_KIND = "TG009"
    FOLDER_MISSING = "TG010"
    MISSPELT_NAME = "TG011"
    TOO_DEEP = "TG012"


_WHY_AND_FIX: Final = {
    TreeFault.BAD_NAME: (
        "such a name can leave its folder, or mean another file on another system",
        "rename it: letters, digits, '-', '_' and '.' are safe",
    ),
    TreeFault.SYMBOLIC_LINK: (
        "a link would be policy that a review of this folder does not show",
        "put the file itself here",
    ),
    TreeFault.SUBMODULE: (
        "what another repository holds is not reviewed in this one",
        "copy its files here",
    ),
    TreeFault.LFS_POINTER: (
        "the policy would be outside of Git, where no commit fixes it",
        "store the file in Git: git lfs untrack, then add it again",
    ),
    TreeFault.FILE_TOO_LARGE: ("a policy is text of a few kilobytes", "split or remove it"),
    TreeFault.TOO_MANY_FILES: (
        "reading must end in bounded time",
        "remove files, or raise the source's limit",
    ),
    TreeFault.TOO_MANY_BYTES: (
        "reading must end in bounded memory",
        "remove files, or raise the source's limit",
    ),
    TreeFault.CASE_COLLISION: (
        "on systems that ignore case one of them hides the other",
        "rename one of them",
    ),
    TreeFault.WRONG_KIND: (
        "policies and tests are folders, tidegate.yaml is a file",
        "rename it, or make it what it should be",
    ),
    TreeFault.FOLDER_MISSING: (
        "the source is configured to read this folder; without it every policy would vanish",
        "restore the folder, or correct the source's path",
    ),
    TreeFault.MISSPELT_NAME: (
        "it would be ignored without a word",
        "use the exact name: policies, tests or tidegate.yaml",
    ),
    TreeFault.TOO_DEEP: ("reading must end in bounded time", "use fewer nested folders"),
}


def tree_fault(fault: TreeFault, path: str, message: str) -> Diagnostic:
    """An error at a path; the path is shown with its odd characters escaped, and cut."""
    why, fix = _WHY_AND_FIX[fault]
    return Diagnostic(
        code=fault,
        severity=Severity.ERROR,
        place=Place(path=shown(path)),
        message=message,
        why=why,
        fix=fix,
    )


def shown(text: str) -> str:
    """Text made safe to print: control characters and lone surrogates escaped, length bounded."""
    cut = text[:MAX_SHOWN_CHARACTERS]
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in cut
    )


def is_safe_name(raw: bytes) -> bool:
    """True for a name that means one file, in its own folder, on every system."""
    try:
        name = raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return (
        0 < len(raw) <= MAX_NAME_BYTES
        and name.isprintable()
        and not {"/", "\\", ":"} & set(name)
        and name not in {".", ".."}
        and name.casefold() not in {".git", "git~1"}
    )
