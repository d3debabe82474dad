"""Where the host's network settings are written.

In:   nothing
Out:  the path of what the kernel shows as /proc/sys/net
Shell: looks for one folder.

A container has /proc/sys read-only, and no runtime mounts anything over it: there the host's is beside it.
Either shows the settings of the reader's own network namespace.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

OWN: Final = Path("/proc/sys/net")
OF_THE_HOST: Final = Path("/host/proc/sys/net")


def network_settings() -> Path:
    """The folder that can be written to, as far as there is one."""
    return OF_THE_HOST if OF_THE_HOST.is_dir() else OWN
