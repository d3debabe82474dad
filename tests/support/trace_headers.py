"""Kernel headers for programs that a test has BCC compile.

In:   a folder of the test's own
Out:  BCC_KERNEL_SOURCE in the environment, while the context lasts, if the kernel has no headers
Shell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nodeagent.trace.headers import HeaderPlaces, find_headers, prepare_headers
from nodeagent.trace.missing import Missing


@contextmanager
def prepared_headers(tree: Path) -> Iterator[None]:
    """Lay Debian's two packages over each other, as an operator would."""
    with pytest.MonkeyPatch.context() as patch:
        if isinstance(find_headers(HeaderPlaces(), os.environ), Missing):
            patch.setenv("BCC_KERNEL_SOURCE", str(prepare_headers(HeaderPlaces(prepared=tree))))
        yield
