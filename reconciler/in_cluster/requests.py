"""What people ask for: by annotations on PolicyRollout objects, or by a file beside the leader.

In:   RolloutObject values as they are watched; the rollout file, for when the API server is away
Out:  Requests; answers, until they are written into the statuses
Shell over memory and that one file.

Holds always:
1. A request is the same as one of the rollout file: a token that is handled once.
2. What the status calls handled is not asked again, by whatever replica leads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from reconciler.cluster.kinds import RolloutObject
from reconciler.staging.interfaces import Action, Request
from reconciler.staging.request_file import BY, PREFIX, REASON, ROLLBACK_TO, RolloutFile

_COMMIT: Final = re.compile("[0-9a-f]{40}(?:[0-9a-f]{24})?")
MAX_TOKEN: Final = 512
MAX_TEXT: Final = 500

Place = tuple[str, str]
"""A revision and an action: where an answer belongs."""


class AnnotationRequests:
    """The requests of all rollouts of one repository."""

    def __init__(
        self, objects: Callable[[], Iterable[RolloutObject]], *, told: Callable[[], None]
    ) -> None:
        self._objects = objects
        self._told = told
        self._is_fresh = True
        self._answers: dict[Place, tuple[str, str]] = {}

    def changed(self) -> None:
        """The objects may ask for something else now."""
        self._is_fresh = True

    def forget(self) -> None:
        """What was given last was not handled: give it again."""
        self._is_fresh = True

    def requests(self) -> tuple[Request, ...]:
        """What is asked for and not answered yet."""
        if not self._is_fresh:
            return ()
        self._is_fresh = False
        return tuple(
            request
            for found in self._objects()
            for request in _asked(found)
            if self._answers.get((found.revision, request.action), ("", ""))[0] != request.token
        )

    def tell(self, *, revision: str, phase: str, answers: Mapping[Request, str]) -> None:
        """Keep answers for the statuses. Where the rollout is, they say by themselves."""
        del revision, phase
        for found in self._objects():
            for request, text in answers.items():
                if found.annotations.get(PREFIX + request.action) == request.token:
                    self._answers[found.revision, request.action] = (request.token, text)
        self._told()

    def answers_to(self, revision: str) -> dict[str, tuple[str, str]]:
        """By action: the token that was answered, and the answer."""
        return {
            action: answer for (about, action), answer in self._answers.items() if about == revision
        }


class RequestsOfBoth:
    """The annotations' requests and the file's. The file's own status says which of it was handled: what
    somebody asked by an annotation since must not make it look new."""

    def __init__(self, annotations: AnnotationRequests, file: RolloutFile) -> None:
        self._annotations = annotations
        self._file = file

    def requests(self) -> tuple[Request, ...]:
        """What is asked for and not answered yet."""
        held = self._file.changed()
        of_file = held.requests() if held is not None else ()
        return (
            *self._annotations.requests(),
            *(one for one in of_file if held and held.handled.get(one.action) != one.token),
        )

    def forget(self) -> None:
        """What was given last was not handled: give it again."""
        self._annotations.forget()
        self._file.forget()

    def tell(self, *, revision: str, phase: str, answers: Mapping[Request, str]) -> None:
        """Answer where it was asked."""
        self._annotations.tell(revision=revision, phase=phase, answers=answers)
        asked = self._file.read().requests() if answers else ()
        of_file = {one: text for one, text in answers.items() if one in asked}
        if of_file:
            self._file.tell(revision=revision, phase=phase, answers=of_file)


def _asked(found: RolloutObject) -> Iterable[Request]:
    handled = found.status.get("lastHandled", {})
    for action in Action:
        token = found.annotations.get(PREFIX + action, "")
        if not token or len(token) > MAX_TOKEN or handled.get(action) == token:
            continue
        named = token.partition("/")[0]
        yield Request(
            action=action,
            # A token that begins with a commit means that one, as in the rollout file.
            revision=named if _COMMIT.fullmatch(named) else found.revision,
            token=token,
            by=found.annotations.get(BY, "an annotation")[:MAX_TEXT],
            reason=found.annotations.get(REASON, "")[:MAX_TEXT],
            to=found.annotations.get(ROLLBACK_TO, "") if action is Action.ROLLBACK else "",
        )
