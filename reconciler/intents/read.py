"""Read the intents of a revision: the files below `tests/`.

In:   the files of a revision
Out:  Intent values that know where they were written; diagnostics
Pure. A file with a fault gives no intents, and the fault.

    intents:
      - name: the frontend asks the gateway
        from: app=frontend,ns=e-commerce
        to: app=api-gateway,ns=e-commerce
        port: 80
        http: GET /products
        expect: allow
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from netpolicy.document import Document
from netpolicy.errors import Diagnostic, Place, StalledError, has_errors
from netpolicy.evaluate import Flow
from netpolicy.fields import BAD_VALUE, Fields
from netpolicy.inventory import Inventory
from netpolicy.l7 import Request
from netpolicy.port_argument import parse_port
from netpolicy.yaml_reader import read_documents
from reconciler.explain.ends import resolve_ends
from reconciler.explain.requests import parse_dns, parse_http, parse_kafka
from reconciler.files import SourceFile

FOLDER: Final = "tests/"
ALLOW: Final = "allow"
DENY: Final = "deny"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One statement: this flow passes, or does not. `place` is where it was written."""

    name: str
    place: Place
    flow: Flow
    allowed: bool


def read_intents(
    files: Iterable[SourceFile], *, inventory: Inventory | None = None
) -> tuple[tuple[Intent, ...], list[Diagnostic]]:
    """All intents of a revision, in the order of its files, and all faults."""
    intents: list[Intent] = []
    faults: list[Diagnostic] = []
    for file in files:
        if not (file.path.startswith(FOLDER) and file.path.endswith((".yaml", ".yml"))):
            continue
        documents, found = read_documents(file.path, file.data)
        read = [one for document in documents for one in _read(document, found, inventory)]
        faults += found
        intents += [] if has_errors(found) else read
    return tuple(intents), faults


def _read(
    document: Document, faults: list[Diagnostic], inventory: Inventory | None
) -> list[Intent]:
    top = Fields(document, faults)
    found = [
        intent
        for fields in top.records("intents")
        if (intent := _intent(fields, document, inventory)) is not None
    ]
    top.finish()
    return found


def _intent(fields: Fields, document: Document, inventory: Inventory | None) -> Intent | None:
    name = fields.text("name", required=True)
    ends = (fields.text("from", required=True), fields.text("to", required=True))
    port = fields.port_text("port")
    expect = fields.text("expect", required=True)
    asked = {word: fields.text(word) for word in ("http", "dns", "kafka")}
    headers, server_name = fields.texts("headers"), fields.text("serverName")
    fields.finish()
    if has_errors(fields.faults):
        return None
    if expect not in (ALLOW, DENY):
        fields.fault(("expect",), BAD_VALUE, f'expect is "{ALLOW}" or "{DENY}"')
        return None
    try:
        source, destination = resolve_ends(*ends, inventory)
        protocol, number = parse_port(port)
        flow = Flow(
            source=source.end,
            destination=destination.end,
            protocol=protocol,
            port=number,
            request=_request(asked, headers),
            server_name=server_name or None,
        )
    except StalledError as error:
        fields.fault((), BAD_VALUE, str(error))
        return None
    return Intent(name=name, place=document.place(fields.path), flow=flow, allowed=expect == ALLOW)


def _request(asked: dict[str, str], headers: Iterable[str]) -> Request | None:
    given = {word: text for word, text in asked.items() if text}
    if len(given) > 1:
        raise StalledError("a flow carries requests of one protocol: http, dns or kafka")
    if "http" in given:
        return parse_http(given["http"], headers)
    if "dns" in given:
        return parse_dns(given["dns"])
    return parse_kafka(given["kafka"]) if "kafka" in given else None
