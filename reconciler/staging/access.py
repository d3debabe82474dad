"""What `tidegate rollout` needs of the place where rollouts are kept: a state directory, or a cluster.

In:   words of the command line
Out:  the options that say where; RolloutAccess, the same for both places
Values, a protocol and options; `file_access` and `in_cluster.access` are the two shells behind them.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import click

from reconciler.staging.interfaces import Request
from reconciler.state.rollouts import Entry

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate"
DEFAULT_NAMESPACE: Final = "tidegate-system"
DONE_ANSWER: Final = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whereabouts:
    """Which revision moved last and where it is; which one is enforced. Empty: none yet."""

    current: str = ""
    where: str = ""
    is_taken_back: bool = False
    stable: str = ""


class RolloutAccess(Protocol):
    """See rollouts, and ask for something. Every call raises StalledError or TransientError if it cannot."""

    def whereabouts(self) -> Whereabouts:
        """What there is to act on."""

    def status(self) -> dict[str, Any]:
        """Everything about the current rollout, as `text.status_data` has it."""

    def history(self, entries: int) -> tuple[Entry, ...]:
        """What happened, the newest first."""

    def revisions(self) -> tuple[str, ...]:
        """What may be gone back to, the newest first."""

    def ask(self, request: Request, *, wait_seconds: float) -> str | None:
        """Ask, and wait for the answer: DONE_ANSWER, or why not; None if none came."""

    @property
    def place(self) -> str:
        """Where a request stands that nobody has answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where rollouts are kept, as the command line says it. `kubeconfig` None: found as kubectl does."""

    state_dir: Path
    in_kubernetes: bool
    namespace: str
    kubeconfig: Path | None


def place_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where; the command gets a `place`."""

    @click.option(
        "--state-dir", type=click.Path(path_type=Path), default=Path(DEFAULT_STATE_DIR),
        show_default=True, help="The reconciler's state directory.",
    )  # fmt: skip
    @click.option(
        "--kubernetes", is_flag=True, help="The PolicyRollout objects of a cluster instead."
    )
    @click.option(
        "--namespace", default=DEFAULT_NAMESPACE, show_default=True, help="Where these are."
    )
    @click.option(
        "--kubeconfig", type=click.Path(path_type=Path),
        help="How to reach the cluster; implies --kubernetes. Without it: as kubectl does, or as the pod.",
    )  # fmt: skip
    @functools.wraps(command)
    def with_place(
        *, state_dir: Path, kubernetes: bool, namespace: str, kubeconfig: Path | None, **given: Any
    ) -> None:
        place = Place(
            state_dir=state_dir,
            in_kubernetes=kubernetes or kubeconfig is not None,
            namespace=namespace,
            kubeconfig=kubeconfig,
        )
        command(place=place, **given)

    return with_place
