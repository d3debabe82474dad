"""What a target is told of a step, and in which form.

In:   the history after what was told last; a target, its secret
Out:  the step to tell next; a Post
Pure.

Holds always:
1. A commit's status is told as it is now: of several steps of one revision only the last is sent. A
   webhook gets every step, in order.
2. The same step makes the same bytes, so that one told twice can be known by its id.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import sha256
from typing import Final
from urllib.parse import quote

from reconciler.notify.target import Kind, Target
from reconciler.rollout.machine import TAKEN_BACK, Phase
from reconciler.state.rollouts import Entry

MAX_DESCRIPTION: Final = 140
"""What GitHub takes; the shortest limit there is."""

MAX_REASON: Final = 1024
USER_AGENT: Final = "tidegate"

Step = tuple[int, Entry]
"""A line of the history and its number."""


class State(StrEnum):
    """How a revision fares, in the words of commit statuses."""

    PENDING = "pending"
    SUCCESS = "success"
    FAILURE = "failure"


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """One request: POST, JSON."""

    url: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def next_step(steps: Sequence[Step], kind: Kind) -> Step | None:
    """The step to tell next; None if there is nothing to tell."""
    if kind is Kind.WEBHOOK:
        return next(iter(steps), None)
    last_of = {entry.revision: number for number, entry in steps}
    return next((step for step in steps if last_of[step[1].revision] == step[0]), None)


def state_of(phase: str) -> State:
    """The state that a phase is; what is on its way, or replaced by a newer revision, is pending."""
    plain = phase.partition(" ")[0]
    if plain == Phase.PROMOTED:
        return State.SUCCESS
    return State.FAILURE if plain in TAKEN_BACK | {Phase.REJECTED} else State.PENDING


def post_of(target: Target, step: Step, secret: bytes) -> Post:
    """The request that tells the target of a step."""
    number, entry = step
    if target.kind is Kind.WEBHOOK:
        return _signed(target, number, entry, secret)
    description = _description(entry)
    revision = quote(entry.revision, safe="")
    if target.kind is Kind.GITLAB:
        project = quote(target.project, safe="")
        return Post(
            url=f"{_root(target)}/projects/{project}/statuses/{revision}",
            headers={"PRIVATE-TOKEN": _header(secret)},
            body=_json(
                {
                    "state": _GITLAB_STATES[state_of(entry.phase)],
                    "name": target.context,
                    "description": description,
                }
            ),
        )
    return Post(
        url=f"{_root(target)}/repos/{target.project}/statuses/{revision}",
        headers={
            "Authorization": f"Bearer {_header(secret)}",
            "Accept": "application/vnd.github+json",
        },
        body=_json(
            {
                "state": state_of(entry.phase),
                "context": target.context,
                "description": description,
            }
        ),
    )


_GITLAB_STATES: Final = {
    State.PENDING: "running",
    State.SUCCESS: "success",
    State.FAILURE: "failed",
}


def _signed(target: Target, number: int, entry: Entry, secret: bytes) -> Post:
    """The signature covers the whole body, as a Git host's does."""
    told = f"{number}\n{entry.at!r}\n{entry.revision}\n{entry.event}\n{entry.phase}"
    body = _json(
        {
            "id": sha256(told.encode()).hexdigest(),
            "context": target.context,
            "at": datetime.fromtimestamp(entry.at, UTC).isoformat(timespec="milliseconds"),
            "revision": entry.revision,
            "event": entry.event,
            "phase": entry.phase,
            "state": state_of(entry.phase),
            "by": entry.by[:MAX_REASON],
            "reason": entry.reason[:MAX_REASON],
        }
    )
    signature = hmac.new(secret, body, sha256).hexdigest()
    return Post(
        url=target.url,
        headers={"X-Tidegate-Signature-256": f"sha256={signature}"},
        body=body,
    )


def _description(entry: Entry) -> str:
    why = f": {entry.reason}" if entry.reason else ""
    text = " ".join(f"{entry.phase}{why}".split())
    return text if len(text) <= MAX_DESCRIPTION else text[: MAX_DESCRIPTION - 1] + "…"


def _root(target: Target) -> str:
    return target.url.rstrip("/")


def _header(secret: bytes) -> str:
    """A token as a header may hold it; whatever else the file holds is nobody's token."""
    return "".join(c for c in secret.decode("ascii", "ignore") if c.isprintable())


def _json(data: Mapping[str, str]) -> bytes:
    return json.dumps(data, ensure_ascii=False, sort_keys=True).encode()
