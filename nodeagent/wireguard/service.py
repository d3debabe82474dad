"""Bring encryption about on this node, and keep it so.

In:   EncryptionInputs: settings, peers' keys, who is where
Out:  devices, routes, guards and maps that say the same; a report
Shell: joins the pure core with the shells beside it. One convergence at a time.

Holds always:
1. Encryption is switched on last and off first: a packet is marked only when a tunnel can take it.
2. What fails leaves in force what was: keys, tunnels and mode; an alarm says why.
3. In strict mode an agent that starts, or loses its tunnels, drops rather than sends in the clear.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from netpolicy.encryption import NodeKey
from netpolicy.errors import StalledError
from netpolicy.node_encryption import (
    MAX_SILENT_PEERS,
    EncryptionMode,
    Implementation,
    NodeEncryption,
)
from nodeagent.datapath import Datapath, DatapathError
from nodeagent.datapath.encryption_maps import WireMode
from nodeagent.encrypts import EncryptionInputs
from nodeagent.l7.device import DEVICE as PROXY_DEVICE
from nodeagent.plan.places import Place
from nodeagent.wireguard import routes, wg
from nodeagent.wireguard.by_destination import by_destination
from nodeagent.wireguard.devices import TunnelLinks, bring_up, tunnel_names
from nodeagent.wireguard.difference import Wanted, steps
from nodeagent.wireguard.handshakes import Handshakes
from nodeagent.wireguard.held_routes import ELSEWHERE
from nodeagent.wireguard.host import HostSide, read_host, require_loose_sources, tunnel_mtu
from nodeagent.wireguard.keys import KeyStore, PrivateKey
from nodeagent.wireguard.peers import Agreed, Known, agree, canonical, sent_to
from nodeagent.wireguard.rotation import Rotation, is_due, rotation_step
from nodeagent.wireguard.saved_places import SavedPlaces
from nodeagent.wireguard.status import TunnelStatus, tunnels_of
from nodeagent.wireguard.tunnels import (
    OwnKey,
    TunnelDevice,
    host_cidr,
    pod_places,
    senders,
    tunnel_devices,
)

log = structlog.get_logger()

ENCRYPTION_APPLIED: Final = "encryption_applied"
ENCRYPTION_FAILED: Final = "encryption_failed"
PEERS_REFUSED: Final = "peers_refused"
PEERS_SILENT: Final = "peers_silent"
PEERS_HEARD: Final = "peers_heard_again"
MAX_LOGGED: Final = 10
KEY_ROTATES: Final = "key_rotates"
KEY_RETIRED: Final = "key_retired"
WAYS_MENDED: Final = "tunnel_routes_mended"
STRICT_RESTORED: Final = "strict_restored"
FOLDER: Final = "wireguard"
WATCH_SECONDS: Final = 0.5
CHECK_SECONDS: Final = 10.0
WAYS_SECONDS: Final = 3.0
"""How often routes and rules are compared with what they should be."""
FORGOTTEN: Final = "StrictPlacesUnreadable"
ROTATING: Final = "RotationUnderWay"
NOT_ENCRYPTING: Final = "NotEncrypting"


class Tunnels:
    """`nodeagent.encrypts.Encrypts` by WireGuard."""

    def __init__(
        self,
        datapath: Datapath,
        *,
        node: str,
        state_dir: Path,
        outside_ports: tuple[int, ...] = (),
        check_seconds: float = CHECK_SECONDS,
    ) -> None:
        """`outside_ports`: TCP ports that no traffic of nodes enters a tunnel for; `check_seconds`: how
        often all is compared with what it should be."""
        self._datapath = datapath
        self._node = node
        self._outside_ports = outside_ports
        self._check_seconds = check_seconds
        self._store = KeyStore(state_dir / FOLDER)
        self._saved = SavedPlaces(state_dir / FOLDER)
        self._links = TunnelLinks()
        self._lock = asyncio.Lock()
        self._keys: tuple[PrivateKey, ...] = self._store.load()
        self._inputs: EncryptionInputs | None = None
        self._applied = EncryptionMode.OFF
        self._agreed = Agreed()
        self._devices: tuple[TunnelDevice, ...] = ()
        self._implementation = Implementation.NONE
        self._handshakes = Handshakes()
        self._interfaces: dict[str, int] = {}
        self._ways: routes.Ways | None = None
        self._routing = routes.Routing()
        self.ways_mended = 0
        """How many routes and rules were not as they had been left."""
        self._rotation: Rotation | None = None
        self._error = ""

    def restore(self) -> None:
        """Before any pod is under policy: if this node was strict, and the kernel has forgotten, have it
        refuse what is in the clear until tunnels are there. Raises DatapathError, or StalledError if it
        cannot be told what was refused."""
        if self._datapath.encryption().is_on:
            return
        try:
            places = self._saved.load()
        except (OSError, ValueError) as error:
            raise StalledError(
                f"{self._saved.path} is unreadable: {error}", reason=FORGOTTEN
            ) from error
        if places is not None:
            self._routing.keep(routes.Ways(marked={}, all={}))
            self._datapath.set_places(places)
            self._datapath.set_encryption(WireMode(is_on=True, strict=True))
            self._guard_uplinks(read_host(()))
            log.info(STRICT_RESTORED, places=len(places))

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""
        return (*((self._error,) if self._error else ()), *self._agreed.refused)

    async def bring_about(self, inputs: EncryptionInputs) -> None:
        """Encrypt so from now on. Raises StalledError if it cannot be."""
        async with self._lock:
            self._inputs = inputs
            await self._converge()

    async def rotate(self) -> None:
        """Make a new key, and change over to it. Raises StalledError if that cannot be now."""
        async with self._lock:
            if self._inputs is None or self._mode is EncryptionMode.OFF:
                raise StalledError("this node does not encrypt", reason=NOT_ENCRYPTING)
            if len(self._keys) > 1:
                raise StalledError("a rotation is under way already", reason=ROTATING)
            await asyncio.to_thread(self._add_key)
            await self._converge()

    async def run(self) -> None:
        """Keep it so: tunnels that died, new interfaces, peers that shook hands, keys that grew old."""
        checked = compared = 0.0
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            if self._inputs is None or self._mode is EncryptionMode.OFF:
                continue
            async with self._lock:
                now = time.monotonic()
                is_due = now - checked >= self._check_seconds or self._overlaps
                if is_due or await asyncio.to_thread(self._interfaces_changed):
                    checked = compared = now
                    with suppress(StalledError):  # it is logged, and tried again
                        await self._converge()
                elif self._handshakes.awaits(self._agreed, self._own, now=time.time()):
                    with suppress(StalledError):  # the next convergence says what is wrong
                        await asyncio.to_thread(self._see_devices)
                if now - compared >= WAYS_SECONDS:
                    compared = now
                    with suppress(DatapathError):  # a device that goes is noticed by the next look
                        await asyncio.to_thread(self._mend_ways)

    def report(self) -> NodeEncryption:
        """How it stands: what is in force, not what is wanted."""
        mode = self._applied
        if mode is EncryptionMode.OFF or self._inputs is None:
            return NodeEncryption(node=self._node, error=self._error)
        now = time.time()
        silent = self._handshakes.silent(self._agreed, self._own, now=now)
        unmet = self._handshakes.unmet(self._agreed, self._own, now=now)
        return NodeEncryption(
            node=self._node,
            mode=mode,
            implementation=self._implementation,
            keys=tuple(_announced(key, self._node, self._inputs) for key in self._own),
            peers=len(self._agreed.peers),
            silent_peers=silent[:MAX_SILENT_PEERS],
            unmet_peers=unmet[:MAX_SILENT_PEERS],
            error="; ".join(self.alarms),
        )

    def status(self) -> TunnelStatus:
        """How it stands, for people."""
        if self._applied is EncryptionMode.OFF or self._inputs is None:
            return TunnelStatus(alarms=self.alarms)
        now = time.time()
        sent = sent_to(self._agreed, self._applied)
        through = senders(sent, self._own, self._handshakes.latest, now=now)
        return TunnelStatus(
            mode=self._applied,
            implementation=self._implementation,
            port=self._inputs.encrypting.settings.port,
            keys=self._own,
            tunnels=tunnels_of(self._agreed, self._handshakes.devices, through),
            silent=self._handshakes.silent(self._agreed, self._own, now=now),
            alarms=self.alarms,
        )

    @property
    def _mode(self) -> EncryptionMode:
        return self._inputs.encrypting.mode if self._inputs else EncryptionMode.OFF

    @property
    def _overlaps(self) -> bool:
        """True while this node or a peer changes its key: who shakes hands decides what is sent where."""
        return len(self._keys) > 1 or any(len(peer.keys) > 1 for peer in self._agreed.peers)

    @property
    def _own(self) -> tuple[OwnKey, ...]:
        return tuple(key.own for key in self._keys)

    # One convergence, in a thread ------------------------------------------------------------

    async def _converge(self) -> None:
        inputs = self._inputs
        if inputs is None:
            return
        off = inputs.encrypting.mode is EncryptionMode.OFF
        try:
            await asyncio.to_thread(self._switch_off if off else self._bring_about, inputs)
        except (DatapathError, OSError) as error:
            self._note(str(error))
            raise StalledError(str(error), reason="TunnelsFailed") from error
        except StalledError as error:
            self._note(str(error))
            raise
        self._error = ""

    def _note(self, error: str) -> None:
        if error != self._error:
            log.error(ENCRYPTION_FAILED, error=error)
        self._error = error

    def _switch_off(self, _inputs: EncryptionInputs) -> None:
        if not self._datapath.encryption().is_on and not tunnel_names():
            return  # devices go last: what never encrypted has nothing to take back
        self._saved.keep(None)
        self._datapath.set_encryption(WireMode())
        self._datapath.set_places({})
        self._ways = None
        routes.remove_ways()
        for name in tunnel_names():
            self._links.remove(name)
        log.info(ENCRYPTION_APPLIED, mode=EncryptionMode.OFF, peers=0, devices=0)
        self._applied, self._agreed, self._devices = EncryptionMode.OFF, Agreed(), ()
        self._implementation = Implementation.NONE

    def _bring_about(self, inputs: EncryptionInputs) -> None:
        now = time.time()
        settings = inputs.encrypting.settings
        if not self._keys:
            self._add_key()
        host = read_host(inputs.node_addresses)
        agreed = self._agree(inputs)
        devices = tunnel_devices(agreed, self._own, port=settings.port)
        indices = self._set_devices(devices, host, fallback=settings.userspace_fallback, now=now)
        sent = sent_to(agreed, inputs.encrypting.mode)
        if settings.node_traffic:
            require_loose_sources(host)
        places = pod_places(
            sent,
            inputs.entries,
            node=self._node,
            pod_cidrs=settings.pod_cidrs,
            host_addresses=host.addresses,
            strict=inputs.encrypting.mode is EncryptionMode.STRICT,
            node_traffic=settings.node_traffic,
        )
        self._lead(sent, places, indices, host, node_traffic=settings.node_traffic, now=now)
        self._guard_uplinks(host)
        self._enforce(inputs.encrypting.mode, places)
        for name in set(tunnel_names()) - indices.keys():
            self._links.remove(name)
        mode = inputs.encrypting.mode
        if (mode, agreed, devices) != (self._applied, self._agreed, self._devices):
            log.info(ENCRYPTION_APPLIED, mode=mode, peers=len(agreed.peers), devices=len(devices))
        self._applied, self._agreed, self._devices = mode, agreed, devices
        self._handshakes.forget(frozenset(indices))
        self._handshakes.know(agreed, now=now)
        self._tell_silence(now)
        self._interfaces = host.interfaces | indices
        self._go_on_rotating(agreed, settings.rotation_seconds, now=now)

    def _see_devices(self) -> None:
        for device in self._devices:
            self._handshakes.see(wg.observe(device.name))

    def _tell_silence(self, now: float) -> None:
        turns = self._handshakes.turns(self._agreed, self._own, now=now)
        if turns.silent:
            log.warning(PEERS_SILENT, count=len(turns.silent), nodes=turns.silent[:MAX_LOGGED])
        if turns.heard:
            log.info(PEERS_HEARD, count=len(turns.heard), nodes=turns.heard[:MAX_LOGGED])

    def _agree(self, inputs: EncryptionInputs) -> Agreed:
        pods = (
            canonical(entry.address)
            for entry in inputs.entries
            if entry.namespace and entry.node == self._node
        )
        known = Known(
            node=self._node,
            node_keys=inputs.encrypting.node_keys,
            entries=inputs.entries,
            own_keys=frozenset(key.public_key for key in self._own),
            own_addresses=frozenset((*map(canonical, inputs.node_addresses), *pods)),
        )
        agreed = agree(known, self._agreed)
        if agreed.refused and agreed.refused != self._agreed.refused:
            log.error(PEERS_REFUSED, count=len(agreed.refused), first=agreed.refused[0])
        return agreed

    def _set_devices(
        self, devices: tuple[TunnelDevice, ...], host: HostSide, *, fallback: bool, now: float
    ) -> dict[str, int]:
        private = {key.own.slot: key for key in self._keys}
        before = {device.name: device for device in self._devices}
        indices = {}
        for device in devices:
            index, implementation = self._links.ensure(device.name, userspace_fallback=fallback)
            self._implementation = implementation
            if not self._datapath.is_guarded(index, tunnel=True):
                self._datapath.guard_tunnel(index)
            mtu = tunnel_mtu(host.underlay_mtu, over_ipv6=device.is_over_ipv6)
            bring_up(index, device.name, mtu=mtu, node_addresses=host.node_addresses)
            key = private[device.own_slot]
            observed = wg.observe(device.name)
            wanted = Wanted(
                device=device,
                public_key=key.own.public_key,
                before=before.get(device.name),
            )
            for step in steps(observed, wanted, now=now):
                wg.perform(step, private_key=key.text)
            self._handshakes.see(wg.observe(device.name))
            indices[device.name] = index
        return indices

    def _lead(
        self,
        agreed: Agreed,
        places: Mapping[str, Place],
        indices: dict[str, int],
        host: HostSide,
        *,
        node_traffic: bool,
        now: float,
    ) -> None:
        through = senders(agreed, self._own, self._handshakes.latest, now=now)
        marked: dict[str, int] = {}
        nodes: dict[str, int] = {}
        for peer in agreed.peers:
            device = indices[through[peer.node]]
            marked |= dict.fromkeys(map(host_cidr, peer.pods), device)
            if node_traffic:
                nodes |= dict.fromkeys(map(host_cidr, peer.addresses), device)
        marked |= nodes
        led = by_destination(marked, places)
        ways = routes.Ways(
            marked=marked,
            all={c: ELSEWHERE if way is None else way for c, way in led.items()} | nodes,
            node_traffic=node_traffic,
            has_proxy=PROXY_DEVICE in host.interfaces,
            sources=host.node_addresses,
            outside=self._outside_ports,
        )
        self._set_ways(ways)

    def _mend_ways(self) -> None:
        """Somebody may have changed routes or rules since they were set."""
        if self._ways:
            self._set_ways(self._ways)

    def _set_ways(self, ways: routes.Ways) -> None:
        before, self._ways = self._ways, ways
        changed = self._routing.keep(ways)
        if changed and ways == before:
            self.ways_mended += changed
            log.warning(WAYS_MENDED, changed=changed)

    def _guard_uplinks(self, host: HostSide) -> None:
        """Not on pods' interfaces, where `to_pod` is, nor on the proxy's, where another guard stands."""
        others = {found.ifindex for found in self._datapath.attached()}
        others |= {host.interfaces[name] for name in (PROXY_DEVICE,) if name in host.interfaces}
        for index in host.uplinks.values():
            if index not in others and not self._datapath.is_guarded(index, tunnel=False):
                with suppress(DatapathError):  # it may have gone; else the next look tries again
                    self._datapath.guard_uplink(index)

    def _enforce(self, mode: EncryptionMode, places: Mapping[str, Place]) -> None:
        strict = mode is EncryptionMode.STRICT
        # Kept first: from the moment on that it is strict, no start of this node may be less.
        self._saved.keep(places if strict else None)
        self._datapath.set_places(places)
        self._datapath.set_encryption(WireMode(is_on=True, strict=strict))

    def _interfaces_changed(self) -> bool:
        inputs = self._inputs
        return (
            inputs is not None and read_host(inputs.node_addresses).interfaces != self._interfaces
        )

    # Keys -----------------------------------------------------------------------------------

    def _add_key(self) -> None:
        taken = {key.own.slot for key in self._keys}
        slot = 1 if 0 in taken else 0
        self._keys = (self._store.make(slot, now=time.time()), *self._keys)
        log.info(KEY_ROTATES, slot=slot, public_key=self._keys[0].own.public_key)

    def _go_on_rotating(self, agreed: Agreed, rotation_seconds: int, *, now: float) -> None:
        self._rotation = rotation_step(
            self._rotation, self._own, agreed, self._handshakes.latest, now=now
        )
        if self._rotation is not None and self._rotation.may_retire(now):
            retired = self._keys[-1]
            self._store.forget(retired.own.slot)
            self._keys, self._rotation = self._keys[:-1], None
            self._interfaces = {}  # its devices go at the next look
            log.info(KEY_RETIRED, slot=retired.own.slot)
        elif is_due(self._own, rotation_seconds, now=now):
            self._add_key()


def _announced(key: OwnKey, node: str, inputs: EncryptionInputs) -> NodeKey:
    return NodeKey(
        node=node,
        public_key=key.public_key,
        addresses=inputs.node_addresses,
        port=inputs.encrypting.settings.port,
        slot=key.slot,
        made_at=key.made_at,
        in_force=inputs.encrypting.mode.is_in_force,
    )


def remove_tunnels() -> None:
    """Take every device, route and rule of ours away: for a node that is given back."""
    routes.remove_ways()
    links = TunnelLinks()
    for name in tunnel_names():
        links.remove(name)
