"""Conditions: what a program says of itself, in the words of Kubernetes' kstatus.

Pure. Ready is present always; Reconciling and Stalled only while true.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConditionType(StrEnum):
    """What a condition speaks of."""

    READY = "Ready"
    RECONCILING = "Reconciling"
    STALLED = "Stalled"


class Reason(StrEnum):
    """The closed list of reasons, in the field's own words where it has one."""

    SUCCEEDED = "Succeeded"
    PROGRESSING = "Progressing"
    NEW_REVISION = "NewRevision"
    GIT_OPERATION_FAILED = "GitOperationFailed"
    AUTHENTICATION_FAILED = "AuthenticationFailed"
    HISTORY_DIVERGED = "HistoryDiverged"
    VERIFICATION = "VerificationFailed"
    VALIDATION_FAILED = "ValidationFailed"
    INVENTORY_INVALID = "InventoryInvalid"
    SIGNING_FAILED = "SigningFailed"
    STORAGE_FAILED = "StorageOperationFailed"
    ROLLOUT_WAITING = "RolloutWaiting"
    ROLLOUT_PAUSED = "RolloutPaused"
    INCONCLUSIVE = "Inconclusive"
    ROLLED_BACK = "RolledBack"
    ROLLOUT_ABORTED = "RolloutAborted"
    NODES_WENT_BACK = "NodesWentBack"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One statement: true or false, why, and since when (seconds since the epoch)."""

    type: ConditionType
    status: bool
    reason: str
    message: str = ""
    since: float = 0.0
