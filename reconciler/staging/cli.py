"""`tidegate rollout`: see a rollout, and act on it.

Shell over the state database (read only) and the rollout file, which the running reconciler watches.
Exit codes: 0 done, 1 refused (or, for status, taken back), 2 it could not be told.
"""

from __future__ import annotations

import getpass
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import click

from netpolicy.errors import StalledError, TransientError
from reconciler.rollout.machine import TAKEN_BACK
from reconciler.staging.interfaces import Action, Request
from reconciler.staging.request_file import NAME, RolloutFile
from reconciler.staging.text import (
    SHORT_HASH,
    history_data,
    history_text,
    phase_text,
    status_data,
    status_parts,
)
from reconciler.state import publications
from reconciler.state.database import Database
from reconciler.state.rollouts import RolloutStore
from reconciler.terminal import print_parts

DONE: Final = 0
REFUSED: Final = 1
CANNOT_TELL: Final = 2

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate"
DEFAULT_WAIT_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.1
SHORTEST_PREFIX: Final = 7
DEFAULT_ENTRIES: Final = 30

state_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), default=Path(DEFAULT_STATE_DIR),
    show_default=True, help="The reconciler's state directory.",
)  # fmt: skip
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
    Exits 0 if done, 1 if refused (status: if taken back), 2 if it cannot be told.
    """


@rollout.command()
@state_option
@output_option
def status(state_dir: Path, form: str) -> None:
    """Where the current revision is, and what the fleet saw of it.

    Works beside a running reconciler and after it died. Exits 1 if the revision was taken back.
    """
    database = _open(state_dir)
    store = RolloutStore(database)
    current = store.current()
    if current is None:
        _fail("nothing was rolled out yet")
    data = status_data(
        current, store.sighting(current.revision), stable=_stable(database), now=time.time()
    )
    if form == "json":
        click.echo(json.dumps(data, indent=2))
    else:
        print_parts(status_parts(data))
    sys.exit(REFUSED if current.phase in TAKEN_BACK else DONE)


@rollout.command()
@click.option(
    "-n", "--number", type=click.IntRange(min=1), default=DEFAULT_ENTRIES, show_default=True,
    help="How many lines.",
)  # fmt: skip
@state_option
@output_option
def history(number: int, state_dir: Path, form: str) -> None:
    """What happened to revisions, the newest first: who did what, when and why."""
    entries = RolloutStore(_open(state_dir)).history(number)
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
@state_option
def undo(to: str, reason: str, wait_seconds: float, state_dir: Path) -> None:
    """Take back the enforced revision; it needs neither Git nor the network to Git.

    The revision is not applied again by itself; the next commit supersedes it.

    \b
    Examples:
      tidegate rollout undo --reason "checkout fails"
      tidegate rollout undo --to 1f0c2a6d7b1e
    """
    database = _open(state_dir)
    target = _kept(database, to) if to else ""
    _ask(Action.ROLLBACK, _stable(database), reason, wait_seconds, state_dir, to=target)


def _about_the_current(action: Action, text: str) -> None:
    """A command that asks for one action on the revision that is on its way."""

    @rollout.command(action, help=text)
    @reason_option
    @wait_option
    @state_option
    def command(reason: str, wait_seconds: float, state_dir: Path) -> None:
        current = RolloutStore(_open(state_dir)).current()
        _ask(action, current.revision if current else "", reason, wait_seconds, state_dir)


_about_the_current(
    Action.PROMOTE,
    "Move it one stage on now, whatever its soak, the windows or missing evidence say.",
)
_about_the_current(Action.APPROVE, "Allow it to delete more policies than the deletion budget.")
_about_the_current(Action.PAUSE, "Halt it where it stands; failing gates still take it back.")
_about_the_current(Action.RESUME, "Let it go on; its stage soaks anew.")
_about_the_current(Action.ABORT, "Withdraw it; it is not applied again by itself.")


def _ask(
    action: Action,
    revision: str,
    reason: str,
    wait_seconds: float,
    state_dir: Path,
    *,
    to: str = "",
) -> None:
    if not revision:
        _fail("nothing was rolled out yet")
    request = Request(
        action=action,
        revision=revision,
        token=f"{revision}/{time.time_ns()}",
        by=_who(),
        reason=reason,
        to=to,
    )
    file = RolloutFile(state_dir)
    try:
        file.ask(request)
        answer = _wait(lambda: _answer(file, request), wait_seconds)
    except (StalledError, TransientError) as error:
        _fail(str(error))
    if answer is None:
        _fail(
            f"no answer in {wait_seconds:g} seconds: is the reconciler running? The request stands in"
            f" {state_dir / NAME} and is handled when it runs, if the revision is still the same"
        )
    current = RolloutStore(_open(state_dir)).current()
    if answer != "done":
        click.echo(f"{revision[:SHORT_HASH]}: {answer}")
        sys.exit(REFUSED)
    click.echo(f"done; {phase_text(current) if current else ''}")


def _answer(file: RolloutFile, request: Request) -> str | None:
    held = file.read()
    is_handled = held.handled.get(request.action) == request.token
    return held.answers.get(request.action, "") if is_handled else None


def _wait(look: Callable[[], str | None], seconds: float) -> str | None:
    end = time.monotonic() + seconds
    while (found := look()) is None and time.monotonic() < end:
        time.sleep(LOOK_SECONDS)
    return found


def _who() -> str:
    """The person behind sudo, if there is one."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _stable(database: Database) -> str:
    publication = publications.last_publication(database)
    return publication.revision if publication else ""


def _kept(database: Database, prefix: str) -> str:
    """The one kept revision that begins so."""
    kept = publications.revisions(database)
    found = [revision for revision in kept if revision.startswith(prefix)]
    if len(prefix) < SHORTEST_PREFIX or len(found) != 1:
        known = ", ".join(revision[:SHORTEST_PREFIX] for revision in kept)
        _fail(f"{prefix} names no kept revision, or several; kept: {known}")
    return found[0]


def _open(state_dir: Path) -> Database:
    try:
        return Database.open_read_only(state_dir)
    except StalledError as error:
        _fail(str(error))


def _fail(message: str) -> NoReturn:
    click.echo(f"tidegate: {message}", err=True)
    sys.exit(CANNOT_TELL)
