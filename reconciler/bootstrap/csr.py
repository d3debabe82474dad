"""What an agent asks to have certified.

In:   PKCS #10 bytes, the node that the asker was found to be
Out:  the public key, or Refused
Pure.

Holds always:
1. The asker has the private key: its request is signed with it.
2. The request names the asker's own node and nobody else. What else it asks for is not granted: the
   certificate is made from the node's name, not from the request.
"""

from __future__ import annotations

from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from netpolicy.trust import node_uri
from reconciler.bootstrap.refused import Refused, Why

MAX_REQUEST_BYTES: Final = 4096


def requested_key(request: bytes, *, node: str) -> EllipticCurvePublicKey:
    """The key to certify for this node."""
    found, key = _read(request)
    names = _names(found)
    if names != [x509.UniformResourceIdentifier(node_uri(node))]:
        raise Refused(Why.ANOTHER_NODE, f"you are {node}, and may ask for {node_uri(node)} only")
    return key


def _read(request: bytes) -> tuple[x509.CertificateSigningRequest, EllipticCurvePublicKey]:
    if len(request) > MAX_REQUEST_BYTES:
        raise Refused(Why.BAD_REQUEST, f"the request is over {MAX_REQUEST_BYTES} bytes")
    try:
        found = x509.load_der_x509_csr(request)
        key = found.public_key()
        # Before its signature is checked, which some kinds of key make costly.
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256R1):
            raise Refused(Why.BAD_REQUEST, "the key must be of the curve P-256")
        if not found.is_signature_valid:
            raise Refused(Why.BAD_REQUEST, "the request is not signed with its own key")
    except (ValueError, TypeError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise Refused(Why.BAD_REQUEST, "what came is no request for a certificate") from error
    return found, key


def _names(request: x509.CertificateSigningRequest) -> list[x509.GeneralName]:
    try:
        extensions = request.extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise Refused(Why.BAD_REQUEST, "the request's extensions cannot be read") from error
    return list(names)
