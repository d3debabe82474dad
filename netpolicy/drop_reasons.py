"""Why a packet was dropped: numbers, the text people read, and Hubble's names.

Numbers below 220 are Cilium 1.19.4's, with its texts; those from 220 on are ours, from 240 on the proxy's.
`bpf/abi.h` numbers the kernel's; a test holds the two together.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

POLICY_DENIED: Final = 133
POLICY_DENY: Final = 181
RATE_LIMITED: Final = 198
TLS_FAILED: Final = 240


@dataclass(frozen=True, slots=True)
class DropReason:
    """One reason: its number, its text, and the name Hubble's API gives it."""

    number: int
    text: str
    name: str


_REASONS: Final = (
    DropReason(130, "Invalid source mac", "INVALID_SOURCE_MAC"),
    DropReason(132, "Invalid source ip", "INVALID_SOURCE_IP"),
    DropReason(133, "Policy denied", "POLICY_DENIED"),
    DropReason(134, "Invalid packet", "INVALID_PACKET_DROPPED"),
    DropReason(135, "CT: Truncated or invalid header", "CT_TRUNCATED_OR_INVALID_HEADER"),
    DropReason(137, "CT: Unknown L4 protocol", "CT_UNKNOWN_L4_PROTOCOL"),
    DropReason(139, "Unsupported L3 protocol", "UNSUPPORTED_L3_PROTOCOL"),
    DropReason(140, "Missed tail call", "MISSED_TAIL_CALL"),
    DropReason(142, "Unknown L4 protocol", "UNKNOWN_L4_PROTOCOL"),
    DropReason(155, "CT: Map insertion failed", "CT_MAP_INSERTION_FAILED"),
    DropReason(156, "Invalid IPv6 extension header", "INVALID_IPV6_EXTENSION_HEADER"),
    DropReason(157, "IP fragmentation not supported", "IP_FRAGMENTATION_NOT_SUPPORTED"),
    DropReason(166, "Unsupported L2 protocol", "UNSUPPORTED_L2_PROTOCOL"),
    DropReason(171, "Invalid identity", "INVALID_IDENTITY"),
    DropReason(
        175,
        "First logical datagram fragment not found",
        "FIRST_LOGICAL_DATAGRAM_FRAGMENT_NOT_FOUND",
    ),
    DropReason(
        180,
        "Proxy redirection not supported for protocol",
        "PROXY_REDIRECTION_NOT_SUPPORTED_FOR_PROTOCOL",
    ),
    DropReason(181, "Policy denied by denylist", "POLICY_DENY"),
    DropReason(182, "VLAN traffic disallowed by VLAN filter", "VLAN_FILTERED"),
    DropReason(189, "Authentication required", "AUTH_REQUIRED"),
    DropReason(190, "No conntrack map found", "DROP_CT_NO_MAP_FOUND"),
    DropReason(195, "Traffic is unencrypted", "UNENCRYPTED_TRAFFIC"),
    DropReason(198, "Rate limited", "DROP_RATE_LIMITED"),
    DropReason(202, "Host datapath not ready", "DROP_HOST_NOT_READY"),
    DropReason(203, "Endpoint policy program not available", "DROP_EP_NOT_READY"),
    DropReason(220, "Active generation incomplete", "TIDEGATE_NO_GENERATION"),
    DropReason(221, "Endpoint unknown to the active generation", "TIDEGATE_NO_TABLE"),
    DropReason(
        222, "ARP or neighbour discovery claims another's address", "TIDEGATE_NEIGHBOUR_ADDRESS"
    ),
    DropReason(223, "ARP or neighbour discovery names another's MAC", "TIDEGATE_NEIGHBOUR_MAC"),
    DropReason(224, "Router advertised by a pod", "TIDEGATE_ROUTER_ADVERTISEMENT"),
    DropReason(225, "Malformed ARP or neighbour discovery", "TIDEGATE_INVALID_NEIGHBOUR"),
    DropReason(226, "Malformed fragment, or of what is never cut", "TIDEGATE_FRAGMENT"),
    DropReason(227, "Fragment overlaps the first one", "TIDEGATE_FRAGMENT_OVERLAP"),
    DropReason(228, "IPv4-mapped address in IPv6", "TIDEGATE_MAPPED_ADDRESS"),
    DropReason(229, "No room in the address table", "TIDEGATE_NO_ROOM"),
    DropReason(230, "Source-routed packet", "TIDEGATE_SOURCE_ROUTE"),
    DropReason(240, "TLS handshake with the proxy failed", "TIDEGATE_TLS_HANDSHAKE"),
)

DROP_REASONS: Final = {reason.number: reason for reason in _REASONS}


def drop_reason(number: int) -> DropReason:
    """The reason of a number; one that is unknown still says its number."""
    return DROP_REASONS.get(number) or DropReason(number, f"Drop reason {number}", f"DROP_{number}")
