"""Read a request as a person writes it: `GET /orders`, a DNS name, `produce orders`.

In:   the text
Out:  the request, or StalledError that says what would be understood
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final
from urllib.parse import urlsplit

from netpolicy.dns_names import canonical_name, is_name
from netpolicy.errors import StalledError
from netpolicy.l7 import DnsQuery, HttpRequest, KafkaRequest
from reconciler.objects.kafka_text import api_key

HTTP_SHAPE: Final = 'an HTTP request is written "GET /path" or "GET http://host/path"'
HEADER_SHAPE: Final = 'a header is written "Name: value"'
KAFKA_SHAPE: Final = 'a Kafka request is written "produce TOPIC": the name of an API, and topics'


def parse_http(text: str, headers: Iterable[str] = ()) -> HttpRequest:
    """A method and a path, or a method and a URL."""
    method, _, target = text.strip().partition(" ")
    url = urlsplit(target.strip())
    if not method or not (url.path.startswith("/") or url.netloc):
        raise StalledError(f'"{text}": {HTTP_SHAPE}')
    path = url.path or "/"
    return HttpRequest(
        method=method,
        path=f"{path}?{url.query}" if url.query else path,
        host=url.netloc,
        headers=tuple(map(_header, headers)),
    )


def parse_dns(text: str) -> DnsQuery:
    """A question for a name."""
    if not is_name(text):
        raise StalledError(f'"{text}" is no DNS name')
    return DnsQuery(name=canonical_name(text))


def parse_kafka(text: str) -> KafkaRequest:
    """The name of an API and the topics it is asked about."""
    name, *topics = text.split() or [""]
    key = api_key(name)
    if key is None:
        raise StalledError(f'"{text}": {KAFKA_SHAPE}')
    return KafkaRequest(api_key=key, topics=tuple(topics))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise StalledError(f'"{text}": {HEADER_SHAPE}')
    return name.strip(), value.strip()
