"""Follow one kind of Kubernetes objects: the server behind a WatchCache.

In:   a KubeApi, the kind's path, how to read one of its objects
Out:  the cache in step with the server; a call after each change
Shell. It asks what the cache wants asked, and tells it what came.

Holds always:
1. Objects are stripped while they are decoded: what nobody needs is never held.
2. A fault is followed by a pause with full jitter, so that a server that comes back is not run over.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

import msgspec
import structlog

from netpolicy.errors import TransientError
from netpolicy.kube_api import GONE, KubeApi, KubeRefusal
from netpolicy.kube_objects import KubeObject, ObjectMeta
from netpolicy.watch_cache import Key, ListPage, Watch, WatchCache

log = structlog.get_logger()

WATCH_FAILED: Final = "kubernetes_watch_failed"

PAGE_ITEMS: Final = 500
WATCH_SECONDS: Final = 120.0
"""How long a connection that died without a word may go unnoticed; a watch more costs one request."""

FIRST_PAUSE_SECONDS: Final = 0.2
LONGEST_PAUSE_SECONDS: Final = 30.0
QUICK_SECONDS: Final = 1.0
"""A watch that the server ends sooner is one that it would not serve: pause before the next."""

O = TypeVar("O", bound=KubeObject)  # noqa: E741  the object as it is decoded
T = TypeVar("T")


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""
    token: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct, Generic[O]):
    items: list[O] | None = None
    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Status(msgspec.Struct):
    code: int = 0
    message: str = ""


class _Marked(msgspec.Struct):
    metadata: ObjectMeta


class KubeWatch(Generic[O, T]):
    """One kind, followed. `view` makes of an object what is kept of it; None keeps nothing.

    `trouble` says why the server is not followed now; empty if it is.
    """

    def __init__(
        self,
        api: KubeApi,
        path: str,
        kind: type[O],
        view: Callable[[O], T | None],
        *,
        changed: Callable[[], None],
        selector: dict[str, str] | None = None,
        cache: WatchCache[T] | None = None,
    ) -> None:
        self.cache: WatchCache[T] = cache or WatchCache()
        self.trouble = ""
        self._api = api
        self._path = path
        self._view = view
        self._changed = changed
        self._selector = selector or {}
        self._list = msgspec.json.Decoder(_List[kind])  # type: ignore[valid-type]
        self._one = msgspec.json.Decoder(kind)
        self._event = msgspec.json.Decoder(_Event)

    @property
    def resource(self) -> str:
        """The kind, as the API server calls it."""
        return self._path.rpartition("/")[2]

    @property
    def is_followed(self) -> bool:
        """True if the copy is whole, and the server was there when it was last asked."""
        return self.cache.is_synced and not self.trouble

    async def ask(self) -> tuple[T, ...]:
        """What the server has now; the copy may be late. Raises TransientError."""
        found: list[T] = []
        token = ""
        while True:
            try:
                page = await self._page(token)
            except msgspec.MsgspecError as error:
                raise _unreadable(error) from error
            found += [view for one in page.items or () if (view := self._view(one)) is not None]
            token = page.metadata.token
            if not token:
                return tuple(found)

    async def run(self) -> None:
        """Follow until cancelled."""
        failures = 0
        while True:
            try:
                await self._perform(self.cache.command(now=time.monotonic()))
                failures, self.trouble = 0, ""
            except TransientError as error:
                self.trouble = str(error)
                # A token of a list that expired is no fault; anything else is worth a line.
                log.warning(WATCH_FAILED, path=self._path, error=str(error))
                self.cache.broke()
                failures += 1
                await asyncio.sleep(_pause(failures))

    async def _perform(self, command: ListPage | Watch) -> None:
        try:
            if isinstance(command, ListPage):
                await self._read_page(command)
            else:
                await self._read_events(command)
        except KubeRefusal as refusal:
            if refusal.status != GONE:
                raise
            self.cache.broke()
        except msgspec.MsgspecError as error:
            raise _unreadable(error) from error

    async def _page(self, token: str) -> _List[O]:
        query: dict[str, str | int] = {**self._selector, "limit": PAGE_ITEMS}
        if token:
            query["continue"] = token
        return self._list.decode(await self._api.read(self._path, query))

    async def _read_page(self, command: ListPage) -> None:
        found = await self._page(command.token)
        has_changed = self.cache.page(
            [(_key(one), self._view(one)) for one in found.items or ()],
            version=found.metadata.resourceVersion,
            token=found.metadata.token,
            now=time.monotonic(),
        )
        if has_changed:
            self._changed()

    async def _read_events(self, command: Watch) -> None:
        spread = random.uniform(0.8, 1.0)  # noqa: S311  not a secret
        seconds = max(1, int(min(command.seconds, WATCH_SECONDS) * spread))
        query: dict[str, str | int] = {
            **self._selector,
            "resourceVersion": command.version,
            "allowWatchBookmarks": "true",
        }
        began = time.monotonic()
        async for line in self._api.watch(self._path, query, seconds=seconds):
            if self._take(self._event.decode(line)):
                self._changed()
            if isinstance(self.cache.command(now=began), ListPage):
                return
        if time.monotonic() - began < QUICK_SECONDS:
            await asyncio.sleep(_pause(1))

    def _take(self, event: _Event) -> bool:
        """Fold one event in; True if the copy changed."""
        match event.type:
            case "ADDED" | "MODIFIED":
                one = self._one.decode(event.object)
                return self.cache.put(
                    _key(one), self._view(one), version=one.metadata.resourceVersion
                )
            case "DELETED":
                one = self._one.decode(event.object)
                return self.cache.remove(_key(one), version=one.metadata.resourceVersion)
            case "BOOKMARK":
                marked = msgspec.json.decode(event.object, type=_Marked)
                self.cache.bookmark(version=marked.metadata.resourceVersion)
                return False
            case _:
                status = msgspec.json.decode(event.object, type=_Status)
                raise KubeRefusal(status.code, status.message)


def _key(one: KubeObject) -> Key:
    return (one.metadata.namespace, one.metadata.name)


def _unreadable(error: msgspec.MsgspecError) -> TransientError:
    return TransientError(f"what the API server sent cannot be read: {error}")


def _pause(failures: int) -> float:
    bound = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2 ** min(failures, 10))
    return random.uniform(0, bound)  # noqa: S311  not a secret
