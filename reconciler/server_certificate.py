"""What the reconciler's servers prove themselves with, read anew when its files change.

In:   paths of PEM files: a certificate, its key, and who may call
Out:  gRPC server credentials; when a certificate ends
Shell over these files.

Holds always:
1. Files that do not fit together, or whose certificate has ended, are not taken while others are in use: what
   served before serves on, and the log says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from netpolicy.errors import StalledError

log = structlog.get_logger()

RENEWED: Final = "server_certificate_renewed"
NOT_TAKEN: Final = "server_certificate_not_taken"

_Seen = tuple[tuple[int, int, int], ...]
"""Of each file: inode, time of change, size."""


@dataclass(slots=True)
class ServerCertificate:
    """One server's. Without `client_ca`, callers need no certificate."""

    certificate: Path
    key: Path
    client_ca: Path | None = None
    _seen: _Seen = ()

    def credentials(self) -> grpc.ServerCredentials:
        """For a server that starts; raises StalledError if the files do not serve."""
        self._seen = self._look()
        return grpc.dynamic_ssl_server_credentials(
            self._read(),
            self._renewed,  # type: ignore[arg-type]  # it may answer None, whatever the stubs say
            require_client_authentication=self.client_ca is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """What to take from now on, None for what there was; asked before each handshake, by any thread."""
        try:
            seen = self._look()
            if seen == self._seen:
                return None
            self._seen = seen
            fresh = self._read()
        except StalledError as error:
            log.error(NOT_TAKEN, error=str(error))
            return None
        log.info(RENEWED, path=str(self.certificate))
        return fresh

    def _files(self) -> tuple[Path, ...]:
        return tuple(path for path in (self.certificate, self.key, self.client_ca) if path)

    def _look(self) -> _Seen:
        try:
            found = [path.stat() for path in self._files()]
        except OSError as error:
            raise StalledError(f"{error.filename}: {error.strerror}") from error
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _read(self) -> grpc.ServerCertificateConfiguration:
        try:
            certificate, key, *callers = (path.read_bytes() for path in self._files())
        except OSError as error:
            raise StalledError(f"{error.filename}: {error.strerror}") from error
        self._check(certificate, key)
        return grpc.ssl_server_certificate_configuration(
            [(key, certificate)], root_certificates=callers[0] if callers else None
        )

    def _check(self, certificate: bytes, key: bytes) -> None:
        """Say it here: agents would only see a handshake that fails."""
        try:
            found = x509.load_pem_x509_certificate(certificate)
            fits = load_pem_private_key(key, None).public_key() == found.public_key()
        except (ValueError, TypeError) as error:
            raise StalledError(f"{self.certificate}: not a certificate: {error}") from error
        if not fits:
            raise StalledError(f"{self.key} is not the key of {self.certificate}")
        ends = found.not_valid_after_utc
        if ends <= datetime.now(UTC):
            raise StalledError(
                f"{self.certificate}: the reconciler's certificate expired at"
                f" {ends:%Y-%m-%d %H:%M} UTC; with the keys run: tidegate keys renew DIR --server"
            )


def ends_at(path: Path) -> float | None:
    """When the certificate in a file ends, in Unix seconds; None if there is none to be read."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc.timestamp()
    except (OSError, ValueError):
        return None
