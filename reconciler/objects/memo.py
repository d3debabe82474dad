"""Remember what was found of each policy, so that one changed file costs the work of one file.

In:   policy objects; the function that finds something of one of them
Out:  what it finds, in the order of the objects
Pure; the memory only saves work.

Holds always:
1. What is remembered was found of the very same object, in an equal context.
2. Nothing is remembered of a policy that the last pass did not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from reconciler.objects.policy import PolicyObject

Found = TypeVar("Found")


class PolicyMemo(Generic[Found]):
    """What was found of the policies of the last pass. Objects read from a cached file stay the same."""

    def __init__(self) -> None:
        self._context: object = None
        self._found: dict[int, tuple[PolicyObject, Found]] = {}

    def of_each(
        self,
        policies: Iterable[PolicyObject],
        find: Callable[[PolicyObject], Found],
        *,
        context: object = None,
    ) -> list[Found]:
        """What `find` says of each policy; `context` is all else that it depends on."""
        known = self._found if context == self._context else {}
        fresh: dict[int, tuple[PolicyObject, Found]] = {}
        results: list[Found] = []
        for policy in policies:
            # The object is kept beside its id, so no other can have that id meanwhile.
            kept = known.get(id(policy))
            if kept is None:
                kept = (policy, find(policy))
                policy.document.compact()
            fresh[id(policy)] = kept
            results.append(kept[1])
        self._context, self._found = context, fresh
        return results
