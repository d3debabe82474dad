"""The rollout object of standalone mode: a file with annotations that ask, and a status that answers.

In:   the file (a person's editor, or `tidegate rollout`, writes annotations)
Out:  Requests; the status, written back
Shell over one file and the lock beside it.

    metadata:
      annotations:
        tidegate.dev/promote: 1f0c2a6d7b1e4f5a8c9d0e1f2a3b4c5d6e7f8091/2026-03-01T10:00:00Z
    status:
      lastHandled: {promote: 1f0c2a6d…/2026-03-01T10:00:00Z}

The value is a token: the revision, and after a slash anything that makes a second request differ from
the first. A request is handled once; status says which token was handled last, and with what answer.

Holds always:
1. A file that cannot be read asks for nothing.
2. Whoever writes holds the lock, and puts a whole file in place of the old one.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
import yaml

from netpolicy.errors import Diagnostic, StalledError, TransientError, has_errors, render
from netpolicy.fields import Fields, single_document
from netpolicy.yaml_reader import read_documents
from reconciler.staging.interfaces import Action, Request

log = structlog.get_logger()

NAME: Final = "rollout.yaml"
PREFIX: Final = "tidegate.dev/"
BY: Final = f"{PREFIX}requested-by"
REASON: Final = f"{PREFIX}reason"
ROLLBACK_TO: Final = f"{PREFIX}rollback-to"
MAX_BYTES: Final = 64 * 1024
MAX_TEXT: Final = 500
HEADER: Final = {"apiVersion": "tidegate.dev/v1alpha1", "kind": "PolicyRollout"}

Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RolloutObject:
    """What the file holds. `handled` and `answers`: by action, the last token and what came of it."""

    annotations: Mapping[str, str] = field(default_factory=dict)
    handled: Mapping[str, str] = field(default_factory=dict)
    answers: Mapping[str, str] = field(default_factory=dict)
    revision: str = ""
    phase: str = ""

    def requests(self) -> tuple[Request, ...]:
        """Everything that is asked for, handled or not, in the order of Action."""
        found = ((action, self.annotations.get(PREFIX + action, "")) for action in Action)
        return tuple(self._request(action, token) for action, token in found if token)

    def _request(self, action: Action, token: str) -> Request:
        return Request(
            action=action,
            revision=token.partition("/")[0],
            token=token,
            by=self.annotations.get(BY, "an annotation"),
            reason=self.annotations.get(REASON, ""),
            to=self.annotations.get(ROLLBACK_TO, "") if action is Action.ROLLBACK else "",
        )


class RolloutFile:
    """The file of one state directory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / NAME
        self._lock = directory / f".{NAME}.lock"
        self._seen: Stamp | None = None

    def changed(self) -> RolloutObject | None:
        """The object if the file is another one than at the last call; None if not, or unreadable."""
        stamp = _stamp(self._path)
        if stamp is None or stamp == self._seen:
            return None
        self._seen = stamp
        try:
            return self.read()
        except (StalledError, TransientError) as error:
            log.error("rollout_file_refused", path=str(self._path), error=str(error))
            return None

    def requests(self) -> tuple[Request, ...]:
        """What is asked for, if the file is another one than at the last call."""
        held = self.changed()
        return held.requests() if held is not None else ()

    def forget(self) -> None:
        """Read the file again at the next call, changed or not."""
        self._seen = None

    def read(self) -> RolloutObject:
        """The object; an absent file is an empty one. Raises StalledError if it says nothing clear."""
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_BYTES + 1)
        except FileNotFoundError:
            return RolloutObject()
        except OSError as error:
            raise TransientError(f"{self._path}: {error.strerror}") from error
        if len(data) > MAX_BYTES:
            raise StalledError(f"{self._path}: larger than {MAX_BYTES} bytes")
        found, faults = _decode(str(self._path), data)
        if has_errors(faults):
            raise StalledError("\n\n".join(map(render, faults)))
        return found

    def ask(self, request: Request) -> None:
        """Write a request's annotations beside what the file holds."""
        asked = {
            PREFIX + request.action: request.token,
            BY: request.by[:MAX_TEXT],
            REASON: request.reason[:MAX_TEXT],
            ROLLBACK_TO: request.to,
        }
        with self._locked():
            held = self.read()
            kept = {key: text for key, text in held.annotations.items() if key not in asked}
            self._write(held, annotations=kept | {key: text for key, text in asked.items() if text})

    def tell(self, *, revision: str, phase: str, answers: Mapping[Request, str]) -> None:
        """Write the status: where the rollout is, and what came of requests."""
        with self._locked():
            held = self.read()
            told = RolloutObject(
                annotations=held.annotations,
                handled={**held.handled, **{one.action: one.token for one in answers}},
                answers={**held.answers, **{one.action: text for one, text in answers.items()}},
                revision=revision,
                phase=phase,
            )
            if told != held:
                self._write(told, annotations=held.annotations)

    def _write(self, held: RolloutObject, *, annotations: Mapping[str, str]) -> None:
        document: dict[str, Any] = {
            **HEADER,
            "metadata": {"name": "policies", "annotations": dict(annotations)},
            "status": {
                "revision": held.revision,
                "phase": held.phase,
                "lastHandled": {str(key): value for key, value in held.handled.items()},
                "answers": {str(key): value for key, value in held.answers.items()},
            },
        }
        temporary = self._path.with_suffix(".new")
        try:
            temporary.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))
            temporary.replace(self._path)
        except OSError as error:
            raise TransientError(f"{self._path}: {error.strerror}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise TransientError(f"{self._lock}: {error.strerror}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def _decode(path: str, data: bytes) -> tuple[RolloutObject, list[Diagnostic]]:
    documents, faults = read_documents(path, data)
    document = single_document(documents, faults, path)
    if document is None:
        return RolloutObject(), faults
    top = Fields(document, faults)
    top.text("apiVersion"), top.text("kind")
    metadata, status = top.record("metadata"), top.record("status")
    metadata.text("name")
    found = RolloutObject(
        annotations=metadata.text_map("annotations"),
        handled=status.text_map("lastHandled"),
        answers=status.text_map("answers"),
        revision=status.text("revision"),
        phase=status.text("phase"),
    )
    for fields in (status, metadata, top):
        fields.finish()
    return found, faults


def _stamp(path: Path) -> Stamp | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_ino, status.st_size, status.st_mtime_ns)
