"""`tidegate preview`: what is read of an export, what would change of it, and how that is said."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from netpolicy.errors import StalledError
from netpolicy.evidence import Cause, Shadow
from netpolicy.flow import FlowEnd, FlowRecord, FlowVerdict, flow_json
from netpolicy.http_flow import HttpExchange
from netpolicy.rules import Direction, Policy, Protocol
from reconciler.cli import main
from reconciler.files import SourceFile
from reconciler.judge import judge
from reconciler.preview import blocks, by_workload, rows
from reconciler.preview.blocks import lines_between
from reconciler.preview.export import ExportReader
from reconciler.preview.observed import Skipped
from reconciler.preview.replay import replay_file
from reconciler.preview.rows import Kind
from reconciler.preview.seen_ends import EndReader

OPEN = """\
apiVersion: cilium.io/v2
kind: CiliumNetworkPolicy
metadata: {name: api, namespace: shop}
spec:
  endpointSelector: {matchLabels: {app: api}}
  ingress:
    - fromEndpoints: [{matchLabels: {app: web}}]
      toPorts: [{ports: [{port: "80", protocol: TCP}]}]
    - fromEndpoints: [{matchLabels: {app: prometheus, k8s:io.kubernetes.pod.namespace: monitoring}}]
"""
WITHOUT_PROMETHEUS = OPEN.rsplit("    - ", 1)[0]
ONLY_GETS = WITHOUT_PROMETHEUS.replace(
    "protocol: TCP}]}", 'protocol: TCP}], rules: {http: [{method: GET, path: "/public/.*"}]}}'
)


def pod(namespace: str, app: str, *, number: int = 1) -> dict[str, Any]:
    """An end as Hubble writes it."""
    return {
        "ID": 7,
        "identity": 4711,
        "namespace": namespace,
        "labels": [
            "k8s:io.cilium.k8s.policy.cluster=default",
            f"k8s:io.kubernetes.pod.namespace={namespace}",
            f"k8s:app={app}",
        ],
        "pod_name": f"{app}-{number}",
        "workloads": [{"name": app, "kind": "Deployment"}],
    }


WEB, API = pod("shop", "web"), pod("shop", "api")
PROMETHEUS = pod("monitoring", "prometheus")
OUTSIDE = {"identity": 2, "labels": ["reserved:world"]}


def hubble(
    source: dict[str, Any],
    destination: dict[str, Any],
    port: int = 80,
    *,
    is_reply: bool | None = False,
    **more: Any,
) -> dict[str, Any]:
    """A line as `hubble observe -o json` writes it."""
    ports = {"source_port": 41_000, "destination_port": port}
    flow = {
        "time": "2026-01-01T00:00:00Z",
        "verdict": "FORWARDED",
        "IP": {"source": "10.0.0.1", "destination": "10.0.0.2", "ipVersion": "IPv4"},
        "l4": {"TCP": ports},
        "source": source,
        "destination": destination,
        "Type": "L3_L4",
        "is_reply": is_reply,
    }
    return {"flow": flow | more, "node_name": "node-a"}


def ours(**more: Any) -> dict[str, Any]:
    """A line as `nodeagent flows -o json` writes it."""
    ends = [
        FlowEnd(
            identity=300 + number,
            address=f"10.0.0.{number}",
            port=port,
            labels=tuple(end["labels"]),
            namespace=end["namespace"],
            pod=end["pod_name"],
        )
        for number, (end, port) in enumerate([(PROMETHEUS, 41_000), (API, 80)])
    ]
    record = FlowRecord(
        time_ns=1,
        node="node-a",
        verdict=FlowVerdict.FORWARDED,
        direction=Direction.INGRESS,
        source=ends[0],
        destination=ends[1],
        protocol=Protocol.TCP,
    )
    return flow_json(replace(record, **more))


def policies_of(text: str) -> list[Policy]:
    """What a policy file says."""
    verdict = judge([SourceFile(path="policies/shop/api.yaml", blob_id="", data=text.encode())])
    return [policy for unit in verdict.units for policy in unit.policies]


def lines(*flows: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(flow).encode() + b"\n" for flow in flows)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder each: with the policy before, and with one after."""
    for name, text in (("open", OPEN), ("cut", WITHOUT_PROMETHEUS), ("gets", ONLY_GETS)):
        folder = tmp_path / name / "policies" / "shop"
        folder.mkdir(parents=True)
        (folder / "api.yaml").write_text(text)
    return tmp_path


def run(folders: Path, before: str, after: str, export: bytes, *words: str) -> Result:
    """The command over an export."""
    flows = folders / "flows.json"
    flows.write_bytes(export)
    command = ["preview", str(folders / before), str(folders / after), "--flows", str(flows)]
    return CliRunner().invoke(main, [*command, *words])


def test_a_change_that_would_cut_prometheus_is_told_by_the_flows_of_yesterday(
    folders: Path,
) -> None:
    export = lines(
        *[hubble(WEB, API)] * 5,
        *[hubble(PROMETHEUS, API), hubble(API, PROMETHEUS, 41_000, is_reply=True) | {}] * 2,
        ours(),
    )
    done = run(folders, "open", "cut", export, "-o", "json")
    found = json.loads(done.stdout)
    assert done.exit_code == 1
    assert (found["flows"], found["opened"]["flows"]) == (10, 0)
    by_port = {(row["port"], row["from"]): row for row in found["cut"]["rows"]}
    assert by_port["tcp/80", "monitoring/prometheus"]["seen"] == 2
    assert by_port["tcp/80", "monitoring/prometheus-1"]["seen"] == 1  # ours knows pods only
    assert by_port["tcp/80", "monitoring/prometheus"]["by"] == "shop/api"
    text = run(folders, "open", "cut", export)
    assert "would be cut:" in text.stdout
    back = run(folders, "cut", "open", export, "-o", "json")
    (row, *_) = json.loads(back.stdout)["opened"]["rows"]
    assert row["by"] == "shop/api ingress[1]"


def test_what_changes_for_nobody_exits_with_0_and_what_cannot_be_told_with_2(folders: Path) -> None:
    fine = run(folders, "open", "cut", lines(hubble(WEB, API)))
    assert (fine.exit_code, "none would be cut" in fine.stdout) == (0, True)
    assert run(folders, "open", "cut", b"").exit_code == 2
    assert run(folders, "open", "cut", b"no\n").exit_code == 2
    assert run(folders, "open", "nowhere", lines(hubble(WEB, API))).exit_code == 2


def test_requests_are_judged_by_what_they_ask_for(folders: Path) -> None:
    def asks(path: str) -> dict[str, Any]:
        http = {"method": "GET", "url": f"http://api{path}", "protocol": "HTTP/1.1"}
        return hubble(WEB, API, l7={"type": "REQUEST", "http": http}, Type="L7")

    exchange = HttpExchange(method="POST", path="/public/1", host="api", code=200)
    mine = ours(http=exchange) | {"source": WEB}
    done = run(
        folders, "cut", "gets", lines(asks("/public/a"), asks("/private/17"), mine), "-o", "json"
    )
    rows = json.loads(done.stdout)["cut"]["rows"]
    assert [row["request"] for row in rows] == ["GET /private/{number}", "POST /public/{number}"]


def test_markdown_of_an_export_is_no_markup(folders: Path) -> None:
    evil = pod("monitoring", "x") | {"workloads": [{"name": "a|b<script>[x](y)\n"}]}
    evil["labels"] = PROMETHEUS["labels"]
    done = run(folders, "open", "cut", lines(hubble(evil, API)), "-o", "markdown")
    assert done.exit_code == 1
    assert r"monitoring/a\|b\<script\>\[x\](y) " in done.stdout


def test_what_stands_for_no_flow_is_counted_by_its_reason() -> None:
    reader = ExportReader(EndReader())
    audit = ours(verdict=FlowVerdict.AUDIT, shadow=Shadow.CANDIDATE, cause=Cause.WOULD_DENY)
    nobody = hubble(WEB, {"identity": 0})
    no_port = hubble(WEB, API)
    no_port["flow"].pop("l4")
    reader.feed(
        lines(audit, nobody, no_port, hubble(WEB, API, is_reply=None))
        + b"{broken\n"
        + lines(hubble(WEB, API), hubble(WEB, OUTSIDE, 443))
    )
    found = reader.observed
    assert found.skipped == dict.fromkeys(
        [Skipped.SHADOW, Skipped.ENDS, Skipped.PROTOCOL, Skipped.DIRECTION, Skipped.UNREADABLE], 1
    )
    assert {found.ends[n].name for n, _ in found.sources} == {"shop/api", "10.0.0.2"}
    refused = hubble(WEB, API, is_reply=None, verdict="DROPPED")
    judged = hubble(WEB, API, is_reply=None, event_type={"type": 5})
    reader.feed(lines(refused, judged))
    assert len(found) == 4


@pytest.mark.parametrize("after", [0, 9 << 20])
def test_a_line_without_an_end_is_refused_in_any_part(tmp_path: Path, after: int) -> None:
    path = tmp_path / "flows.json"
    path.write_bytes(lines(hubble(WEB, API)) + b"\n" * after + b"x" * (3 << 20))
    with pytest.raises(StalledError, match="is longer than"):
        replay_file(path, [], [])


def test_a_process_that_is_killed_half_way_is_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "flows.json"
    path.write_bytes(lines(hubble(WEB, API)) + b"\n" * (5 << 20))
    own = os.getpid()

    def die(*_: object) -> None:
        if os.getpid() != own:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(ExportReader, "feed", die)
    with pytest.raises(StalledError, match="was ended"):
        replay_file(path, [], [], processes=2)


def in_any_order(numbers: range) -> bytes:
    """An export whose lines go to many workloads, some of them over and over."""
    return lines(
        *[
            hubble(pod("shop", f"web-{n % 5}"), pod("shop", "api", number=n % 7), n % 11)
            for n in numbers
        ]
    )


def test_lines_between_any_two_places_are_there_once(tmp_path: Path) -> None:
    export = in_any_order(range(1, 30))
    path = tmp_path / "flows.json"
    path.write_bytes(export)
    step = len(export) // 70  # many times within one line
    with path.open("rb") as file:
        found = [
            block
            for start in range(0, len(export), step)
            for block in lines_between(file, start, start + step)
        ]
    assert b"".join(found) == export


@pytest.mark.parametrize("form", ["plain", "packed", "pipe"])
def test_several_processes_find_what_one_finds(
    tmp_path: Path, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 2_000)
    monkeypatch.setattr(blocks, "TURN_BYTES", 10_000)
    export = in_any_order(range(1, 400))
    path = tmp_path / "flows.json"
    path.write_bytes(export)
    before = policies_of(OPEN)
    alone = replay_file(path, before, [], processes=1)
    path.write_bytes(gzip.compress(export) if form == "packed" else export)
    with subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE) as sent:
        assert sent.stdout is not None
        pipe = Path(f"/dev/fd/{sent.stdout.fileno()}")
        together = replay_file(pipe if form == "pipe" else path, before, [], processes=3)
    assert (alone.flows, alone.total(Kind.OPENED)) == (399, 399)
    assert together == alone


def test_how_much_is_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "TURN_BYTES", 10_000)
    path = tmp_path / "flows.json"
    path.write_bytes(in_any_order(range(1, 100)))
    told: list[tuple[int, int]] = []
    replay_file(path, [], [], processes=2, progress=lambda *read: told.append(read))
    assert told[-1] == (path.stat().st_size, path.stat().st_size)


def test_an_interrupted_preview_does_not_say_that_flows_change(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ExportReader, "feed", interrupted)
    done = run(folders, "open", "cut", lines(hubble(WEB, API)))
    assert (done.exit_code, done.stderr) == (2, "tidegate: interrupted\n")


def test_only_the_worst_rows_are_listed_and_the_others_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (rows, by_workload):
        monkeypatch.setattr(module, "MAX_ROWS", 3)
    path = tmp_path / "flows.json"
    path.write_bytes(
        lines(*[hubble(pod("shop", f"web-{n}"), API) for n in range(1, 20) for _ in range(n)])
    )
    for processes in (1, 2):
        found = replay_file(path, policies_of(OPEN), [], processes=processes)
        listed = [(key.source, count) for key, count in found.rows(Kind.OPENED)]
        assert listed == [("shop/web-19", 19), ("shop/web-18", 18), ("shop/web-17", 17)]
        assert (found.total(Kind.OPENED), len(found.by)) == (190, 3)


@pytest.mark.parametrize("left", [-1, -9, 40])
def test_half_a_packed_export_is_no_answer(tmp_path: Path, left: int) -> None:
    path = tmp_path / "flows.json.gz"
    path.write_bytes(gzip.compress(in_any_order(range(1, 20)))[:left])
    with pytest.raises(StalledError, match="in the middle"):
        replay_file(path, [], [])
