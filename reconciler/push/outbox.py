"""What to say to one agent, and when: announcements, and confirmations of its answers.

In:   publications, answers
Out:  announcements, confirmations
Pure.

Holds always:
1. At most one announcement is unanswered and one confirmation unsent: a stuck reader holds two small
   messages, not a queue.
2. When it is answered, the latest publication is announced, and only if it was not yet.
3. An answer is confirmed before anything newer is announced.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A publication's names: timestamp version, sequence, digest."""

    version: int
    sequence: int
    digest: str


class Outbox:
    """The announcements of one stream."""

    def __init__(self) -> None:
        self._latest: Offer | None = None
        self._sent: Offer | None = None
        self._nonce = 0
        self._is_answered = True
        self._unconfirmed: tuple[int, int] | None = None

    def offer(self, offer: Offer) -> None:
        """Make this the one to announce; whatever waited is dropped."""
        self._latest = offer

    def take(self) -> tuple[int, Offer] | None:
        """The announcement to send now with its nonce, or None."""
        if not self._is_answered or self._latest is None or self._latest == self._sent:
            return None
        self._sent = self._latest
        self._nonce += 1
        self._is_answered = False
        return self._nonce, self._sent

    def answer(self, nonce: int, *, number: int = 0) -> bool:
        """Note an answer; False if nothing with this nonce was ever sent.

        `number` is the agent's own, to be confirmed. A later answer to the same nonce is welcome: an
        agent that failed tries again by itself.
        """
        if not 0 < nonce <= self._nonce:
            return False
        self._is_answered |= nonce == self._nonce
        self._unconfirmed = nonce, number
        return True

    def take_confirmation(self) -> tuple[int, int] | None:
        """The nonce and number of an answer to confirm now, or None."""
        taken, self._unconfirmed = self._unconfirmed, None
        return taken
