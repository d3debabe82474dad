"""Install the CNI plugin on a host, and remove it.

In:   the host's folders of plugins and of configurations
Out:  the plugin's file; the host's first conflist with the plugin in its chain, and a copy of it as it was
Shell over those two folders.

Holds always:
1. A file is whole or as it was: each is written beside its place, flushed, and renamed there.
2. The plugin is there before the chain names it, and leaves after.
3. Installing or removing again, or after a death half-way, comes to the same.
"""

from __future__ import annotations

from pathlib import Path
from stat import S_IMODE
from typing import Final

from netpolicy.durable_files import read_bounded, replace
from nodeagent.cni.conflist import (
    PLUGIN,
    BrokenConflist,
    PluginOptions,
    same_chain,
    with_plugin,
    without_plugin,
)

BACKUP_SUFFIX: Final = ".before-tidegate"
"""It does not end as a runtime wants its configurations to end."""
MAX_CONFLIST_BYTES: Final = 1 << 20
MAX_PLUGIN_BYTES: Final = 32 << 20
_READ_BY_RUNTIMES: Final = frozenset({".conf", ".conflist", ".json"})


class InstallError(Exception):
    """The host stays as it is; the text says what a person can do."""


def install(plugin: Path, *, bin_dir: Path, conf_dir: Path, options: PluginOptions) -> list[str]:
    """Install, or bring up to date; return what was changed. Raises InstallError."""
    try:
        conflist = _conflist(conf_dir)
        before = read_bounded(conflist, max_bytes=MAX_CONFLIST_BYTES)
        after = _joined(conflist, before, options)
        changed = []
        target = bin_dir / PLUGIN
        binary = read_bounded(plugin, max_bytes=MAX_PLUGIN_BYTES)
        if not target.exists() or read_bounded(target, max_bytes=MAX_PLUGIN_BYTES) != binary:
            bin_dir.mkdir(parents=True, exist_ok=True)
            replace(target, binary, mode=0o755)
            changed.append(f"wrote {target}")
        if after != before:
            mode = S_IMODE(conflist.stat().st_mode)
            if without_plugin(before) == before:
                replace(_backup(conflist), before, mode=mode)
            replace(conflist, after, mode=mode)
            changed.append(f"put {PLUGIN} into {conflist}")
    except OSError as error:
        raise InstallError(f"{error.filename}: {error.strerror}") from error
    return changed


def uninstall(*, bin_dir: Path, conf_dir: Path) -> list[str]:
    """Take the plugin out of every chain, then remove it; return what was changed.

    Raises InstallError, and leaves the plugin where it is, if a chain that may name it cannot be read.
    """
    try:
        changed = []
        for conflist in _configurations(conf_dir):
            if conflist.suffix == ".conflist" and _restore(conflist):
                changed.append(f"took {PLUGIN} out of {conflist}")
            _backup(conflist).unlink(missing_ok=True)
        target = bin_dir / PLUGIN
        if target.exists():
            target.unlink()
            changed.append(f"removed {target}")
    except OSError as error:
        raise InstallError(f"{error.filename}: {error.strerror}") from error
    return changed


def _conflist(conf_dir: Path) -> Path:
    """The configuration that a runtime uses: the first by name."""
    found = _configurations(conf_dir)
    if not found:
        raise InstallError(f"{conf_dir} has no CNI configuration yet: install a CNI first")
    if found[0].suffix != ".conflist":
        raise InstallError(
            f"{found[0]} comes first and is no chain: make it a .conflist with one plugin"
        )
    return found[0]


def _configurations(conf_dir: Path) -> list[Path]:
    return sorted(
        path for path in conf_dir.iterdir() if path.suffix in _READ_BY_RUNTIMES and path.is_file()
    )


def _joined(conflist: Path, before: bytes, options: PluginOptions) -> bytes:
    try:
        return with_plugin(before, options)
    except BrokenConflist as error:
        raise InstallError(f"{conflist} is left as it is: {error}") from error


def _restore(conflist: Path) -> bool:
    """Take our plugin out; byte for byte as it was if nobody changed anything else since."""
    before = read_bounded(conflist, max_bytes=MAX_CONFLIST_BYTES)
    try:
        after = without_plugin(before)
        if after == before:
            return False
        backup = _backup(conflist)
        if backup.exists():
            kept = read_bounded(backup, max_bytes=MAX_CONFLIST_BYTES)
            after = kept if same_chain(kept, after) else after
    except BrokenConflist as error:
        if PLUGIN.encode() not in before:
            return False
        raise InstallError(f"{conflist} is left as it is: {error}") from error
    replace(conflist, after, mode=S_IMODE(conflist.stat().st_mode))
    return True


def _backup(conflist: Path) -> Path:
    return conflist.with_name(conflist.name + BACKUP_SUFFIX)
