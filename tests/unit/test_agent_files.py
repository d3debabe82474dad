"""What the agent reads from and keeps on disk: its configuration, and the feed's last snapshot."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from netpolicy.inventory import AddressEntry
from netpolicy.labels import parse_labels
from nodeagent import known_inputs
from nodeagent.config import decode_config
from nodeagent.datapath_options import DatapathOptions, FlowLifetimes
from nodeagent.known_inputs import KeptInputs
from nodeagent.readiness import say_ready
from nodeagent.receive.instance import instance_id
from nodeagent.saved_feed import load_feed, save_feed

WEB = parse_labels(["app=web", "io.kubernetes.pod.namespace=shop"])
ENTRIES = (
    AddressEntry(address="10.0.0.1", labels=WEB, namespace="shop", name="web", node="a"),
    AddressEntry(address="10.0.0.2", labels=WEB, namespace="shop", name="web2", node="a"),
    AddressEntry(address="192.0.2.9", labels=parse_labels(["reserved:remote-node"]), node="b"),
)

CONFIG = b"""\
node: node-a
inventory: inventory.yaml
state_dir: state
reconciler: {address: "192.0.2.1:7443", server_name: tidegate}
tls: {ca: ca.pem, certificate: a.pem, key: a.key}
trust: {root: root.json}
"""


def test_the_feed_comes_back_as_it_was_saved(tmp_path: Path):
    path = tmp_path / "state" / "feed.json"
    save_feed(path, ENTRIES[:1])
    save_feed(path, ENTRIES)
    assert load_feed(path) == ENTRIES
    assert [found.name for found in path.parent.iterdir()] == ["feed.json"]


@pytest.mark.parametrize("text", ["", "{", '{"format":9,"label_sets":[],"entries":[]}',
                                  '{"format":1,"label_sets":[],"entries":[["10.0.0.1",3]]}'])  # fmt: skip
def test_a_damaged_feed_is_not_used(tmp_path: Path, text: str):
    path = tmp_path / "feed.json"
    path.write_text(text)
    assert load_feed(path) is None


def test_a_missing_feed_is_none(tmp_path: Path):
    assert load_feed(tmp_path / "feed.json") is None


@pytest.mark.parametrize("damage", [b"", b"not an id", b"x" * 500, b"\xff" * 20])
def test_a_damaged_instance_id_is_made_anew_and_stays(tmp_path: Path, damage: bytes):
    first = instance_id(tmp_path)
    assert instance_id(tmp_path) == first
    (tmp_path / "instance").write_bytes(damage)
    second = instance_id(tmp_path)
    assert second != first
    assert instance_id(tmp_path) == second


def test_an_instance_id_that_cannot_be_written_counts_for_this_run(tmp_path: Path):
    (tmp_path / "file").touch()
    assert instance_id(tmp_path / "file" / "no-directory")


def test_a_configuration_reads_with_paths_from_its_own_folder(tmp_path: Path):
    config, faults = decode_config(tmp_path / "agent.yaml", CONFIG)
    assert faults == []
    assert config.node == "node-a"
    assert config.inventory == tmp_path / "inventory.yaml"
    assert config.state_dir == tmp_path / "state"
    assert config.reconciler.trust_root == tmp_path / "root.json"
    assert config.bpffs == Path("/sys/fs/bpf/tidegate")


def test_an_agent_may_do_without_a_reconciler(tmp_path: Path):
    config, faults = decode_config(tmp_path / "agent.yaml", b"node: a\ninventory: i.yaml\n")
    assert faults == []
    assert config.reconciler.address == ""


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (b"node: node-a\n", b"", '"node" is missing'),
        (b"inventory:", b"inventry:", 'unknown field "inventry"'),
        (b"tls: {ca: ca.pem, ", b"tls: {", '"ca" is missing'),
        (b"trust: {root: root.json}\n", b"", '"root" is missing'),
        (b"state_dir: state", b"kept_flows: 0", "must be above zero"),
        (b"state_dir: state", b"socket: " + b"s" * 100, "longer than 107 bytes"),
        (b"state_dir: state", b"datapath: {max_addresses: 0}", "from 1 to 16777216"),
        (b"state_dir: state", b"datapath: {lifetimes: {udp: 5}}", 'unknown field "udp"'),
        (b"state_dir: state", b"datapath: {lifetimes: {tcp: 9999999999}}", "from 1 to 2592000"),
        (b"state_dir: state", b'datapath: {unjudged_ethertypes: ["0x0800"]}', "IPv4 does not pass"),
        (b"state_dir: state", b'datapath: {unjudged_ethertypes: ["lldp"]}', "no ethertype"),
        (b"state_dir: state", b'datapath: {unjudged_ethertypes: ["46"]}', "no ethertype"),
        (
            b"state_dir: state",
            b"datapath: {unjudged_ethertypes: [" + b'"88cc",' * 9 + b"]}",
            "at most 8",
        ),
    ],
)
def test_a_faulty_configuration_says_what_is_wrong(tmp_path: Path, old, new, says):
    config, faults = decode_config(tmp_path / "agent.yaml", CONFIG.replace(old, new))
    assert config is None
    assert any(says in fault.message for fault in faults)


def test_the_datapaths_section_reads_whole(tmp_path: Path):
    text = CONFIG + (
        b'datapath: {max_prefixes: 7, unjudged_ethertypes: ["0x88cc", "802.3", "8100"],'
        b" direct_delivery: true, lifetimes: {tcp: 900}}\n"
    )
    config, faults = decode_config(tmp_path / "agent.yaml", text)
    assert faults == []
    assert config.datapath == DatapathOptions(
        max_prefixes=7,
        lifetimes=FlowLifetimes(tcp=900),
        unjudged_ethertypes=(0x88CC, 1, 0x8100),
        direct_delivery=True,
    )


def test_readiness_reaches_standard_output_and_the_service_manager(tmp_path, monkeypatch, capsys):
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(path))
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        say_ready(node="node-a", revision=7, commit="c0ffee")
        assert manager.recv(200).decode().startswith("READY=1\n")
    assert capsys.readouterr().out == "nodeagent ready node=node-a revision=7 commit=c0ffee\n"


def test_without_a_service_manager_only_the_line_is_written(monkeypatch, capsys):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    say_ready(node="n", revision=1, commit="")
    assert capsys.readouterr().out.endswith("commit=none\n")


CLUSTER_CONFIG = b"""\
state_dir: state
kubernetes: {cluster: east, runtime: /run/crio/crio.sock}
reconciler: {address: "tidegate-reconciler.tidegate-system.svc:7443",
             bootstrap: "tidegate-reconciler.tidegate-system.svc:7444"}
tls: {ca: trust/ca.pem, token: token}
trust: {root: trust/root.json}
"""


def test_in_a_cluster_the_agent_keeps_its_own_certificate(tmp_path: Path):
    config, faults = decode_config(tmp_path / "agent.yaml", CLUSTER_CONFIG, node="node-a")
    assert not faults
    assert config is not None
    assert config.kubernetes is not None
    assert (config.node, config.kubernetes.cluster) == ("node-a", "east")
    assert config.kubernetes.runtime == Path("/run/crio/crio.sock")
    assert config.reconciler.certificate == config.reconciler.key
    assert config.reconciler.certificate == tmp_path / "state" / "credential.pem"
    assert config.reconciler.token == tmp_path / "token"


def test_a_name_in_the_file_stands_over_the_one_given(tmp_path: Path):
    config, _ = decode_config(tmp_path / "agent.yaml", CONFIG, node="other")
    assert config is not None
    assert config.node == "node-a"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b", token: token", b""),
        (b", token: token", b", token: token, certificate: a.pem"),
        (b"kubernetes: {cluster: east, runtime: /run/crio/crio.sock}\n", b""),
        (b"runtime:", b"rutime:"),
    ],
)
def test_a_cluster_configuration_that_lacks_or_repeats_something_is_refused(
    tmp_path: Path, before: bytes, after: bytes
):
    data = CLUSTER_CONFIG.replace(before, after)
    config, faults = decode_config(tmp_path / "agent.yaml", data, node="node-a")
    assert config is None
    assert faults


def test_without_a_name_anywhere_the_configuration_is_refused(tmp_path: Path):
    config, faults = decode_config(tmp_path / "agent.yaml", CLUSTER_CONFIG)
    assert config is None
    assert "node" in faults[0].message


def test_changes_that_follow_each_other_are_written_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[int] = []

    def counted(path: Path, entries: tuple[AddressEntry, ...]) -> None:
        written.append(len(entries))
        save_feed(path, entries)

    monkeypatch.setattr(known_inputs, "save_feed", counted)
    monkeypatch.setattr(known_inputs, "FEED_REST_SECONDS", 0.3)

    async def script() -> None:
        kept = KeptInputs(tmp_path)
        await kept.keep_feed(ENTRIES[:1])
        assert kept.known_at_start(None).feed == ENTRIES[:1], "the first is written at once"
        for _ in range(50):
            await kept.keep_feed(())
            await kept.keep_feed(ENTRIES)
        async with asyncio.timeout(60):
            while kept.known_at_start(None).feed != ENTRIES:
                await asyncio.sleep(0.05)
        assert len(written) < 50

    asyncio.run(script())
