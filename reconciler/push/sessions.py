"""Which agent is connected under which name.

Holds always:
1. One name, one stream. The same instance again replaces its old stream (its connection broke);
   another instance under a name in use is refused, since one of the two is an impostor or a clone.
"""

from __future__ import annotations

import asyncio
import random

from netpolicy.wire.tidegate.v1 import push_pb2
from reconciler.push.observer import Hello
from reconciler.push.outbox import Offer, Outbox


class Session:
    """One agent's announcement stream."""

    def __init__(self, node: str, hello: Hello) -> None:
        self.node = node
        self.hello = hello
        self.outbox = Outbox()
        self.is_over = False
        self._changed = asyncio.Event()

    def offer(self, offer: Offer) -> None:
        """Let the stream announce this next."""
        self.outbox.offer(offer)
        self._changed.set()

    def answered(self, nonce: int, number: int) -> bool:
        """Note an answer; False if it answers nothing."""
        known = self.outbox.answer(nonce, number=number)
        self._changed.set()
        return known

    def end(self) -> None:
        """Let the stream finish."""
        self.is_over = True
        self._changed.set()

    async def next_message(self) -> push_pb2.ReconcilerMessage | None:
        """Wait for something to say; None when the stream is over."""
        while not self.is_over:
            self._changed.clear()
            if (answered := self.outbox.take_confirmation()) is not None:
                nonce, number = answered
                confirmation = push_pb2.Confirmation(nonce=nonce, answer=number)
                return push_pb2.ReconcilerMessage(confirmation=confirmation)
            taken = self.outbox.take()
            if taken is not None:
                return push_pb2.ReconcilerMessage(announcement=_announcement(*taken))
            await self._changed.wait()
        return None


class NameTakenError(Exception):
    """Another instance is connected under this name."""


class Sessions:
    """The connected agents."""

    def __init__(self) -> None:
        self._by_node: dict[str, Session] = {}

    def open(self, node: str, hello: Hello) -> Session:
        """Start a session; raises NameTakenError."""
        current = self._by_node.get(node)
        if current is not None:
            if current.hello.instance != hello.instance:
                raise NameTakenError(
                    f"instance {hello.instance} wants the name that {current.hello.instance} has"
                )
            current.end()
        session = Session(node, hello)
        self._by_node[node] = session
        return session

    def close(self, session: Session) -> bool:
        """End a session; False if another had replaced it."""
        session.end()
        if self._by_node.get(session.node) is not session:
            return False
        del self._by_node[session.node]
        return True

    def offer(self, offer: Offer) -> None:
        """Let every stream announce this next."""
        for session in self._by_node.values():
            session.offer(offer)

    def close_some(self, share: float) -> None:
        """Let about this share of the streams finish, whichever."""
        for session in tuple(self._by_node.values()):
            if random.random() < share:  # noqa: S311  spreads load, hides nothing
                session.end()

    def close_all(self) -> None:
        """Let every stream finish."""
        for session in tuple(self._by_node.values()):
            session.end()


def _announcement(nonce: int, offer: Offer) -> push_pb2.Announcement:
    return push_pb2.Announcement(
        nonce=nonce, version=offer.version, sequence=offer.sequence, digest=offer.digest
    )
