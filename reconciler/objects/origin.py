"""Where a compiled rule was written: from its origin back to a path in the author's document.

In:   PolicyObject; the origin of one of its rules (`ingress[0]`, or empty for the policy)
Out:  the path of that rule
Pure.
"""

from __future__ import annotations

import re
from typing import Final

from netpolicy.positions import NodePath
from reconciler.objects.policy import PolicyObject

_STEP: Final = re.compile(r"([A-Za-z]+)|\[(\d+)\]")


def origin_path(policy: PolicyObject, origin: str) -> NodePath:
    """The path that `Document.place` understands."""
    steps: list[str | int] = [
        name or int(number) for name, number in _STEP.findall(origin) if name or number
    ]
    return (*policy.at, *steps)
