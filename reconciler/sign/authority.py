"""Put another certificate authority in place of the one that signs, while everybody stays connected.

In:   a key directory, the time
Out:  the same directory, a step further
Shell over these files:

    next-authority/ca.pem, ca.key    the successor, before it signs; not among what servers are given
    tls/ca.pem                       who is trusted; the first signs
    nodes/<name>/ca.pem              the same, for a node that people lay out

    add:   successor made, and trusted beside today's      → give `ca.pem` to every agent and replica
    use:   successor signs; all certificates made anew     → give `tls/` to the replicas, `nodes/` to nodes
    drop:  predecessor no longer trusted                   → give `ca.pem` to every agent and replica

Holds always:
1. No authority signs before it was trusted for as long as it takes everybody to hear of that.
2. Nobody loses trust in an authority whose certificates are still in use; `at_once` is for a stolen key.
3. A step that was cut short is done by doing it again; one out of turn is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from netpolicy import durable_files
from netpolicy.durable_files import PUBLIC_MODE
from netpolicy.errors import StalledError
from netpolicy.issuers import is_issued_by
from reconciler.sign.certificates import (
    CLOCK_SKEW,
    load_authority,
    load_certificate,
    new_authority,
    renew_node,
    renew_server,
    trusted_authorities,
)

NEXT: Final = "next-authority"
HEARD_OF: Final = timedelta(minutes=10)
"""Until kubelets have brought a changed ConfigMap to every pod, several times over."""
AGENTS_LIFE: Final = timedelta(hours=25)
"""What a replica signed before it had the successor's key has ended by then: agents' own last 24 hours."""
NOT_YET: Final = "NotYet"


def add_authority(directory: Path, *, now: datetime) -> None:
    """Make the successor, and have it trusted."""
    place = directory / NEXT
    signs = load_authority(directory).certificate
    if not (place / "ca.pem").exists():
        if len(trusted_authorities(directory / "tls" / "ca.pem")) > 1:
            raise StalledError("the predecessor is still trusted: drop it first", reason=NOT_YET)
        durable_files.make_folder(place)
        made = new_authority(now)
        durable_files.replace(place / "ca.key", made.key_pem)
        durable_files.replace(place / "ca.pem", made.pem, mode=PUBLIC_MODE)
    _trust(directory, [signs, load_certificate(place / "ca.pem")])


def use_authority(directory: Path, *, now: datetime, at_once: bool = False) -> None:
    """Sign by the successor from now on, and certify anew whom we certified."""
    place = directory / NEXT
    if not (place / "ca.pem").exists():
        raise StalledError("there is no successor: add one first", reason=NOT_YET)
    successor = load_certificate(place / "ca.pem")
    trusted = trusted_authorities(directory / "tls" / "ca.pem")
    if successor not in trusted:
        raise StalledError("the successor is not trusted yet: add it first", reason=NOT_YET)
    _wait_for(_made(successor) + HEARD_OF, now, at_once, "every agent trusts the successor")
    durable_files.replace(directory / "tls" / "ca.key", (place / "ca.key").read_bytes())
    _trust(directory, [successor, *(one for one in trusted if one != successor)])
    renew_server(directory, now=now)
    for node in _nodes(directory):
        renew_node(directory, node, now=now)
    (place / "ca.pem").unlink()  # first: with it there is a successor
    (place / "ca.key").unlink()
    place.rmdir()


def drop_authority(directory: Path, *, now: datetime, at_once: bool = False) -> None:
    """Trust nobody any more but who signs."""
    signs = load_authority(directory).certificate
    if (directory / NEXT / "ca.pem").exists():
        raise StalledError("the successor does not sign yet: use it first", reason=NOT_YET)
    places = {
        "server": directory / "tls" / "server.pem",
        **{node: directory / "nodes" / node / "node.pem" for node in _nodes(directory)},
    }
    for name, path in places.items():
        if not is_issued_by(load_certificate(path), [signs]):
            raise StalledError(f"the certificate of {name} is the predecessor's", reason=NOT_YET)
    began = _made(load_certificate(places["server"]))
    _wait_for(began + AGENTS_LIFE, now, at_once, "no agent has one of the predecessor's")
    _trust(directory, [signs])


def _wait_for(moment: datetime, now: datetime, at_once: bool, what: str) -> None:
    if now < moment and not at_once:
        raise StalledError(
            f"wait until {moment:%Y-%m-%d %H:%M} UTC: then {what}, if it was laid out;"
            " --now does not wait, and cuts off whom that finds unprepared",
            reason=NOT_YET,
        )


def _made(certificate: x509.Certificate) -> datetime:
    return certificate.not_valid_before_utc + CLOCK_SKEW


def _nodes(directory: Path) -> list[str]:
    return sorted(path.parent.name for path in (directory / "nodes").glob("*/node.pem"))


def _trust(directory: Path, authorities: Sequence[x509.Certificate]) -> None:
    """In this order, here and in what nodes are given."""
    data = b"".join(one.public_bytes(Encoding.PEM) for one in authorities)
    for place in (
        *(directory / "nodes" / node for node in _nodes(directory)),
        directory / "tls",
    ):
        durable_files.replace(place / "ca.pem", data, mode=PUBLIC_MODE)
