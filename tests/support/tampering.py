"""A hostile reconciler: it has the server's certificate and what was published, not the signing keys.

`TamperingShelf` serves what `PushServer` would, altered. As a programme it takes the reconciler's
place on its port, with the publications of its state:

    python -m tests.support.tampering --keys DIR --publications FILE --listen HOST:PORT --attack WORD

`save_publications` writes FILE. It prints one line `serving PORT` when agents can dial.
"""

from __future__ import annotations

import asyncio
import json
import sys
from base64 import b64decode, b64encode
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import click

from reconciler.publication import Publication
from reconciler.push import Ack, Hello, PushConfig, PushObserver, PushServer, Shelf
from reconciler.push.outbox import Offer

EAGER = 1_000_000_000_000
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
"""How packed units begin; the signed list of their names does not."""


class Attack(StrEnum):
    """What the hostile reconciler does to the newest publication."""

    UNIT = "unit"
    """One byte of every unit is flipped."""
    METADATA = "metadata"
    """One byte inside the signed part of the targets metadata is changed."""
    REPLAY = "replay"
    """The oldest publication is served, whole and properly signed."""
    MIX = "mix"
    """The newest timestamp and snapshot, with the oldest targets metadata."""
    OVERSIZE = "oversize"
    """Units are followed by a megabyte of more bytes."""
    NONE = "none"
    """The newest publication, as it is."""


class TamperingShelf(Shelf):
    """Announces a publication that agents have not seen, and serves something else."""

    def __init__(self, publications: Iterable[Publication], attack: Attack) -> None:
        super().__init__()
        ordered = sorted(publications, key=lambda publication: publication.sequence)
        self._oldest, self._newest = ordered[0], ordered[-1]
        self.attack = attack

    @property
    def latest(self) -> Offer | None:
        served = self._oldest if self.attack is Attack.REPLAY else self._newest
        return Offer(
            version=served.version + (EAGER if self.attack is Attack.REPLAY else 0),
            sequence=self._newest.sequence + (1 if self.attack is Attack.REPLAY else 0),
            digest=served.digest,
        )

    def metadata(self, name: str) -> bytes | None:
        served = self._oldest if self.attack is Attack.REPLAY else self._newest
        data = served.metadata.get(name)
        if data is None or not name.endswith(".targets.json"):
            return data
        if self.attack is Attack.METADATA:
            return data.replace(b'"expires": "2', b'"expires": "3', 1).replace(
                b'"expires":"2', b'"expires":"3', 1
            )
        if self.attack is Attack.MIX:
            return next(
                old
                for old_name, old in self._oldest.metadata.items()
                if old_name.endswith(".targets.json")
            )
        return data

    def unit(self, digest: str) -> bytes | None:
        served = self._oldest if self.attack is Attack.REPLAY else self._newest
        data = served.units.get(digest)
        if data is None:
            return None
        if self.attack is Attack.UNIT and data.startswith(ZSTD_MAGIC):
            return data[:-1] + bytes([data[-1] ^ 1])
        if self.attack is Attack.OVERSIZE:
            return data + bytes(1024 * 1024)
        return data


def save_publications(path: Path, publications: Iterable[Publication]) -> None:
    """Write publications for the programme."""
    path.write_text(json.dumps([_to_json(publication) for publication in publications]))


def load_publications(path: Path) -> list[Publication]:
    """Read what `save_publications` wrote."""
    return [_from_json(item) for item in json.loads(path.read_text())]


def _to_json(publication: Publication) -> dict[str, object]:
    return {
        "sequence": publication.sequence,
        "revision": publication.revision,
        "digest": publication.digest,
        "metadata": {k: b64encode(v).decode() for k, v in publication.metadata.items()},
        "units": {k: b64encode(v).decode() for k, v in publication.units.items()},
    }


def _from_json(item: dict[str, object]) -> Publication:
    fields = dict(item)
    for part in ("metadata", "units"):
        files = fields[part]
        assert isinstance(files, dict)
        fields[part] = {name: b64decode(data) for name, data in files.items()}
    return Publication(**fields)  # type: ignore[arg-type]


class _Teller(PushObserver):
    """Prints how agents come, go and answer, one JSON line each; what else they say is passed over."""

    def cannot_serve(self, hello: Hello) -> str:
        """Whoever says whatever is served."""
        return ""

    def agent_connected(self, node: str, hello: Hello) -> None:
        _tell("connected", node, sequence=hello.sequence)

    def agent_disconnected(self, node: str) -> None:
        _tell("disconnected", node)

    def agent_acked(self, node: str, ack: Ack) -> None:
        _tell("answered", node, sequence=ack.sequence, reason=ack.reason, error=ack.error)

    def agent_refused(self, node: str, why: str) -> None:
        _tell("refused", node, why=why)


def _tell(event: str, node: str, **fields: object) -> None:
    click.echo(json.dumps({"event": event, "node": node, **fields}))
    sys.stdout.flush()


@click.command()
@click.option("--keys", type=click.Path(path_type=Path), required=True)
@click.option("--publications", type=click.Path(path_type=Path), required=True)
@click.option("--listen", required=True)
@click.option("--attack", type=click.Choice([attack.value for attack in Attack]), required=True)
def main(keys: Path, publications: Path, listen: str, attack: str) -> None:
    """Serve altered policy until killed."""
    shelf = TamperingShelf(load_publications(publications), Attack(attack))
    asyncio.run(_serve(PushConfig.of_keys(keys, listen=listen), shelf))


async def _serve(config: PushConfig, shelf: Shelf) -> None:
    server = PushServer(config, observer=_Teller(), shelf=shelf)
    click.echo(f"serving {await server.start()}")
    sys.stdout.flush()
    try:
        await asyncio.Event().wait()
    finally:
        await server.stop()


if __name__ == "__main__":
    main()
