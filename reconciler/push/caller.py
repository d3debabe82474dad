"""Who calls, by the certificate of the connection, and for how long that is certain.

In:   what TLS found out of the other side, the time
Out:  Caller, or why it is nobody
Pure.

Holds always:
1. A name counts no longer than the certificate that proves it: TLS looks at that once, at the handshake, and
   streams live for months.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from netpolicy.trust import node_of

SUBJECT_NAMES: Final = "x509_subject_alternative_name"
CERTIFICATE: Final = "x509_pem_cert"


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A node, for so many seconds more."""

    node: str
    seconds_left: float


def caller_of(proven: Mapping[str, Iterable[bytes]], *, now: datetime) -> Caller | str:
    """The caller; a text that says why there is none."""
    names = proven.get(SUBJECT_NAMES, ())
    node = node_of(name.decode("utf-8", errors="replace") for name in names)
    if node is None:
        return "your certificate names no node of tidegate"
    try:
        ends = x509.load_pem_x509_certificate(b"".join(proven.get(CERTIFICATE, ())))
    except ValueError:
        return "your certificate cannot be read"
    left = (ends.not_valid_after_utc - now).total_seconds()
    if left <= 0:
        return "your certificate has expired: dial again with a newer one"
    return Caller(node=node, seconds_left=left)
