"""A node's key and certificate: what is asked for, what is taken, and when the next is due.

In:   the node's name, a key, a certificate that came
Out:  a request (PKCS #10), a Credential and its file's bytes, seconds until the renewal
Pure, but for `new_key`, which draws a random one.

Holds always:
1. The key never leaves the node: the request carries its public half.
2. A certificate is taken only if it is for our key and names our node.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from netpolicy.errors import TransientError
from netpolicy.trust import BACKDATED_SECONDS, node_of, node_uri

RENEW_AFTER: Final = 2 / 3
"""Of a certificate's life. The last third is for a reconciler or an API server that is away."""

MAX_COMMON_NAME: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Credential:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: EllipticCurvePrivateKey

    def encode(self) -> bytes:
        """Both, in one file: they are replaced together."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return self.certificate.public_bytes(Encoding.PEM) + key

    def is_valid(self, now: datetime) -> bool:
        """True if the reconciler, by this clock, would take it."""
        certificate = self.certificate
        return certificate.not_valid_before_utc <= now < certificate.not_valid_after_utc

    def until_renewal(self, now: datetime) -> timedelta:
        """How long until the next one is due; negative if it is."""
        begins, ends = self.certificate.not_valid_before_utc, self.certificate.not_valid_after_utc
        return begins + (ends - begins) * RENEW_AFTER - now


def clock_ahead(credential: Credential, now: datetime) -> timedelta:
    """How far this node's clock was before the reconciler's, at the moment that one certified."""
    begins = credential.certificate.not_valid_before_utc
    return now - (begins + timedelta(seconds=BACKDATED_SECONDS))


def new_key() -> EllipticCurvePrivateKey:
    """A key for one certificate."""
    return generate_private_key(SECP256R1())


def request_for(node: str, key: EllipticCurvePrivateKey) -> bytes:
    """Ask for a certificate of this node; DER."""
    name = x509.NameAttribute(NameOID.COMMON_NAME, node[:MAX_COMMON_NAME])
    names = [x509.UniformResourceIdentifier(node_uri(node))]
    return (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([name]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(key, SHA256())
        .public_bytes(Encoding.DER)
    )


def take(certificate: bytes, key: EllipticCurvePrivateKey, *, node: str) -> Credential:
    """The credential that a certificate (DER) makes with our key. Raises TransientError if it is not ours."""
    try:
        return _checked(x509.load_der_x509_certificate(certificate), key, node)
    except ValueError as error:
        raise TransientError(f"the certificate that came is not ours: {error}") from error


def decode(data: bytes, *, node: str) -> Credential | None:
    """What `encode` wrote; None if that is damaged or another node's."""
    try:
        key = load_pem_private_key(data, None)
        if not isinstance(key, EllipticCurvePrivateKey):
            return None
        return _checked(x509.load_pem_x509_certificate(data), key, node)
    except (ValueError, TypeError):
        return None


def _checked(certificate: x509.Certificate, key: EllipticCurvePrivateKey, node: str) -> Credential:
    if certificate.public_key() != key.public_key():
        raise ValueError("it is for another key")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise ValueError("it names nobody") from error
    if node_of(names.get_values_for_type(x509.UniformResourceIdentifier)) != node:
        raise ValueError("it names another node")
    return Credential(certificate=certificate, key=key)
