"""The core of encryption between nodes: whom it believes, which devices it wants, and how it gets there."""

from __future__ import annotations

import base64
import time
from collections.abc import Iterable
from dataclasses import replace

import pytest

from netpolicy.encryption import NodeKey
from netpolicy.errors import StalledError
from netpolicy.inventory import AddressEntry, service_entries
from netpolicy.labels import Labels
from netpolicy.node_encryption import EncryptionMode
from netpolicy.services import ClusterService
from nodeagent.plan.places import Place
from nodeagent.wireguard.by_destination import by_destination
from nodeagent.wireguard.difference import (
    FIREWALL_MARK,
    Configure,
    Move,
    ObservedDevice,
    ObservedPeer,
    RemovePeers,
    SetPeers,
    Step,
    Wanted,
    steps,
)
from nodeagent.wireguard.handshakes import Handshakes
from nodeagent.wireguard.peers import Agreed, Known, Peer, PeerKey, agree, sent_to
from nodeagent.wireguard.rotation import (
    GRACE_SECONDS,
    OVERLAP_SECONDS,
    is_due,
    rotation_step,
)
from nodeagent.wireguard.tunnels import (
    OwnKey,
    TunnelDevice,
    TunnelPeer,
    device_name,
    pod_places,
    senders,
    tunnel_devices,
)
from nodeagent.wireguard.wg import peers_text, read_dump

PORT = 51871
NOW = 1_000_000.0


def key(number: int) -> str:
    return base64.b64encode(number.to_bytes(32, "big")).decode()


def node_key(node: str, number: int, *, slot: int = 0, made_at: float = 1.0) -> NodeKey:
    return NodeKey(
        node=node,
        public_key=key(number),
        addresses=(f"192.0.2.{number % 200 + 2}",),
        port=PORT,
        slot=slot,
        made_at=made_at,
    )


def pod(address: str, node: str) -> AddressEntry:
    return AddressEntry(address=address, labels=Labels(), namespace="shop", name="p", node=node)


def known(keys: Iterable[NodeKey] = (), entries: Iterable[AddressEntry] = ()) -> Known:
    return Known(
        node="here",
        node_keys=tuple(keys),
        entries=tuple(entries),
        own_keys=frozenset({key(9000)}),
        own_addresses=frozenset({"192.0.2.1", "10.0.0.1"}),
    )


OWN = (OwnKey(slot=0, public_key=key(9000), made_at=1.0),)
TWO_OWN = (OwnKey(slot=1, public_key=key(9001), made_at=2.0), *OWN)


def test_a_node_that_only_prepares_has_tunnels_to_all_and_sends_through_those_to_nodes_that_encrypt() -> (
    None
):
    watching = replace(node_key("b", 2), in_force=False)
    agreed = agree(
        known([node_key("a", 1), watching], [pod("10.0.1.1", "a"), pod("10.0.2.1", "b")])
    )
    (device,) = tunnel_devices(agreed, OWN, port=PORT)
    assert {peer.public_key for peer in device.peers} == {key(1), key(2)}
    assert [p.node for p in sent_to(agreed, EncryptionMode.PREPARED).peers] == ["a"]
    for mode in (EncryptionMode.ON, EncryptionMode.STRICT):
        assert sent_to(agreed, mode) == agreed


def test_a_peer_may_send_from_its_nodes_pods_and_from_no_other() -> None:
    entries = [pod("10.0.1.1", "a"), pod("fd00::1", "a"), pod("10.0.2.1", "b")]
    agreed = agree(known([node_key("a", 1)], entries))
    (device,) = tunnel_devices(agreed, OWN, port=PORT)
    assert (device.name, device.port) == ("tidegate_wg0", PORT)
    assert device.peers == (
        TunnelPeer(
            public_key=key(1),
            endpoint=f"192.0.2.3:{PORT}",
            allowed=("10.0.1.1/32", "fd00::1/128"),
        ),
    )


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (replace(node_key("b", 2), public_key=key(1)), "same public key"),
        (replace(node_key("b", 2), public_key=key(9000)), "of this node"),
        (replace(node_key("b", 2), public_key="junk"), "is none"),
        (replace(node_key("b", 2), addresses=("192.0.2.1",)), "this node's"),
        (replace(node_key("b", 2), addresses=()), "no address"),
    ],
)
def test_a_node_that_makes_no_sense_keeps_what_it_had_and_is_named(bad: NodeKey, word: str) -> None:
    good = [node_key("a", 1), node_key("b", 2)]
    before = agree(known(good))
    after = agree(known([good[0], bad]), before)
    assert any(line.startswith("b: ") and word in line for line in after.refused)
    assert after.peers == before.peers
    assert all(peer.node != "b" for peer in agree(known([good[0], bad])).peers)


def test_an_address_that_two_nodes_claim_stays_with_the_one_that_had_it() -> None:
    keys = [node_key("a", 1), node_key("b", 2)]
    first = agree(known(keys, [pod("10.0.1.1", "a")]))
    both = [pod("10.0.1.1", "a"), pod("10.0.1.1", "b")]
    after = agree(known(keys, both), first)
    assert [peer.pods for peer in after.peers] == [("10.0.1.1",), ()]
    assert after.refused == ("10.0.1.1: claimed by a, b",)
    assert [peer.pods for peer in agree(known(keys, both)).peers] == [(), ()]


def test_no_peer_is_given_an_address_of_this_node() -> None:
    agreed = agree(known([node_key("a", 1)], [pod("10.0.0.1", "a")]))
    assert agreed.peers[0].pods == ()
    assert agreed.refused == ("10.0.0.1: this node's, and claimed by a",)


@pytest.mark.parametrize("own", [OWN, TWO_OWN])
@pytest.mark.parametrize("theirs", [OWN, TWO_OWN])
def test_both_ends_of_a_pair_name_the_same_ports(
    own: tuple[OwnKey, ...], theirs: tuple[OwnKey, ...]
) -> None:
    def end(mine: tuple[OwnKey, ...], other: tuple[OwnKey, ...]) -> set[tuple[int, str]]:
        keys = tuple(PeerKey(slot=k.slot, public_key=k.public_key) for k in other)
        agreed = Agreed(peers=(Peer(node="x", keys=keys, endpoint="192.0.2.9", port=PORT),))
        devices = tunnel_devices(agreed, mine, port=PORT)
        return {(d.port, p.endpoint) for d in devices for p in d.peers}

    ports = {(port, int(endpoint.split(":")[1])) for port, endpoint in end(own, theirs)}
    assert {(b, a) for a, b in ports} == {
        (port, int(endpoint.split(":")[1])) for port, endpoint in end(theirs, own)
    }


def test_a_packet_is_sent_under_the_newest_pair_that_shook_hands() -> None:
    agreed = agree(known([node_key("a", 1)], []))
    old, new = (device_name(0, 0), key(1)), (device_name(1, 0), key(1))
    assert senders(agreed, TWO_OWN, {old: NOW - 5}, now=NOW) == {"a": old[0]}
    assert senders(agreed, TWO_OWN, {old: NOW - 5, new: NOW - 1}, now=NOW) == {"a": new[0]}
    assert senders(agreed, TWO_OWN, {old: NOW - 999}, now=NOW) == {"a": new[0]}


def test_a_key_is_followed_by_another_when_it_is_as_old_as_the_settings_say() -> None:
    age, (one,) = 3600, OWN
    assert [is_due(OWN, age, now=one.made_at + past) for past in (-9, age - 1, age)] == [
        False,
        False,
        True,
    ]
    assert not is_due(OWN, 0, now=one.made_at + 10 * age)
    assert not is_due(TWO_OWN, age, now=one.made_at + 10 * age)


def test_an_old_key_goes_after_the_last_peer_changed_over_or_when_it_takes_too_long() -> None:
    agreed = agree(known([node_key("a", 1), node_key("b", 2)], []))
    one = {(device_name(1, 0), key(1)): 3.0}
    waiting = rotation_step(None, TWO_OWN, agreed, one, now=4.0)
    assert waiting is not None
    assert not waiting.may_retire(4.0 + GRACE_SECONDS)
    assert waiting.may_retire(2.0 + OVERLAP_SECONDS)
    both = one | {(device_name(1, 0), key(2)): 5.0}
    settled = rotation_step(waiting, TWO_OWN, agreed, both, now=6.0)
    assert settled is not None
    assert not settled.may_retire(6.0)
    assert settled.may_retire(6.0 + GRACE_SECONDS)
    assert rotation_step(settled, OWN, agreed, both, now=9.0) is None


def test_strict_mode_knows_pods_that_nobody_can_reach_and_hosts_that_are_none() -> None:
    entries = [
        pod("10.0.0.1", "here"),
        pod("10.0.1.1", "a"),
        pod("10.0.2.1", "keyless"),
        AddressEntry(address="10.0.9.9", labels=Labels(), name="a", node="a"),
        *service_entries(
            ClusterService(namespace="shop", name="web", addresses=("10.96.0.1", "10.96.0.2"))
        ),
    ]
    agreed = agree(known([node_key("a", 1)], entries))

    def places(*, strict: bool, node_traffic: bool = False) -> dict[str, Place]:
        return pod_places(
            agreed,
            entries,
            node="here",
            pod_cidrs=("10.0.0.0/8",),
            host_addresses=("10.0.0.254", "10.96.0.2"),  # as kube-proxy may lay them
            strict=strict,
            node_traffic=node_traffic,
        )

    loose = {
        "10.0.0.1/32": Place.HERE,
        "10.0.1.1/32": Place.TUNNEL,
        "10.0.9.9/32": Place.NO_POD,
        "10.0.0.254/32": Place.NO_POD,
        "10.96.0.1/32": Place.SERVICE,
        "10.96.0.2/32": Place.SERVICE,
    }
    assert places(strict=False) == loose
    unreachable = {"10.0.0.0/8": Place.UNREACHABLE, "10.0.2.1/32": Place.UNREACHABLE}
    assert places(strict=True) == loose | unreachable
    behind_a_tunnel = {"10.0.9.9/32": Place.NODE}
    assert places(strict=False, node_traffic=True) == loose | behind_a_tunnel


def observed(device: TunnelDevice) -> ObservedDevice:
    return ObservedDevice(
        name=device.name,
        public_key=key(9000),
        port=device.port,
        mark=FIREWALL_MARK,
        peers=tuple(
            ObservedPeer(
                public_key=peer.public_key,
                endpoint=peer.endpoint,
                allowed=frozenset(peer.allowed),
                keepalive_seconds=peer.keepalive_seconds,
            )
            for peer in device.peers
        ),
    )


def fleet(nodes: int, pods: int) -> TunnelDevice:
    keys = [node_key(f"n{n:04}", n + 1) for n in range(nodes)]
    entries = [
        pod(f"10.{n // 250 + 1}.{n % 250}.{p}", f"n{n:04}")
        for n in range(nodes)
        for p in range(pods)
    ]
    (device,) = tunnel_devices(agree(known(keys, entries)), OWN, port=PORT)
    return device


def to(
    device: TunnelDevice, held: ObservedDevice, *, before: TunnelDevice | None = None
) -> tuple[Step, ...]:
    """The steps to a device."""
    wanted = Wanted(device=device, public_key=key(9000), before=before)
    return steps(held, wanted, now=NOW)


def test_only_peers_that_differ_are_touched() -> None:
    device = fleet(5, 2)
    held = observed(device)
    assert to(device, held) == ()
    changed = replace(device.peers[1], allowed=("10.9.9.9/32",))
    wanted = replace(device, peers=(device.peers[0], changed, *device.peers[3:]))
    assert to(wanted, held) == (
        RemovePeers(name=device.name, public_keys=(device.peers[2].public_key,)),
        SetPeers(name=device.name, peers=(changed,)),
    )


def test_another_key_sets_the_device_anew_and_another_port_does_not() -> None:
    device = fleet(2, 1)
    held = observed(device)
    for other in (replace(held, public_key=key(7)), replace(held, mark=0)):
        assert to(device, other) == (Configure(device=device),)
    moved = Move(name=device.name, port=PORT, peers=device.peers)
    assert to(device, replace(held, port=1)) == (moved,)


def test_a_node_on_another_port_is_sent_to_there() -> None:
    elsewhere = replace(node_key("a", 1, slot=1), port=52000)
    (device,) = tunnel_devices(agree(known([elsewhere])), OWN, port=PORT)
    assert (device.port, device.peers[0].endpoint) == (PORT + 1, "192.0.2.3:52002")
    two = [elsewhere, replace(node_key("a", 2), port=PORT)]
    assert agree(known(two)).refused == ("a: its keys name different ports",)


def test_where_a_living_peer_roamed_to_is_left_to_it() -> None:
    device = fleet(1, 1)
    held = observed(device)
    moved = replace(held.peers[0], endpoint="198.51.100.7:1", handshake_at=NOW - 10)
    assert to(device, replace(held, peers=(moved,))) == ()
    assert to(device, replace(held, peers=(moved,)), before=device) == ()
    silent = replace(moved, handshake_at=NOW - 200)
    assert to(device, replace(held, peers=(silent,)))
    # It announces another place: it is there now, though its session lives.
    elsewhere = replace(device, peers=(replace(device.peers[0], endpoint="192.0.2.3:9"),))
    assert to(elsewhere, replace(held, peers=(moved,)), before=device)


def test_the_difference_of_a_thousand_nodes_takes_no_tenth_of_a_second() -> None:
    device = fleet(1000, 30)
    held = observed(device)
    wanted = replace(device, peers=device.peers[100:])
    least = min(_timed(held, wanted) for _ in range(3))
    assert least < 0.1


def _timed(held: ObservedDevice, wanted: TunnelDevice) -> float:
    started = time.perf_counter()
    (step,) = to(wanted, held)
    assert isinstance(step, RemovePeers)
    return time.perf_counter() - started


def test_a_dump_is_read_without_its_private_key() -> None:
    device = fleet(1, 1)
    peer = f"{key(1)}\t(none)\t192.0.2.3:{PORT}\t10.1.0.0/32\t0\t1\t2\t30\n"
    text = f"{key(1)}\t{key(9000)}\t{PORT}\t0xf00\n{peer}"
    found = read_dump(device.name, text)
    assert found.peers[0] == replace(observed(device).peers[0], received_bytes=1, sent_bytes=2)
    for bad in ("", "x\ty\n", text.replace("\t30", "")):
        with pytest.raises(StalledError):
            read_dump(device.name, bad)


def test_a_peer_is_written_as_wg_reads_it() -> None:
    (peer,) = fleet(1, 2).peers
    assert peers_text([peer]).splitlines() == [
        "[Peer]",
        f"PublicKey = {key(1)}",
        f"Endpoint = 192.0.2.3:{PORT}",
        "AllowedIPs = 10.1.0.0/32,10.1.0.1/32",
        "PersistentKeepalive = 30",
    ]


def test_a_peer_is_silent_after_three_minutes_without_a_handshake_and_not_before() -> None:
    agreed = agree(known([node_key("a", 1)], []))
    seen = Handshakes()
    seen.know(agreed, now=NOW)
    assert seen.unmet(agreed, OWN, now=NOW) == ("a",)
    assert seen.awaits(agreed, OWN, now=NOW + 179)
    assert not seen.awaits(agreed, OWN, now=NOW + 180)
    assert seen.silent(agreed, OWN, now=NOW + 179) == ()
    assert seen.silent(agreed, OWN, now=NOW + 180) == ("a",)
    peer = ObservedPeer(public_key=key(1), handshake_at=NOW + 100)
    seen.see(
        ObservedDevice(name=device_name(0, 0), public_key=key(9), port=1, mark=0, peers=(peer,))
    )
    assert seen.unmet(agreed, OWN, now=NOW + 270) == ()
    assert seen.silent(agreed, OWN, now=NOW + 270) == ()
    assert seen.silent(agreed, OWN, now=NOW + 280) == ("a",)


def test_silence_is_told_once_when_it_begins_and_once_when_it_ends() -> None:
    agreed = agree(known([node_key("a", 1)], []))
    seen = Handshakes()
    seen.know(agreed, now=NOW)

    def turns(after: float) -> tuple[tuple[str, ...], tuple[str, ...]]:
        turned = seen.turns(agreed, OWN, now=NOW + after)
        return turned.silent, turned.heard

    assert [turns(after) for after in (10, 200, 210)] == [((), ()), (("a",), ()), ((), ())]
    peer = ObservedPeer(public_key=key(1), handshake_at=NOW + 215)
    seen.see(
        ObservedDevice(name=device_name(0, 0), public_key=key(9), port=1, mark=0, peers=(peer,))
    )
    assert [turns(after) for after in (220, 230)] == [((), ("a",)), ((), ())]
    assert turns(500) == (("a",), ())
    # A peer that is gone is not heard again.
    assert seen.turns(Agreed(), OWN, now=NOW + 510).heard == ()


def test_where_nothing_is_marked_few_routes_say_of_each_address_what_its_place_says() -> None:
    places = {
        "10.0.0.0/8": Place.UNREACHABLE,
        "10.0.0.1/32": Place.HERE,
        "10.0.0.254/32": Place.NO_POD,
        "10.0.0.96/32": Place.SERVICE,
        "192.0.2.1/32": Place.NO_POD,
        "10.0.2.1/32": Place.UNREACHABLE,
    }
    tunnels = {f"10.1.{n // 250}.{n % 250}/32": 7 for n in range(1000)}
    rotating = {"10.2.0.1/32": 8}
    outside = {"172.16.0.1/32": 7}
    assert by_destination(tunnels | rotating | outside, places) == {
        "10.0.0.0/8": 7,
        "10.2.0.1/32": 8,
        "172.16.0.1/32": 7,
        "10.0.0.1/32": None,
        "10.0.0.254/32": None,
        "10.0.0.96/32": None,
    }
    assert by_destination({}, places) == {}
    assert by_destination(outside, {"10.0.0.1/32": Place.HERE}) == outside
