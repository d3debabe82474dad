"""A real push server as a program of its own: publishes what a file asks for, writes down what it hears.

    python -m tests.support.push_program KEYS LISTEN FOLDER

In:   FOLDER/wanted.json: {"sequence", "stable", "candidate", "percent", "confirm"}; names of `POLICIES`, or
      the text of policies
Out:  FOLDER/heard.jsonl: one ack or report a line
Shell.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha1
from pathlib import Path
from typing import Any, Final

from netpolicy.bundle import PackedUnit, pack_unit
from netpolicy.entities import entity_selectors
from netpolicy.errors import has_errors
from netpolicy.evidence import NodeEvidence
from netpolicy.labels import equals, selector
from netpolicy.node_choice import NodeChoice
from netpolicy.rules import (
    Action,
    Direction,
    HttpRule,
    L7Rules,
    Peers,
    Policy,
    PolicyId,
    PolicyKind,
    Ports,
    Protocol,
    Rule,
    Unit,
)
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.publication import Publication
from reconciler.push import Ack, PushConfig, PushServer
from reconciler.sign import Candidate, Signer, sign_publication
from tests.support.push_fleet import Heard

LOOK_SECONDS: Final = 0.05
COMMIT_OF: Final = {
    name: letter * 40
    for name, letter in {
        "open": "a", "closed": "b", "lethal": "c", "http": "d", "http-more": "e", "http-out": "f",
    }.items()
}  # fmt: skip


def _policy(name: str, app: str, *, no_entity: str) -> Policy:
    deny = Rule(
        direction=Direction.INGRESS,
        action=Action.DENY,
        origin="spec.ingressDeny[0]",
        peers=Peers(selectors=entity_selectors(no_entity, cluster="")),
    )
    return Policy(
        id=PolicyId(kind=PolicyKind.CCNP, namespace="", name=name),
        subject=selector([equals("app", app)]),
        rules=(deny,),
    )


def _web(direction: Direction, app: str, *paths: str) -> Policy:
    """Isolates a pod in a direction; GET of these paths passes, of whoever and to whomever."""
    allow = Rule(
        direction=direction,
        action=Action.ALLOW,
        origin=f"spec.{direction.word}[0]",
        ports=(Ports(protocol=Protocol.TCP, first=80, last=80),),
        l7=L7Rules(http=tuple(HttpRule(method="GET", path=path) for path in paths)),
    )
    return Policy(
        id=PolicyId(kind=PolicyKind.CCNP, namespace="", name=f"web-{direction.word}"),
        subject=selector([equals("app", app)]),
        default_deny=(direction,),
        rules=(allow,),
    )


_IN: Final = Direction.INGRESS
POLICIES: Final = {
    "open": (),
    "closed": (_policy("cut-database", "products-db", no_entity="all"),),
    "lethal": (_policy("cut-reconciler", "reconciler", no_entity="host"),),
    "http": (_web(_IN, "api-gateway", "/products.*"),),
    "http-more": (_web(_IN, "api-gateway", "/products.*", "/metrics"),),
    "http-out": (
        _web(_IN, "api-gateway", "/products.*", "/metrics"),
        _web(Direction.EGRESS, "frontend", "/products.*"),
    ),
}
"""`closed` would cut products-db off; `lethal` cuts the node off from its reconciler; the others look into
requests to api-gateway, the last one into those of frontend as well."""


class Noting(Heard):
    """Writes down what agents say."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def _note(self, kind: str, said: dict[str, Any]) -> None:
        with self._path.open("a") as file:
            file.write(json.dumps({"kind": kind, **said}, default=str) + "\n")

    def agent_acked(self, node: str, ack: Ack) -> None:
        self._note("ack", asdict(ack))

    def evidence(self, node: str, evidence: NodeEvidence) -> None:
        self._note("evidence", asdict(evidence))


def _units(name: str) -> dict[str, PackedUnit]:
    if name in POLICIES:
        return {"": pack_unit(Unit(namespace="", policies=POLICIES[name]))}
    reading = read_policies(
        [SourceFile(path="policies/live.yaml", blob_id=name, data=name.encode())]
    )
    assert reading.objects, reading.diagnostics
    assert not has_errors(reading.diagnostics), reading.diagnostics
    return {unit.namespace: pack_unit(unit) for unit in compile_policies(reading.objects)}


def _commit(name: str) -> str:
    return COMMIT_OF.get(name) or sha1(name.encode(), usedforsecurity=False).hexdigest()


def _publication(keys: Path, previous: Publication | None, wanted: dict[str, Any]) -> Publication:
    name = wanted["candidate"]
    choice = NodeChoice(percent=float(wanted["percent"]), salt="s")
    return sign_publication(
        previous,
        units=_units(wanted["stable"]),
        revision=_commit(wanted["stable"]),
        sequence=wanted["sequence"],
        signer=Signer.load(keys),
        now=datetime.now(UTC),
        candidate=name and Candidate(revision=_commit(name), units=_units(name), nodes=choice),
        confirm_seconds=wanted["confirm"],
    )


async def serve(keys: Path, listen: str, folder: Path) -> None:
    """Serve until killed."""
    config = PushConfig.of_keys(keys, listen=listen)
    server = PushServer(config, observer=Noting(folder / "heard.jsonl"))
    await server.start()
    last: Publication | None = None
    while True:
        wanted = json.loads((folder / "wanted.json").read_text())
        if last is None or wanted["sequence"] > last.sequence:
            last = _publication(keys, last, wanted)
            server.publish(last)
        await asyncio.sleep(LOOK_SECONDS)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])))
