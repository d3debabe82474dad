"""The first root of a virtual machine: enough to reach the machine's own files, and to go there.

In:   a Kernel, the files it is to carry
Out:  an archive that the kernel unpacks and starts
Shell over modprobe and cpio.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path
from typing import Final

from tests.vm.kernels import Kernel

MODULES: Final = ("virtio_pci", "virtiofs", "overlay", "virtio_console")
INIT: Final = Path("tests/vm/init.sh")


def write_initramfs(kernel: Kernel, *, command: list[str], work: Path) -> Path:
    """Make the archive in `work`."""
    root = work / "first-root"
    for name in ("bin", "modules", "host", "kept", "root", "dev"):
        (root / name).mkdir(parents=True)
    shutil.copy(kernel.busybox, root / "bin/busybox")
    shutil.copy(INIT, root / "init")
    # As a shell reads it back: words end in NUL.
    (root / "command").write_text("".join(f"{word}\0" for word in command))
    names = [_place(module, root / "modules") for module in _module_files(kernel)]
    (root / "modules/order").write_text("".join(f"{name}\n" for name in names))
    listed = "\n".join(str(each.relative_to(root)) for each in sorted(root.rglob("*")))
    archive = work / "initramfs"
    with archive.open("wb") as out:
        subprocess.run(
            ["cpio", "--create", "--format=newc", "--quiet"],
            cwd=root, input=listed.encode(), stdout=out, check=True,
        )  # fmt: skip
    return archive


def _module_files(kernel: Kernel) -> list[Path]:
    """Each after those that it needs."""
    found: dict[Path, None] = {}
    for name in MODULES:
        asked = ["modprobe", "-d", kernel.root, "-S", kernel.release, "--show-depends", name]
        shown = subprocess.run(asked, check=True, capture_output=True, text=True)
        for line in shown.stdout.splitlines():
            word, _, path = line.strip().partition(" ")
            if word == "insmod":
                found[Path(path.strip())] = None
    return list(found)


def _place(module: Path, folder: Path) -> str:
    data = module.read_bytes()
    if module.suffix == ".xz":
        data, module = lzma.decompress(data), module.with_suffix("")
    (folder / module.name).write_bytes(data)
    return module.name
