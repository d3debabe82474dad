"""YAML → typed policy objects that know where they were written; one reader per policy API."""

from reconciler.objects.policy import PolicyObject
from reconciler.objects.read import PolicyReading, ReadCache, is_policy_path, read_policies

__all__ = ["PolicyObject", "PolicyReading", "ReadCache", "is_policy_path", "read_policies"]
