"""Commits are followed only if those signed them who may change what they change."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from netpolicy.errors import StalledError
from reconciler.notify import Kind
from reconciler.signatures.check import check_signatures
from reconciler.signatures.programs import signers_of
from reconciler.signatures.rules import Covers, PathSigners, Verification
from reconciler.source import GitSource, SourceConfig
from tests.support.git_server_repository import PolicyRepository
from tests.support.push_fleet import until
from tests.support.reconciler_scene import Scene, deny, names_of
from tests.support.signed_commits import (
    GPG_FINGERPRINT,
    GPG_KEYRING,
    GPG_PAYLOAD,
    GPG_SIGNATURE,
    Signers,
    merge,
)
from tests.support.told import Receiver, receiver

pytestmark = pytest.mark.slow

SHOP, CLUSTER = "policies/shop/a.yaml", "policies/_cluster/dns.yaml"


@dataclass
class Office:
    """A repository, developers who sign, a security team, and a reader of it all."""

    root: Path
    signers: Signers = field(init=False)
    repository: PolicyRepository = field(init=False)
    source: GitSource = field(init=False)

    def __post_init__(self) -> None:
        self.signers = Signers(self.root / "keys")
        for name in ("dev", "security"):
            self.signers.join(name)
        self.signers.join("stranger", is_known=False)
        self.repository = PolicyRepository(self.root / "policies.git")
        config = SourceConfig(url=f"file://{self.repository.path}")
        self.source = GitSource(config, self.root / "source")

    def commit(self, name: str, path: str, text: str = "", *, on: str = "") -> str:
        """Somebody commits; without a name nobody signs."""
        if on:
            self.repository.force(on)
        commit = self.repository.commit({path: text or name})
        return self.signers.sign_tip(name, self.repository) if name else commit

    def verification(self, covers: Covers = Covers.RANGE) -> Verification:
        """Anybody known may change anything but what is the whole cluster's."""
        guarded = PathSigners(path="policies/_cluster", signers=frozenset({"security"}))
        return Verification(covers=covers, ssh_signers=self.signers.allowed, paths=(guarded,))

    def refusal(self, since: str, covers: Covers = Covers.RANGE) -> str:
        """Why the branch is not followed from there on; empty: it is."""
        commit = self.source.fetch().commit
        signed = self.source.signed(commit, since=since, whole_range=covers is Covers.RANGE)
        try:
            check_signatures(self.verification(covers), signed)
        except StalledError as error:
            return f"{error.reason}: {error}"
        return ""


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def test_who_may_change_what_is_decided_by_the_path(office: Office) -> None:
    first = office.commit("security", CLUSTER)
    assert office.refusal("") == ""
    office.commit("dev", SHOP)
    assert office.refusal(first) == ""
    office.commit("dev", CLUSTER, "wider")
    assert "signed by dev, who may not change policies/_cluster/dns.yaml" in office.refusal(first)
    assert "dev, who may not" in office.refusal(first, Covers.HEAD)


def test_the_first_revision_of_all_is_vouched_for_whole(office: Office) -> None:
    office.commit("security", CLUSTER)
    office.commit("dev", SHOP)
    assert "dev, who may not change policies/_cluster" in office.refusal("")
    office.commit("security", SHOP, "again")
    assert office.refusal("") == ""


@pytest.mark.parametrize("covers", Covers)
def test_what_was_applied_before_anybody_asked_for_signatures_stays(
    office: Office, covers: Covers
) -> None:
    applied = office.commit("", CLUSTER)
    assert office.refusal(applied, covers) == ""
    assert office.refusal("", covers) != ""


def test_an_unsigned_commit_before_a_signed_one_counts_where_the_range_does(office: Office) -> None:
    first = office.commit("security", SHOP)
    unsigned = office.commit("", SHOP, "slipped in")
    wanted = f"VerificationFailed: {unsigned[:12]} is not signed by a known signer"
    assert office.refusal(first) == wanted
    office.commit("dev", SHOP, "after it")
    assert unsigned[:12] in office.refusal(first)
    assert office.refusal(first, Covers.HEAD) == ""


@pytest.mark.parametrize("by", ["stranger", "other purpose", "copied", "expired"])
def test_a_signature_that_proves_nothing_is_nobodys(office: Office, by: str) -> None:
    first = office.commit("security", SHOP)
    office.commit("", SHOP, "tampered")
    git, commit = office.repository.git, office.repository.git[office.repository.tip]
    content = commit.read_raw()
    if by == "stranger":
        signature = office.signers.sign("stranger", content)
    elif by == "other purpose":
        signature = office.signers.sign("dev", content, namespace="file")
    elif by == "expired":
        office.signers.join("past", options='valid-before="20200101"')
        signature = office.signers.sign("past", content)
    else:
        signature = office.signers.sign("dev", content + b"something else")
    signed = git.create_commit_with_signature(
        content.decode(), signature.decode().strip(), "gpgsig"
    )
    office.repository.force(str(signed))
    assert "is not signed by a known signer" in office.refusal(first)


def test_a_merge_vouches_for_what_a_hand_did_in_it_and_for_nothing_else(office: Office) -> None:
    base = office.commit("security", CLUSTER, "narrow")
    branch = office.commit("dev", SHOP, "of the branch")
    main = office.commit("security", CLUSTER, "narrower", on=base)

    merge(office.repository, main, branch, {SHOP: "of the branch"}, keep=main)
    office.signers.sign_tip("dev", office.repository)
    assert office.refusal(base) == ""

    merge(office.repository, main, branch, {}, keep=branch)  # puts the cluster's old content back
    office.signers.sign_tip("dev", office.repository)
    assert "dev, who may not change policies/_cluster/dns.yaml" in office.refusal(base)
    assert "dev, who may not" in office.refusal(main)


def test_a_key_of_gnupg_is_known_by_its_fingerprint(tmp_path: Path) -> None:
    keyring = tmp_path / "keys.gpg"
    keyring.write_bytes(GPG_KEYRING)
    demanded = Verification(gpg_keyring=keyring)
    assert signers_of(demanded, GPG_SIGNATURE, GPG_PAYLOAD) == {GPG_FINGERPRINT}
    assert signers_of(demanded, GPG_SIGNATURE, GPG_PAYLOAD + b"x") == frozenset()
    assert signers_of(Verification(ssh_signers=keyring), GPG_SIGNATURE, GPG_PAYLOAD) == frozenset()
    with pytest.raises(StalledError, match="no such file"):
        signers_of(Verification(gpg_keyring=tmp_path / "gone"), GPG_SIGNATURE, GPG_PAYLOAD)


def test_the_reconciler_stops_at_what_nobody_vouches_for_and_goes_on_behind_it(
    tmp_path: Path,
) -> None:
    signers = Signers(tmp_path / "signers")
    signers.join("dev")
    scene = Scene(tmp_path, verification=Verification(ssh_signers=signers.allowed))

    def told_of(host: Receiver, commit: str) -> list[str]:
        return [one.data["state"] for one in host.requests if one.path.endswith(commit)]

    def commit(name: str, policy: str) -> str:
        made = scene.repository.commit({SHOP: deny(policy)})
        return signers.sign_tip(name, scene.repository) if name else made

    async def script(host: Receiver) -> None:
        scene.notifications = (host.target(Kind.GITHUB),)
        good = commit("dev", "a")
        async with scene.agent() as node, scene.reconciling():
            await until(lambda: names_of(node) == ["a"])
            bad = commit("", "b")
            condition = await scene.until_reason("VerificationFailed")
            assert "is not signed by a known signer" in condition.message
            assert names_of(node) == ["a"]
            await until(lambda: told_of(host, bad) == ["failure"])
            assert "is not signed by a known signer" in host.requests[-1].data["description"]
            scene.repository.force(good)  # what was refused was never applied: nothing goes back
            commit("dev", "c")
            await until(lambda: names_of(node) == ["c"])
            assert told_of(host, bad) == ["failure"], "once, however often it was looked at"

    with receiver(tmp_path) as host:
        asyncio.run(script(host))
