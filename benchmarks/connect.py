"""What policy costs a real connection: connect+request and request rates, against no policy and nft.

In:   two pods on a node; no policy, Tidegate on both interfaces, an nft set in the forward path
Out:  microseconds a transaction for each, and ratios to no policy
Shell. The cases take turns within one run, so that what else the machine does meets all alike.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Final

from benchmarks.datapath_world import (
    CLIENT_ID,
    CLIENT_IDENTITY,
    PORT,
    SERVER_ID,
    SERVER_IDENTITY,
    generation_of,
    label_of,
    loaded_datapath,
)
from benchmarks.pods import CLIENT, SERVER, Pod, two_pods
from benchmarks.report import Result
from nodeagent.datapath import Datapath
from nodeagent.plan.generation import AddressPlan, LocalEndpoint

ENTRIES: Final = 10_000
SECONDS: Final = 0.5
ROUNDS: Final = 12
TARGET: Final = 1.25
"""Times no policy's. The gap to nft's is noise of this kind of machine; a linear rule list is not."""

_SOURCE: Final = Path(__file__).with_name("connect_request.c")

Case = Callable[[], AbstractContextManager[None]]


def run() -> list[Result]:
    """Measure."""
    with loaded_datapath() as datapath, two_pods() as (client, server), _program() as program:
        _enforce(datapath, client, server)
        cases: dict[str, Case] = {
            "no policy": nullcontext,
            "tidegate": lambda: _attached(datapath, client, server),
            "nft set": _nft_set,
        }
        with _serving(program, server):
            connect = _rounds(cases, program, client)
            request = _rounds(cases, program, client, "keep")
    return _results("connect+request", connect) + _results("request, kept alive", request)


def _results(what: str, taken: Mapping[str, float]) -> list[Result]:
    free = taken["no policy"]
    results = [Result(metric=f"{what}, no policy", value=free, unit="µs")]
    for case in ("nft set", "tidegate"):
        results.append(
            Result(
                metric=f"{what}, {case}, {ENTRIES:,} entries",
                value=taken[case],
                unit="µs",
                baseline=free,
                target=TARGET if case == "tidegate" else None,
            )
        )
    return results


def _rounds(cases: Mapping[str, Case], program: Path, client: Pod, *mode: str) -> dict[str, float]:
    """Microseconds a transaction: the least disturbed of several rounds, taken in turns."""
    taken: dict[str, list[float]] = {case: [] for case in cases}
    for _ in range(ROUNDS):
        for case, applied in cases.items():
            with applied():
                taken[case].append(1e6 / _rate(program, client, *mode))
    return {case: min(values) for case, values in taken.items()}


def _rate(program: Path, client: Pod, *mode: str) -> float:
    command = client.enter(str(program), "client", SERVER, str(PORT), str(SECONDS), *mode)
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@contextmanager
def _program() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as directory:
        program = Path(directory) / "connect_request"
        subprocess.run(["clang", "-O2", str(_SOURCE), "-o", str(program)], check=True)
        yield program


@contextmanager
def _serving(program: Path, server: Pod) -> Iterator[None]:
    command = server.enter(str(program), "server", SERVER, str(PORT))
    with subprocess.Popen(command, stdout=subprocess.PIPE) as serving:
        if serving.stdout is None or not serving.stdout.readline():
            raise RuntimeError("the server does not listen")
        try:
            yield
        finally:
            serving.kill()


def _enforce(datapath: Datapath, client: Pod, server: Pod) -> None:
    """Client → server on one port, among many entries; nothing else."""
    exact = {CLIENT: CLIENT_IDENTITY, SERVER: SERVER_IDENTITY}
    datapath.upsert_addresses(AddressPlan(exact=exact, prefixes={"0.0.0.0/0": 2, "::/0": 2}))
    for pod, number, identity in (
        (client, CLIENT_ID, CLIENT_IDENTITY),
        (server, SERVER_ID, SERVER_IDENTITY),
    ):
        endpoint = LocalEndpoint(
            endpoint_id=number,
            identity=identity,
            interface="",
            namespace="bench",
            name=str(number),
            addresses=(pod.address,),
        )
        datapath.set_endpoint(endpoint, pod.ifindex)
    generation = generation_of(ENTRIES)
    datapath.activate(datapath.fill(generation, label=label_of(generation)))


@contextmanager
def _attached(datapath: Datapath, *pods: Pod) -> Iterator[None]:
    for pod in pods:
        datapath.attach(pod.ifindex)
    try:
        yield
    finally:
        for pod in pods:
            datapath.detach(pod.ifindex)


@contextmanager
def _nft_set() -> Iterator[None]:
    """The same rule as a set of address pairs with a port, and connection tracking as is usual."""
    padding = (f"10.{91 + n // 65536}.{n // 256 % 256}.{n % 256} . {SERVER} . {PORT}"
               for n in range(ENTRIES - 1))  # fmt: skip
    elements = ", ".join([f"{CLIENT} . {SERVER} . {PORT}", *padding])
    rules = f"""
        table ip bench {{
            set allowed {{
                type ipv4_addr . ipv4_addr . inet_service
                elements = {{ {elements} }}
            }}
            chain forward {{
                type filter hook forward priority 0; policy drop;
                ct state established,related accept
                ip saddr . ip daddr . tcp dport @allowed accept
            }}
        }}"""
    subprocess.run(["nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "ip", "bench"], check=True)
