"""Typed policy objects → diagnostics; one check in each file. Pure."""

from reconciler.validate.capabilities import check_capabilities, warn_unenforceable
from reconciler.validate.context import ValidationContext
from reconciler.validate.mistakes import MistakeMemo, find_mistakes
from reconciler.validate.policies import ValidationMemo, validate

__all__ = [
    "MistakeMemo",
    "ValidationContext",
    "ValidationMemo",
    "check_capabilities",
    "find_mistakes",
    "validate",
    "warn_unenforceable",
]
