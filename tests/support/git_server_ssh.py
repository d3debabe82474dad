"""A real Git server over SSH: OpenSSH's sshd on loopback, with its own keys, for one user.

It serves Git only: the key is forced to `git-upload-pack` in one directory.
"""

from __future__ import annotations

import getpass
import shlex
import socket
import subprocess
import time
from pathlib import Path
from typing import Final

START_SECONDS: Final = 10

SETTINGS: Final = """\
ListenAddress 127.0.0.1:{port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/authorized_keys
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
LogLevel ERROR
"""


class SshGitServer:
    """sshd for the current user; `client_key` opens it, `known_hosts` names its host key."""

    def __init__(self, root: Path, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o700)
        self.port = _free_port()
        self.client_key = directory / "client_key"
        self.known_hosts = directory / "known_hosts"
        _make_key(directory / "host_key")
        _make_key(self.client_key)
        self._authorize(root, directory)
        host_key = (directory / "host_key.pub").read_text()
        self.known_hosts.write_text(f"[127.0.0.1]:{self.port} {host_key}")
        (directory / "sshd_config").write_text(SETTINGS.format(port=self.port, directory=directory))
        # sshd separates privileges in this directory; packages make it at boot only.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        self._process = subprocess.Popen(
            ["/usr/sbin/sshd", "-D", "-e", "-f", str(directory / "sshd_config")],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_it_listens()

    @property
    def url(self) -> str:
        """The root's URL; a repository is `url + "/" + its folder`."""
        return f"ssh://{getpass.getuser()}@127.0.0.1:{self.port}"

    def close(self) -> None:
        """End the server."""
        self._process.terminate()
        self._process.wait()

    def _authorize(self, root: Path, directory: Path) -> None:
        script = directory / "git-only"
        script.write_text(
            "#!/bin/sh\n"
            "# The client asks for: git-upload-pack '/repository'\n"
            'repository=$(printf %s "$SSH_ORIGINAL_COMMAND" | sed -n '
            "\"s/^git-upload-pack '\\\\/*\\\\([A-Za-z0-9._-]*\\\\)'$/\\\\1/p\")\n"
            '[ -n "$repository" ] || exit 1\n'
            f'exec git -c safe.directory="*" upload-pack {shlex.quote(str(root))}/"$repository"\n'
        )
        script.chmod(0o700)
        public = (directory / "client_key.pub").read_text()
        (directory / "authorized_keys").write_text(f'restrict,command="{script}" {public}')

    def _wait_until_it_listens(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        self.close()
        raise RuntimeError("sshd did not start")


def _make_key(path: Path) -> None:
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
