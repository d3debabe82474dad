"""All codes, and diagnostics made by them.

In:   a code, and a place in a document
Out:  a Diagnostic that says the code's own why and fix unless better ones are given
Pure.
"""

from __future__ import annotations

from typing import Final

from netpolicy.document import Document
from netpolicy.errors import Diagnostic
from netpolicy.positions import NodePath
from reconciler.codes.code import Code
from reconciler.codes.field_codes import FIELD_CODES
from reconciler.codes.meaning_codes import MEANING_CODES
from reconciler.codes.revision_codes import REVISION_CODES
from reconciler.codes.warning_codes import WARNING_CODES

CODES: Final[dict[str, Code]] = {
    **FIELD_CODES,
    **MEANING_CODES,
    **WARNING_CODES,
    **REVISION_CODES,
}


def fault(
    document: Document,
    path: NodePath,
    code: str,
    message: str,
    *,
    why: str = "",
    fix: str = "",
    on_key: bool = False,
) -> Diagnostic:
    """A diagnostic at a node."""
    known = CODES[code]
    return document.diagnose(
        path,
        code,
        message,
        why=why or known.why,
        fix=fix or known.fix,
        on_key=on_key,
        severity=Code.severity(code),
    )
