"""Keep this node's certificate: get the first, renew each before it ends.

In:   BootstrapConfig
Out:  a file with certificate and key, replaced whole; what is wrong, for people
Shell over that file and the question to the reconciler.

Holds always:
1. What is on disk is a pair that belongs together, and stays there until a better one came.
2. Every certificate has a key of its own, made here.
3. A reconciler that refuses, or is away, is asked again with growing patience, by each node at
   another moment; nothing else of the agent waits for it.
4. What this node's clock says of a certificate only ever has another asked for: whether it counts, the
   reconciler decides by its own.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from cryptography import x509

from netpolicy.durable_files import DiskFiles, Files
from netpolicy.errors import TransientError
from netpolicy.issuers import is_issued_by
from netpolicy.trust import BACKDATED_SECONDS
from nodeagent.bootstrap.client import BootstrapConfig, ask
from nodeagent.bootstrap.credential import (
    Credential,
    clock_ahead,
    decode,
    new_key,
    request_for,
    take,
)
from nodeagent.receive.backoff import Backoff

log = structlog.get_logger()

CERTIFICATE_TAKEN: Final = "certificate_taken"
CERTIFICATE_NOT_RENEWED: Final = "certificate_not_renewed"
CLOCKS_DIFFER: Final = "clocks_differ"
MAX_CREDENTIAL_BYTES: Final = 64 * 1024
LEAST_PAUSE: Final = timedelta(minutes=1)
"""Between two certificates, whatever they and the clock say."""

LONGEST_SLEEP_SECONDS: Final = 60.0
"""The clock may be set: look at it this often."""

SHUT_OUT_SECONDS: Final = 600.0
"""One to two of these without the reconciler: it may refuse our certificate, which TLS does not say."""

UNNOTICED: Final = timedelta(seconds=BACKDATED_SECONDS)
MAX_AUTHORITIES_BYTES: Final = 64 * 1024

Ask = Callable[[BootstrapConfig, bytes], Awaitable[bytes]]


class CertificateKeeper:
    """One node's certificate. `usable` is set once there is one, fresh or from before."""

    def __init__(
        self,
        config: BootstrapConfig,
        *,
        ask: Ask = ask,
        files: Files | None = None,
        least_pause: timedelta = LEAST_PAUSE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        is_let_in: Callable[[], bool] = lambda: True,
        shut_out_seconds: float = SHUT_OUT_SECONDS,
    ) -> None:
        """`is_let_in`: whether the reconciler speaks with this agent now."""
        self._config = config
        self._ask = ask
        self._files = files or DiskFiles()
        self._least_pause = least_pause
        self._clock = clock
        self._is_let_in = is_let_in
        self._shut_out_seconds = shut_out_seconds * random.uniform(1.0, 2.0)  # noqa: S311  as below
        self._let_in_at = time.monotonic()
        self._ahead = timedelta()
        self._held = self._load()
        self._error = ""
        self.usable = asyncio.Event()
        if self._held is not None and self._held.is_valid(self._clock()):
            self.usable.set()

    async def run(self) -> None:
        """Renew whenever that is due, until cancelled."""
        backoff = Backoff()
        while True:
            await self._until_due()
            try:
                await self._renew()
            except (TransientError, OSError) as error:
                self._note(str(error))
                await asyncio.sleep(backoff.fail())
            else:
                backoff.succeed()
                self._let_in_at = time.monotonic()
                spread = random.uniform(1.0, 2.0)  # noqa: S311  spreads load, hides nothing
                await asyncio.sleep(self._least_pause.total_seconds() * spread)

    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to."""
        return tuple(alarm for alarm in (self._certificate_alarm(), self._clock_alarm()) if alarm)

    def _certificate_alarm(self) -> str:
        now = self._clock()
        if self._held is None:
            return f"this node has no certificate yet: {self._error}" if self._error else ""
        ends = f"{self._held.certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC"
        if now < self._held.certificate.not_valid_before_utc:
            return f"by this node's clock its certificate is of the future (until {ends})"
        if not self._held.is_valid(now):
            return f"this node's certificate ended at {ends}: {self._error or 'not renewed'}"
        if not self._error:
            return ""
        if not self._is_of_the_trusted(self._held):
            return f"this node's certificate is of an authority that is not trusted: {self._error}"
        if self._held.until_renewal(now) < timedelta():
            return f"this node's certificate ends at {ends}, and is not renewed: {self._error}"
        return ""

    def _clock_alarm(self) -> str:
        if abs(self._ahead) <= UNNOTICED:
            return ""
        minutes = round(abs(self._ahead).total_seconds() / 60)
        side = "ahead of" if self._ahead > timedelta() else "behind"
        return f"this node's clock is {minutes} minutes {side} the reconciler's: set the one that is wrong"

    async def _until_due(self) -> None:
        """Wait for the moment, by the wall clock: the certificate's ends are told by it."""
        while self._held is not None and self._held.is_valid(self._clock()):
            left = self._held.until_renewal(self._clock()).total_seconds()
            if left <= 0 or self._is_shut_out() or not self._is_of_the_trusted(self._held):
                return
            await asyncio.sleep(min(left, LONGEST_SLEEP_SECONDS, self._shut_out_seconds))

    def _is_shut_out(self) -> bool:
        now = time.monotonic()
        if self._is_let_in():
            self._let_in_at = now
        return now - self._let_in_at >= self._shut_out_seconds

    def _is_of_the_trusted(self, held: Credential) -> bool:
        """False once the authority that signed it is not among those that prove the reconciler."""
        try:
            data = self._files.read(self._config.ca, max_bytes=MAX_AUTHORITIES_BYTES)
            return is_issued_by(held.certificate, x509.load_pem_x509_certificates(data))
        except (OSError, ValueError):
            return True  # half laid out: look again later

    async def _renew(self) -> None:
        key = new_key()
        given = await self._ask(self._config, request_for(self._config.node, key))
        self._save(take(given, key, node=self._config.node))

    def _save(self, fresh: Credential) -> None:
        path = self._config.credential
        temporary = path.with_name(path.name + ".new")
        self._files.write(temporary, fresh.encode())
        self._files.rename(temporary, path)
        self._held, self._error = fresh, ""
        self._ahead = clock_ahead(fresh, self._clock())
        if self._clock_alarm():
            log.warning(CLOCKS_DIFFER, ahead_seconds=round(self._ahead.total_seconds()))
        self.usable.set()
        log.info(CERTIFICATE_TAKEN, until=fresh.certificate.not_valid_after_utc.isoformat())

    def _load(self) -> Credential | None:
        try:
            data = self._files.read(self._config.credential, max_bytes=MAX_CREDENTIAL_BYTES)
        except OSError:
            return None  # the first start; or a disk that will say so when it is written to
        return decode(data, node=self._config.node)

    def _note(self, error: str) -> None:
        if error != self._error:
            log.warning(CERTIFICATE_NOT_RENEWED, error=error)
        self._error = error
