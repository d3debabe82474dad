"""Probes and scrapes over a real socket, and what hostile clients get of it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families

from netpolicy.errors import StalledError
from netpolicy.one_answer_server import Limits, listening_socket, parse_listen
from netpolicy.status_pages import LIMITS, StatusPages

METRICS = (GaugeMetricFamily("tidegate_agents", "Agents.", value=3.0),)


def serve(script: Callable[[int, list[bool]], Awaitable[None]], *, limits: Limits = LIMITS) -> None:
    async def run() -> None:
        ready = [False]
        pages = StatusPages(
            "127.0.0.1:0", metrics=lambda: METRICS, is_ready=lambda: ready[0], limits=limits
        )
        port = await pages.start()
        try:
            await script(port, ready)
        finally:
            await pages.stop()

    asyncio.run(run())


async def ask(port: int, request: bytes) -> tuple[str, bytes]:
    """The status line and the body; both empty if there was no answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        answer = await reader.read()
    except ConnectionError:
        return "", b""
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.split(b"\r\n")[0].decode(), body


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def test_metrics_are_what_a_scraper_reads() -> None:
    async def script(port: int, ready: list[bool]) -> None:
        status, body = await ask(port, get("/metrics"))
        assert status == "HTTP/1.1 200 OK"
        (family,) = text_string_to_metric_families(body.decode())
        assert (family.name, family.samples[0].value) == ("tidegate_agents", 3.0)

    serve(script)


def test_a_program_that_is_not_ready_lives() -> None:
    async def script(port: int, ready: list[bool]) -> None:
        assert (await ask(port, get("/readyz")))[0].startswith("HTTP/1.1 503 ")
        assert (await ask(port, get("/livez")))[0] == "HTTP/1.1 200 OK"
        ready[0] = True
        assert (await ask(port, get("/readyz?verbose")))[0] == "HTTP/1.1 200 OK"

    serve(script)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (get("/etc/passwd"), "HTTP/1.1 404 Not Found"),
        (b"POST /metrics HTTP/1.1\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        (b"\r\n\r\n", "HTTP/1.1 405 Method Not Allowed"),
        (get("/" + "x" * LIMITS.head_bytes), ""),
        (b"\x16\x03\x01" + b"\x00" * 2 * LIMITS.head_bytes, ""),
    ],
)
def test_nothing_else_is_answered(request_bytes: bytes, status: str) -> None:
    async def script(port: int, ready: list[bool]) -> None:
        assert (await ask(port, request_bytes))[0] == status
        assert (await ask(port, get("/livez")))[0] == "HTTP/1.1 200 OK"

    serve(script)


def test_clients_that_say_nothing_are_bounded_and_cut_off() -> None:
    async def script(port: int, ready: list[bool]) -> None:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(LIMITS.clients)]
        assert (await ask(port, get("/livez")))[0] == ""
        for reader, writer in silent:
            assert await reader.read() == b""
            writer.close()
        assert (await ask(port, get("/livez")))[0] == "HTTP/1.1 200 OK"

    serve(script, limits=replace(LIMITS, patience_seconds=0.5))


@pytest.mark.parametrize("listen", ["9090", ":9090", "127.0.0.1", "127.0.0.1:x", "::1:99999"])
def test_an_address_without_host_or_port_is_refused(listen: str) -> None:
    with pytest.raises(StalledError):
        parse_listen(listen)


def test_a_port_that_is_taken_is_said_to_be() -> None:
    async def script(port: int, ready: list[bool]) -> None:
        second = StatusPages(
            f"127.0.0.1:{port}", metrics=lambda: METRICS, is_ready=lambda: ready[0]
        )
        with pytest.raises(StalledError, match=str(port)):
            await second.start()

    serve(script)


def test_any_address_means_ipv4_too() -> None:
    with listening_socket("::", 0) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            pass
