"""What a container runtime says of a pod while it starts it, read from its call.

In:   Request of ADD; the inventory's pods
Out:  Sandbox; pods with what the inventory could not know yet
Pure.

Holds always:
1. What the inventory says of a pod stands; a sandbox adds only what it leaves open.
2. A sandbox of another pod of the same name adds nothing, where both say which pod they mean.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from ipaddress import ip_interface
from typing import Any, Final

from netpolicy.inventory import Pod
from nodeagent.cni.messages import CniCode, Refusal, Request

MAX_INTERFACES: Final = 64
MAX_ADDRESSES: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A pod's network as a plugin made it.

    `interfaces` are those of the result that are on the node; `interface` is the one that leads to the pod,
    as far as the result or the kernel says so.
    """

    container: str
    namespace: str
    name: str
    uid: str = ""
    addresses: tuple[str, ...] = ()
    mac: str = ""
    interfaces: tuple[str, ...] = ()
    interface: str = ""


def read_sandbox(request: Request) -> Sandbox:
    """What an ADD says; raises Refusal if it does not name a pod and its addresses."""
    pod = _arguments(request.arguments)
    namespace, name = pod.get("K8S_POD_NAMESPACE", ""), pod.get("K8S_POD_NAME", "")
    if not (namespace and name and request.container):
        raise Refusal(
            CniCode.BAD_ENVIRONMENT,
            "CNI_CONTAINERID, K8S_POD_NAMESPACE or K8S_POD_NAME (in CNI_ARGS) is missing",
        )
    result = read_result(request.configuration)
    interfaces = _records(result, "interfaces", MAX_INTERFACES)
    own = [i for i in interfaces if i.get("sandbox") and i.get("name") == request.interface]
    addresses = tuple(_addresses(result, interfaces))
    if not addresses:
        raise Refusal(CniCode.BAD_CONFIGURATION, "prevResult gives the pod no address")
    return Sandbox(
        container=request.container,
        namespace=namespace,
        name=name,
        uid=pod.get("K8S_POD_UID", ""),
        addresses=addresses,
        mac=_text(own[0], "mac").lower() if own else "",
        interfaces=tuple(_text(i, "name") for i in interfaces if not i.get("sandbox")),
    )


def read_result(configuration: bytes) -> Mapping[str, Any]:
    """The result of the plugins before, from the configuration; raises Refusal."""
    result = read_configuration(configuration).get("prevResult")
    if not isinstance(result, dict):
        raise Refusal(CniCode.BAD_CONFIGURATION, "there is no prevResult")
    return result


def read_configuration(data: bytes) -> Mapping[str, Any]:
    """The network configuration; raises Refusal."""
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Refusal(CniCode.CANNOT_DECODE, "the configuration is no JSON") from error
    if not isinstance(found, dict):
        raise Refusal(CniCode.CANNOT_DECODE, "the configuration is no JSON object")
    return found


def still_valid(configuration: bytes) -> frozenset[str]:
    """The containers that the runtime still has, from a GC; raises Refusal."""
    listed = _records(read_configuration(configuration), "cni.dev/valid-attachments", 1 << 16)
    return frozenset(_text(attachment, "containerID") for attachment in listed)


def with_sandboxes(
    pods: Iterable[Pod], sandboxes: Iterable[Sandbox], *, node: str
) -> tuple[Pod, ...]:
    """The pods, with interface, addresses and MAC where only their sandbox knows them."""
    of_pod = {(sandbox.namespace, sandbox.name): sandbox for sandbox in sandboxes}
    return tuple(
        _completed(pod, of_pod.get((pod.namespace, pod.name))) if pod.node == node else pod
        for pod in pods
    )


def _completed(pod: Pod, sandbox: Sandbox | None) -> Pod:
    if sandbox is None or (pod.uid and sandbox.uid and pod.uid != sandbox.uid):
        return pod
    if pod.addresses and not set(sandbox.addresses) <= set(pod.addresses):
        return pod  # the inventory still means the pod that had this name before
    if pod.interface and sandbox.interface and pod.interface != sandbox.interface:
        return pod
    return replace(
        pod,
        addresses=pod.addresses or sandbox.addresses,
        interface=pod.interface or sandbox.interface,
        mac=pod.mac or sandbox.mac,
    )


def _arguments(text: str) -> dict[str, str]:
    """CNI_ARGS: `KEY=value;KEY=value`."""
    pairs = (part.partition("=") for part in text.split(";"))
    return {key: value for key, _, value in pairs}


def _addresses(result: Mapping[str, Any], interfaces: list[Mapping[str, Any]]) -> Iterable[str]:
    """The addresses inside the pod: those that are said to be on the node's side are not the pod's."""
    on_node = [index for index, found in enumerate(interfaces) if not found.get("sandbox")]
    for record in _records(result, "ips", MAX_ADDRESSES):
        if record.get("interface") in on_node:
            continue
        try:
            yield str(ip_interface(_text(record, "address")).ip)
        except ValueError as error:
            raise Refusal(CniCode.BAD_CONFIGURATION, "an address of prevResult is none") from error


def _records(found: Mapping[str, Any], key: str, limit: int) -> list[Mapping[str, Any]]:
    value = found.get(key, [])
    if not isinstance(value, list) or len(value) > limit:
        raise Refusal(CniCode.BAD_CONFIGURATION, f"{key} is no list, or too long")
    if not all(isinstance(item, dict) for item in value):
        raise Refusal(CniCode.BAD_CONFIGURATION, f"{key} holds something else than objects")
    return value


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key, "")
    # Half a character (\ud800) is text to JSON, and to nobody else.
    if not isinstance(value, str) or not value.isascii():
        raise Refusal(CniCode.BAD_CONFIGURATION, f"{key} is no plain text")
    return value
