"""Is a single value well formed? The checks that a schema asks for by name.

In:   one value of a document, already of the right type
Out:  what is wrong with it; nothing if it is well formed
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any, Final

from netpolicy.labels import Operator
from netpolicy.rules import LAST_PORT, Mode
from reconciler.objects.port_text import (
    DEFAULT_FAMILY,
    FAMILIES,
    ICMP_TYPES,
    icmp_type,
    is_port_name,
    port_number,
)
from reconciler.objects.schema.request_values import REQUEST_CHECKS
from reconciler.objects.schema.value_fault import ValueFault, nearest, shown

MODE_ANNOTATION: Final = "tidegate.dev/mode"
OWN_ANNOTATIONS: Final = "tidegate.dev/"

_LABEL_PART: Final = r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?"
_LABEL_VALUE: Final = re.compile(rf"({_LABEL_PART})?")
_LABEL_NAME: Final = re.compile(_LABEL_PART)
_LABEL_PREFIX: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_SOURCE: Final = re.compile(r"[a-z][-a-z0-9]*")
_OBJECT_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
_NAMESPACE_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_BLOCK: Final = re.compile(r"[0-9A-Fa-f:.]+/[0-9]{1,3}")
_MAX_LABEL: Final = 63
_MAX_PREFIX: Final = 253


def _cidr(value: str) -> Iterator[ValueFault]:
    if not _BLOCK.fullmatch(value):
        hint = f'write "{value}/32"' if re.fullmatch(r"[0-9.]+", value) else ""
        yield ValueFault("TG111", f"{shown(value)} is not a block of addresses", hint)
        return
    try:
        network = ip_network(value, strict=False)
    except ValueError:
        yield ValueFault("TG111", f"{shown(value)} is not a block of addresses")
        return
    if network.version == 6 and network.network_address.ipv4_mapped is not None:
        yield ValueFault(
            "TG111",
            f"{shown(value)} holds IPv4 addresses in IPv6 notation, which no packet carries",
            "write the IPv4 block",
        )


def _label_key(value: str) -> Iterator[ValueFault]:
    if not _is_label_key(value, with_source=True):
        yield ValueFault("TG112", f"{shown(value)} is not a label key")


def _plain_label_key(value: str) -> Iterator[ValueFault]:
    if not _is_label_key(value, with_source=False):
        yield ValueFault("TG112", f"{shown(value)} is not a label key")


def _is_label_key(text: str, *, with_source: bool) -> bool:
    source, colon, key = text.partition(":")
    if colon and not (with_source and _SOURCE.fullmatch(source)):
        return False
    prefix, slash, name = (key if colon else text).rpartition("/")
    if slash and not (len(prefix) <= _MAX_PREFIX and _LABEL_PREFIX.fullmatch(prefix)):
        return False
    return len(name) <= _MAX_LABEL and _LABEL_NAME.fullmatch(name) is not None


def _is_label_value(value: object) -> bool:
    return (
        isinstance(value, str)
        and len(value) <= _MAX_LABEL
        and _LABEL_VALUE.fullmatch(value) is not None
    )


def _label_value(value: str) -> Iterator[ValueFault]:
    if not _is_label_value(value):
        yield ValueFault("TG113", f"{shown(value)} is not a label value")


def _labels(value: Mapping[str, Any], *, with_source: bool) -> Iterator[ValueFault]:
    for key, text in value.items():
        if not _is_label_key(key, with_source=with_source):
            yield ValueFault("TG112", f"{shown(key)} is not a label key", path=(key,), on_key=True)
        if not _is_label_value(text):
            yield ValueFault("TG113", f"{shown(text)} is not a label value", path=(key,))


def _cilium_labels(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    return _labels(value, with_source=True)


def _kubernetes_labels(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    return _labels(value, with_source=False)


def _expression(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    operator, values = value.get("operator"), value.get("values", [])
    compares = operator in (Operator.IN, Operator.NOT_IN)
    if compares and not values:
        yield ValueFault("TG120", f"{operator} has nothing to compare with", path=("operator",))
    elif operator in (Operator.EXISTS, Operator.DOES_NOT_EXIST) and values:
        yield ValueFault("TG120", f"{operator} takes no values", path=("values",), on_key=True)


def _cilium_port(value: str) -> Iterator[ValueFault]:
    if port_number(value) is None and not is_port_name(value):
        yield ValueFault("TG114", f"{shown(value)} is not a port")


def _cilium_port_entry(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    """`port`, or in older spelling `number`."""
    if "number" not in value:
        if "port" not in value:
            yield ValueFault("TG103", 'field "port" is missing', on_key=True)
    elif "port" in value:
        yield ValueFault("TG125", '"number" stands beside "port"', path=("number",), on_key=True)
    elif isinstance(value["number"], int) and 0 <= value["number"] <= LAST_PORT:
        fix = f'write port: "{value["number"]}"'
        yield ValueFault("TG340", '"number" is now called "port"', fix, ("number",), on_key=True)
    else:
        yield ValueFault("TG114", f"{shown(value['number'])} is not a port", path=("number",))


def _kubernetes_port(value: str | int) -> Iterator[ValueFault]:
    if isinstance(value, str):
        if not is_port_name(value):
            yield ValueFault("TG114", f"{shown(value)} is not a port", "write it without quotes")
    elif not 1 <= value <= 65535:
        yield ValueFault("TG114", f"{value} is not a port from 1 to 65535")


def _end_port(value: int) -> Iterator[ValueFault]:
    if not 1 <= value <= 65535:
        yield ValueFault("TG114", f"{value} is not a port from 1 to 65535")


def _icmp_field(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    family, written = value.get("family", DEFAULT_FAMILY), value.get("type")
    if (
        not isinstance(family, str)
        or family not in FAMILIES
        or isinstance(written, bool)
        or not isinstance(written, str | int)
    ):
        return  # the schema says so already
    if icmp_type(family, written) is None:
        meant = nearest(str(written), ICMP_TYPES[FAMILIES[family]])
        hint = f'write "{meant}"' if meant else ""
        yield ValueFault(
            "TG116", f"{shown(written)} is not an ICMP type of {family}", hint, ("type",)
        )


def _object_name(value: str) -> Iterator[ValueFault]:
    if len(value) > _MAX_PREFIX or not _OBJECT_NAME.fullmatch(value):
        yield ValueFault("TG117", f"{shown(value)} is not a name for an object")


def _namespace_name(value: str) -> Iterator[ValueFault]:
    if len(value) > _MAX_LABEL or not _NAMESPACE_NAME.fullmatch(value):
        yield ValueFault(
            "TG117",
            f"{shown(value)} is not a name for a namespace",
            "write up to 63 lower-case letters, digits and '-'",
        )


def _annotations(value: Mapping[str, Any]) -> Iterator[ValueFault]:
    for key, text in value.items():
        if not isinstance(text, str):
            yield ValueFault(
                "TG106", f"{shown(text)} is not text", f"write '{text}' in quotes", (key,)
            )
        elif key == MODE_ANNOTATION and text not in list(Mode):
            yield ValueFault("TG118", f"{shown(text)} is not a mode", path=(key,))
        elif key.startswith(OWN_ANNOTATIONS) and key != MODE_ANNOTATION:
            yield ValueFault(
                "TG119", f"{shown(key)} is not an annotation of Tidegate", path=(key,), on_key=True
            )


def _no_requirements(value: list[Any]) -> Iterator[ValueFault]:
    if value:
        yield ValueFault("TG121", "requirements on peers are not part of the language", on_key=True)


VALUE_CHECKS: Final[dict[str, Callable[[Any], Iterator[ValueFault]]]] = {
    "annotations": _annotations,
    "cidr": _cidr,
    "cilium-labels": _cilium_labels,
    "cilium-port": _cilium_port,
    "cilium-port-entry": _cilium_port_entry,
    "end-port": _end_port,
    "expression": _expression,
    "icmp-field": _icmp_field,
    "kubernetes-labels": _kubernetes_labels,
    "kubernetes-port": _kubernetes_port,
    "label-key": _label_key,
    "label-value": _label_value,
    "namespace-name": _namespace_name,
    "no-requirements": _no_requirements,
    "object-name": _object_name,
    "plain-label-key": _plain_label_key,
    **REQUEST_CHECKS,
}
"""The names a schema may put after `holds`."""
