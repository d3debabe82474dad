"""The numbers of bpf/abi.h: sizes, marks, reasons, flags.

In:   nothing
Out:  constants and enumerations, named as the C ones
Pure. A test compiles abi.h and compares every number.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

from netpolicy.evidence import Cause

ABI_VERSION: Final = 14
MARK_MASK: Final = 0xFF00
"""The bits of a packet's mark that say what the node does with it."""
MARK_IN_THE_CLEAR: Final = 0x0700
MARK_FROM_POD: Final = 0x0800
MARK_DECRYPTED: Final = 0x0D00
MARK_ENCRYPT: Final = 0x0E00
MARK_REDIRECTED: Final = 0x0200
MARK_DIRECT: Final = 0x0600
MARK_PROXY_TO_CLIENT: Final = 0x0900
MARK_PROXY_TO_SERVER: Final = 0x0A00
MARK_PROXY_TO_WORLD: Final = 0x0B00
MARK_PROXY_TO_OPENER: Final = 0x0C00
MARK_PORT_SHIFT: Final = 16
REDIRECT_ANEW: Final = 0x01
REDIRECT_BACK: Final = 0x02
DIRECT_INTO: Final = 0x01
SLOTS: Final = 8
NO_SLOT: Final = 0xFF
SHADOWS: Final = 2
ENDPOINT_ADDRESSES: Final = 8
INTERFACE_GROUPS: Final = 1024
INTERFACES_PER_GROUP: Final = 8
PORTS_PER_ELEMENT: Final = 4
ELEMENTS_PER_PROTOCOL: Final = 16384
PORT_PROTOCOLS: Final = 5
PORT_CLASS_ELEMENTS: Final = PORT_PROTOCOLS * ELEMENTS_PER_PROTOCOL
REASONS: Final = 256
COUNTER_LOST_EVENTS: Final = REASONS * 2
COUNTER_UNTOLD_REFUSALS: Final = REASONS * 2 + 1
COUNTERS: Final = REASONS * 2 + 2
EVENT_RECORDS: Final = 32_768
EVENT_RECORDS_SPARE: Final = 2_048
REFUSAL_INTERVAL_NS: Final = 1_000_000_000


class EntryKind(IntEnum):
    """What a policy entry leaves open (`enum tg_entry_kind`)."""

    EXACT = 0
    ANY_PORT = 1
    ANY_PEER = 2
    ANYTHING = 3


class Reason(IntEnum):
    """Why a packet was dropped (`enum tg_reason`); 0: it was not."""

    FORWARDED = 0
    INVALID_SOURCE_MAC = 130
    INVALID_SOURCE_IP = 132
    POLICY_DENIED = 133
    INVALID_PACKET = 134
    TRUNCATED = 135
    UNSUPPORTED_L3 = 139
    UNKNOWN_L4 = 142
    CONNTRACK_INSERT = 155
    INVALID_IPV6_EXTENSION = 156
    UNSUPPORTED_L2 = 166
    INVALID_IDENTITY = 171
    NO_FIRST_FRAGMENT = 175
    NO_PROXY = 180
    POLICY_DENY = 181
    VLAN = 182
    UNENCRYPTED = 195
    NOT_READY = 202
    NO_ENDPOINT = 203
    NO_GENERATION = 220
    NO_TABLE = 221
    NEIGHBOUR_ADDRESS = 222
    NEIGHBOUR_MAC = 223
    ROUTER_ADVERTISEMENT = 224
    INVALID_NEIGHBOUR = 225
    FRAGMENT = 226
    FRAGMENT_OVERLAP = 227
    MAPPED_ADDRESS = 228
    NO_ROOM = 229
    SOURCE_ROUTE = 230


class CauseNumber(IntEnum):
    """How a shadow judges otherwise (`enum tg_cause`); 0: it does not."""

    NONE = 0
    WOULD_DENY = 1
    WOULD_ALLOW = 2
    WOULD_REDIRECT = 3
    WOULD_NOT_REDIRECT = 4


class EncryptionFlag(IntFlag):
    """`enum tg_encryption_flag`."""

    ON = 1
    STRICT = 2


class Encrypted(IntEnum):
    """Whether a packet travels through a tunnel (`enum tg_encrypted`)."""

    NO = 0
    YES = 1
    UNDECIDED = 2


class Reply(IntEnum):
    """Whether a packet travels against its flow's direction (`enum tg_reply`)."""

    UNKNOWN = 0
    NO = 1
    YES = 2


class ConntrackFlag(IntFlag):
    """`enum tg_conntrack_flag`."""

    ONE_WAY = 1
    REPLIED = 2
    ESTABLISHED = 4
    CUT = 8
    ENCRYPTED = 16
    DIRECT = 32


class LocalEndFlag(IntFlag):
    """`enum tg_local_end_flag`."""

    PAIR = 1


def cause_of(number: int) -> Cause:
    """The cause that a non-zero number stands for."""
    return Cause[CauseNumber(number).name]
