"""The `datapath` section of `agent.yaml`: how much the kernel's maps hold, and what the programs assume.

In:   the section's fields
Out:  DatapathOptions; diagnostics for values that make no sense
Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Final

from netpolicy.fields import BAD_VALUE, Fields

JUDGED_ETHERTYPES: Final = {0x0800: "IPv4", 0x0806: "ARP", 0x86DD: "IPv6"}
"""These are judged, whatever is configured."""

IEEE_802_3: Final = 0x0001
"""Stands for every frame with a length in place of its ethertype, as it does in Linux."""

IEEE_802_3_TEXT: Final = "802.3"
MOST_UNJUDGED_ETHERTYPES: Final = 8
_FIRST_ETHERTYPE: Final = 0x0600
_LAST_ETHERTYPE: Final = 0xFFFF
_LONGEST_LIFETIME_SECONDS: Final = 30 * 86_400
_LARGEST_MAP: Final = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLifetimes:
    """How many seconds a flow may be idle before it is forgotten.

    TCP opening: before its opener answered the answer. Closed: after a reset, or both sides' FIN.
    Fragments: as long as a receiver waits for the rest of a datagram, by default.
    """

    tcp: int = 21_600
    tcp_opening: int = 60
    tcp_closed: int = 10
    datagram: int = 60
    fragments: int = 30


DEFAULT_LIFETIMES: Final = FlowLifetimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class DatapathOptions:
    """`max_addresses` (of pods and nodes) and `max_prefixes` (of policies) are those of one plan.
    Frames of `unjudged_ethertypes` pass in both directions. `direct_delivery`: TCP between
    pods here does not pass the node's own filters."""

    max_addresses: int = 262_144
    max_prefixes: int = 262_144
    lifetimes: FlowLifetimes = DEFAULT_LIFETIMES
    unjudged_ethertypes: tuple[int, ...] = ()
    direct_delivery: bool = False


DEFAULT_OPTIONS: Final = DatapathOptions()


def read_options(section: Fields) -> DatapathOptions:
    """Read the section."""
    lifetimes = section.record("lifetimes")
    options = DatapathOptions(
        max_addresses=_size(section, "max_addresses", DEFAULT_OPTIONS.max_addresses),
        max_prefixes=_size(section, "max_prefixes", DEFAULT_OPTIONS.max_prefixes),
        lifetimes=FlowLifetimes(
            **{
                field.name: _lifetime(lifetimes, field.name, getattr(DEFAULT_LIFETIMES, field.name))
                for field in fields(FlowLifetimes)
            }
        ),
        unjudged_ethertypes=tuple(_ethertypes(section)),
        direct_delivery=section.flag("direct_delivery", DEFAULT_OPTIONS.direct_delivery),
    )
    lifetimes.finish()
    section.finish()
    return options


def _size(section: Fields, key: str, default: int) -> int:
    return _within(section, key, default, _LARGEST_MAP)


def _lifetime(section: Fields, key: str, default: int) -> int:
    return _within(section, key, default, _LONGEST_LIFETIME_SECONDS)


def _within(section: Fields, key: str, default: int, most: int) -> int:
    value = section.number(key, default)
    if 1 <= value <= most:
        return value
    section.fault((key,), BAD_VALUE, f"{key} must be from 1 to {most}")
    return default


def _ethertypes(section: Fields) -> Iterator[int]:
    texts = section.texts("unjudged_ethertypes")
    if len(texts) > MOST_UNJUDGED_ETHERTYPES:
        says = f"at most {MOST_UNJUDGED_ETHERTYPES} ethertypes may pass unjudged"
        section.fault(("unjudged_ethertypes",), BAD_VALUE, says)
        return
    for index, text in enumerate(texts):
        number = _ethertype(text)
        place = ("unjudged_ethertypes", index)
        if number is None:
            section.fault(
                place,
                BAD_VALUE,
                f'"{text}" is no ethertype',
                fix=f'write hexadecimal digits, such as "0x88cc", or "{IEEE_802_3_TEXT}"',
            )
        elif number in JUDGED_ETHERTYPES:
            section.fault(
                place,
                BAD_VALUE,
                f"{JUDGED_ETHERTYPES[number]} does not pass unjudged",
                why="policies speak of it",
            )
        else:
            yield number


def _ethertype(text: str) -> int | None:
    if text == IEEE_802_3_TEXT:
        return IEEE_802_3
    try:
        number = int(text, 16)
    except ValueError:
        return None
    return number if _FIRST_ETHERTYPE <= number <= _LAST_ETHERTYPE else None
