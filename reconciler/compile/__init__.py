"""Typed policy objects → units, by namespace; and in what two sets of units differ. Pure."""

from reconciler.compile.policies import compile_policies

__all__ = ["compile_policies"]
