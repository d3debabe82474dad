"""How two generations judge one flow otherwise.

In:   two judgements of the same side of the same flow
Out:  Cause, or None where a packet would not notice
Pure. `bpf/shadow.h` is the same in C.
"""

from __future__ import annotations

from netpolicy.evidence import Cause
from nodeagent.plan.generation import Verdict
from nodeagent.plan.model import Judgement


def difference(enforced: Judgement, shadowed: Judgement) -> Cause | None:
    """What a packet would meet under the second that it does not under the first."""
    if enforced.allowed != shadowed.allowed:
        return Cause.WOULD_ALLOW if shadowed.allowed else Cause.WOULD_DENY
    if not enforced.allowed or _is_redirected(enforced) == _is_redirected(shadowed):
        return None
    return Cause.WOULD_REDIRECT if _is_redirected(shadowed) else Cause.WOULD_NOT_REDIRECT


def _is_redirected(judgement: Judgement) -> bool:
    return judgement.verdict is Verdict.REDIRECT
