"""The webhook over a real socket: who is believed, what it costs, and what hostile clients get."""

from __future__ import annotations

import asyncio
import hmac
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from netpolicy.errors import StalledError
from netpolicy.one_answer_server import Limits
from reconciler.webhook import WebhookConfig, WebhookServer, server
from reconciler.webhook.pace import LEAST_SECONDS, Pace
from reconciler.webhook.proof import Proof
from tests.support.git_host import BODY, SECRET
from tests.support.git_host import signature as signed
from tests.support.git_server_tls import make_tls_files


def holds(headers: dict[str, str], body: bytes = BODY, secret: bytes = SECRET) -> bool:
    proof = Proof(headers, secret)
    proof.take(body[:5])
    proof.take(body[5:])
    return proof.holds()


def test_githubs_own_example_is_believed() -> None:
    """From GitHub's page on validating deliveries."""
    signature = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    secret = b"It's a Secret to Everybody"
    assert holds({"x-hub-signature-256": signature}, b"Hello, World!", secret)
    assert not holds({"x-hub-signature-256": signature}, b"Hello, World?", secret)


@pytest.mark.parametrize(
    ("headers", "believed"),
    [
        ({"x-hub-signature-256": signed(BODY)}, True),
        ({"x-hub-signature": signed(BODY)}, True),
        ({"x-gitlab-token": SECRET.decode()}, True),
        ({}, False),
        ({"x-hub-signature-256": ""}, False),
        ({"x-hub-signature-256": signed(BODY).removeprefix("sha256=")}, False),
        ({"x-hub-signature-256": signed(BODY, b"another secret entirely")}, False),
        ({"x-hub-signature-256": signed(BODY + b" ")}, False),
        ({"x-hub-signature": "sha1=" + hmac.new(SECRET, BODY, "sha1").hexdigest()}, False),
        ({"x-gitlab-token": ""}, False),
        ({"x-gitlab-token": SECRET.decode() + "x"}, False),
        ({"x-gitlab-token": "ü\udcff"}, False),
        # a wrong signature is not mended by a token
        ({"x-hub-signature-256": signed(b"x"), "x-gitlab-token": SECRET.decode()}, False),
    ],
)
def test_only_who_knows_the_secret_is_believed(headers: dict[str, str], believed: bool) -> None:
    assert holds(headers) is believed


def test_an_empty_secret_proves_nothing() -> None:
    assert not holds({"x-gitlab-token": ""}, secret=b"")
    assert not holds({"x-hub-signature-256": signed(BODY, b"")}, secret=b"")


def test_a_burst_of_pushes_is_two_looks_and_the_last_push_is_seen() -> None:
    pace = Pace()
    assert pace.ask(100.0) == 0.0
    assert pace.ask(101.0) == pytest.approx(LEAST_SECONDS - 1.0)
    assert [pace.ask(101.0 + n / 100) for n in range(300)] == [None] * 300
    assert pace.ask(105.1) == pytest.approx(100.0 + 2 * LEAST_SECONDS - 105.1)
    assert pace.ask(1000.0) == 0.0


class Hook:
    """A webhook that listens, and how often it had the branch looked at."""

    def __init__(self, folder: Path, *, limits: Limits = server.LIMITS, **files: Path) -> None:
        self.secret = folder / "hmac"
        self.secret.write_bytes(SECRET + b"\n")
        self.fetches = 0
        config = WebhookConfig(listen="127.0.0.1:0", secret=self.secret, **files)
        self.server = WebhookServer(config, fetch=self._fetch, limits=limits)
        self.port = 0

    def _fetch(self) -> None:
        self.fetches += 1

    def run(self, script: Callable[[Hook], Awaitable[None]]) -> None:
        async def main() -> None:
            self.port = await self.server.start()
            try:
                await script(self)
            finally:
                await self.server.stop()

        asyncio.run(main())

    async def send(self, request: bytes, tls: ssl.SSLContext | None = None) -> int:
        """The answer's status; 0 if there was none."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=tls)
        try:
            writer.write(request)
            answer = await reader.read()
        except ConnectionError:
            return 0
        finally:
            writer.close()
        return int(answer.split(b" ")[1]) if answer else 0


def post(body: bytes = BODY, **headers: str) -> bytes:
    said = {
        "Content-Length": str(len(body)),
        **{k.replace("_", "-"): v for k, v in headers.items()},
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in said.items() if value)
    return f"POST /webhook HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode() + body


def test_a_signed_push_has_the_branch_looked_at(tmp_path: Path) -> None:
    async def script(hook: Hook) -> None:
        assert await hook.send(post(X_Hub_Signature_256=signed(BODY))) == 202
        await asyncio.sleep(0)
        assert hook.fetches == 1
        for _ in range(20):
            assert await hook.send(post(x_gitlab_token=SECRET.decode())) == 202
        assert hook.fetches == 1

    Hook(tmp_path).run(script)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (post(), 401),
        (post(X_Hub_Signature_256=signed(b"x")), 401),
        (post().replace(b"POST", b"GET"), 405),
        (post().replace(b"/webhook", b"/webhook/../x"), 404),
        (post(b"", Content_Length=""), 411),
        (post(Content_Length="", Transfer_Encoding="chunked"), 411),
        (post(Transfer_Encoding="chunked"), 411),
        (post(Content_Length="-1"), 400),
        (post(Content_Length="1e9"), 400),
        (post(Content_Length=str(server.MAX_BODY_BYTES + 1)), 413),
        (post(X="y" * server.LIMITS.head_bytes), 0),
        (b"\r\n\r\n", 404),
        (b"\x16\x03\x01" + b"\x00" * 2 * server.LIMITS.head_bytes, 0),
        (b"POST /webhook HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 400),
    ],
)
def test_nothing_else_is_answered_kindly(tmp_path: Path, request_bytes: bytes, status: int) -> None:
    async def script(hook: Hook) -> None:
        assert await hook.send(request_bytes) == status
        await asyncio.sleep(0)
        assert hook.fetches == 0

    Hook(tmp_path).run(script)


def test_a_client_that_is_slow_is_cut_off(tmp_path: Path) -> None:
    async def script(hook: Hook) -> None:
        assert await hook.send(post(Content_Length="1000000")) == 0
        assert hook.fetches == 0

    Hook(tmp_path, limits=replace(server.LIMITS, patience_seconds=0.1)).run(script)


def test_a_rotated_secret_counts_at_once_and_a_lost_one_believes_nobody(tmp_path: Path) -> None:
    async def script(hook: Hook) -> None:
        old = post(X_Hub_Signature_256=signed(BODY))
        hook.secret.write_bytes(b"another secret of enough bytes")
        assert await hook.send(old) == 401
        hook.secret.write_bytes(b"")
        assert await hook.send(post(x_gitlab_token="")) == 503
        hook.secret.unlink()
        assert await hook.send(old) == 503
        assert hook.fetches == 0

    Hook(tmp_path).run(script)


@pytest.mark.parametrize("secret", [b"", b"short"])
def test_it_does_not_start_without_a_secret(tmp_path: Path, secret: bytes) -> None:
    async def script(hook: Hook) -> None:
        raise AssertionError

    hook = Hook(tmp_path)
    hook.secret.write_bytes(secret)
    with pytest.raises(StalledError, match="16 bytes"):
        hook.run(script)


def test_it_speaks_tls_with_a_certificate(tmp_path: Path) -> None:
    files = make_tls_files(tmp_path)
    trusting = ssl.create_default_context(cafile=str(files.authority))

    async def script(hook: Hook) -> None:
        request = post(X_Hub_Signature_256=signed(BODY))
        assert await hook.send(request, trusting) == 202
        assert await hook.send(request) == 0
        await asyncio.sleep(0)
        assert hook.fetches == 1

    Hook(tmp_path, certificate=files.certificate, key=files.key).run(script)


def test_it_does_not_start_with_a_certificate_that_is_none(tmp_path: Path) -> None:
    async def script(hook: Hook) -> None:
        raise AssertionError

    (tmp_path / "tls.crt").write_text("no certificate")
    with pytest.raises(StalledError, match=r"tls\.crt"):
        Hook(tmp_path, certificate=tmp_path / "tls.crt", key=tmp_path / "tls.crt").run(script)
