"""Put interfaces under policy: the programs on them, and who is behind each.

In:   interfaces of this node, the endpoints of the plan in force
Out:  filters attached, the endpoints map; which interfaces are still awaited
Shell over the datapath's interfaces. Knows no policy.

Holds always:
1. Attaching never opens: an interface whose endpoint the kernel does not know is refused everything.
2. Programs that already stand on an interface are replaced only under a plan in force: older ones go on
   enforcing what they did until then.
3. What is attached stays so: a pod that is no longer listed is refused everything, not left alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Set
from typing import Final

import structlog

from nodeagent.datapath import Datapath, DatapathError, LocalEnd
from nodeagent.direct_delivery import DirectDelivery
from nodeagent.plan.generation import LocalEndpoint

log = structlog.get_logger()

ENDPOINT_ATTACHED: Final = "endpoint_attached"
ENDPOINT_REATTACHED: Final = "endpoint_reattached"
ENDPOINT_FAILED: Final = "endpoint_failed"
ENDPOINT_GONE: Final = "endpoint_gone"
INTERFACE_GUARDED: Final = "interface_guarded"


class Placement:
    """Owns what is attached. One caller at a time."""

    def __init__(self, datapath: Datapath, *, delivers_directly: bool = False) -> None:
        self._datapath = datapath
        self._direct = DirectDelivery(datapath, is_wanted=delivers_directly)
        self._placed: dict[int, LocalEndpoint] = {}
        self._distrusted: set[int] = set()
        self._found: set[int] | None = None
        self._attached: set[int] = set()
        self._renewed: set[int] = set()
        self.gone = asyncio.Event()
        """Set when an endpoint went: flows of it may be left."""
        self.reattached = 0
        """How often programs that somebody took off were put back, as the kernel reported the loss."""

    @property
    def placed(self) -> Mapping[int, LocalEndpoint]:
        """Interface index → the endpoint put behind it, where nothing is in doubt."""
        return {i: e for i, e in self._placed.items() if i not in self._distrusted}

    @property
    def endpoints(self) -> Mapping[int, LocalEndpoint]:
        """Interface index → the endpoint that the kernel was told."""
        return self._placed

    @property
    def local_ends(self) -> Mapping[str, LocalEnd]:
        """Address → where the kernel was told to hand its packets directly."""
        return self._direct.ends

    @property
    def attached(self) -> frozenset[int]:
        """What bears our programs: somebody known is behind it, or nobody passes."""
        return frozenset(self._attached | (self._found or set()))

    def find_attached(self) -> frozenset[int]:
        """The same, once the kernel was asked what an earlier agent attached."""
        if self._found is None:
            self._found = {found.ifindex for found in self._datapath.attached()}
        return self.attached

    def place(
        self, endpoints: Iterable[LocalEndpoint], interfaces: Mapping[str, int]
    ) -> tuple[str, ...]:
        """Attach every endpoint whose interface is there; return the interfaces still awaited.

        One that fails (its interface may just have gone) is logged and awaited; the others go on.
        """
        listed = tuple(endpoints)
        self._attached &= set(interfaces.values())
        wanted = {interfaces[e.interface]: e for e in listed if e.interface in interfaces}
        for ifindex in sorted(self._placed.keys() - wanted.keys()):
            self._remove(ifindex)
        for ifindex, endpoint in wanted.items():
            try:
                self._place(ifindex, endpoint)
            except DatapathError as error:
                log.error(
                    ENDPOINT_FAILED,
                    namespace=endpoint.namespace,
                    pod=endpoint.name,
                    interface=endpoint.interface,
                    error=str(error),
                )
        self._direct.follow(self.placed)
        placed = set(self.placed.values())
        return tuple(sorted(e.interface for e in listed if e not in placed))

    def guard(self, interfaces: Mapping[str, int], *, lost: Set[int] = frozenset()) -> None:
        """Attach at once where no program of ours stands: nobody passes there until judged.

        `lost` are interfaces that may have lost their filters, or be other interfaces than before.
        """
        self.find_attached()
        self._found = (self._found or set()) - lost
        self._attached -= lost
        for name, ifindex in sorted(interfaces.items()):
            if ifindex in self.attached:
                continue
            try:
                self._attach(ifindex)
            except DatapathError as error:
                log.error(ENDPOINT_FAILED, interface=name, ifindex=ifindex, error=str(error))
            else:
                log.info(INTERFACE_GUARDED, interface=name, ifindex=ifindex)

    def renew(self) -> None:
        """After a start, under a plan in force: the programs of today wherever some of ours stand.

        Else an interface whose pod went while the agent was dead would keep its policy of then.
        """
        current = set(self._datapath.program_ids().values())
        for found in self._datapath.attached():
            if found.program_id not in current and found.ifindex not in self._attached:
                self._attach(found.ifindex)

    def restore_programs(self, ifindexes: Iterable[int]) -> None:
        """Attach again where somebody took our programs away, or put something before them."""
        for ifindex in sorted(ifindexes):
            try:
                self._attach(ifindex)
            except DatapathError as error:
                log.error(ENDPOINT_FAILED, ifindex=ifindex, error=str(error))

    def restore_endpoints(self, ifindexes: Iterable[int]) -> None:
        """Tell the kernel again who is behind these: whom it was told before, or nobody."""
        for ifindex in sorted(ifindexes):
            endpoint = self._placed.get(ifindex)
            if endpoint is None:
                self._datapath.remove_endpoint(ifindex)
            else:
                self._datapath.set_endpoint(endpoint, ifindex)

    def restore_local_ends(self) -> None:
        """Tell the kernel again to whom it hands packets directly."""
        self._direct.restore()

    def distrust(self, ifindexes: Set[int]) -> None:
        """Attach to these again: somebody took filters off them, or they are other interfaces."""
        self._attached -= ifindexes
        self._distrusted |= self._placed.keys() & ifindexes
        self._direct.follow(self.placed)

    def forget_unlisted(
        self, endpoints: Iterable[LocalEndpoint], interfaces: Mapping[str, int]
    ) -> None:
        """After a restart: remove endpoints of interfaces that no listed pod has any more."""
        listed = {endpoint.interface for endpoint in endpoints}
        kept = {index for name, index in interfaces.items() if name in listed}
        for ifindex in sorted(set(self._datapath.read_endpoints()) - kept):
            self._datapath.remove_endpoint(ifindex)

    def is_placed(self, endpoint_id: int) -> bool:
        """True if the endpoint's interface is under policy."""
        return any(endpoint.endpoint_id == endpoint_id for endpoint in self.placed.values())

    def _remove(self, ifindex: int) -> None:
        self._datapath.remove_endpoint(ifindex)
        gone = self._placed.pop(ifindex)
        self.gone.set()
        self._distrusted.discard(ifindex)
        log.info(ENDPOINT_GONE, namespace=gone.namespace, pod=gone.name, ifindex=ifindex)

    def _place(self, ifindex: int, endpoint: LocalEndpoint) -> None:
        before = self._placed.get(ifindex)
        is_lost = ifindex in self._distrusted
        if before == endpoint and not is_lost:
            return
        try:
            self._datapath.set_endpoint(endpoint, ifindex)
        finally:
            # Also if the kernel has no room for the endpoint: then nobody passes there.
            if (before is None or is_lost) and ifindex not in self._attached:
                self._attach(ifindex)
        if before is not None and before.endpoint_id != endpoint.endpoint_id:
            self.gone.set()
        if before is None or is_lost:
            # What went may have been others' only.
            self.reattached += is_lost and ifindex in self._renewed
            self._distrusted.discard(ifindex)
            log.info(
                ENDPOINT_REATTACHED if is_lost else ENDPOINT_ATTACHED,
                namespace=endpoint.namespace,
                pod=endpoint.name,
                interface=endpoint.interface,
                ifindex=ifindex,
            )
        self._placed[ifindex] = endpoint

    def _attach(self, ifindex: int) -> None:
        if self._datapath.attach(ifindex):
            self._renewed.add(ifindex)
        else:
            self._renewed.discard(ifindex)
        self._attached.add(ifindex)
