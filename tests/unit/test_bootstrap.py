"""Which node a token speaks for, what is certified, how often one may ask, what an agent takes."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from netpolicy.errors import TransientError
from netpolicy.trust import node_uri
from nodeagent.bootstrap.credential import Credential, decode, new_key, request_for, take
from reconciler.bootstrap.allowance import Allowance
from reconciler.bootstrap.csr import MAX_REQUEST_BYTES, requested_key
from reconciler.bootstrap.refused import Refused, Why
from reconciler.bootstrap.speaker import (
    POD_NAME,
    POD_UID,
    AgentAccount,
    bound_pod,
    check_form,
    node_of_pod,
)
from reconciler.sign.certificates import certify_node, init_certificates

ACCOUNT = AgentAccount(namespace="tidegate-system", name="tidegate-nodeagent")
NOW = datetime(2030, 1, 1, tzinfo=UTC)
DAY = timedelta(hours=24)
NODE_NAME = "authentication.kubernetes.io/node-name"


def review(**changes: Any) -> bytes:
    """A TokenReview's answer for a token of the agent on node-a, as changed."""
    status = {
        "authenticated": True,
        "audiences": ["tidegate-push"],
        "user": {
            "username": "system:serviceaccount:tidegate-system:tidegate-nodeagent",
            "extra": {POD_NAME: ["agent-x"], POD_UID: ["uid-1"]},
        },
    }
    return json.dumps({"status": {**status, **changes}}).encode()


def user(username: str = ACCOUNT.username, **extra: list[str]) -> dict[str, Any]:
    return {"username": username, "extra": extra}


def pod(*, uid: str = "uid-1", node: str = "node-a", account: str = ACCOUNT.name) -> bytes:
    spec = {"nodeName": node, "serviceAccountName": account}
    return json.dumps({"metadata": {"uid": uid}, "spec": spec}).encode()


def test_a_token_speaks_for_the_node_of_its_pod() -> None:
    bound = bound_pod(review(), account=ACCOUNT)
    assert node_of_pod(pod(), bound, account=ACCOUNT) == "node-a"


@pytest.mark.parametrize(
    "changes",
    [
        {"authenticated": False},
        {"audiences": None},
        {"audiences": ["https://kubernetes.default.svc"]},
        {"user": user("system:serviceaccount:shop:tidegate-nodeagent")},
        {"user": user("system:serviceaccount:tidegate-system:default")},
        {"user": user("system:node:node-a")},
        {"user": user()},
        {"user": user(**{POD_NAME: ["agent-x"]})},
        {"user": user(**{POD_NAME: ["agent-x", "agent-y"], POD_UID: ["uid-1"]})},
        {"user": user(**{POD_NAME: ["../secrets/tidegate-ca"], POD_UID: ["uid-1"]})},
    ],
)
def test_any_other_token_speaks_for_no_node(changes: dict[str, Any]) -> None:
    with pytest.raises(Refused) as refused:
        bound_pod(review(**changes), account=ACCOUNT)
    assert refused.value.why is Why.NOT_AN_AGENT


@pytest.mark.parametrize(
    "found", [pod(uid="uid-2"), pod(node=""), pod(account="default"), pod(node="node-b")]
)
def test_a_pod_that_is_not_the_tokens_own_counts_for_nothing(found: bytes) -> None:
    extra = {POD_NAME: ["agent-x"], POD_UID: ["uid-1"], NODE_NAME: ["node-a"]}
    bound = bound_pod(review(user=user(**extra)), account=ACCOUNT)
    with pytest.raises(Refused):
        node_of_pod(found, bound, account=ACCOUNT)


@pytest.mark.parametrize("answer", [b"", b"<html>", b'{"status": 3}'])
def test_an_answer_that_cannot_be_read_is_asked_for_again(answer: bytes) -> None:
    with pytest.raises(TransientError):
        bound_pod(answer, account=ACCOUNT)


@pytest.mark.parametrize("token", ["", "a.b", "a.b.c\r\nX: y", "a.b.c/", "x" * 9000])
def test_what_cannot_be_a_token_is_not_asked_about(token: str) -> None:
    with pytest.raises(Refused):
        check_form(token)


def test_an_agents_own_request_is_certified() -> None:
    key = new_key()
    assert requested_key(request_for("node-a", key), node="node-a") == key.public_key()


def csr(key: Any, *names: x509.GeneralName) -> bytes:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    return builder.sign(key, SHA256()).public_bytes(Encoding.DER)


URI_A = x509.UniformResourceIdentifier(node_uri("node-a"))
URI_B = x509.UniformResourceIdentifier(node_uri("node-b"))


@pytest.mark.parametrize(
    "names",
    [(), (URI_B,), (URI_A, URI_B), (URI_A, x509.DNSName("tidegate-reconciler")), (URI_A, URI_A)],
)
def test_a_request_that_names_another_node_or_more_than_one_is_refused(
    names: tuple[x509.GeneralName, ...],
) -> None:
    with pytest.raises(Refused) as refused:
        requested_key(csr(new_key(), *names), node="node-a")
    assert refused.value.why is Why.ANOTHER_NODE


def test_a_request_that_is_not_signed_with_its_own_key_is_refused() -> None:
    request = bytearray(request_for("node-a", new_key()))
    request[-3] ^= 1
    with pytest.raises(Refused):
        requested_key(bytes(request), node="node-a")


@pytest.mark.parametrize("kind", ["rsa", "p384", "garbage", "long"])
def test_other_keys_and_other_bytes_are_refused(kind: str) -> None:
    request = {
        "rsa": lambda: csr(rsa.generate_private_key(65537, 2048), URI_A),
        "p384": lambda: csr(ec.generate_private_key(ec.SECP384R1()), URI_A),
        "garbage": lambda: b"\x30\x03garbage",
        "long": lambda: b"\x30" * (MAX_REQUEST_BYTES + 1),
    }[kind]()
    with pytest.raises(Refused) as refused:
        requested_key(request, node="node-a")
    assert refused.value.why is Why.BAD_REQUEST


def test_an_allowance_is_used_up_and_comes_back() -> None:
    allowance = Allowance(burst=2, per_second=0.5)
    assert [allowance.take("a", now=0.0) for _ in range(3)] == [True, True, False]
    assert allowance.take("b", now=0.0)
    assert allowance.take("a", now=2.0)
    assert not allowance.take("a", now=2.1)


def test_as_many_askers_are_remembered_as_there_is_room_for() -> None:
    allowance = Allowance(burst=1, per_second=0.001, most=2)
    assert all(allowance.take(name, now=0.0) for name in "abcd")
    assert not allowance.take("d", now=0.0)
    assert len(allowance._left) == 2


def issued(directory: Path, key: ec.EllipticCurvePrivateKey, *, node: str) -> x509.Certificate:
    if not directory.exists():
        init_certificates(directory, server_names=("localhost",), now=NOW)
    return certify_node(directory, node, key.public_key(), now=NOW, lifetime=DAY)


def test_a_certificate_is_taken_only_for_our_key_and_our_node(tmp_path: Path) -> None:
    key = new_key()
    own = issued(tmp_path / "keys", key, node="node-a").public_bytes(Encoding.DER)
    assert take(own, key, node="node-a").is_valid(NOW)
    for certificate, with_key, node in (
        (own, new_key(), "node-a"),
        (own, key, "node-b"),
        (b"nothing", key, "node-a"),
    ):
        with pytest.raises(TransientError):
            take(certificate, with_key, node=node)


def test_what_was_kept_comes_back_unless_it_is_damaged_or_anothers(tmp_path: Path) -> None:
    key = new_key()
    held = Credential(certificate=issued(tmp_path / "keys", key, node="node-a"), key=key)
    data = held.encode()
    found = decode(data, node="node-a")
    assert found is not None
    assert found.certificate == held.certificate
    assert decode(data, node="node-b") is None
    assert decode(data[: len(data) // 2], node="node-a") is None
    assert decode(data.replace(b"PRIVATE KEY", b"NOTHING"), node="node-a") is None


def test_renewal_is_due_after_two_thirds_of_a_life(tmp_path: Path) -> None:
    key = new_key()
    held = Credential(certificate=issued(tmp_path / "keys", key, node="node-a"), key=key)
    assert held.until_renewal(NOW + timedelta(hours=15)) > timedelta()
    assert held.until_renewal(NOW + timedelta(hours=17)) < timedelta()
    assert held.is_valid(NOW + timedelta(hours=23))
    assert not held.is_valid(NOW + timedelta(hours=25))
    assert not held.is_valid(NOW - timedelta(hours=1))
