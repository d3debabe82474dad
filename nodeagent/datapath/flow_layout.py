"""Whether flows that one version of the programs remembered can be read by another.

In:   the structures that flows are kept in
Out:  a digest: equal if every field lies where it lay
Pure.
"""

from __future__ import annotations

from ctypes import Structure, sizeof
from hashlib import sha256
from typing import Final

from nodeagent.datapath.abi import ConntrackEntry, ConntrackKey, FirstFragment, FragmentKey


def layout_digest(*structures: type[Structure]) -> str:
    """Names where each field lies: bytes of one layout may be read by another with the same digest.

    A field whose meaning changes is given another name.
    """
    told = "".join(_layout_text(structure) for structure in structures)
    return sha256(told.encode()).hexdigest()[:8]


def _layout_text(structure: type[Structure]) -> str:
    lines = [f"{structure.__name__} {sizeof(structure)}\n"]
    for name, kind, *_ in structure._fields_:
        field = getattr(structure, name)
        lines.append(f"{name} {kind.__name__} {field.offset} {field.size}\n")
        if issubclass(kind, Structure):
            lines.append(_layout_text(kind))
    return "".join(lines)


FLOW_LAYOUT: Final = layout_digest(ConntrackKey, ConntrackEntry, FragmentKey, FirstFragment)
