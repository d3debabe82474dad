"""Send one request to a target.

In:   a Target, a Post
Out:  nothing; TransientError if it may go better later, StalledError if it will not
Shell over one connection. Blocks: for a thread of its own.

Holds always:
1. Nothing is followed elsewhere: a redirect would carry the secret along.
2. No answer is read beyond MAX_ANSWER_BYTES, and none is waited for longer than PATIENCE_SECONDS at a time.
"""

from __future__ import annotations

import http.client
import ssl
from typing import Final
from urllib.parse import urlsplit

from netpolicy.errors import StalledError, TransientError
from reconciler.notify.target import Target
from reconciler.notify.tell import USER_AGENT, Post

PATIENCE_SECONDS: Final = 10.0
MAX_ANSWER_BYTES: Final = 16 * 1024
AGAIN: Final = frozenset({401, 403, 408, 425, 429})
"""Refusals that are about the moment, or about a secret that somebody may yet mend."""


def read_secret(target: Target) -> bytes:
    """The target's secret as it is now. Raises TransientError: it may be there later."""
    try:
        secret = target.secret_file.read_bytes().strip()
    except OSError as error:
        raise TransientError(f"{target.secret_file}: {error.strerror}") from error
    if not secret:
        raise TransientError(f"{target.secret_file} is empty")
    return secret


def send(target: Target, post: Post) -> None:
    """Send it, and see that it was taken."""
    parts = urlsplit(post.url)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    headers = {**post.headers, "Content-Type": "application/json", "User-Agent": USER_AGENT}
    try:
        context = ssl.create_default_context(cafile=target.ca_file and str(target.ca_file))
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port, timeout=PATIENCE_SECONDS, context=context
        )
        try:
            connection.request("POST", path, post.body, headers)
            answer = connection.getresponse()
            answer.read(MAX_ANSWER_BYTES)
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise TransientError(f"{target.shown}: {error or type(error).__name__}") from error
    if 200 <= answer.status < 300:
        return
    message = f"{target.shown} answers {answer.status} {answer.reason}"
    if answer.status >= 500 or answer.status in AGAIN:
        raise TransientError(message)
    raise StalledError(message)
