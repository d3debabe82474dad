"""Whose the state directory is: of this replica's last term, or of one before another replica led.

In:   the state directory, the term that begins
Out:  the state kept, or put aside
Shell over the directory.

Holds always:
1. State from before another replica led is not trusted.
2. What somebody asked of an earlier term is not asked of this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import structlog

from netpolicy.errors import StalledError
from reconciler.cluster.lease import Term
from reconciler.staging.request_file import NAME as REQUEST_FILE

log = structlog.get_logger()

STATE_PUT_ASIDE: Final = "state_put_aside"
NOTE: Final = "term"


def trust_state(folder: Path, term: Term) -> None:
    """Put the state aside if another replica led since it was written; note whose it is now.

    The same term again: nobody else led meanwhile. A later one: the API server was set back to a backup, and
    remembers less than this state does.
    """
    note, database = folder / NOTE, folder / "state.db"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = note.read_text().strip() if note.exists() else ""
        if database.exists() and (not known.isdecimal() or int(known) < term.token - 1):
            log.warning(STATE_PUT_ASIDE, path=str(database), term=known, token=term.token)
            put_state_aside(folder)
        if known != str(term.token):
            (folder / REQUEST_FILE).unlink(missing_ok=True)
        temporary = note.with_suffix(".new")
        temporary.write_text(f"{term.token}\n")
        temporary.replace(note)
    except OSError as error:
        raise StalledError(f"{folder}: {error.strerror}") from error


def put_state_aside(folder: Path) -> None:
    """Begin without state."""
    for path in folder.glob("state.db*"):
        path.unlink()
