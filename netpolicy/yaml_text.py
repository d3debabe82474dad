"""Bytes to text that shows every reviewer the same.

In:   a path and the bytes of a file
Out:  its text, or a diagnostic
Pure.

Holds always:
1. What is not UTF-8, too large, or holds characters that hide or turn others around, is no text.
"""

from __future__ import annotations

import re
from typing import Final

from netpolicy.errors import Diagnostic, Place, Severity
from netpolicy.positions import SourceText
from netpolicy.yaml_faults import FAULTS

# Beyond YAML's printable set: other line breaks and direction marks, which would make a reviewer
# see another text than the one that is applied.
_REFUSED_CHARACTER: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)


def decode_text(path: str, data: bytes, *, size_bytes: int) -> tuple[str, Diagnostic | None]:
    """The text of a file of at most so many bytes; or why it is none that a reviewer could see."""
    if len(data) > size_bytes:
        return "", _file_fault("TG050", path, f"{len(data)} bytes, more than {size_bytes}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start].decode("utf-8")
        return "", _character_fault("TG051", path, before, f"0x{data[error.start]:02x}")
    if found := _REFUSED_CHARACTER.search(text):
        subject = f"U+{ord(found.group()):04X}"
        return "", _character_fault("TG052", path, text[: found.start()], subject)
    return text, None


def _file_fault(code: str, path: str, subject: str) -> Diagnostic:
    fault = FAULTS[code]
    return Diagnostic(
        code=code,
        severity=Severity.ERROR,
        place=Place(path=path),
        message=fault.message.format(subject=subject),
        why=fault.why,
        fix=fault.fix,
    )


def _character_fault(code: str, path: str, before: str, subject: str) -> Diagnostic:
    """A fault at the character after `before`; the line is not shown, for it cannot be shown safely."""
    fault = FAULTS[code]
    text = SourceText(before.encode())
    line = text.line_count
    return Diagnostic(
        code=code,
        severity=Severity.ERROR,
        place=Place(path=path, line=line, column=len(text.line(line)) + 1),
        message=fault.message.format(subject=subject),
        why=fault.why,
        fix=fault.fix,
    )
