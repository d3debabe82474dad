"""`tidegate rollout`: see a rollout, and act on it.

Shell. Where rollouts are kept, a state directory or a cluster, is behind RolloutAccess.
Exit codes: 0 done, 1 refused (or, for status, taken back), 2 it could not be told.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import click

from netpolicy.errors import StalledError, TransientError
from reconciler.cli_answers import NO_CLIENT
from reconciler.staging.access import DONE_ANSWER, Place, RolloutAccess, place_options
from reconciler.staging.file_access import FileAccess
from reconciler.staging.interfaces import Action, Request
from reconciler.staging.text import SHORT_HASH, history_data, history_text, status_parts
from reconciler.terminal import print_parts

DONE: Final = 0
REFUSED: Final = 1
CANNOT_TELL: Final = 2

DEFAULT_WAIT_SECONDS: Final = 30.0
SHORTEST_PREFIX: Final = 7
DEFAULT_ENTRIES: Final = 30
NOTHING_YET: Final = "nothing was rolled out yet"

output_option = click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text",
    show_default=True, help="For people, or for machines.",
)  # fmt: skip
reason_option = click.option("--reason", default="", help="Why; kept in the history.")
wait_option = click.option(
    "--wait", "wait_seconds", type=click.FloatRange(min=0), default=DEFAULT_WAIT_SECONDS, show_default=True,
    help="Seconds to wait for the reconciler's answer.",
)  # fmt: skip


@click.group()
def rollout() -> None:
    """See where a revision is on its way, and act on it.

    \b
    Examples:
      tidegate rollout status              what would be cut, and what is next
      tidegate rollout promote             one stage on, now
      tidegate rollout abort --reason "cuts the metrics"
      tidegate rollout undo                back to what was enforced before
      tidegate rollout history             who did what, when and why
    \b
    In a cluster, beside or instead of kubectl:
      tidegate rollout status --kubernetes --namespace tidegate-system
    \b
    Exits 0 if done, 1 if refused (status: if taken back), 2 if it cannot be told.
    """


@rollout.command()
@place_options
@output_option
def status(place: Place, form: str) -> None:
    """Where the current revision is, and what the fleet saw of it.

    Works beside a running reconciler and after it died. Exits 1 if the revision was taken back.

    \b
    Examples:
      tidegate rollout status
      tidegate rollout status -o json --kubernetes
    """
    with _told():
        access = _open(place)
        now = access.whereabouts()
        data = access.status()
    if not now.current:
        _fail(NOTHING_YET)
    if form == "json":
        click.echo(json.dumps(data, indent=2))
    else:
        print_parts(status_parts(data))
    sys.exit(REFUSED if now.is_taken_back else DONE)


@rollout.command()
@click.option(
    "-n", "--number", type=click.IntRange(min=1), default=DEFAULT_ENTRIES, show_default=True,
    help="How many lines.",
)  # fmt: skip
@place_options
@output_option
def history(number: int, place: Place, form: str) -> None:
    """What happened to revisions, the newest first: who did what, when and why.

    \b
    Example:
      tidegate rollout history -n 5
    """
    with _told():
        entries = _open(place).history(number)
    if form == "json":
        click.echo(json.dumps(history_data(entries), indent=2))
        return
    click.echo(history_text(entries))


@rollout.command()
@click.option(
    "--to", default="", help="A kept revision (7 digits or more); without it, the one before."
)
@reason_option
@wait_option
@place_options
def undo(to: str, reason: str, wait_seconds: float, place: Place) -> None:
    """Take back the enforced revision; it needs neither Git nor the network to Git.

    The revision is not applied again by itself; the next commit supersedes it.

    \b
    Examples:
      tidegate rollout undo --reason "checkout fails"
      tidegate rollout undo --to 1f0c2a6d7b1e
    """
    with _told():
        access = _open(place)
        target = _kept(access, to) if to else ""
        stable = access.whereabouts().stable
        _ask(access, Action.ROLLBACK, stable, reason, wait_seconds, to=target)


def _about_the_current(action: Action, text: str) -> None:
    """A command that asks for one action on the revision that is on its way."""

    @rollout.command(
        action.value,
        help=f'{text}\n\n\b\nExample:\n  tidegate rollout {action} --reason "seen enough"',
    )
    @reason_option
    @wait_option
    @place_options
    def command(reason: str, wait_seconds: float, place: Place) -> None:
        with _told():
            access = _open(place)
            _ask(access, action, access.whereabouts().current, reason, wait_seconds)


_about_the_current(
    Action.PROMOTE,
    "Move it one stage on now, whatever its soak, the windows or missing evidence say.",
)
_about_the_current(Action.APPROVE, "Allow it to delete more policies than the deletion budget.")
_about_the_current(Action.PAUSE, "Halt it where it stands; failing gates still take it back.")
_about_the_current(Action.RESUME, "Let it go on; its stage soaks anew.")
_about_the_current(Action.ABORT, "Withdraw it; it is not applied again by itself.")


def _ask(
    access: RolloutAccess,
    action: Action,
    revision: str,
    reason: str,
    wait_seconds: float,
    *,
    to: str = "",
) -> None:
    if not revision:
        _fail(NOTHING_YET)
    request = Request(
        action=action,
        revision=revision,
        token=f"{revision}/{time.time_ns()}",
        by=_who(),
        reason=reason,
        to=to,
    )
    answer = access.ask(request, wait_seconds=wait_seconds)
    if answer is None:
        _fail(
            f"no answer in {wait_seconds:g} seconds: is the reconciler running? The request stands in"
            f" {access.place} and is handled when it runs, if the revision is still the same"
        )
    if answer != DONE_ANSWER:
        click.echo(f"{revision[:SHORT_HASH]}: {answer}")
        sys.exit(REFUSED)
    now = access.whereabouts()
    click.echo(f"done; {now.current[:SHORT_HASH]} is {now.where}")


def _who() -> str:
    """The person behind sudo, if there is one."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _kept(access: RolloutAccess, prefix: str) -> str:
    """The one kept revision that begins so."""
    kept = access.revisions()
    found = [revision for revision in kept if revision.startswith(prefix)]
    if len(prefix) < SHORTEST_PREFIX or len(found) != 1:
        known = ", ".join(revision[:SHORTEST_PREFIX] for revision in kept)
        _fail(f"{prefix} names no kept revision, or several; kept: {known}")
    return found[0]


def _open(place: Place) -> RolloutAccess:
    if place.in_kubernetes:
        # Standalone does without the Kubernetes client, which is not installed everywhere.
        try:
            from reconciler.in_cluster.access import ClusterAccess  # noqa: PLC0415
        except ModuleNotFoundError:
            _fail(NO_CLIENT)
        return ClusterAccess(namespace=place.namespace, kubeconfig=place.kubeconfig)
    return FileAccess(place.state_dir)


@contextmanager
def _told() -> Iterator[None]:
    """Say what goes wrong in one line."""
    try:
        yield
    except (StalledError, TransientError) as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"tidegate: {message}", err=True)
    sys.exit(CANNOT_TELL)
