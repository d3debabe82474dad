"""`tidegate.yaml`: what a policy repository says about itself.

In:   the files of a revision
Out:  Settings, diagnostics
Pure. An absent file gives the defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from netpolicy.encryption import OFF, Encryption
from netpolicy.errors import Diagnostic, has_errors
from netpolicy.fields import Fields, single_document
from netpolicy.yaml_reader import read_documents
from reconciler.files import SourceFile
from reconciler.rollout.plan import DIRECT, Plan
from reconciler.settings.encryption import read_encryption
from reconciler.settings.rollout import read_plan

SETTINGS_PATH: Final = "tidegate.yaml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """`allow_empty`: a revision may remove every policy. `ownership`: folder → namespaces that its
    policies may name (the longest folder wins; no entry, no restriction). `rollout`: how revisions
    are rolled out after this one. `encryption`: between nodes; it is rolled out as policies are."""

    allow_empty: bool = False
    rollout: Plan = DIRECT
    encryption: Encryption = OFF
    ownership: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def read_settings(
    files: Iterable[SourceFile], *, site: Settings | None = None
) -> tuple[Settings, list[Diagnostic]]:
    """The settings of a revision, or what is wrong with them.

    `site`: what the operator of the cluster says beside the repository. Its rollout counts where the
    repository has none; its ownership counts in place of the repository's.
    """
    site = site or Settings()
    file = next((file for file in files if file.path == SETTINGS_PATH), None)
    if file is None:
        return site, []
    documents, faults = read_documents(file.path, file.data)
    if not documents and not has_errors(faults):
        return site, faults
    document = single_document(documents, faults, file.path)
    if document is None:
        return Settings(), faults
    fields = Fields(document, faults)
    rollout = fields.record("rollout")
    own = {folder.strip("/"): names for folder, names in fields.text_lists("ownership").items()}
    plan = read_plan(rollout)
    settings = Settings(
        allow_empty=fields.flag("allowEmpty", False),
        ownership=site.ownership or own,
        rollout=plan if rollout.given else site.rollout,
        encryption=read_encryption(fields.record("encryption")),
    )
    fields.finish()
    return (Settings() if has_errors(faults) else settings), faults
