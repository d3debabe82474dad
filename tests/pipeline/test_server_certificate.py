"""A renewed server certificate is taken without a restart; files that do not serve change nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from netpolicy.errors import StalledError
from reconciler.push import PushConfig, PushObserver, PushServer
from reconciler.server_certificate import ServerCertificate, ends_at
from reconciler.sign.certificates import renew_server
from tests.support.push_fleet import make_keys


class Deaf(PushObserver):
    """Takes note of nothing."""


def presented(port: int, keys: Path) -> int:
    """The serial number of the certificate that a new connection meets."""
    own = keys / "nodes" / "node-a"
    trust = ssl.create_default_context(cafile=str(own / "ca.pem"))
    trust.load_cert_chain(own / "node.pem", own / "node.key")
    trust.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=15) as plain,
        trust.wrap_socket(plain, server_hostname="localhost") as line,
    ):
        found = line.getpeercert(binary_form=True)
    assert found is not None
    return x509.load_der_x509_certificate(found).serial_number


def serial(keys: Path) -> int:
    pem = (keys / "tls" / "server.pem").read_bytes()
    return x509.load_pem_x509_certificate(pem).serial_number


def test_new_connections_meet_the_certificate_that_lies_there_now(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "keys")
    first, tls = serial(keys), keys / "tls"
    former = {name: (tls / name).read_bytes() for name in ("server.pem", "server.key")}

    async def script() -> None:
        config = PushConfig.of_keys(keys, listen="127.0.0.1:0")
        server = PushServer(config, observer=Deaf())
        port = await server.start()
        try:
            assert await asyncio.to_thread(presented, port, keys) == first
            renew_server(keys, now=datetime.now(UTC))
            second = serial(keys)
            assert await asyncio.to_thread(presented, port, keys) == second != first
            (tls / "server.key").write_bytes(former["server.key"])  # half of it laid out
            assert await asyncio.to_thread(presented, port, keys) == second
            (tls / "server.pem").write_bytes(former["server.pem"])
            assert await asyncio.to_thread(presented, port, keys) == first
            (tls / "server.pem").unlink()
            assert await asyncio.to_thread(presented, port, keys) == first
        finally:
            await server.stop()

    asyncio.run(script())


def test_a_server_does_not_start_with_files_that_do_not_serve(tmp_path: Path) -> None:
    tls = make_keys(tmp_path / "keys") / "tls"
    certificate, key = tls / "server.pem", tls / "server.key"
    ends = ends_at(certificate)
    assert ends is not None
    assert ends > datetime.now(UTC).timestamp()
    with pytest.raises(StalledError, match="is not the key of"):
        ServerCertificate(certificate, tls / "ca.key").credentials()
    certificate.write_text("no certificate")
    with pytest.raises(StalledError, match="not a certificate"):
        ServerCertificate(certificate, key).credentials()
    certificate.unlink()
    with pytest.raises(StalledError, match="No such file"):
        ServerCertificate(certificate, key).credentials()
    assert ends_at(certificate) is None
