"""Git in; the policy files of one verified revision out."""

from reconciler.source.config import SourceConfig, SourceLimits
from reconciler.source.git import CommitSummary, Fetched, GitSource, Relation
from reconciler.source.revert import Revert
from reconciler.source.tree import RevisionFiles

__all__ = [
    "CommitSummary",
    "Fetched",
    "GitSource",
    "Relation",
    "Revert",
    "RevisionFiles",
    "SourceConfig",
    "SourceLimits",
]
