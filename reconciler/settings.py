"""`tidegate.yaml`: what a policy repository says about itself.

In:   the files of a revision
Out:  Settings, diagnostics
Pure. An absent file gives the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from netpolicy.document import read_documents
from netpolicy.errors import Diagnostic, has_errors
from reconciler.files import SourceFile
from reconciler.schema_check import check

SETTINGS_PATH: Final = "tidegate.yaml"

SCHEMA: Final[dict[str, Any]] = {
    "allowEmpty": {"type": "boolean"},
    "ownership": {
        "type": "dict",
        "keysrules": {"type": "string"},
        "valuesrules": {"type": "list", "maxlength": 1000, "schema": {"type": "string"}},
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`allow_empty`: a revision may remove every policy. `ownership`: folder → namespaces that its
    policies may name (the longest folder wins; no entry, no restriction)."""

    allow_empty: bool = False
    ownership: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_settings(files: Iterable[SourceFile]) -> tuple[Settings, list[Diagnostic]]:
    """The settings of a revision, or what is wrong with them."""
    file = next((file for file in files if file.path == SETTINGS_PATH), None)
    if file is None:
        return Settings(), []
    documents, diagnostics = read_documents(file.path, file.data)
    for document in documents:
        diagnostics += check(document, SCHEMA)
    if has_errors(diagnostics) or not documents:
        return Settings(), diagnostics
    value = documents[0].value
    ownership = {
        folder.strip("/"): tuple(names) for folder, names in value.get("ownership", {}).items()
    }
    return Settings(allow_empty=value.get("allowEmpty", False), ownership=ownership), diagnostics
