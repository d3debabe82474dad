"""`tidegate explain`: the verdict on one flow, and the chain of rules behind it.

Shell over the local disk. Exit codes: 0 allowed, 1 denied, 2 it could not be told.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from netpolicy.errors import Place, StalledError, TransientError, render
from netpolicy.evaluate import Flow
from netpolicy.inventory import Inventory
from netpolicy.inventory_file import decode_inventory
from netpolicy.l7 import Request
from netpolicy.port_argument import parse_port
from netpolicy.rules import Policy
from reconciler import workspace
from reconciler.explain.chain import Explanation, explain_flow
from reconciler.explain.ends import NamedEnd, resolve_ends
from reconciler.explain.requests import parse_dns, parse_http, parse_kafka
from reconciler.explain.text import explanation_data, explanation_text
from reconciler.judge import JudgeCache, judge
from reconciler.objects import read_policies
from reconciler.objects.origin import origin_path
from reconciler.objects.policy import PolicyObject
from reconciler.workspace_options import inventory_option, repository_option

ALLOWED: Final = 0
DENIED: Final = 1
CANNOT_TELL: Final = 2


@click.command()
@click.argument("source", metavar="FROM")
@click.argument("destination", metavar="TO")
@click.argument("port")
@click.argument("where", default=".")
@click.option("--http", help='What an HTTP request asks: "GET /path" or "GET http://host/path".')
@click.option("--header", "headers", multiple=True, help='A header of it: "Name: value".')
@click.option("--dns", help="The name that a DNS question asks for.")
@click.option("--kafka", help='What a Kafka request asks: "produce TOPIC".')
@click.option("--sni", help="The server name that a TLS connection asks for.")
@inventory_option
@repository_option
@click.option("--whole", is_flag=True, help="Also show rules that are far from matching.")
@click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text",
    show_default=True, help="For people, or for machines.",
)  # fmt: skip
def explain(
    *,
    source: str,
    destination: str,
    port: str,
    where: str,
    http: str | None,
    headers: Sequence[str],
    dns: str | None,
    kafka: str | None,
    sni: str | None,
    inventory_path: Path | None,
    repository: Path,
    whole: bool,
    form: str,
) -> None:
    """Say whether FROM may reach PORT of TO by the policies in WHERE (a folder or a revision), and why.

    FROM and TO are NAMESPACE/POD or an address (with --inventory), a DNS name, an entity (world, host), or
    labels. Without a request, what a proxy would judge is left open.
    Exits 0 if allowed, 1 if denied, 2 if it cannot be told.

    \b
    Examples:
      tidegate explain app=web,ns=shop app=db,ns=shop 5432
      tidegate explain --inventory inventory.yaml shop/web-1 10.0.1.7 tcp/5432 HEAD
      tidegate explain world app=web,ns=shop udp/53
      tidegate explain app=web,ns=shop app=api,ns=shop 80 --http "GET /orders"
    """
    try:
        inventory = read_inventory(inventory_path)
        ends = resolve_ends(source, destination, inventory)
        protocol, number = parse_port(port)
        flow = Flow(
            source=ends[0].end,
            destination=ends[1].end,
            protocol=protocol,
            port=number,
            request=_request(http, headers, dns, kafka),
            server_name=sni,
        )
        explanation = _explained(flow, ends, *_policies(where, repository, inventory))
    except (StalledError, TransientError) as error:
        click.echo(f"tidegate: {error}", err=True)
        sys.exit(CANNOT_TELL)
    if form == "json":
        click.echo(json.dumps(explanation_data(explanation), indent=2))
    else:
        click.echo(explanation_text(explanation, whole=whole))
    sys.exit(ALLOWED if explanation.decision.allowed else DENIED)


def _explained(
    flow: Flow,
    ends: tuple[NamedEnd, NamedEnd],
    objects: Sequence[PolicyObject],
    policies: Sequence[Policy],
) -> Explanation:
    written = {(policy.id, policy.index): policy for policy in objects}

    def place(policy: Policy, origin: str) -> Place | None:
        found = written.get((policy.id, policy.index))
        return found.document.place(origin_path(found, origin)) if found else None

    return explain_flow(policies, flow, ends=ends, where=place)


def _request(
    http: str | None, headers: Sequence[str], dns: str | None, kafka: str | None
) -> Request | None:
    if sum(asked is not None for asked in (http, dns, kafka)) > 1:
        raise StalledError("a flow carries requests of one protocol: give --http, --dns or --kafka")
    if headers and http is None:
        raise StalledError("--header belongs to a request: give --http too")
    if http is not None:
        return parse_http(http, headers)
    if dns is not None:
        return parse_dns(dns)
    return None if kafka is None else parse_kafka(kafka)


def _policies(
    where: str, repository: Path, inventory: Inventory | None
) -> tuple[Sequence[PolicyObject], list[Policy]]:
    """The policies as written and as compiled; a refused revision enforces nothing to explain."""
    files = workspace.load(where, repository)
    cache = JudgeCache()
    cluster = inventory.cluster if inventory else Inventory().cluster
    verdict = judge(files.files, cluster=cluster, cache=cache, found=files.diagnostics)
    if not verdict.accepted:
        click.echo("\n\n".join(map(render, verdict.diagnostics)), err=True)
        raise StalledError(f"{where} is refused, so it decides nothing; mend it first")
    objects = read_policies(files.files, cache=cache.readings).objects
    return objects, [policy for unit in verdict.units for policy in unit.policies]


def read_inventory(path: Path | None) -> Inventory | None:
    """The inventory in a file; raises StalledError (the faults are shown) if it holds none."""
    if path is None:
        return None
    try:
        inventory, faults = decode_inventory(str(path), path.read_bytes())
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}") from error
    if inventory is None:
        click.echo("\n\n".join(map(render, faults)), err=True)
        raise StalledError(f"{path}: not an inventory")
    return inventory
