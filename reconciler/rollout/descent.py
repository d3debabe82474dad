"""Which fetched commits may be followed by themselves.

In:   the fetched commit and how it stands to the last one that Git brought
Out:  may it be followed
Pure.

Holds always:
1. Only a descendant of the last commit that Git brought is followed by itself; any other waits for
   an acknowledgement that names it.
2. A rollback does not move the mark: what is compared with is what Git last brought, not what is
   enforced. Otherwise a branch forced back to before a revision that was taken back would pass as new.
"""

from __future__ import annotations


def may_follow(commit: str, *, last_brought: str, descends: bool, acknowledged: bool) -> bool:
    """True if a rollout of the commit may begin. `descends`: from `last_brought`."""
    return not last_brought or commit == last_brought or descends or acknowledged
