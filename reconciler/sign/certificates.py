"""A small certificate authority for mTLS: who the reconciler is, and who each node is.

Shell over a key directory:

    tls/ca.key                    signs everything below
    tls/ca.pem                    who is trusted: the authority of that key and, while it is renewed
                                  (`authority.py`), its successor or its predecessor
    tls/server.pem, server.key    the reconciler's; names: what agents dial
    nodes/<name>/                 all that a node needs: node.pem, node.key, ca.pem, root.json

Holds always:
1. A node's name is in its certificate as the URI `spiffe://tidegate/node/<name>`, and nowhere else.
2. A server certificate cannot pass for a node's, nor a node's for the server's (key usage).
3. The authority that signs is the one in `ca.pem` that `ca.key` belongs to, wherever it stands there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from secrets import randbelow
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from netpolicy import durable_files
from netpolicy.durable_files import PUBLIC_MODE
from netpolicy.errors import StalledError
from netpolicy.trust import BACKDATED_SECONDS, node_uri

CA_LIFETIME: Final = timedelta(days=3650)
LEAF_LIFETIME: Final = timedelta(days=365)
CLOCK_SKEW: Final = timedelta(seconds=BACKDATED_SECONDS)
_NODE: Final = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def init_certificates(directory: Path, *, server_names: Sequence[str], now: datetime) -> None:
    """Make the authority and the server's certificate; raises FileExistsError if there is one."""
    names = _server_names(server_names)
    durable_files.make_folder(directory / "tls")
    ca = new_authority(now)
    _write(directory / "tls", "ca", ca)
    server = _issue(ca, "tidegate-reconciler", names, server=True, now=now)
    _write(directory / "tls", "server", server)


def add_node(
    directory: Path,
    node: str,
    *,
    root: bytes,
    now: datetime,
    lifetime: timedelta = LEAF_LIFETIME,
) -> Path:
    """Make a node's certificate and lay down all it needs; returns its directory.

    Raises StalledError without an authority, ValueError for a bad name, FileExistsError for a
    node that has one.
    """
    if not _NODE.fullmatch(node):
        raise ValueError(f"{node!r} is no node name")
    ca = load_authority(directory)
    place = directory / "nodes" / node
    if place.exists():
        raise FileExistsError(f"{place} exists: this node has a certificate")
    names = [x509.UniformResourceIdentifier(node_uri(node))]
    issued = _issue(ca, node, names, server=False, now=now, lifetime=lifetime)
    durable_files.make_folder(place)
    _write(place, "node", issued)
    trusted = (directory / "tls" / "ca.pem").read_bytes()
    durable_files.write_new(place / "ca.pem", trusted, mode=PUBLIC_MODE)
    durable_files.write_new(place / "root.json", root, mode=PUBLIC_MODE)
    return place


def certify_node(
    directory: Path, node: str, key: EllipticCurvePublicKey, *, now: datetime, lifetime: timedelta
) -> x509.Certificate:
    """A certificate for a key that stays with the node; nothing is written.

    Raises StalledError without an authority, ValueError for a bad name.
    """
    if not _NODE.fullmatch(node):
        raise ValueError(f"{node!r} is no node name")
    names = [x509.UniformResourceIdentifier(node_uri(node))]
    ca = load_authority(directory)
    return _certify(ca, node, names, key, server=False, now=now, lifetime=lifetime)


def renew_node(directory: Path, node: str, *, now: datetime) -> None:
    """Give a node a new certificate and key in place of its old; raises StalledError without any."""
    place = directory / "nodes" / node
    _renew(load_authority(directory), place, "node", server=False, now=now)


def renew_server(directory: Path, *, now: datetime) -> None:
    """Give the reconciler a new certificate and key of the same names."""
    _renew(load_authority(directory), directory / "tls", "server", server=True, now=now)


def _renew(ca: Issued, place: Path, name: str, *, server: bool, now: datetime) -> None:
    old = load_certificate(place / f"{name}.pem")
    names = old.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    common_name = old.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value
    issued = _issue(ca, str(common_name), list(names), server=server, now=now)
    durable_files.replace(place / f"{name}.key", issued.key_pem)
    durable_files.replace(place / f"{name}.pem", issued.pem, mode=PUBLIC_MODE)


def new_authority(now: datetime) -> Issued:
    """One of a name and a key that no other has."""
    key = generate_private_key(SECP256R1())
    name = _common_name(f"tidegate-ca {now:%Y-%m-%d} {randbelow(1 << 32):08x}")
    certificate = (
        _builder(name, name, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )
    return Issued(certificate=certificate, key=key)


def _issue(
    ca: Issued,
    common_name: str,
    names: Sequence[x509.GeneralName],
    *,
    server: bool,
    now: datetime,
    lifetime: timedelta = LEAF_LIFETIME,
) -> Issued:
    key = generate_private_key(SECP256R1())
    certificate = _certify(
        ca, common_name, names, key.public_key(), server=server, now=now, lifetime=lifetime
    )
    return Issued(certificate=certificate, key=key)


def _certify(
    ca: Issued,
    common_name: str,
    names: Sequence[x509.GeneralName],
    key: EllipticCurvePublicKey,
    *,
    server: bool,
    now: datetime,
    lifetime: timedelta,
) -> x509.Certificate:
    purpose = ExtendedKeyUsageOID.SERVER_AUTH if server else ExtendedKeyUsageOID.CLIENT_AUTH
    issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca.key.public_key())
    return (
        _builder(_common_name(common_name), ca.certificate.subject, key, now, lifetime)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(issuer_key, critical=False)
        .sign(ca.key, SHA256())
    )


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: EllipticCurvePublicKey,
    now: datetime,
    lifetime: timedelta,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCK_SKEW)
        .not_valid_after(now + lifetime)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])


def _server_names(names: Sequence[str]) -> list[x509.GeneralName]:
    if not names:
        raise ValueError("the server needs at least one name or address")
    return [_general_name(name) for name in names]


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write(directory: Path, name: str, issued: Issued) -> None:
    durable_files.write_new(directory / f"{name}.key", issued.key_pem)
    durable_files.write_new(directory / f"{name}.pem", issued.pem, mode=PUBLIC_MODE)


def trusted_authorities(path: Path) -> list[x509.Certificate]:
    """Those that a `ca.pem` holds; raises StalledError if it cannot be read."""
    try:
        return x509.load_pem_x509_certificates(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StalledError(f"{path}: {error}", reason="SigningFailed") from error


def load_authority(directory: Path) -> Issued:
    """The one that signs. Raises StalledError if there is none."""
    place = directory / "tls"
    try:
        key = load_pem_private_key((place / "ca.key").read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise StalledError(f"certificate authority: {error}", reason="SigningFailed") from error
    if not isinstance(key, EllipticCurvePrivateKey):
        raise StalledError(f"{place / 'ca.key'}: not an EC private key", reason="SigningFailed")
    for certificate in trusted_authorities(place / "ca.pem"):
        if certificate.public_key() == key.public_key():
            return Issued(certificate=certificate, key=key)
    raise StalledError(
        f"{place / 'ca.key'} is the key of none in {place / 'ca.pem'}", reason="SigningFailed"
    )


def load_certificate(path: Path) -> x509.Certificate:
    """The first in a file; raises StalledError if there is none."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise StalledError(f"{path}: {error}", reason="SigningFailed") from error
