"""An HTTP request and its answer, as an observer sees them; or a connection that was refused before any.

In:   made by `nodeagent.l7` from what the proxy tells
Out:  HttpExchange; its JSON (Hubble's names where Hubble has one) and its part of a line of text
Pure. Frozen values.

Holds always:
1. Every text is printable and bounded: clients write them, and people's terminals show them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

MAX_PATH: Final = 1024
MAX_HOST: Final = 256
MAX_METHOD: Final = 32
MAX_SEGMENTS: Final = 8
MAX_SEGMENT: Final = 48
_CUT: Final = "…"
_KINDS: Final = {
    "number": re.compile(rb"[0-9]+"),
    "uuid": re.compile(rb"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"),
    "hex": re.compile(rb"(?=[a-fA-F]*[0-9])[0-9a-fA-F]{8,}"),
}
_NANOSECONDS_OF_A_MILLISECOND: Final = 1_000_000


TLS: Final = "TLS"
TCP: Final = "TCP"
CONNECTIONS: Final = frozenset({TLS, TCP})
"""What stands for a protocol where a proxy refused a connection as a whole."""


class HttpExchange(NamedTuple):
    """`path` with its query; `code` 0: there was no answer. `protocol` as in `HTTP/1.1`.

    `grpc_status` None: the answer had none, so that it is no gRPC. Of a connection that was refused as a
    whole, `host` is the name that TLS asked for.
    """

    method: str
    path: str
    host: str = ""
    protocol: str = "HTTP/1.1"
    code: int = 0
    grpc_status: int | None = None
    latency_ns: int = 0

    @property
    def is_connection(self) -> bool:
        """True if no request was read: a connection was refused by what it is, or by its name."""
        return self.protocol in CONNECTIONS

    @property
    def url(self) -> str:
        """As a client would write it."""
        return f"http://{self.host}{self.path}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class HttpForm:
    """Requests that people tell apart: a method, and a path whose changing parts are replaced by words."""

    method: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


def form_of(method: str, path: str) -> HttpForm:
    """The form of a request: without its query, and with numbers and random names told by their kind.

    Else each order's number would make a form of its own.
    """
    parts = path.partition("?")[0].encode("utf-8", "surrogateescape").split(b"/")
    words = [_word(part) for part in parts[: MAX_SEGMENTS + 1]]
    if len(parts) > len(words):
        words.append(_CUT)
    return HttpForm(
        method=printable(method.encode("utf-8", "surrogateescape"), MAX_METHOD),
        path="/".join(words),
    )


def _word(part: bytes) -> str:
    for kind, pattern in _KINDS.items():
        if pattern.fullmatch(part):
            return f"{{{kind}}}"
    return printable(part, MAX_SEGMENT)


def printable(data: bytes, limit: int) -> str:
    """What a client wrote, for people: other than printable characters are escaped, the rest is cut off."""
    text = data[: limit + 1].decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= limit else text[: limit - 1] + _CUT


def shown(text: str, limit: int) -> str:
    """The same of text. What can be shown as it is, nearly all of it, is told quickly."""
    if len(text) <= limit and text.isprintable():
        return text
    return printable(text.encode("utf-8", "surrogateescape"), limit)


def http_json(exchange: HttpExchange) -> dict[str, Any]:
    """The field `l7` of Hubble's JSON, and `grpc_status` beside; `server_name` where there was no request."""
    if exchange.is_connection:
        return {"type": "REQUEST", "protocol": exchange.protocol, "server_name": exchange.host}
    found: dict[str, Any] = {
        "code": exchange.code,
        "method": exchange.method,
        "url": exchange.url,
        "protocol": exchange.protocol,
    }
    if exchange.grpc_status is not None:
        found["grpc_status"] = exchange.grpc_status
    return {"type": "RESPONSE", "latency_ns": exchange.latency_ns, "http": found}


def http_text(exchange: HttpExchange) -> str:
    """`HTTP/1.1 POST http://shop/products 403, 0.3 ms`."""
    if exchange.is_connection:
        return f"{exchange.protocol} for {exchange.host or 'no name'}"
    if not exchange.method:
        return f"{exchange.protocol} no request that could be read, {exchange.code}"
    grpc = "" if exchange.grpc_status is None else f", grpc-status {exchange.grpc_status}"
    took = exchange.latency_ns / _NANOSECONDS_OF_A_MILLISECOND
    return (
        f"{exchange.protocol} {exchange.method} {exchange.url} "
        f"{exchange.code or 'no answer'}{grpc}, {took:.1f} ms"
    )
