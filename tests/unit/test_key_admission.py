"""Whose public keys are given to the other nodes."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from netpolicy.encryption import NodeKey
from netpolicy.inventory import Change, Inventory, Node, Pod
from netpolicy.node_encryption import EncryptionMode, NodeEncryption
from reconciler.encryption.admission import (
    NOT_LISTED,
    Admitted,
    Claim,
    asked_for,
    heard,
)
from reconciler.encryption.admission import admit as admit_to
from reconciler.encryption.health import awaiting, unwell
from reconciler.encryption.places import Places
from tests.support.node_keys import key_of


def said(node: str, *keys: NodeKey, mode: EncryptionMode = EncryptionMode.ON) -> NodeEncryption:
    return NodeEncryption(node=node, mode=mode, keys=keys)


INVENTORY = Inventory(
    nodes=(
        Node(name="a", addresses=("192.0.2.1", "2001:db8::0001")),
        Node(name="b", addresses=("192.0.2.2",)),
        Node(name="bare"),
    ),
    pods=(
        Pod(namespace="shop", name="web", node="b", addresses=("10.0.0.7",)),
        Pod(namespace="shop", name="agent", node="b", addresses=("192.0.2.2",)),
    ),
)


def admit(claims: Iterable[Claim], inventory: Inventory) -> Admitted:
    return admit_to(claims, Places(inventory))


def one(node: str, *keys: NodeKey) -> Admitted:
    return admit([heard(None, said(node, *keys), now=5.0)], INVENTORY)


def test_only_addresses_that_keys_hang_on_make_a_change_of_pods_one_of_keys() -> None:
    places = Places(INVENTORY)
    claims = [heard(None, said("a", key_of("a", 1)), now=5.0)]
    asked = asked_for(claims, places)
    harmless = Pod(namespace="shop", name="new", node="b", addresses=("10.0.0.8",))
    assert asked.isdisjoint(places.move(Change(come=(harmless,))))
    thief = Pod(namespace="shop", name="thief", node="b", addresses=("2001:DB8::1",))
    assert not asked.isdisjoint(places.move(Change(come=(thief,))))
    assert admit_to(claims, places).refused == {"a": "its address 2001:db8::1 is that of b"}
    assert not asked.isdisjoint(places.move(Change(gone=(thief,))))
    assert admit_to(claims, places).refused == {}


def test_a_key_goes_out_with_the_addresses_of_the_inventory() -> None:
    admitted = one("a", key_of("a", 1))
    assert admitted.keys["a"][0].addresses == ("192.0.2.1", "2001:db8::1")
    assert admitted.refused == {}


def test_a_node_may_choose_among_its_addresses_only() -> None:
    assert one("a", key_of("a", 1, "2001:db8::1")).keys["a"][0].addresses == ("2001:db8::1",)
    for address, why in (
        ("192.0.2.2", "its address 192.0.2.2 is that of b"),
        ("10.0.0.7", "its address 10.0.0.7 is that of b"),
        ("198.51.100.9", "its address 198.51.100.9 is not one that the inventory gives to it"),
    ):
        refused = one("a", key_of("a", 1, address))
        assert (refused.keys, refused.refused) == ({}, {"a": why})


def test_a_pod_of_the_node_itself_may_share_its_address() -> None:
    assert one("b", key_of("b", 1)).refused == {}


def test_a_node_that_the_inventory_gives_no_address_needs_one_of_its_own() -> None:
    assert "names an address" in one("bare", key_of("bare", 1)).refused["bare"]
    assert one("bare", key_of("bare", 1, "198.51.100.9")).refused == {}
    assert "that of b" in one("bare", key_of("bare", 1, "10.0.0.7")).refused["bare"]


def test_a_node_that_is_not_listed_gets_no_peers() -> None:
    assert one("stranger", key_of("stranger", 1)).refused == {"stranger": NOT_LISTED}


def test_a_key_stays_with_the_node_that_announced_it_first() -> None:
    victim = heard(None, said("a", key_of("a", 1)), now=1.0)
    thief = heard(None, said("b", key_of("b", 1)), now=2.0)
    # A rotation renews the victim's word, not the time at which its old key was heard of.
    rotated = said("a", key_of("a", 2, made_at=9.0), key_of("a", 1))
    admitted = admit([thief, heard(victim, rotated, now=3.0)], INVENTORY)
    assert [key.public_key for key in admitted.keys["a"]] == [k.public_key for k in rotated.keys]
    assert admitted.refused == {"b": "its public key is that of a"}


def test_a_node_whose_new_word_is_refused_keeps_what_was_admitted() -> None:
    good = (key_of("b", 5, "192.0.2.2"),)
    before = Claim(said=said("b", *good), heard_at={good[0].public_key: 1.0}, good=good)
    junk = said("b", key_of("b", 6, "192.0.2.1"), mode=EncryptionMode.PREPARED)
    admitted = admit([heard(before, junk, now=2.0)], INVENTORY)
    assert admitted.refused == {"b": "its address 192.0.2.1 is that of a"}
    assert admitted.keys == {"b": (replace(good[0], in_force=False),)}


def test_what_was_admitted_is_lost_with_the_node_or_its_address() -> None:
    good = (key_of("b", 5, "192.0.2.2"),)
    claim = Claim(said=said("b", *good), heard_at={good[0].public_key: 1.0}, good=good)
    moved = Inventory(nodes=(Node(name="b", addresses=("192.0.2.9",)),))
    assert admit([claim], moved).keys == {}
    assert admit([claim], Inventory(nodes=(Node(name="a"),))).refused == {"b": NOT_LISTED}


def test_a_node_that_stopped_encrypting_has_no_keys_and_is_not_refused() -> None:
    admitted = admit(
        [heard(None, said("a", mode=EncryptionMode.OFF), now=1.0)],
        INVENTORY,
    )
    assert (admitted.keys, admitted.refused) == ({}, {})


def test_the_order_of_claims_changes_nothing() -> None:
    chance = random.Random(7)
    nodes = [Node(name=f"n{n}", addresses=(f"192.0.2.{n % 40}",)) for n in range(60)]
    claims = [
        heard(
            None,
            said(node.name, key_of(node.name, chance.randrange(1, 50))),
            now=chance.randrange(5),
        )
        for node in nodes
    ]
    wanted = admit(claims, Inventory(nodes=tuple(nodes)))
    assert wanted.keys
    assert wanted.refused
    for _ in range(5):
        chance.shuffle(claims)
        assert admit(claims, Inventory(nodes=tuple(nodes))) == wanted


def test_only_silence_towards_a_connected_agent_counts_against_a_revision() -> None:
    quiet = replace(said("a"), silent_peers=("b", "c"))
    broken = replace(said("c"), error="no TUN device")
    found = unwell([quiet, broken, said("d")], refused={"e": NOT_LISTED}, connected={"a", "c"})
    assert found == {
        "a": "no handshake for 180 seconds with c",
        "c": "encryption: no TUN device",
        "e": f"its public keys are refused: {NOT_LISTED}",
    }
    assert unwell([quiet], refused={}, connected={"a"}) == {}


def test_a_node_that_encrypts_awaits_a_session_with_every_connected_node_that_can() -> None:
    nodes = {"a", "b", "c"}
    alone = replace(said("a"), peers=1)
    unmet = replace(said("b"), peers=2, unmet_peers=("a", "gone"))
    done = replace(said("c"), peers=2, unmet_peers=("gone",))
    assert awaiting([alone, unmet, done], keyed=nodes, connected=nodes, chosen=nodes) == {
        "a": "tunnels to 1 of 2 nodes",
        "b": "no handshake yet with a",
    }
    assert awaiting([done, unmet], keyed=nodes, connected={"c"}, chosen=nodes) == {}


def test_a_node_is_not_ready_before_it_said_so() -> None:
    off = said("a", mode=EncryptionMode.OFF)
    prepared = replace(said("b", mode=EncryptionMode.PREPARED), peers=1)
    ready = [off, prepared]
    assert awaiting(ready, keyed={"b"}, connected={"a", "b", "c"}, chosen=set()) == {
        "a": "has no tunnels yet",
        "c": "has no tunnels yet",
    }
    assert awaiting([prepared], keyed={"b"}, connected={"b"}, chosen={"b"}) == {
        "b": "has tunnels and does not send through them yet",
    }
