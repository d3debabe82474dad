"""Requests that flows carry, and the rules that match them.

In:   a request, the rules of a port
Out:  does any of them match
Pure.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """An HTTP request as its receiver sees it; `headers` are (name, value) pairs."""

    method: str
    path: str
    host: str = ""
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsQuery:
    """A question for a name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaRequest:
    """A Kafka request: the number of its API, and the topics it touches."""

    api_key: int
    api_version: int = 0
    client_id: str = ""
    topics: tuple[str, ...] = ()


Request = HttpRequest | DnsQuery | KafkaRequest
