"""Follow a shadow on this node: what is counted of it, under whichever generation it is loaded.

In:   the datapath's counts, and those of requests; which bundle the shadow is made of, and under which names
Out:  NodeEvidence; a file that keeps it through restarts
Shell over the datapath's counters and one file.

Holds always:
1. Counts are folded in before the kernel forgets them, and belong to one bundle only.
2. A file that is damaged or of another bundle counts for nothing; one that cannot be written is
   logged, and the counts of this run still stand.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from netpolicy.durable_files import DiskFiles
from netpolicy.evidence import NodeEvidence, Role, Shadow
from netpolicy.wire.evidence import MAX_EVIDENCE_BYTES, decode_evidence, encode_evidence
from netpolicy.wire.tidegate.v1 import push_pb2
from nodeagent.datapath import Datapath
from nodeagent.rollout.request_tally import RequestTally
from nodeagent.rollout.tally import Names, Tally, beyond, report, tally, tally_of, total

log = structlog.get_logger()

EVIDENCE_NOT_SAVED: Final = "evidence_not_saved"
EVIDENCE_FILES: Final = {
    Shadow.CANDIDATE: "candidate-evidence",
    Shadow.PREVIEW: "preview-evidence",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A shadow as it stands here. `bundle_digest`: of the candidate or, for a preview, of what is enforced.

    `names` are those of its counts; None: the kernel counts nothing.
    """

    bundle_digest: str
    generation_digest: str
    role: Role
    names: Names | None = None
    error: str = ""


class ShadowWatch:
    """The tally of one shadow. One caller at a time."""

    def __init__(
        self,
        datapath: Datapath,
        shadow: Shadow,
        *,
        node: str,
        state_dir: Path,
        requests: RequestTally | None = None,
    ) -> None:
        self._datapath = datapath
        self._shadow = shadow
        self._requests = requests or RequestTally()
        self._node = node
        self._path = state_dir / EVIDENCE_FILES[shadow]
        self._followed: Followed | None = None
        self._earlier = Tally()
        self._slot: int | None = None

    def follow(self, followed: Followed | None) -> None:
        """From now on this is the shadow, and these are its names."""
        before = self._followed
        if followed is None:
            self._earlier = Tally()
        elif before is None or before.bundle_digest != followed.bundle_digest:
            self._earlier = self._load(followed.bundle_digest)
        if _subject(before) != _subject(followed):
            self._requests.take()
        if _subject(before) != _subject(followed) or _role(before) is not _role(followed):
            self._requests.restart_answers()
        self._followed = followed
        self._slot = self._datapath.control().slot_of(self._shadow)

    def settle(self) -> None:
        """Fold in what the kernel counted of what is no shadow any more: all there will be."""
        followed = self._followed
        if followed is None or followed.names is None:
            return
        counted = self._counted(followed.names)
        requested = _news(self._earlier, self._requests.take(), followed.names)
        self._earlier = total(self._earlier, total(counted, requested))
        self._followed = Followed(
            bundle_digest=followed.bundle_digest,
            generation_digest=followed.generation_digest,
            role=followed.role,
            error=followed.error,
        )
        self._save()

    def evidence(self) -> NodeEvidence | None:
        """What this node saw of the shadow so far; None if there is none."""
        followed = self._followed
        if followed is None:
            return None
        counted = self._earlier
        if followed.names is not None:
            counted = total(counted, self._counted(followed.names))
        requested = _news(self._earlier, self._requests.standing(), followed.names)
        counted = total(counted, requested)
        return replace(self._report(followed, counted), answers=self._requests.answers())

    def _counted(self, names: Names) -> Tally:
        """By the slot that it had when it was followed: maybe it is no shadow any more."""
        counted = tally(
            self._datapath.read_differences(self._shadow, slot=self._slot),
            self._datapath.read_coverage(self._shadow, slot=self._slot),
            lost=self._datapath.lost_differences(self._shadow, slot=self._slot),
            names=names,
        )
        return _news(self._earlier, counted, names)

    def _report(self, followed: Followed, counted: Tally) -> NodeEvidence:
        return report(
            counted,
            node=self._node,
            candidate_digest=followed.bundle_digest,
            generation_digest=followed.generation_digest,
            role=followed.role,
            error=followed.error,
        )

    def _save(self) -> None:
        if self._followed is None:
            return
        message = encode_evidence(self._report(self._followed, self._earlier))
        files, beside = DiskFiles(), self._path.with_name(f"{self._path.name}.new")
        try:
            files.write(beside, message.SerializeToString(deterministic=True))
            files.rename(beside, self._path)
        except OSError as error:
            log.error(EVIDENCE_NOT_SAVED, path=str(self._path), error=error.strerror)

    def _load(self, bundle_digest: str) -> Tally:
        try:
            data = DiskFiles().read(self._path, max_bytes=2 * MAX_EVIDENCE_BYTES)
            saved = decode_evidence(self._node, push_pb2.Evidence.FromString(data))
        except (OSError, ValueError, DecodeError):
            return Tally()
        return tally_of(saved) if saved.candidate_digest == bundle_digest else Tally()


def _news(earlier: Tally, counted: Tally, names: Names | None) -> Tally:
    """What counts of a tally: where the candidate is enforced, what was not known of it before."""
    return beyond(earlier, counted) if names is not None and names.enforced else counted


def _subject(followed: Followed | None) -> str:
    return followed.bundle_digest if followed else ""


def _role(followed: Followed | None) -> Role | None:
    return followed.role if followed else None
