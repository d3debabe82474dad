"""What the programs read as constants: lifetimes of idle flows, ethertypes that pass unjudged, and whether
pods are handed packets directly.

In:   DatapathOptions
Out:  the bytes of `struct tg_settings`, which the loader puts into the object's read-only data
Pure.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from nodeagent.datapath import abi
from nodeagent.datapath_options import DatapathOptions, FlowLifetimes

_SECOND_NS: Final = 1_000_000_000


def pack_settings(options: DatapathOptions) -> bytes:
    """The bytes that the programs read."""
    lifetimes = {
        _c_name(field.name): getattr(options.lifetimes, field.name) * _SECOND_NS
        for field in fields(FlowLifetimes)
    }
    return bytes(
        abi.Settings(
            **lifetimes,
            unjudged_ethertypes=options.unjudged_ethertypes,
            direct_delivery=options.direct_delivery,
        )
    )


def _c_name(field: str) -> str:
    return f"lifetime_{field}_ns"
