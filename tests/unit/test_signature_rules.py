"""Who may change what: the rules on signers, and how an operator writes them."""

from __future__ import annotations

from pathlib import Path

import pytest

from netpolicy.errors import StalledError
from reconciler.config import load_config
from reconciler.signatures.rules import (
    Covers,
    PathSigners,
    Verification,
    Vouched,
    complaints,
    complaints_text,
)

EVERYBODY = Verification(
    ssh_signers=Path("/allowed"),
    paths=(
        PathSigners(path="policies", signers=frozenset({"dev", "security"})),
        PathSigners(path="policies/_cluster", signers=frozenset({"security"})),
        PathSigners(path="tidegate.yaml", signers=frozenset({"ops"})),
    ),
)


@pytest.mark.parametrize(
    ("path", "may"),
    [
        ("policies/shop/a.yaml", {"dev", "security"}),
        ("policies/_cluster/dns.yaml", {"security"}),
        ("policies/_clusters/dns.yaml", {"dev", "security"}),
        ("tidegate.yaml", {"ops"}),
        ("tidegate.yaml.orig", None),
        ("README.md", None),
    ],
)
def test_the_longest_path_that_holds_a_file_decides(path: str, may: set[str] | None) -> None:
    assert EVERYBODY.may_change(path) == may


def test_each_commit_is_judged_by_its_own_signers() -> None:
    paths = ("README.md", "policies/_cluster/dns.yaml")
    fine = Vouched(commit="a" * 40, signers={"dev", "security"}, paths=paths)
    wrong = Vouched(commit="b" * 40, signers={"dev"}, paths=paths)
    nobody = Vouched(commit="c" * 40, signers=frozenset(), paths=())
    found = complaints(EVERYBODY, [fine, wrong, nobody])
    assert [line[:12] for line in found] == ["b" * 12, "c" * 12]
    assert complaints_text(found * 4).endswith("; and 3 more")


def test_an_operator_names_known_signers_and_paths(tmp_path: Path) -> None:
    def config(verification: str) -> Verification | None:
        file = tmp_path / "reconciler.yaml"
        file.write_text(
            "keys: keys\ninventory: i.yaml\nrepository:\n  url: https://git.example/p.git\n"
            + verification
        )
        following = load_config(file).following
        return following.verification if following else None

    assert config("") is None
    guarded = "{path: policies/_cluster/, signers: [security]}"
    found = config(f"  verification: {{covers: head, sshSigners: allowed, paths: [{guarded}]}}\n")
    rule = PathSigners(path="policies/_cluster", signers=frozenset({"security"}))
    wanted = Verification(covers=Covers.HEAD, ssh_signers=tmp_path / "allowed", paths=(rule,))
    assert found == wanted
    for wrong in (
        "{covers: head}",
        "{sshSigners: a, covers: all}",
        "{sshSigners: a, paths: [{path: x}]}",
    ):
        with pytest.raises(StalledError):
            config(f"  verification: {wrong}\n")
