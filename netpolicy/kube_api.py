"""Speak to a Kubernetes API server: read, write and watch JSON.

In:   a kubeconfig, or the service account of the pod; paths and bodies
Out:  bytes of answers; lines of watches
Shell over the `kubernetes` client: its configuration (certificates, tokens that are renewed) and its
connections. Its models are not used: they would hold a whole pod where six fields of it are needed.

Holds always:
1. No answer is read beyond its bound, and no request waits without a limit.
2. Whatever goes wrong is a TransientError; with an answer of the server, a KubeRefusal with its code.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.config import ConfigException

from netpolicy.errors import StalledError, TransientError

MAX_ANSWER_BYTES: Final = 64 << 20
MAX_FAULT_BYTES: Final = 16 << 10
CONNECT_SECONDS: Final = 10.0
ANSWER_SECONDS: Final = 60.0
OVERDUE_SECONDS: Final = 15.0
"""A watch that says nothing so long after its end hangs on a dead connection."""

GONE: Final = 410
CONFLICT: Final = 409
NOT_FOUND: Final = 404

MERGE_PATCH: Final = "application/merge-patch+json"
APPLY_PATCH: Final = "application/apply-patch+yaml"
JSON: Final = "application/json"

Query = Mapping[str, str | int]


class KubeRefusal(TransientError):
    """The server answered, and not with what was asked for."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"the API server answers {status}: {message}")
        self.status = status


class KubeApi:
    """One server, as one user."""

    def __init__(self, settings: client.Configuration) -> None:
        self._client = client.ApiClient(settings)
        self.writes = 0
        """How many requests that change something were sent."""

    @classmethod
    async def connect(cls, kubeconfig: Path | None = None) -> KubeApi:
        """By a kubeconfig or, without one, as the pod that this runs in. Raises StalledError."""
        settings = client.Configuration()
        try:
            if kubeconfig is None:
                config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
            else:
                await config.load_kube_config(  # type: ignore[no-untyped-call]
                    str(kubeconfig), client_configuration=settings
                )
        except (ConfigException, OSError) as error:
            raise StalledError(f"cannot speak to Kubernetes: {error}") from error
        return cls(settings)

    async def close(self) -> None:
        """Close all connections."""
        await self._client.close()  # type: ignore[no-untyped-call]

    async def read(self, path: str, query: Query | None = None) -> bytes:
        """GET."""
        return await self._request("GET", path, query)

    async def create(self, path: str, body: Mapping[str, Any]) -> bytes:
        """POST."""
        return await self._request("POST", path, body=body)

    async def replace(self, path: str, body: Mapping[str, Any]) -> bytes:
        """PUT; with a resourceVersion in the body it is refused (409) if somebody was faster."""
        return await self._request("PUT", path, body=body)

    async def patch(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        kind: str = MERGE_PATCH,
        query: Query | None = None,
    ) -> bytes:
        """PATCH."""
        return await self._request("PATCH", path, query, body=body, kind=kind)

    async def delete(self, path: str) -> bytes:
        """DELETE."""
        return await self._request("DELETE", path)

    async def watch(self, path: str, query: Query, *, seconds: int) -> AsyncIterator[bytes]:
        """Lines of a watch, until the server ends it after so long."""
        limits = aiohttp.ClientTimeout(
            sock_connect=CONNECT_SECONDS, sock_read=seconds + OVERDUE_SECONDS
        )
        asked = {**query, "watch": "true", "timeoutSeconds": seconds}
        try:
            response = await self._send("GET", path, asked, limits)
            async with response:
                while line := await response.content.readline():
                    yield line
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: a line too long
            _fail(path, error)

    async def _request(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        body: Mapping[str, Any] | None = None,
        kind: str = JSON,
    ) -> bytes:
        limits = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=CONNECT_SECONDS)
        self.writes += method != "GET"
        try:
            response = await self._send(method, path, query or {}, limits, body=body, kind=kind)
            async with response:
                return await _body(response, MAX_ANSWER_BYTES)
        except (aiohttp.ClientError, OSError) as error:
            _fail(path, error)

    async def _send(
        self,
        method: str,
        path: str,
        query: Query,
        limits: aiohttp.ClientTimeout,
        *,
        body: Mapping[str, Any] | None = None,
        kind: str = JSON,
    ) -> aiohttp.ClientResponse:
        """The answer, its head read; raises KubeRefusal for any but a 2xx."""
        request = await self._client.param_serialize(
            method,
            path,
            query_params=list(query.items()),
            header_params={"Content-Type": kind, "Accept": JSON},
            body=body,
            auth_settings=["BearerToken"],
        )
        method, url, headers, sent, _ = request
        answer = await self._client.rest_client.request(  # type: ignore[no-untyped-call]
            method, url, headers=headers, body=sent, _request_timeout=limits
        )
        response: aiohttp.ClientResponse = answer.response
        if not 200 <= response.status < 300:
            async with response:
                raise KubeRefusal(response.status, _message(await _body(response, MAX_FAULT_BYTES)))
        return response


async def _body(response: aiohttp.ClientResponse, most: int) -> bytes:
    data = bytearray()
    async for piece in response.content.iter_any():
        data += piece
        if len(data) > most:
            raise TransientError(f"the API server's answer is longer than {most} bytes")
    return bytes(data)


def _message(body: bytes) -> str:
    """The words of a Status object, else nothing: what is not one is not for a log."""
    try:
        return str(json.loads(body)["message"])[:1000]
    except (ValueError, KeyError, TypeError):
        return ""


def _fail(path: str, error: Exception) -> NoReturn:
    why = str(error) or type(error).__name__
    raise TransientError(f"{path.partition('?')[0]}: {why}") from error
