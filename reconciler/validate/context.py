"""What validation may know beside the policies themselves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from netpolicy.inventory import Inventory


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationContext:
    """`ownership` maps folders to the namespaces their policies may name (the longest folder wins; a
    folder without an entry is unrestricted; "*" stands for every namespace and the whole cluster).

    Without an inventory, no selector can be said to match nothing.
    """

    ownership: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inventory: Inventory | None = None
