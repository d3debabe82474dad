"""What the datapath raises."""

from __future__ import annotations

import os

from netpolicy.errors import TransientError


class DatapathError(TransientError):
    """The kernel refused something: which map or program, what was asked, and its error.

    Nothing that was in force changed. `errno` is 0 where the kernel gave none.
    """

    def __init__(self, what: str, *, errno: int = 0) -> None:
        super().__init__(f"{what}: {os.strerror(errno)}" if errno else what)
        self.errno = errno
