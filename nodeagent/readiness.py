"""Tell whoever started the agent that it is ready: a line on standard output, and systemd if it asked.

Shell over the notification socket named by NOTIFY_SOCKET (sd_notify's protocol: one datagram).
"""

from __future__ import annotations

import os
import socket
import sys


def say_ready(*, node: str, revision: int, commit: str) -> None:
    """The pods of this node are under policy from here on."""
    line = f"nodeagent ready node={node} revision={revision} commit={commit or 'none'}"
    print(line, file=sys.stdout, flush=True)
    notify(f"READY=1\nSTATUS=enforcing revision {revision}")


def notify(message: str) -> None:
    """Send a state change to the service manager; without one, do nothing."""
    target = os.environ.get("NOTIFY_SOCKET", "")
    if not target:
        return
    # A leading "@" is systemd's way to write an abstract socket.
    address = "\0" + target[1:] if target.startswith("@") else target
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.connect(address)
        sender.sendall(message.encode())
