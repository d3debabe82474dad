"""What the reconciler stands in: files (standalone), or a Kubernetes cluster.

In:   whatever it is made of
Out:  Surroundings: inventories, what people ask for, what is to be followed, who may publish
Protocols and values, and the standalone half. From `app.py` inwards all else is the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from netpolicy.inventory import Inventory, InventoryStep, step_to
from reconciler.cluster import watch_inventory
from reconciler.notify.target import Target
from reconciler.rollout.carrying_on import OnItsWay
from reconciler.settings import Settings
from reconciler.signatures.rules import Verification
from reconciler.source import SourceConfig
from reconciler.staging.interfaces import Request
from reconciler.staging.request_file import RolloutFile

SITE_SAYS_NOTHING = Settings()


@dataclass(frozen=True, slots=True, kw_only=True)
class Following:
    """Which repository is followed, and how. `site`: what the operator of this cluster says beside it;
    `verification`: who must have signed its commits; None: nobody. `notifications`: who is told of each step.
    """

    repository: SourceConfig
    interval_seconds: float
    is_suspended: bool = False
    site: Settings = SITE_SAYS_NOTHING
    verification: Verification | None = None
    notifications: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What is known elsewhere if the state directory is empty: the enforced revision, those that were
    taken back, and the one that is on its way. `sequence`: the highest number that was told there; `learnt`:
    those of `taken_back` that only agents knew of."""

    stable: str = ""
    taken_back: tuple[str, ...] = ()
    on_its_way: OnItsWay | None = None
    sequence: int = 0
    learnt: tuple[str, ...] = ()


NOTHING_REMEMBERED = Remembered()


class RolloutRequests(Protocol):
    """Where people ask for something about a rollout, and are answered."""

    def requests(self) -> tuple[Request, ...]:
        """What is asked for and may not have been handled; nothing if nothing changed."""

    def forget(self) -> None:
        """What was given last was not handled: give it again."""

    def tell(self, *, revision: str, phase: str, answers: Mapping[Request, str]) -> None:
        """Say where the rollout is, and what came of requests."""


class Surroundings(Protocol):
    """What is another thing in every kind of place."""

    @property
    def rollout_requests(self) -> RolloutRequests:
        """Where people ask."""

    def inventory_steps(self) -> AsyncIterator[InventoryStep]:
        """The inventory now, and another after each change; one reader at a time."""

    def least_sequence(self) -> int:
        """Publications have at least this number; raises TransientError while none may be made."""

    def may_advance(self) -> bool:
        """False while another may lead without our knowing it: then nothing is published that was not
        enforced before."""

    def stands(self) -> None:
        """Something changed in what the state database says."""


class Standalone:
    """Files beside the program; nobody else publishes."""

    def __init__(self, *, inventory: Path, state_dir: Path) -> None:
        self._inventory = inventory
        self._file = RolloutFile(state_dir)

    @property
    def rollout_requests(self) -> RolloutFile:
        """The rollout file."""
        return self._file

    async def inventory_steps(self) -> AsyncIterator[InventoryStep]:
        """What the inventory file says."""
        last: Inventory | None = None
        async for inventory in watch_inventory(self._inventory):
            yield step_to(inventory, before=last)
            last = inventory

    def least_sequence(self) -> int:
        """Any."""
        return 0

    def may_advance(self) -> bool:
        """Nobody else can lead."""
        return True

    def stands(self) -> None:
        """Who wants to know reads the database."""
