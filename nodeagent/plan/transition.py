"""The way from the plan in the kernel to the next, such that every packet is judged by one of them.

In:   the installed plan (None: only what the kernel itself can tell), the desired plan
Out:  steps, in order
Pure.

Holds always:
1. At each moment the active generation knows every identity that the address maps can give.
2. An address gets another identity only while a generation is active to which the two, under the
   policies it enforces, mean what they should: no packet sees new rules with old blocks.
3. The last generation activated is the desired one.

Address maps are shared by all generations, so they change between flips. Where identities come or go
with the policies, bridges are activated: the old policies over both plans' identities before the
addresses change, the new policies over both after. A known prefix inside another is, to rules that do not
name it, exactly what the other is; so a bridge judges as the plan it stands for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from nodeagent.plan.generation import AddressPlan, Generation
from nodeagent.plan.node_plan import NodePlan
from nodeagent.plan.redirects import ProxyPorts
from nodeagent.plan.regroup import rebuild


class PolicySource(Enum):
    """Whose policies a generation enforces."""

    INSTALLED = auto()
    DESIRED = auto()


@dataclass(frozen=True, slots=True)
class Activate:
    """Fill a spare slot with this generation and make it the active one."""

    generation: Generation
    enforces: PolicySource


@dataclass(frozen=True, slots=True)
class UpsertAddresses:
    """Add and change addresses; judge all flows again if any changed. `touched`: those that may differ from
    what the kernel holds, besides prefixes; None: any."""

    addresses: AddressPlan
    touched: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class PruneAddresses:
    """Remove addresses that are not of this plan; judge all flows again if any went. `touched`: as above."""

    addresses: AddressPlan
    touched: frozenset[str] | None = None


Step = Activate | UpsertAddresses | PruneAddresses


def transition(
    installed: NodePlan | None, desired: NodePlan, *, active_digest: str | None
) -> tuple[Step, ...]:
    """The steps from the installed plan to the desired one.

    `active_digest` is that of the generation the kernel enforces, if any.
    """
    if installed is None:
        return _from_unknown(desired, active_digest)
    steps: list[Step] = []
    current = active_digest
    if installed.addresses != desired.addresses:
        before = _over(replace(installed, endpoints=desired.endpoints), desired)
        after = _over(desired, installed)
        if _names_other_prefixes(installed, desired):
            current = _activate(steps, before, PolicySource.INSTALLED, current)
        else:
            current = _activate(steps, after, PolicySource.DESIRED, current)
        touched = _touched(installed, desired)
        steps.append(UpsertAddresses(desired.addresses, touched))
        current = _activate(steps, after, PolicySource.DESIRED, current)
        steps.append(PruneAddresses(desired.addresses, touched))
    _activate(steps, desired.generation, PolicySource.DESIRED, current)
    return tuple(steps)


def _touched(installed: NodePlan, desired: NodePlan) -> frozenset[str] | None:
    """The addresses that differ between the two, where the one was carried on from the other."""
    carried = desired.carried
    if carried is None or carried.before is not installed.addresses:
        return None
    return carried.touched


def _from_unknown(desired: NodePlan, active_digest: str | None) -> tuple[Step, ...]:
    """After a restart into another policy: new prefixes first.

    Until the flip the generation before refuses the identities it does not know. The other
    order would for a moment judge a newly denied block as the addresses around it.
    """
    steps: list[Step] = [UpsertAddresses(desired.addresses)]
    _activate(steps, desired.generation, PolicySource.DESIRED, active_digest)
    return (*steps, PruneAddresses(desired.addresses))


def _activate(
    steps: list[Step], generation: Generation, enforces: PolicySource, current: str | None
) -> str:
    if generation.digest != current:
        steps.append(Activate(generation, enforces))
    return generation.digest


def _names_other_prefixes(installed: NodePlan, desired: NodePlan) -> bool:
    return set(installed.addresses.prefixes) != set(desired.addresses.prefixes)


def _over(plan: NodePlan, other: NodePlan) -> Generation:
    """The plan's generation with the identities of both plans known to it; where they differ on one (the
    labels of the node itself may change), the plan's own stands.

    An endpoint's own identity is the desired plan's, which both hold.
    """
    identities = plan.identities
    if other.identities is not identities:
        identities = {**other.identities, **plan.identities}
    # A listener that only a bridge would need is not made: until the last flip its flows are refused.
    proxy = ProxyPorts(is_closed=True)
    return rebuild(plan.built, plan.endpoints, identities, proxy=proxy).generation
