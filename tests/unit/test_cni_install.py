"""Install and remove the CNI plugin: the chain is changed whole, once, and back to the byte."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nodeagent.cli import main
from nodeagent.cni import install as installing
from nodeagent.cni.conflist import PluginOptions

CHAIN = b"""{"name": "pods",  "cniVersion": "1.0.0",
 "plugins": [{"type": "bridge", "ipam": {"x": 1}}, {"type": "portmap"}]}"""
OURS = {
    "type": "tidegate-cni",
    "socket": "/run/tidegate/cni.sock",
    "timeoutSeconds": 20,
    "failureMode": "closed",
}


@dataclass(frozen=True)
class Host:
    folder: Path

    @property
    def conflist(self) -> Path:
        return self.folder / "conf/10-pods.conflist"

    @property
    def plugin(self) -> Path:
        return self.folder / "bin/tidegate-cni"

    def files(self) -> set[str]:
        return {str(p.relative_to(self.folder)) for p in self.folder.rglob("*") if p.is_file()}

    def install(self, *options: str) -> Result:
        return self._run("install", "--plugin", str(self.folder / "plugin"), *options)

    def uninstall(self) -> Result:
        return self._run("uninstall")

    def types(self) -> list[str]:
        return [plugin["type"] for plugin in json.loads(self.conflist.read_bytes())["plugins"]]

    def _run(self, command: str, *options: str) -> Result:
        folders = ["--bin-dir", str(self.folder / "bin"), "--conf-dir", str(self.folder / "conf")]
        return CliRunner().invoke(main, ["cni", command, *folders, *options])


@pytest.fixture
def host(tmp_path: Path) -> Host:
    found = Host(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "plugin").write_bytes(b"ELF 1")
    found.conflist.write_bytes(CHAIN)
    found.conflist.chmod(0o640)
    return found


def test_installing_puts_the_plugin_last_and_removing_restores_every_byte(host: Host):
    before = host.files()
    assert host.install().exit_code == 0
    document = json.loads(host.conflist.read_bytes())
    assert document["plugins"] == [*json.loads(CHAIN)["plugins"], OURS]
    assert host.plugin.read_bytes() == b"ELF 1"
    assert host.plugin.stat().st_mode & 0o777 == 0o755
    assert host.conflist.stat().st_mode & 0o777 == 0o640
    assert host.uninstall().exit_code == 0
    assert host.conflist.read_bytes() == CHAIN
    assert host.files() == before


def test_doing_it_again_changes_nothing(host: Host):
    host.install()
    stamps = {path: (host.folder / path).stat().st_mtime_ns for path in host.files()}
    assert "already" in host.install().output
    assert {path: (host.folder / path).stat().st_mtime_ns for path in host.files()} == stamps
    host.uninstall()
    assert "not installed" in host.uninstall().output


def test_new_options_and_a_new_plugin_replace_the_old_ones(host: Host):
    host.install()
    (host.folder / "plugin").write_bytes(b"ELF 2")
    host.install("--failure-mode", "open", "--timeout-seconds", "5")
    assert host.types() == ["bridge", "portmap", "tidegate-cni"]
    ours = json.loads(host.conflist.read_bytes())["plugins"][-1]
    assert (ours["failureMode"], ours["timeoutSeconds"]) == ("open", 5)
    assert host.plugin.read_bytes() == b"ELF 2"
    host.uninstall()
    assert host.conflist.read_bytes() == CHAIN


def test_what_the_network_changed_meanwhile_stays(host: Host):
    host.install()
    document = json.loads(host.conflist.read_bytes())
    document["plugins"].insert(2, {"type": "bandwidth"})
    host.conflist.write_text(json.dumps(document))
    host.uninstall()
    assert host.types() == ["bridge", "portmap", "bandwidth"]
    assert not list(host.conflist.parent.glob("*.before-tidegate"))


def test_a_network_that_wrote_its_chain_anew_gets_the_plugin_again(host: Host):
    host.install()
    newer = CHAIN.replace(b"portmap", b"bandwidth")
    host.conflist.write_bytes(newer)
    host.install()
    assert host.types() == ["bridge", "bandwidth", "tidegate-cni"]
    host.uninstall()
    assert host.conflist.read_bytes() == newer


def test_the_first_conflist_is_the_one(host: Host):
    other = host.conflist.with_name("20-other.conflist")
    other.write_bytes(CHAIN)
    host.install()
    assert other.read_bytes() == CHAIN
    assert host.types()[-1] == "tidegate-cni"


@pytest.mark.parametrize(
    "broken",
    [b"", b"{", b"[]", b'"x"', CHAIN[:-1], CHAIN.replace(b"1.0.0", b"0.2.0"), CHAIN + b"x",
     CHAIN.replace(b'"type": "bridge"', b'"type": 1'), CHAIN.replace(b'"name"', b'"nome"'),
     CHAIN.replace(b'"portmap"}', b'"portmap"}, 7'), b'{"a": 1, "a": 2}',
     CHAIN.replace(b'"x": 1', b'"x": 1e999'), CHAIN.replace(b'"x": 1', b'"x": "\\ud800"'), b"[" * 100_000,
     b'{"name": "x", "cniVersion": "1.0.0", "plugins": []}'],
)  # fmt: skip
def test_a_broken_chain_is_left_alone(host: Host, broken: bytes):
    host.conflist.write_bytes(broken)
    before = host.files()
    failed = host.install()
    assert failed.exit_code == 1
    assert "left as it is" in failed.output
    assert host.conflist.read_bytes() == broken
    assert host.files() == before, "neither the plugin nor a copy"


def test_a_host_without_a_network_is_told_so(host: Host):
    host.conflist.unlink()
    failed = host.install()
    assert failed.exit_code == 1
    assert "install a CNI first" in failed.output


def test_a_single_plugin_that_comes_first_is_told_of(host: Host):
    host.conflist.with_name("05-pods.conf").write_text("{}")
    failed = host.install()
    assert failed.exit_code == 1
    assert "make it a .conflist" in failed.output


def test_the_plugin_stays_while_a_broken_chain_may_name_it(host: Host):
    host.install()
    host.conflist.write_bytes(host.conflist.read_bytes()[:-5])
    assert host.uninstall().exit_code == 1
    assert host.plugin.exists()


@pytest.mark.parametrize("death", range(1, 4))
def test_dying_at_any_write_leaves_what_can_be_finished(
    host: Host, death: int, monkeypatch: pytest.MonkeyPatch
):
    """Writes: the plugin, the copy, the chain. Whoever dies at one is started again."""
    real, writes = installing.replace, 0

    def dying(path: Path, data: bytes, *, mode: int) -> None:
        nonlocal writes
        writes += 1
        if writes == death:
            raise KeyboardInterrupt
        real(path, data, mode=mode)

    monkeypatch.setattr(installing, "replace", dying)
    options = PluginOptions(socket="/run/tidegate/cni.sock")
    with pytest.raises(KeyboardInterrupt):
        installing.install(
            host.folder / "plugin",
            bin_dir=host.folder / "bin",
            conf_dir=host.folder / "conf",
            options=options,
        )
    assert host.conflist.read_bytes() == CHAIN, "the chain comes last"
    monkeypatch.undo()
    host.install()
    assert host.types()[-1] == "tidegate-cni"
    host.uninstall()
    assert host.conflist.read_bytes() == CHAIN
