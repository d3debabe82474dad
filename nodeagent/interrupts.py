"""Let Ctrl-C end a stream without breaking into it.

An interrupt that Python raises amid a gRPC call may leave a lock of it held, and the command hangs. So the
signal is kept from all threads but one, which waits for it.

Shell over the process's signals. Enter it before a channel is opened: threads inherit what they refuse.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from typing import Final

INTERRUPTED: Final = 130
"""The exit code of a command that a second interrupt ends, as a shell has it."""

_INTERRUPTS: Final = frozenset({signal.SIGINT})


@contextmanager
def interrupts_held() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Hold interrupts back; yields a function that says what the first one is to call.

    A second one ends the process, wherever it is.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        yield lambda end: Thread(target=_await, args=(end,), daemon=True).start()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _await(end: Callable[[], None]) -> None:
    signal.sigwait(_INTERRUPTS)
    end()
    signal.sigwait(_INTERRUPTS)
    os._exit(INTERRUPTED)
