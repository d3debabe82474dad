"""Make one inventory of what the API server has.

In:   pods, nodes, namespaces and services as kept by their caches
Out:  Inventory
Pure. Equal inputs, equal inventory, in whatever order they came.

Holds always:
1. An address is one pod's. Of several that claim it, the one that is not leaving has it, then the
   one made last: an address is given away again while the API still shows its last owner.
2. A pod's address is never a node's or the API server's: what a pod claims of theirs it does not get. Nor
   is a service's any of theirs, or a pod's.
3. A service without a selector is not there: who is behind it, nobody here knows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from netpolicy.inventory import Inventory, Node, Pod
from netpolicy.kube_objects import KubePod
from netpolicy.services import ClusterService


def inventory_of(
    *,
    cluster: str,
    pods: Iterable[KubePod],
    nodes: Iterable[Node],
    namespaces: Mapping[str, Mapping[str, str]],
    api_server: Iterable[str] = (),
    services: Iterable[ClusterService] = (),
) -> Inventory:
    """Everything, sorted by name."""
    sorted_nodes = tuple(sorted(nodes, key=lambda node: node.name))
    of_api_server = tuple(sorted(set(api_server)))
    not_of_pods = addresses_not_of_pods(sorted_nodes, of_api_server)
    owned = _with_own_addresses(pods, not_of_pods)
    taken = not_of_pods.union(address for pod in owned for address in pod.addresses)
    return Inventory(
        cluster=cluster,
        nodes=sorted_nodes,
        namespaces=dict(sorted(namespaces.items())),
        pods=owned,
        api_server=of_api_server,
        services=leading_services(services, taken.__contains__),
    )


def addresses_not_of_pods(nodes: Iterable[Node], api_server: Iterable[str]) -> frozenset[str]:
    """Those that no pod can claim."""
    return frozenset(api_server).union(*(node.addresses for node in nodes))


def _with_own_addresses(pods: Iterable[KubePod], not_of_pods: frozenset[str]) -> tuple[Pod, ...]:
    """The pods, each with the addresses that are its own."""
    claims = sorted(pods, key=claim_of, reverse=True)
    taken = set(not_of_pods)
    found = []
    for each in claims:
        own = tuple(address for address in each.pod.addresses if address not in taken)
        taken.update(own)
        is_whole = len(own) == len(each.pod.addresses)
        found.append(each.pod if is_whole else replace(each.pod, addresses=own))
    return tuple(sorted(found, key=lambda pod: (pod.namespace, pod.name)))


def leading_services(
    services: Iterable[ClusterService], is_taken: Callable[[str], bool]
) -> tuple[ClusterService, ...]:
    """Those that select pods, each with the addresses that are nobody else's."""
    found = []
    for service in sorted(services, key=lambda each: (each.namespace, each.name)):
        own = tuple(address for address in service.addresses if not is_taken(address))
        if service.selector and own:
            is_whole = len(own) == len(service.addresses)
            found.append(service if is_whole else replace(service, addresses=own))
    return tuple(found)


def claim_of(each: KubePod) -> tuple[bool, str, str]:
    """How good a pod's claim to its addresses is; the greatest wins."""
    return (not each.is_leaving, each.created, each.uid)
