"""Whether one of several authorities signed a certificate.

In:   a certificate, authorities
Out:  true or false
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable

from cryptography.exceptions import InvalidSignature
from cryptography.x509 import Certificate


def is_issued_by(certificate: Certificate, authorities: Iterable[Certificate]) -> bool:
    """True if one of them signed it, by name and by key."""
    return any(_signed(authority, certificate) for authority in authorities)


def _signed(authority: Certificate, certificate: Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
