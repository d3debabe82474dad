"""The node's proxy, as planning and enforcing see it: what it can do, what it serves, and the way to it.

In:   EnvoyConfig, or None; listeners
Out:  an Envoy that serves them; the device that leads to it; the rules behind a rule set's digest
Shell over Envoy, the proxy's device and one file.

Holds always:
1. The kernel redirects to the proxy's device only while there is one; without it, what is to be judged is
   refused.
2. Listeners are served before any flow goes to them, and go when none does.
3. The end of the agent leaves all of it in place.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog

from netpolicy.capabilities import Capability
from netpolicy.errors import StalledError
from netpolicy.rules import Direction, Policy, RuleId
from nodeagent.config import EnvoyConfig
from nodeagent.datapath import Datapath, DatapathError
from nodeagent.envoy.admin import Admin
from nodeagent.envoy.errors import ProxyError
from nodeagent.envoy.process import end, find_binary
from nodeagent.envoy.proxy import EnvoyProxy, ProxyStatus
from nodeagent.envoy.secret_files import read_secrets
from nodeagent.envoy.secret_values import header_secrets, with_values
from nodeagent.envoy.settings import EnvoySettings
from nodeagent.envoy.watcher import Watcher
from nodeagent.l7.device import device_faults, ensure_device, remove_device
from nodeagent.l7.listeners import NO_LISTENERS, Listeners
from nodeagent.l7.saved_seats import SavedSeats
from nodeagent.plan.enforceable import capabilities
from nodeagent.plan.redirects import NO_PROXY, ProxySide
from nodeagent.proxy_settings import ACCESS_LOG, ENVOY_FOLDER, envoy_settings

log: Final = structlog.get_logger()

DEVICE_MENDED: Final = "proxy_device_mended"
DEVICE_FAILED: Final = "proxy_device_failed"
PORTS_NOT_KEPT: Final = "proxy_ports_not_kept"
PORTS_NOT_FOUND: Final = "proxy_ports_not_found"
LISTENERS_NOT_RETIRED: Final = "listeners_not_retired"
NOT_RUNNING: Final = "Envoy does not run: flows that it is to judge are dropped"
PROXY_FAILED: Final = "ProxyFailed"
CHECK_SECONDS: Final = 3.0
KEPT_SETS: Final = 4096


class Proxying:
    """Without a config: no proxy, and nothing of it on the node."""

    def __init__(self, datapath: Datapath, *, config: EnvoyConfig | None, state_dir: Path) -> None:
        self._datapath = datapath
        self._saved = SavedSeats(state_dir)
        self._rules: Mapping[str, tuple[RuleId, ...]] = {}
        self._served: Mapping[tuple[Direction, int], str] = {}
        self._envoy: EnvoyProxy | None = None
        self.device_mended = 0
        """How often the device, its rules or its routes were not as they had been left."""
        self._config = config
        self.access_log = state_dir / ENVOY_FOLDER / ACCESS_LOG
        self.admin = Path()
        if config is not None:
            settings = envoy_settings(config, state_dir)
            self.admin = settings.admin
            self._envoy = _envoy(config, settings)

    @property
    def is_on(self) -> bool:
        """True if there is a proxy."""
        return self._envoy is not None

    def status(self) -> ProxyStatus | None:
        """How Envoy is; None: there is none."""
        return None if self._envoy is None else self._envoy.status()

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""
        status = self.status()
        return (NOT_RUNNING,) if status is not None and status.pid is None else ()

    def connect(self) -> ProxySide:
        """Lead the kernel to the device, or to none; say what planning is to know.

        Raises DatapathError or StalledError.
        """
        if self._config is None:
            self._datapath.proxy.lead_to(0)
            return NO_PROXY
        self._datapath.proxy.lead_to(self._lead())
        return ProxySide(
            capabilities=capabilities_of(self._config),
            ports=self._config.ports,
            standing=self._found_seats(),
        )

    async def run(self) -> None:
        """Keep Envoy running and the device as it should be. Never returns."""
        if self._envoy is None:
            await asyncio.Event().wait()
            return
        watch = asyncio.create_task(self._watch(self._envoy), name="proxy watch")
        try:
            await self._envoy.run()
        finally:
            watch.cancel()

    async def prepare(self, wanted: Listeners) -> None:
        """Return once all of them are served. Raises StalledError if they cannot be."""
        if self._envoy is None or not wanted.seats:
            return
        try:
            await asyncio.to_thread(self._saved.keep, wanted)
        except OSError as error:
            log.error(PORTS_NOT_KEPT, path=str(self._saved.path), error=str(error))
        self._remember(wanted)
        try:
            await self._envoy.prepare(wanted)
        except ProxyError as error:
            raise StalledError(str(error), reason=PROXY_FAILED) from error

    async def retire(self, kept: Listeners) -> None:
        """Serve no others any more. What cannot be taken away now goes with the next change."""
        if self._envoy is None:
            return
        try:
            await self._envoy.retire(kept)
        except ProxyError as error:
            log.warning(LISTENERS_NOT_RETIRED, error=str(error))

    def rules_of(self, digest: str) -> tuple[RuleId, ...]:
        """The rules of a set that is served, or was of late, in their order; empty if it is not known."""
        return self._rules.get(digest, ())

    def rules_at(self, direction: Direction, port: int) -> tuple[RuleId, ...]:
        """The rules that a listener serves; empty if there is none."""
        return self.rules_of(self._served.get((direction, port), ""))

    def with_secrets(self, policies: Sequence[Policy]) -> Sequence[Policy]:
        """The policies with what their secrets hold on this node now, as the proxy would judge by them."""
        asked = header_secrets(policies)
        folder = self._config.secrets if self._config else None
        return with_values(policies, read_secrets(folder, asked)) if asked else policies

    def _found_seats(self) -> Listeners:
        try:
            return self._saved.load()
        except (OSError, ValueError) as error:
            log.error(PORTS_NOT_FOUND, path=str(self._saved.path), error=str(error))
            return NO_LISTENERS

    def _remember(self, wanted: Listeners) -> None:
        sets = (one.rule_set for one in wanted.listeners)
        served = {found.digest: tuple(rule.id for rule in found.rules) for found in sets}
        older = [(digest, rules) for digest, rules in self._rules.items() if digest not in served]
        self._served = {(one.direction, one.port): one.rule_set.digest for one in wanted.listeners}
        self._rules = dict([*older, *served.items()][-max(KEPT_SETS, len(served)) :])

    def _lead(self) -> int:
        index = ensure_device()
        self._datapath.proxy.guard(index)
        return index

    async def _watch(self, envoy: EnvoyProxy) -> None:
        """What somebody takes away of the device comes back; until then redirected flows are dropped."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            await envoy.look()
            try:
                await asyncio.to_thread(self._mend_device)
            except (DatapathError, StalledError, OSError) as error:
                log.error(DEVICE_FAILED, error=str(error))

    def _mend_device(self) -> None:
        faults = device_faults()
        if faults or not self._datapath.proxy.is_guarded(self._datapath.proxy.interface()):
            self._datapath.proxy.lead_to(self._lead())
            self.device_mended += 1
            log.warning(DEVICE_MENDED, faults=list(faults))


def _envoy(config: EnvoyConfig, settings: EnvoySettings) -> EnvoyProxy:
    if config.is_apart:
        return EnvoyProxy(settings, keeper=Watcher(settings))
    find_binary(settings)
    return EnvoyProxy(settings)


def capabilities_of(config: EnvoyConfig | None) -> frozenset[Capability]:
    """What an agent can enforce that is told so of its Envoy."""
    return capabilities(
        proxy=config is not None, secrets=config is not None and config.secrets is not None
    )


def remove_proxy(state_dir: Path) -> None:
    """End this node's Envoy, and take away the device that led to it. Raises DatapathError or OSError."""
    folder = state_dir / ENVOY_FOLDER
    running = Admin(EnvoySettings(folder=folder, access_log=folder / ACCESS_LOG).admin).process()
    if running is not None:
        end(running)
    remove_device()
