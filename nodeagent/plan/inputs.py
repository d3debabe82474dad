"""What a node's plan is made from.

Values only.
"""

from __future__ import annotations

from dataclasses import dataclass

from netpolicy.capabilities import Capability
from netpolicy.entities import RESERVED_LABELS, ReservedIdentity
from netpolicy.inventory import AddressEntry
from netpolicy.labels import Labels
from netpolicy.rules import Mode, Policy
from nodeagent.l7.listeners import DEFAULT_PORTS, PortRange
from nodeagent.plan.build import ENFORCED
from nodeagent.plan.enforceable import CAPABILITIES
from nodeagent.plan.room import AddressRoom


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalPod:
    """A pod on this node before its labels have a number. See `LocalEndpoint` for the fields."""

    endpoint_id: int
    namespace: str
    name: str
    labels: Labels
    addresses: tuple[str, ...]
    interface: str
    mac: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanInputs:
    """What the plan is made from. `entries` are the whole cluster's, this node's included.

    Of `policies` those of `modes` are enforced; with `has_preview`, all of them are evaluated beside.
    `candidate`: policies to be evaluated as if they were the enforced ones; with `candidate_is_former`,
    those that were enforced before these. `remembered`: policies of generations that may come into force
    again by a flip, so that every address keeps its identity.
    `node_labels` are the local host's: the reserved label, and the node's own. `room`: what the address
    maps hold; None for no limit. `capabilities`: what this agent enforces; with a proxy, on `proxy_ports`.
    """

    node: str
    policies: tuple[Policy, ...] = ()
    modes: frozenset[Mode] = ENFORCED
    has_preview: bool = False
    candidate: tuple[Policy, ...] | None = None
    candidate_is_former: bool = False
    remembered: tuple[Policy, ...] = ()
    pods: tuple[LocalPod, ...] = ()
    entries: tuple[AddressEntry, ...] = ()
    node_addresses: tuple[str, ...] = ()
    node_labels: Labels = RESERVED_LABELS[ReservedIdentity.HOST]
    admit_local_host: bool = True
    room: AddressRoom | None = None
    capabilities: frozenset[Capability] = CAPABILITIES
    proxy_ports: PortRange = DEFAULT_PORTS

    @property
    def known(self) -> tuple[Policy, ...]:
        """The policies whose blocks must have identities."""
        return (*self.policies, *(self.candidate or ()), *self.remembered)
