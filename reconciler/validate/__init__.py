"""Typed policy objects → diagnostics; one check in each file. Pure."""

from reconciler.validate.context import ValidationContext
from reconciler.validate.policies import ValidationMemo, validate

__all__ = ["ValidationContext", "ValidationMemo", "validate"]
