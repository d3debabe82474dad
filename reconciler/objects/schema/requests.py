"""The form of what a rule asks of the content of traffic: requests, server names, TLS, a listener."""

from __future__ import annotations

from typing import Final

from netpolicy.rules import HeaderMismatch
from reconciler.objects.schema.check import Schema
from reconciler.objects.schema.request_values import KAFKA_ROLES

_TEXT: Final[Schema] = {"type": "string"}


def _list(entry: Schema) -> Schema:
    return {"type": "list", "schema": entry}


NAME_PATTERN: Final[Schema] = {
    "type": "dict",
    "holds": "name-choice",
    "schema": {
        "matchName": {"type": "string", "holds": "dns-name"},
        "matchPattern": {"type": "string", "holds": "dns-pattern"},
    },
}
_SECRET: Final[Schema] = {
    "type": "dict",
    "schema": {
        "namespace": {"type": "string", "holds": "namespace-name"},
        "name": {"type": "string", "required": True, "holds": "object-name"},
    },
}
_HEADER_MATCH: Final[Schema] = {
    "type": "dict",
    "schema": {
        "name": {"type": "string", "required": True, "holds": "header-name"},
        "value": _TEXT,
        "secret": {**_SECRET, "schema": {**_SECRET["schema"], "key": _TEXT}},
        "mismatch": {"type": "string", "allowed": list(HeaderMismatch)},
    },
}
_RATE_LIMIT: Final[Schema] = {
    "type": "dict",
    "schema": {
        "requests": {"type": "integer", "required": True, "holds": "request-count"},
        "per": {"type": "string", "required": True, "holds": "rate-span"},
        "burst": {"type": "integer", "holds": "request-count"},
    },
}
_HTTP: Final[Schema] = {
    "type": "dict",
    "schema": {
        "method": {"type": "string", "holds": "http-method"},
        "path": {"type": "string", "holds": "http-path"},
        "host": {"type": "string", "holds": "http-host"},
        "headers": _list({"type": ["string", "dict"], "holds": "header"}),
        "headerMatches": _list(_HEADER_MATCH),
        "rateLimit": _RATE_LIMIT,
    },
}
_GRPC: Final[Schema] = {
    "type": "dict",
    "schema": {
        "service": {"type": "string", "required": True, "holds": "grpc-service"},
        "method": {"type": "string", "holds": "grpc-method"},
        "rateLimit": _RATE_LIMIT,
    },
}
_KAFKA: Final[Schema] = {
    "type": "dict",
    "holds": "kafka-rule",
    "schema": {
        "role": {"type": "string", "allowed": list(KAFKA_ROLES)},
        "apiKey": {"type": "string", "holds": "kafka-api-key"},
        "apiVersion": {"type": "string", "holds": "kafka-version"},
        "clientID": {"type": "string", "holds": "kafka-word"},
        "topic": {"type": "string", "holds": "kafka-word"},
    },
}
REQUEST_RULES: Final[Schema] = {
    "type": "dict",
    "holds": "request-rules",
    "schema": {
        "http": _list(_HTTP),
        "grpc": _list(_GRPC),
        "dns": _list(NAME_PATTERN),
        "kafka": _list(_KAFKA),
        "l7proto": {"type": "string", "holds": "object-name"},
        "l7": _list({"type": "dict", "holds": "parser-rule"}),
    },
}
SERVER_NAMES: Final[Schema] = {
    **_list({"type": "string", "holds": "server-name"}),
    "holds": "server-names",
}
TLS_CONTEXT: Final[Schema] = {
    "type": "dict",
    "schema": {
        "secret": {**_SECRET, "required": True},
        "certificate": _TEXT,
        "privateKey": _TEXT,
        "trustedCA": _TEXT,
    },
}
LISTENER: Final[Schema] = {
    "type": "dict",
    "schema": {
        "envoyConfig": {
            "type": "dict",
            "required": True,
            "schema": {
                "kind": {
                    "type": "string",
                    "allowed": ["CiliumEnvoyConfig", "CiliumClusterwideEnvoyConfig"],
                },
                "name": {"type": "string", "required": True, "holds": "object-name"},
            },
        },
        "name": {"type": "string", "required": True, "holds": "object-name"},
        "priority": {"type": "integer"},
    },
}
