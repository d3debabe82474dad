"""`nodeagent bpf`: what the kernel holds, read from the pinned maps. Works without the agent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from netpolicy.drop_reasons import drop_reason
from netpolicy.evidence import ASKED, Shadow
from netpolicy.flow import protocol_word
from nodeagent.cli_options import config_option, fail, output_option, read_config

if TYPE_CHECKING:
    from nodeagent.datapath import Datapath, KernelDifference
    from nodeagent.datapath.flow_table import ConntrackEntry
    from nodeagent.policy_rows import PolicyRow


@click.group()
def bpf() -> None:
    """What the kernel holds, read from its maps; works without the agent."""


@bpf.group("policy")
def bpf_policy() -> None:
    """The active generation's policy map."""


@bpf_policy.command("get")
@click.argument("endpoint", required=False)
@config_option
@output_option("table", "json")
def bpf_policy_get(endpoint: str | None, config_path: Path, output: str) -> None:
    """Show the active entries: of all tables, or of ENDPOINT's (its id).

    \b
    Examples:
      nodeagent bpf policy get
      nodeagent bpf policy get 4711 -o json
    """
    from nodeagent import cli_render  # noqa: PLC0415
    from nodeagent.policy_rows import policy_rows  # noqa: PLC0415

    with _datapath(config_path) as datapath:
        active = datapath.control().active
        if active is None:
            fail("no generation is active: the kernel refuses every packet of every pod")
        policy, class_of, port_class_of, tables = datapath.read_generation(active)
    table = None
    if endpoint is not None:
        known = {str(number): found.table for number, found in tables.items()}
        if endpoint not in known:
            fail(f'no endpoint "{endpoint}" in the kernel; known: {", ".join(sorted(known))}')
        table = known[endpoint]
    rows = policy_rows(policy, class_of, port_class_of, identities={}, table=table)
    if output == "json":
        cli_render.print_json([_row_fields(row) for row in map(asdict, rows)])
        return
    cli_render.print_table(
        ("TABLE", "DIRECTION", "VERDICT", "CLASS", "IDENTITIES", "PORTS", "COOKIE"),
        (
            (
                row.table,
                row.direction.word,
                _row_verdict(row),
                row.peer_class,
                cli_render.peers_text(row.peers, row.peer_count),
                row.ports,
                row.cookie,
            )
            for row in rows
        ),
    )


def _row_verdict(row: PolicyRow) -> str:
    word = row.verdict.name.lower()
    return f"{word} to {row.proxy_port}" if row.proxy_port else word


@bpf.group("ct")
def bpf_ct() -> None:
    """The conntrack table."""


@bpf_ct.command("list")
@config_option
@output_option("table", "json")
def bpf_ct_list(config_path: Path, output: str) -> None:
    """List the flows that the kernel tracks.

    \b
    Example:
      nodeagent bpf ct list
    """
    from nodeagent import cli_render  # noqa: PLC0415

    with _datapath(config_path) as datapath:
        entries = sorted(
            datapath.read_conntrack(), key=lambda entry: entry.last_seen_ns, reverse=True
        )
    if output == "json":
        cli_render.print_json([_flow_fields(entry) for entry in entries])
        return
    now_ns = time.monotonic_ns()
    cli_render.print_table(
        ("ENDPOINT", "DIRECTION", "REMOTE", "LOCAL PORT", "PROTOCOL", "VERDICT", "REVISION",
         "IDLE", "OUT PACKETS", "BACK PACKETS"),
        (
            (
                entry.endpoint_id,
                entry.direction.word,
                f"{entry.remote} {entry.remote_port}",
                entry.local_port,
                protocol_word(entry.protocol),
                _verdict_word(entry),
                entry.revision,
                f"{(now_ns - entry.last_seen_ns) / 1e9:.1f} s",
                entry.forward_packets,
                entry.reply_packets,
            )
            for entry in entries
        ),
    )  # fmt: skip


@bpf.group("shadow")
def bpf_shadow() -> None:
    """What a candidate and a preview would judge otherwise than what is enforced."""


@bpf_shadow.command("list")
@config_option
@output_option("table", "json")
def bpf_shadow_list(config_path: Path, output: str) -> None:
    """List what the kernel counted, the most frequent first.

    \b
    Example:
      nodeagent bpf shadow list
    """
    from nodeagent import cli_render  # noqa: PLC0415

    with _datapath(config_path) as datapath:
        found = [_shadow_fields(datapath, shadow) for shadow in ASKED]
    if output == "json":
        cli_render.print_json(found)
        return
    for one in found:
        if one["slot"] is None:
            click.echo(f"{one['shadow']}: none")
            continue
        click.echo(
            f"{one['shadow']}: generation {one['generation'][:16]}, {one['flows']} flows judged, "
            f"{one['lost']} differences without room"
        )
        cli_render.print_table(
            ("COUNT", "CAUSE", "DIRECTION", "SOURCE", "DESTINATION", "PROTOCOL", "PORT", "REASON",
             "COOKIE"),
            (
                (
                    row["count"],
                    row["cause"],
                    row["direction"],
                    row["source_identity"],
                    row["destination_identity"],
                    row["protocol"],
                    row["port"],
                    drop_reason(row["reason"]).text if row["reason"] else "",
                    row["cookie"],
                )
                for row in one["differences"]
            ),
        )  # fmt: skip


def _shadow_fields(datapath: Datapath, shadow: Shadow) -> dict[str, Any]:
    slot = datapath.control().slot_of(shadow)
    label = None if slot is None else datapath.slot_label(slot)
    differences = sorted(datapath.read_differences(shadow), key=lambda one: -one.count)
    return {
        "shadow": shadow.word,
        "slot": slot,
        "generation": label.generation_digest if label else "",
        "commit": label.commit if label else "",
        "flows": sum(datapath.read_coverage(shadow).values()),
        "lost": datapath.lost_differences(shadow),
        "differences": [_difference_fields(one) for one in differences],
    }


def _difference_fields(difference: KernelDifference) -> dict[str, Any]:
    words = {
        "direction": difference.direction.word,
        "protocol": protocol_word(difference.protocol),
        "cause": str(difference.cause),
    }
    return asdict(difference) | words


def _flow_fields(entry: ConntrackEntry) -> dict[str, Any]:
    words = {
        "direction": entry.direction.word,
        "protocol": protocol_word(entry.protocol),
        "verdict": entry.verdict.name.lower(),
    }
    return asdict(entry) | words


def _verdict_word(entry: ConntrackEntry) -> str:
    verdict = entry.verdict.name.lower()
    if entry.reason:
        return f"{verdict} ({drop_reason(entry.reason).text})"
    return verdict + ", one way" * entry.is_one_way + ", directly" * entry.is_direct


def _row_fields(row: dict[str, Any]) -> dict[str, Any]:
    return row | {"direction": row["direction"].word, "verdict": row["verdict"].name.lower()}


@contextmanager
def _datapath(config_path: Path) -> Iterator[Datapath]:
    from nodeagent.app import datapath_config  # noqa: PLC0415
    from nodeagent.datapath import Datapath, DatapathError  # noqa: PLC0415

    config = read_config(config_path)
    try:
        with closing(Datapath.open(datapath_config(config))) as datapath:
            yield datapath
    except DatapathError as error:
        fail(f"the pinned maps cannot be read: {error}")
