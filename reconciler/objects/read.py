"""Read the policies of a revision.

In:   the files of a revision; a cache of what earlier revisions held
Out:  PolicyReading: typed objects, and every fault of every file
Pure; the cache only saves work.

Holds always:
1. Every document under policies/ is read or refused: none is passed over.
2. A document with an error gives no object.
3. The order of files changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from netpolicy.document import Document
from netpolicy.errors import Diagnostic, has_errors
from netpolicy.rules import PolicyKind
from netpolicy.yaml_reader import read_documents
from reconciler.codes import fault
from reconciler.files import SourceFile
from reconciler.objects import cilium, kubernetes
from reconciler.objects.block_groups import link_groups
from reconciler.objects.policy import BlockGroup, PolicyObject
from reconciler.objects.schema.check import SchemaCheck
from reconciler.objects.schema.cilium import CIDR_GROUP, CILIUM_POLICY
from reconciler.objects.schema.kubernetes import NETWORK_POLICY
from reconciler.objects.schema.value_fault import nearest, shown

POLICY_FOLDER: Final = "policies/"
POLICY_SUFFIXES: Final = (".yaml", ".yml")

_CILIUM_CHECK: Final = SchemaCheck(CILIUM_POLICY)
_CHECKS: Final = {
    PolicyKind.CNP: (cilium.API_VERSION, _CILIUM_CHECK),
    PolicyKind.CCNP: (cilium.API_VERSION, _CILIUM_CHECK),
    PolicyKind.NP: (kubernetes.API_VERSION, SchemaCheck(NETWORK_POLICY)),
}
_GROUP_CHECK: Final = SchemaCheck(CIDR_GROUP)
_KINDS: Final = (*map(str, PolicyKind), cilium.GROUP_KIND)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyReading:
    """The policies of some files, by path and place; and what is wrong with the others."""

    objects: tuple[PolicyObject, ...]
    diagnostics: tuple[Diagnostic, ...]
    groups: tuple[BlockGroup, ...] = ()


class ReadCache:
    """What the files of the last revision held, by path and blob."""

    def __init__(self) -> None:
        self._readings: dict[tuple[str, str], PolicyReading] = {}

    def get(self, file: SourceFile) -> PolicyReading | None:
        """What this very file held, if the last revision had it."""
        return self._readings.get((file.path, file.blob_id))

    def replace(self, files: Iterable[SourceFile], readings: Iterable[PolicyReading]) -> None:
        """Remember what these files hold, and forget all others: no history piles up."""
        keys = ((file.path, file.blob_id) for file in files)
        self._readings = dict(zip(keys, readings, strict=True))


def is_policy_path(path: str) -> bool:
    """True if the file at this path is read as policies."""
    return path.startswith(POLICY_FOLDER) and path.lower().endswith(POLICY_SUFFIXES)


def read_policies(files: Iterable[SourceFile], *, cache: ReadCache | None = None) -> PolicyReading:
    """Read every policy file; the others are not ours to judge."""
    chosen = sorted((f for f in files if is_policy_path(f.path)), key=lambda file: file.path)
    cache = cache or ReadCache()
    readings = [cache.get(file) or _read_file(file) for file in chosen]
    cache.replace(chosen, readings)
    groups = tuple(group for reading in readings for group in reading.groups)
    objects, unlinked = link_groups(
        (policy for reading in readings for policy in reading.objects), groups
    )
    faults = [found for reading in readings for found in reading.diagnostics]
    return PolicyReading(objects=objects, diagnostics=(*faults, *unlinked), groups=groups)


def _read_file(file: SourceFile) -> PolicyReading:
    documents, faults = read_documents(file.path, file.data)
    objects: list[PolicyObject] = []
    groups: list[BlockGroup] = []
    for document in documents:
        is_group = (
            isinstance(document.value, dict) and document.value.get("kind") == cilium.GROUP_KIND
        )
        found = _read_group(document, groups) if is_group else _read_document(document, objects)
        faults += list(found)
        document.compact()
    return PolicyReading(objects=tuple(objects), diagnostics=tuple(faults), groups=tuple(groups))


def _read_group(document: Document, groups: list[BlockGroup]) -> Iterator[Diagnostic]:
    """The same for a CiliumCIDRGroup."""
    version = document.value.get("apiVersion", cilium.API_VERSION)
    if version not in cilium.GROUP_API_VERSIONS:
        yield _wrong_version(document, cilium.API_VERSION)
        return
    faults = _GROUP_CHECK.faults(document)
    yield from faults
    if not has_errors(faults):
        groups.append(cilium.read_block_group(document))


def _read_document(document: Document, objects: list[PolicyObject]) -> Iterator[Diagnostic]:
    """Yield what is wrong with a document; add its policies to `objects` if nothing is."""
    kind, said = _kind_of(document)
    if said is not None:
        yield said
    if kind is None:
        return
    _, check = _CHECKS[kind]
    faults = check.faults(document)
    yield from faults
    if has_errors(faults):
        return
    if kind is PolicyKind.NP:
        policy, warnings = kubernetes.read_network_policy(document)
        objects.append(policy)
        yield from warnings
    elif "spec" not in document.value and "specs" not in document.value:
        yield fault(document, (), "TG103", 'field "spec" is missing')
    else:
        policies = tuple(cilium.read_cilium(document, kind))
        objects.extend(policies)
        if not policies:
            yield fault(document, ("specs",), "TG313", '"specs: []" is no policy', on_key=True)


def _kind_of(document: Document) -> tuple[PolicyKind | None, Diagnostic | None]:
    """Which policy API the document is written in, and what there is to say of it."""
    value = document.value
    if not isinstance(value, dict):
        return None, fault(document, (), "TG102", "this document is not an object")
    for name in ("apiVersion", "kind"):
        if name not in value:
            return None, fault(document, (), "TG103", f'field "{name}" is missing')
    if value["kind"] not in _KINDS:
        return None, _not_a_policy(document)
    kind = PolicyKind(value["kind"])
    wanted = _CHECKS[kind][0]
    if value["apiVersion"] == wanted:
        return kind, None
    if value["apiVersion"] == cilium.OLD_API_VERSION and wanted == cilium.API_VERSION:
        message = f"{cilium.OLD_API_VERSION} is an older name of {wanted}"
        fix = f"write {wanted}"
        return kind, fault(document, ("apiVersion",), "TG340", message, fix=fix)
    return None, _wrong_version(document, wanted)


def _wrong_version(document: Document, wanted: str) -> Diagnostic:
    message = (
        f"{document.value['kind']} is not read in version {shown(document.value['apiVersion'])}"
    )
    return fault(document, ("apiVersion",), "TG101", message, fix=f"write {wanted}")


def _not_a_policy(document: Document) -> Diagnostic:
    kind = document.value["kind"]
    meant = nearest(str(kind), _KINDS)
    fix = f'write "{meant}"' if meant else ""
    return fault(document, ("kind",), "TG100", f"{shown(kind)} is not a policy", fix=fix)
