"""Where the datapath lives in bpffs, and which of its versions is current.

    BPFFS/current -> VERSION        replaced by rename, never edited
    BPFFS/VERSION/maps/<name>       one pin a map
    BPFFS/VERSION/programs/<name>

In:   a directory of bpffs, the compiled object
Out:  the paths of pins
Shell over one directory.

Holds always:
1. `current` names a whole version, or does not exist: a version is named only once it is complete.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nodeagent.datapath.abi_numbers import ABI_VERSION
from nodeagent.datapath.errors import DatapathError
from nodeagent.datapath.flow_layout import FLOW_LAYOUT
from nodeagent.datapath.settings import pack_settings
from nodeagent.datapath_options import DEFAULT_OPTIONS, DatapathOptions

CURRENT: Final = "current"
NEXT: Final = "next"
FROM_POD: Final = "from_pod"
TO_POD: Final = "to_pod"
SWEEPER: Final = "tell_refusals"
FROM_TUNNEL: Final = "from_tunnel"
TO_UPLINK: Final = "to_uplink"
FROM_UPLINK: Final = "from_uplink"
TO_PROXY: Final = "to_proxy"
OTHER_PROGRAMS: Final = (SWEEPER, FROM_TUNNEL, TO_UPLINK, FROM_UPLINK, TO_PROXY)
"""Those that are not on pods' interfaces."""
PROGRAMS: Final = (FROM_POD, TO_POD, *OTHER_PROGRAMS)
_KERNEL_PREFIX: Final = "tg_"
"""So that on an interface no program of others passes for ours."""
MAPS: Final = (
    "control", "interfaces", "endpoints", "addresses", "prefixes", "conntrack", "half_open", "fragments",
    "policy", "class_of", "port_class", "endpoint_tables", "generation_labels", "differences",
    "coverage", "lost_differences", "events", "event_bell", "refusals", "counters", "encryption",
    "pod_places", "proxy", "local_ends", "local_devices", "into_pod",
)  # fmt: skip
OWN_MAPS: Final = frozenset({"into_pod"})
"""What holds a version's own programs: no other version has it."""
FLOW_MAPS: Final = ("conntrack", "half_open", "fragments")
"""What packets write; everything else is filled from the plan."""
_DIGEST_LETTERS: Final = 16
_HALF_OPEN_SHARE: Final = 4
_HALF_OPEN_LEAST: Final = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathConfig:
    """Where the datapath is pinned, from what it is loaded, what it has room for, and its constants."""

    bpffs: Path
    object_path: Path
    conntrack_entries: int = 262_144
    options: DatapathOptions = DEFAULT_OPTIONS

    @property
    def half_open_entries(self) -> int:
        """How many flows it remembers, beside those, that were not answered yet."""
        return max(self.conntrack_entries // _HALF_OPEN_SHARE, _HALF_OPEN_LEAST)

    @property
    def flow_maps(self) -> dict[str, int]:
        """The maps of flows, and their sizes."""
        return {"conntrack": self.conntrack_entries, "half_open": self.half_open_entries}

    @property
    def map_sizes(self) -> dict[str, int]:
        """The maps that are sized by configuration, and their sizes. While the agent goes from one plan
        to the next, the address maps hold what either has."""
        return self.flow_maps | {
            "addresses": self.options.max_addresses * 2,
            "prefixes": self.options.max_prefixes * 2,
            "pod_places": self.options.max_addresses * 2,
        }


@dataclass(frozen=True, slots=True)
class Version:
    """One loaded object: its layout's version, a digest of it and its constants, its conntrack size, and
    a digest of how flows are laid out."""

    name: str

    @property
    def abi(self) -> str:
        """The part of the name that says whether two versions can share maps."""
        return self.name.split("-")[0]

    @property
    def flow_layout(self) -> str:
        """The part that says whether two versions can share the maps of flows, if not all."""
        return self.name.split("-")[-1]


def kernel_name(program: str) -> str:
    """What a program is called in the object, and so in the kernel; at most fifteen letters."""
    return _KERNEL_PREFIX + program


def version_of(config: DatapathConfig) -> Version:
    """The version that the compiled object would be loaded as."""
    try:
        digest = hashlib.sha256(config.object_path.read_bytes())
    except OSError as error:
        raise DatapathError(f"the compiled datapath is not readable: {error}") from error
    digest.update(repr(config.map_sizes).encode() + pack_settings(config.options))
    letters = digest.hexdigest()[:_DIGEST_LETTERS]
    return Version(f"v{ABI_VERSION}-{letters}-{config.conntrack_entries}-{FLOW_LAYOUT}")


def current_version(bpffs: Path) -> Version | None:
    """The version that is in use, if any is whole."""
    named = named_version(bpffs)
    return named if named is not None and is_whole(bpffs, named) else None


def named_version(bpffs: Path) -> Version | None:
    """The version that was put in use last; one of another layout may have other maps than ours."""
    try:
        return Version(os.readlink(bpffs / CURRENT))
    except OSError:
        return None


def map_path(bpffs: Path, version: Version, name: str) -> Path:
    """Where a map is pinned."""
    return bpffs / version.name / "maps" / name


def program_path(bpffs: Path, version: Version, name: str) -> Path:
    """Where a program is pinned."""
    return bpffs / version.name / "programs" / name


def paths_of(bpffs: Path, version: Version) -> tuple[Path, ...]:
    """Every pin of a version."""
    return (
        *(map_path(bpffs, version, name) for name in MAPS),
        *(program_path(bpffs, version, name) for name in PROGRAMS),
    )


def is_whole(bpffs: Path, version: Version) -> bool:
    """True if every pin of a version is there."""
    return all(path.exists() for path in paths_of(bpffs, version))


def make_room(bpffs: Path, version: Version) -> None:
    """Make the directories of a version, empty."""
    remove_version(bpffs, version)
    map_path(bpffs, version, "").mkdir(parents=True)
    program_path(bpffs, version, "").mkdir(parents=True)


def make_current(bpffs: Path, version: Version) -> None:
    """Name a whole version as the one in use, in one step; forget the others."""
    following = bpffs / NEXT
    following.unlink(missing_ok=True)
    following.symlink_to(version.name)
    following.rename(bpffs / CURRENT)
    remove_others(bpffs, version)


def remove_others(bpffs: Path, kept: Version) -> None:
    """Unpin every version but one. What is attached stays until it is replaced."""
    for path in bpffs.iterdir():
        if path.is_dir() and not path.is_symlink() and path.name != kept.name:
            shutil.rmtree(path)


def remove_version(bpffs: Path, version: Version) -> None:
    """Unpin one version."""
    path = bpffs / version.name
    if path.exists():
        shutil.rmtree(path)


def remove_all_pins(bpffs: Path) -> None:
    """Unpin everything and remove the directory."""
    (bpffs / CURRENT).unlink(missing_ok=True)
    (bpffs / NEXT).unlink(missing_ok=True)
    if bpffs.exists():
        shutil.rmtree(bpffs)
