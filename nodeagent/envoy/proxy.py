"""The node's proxy: told which listeners there are to be, it says when Envoy serves them.

In:   Listeners, before the kernel sends flows to them; those that are kept, after it stopped
Out:  files for Envoy; ProxyError if it does not take them; ProxyStatus
Shell over Envoy's files and its admin socket. What the files hold is `configuration`'s business.

Holds always:
1. `prepare` takes nothing away: every listener that served before serves still, but for new rules on its
   port.
2. A file is written only if its content changes.
3. What Envoy refuses is taken back: the files are as before, and so is what they say after a restart.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from netpolicy.durable_files import make_folder, replace
from netpolicy.errors import StalledError
from nodeagent.envoy.admin import Admin
from nodeagent.envoy.configuration import (
    NOTHING_LISTED,
    Configuration,
    Lists,
    configuration,
    list_of,
    read_list,
    secrets_asked,
)
from nodeagent.envoy.document import Json
from nodeagent.envoy.errors import ProxyError
from nodeagent.envoy.process import bound_log
from nodeagent.envoy.secret_files import read_secrets
from nodeagent.envoy.settings import (
    CLUSTERS_FILE,
    LISTENERS_FILE,
    ROUTES_FOLDER,
    SECRETS_FOLDER,
    EnvoySettings,
)
from nodeagent.envoy.supervisor import Supervisor
from nodeagent.l7.listeners import Listener, Listeners

CHANGED: Final = "envoy_configured"
REFUSED: Final = "envoy_refused_configuration"
SECRETS_LACKING: Final = "secrets_lacking"
SECRETS_NOT_RENEWED: Final = "secrets_not_renewed"

NAMED_RULES: Final = 5

SECRETS_SECONDS: Final = 5.0
SERVE_SECONDS: Final = 10.0
FIRST_LOOK_SECONDS: Final = 0.002
LAST_LOOK_SECONDS: Final = 0.05
ASKED_BY_NAME: Final = 20
"""From how many changed listeners on Envoy is asked for every listener's version."""

_CONNECTIONS: Final = r"^listener\.[0-9a-f.:_\[\]]+\.downstream_cx_active$"
_WARMING: Final = "listener_manager.total_listeners_warming"
_VERSION_TEXT: Final = "version_text"
_UPDATE_REJECTED: Final = "update_rejected"
_SAID: Final = re.compile(rb"update rejected: ([^\n]{1,500})")

log: Final = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyStatus:
    """`pid` None: Envoy does not run, and redirected flows are dropped. 0: it runs in another container.

    `connections`: redirected ones that were open at the last `look`. `lacking`: the rules that let nothing
    pass, or less, for want of a secret.
    """

    pid: int | None
    restarts: int
    listeners: tuple[str, ...]
    connections: int
    lacking: tuple[str, ...] = ()


class Keeper(Protocol):
    """Who sees to Envoy's process. `pid` None: it does not run; 0: in another container."""

    pid: int | None
    restarts: int

    async def run(self) -> None:
        """Never returns."""


class EnvoyProxy:
    """An Envoy of this node's own. `run` is to be running for anything to be served."""

    def __init__(self, settings: EnvoySettings, *, keeper: Keeper | None = None) -> None:
        """Without a `keeper` Envoy is run here."""
        self._settings = settings
        self._keeper = keeper or Supervisor(settings)
        self._admin = Admin(settings.admin)
        self._turn = asyncio.Lock()
        self._connections = 0
        self._served: tuple[Listener, ...] = ()
        self._lacking: tuple[str, ...] = ()
        for folder in (ROUTES_FOLDER, SECRETS_FOLDER):
            make_folder(settings.folder / folder)
        self._lists = Lists(
            listeners=self._standing(LISTENERS_FILE), clusters=self._standing(CLUSTERS_FILE)
        )

    async def run(self) -> None:
        """Keep Envoy running. Never returns; raises StalledError if there is no program."""
        watch = asyncio.create_task(self._watch_secrets(), name="proxy secrets")
        try:
            await self._keeper.run()
        finally:
            watch.cancel()

    async def prepare(self, wanted: Listeners) -> None:
        """Return once all of them are served. Raises ProxyError."""
        async with self._turn:
            await asyncio.to_thread(self._prepare, wanted.listeners)

    async def retire(self, kept: Listeners) -> None:
        """Serve no others any more; connections they have get ten seconds. Raises ProxyError."""
        async with self._turn:
            await asyncio.to_thread(self._retire, kept.listeners)

    def status(self) -> ProxyStatus:
        """How it is."""
        return ProxyStatus(
            pid=self._keeper.pid,
            restarts=self._keeper.restarts,
            listeners=tuple(sorted(self._lists.listeners)),
            connections=self._connections if self._keeper.pid is not None else 0,
            lacking=self._lacking,
        )

    async def look(self) -> None:
        """Ask Envoy for what only it knows; where it does not answer, the last answer stands."""
        with suppress(ProxyError):
            told = await asyncio.to_thread(self._admin.statistics, _CONNECTIONS)
            self._connections = sum(map(int, told.values()))

    async def _watch_secrets(self) -> None:
        """Secrets change while rules stay: certificates are renewed."""
        while True:
            await asyncio.sleep(SECRETS_SECONDS)
            try:
                async with self._turn:
                    await asyncio.to_thread(self._renew)
            except (ProxyError, StalledError) as error:
                log.error(SECRETS_NOT_RENEWED, error=str(error))

    def _renew(self) -> None:
        config = self._configuration(self._served, self._lists)
        if self._changes(config):
            self._put(config)

    def _prepare(self, wanted: tuple[Listener, ...]) -> None:
        self._put(self._configuration(wanted, self._lists))
        self._served = wanted

    def _retire(self, kept: tuple[Listener, ...]) -> None:
        config = self._configuration(kept, NOTHING_LISTED)
        if self._changes(config):
            self._put(config)
        self._served = kept
        for folder in (ROUTES_FOLDER, SECRETS_FOLDER):
            for path in (self._settings.folder / folder).iterdir():
                if f"{folder}/{path.name}" not in config.files:
                    path.unlink(missing_ok=True)

    def _configuration(self, served: tuple[Listener, ...], standing: Lists) -> Configuration:
        secrets = read_secrets(self._settings.secrets, secrets_asked(served))
        config = configuration(served, settings=self._settings, secrets=secrets, standing=standing)
        if config.lacking and config.lacking != self._lacking:
            log.warning(SECRETS_LACKING, rules=config.lacking[:NAMED_RULES])
        self._lacking = config.lacking
        return config

    def _standing(self, path: str) -> dict[str, Json]:
        """A list as the agent before this one left it; Envoy does not start without the file."""
        listed = read_list(self._read(path) or b"")
        if not listed:
            replace(self._settings.folder / path, list_of({})[1])
        return listed

    def _put(self, config: Configuration) -> None:
        """Write what changes and see it served; else take it back."""
        before = {path: self._read(path) for path in config.files}
        changed = self._changes(config)
        watch = _Watch(self._admin, config.versions)
        bound_log(self._settings.log)
        said = self._log_size()
        try:
            for path in _in_order(changed):
                replace(self._settings.folder / path, config.files[path])
            watch.until_served()
        except (ProxyError, OSError) as error:
            self._take_back(changed, before)
            why = self._refusal(said) or str(error)
            log.error(REFUSED, files=len(changed), why=why)
            raise ProxyError(f"Envoy does not serve the rules: {why}") from error
        self._lists = config.lists
        if changed:
            log.info(CHANGED, files=len(changed), listeners=len(config.lists.listeners))

    def _changes(self, config: Configuration) -> list[str]:
        """The files that hold something else today."""
        return [path for path, data in config.files.items() if self._read(path) != data]

    def _take_back(self, changed: Iterable[str], before: Mapping[str, bytes | None]) -> None:
        """The list first: what it no longer names needs no rules."""
        for path in reversed(_in_order(changed)):
            old = before[path]
            if old is None:
                (self._settings.folder / path).unlink(missing_ok=True)
            else:
                replace(self._settings.folder / path, old)

    def _read(self, path: str) -> bytes | None:
        try:
            return (self._settings.folder / path).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StalledError(f"{path} of Envoy cannot be read: {error.strerror}") from error

    def _log_size(self) -> int:
        try:
            return self._settings.log.stat().st_size
        except FileNotFoundError:
            return 0

    def _refusal(self, offset: int) -> str:
        """Why Envoy refused a file, in its own words; empty if it said nothing."""
        try:
            with self._settings.log.open("rb") as file:
                file.seek(offset)
                found = _SAID.findall(file.read(1 << 16))
        except FileNotFoundError:
            return ""
        return found[-1].decode("utf-8", "replace") if found else ""


class _Watch:
    """Waits until Envoy tells the versions that were written."""

    def __init__(self, admin: Admin, versions: Mapping[str, str]) -> None:
        self._admin = admin
        self._versions = versions
        self._pattern = _pattern(versions)
        told = self._ask_if_there()
        self._rejected = self._rejections(told) if told else None
        """Before anything was written; None: nobody has answered yet."""

    def until_served(self) -> None:
        """Raises ProxyError if a file is refused, or time runs out."""
        deadline = time.monotonic() + SERVE_SECONDS
        pause = FIRST_LOOK_SECONDS
        while True:
            told = self._ask_if_there()
            if self._is_served(told):
                return
            if told and self._rejected is None:
                # One that has just started may have refused what an earlier agent left behind.
                self._rejected = self._rejections(told)
            if self._rejected is not None and self._rejections(told) > self._rejected:
                raise ProxyError("it refused a file")
            if time.monotonic() > deadline:
                raise ProxyError("it has not taken them up in time" if told else "it does not run")
            time.sleep(pause)
            pause = min(pause * 2, LAST_LOOK_SECONDS)

    def _ask_if_there(self) -> Mapping[str, str | int]:
        try:
            return self._admin.statistics(self._pattern)
        except ProxyError:
            return {}

    def _is_served(self, told: Mapping[str, str | int]) -> bool:
        return told.get(_WARMING) == 0 and all(
            told.get(name) == version for name, version in self._versions.items()
        )

    def _rejections(self, told: Mapping[str, str | int]) -> int:
        return sum(int(value) for name, value in told.items() if name.endswith(_UPDATE_REJECTED))


def _pattern(versions: Mapping[str, str]) -> str:
    """The statistics to ask for: versions and refusals of what is awaited."""
    stems = [re.escape(name.removesuffix(_VERSION_TEXT)) for name in sorted(versions)]
    if len(stems) > ASKED_BY_NAME:
        stems = [r"http\..*\.rds\..*\.", r"listener_manager\.lds\.", r"cluster_manager\.cds\."]
    ends = f"({_VERSION_TEXT}|{_UPDATE_REJECTED})"
    return f"^(({'|'.join(stems)}){ends}|{re.escape(_WARMING)})$"


def _in_order(paths: Iterable[str]) -> list[str]:
    """What is named before what names it: secrets and rules, then upstreams, then listeners."""
    return sorted(paths, key=lambda path: (path == LISTENERS_FILE, path == CLUSTERS_FILE, path))
