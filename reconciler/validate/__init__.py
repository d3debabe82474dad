"""Typed policy objects → diagnostics; one check in each file. Pure."""

from reconciler.validate.context import ValidationContext
from reconciler.validate.policies import validate

__all__ = ["ValidationContext", "validate"]
