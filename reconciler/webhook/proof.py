"""Does a request come from somebody who knows the webhook's secret?

In:   the request's headers and body, the secret
Out:  yes or no
Pure. Two proofs are known: a signature over the body (GitHub, Gitea, Forgejo, Bitbucket), and the secret
itself (GitLab).

Holds always:
1. What is compared with a secret is compared in constant time.
2. A request that bears a signature is judged by it alone: a second, weaker proof never mends a wrong one.
3. An empty secret proves nothing.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from hashlib import sha256
from typing import Final

SIGNATURES: Final = ("x-hub-signature-256", "x-hub-signature")
"""GitHub's, Gitea's and Forgejo's header; Bitbucket's. Both say `sha256=` and the digest."""

TOKEN: Final = "x-gitlab-token"  # noqa: S105  the header's name
ALGORITHM: Final = "sha256="


class Proof:
    """The proof of one request, whose body comes in pieces: it is never held whole."""

    def __init__(self, headers: Mapping[str, str], secret: bytes) -> None:
        """`headers`: by name in lower case."""
        self._secret = secret
        self._signature = next((headers[name] for name in SIGNATURES if name in headers), None)
        self._token = headers.get(TOKEN, "")
        self._digest = hmac.new(secret, digestmod=sha256)

    def take(self, piece: bytes) -> None:
        """The next piece of the body."""
        self._digest.update(piece)

    def holds(self) -> bool:
        """True if the secret is known to whoever sent headers and body."""
        if not self._secret:
            return False
        if self._signature is not None:
            wanted = ALGORITHM + self._digest.hexdigest()
            return hmac.compare_digest(_bytes(self._signature), _bytes(wanted))
        return hmac.compare_digest(_bytes(self._token), self._secret)


def _bytes(text: str) -> bytes:
    """`compare_digest` takes no text but ASCII."""
    return text.encode("utf-8", "surrogateescape")
