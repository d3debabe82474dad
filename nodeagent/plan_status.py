"""How planning goes, as people and probes are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanStatus:
    """How the last attempt went. Empty `error`: what is desired is enforced."""

    applied_at: float = 0.0
    error: str = ""
    reason: str = ""
    awaited_interfaces: tuple[str, ...] = ()
    refused_addresses: int = 0
    refused_interfaces: tuple[str, ...] = ()

    @property
    def alarms(self) -> tuple[str, ...]:
        """What a person has to see to: enforcement is safe, but somebody is cut off."""
        found = []
        if self.refused_addresses:
            found.append(
                f"{self.refused_addresses} addresses are refused, as the address map is full: "
                "raise datapath.max_addresses"
            )
        if self.refused_interfaces:
            names = ", ".join(self.refused_interfaces)
            found.append(f"pods behind {names} are refused everything, see endpoint_failed")
        return tuple(found)
