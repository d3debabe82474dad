"""A certificate authority of our own, and one server certificate it signed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

LIFETIME: Final = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """PEM files: the authority that clients trust, the server's certificate and its key."""

    authority: Path
    certificate: Path
    key: Path


def make_tls_files(
    directory: Path, *, names: Sequence[str] = ("localhost", "127.0.0.1")
) -> TlsFiles:
    """Make an authority and a certificate for these host names and addresses."""
    directory.mkdir(parents=True, exist_ok=True)
    files = TlsFiles(
        authority=directory / "authority.pem",
        certificate=directory / "server.pem",
        key=directory / "server.key",
    )
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("Test authority", authority_key, issuer=None, signer=authority_key)
    server_key = ec.generate_private_key(ec.SECP256R1())
    server = _certificate(
        names[0], server_key, issuer=authority.subject, signer=authority_key, names=names
    )
    files.authority.write_bytes(authority.public_bytes(Encoding.PEM))
    files.certificate.write_bytes(server.public_bytes(Encoding.PEM))
    files.key.touch(mode=0o600)
    files.key.write_bytes(
        server_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return files


def _certificate(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    *,
    issuer: x509.Name | None,
    signer: ec.EllipticCurvePrivateKey,
    names: Sequence[str] = (),
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    start = datetime.now(UTC) - timedelta(hours=1)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer or subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if names:
        alternatives = x509.SubjectAlternativeName([_alternative(name) for name in names])
        builder = builder.add_extension(alternatives, critical=False)
    return builder.sign(signer, hashes.SHA256())


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
