"""`tidegate run`: the reconciler itself, standalone or in a cluster.

Shell over signals and the clock.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click
import structlog

from netpolicy import crash_reports
from netpolicy.errors import StalledError, TransientError
from netpolicy.logs import configure_logs
from reconciler.app import Reconciler, standalone
from reconciler.cli_answers import NO_CLIENT, fail
from reconciler.config import ReconcilerConfig, load_config


@click.command()
@click.option(
    "--config", "path", type=click.Path(path_type=Path), required=True, help="reconciler.yaml."
)
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
        fail(str(error))


def _run_in_cluster(
    config: ReconcilerConfig,
    namespace: str,
    kubeconfig: Path | None,
    *,
    identity: str | None,
    host: str,
) -> None:
    # Standalone does without the Kubernetes client, which is not installed everywhere.
    try:
        from reconciler.in_cluster import ClusterOptions, run_in_cluster  # noqa: PLC0415
    except ModuleNotFoundError:
        fail(NO_CLIENT)
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
