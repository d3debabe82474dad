"""A virtual machine with another kernel over this machine's files, for as long as one command takes.

In:   a Kernel, a command, how long it may take
Out:  what the command printed, as it prints it; its exit code
Shell over QEMU and virtiofsd.

Holds always:
1. The machine's files are shared read-only: what the command writes is gone with the virtual machine.
2. It ends with its time, and with the program that started it.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tests.vm.initramfs import write_initramfs
from tests.vm.kernels import Kernel

VIRTIOFSD: Final = "/usr/lib/qemu/virtiofsd"
SHARE: Final = Path("tests/vm/share.sh")
MEMORY: Final = "3G"
_SHARE_SECONDS: Final = 10.0
_ENDS_WITH_US: Final = ("setpriv", "--pdeathsig", "KILL")


class MachineError(Exception):
    """The virtual machine ended without saying how the command did."""


def accelerator() -> str:
    """KVM by the processor itself only: paravirtual ones do not run a kernel that is not made for them."""
    by_processor = any(Path(f"/sys/module/{m}").exists() for m in ("kvm_intel", "kvm_amd"))
    return "kvm" if by_processor and os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"


def run_in_machine(kernel: Kernel, command: list[str], *, seconds: float) -> int:
    """Run it in the tree, as root; return its exit code. Raises MachineError, TimeoutExpired."""
    with TemporaryDirectory(prefix="tidegate-vm-") as name, _shared(Path(name)) as share:
        work = Path(name)
        archive = write_initramfs(kernel, command=command, work=work)
        ended = work / "exit"
        machine = subprocess.Popen(
            [*_ENDS_WITH_US, *_qemu(kernel, archive, share=share, ended=ended)],
            stdin=subprocess.DEVNULL,
        )
        try:
            machine.wait(timeout=seconds)
        finally:
            machine.kill()
            machine.wait()
        said = ended.read_text().strip()
        if not said.isdecimal():
            raise MachineError((work / "console").read_text(errors="replace")[-3000:])
        return int(said)


def _qemu(kernel: Kernel, archive: Path, *, share: Path, ended: Path) -> list[str]:
    """Serial ports: the kernel's own words, the exit code; the command prints to a faster console."""
    how = accelerator()
    options = {
        "-machine": "q35,memory-backend=memory",
        "-object": f"memory-backend-memfd,id=memory,size={MEMORY},share=on",
        "-m": MEMORY,
        "-accel": "kvm" if how == "kvm" else "tcg,thread=multi,tb-size=512",
        "-cpu": "host" if how == "kvm" else "max",
        "-smp": "2",
        "-kernel": str(kernel.image),
        "-initrd": str(archive),
        "-append": f"console=ttyS0 quiet panic=-1 mitigations=off"
        f" TREE={Path.cwd()} KERNEL_ROOT={kernel.root}",
        "-display": "none",
        "-monitor": "none",
    }
    devices = [
        ("-chardev", f"socket,id=share,path={share}"),
        ("-device", "vhost-user-fs-pci,chardev=share,tag=host"),
        ("-serial", f"file:{ended.with_name('console')}"),
        ("-serial", f"file:{ended}"),
        ("-chardev", "stdio,id=told,signal=off"),
        ("-device", "virtio-serial-pci"),
        ("-device", "virtconsole,chardev=told"),
        ("-nic", "none"),
    ]
    words = [word for pair in (*options.items(), *devices) for word in pair]
    return ["qemu-system-x86_64", "-no-reboot", *words]


@contextmanager
def _shared(work: Path) -> Iterator[Path]:
    """The machine's root, served read-only at a socket."""
    socket, root = work / "share", work / "shared-root"
    root.mkdir()
    with (work / "share.log").open("w") as log:
        server = subprocess.Popen(
            [*_ENDS_WITH_US, "unshare", "--mount", "--propagation", "private",
             str(SHARE), str(root), VIRTIOFSD, str(socket)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            deadline = time.monotonic() + _SHARE_SECONDS
            while not socket.exists():
                if server.poll() is not None or time.monotonic() > deadline:
                    raise MachineError((work / "share.log").read_text()[-3000:])
                time.sleep(0.05)
            yield socket
        finally:
            server.kill()
            server.wait()
