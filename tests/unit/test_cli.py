"""`tidegate` as its user meets it: output, errors and exit codes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from netpolicy.errors import StalledError
from reconciler.cli import main
from reconciler.state.database import Database
from tests.support.git_server_repository import PolicyRepository

GOOD = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: web}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: client}}]
      toPorts: [{ports: [{port: "80", protocol: TCP}]}]
"""
BAD = GOOD.replace("ingress:", "ingres:")


def tidegate(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def folder(root: Path, text: str) -> Path:
    (root / "policies" / "shop").mkdir(parents=True)
    (root / "policies" / "shop" / "web.yaml").write_text(text)
    return root


def test_an_accepted_folder_exits_0(tmp_path: Path) -> None:
    result = tidegate("validate", folder(tmp_path, GOOD))
    assert (result.exit_code, result.output) == (0, "accepted: 1 policies, 0 errors, 0 warnings\n")


def test_a_refused_folder_exits_1_and_shows_the_line_why_and_fix(tmp_path: Path) -> None:
    result = tidegate("validate", folder(tmp_path, BAD))
    assert result.exit_code == 1
    assert "policies/shop/web.yaml:6:3: error TG105" in result.output
    assert "    6 |   ingres:\n      |   ^^^^^^\nwhy: " in result.output
    assert 'fix: write "ingress"' in result.output


INTENT = """\
intents:
  - {name: nobody else, from: "app=stranger,ns=shop", to: "app=web,ns=shop", port: 80, expect: EXPECTED}
"""


@pytest.mark.parametrize(
    ("expected", "exit_code", "says"),
    [
        ("deny", 0, "accepted"),
        ("allow", 1, "TG403"),
        ("alow", 1, 'expect is "allow" or "deny"'),
    ],
    ids=["it holds", "it is broken", "it cannot be read"],
)
def test_validate_holds_the_intents_as_the_reconciler_does(
    tmp_path: Path, expected: str, exit_code: int, says: str
) -> None:
    folder(tmp_path, GOOD)
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "shop.yaml").write_text(INTENT.replace("EXPECTED", expected))
    result = tidegate("validate", tmp_path)
    assert result.exit_code == exit_code
    assert says in result.output


def test_machines_get_the_same_as_json_and_sarif(tmp_path: Path) -> None:
    bad = folder(tmp_path, BAD)
    shown = json.loads(tidegate("validate", "-o", "json", bad).output)
    assert (shown["accepted"], shown["diagnostics"][0]["code"]) == (False, "TG105")
    sarif = json.loads(tidegate("validate", "-o", "sarif", bad).output)
    assert sarif["runs"][0]["results"][0]["ruleId"] == "TG105"


@pytest.mark.parametrize(
    ("where", "says"),
    [("nowhere", "neither a folder nor a revision"), (".", "is no policy repository")],
)
def test_what_is_no_policy_repository_exits_2(tmp_path: Path, where: str, says: str) -> None:
    PolicyRepository(tmp_path / "git")
    place = tmp_path if where == "." else where
    result = tidegate("validate", place, "--repository", tmp_path / "git")
    assert result.exit_code == 2
    assert says in result.output


def test_with_an_inventory_selectors_that_match_nobody_are_told(tmp_path: Path) -> None:
    inventory = tmp_path / "inventory.yaml"
    inventory.write_text(
        "nodes: [{name: one, addresses: [10.0.0.1]}]\n"
        "pods: [{namespace: shop, name: other, node: one, addresses: [10.1.0.1], interface: veth}]\n"
    )
    result = tidegate("validate", folder(tmp_path, GOOD), "--inventory", inventory)
    assert result.exit_code == 0
    assert "TG308" in result.output


def test_a_link_in_the_folder_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, GOOD)
    (root / "policies" / "passwords.yaml").symlink_to("/etc/passwd")
    result = tidegate("validate", root)
    assert result.exit_code == 1
    assert "TG002" in result.output


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ({"Policies/shop/web.yaml": GOOD}, "TG011"),
        ({"policies/shop/web.yaml": GOOD, "tidegate.yml": "{}"}, "TG011"),
        ({"policies/shop/web.yaml": GOOD, "policies/shop/Web.yaml": GOOD}, "TG008"),
        ({"policies/shop/web.yaml": GOOD, "policies/Shop/api.yaml": "{}"}, "TG008"),
        ({"policies": GOOD}, "TG009"),
        ({"policies/shop/web.yaml": GOOD, "tidegate.yaml/x": "{}"}, "TG009"),
        ({"policies/a.yaml": "version https://git-lfs.github.com/spec/v1\n"}, "TG004"),
    ],
)
def test_a_folder_is_read_as_the_revision_made_of_it(
    tmp_path: Path, files: dict[str, str], code: str
) -> None:
    git = PolicyRepository(tmp_path / "git")
    commit = git.commit(files)
    root = tmp_path / "folder"
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    here = tidegate("validate", root)
    there = tidegate("validate", commit, "--repository", git.path)
    assert f"error {code}:" in here.output
    assert (here.exit_code, here.output) == (there.exit_code, there.output)


def test_a_repository_inside_a_folder_is_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, GOOD)
    (root / "policies" / "theirs").mkdir()
    (root / "policies" / "theirs" / ".git").write_text("gitdir: elsewhere\n")
    result = tidegate("validate", root)
    assert result.exit_code == 1
    assert "policies/theirs: error TG003" in result.output


def test_diff_tells_policies_apart_and_exits_0_1_or_2(tmp_path: Path) -> None:
    git = PolicyRepository(tmp_path / "git")
    first = git.commit({"policies/shop/web.yaml": GOOD})
    second = git.commit({"policies/shop/web.yaml": GOOD.replace('"80"', '"81"')})
    broken = git.commit({"policies/shop/web.yaml": BAD})
    at = ("--repository", git.path)
    assert tidegate("diff", first, first, *at).exit_code == 0
    changed = tidegate("diff", first, second, *at)
    assert changed.exit_code == 1
    assert "tcp/80" in changed.output
    assert "tcp/81" in changed.output
    assert tidegate("diff", first, second, *at, "-o", "json").exit_code == 1
    assert tidegate("diff", second, broken, *at).exit_code == 2


def test_status_without_a_reconciler_exits_2(tmp_path: Path) -> None:
    result = tidegate("status", "--state-dir", tmp_path)
    assert result.exit_code == 2
    assert "no reconciler has run here" in result.output


def test_acknowledge_wants_the_whole_hash(tmp_path: Path) -> None:
    assert tidegate("acknowledge", "abc123", "--state-dir", tmp_path).exit_code == 2
    Database.open(tmp_path).close()
    assert tidegate("acknowledge", "a" * 40, "--state-dir", tmp_path).exit_code == 0


def test_acknowledge_makes_no_state_where_no_reconciler_has_run(tmp_path: Path) -> None:
    result = tidegate("acknowledge", "a" * 40, "--state-dir", tmp_path / "mistyped")
    assert result.exit_code == 2
    assert "no reconciler has run here" in result.output
    assert not (tmp_path / "mistyped").exists()


def test_a_faulty_configuration_says_every_fault_and_exits_2(tmp_path: Path) -> None:
    config = tmp_path / "reconciler.yaml"
    config.write_text("keys: keys\nrepositry: {url: x}\n")
    result = tidegate("run", "--config", config)
    assert result.exit_code == 2
    for word in ("repositry", '"inventory" is missing', '"repository" is missing'):
        assert word in result.output


@pytest.mark.parametrize(
    "words", [("validate",), ("status", "--state-dir"), ("rollout", "status", "--state-dir")]
)
def test_a_name_that_cannot_be_looked_at_exits_2(words: tuple[str, ...]) -> None:
    result = tidegate(*words, "n" * 300)
    assert (result.exit_code, type(result.exception)) == (2, SystemExit)
    assert "File name too long" in result.output


@pytest.mark.skipif(os.geteuid() != 0, reason="gives files to somebody else")
def test_a_repository_of_somebody_else_says_how_to_trust_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SUDO_UID", raising=False)
    git = PolicyRepository(tmp_path / "git")
    os.chown(git.path, 12345, 12345)
    result = tidegate("validate", "HEAD", "--repository", git.path)
    assert result.exit_code == 2
    assert "safe.directory" in result.output


def test_a_revision_that_a_shallow_clone_lacks_says_so(tmp_path: Path) -> None:
    git = PolicyRepository(tmp_path / "git")
    commit = git.commit({"policies/shop/web.yaml": GOOD})
    (Path(git.path) / "shallow").write_text(f"{commit}\n")
    result = tidegate("diff", "main", "nowhere", "--repository", git.path)
    assert result.exit_code == 2
    assert "fetch the whole history" in result.output


@pytest.mark.parametrize(
    ("words", "meant"), [(("validat",), "validate"), (("rollout", "promot"), "promote")]
)
def test_a_misspelt_command_is_told_the_one_that_was_meant(
    words: tuple[str, ...], meant: str
) -> None:
    result = tidegate(*words)
    assert result.exit_code == 2
    assert f"Did you mean '{meant}'?" in result.output


def test_a_cluster_that_nobody_named_exits_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    result = tidegate("rollout", "status", "--kubernetes")
    assert result.exit_code == 2
    assert "give --kubeconfig" in result.output


def test_without_the_kubernetes_client_a_cluster_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "reconciler.in_cluster.access", None)
    result = tidegate("rollout", "status", "--kubernetes")
    assert result.exit_code == 2
    assert "the Kubernetes client is not installed" in result.output


@pytest.mark.parametrize("listen", ["7443", "127.0.0.1:99999", "127.0.0.1:123456789012"])
def test_a_reconciler_that_could_not_be_dialled_does_not_start(tmp_path: Path, listen: str) -> None:
    (tmp_path / "reconciler.yaml").write_text(
        f'keys: keys\ninventory: inventory.yaml\nlisten: "{listen}"\n'
        "repository: {url: https://git.example/policies.git}\n"
    )
    result = tidegate("run", "--config", tmp_path / "reconciler.yaml")
    assert result.exit_code == 2
    assert "reconciler.yaml:3:9: error TG503: listen must be an address and a port" in result.output


def test_a_state_folder_that_cannot_be_made_is_not_called_damaged(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StalledError, match=r"Not a directory.*need not be touched"):
        Database.open(tmp_path / "file" / "state")
