"""`python -m tests.fuzz.run`: feed hostile inputs to every reader for so many seconds.

With atheris where it can be imported (it is led by the code's own branches), else with the mutator
beside this file. An input that breaks a reader is written to build/fuzz/; the exit code is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import random
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.fuzz.mutate import MAX_BYTES, mutate
from tests.fuzz.target import ROOT, Target
from tests.fuzz.targets import all_targets

FAILURES = ROOT / "build" / "fuzz"
MAX_CPU_SECONDS = 5.0
"""For one input of at most 16 KiB, on a slow machine; most take a millisecond."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """An input that a reader could not stand, and why."""

    target: str
    data: bytes
    error: str


def try_input(target: Target, data: bytes) -> Failure | None:
    """Feed one input; what is raised, or takes too long, is a failure."""
    begun = time.process_time()
    try:
        target.feed(data)
    except Exception:  # noqa: BLE001  whatever it is: that is what we are here to find
        return Failure(target=target.name, data=data, error=traceback.format_exc())
    taken = time.process_time() - begun
    if taken > MAX_CPU_SECONDS:
        return Failure(target=target.name, data=data, error=f"took {taken:.1f} s of CPU time")
    return None


def fuzz(
    target: Target, *, seed: int, seconds: float = float("inf"), runs: int = sys.maxsize
) -> Failure | None:
    """Feed the seeds, then mutations of them, until one fails, or the time or the runs are over."""
    rng = random.Random(seed)
    until = time.monotonic() + seconds
    for number in range(runs):
        if time.monotonic() > until:
            break
        is_seed = number < len(target.seeds)
        data = target.seeds[number] if is_seed else mutate(rng, target.seeds, target.words)
        if failure := try_input(target, data[:MAX_BYTES]):
            return failure
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz what is asked for; the time is shared evenly."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=None, help="of the random choices (printed)")
    parser.add_argument("--engine", choices=("auto", "atheris", "mutator"), default="auto")
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    asked = parser.parse_args(arguments)
    names = asked.targets or list(all_targets())
    if unknown := set(names) - set(all_targets()):
        parser.error(
            f"no target {', '.join(sorted(unknown))}; there are {', '.join(all_targets())}"
        )
    has_atheris = importlib.util.find_spec("atheris") is not None
    uses_atheris = asked.engine == "atheris" or (asked.engine == "auto" and has_atheris)
    seed = asked.seed if asked.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"engine {'atheris' if uses_atheris else 'mutator'}, seed {seed}", flush=True)
    share = asked.seconds / len(names)
    failed = 0
    for name in names:
        if uses_atheris:
            passed = _run_atheris(name, seconds=share, seed=seed)
        else:
            passed = _report(name, fuzz(all_targets()[name], seed=seed, seconds=share))
        failed += not passed
    return 1 if failed else 0


def _report(name: str, failure: Failure | None) -> bool:
    if failure is None:
        print(f"{name}: nothing found", flush=True)
        return True
    FAILURES.mkdir(parents=True, exist_ok=True)
    path = FAILURES / f"{name}-{hashlib.sha256(failure.data).hexdigest()[:12]}"
    path.write_bytes(failure.data)
    print(f"{name}: FAILED on {path}\n{failure.error}", flush=True)
    return False


def _run_atheris(name: str, *, seconds: float, seed: int) -> bool:
    """A process for each target, for atheris ends the one that it runs in."""
    command = [sys.executable, "-m", "tests.fuzz.with_atheris", name]
    limits = [f"-max_total_time={max(1, round(seconds))}", f"-max_len={MAX_BYTES}"]
    options = [f"-seed={seed or 1}", f"-timeout={round(MAX_CPU_SECONDS)}", "-rss_limit_mb=1024"]
    FAILURES.mkdir(parents=True, exist_ok=True)
    prefix = f"-artifact_prefix={FAILURES / name}-"
    done = subprocess.run([*command, *limits, *options, prefix, str(_corpus(name))], check=False)
    return done.returncode == 0


def _corpus(name: str) -> Path:
    """The folder that a target's seeds are in, and what atheris adds to them."""
    folder = FAILURES / "corpus" / name
    folder.mkdir(parents=True, exist_ok=True)
    for data in all_targets()[name].seeds:
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    return folder


if __name__ == "__main__":
    sys.exit(main())
