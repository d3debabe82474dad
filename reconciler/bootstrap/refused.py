"""Why an agent is given no certificate."""

from __future__ import annotations

from enum import StrEnum


class Why(StrEnum):
    """What the asker can do about it: nothing; ask for itself; ask as it should; ask later."""

    NOT_AN_AGENT = "not an agent"
    ANOTHER_NODE = "another node's"
    BAD_REQUEST = "bad request"
    TOO_OFTEN = "too often"


class Refused(Exception):
    """The asker is told why, and gets nothing."""

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why
