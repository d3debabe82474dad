"""`tidegate`: run the reconciler, check policies, see what is enforced.

Shell. Exit codes: 0 fine, 1 the answer is "no" (refused, different, not ready), 2 it could not run.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import structlog

from netpolicy import crash_reports
from netpolicy.errors import StalledError, TransientError
from netpolicy.logs import configure_logs
from netpolicy.status import ConditionType
from reconciler import output, workspace
from reconciler.app import Reconciler, standalone
from reconciler.compile.difference import difference
from reconciler.config import ReconcilerConfig, load_config
from reconciler.encryption.cli import encrypt
from reconciler.explain.cli import explain, read_inventory
from reconciler.intents.cli import test
from reconciler.judge import Verdict, judge
from reconciler.preview.cli import preview
from reconciler.sarif import sarif_log
from reconciler.sign.keys_cli import keys
from reconciler.staging.cli import rollout
from reconciler.state import fleet, judgements, publications
from reconciler.state.database import Database
from reconciler.state.rollouts import rollout_of
from reconciler.terminal import print_parts
from reconciler.workspace_options import repository_option

OK: Final = 0
NO: Final = 1
CANNOT_RUN: Final = 2

DEFAULT_STATE_DIR: Final = "/var/lib/tidegate"

output_option = click.option(
    "-o", "--output", "form", type=click.Choice(["text", "json"]), default="text",
    show_default=True, help="For people, or for machines.",
)  # fmt: skip
state_option = click.option(
    "--state-dir", type=click.Path(path_type=Path), default=Path(DEFAULT_STATE_DIR),
    show_default=True, help="The reconciler's state directory.",
)  # fmt: skip
cluster_option = click.option(
    "--cluster", default="default", show_default=True, help="The local cluster's name."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tidegate")
def main() -> None:
    """GitOps for zero-trust network policy, enforced in the kernel.

    \b
    Examples:
      tidegate validate .                    check the policies in this folder
      tidegate diff main HEAD                what a branch would change
      tidegate test .                        do they do what tests/*.yaml says
      tidegate preview --flows flows.json    which flows of yesterday would be cut
      tidegate explain shop/web 10.0.0.1 443 --inventory inventory.yaml
                                             who lets it pass, or not, and why
      tidegate keys init keys --node node-a  make signing keys and certificates
      tidegate run --config reconciler.yaml  run the reconciler
      tidegate status                        what is published, and who enforces it
      tidegate rollout status                what a new revision would cut, and where it is
      tidegate encrypt status                how the nodes encrypt what they say to each other
    """


main.add_command(keys)
main.add_command(explain)
main.add_command(test)
main.add_command(preview)
main.add_command(rollout)
main.add_command(encrypt)


@main.command()
@click.option("--config", "path", type=click.Path(path_type=Path), required=True)
@click.option("--kubernetes", is_flag=True, help="The API server has inventory and repository.")
@click.option(
    "--namespace", default="tidegate-system", show_default=True, help="Where its objects are."
)
@click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="Without it: the pod's service account."
)
@click.option(
    "--identity", envvar="POD_NAME", help="A name that no other replica has.  [env: POD_NAME]"
)
@click.option(
    "--pod-address",
    envvar="POD_IP",
    default="127.0.0.1",
    help="Where other replicas reach it.  [env: POD_IP]",
)
@click.option("-v", "--verbose", is_flag=True, help="Log more.")
def run(
    *,
    path: Path,
    kubernetes: bool,
    namespace: str,
    kubeconfig: Path | None,
    identity: str | None,
    pod_address: str,
    verbose: bool,
) -> None:
    """Run the reconciler until it is told to stop.

    SIGHUP fetches at once (standalone); SIGTERM and Ctrl-C stop it. Agents go on enforcing without it.

    \b
    Examples:
      tidegate run --config /etc/tidegate/reconciler.yaml
      tidegate run --kubernetes --namespace tidegate-system --config /etc/tidegate/reconciler.yaml
    """
    os.umask(0o077)
    configure_logs(verbose=verbose)
    try:
        config = load_config(path, in_cluster=kubernetes)
        _report_crashes(config.sentry_dsn_file)
        if kubernetes:
            _run_in_cluster(config, namespace, kubeconfig, identity=identity, host=pod_address)
        else:
            asyncio.run(_serve(standalone(config)))
    except (StalledError, TransientError) as error:
        _fail(str(error))


def _run_in_cluster(
    config: ReconcilerConfig,
    namespace: str,
    kubeconfig: Path | None,
    *,
    identity: str | None,
    host: str,
) -> None:
    # Standalone does without the Kubernetes client, which is not installed everywhere.
    from reconciler.in_cluster import ClusterOptions, run_in_cluster  # noqa: PLC0415

    port = config.push.listen.rpartition(":")[2]
    options = ClusterOptions(
        namespace=namespace,
        identity=identity or f"{socket.gethostname()}-{os.getpid()}",
        address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}",
        kubeconfig=kubeconfig,
    )
    asyncio.run(_until_stopped(run_in_cluster(config, options)))


async def _serve(reconciler: Reconciler) -> None:
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reconciler.poke)
    await _until_stopped(reconciler.run())


async def _until_stopped(work: Coroutine[Any, Any, None]) -> None:
    """Run until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    loop.add_signal_handler(signal.SIGTERM, task.cancel)
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        await work
    except asyncio.CancelledError:
        return


@main.command()
@click.argument("where", default=".")
@repository_option
@cluster_option
@click.option(
    "-o",
    "--output",
    "form",
    type=click.Choice(["text", "json", "sarif"]),
    default="text",
    show_default=True,
    help="For people, for machines, or for a code host to annotate with.",
)
@click.option(
    "--inventory",
    "inventory_path",
    type=click.Path(path_type=Path),
    help="Who is in the cluster: also finds selectors, blocks and port names that match nobody.",
)
def validate(
    where: str, repository: Path, cluster: str, form: str, inventory_path: Path | None
) -> None:
    """Say whether the reconciler would accept a folder or a revision: every fault at once.

    The intents in tests/*.yaml are held, too: a revision that breaks one is refused (`tidegate test` shows
    each). Those that name pods need --inventory. Exits 0 if accepted, 1 if refused, 2 if it cannot be told.

    \b
    Examples:
      tidegate validate .               the working tree
      tidegate validate HEAD            the last commit
      tidegate validate --inventory inventory.yaml .
      tidegate validate -o json main    for a program to read
      tidegate validate -o sarif .      for a code host to show beside the lines
    """
    verdict = _judge(where, repository, cluster, inventory_path, hold_intents=True)
    if form == "json":
        _print_json(
            {
                "accepted": verdict.accepted,
                "policies": verdict.policy_count,
                "diagnostics": output.diagnostics_data(verdict.diagnostics),
            }
        )
    elif form == "sarif":
        _print_json(sarif_log(verdict.diagnostics))
    else:
        if verdict.diagnostics:
            click.echo(output.diagnostics_text(verdict.diagnostics) + "\n")
        click.echo(output.verdict_line(verdict.diagnostics, policies=verdict.policy_count))
    sys.exit(OK if verdict.accepted else NO)


@main.command()
@click.argument("before")
@click.argument("after")
@repository_option
@cluster_option
@output_option
def diff(before: str, after: str, repository: Path, cluster: str, form: str) -> None:
    """What changes between two folders or revisions, in policy terms.

    Exits 0 if nothing changes, 1 if something does, 2 if either side is refused.

    \b
    Examples:
      tidegate diff main HEAD
      tidegate diff -o json HEAD~1 HEAD
    """
    sides = [_judge(name, repository, cluster) for name in (before, after)]
    for name, side in zip((before, after), sides, strict=True):
        if not side.accepted:
            click.echo(output.diagnostics_text(side.diagnostics), err=True)
            _fail(f"{name} is refused; a difference needs two revisions that are accepted")
    found = difference(sides[0].units, sides[1].units)
    if form == "json":
        _print_json(found.to_data())
    else:
        click.echo(found.to_text())
    sys.exit(NO if found else OK)


@main.command()
@state_option
@output_option
def status(state_dir: Path, form: str) -> None:
    """What is published, what was refused and why, and what every agent enforces.

    Works beside a running reconciler and after it died. Exits 0 if Ready, else 1.

    \b
    Examples:
      tidegate status
      tidegate status -o json --state-dir /var/lib/tidegate
    """
    try:
        database = Database.open_read_only(state_dir)
    except StalledError as error:
        _fail(str(error))
    publication = publications.last_publication(database)
    enforced = rollout_of(database, publication.revision) if publication else None
    judged = judgements.last_judgement(database)
    shown = output.status_data(
        publication,
        judged,
        enforced.phase if enforced else "",
        fleet.conditions(database),
        fleet.agents(database),
    )
    if form == "json":
        _print_json(shown)
    else:
        faults = judged.diagnostics if judged and not judged.accepted else ()
        print_parts(output.status_parts(shown, faults))
    ready = any(c["type"] == ConditionType.READY and c["status"] for c in shown["conditions"])
    sys.exit(OK if ready else NO)


@main.command()
@click.argument("commit")
@state_option
def acknowledge(commit: str, state_dir: Path) -> None:
    """Accept a rewritten history that ends at COMMIT (all of its hexadecimal digits).

    A commit that does not descend from the enforced one is never followed by itself.

    \b
    Example:
      tidegate acknowledge 1f0c2a6d7b1e4f5a8c9d0e1f2a3b4c5d6e7f8091
    """
    if len(commit) not in (40, 64) or not all(c in "0123456789abcdef" for c in commit):
        _fail(f"{commit}: give the commit's whole hash, so that no other can be meant")
    try:
        Database.open_read_only(state_dir).close()  # a mistyped folder gets no state of its own
        database = Database.open(state_dir)
        judgements.acknowledge(database, commit, by=os.environ.get("USER", ""), now=time.time())
    except (StalledError, TransientError) as error:
        _fail(str(error))
    click.echo(f"{commit} is followed at the next poll")


def _judge(
    where: str,
    repository: Path,
    cluster: str,
    inventory_path: Path | None = None,
    *,
    hold_intents: bool = False,
) -> Verdict:
    try:
        files = workspace.load(where, repository)
        inventory = read_inventory(inventory_path)
    except (StalledError, TransientError) as error:
        _fail(str(error))
    return judge(
        files.files,
        cluster=cluster,
        inventory=inventory,
        found=files.diagnostics,
        hold_intents=hold_intents,
    )


def _report_crashes(dsn_file: Path | None) -> None:
    try:
        crash_reports.init("reconciler", dsn=_dsn(dsn_file))
    except ValueError as error:
        structlog.get_logger().error("crash_reports_off", error=str(error))


def _dsn(path: Path | None) -> str:
    if path is None:
        return crash_reports.dsn_from(os.environ)
    try:
        return path.read_text().strip()
    except OSError as error:
        raise StalledError(f"{path}: {error.strerror}") from error


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2, default=str))


def _fail(message: str) -> NoReturn:
    click.echo(f"tidegate: {message}", err=True)
    sys.exit(CANNOT_RUN)
