"""Run tests, or any command, under another kernel.

    python -m tests.vm --kernel 6.1 tests/kernel/test_three_engines.py -x
    python -m tests.vm --kernel 6.12 --run uname -r

Without a KVM that runs any kernel, the processor is emulated: everything takes some ten times as long.
"""

from __future__ import annotations

import signal
import subprocess
import sys

import click

from tests.vm.kernels import SERIES, kernel
from tests.vm.machine import MachineError, accelerator, run_in_machine

UNSAVED = ("-p", "no:cacheprovider")
PYTEST = (sys.executable, "-m", "pytest", "-q", "--color=no", *UNSAVED, "-o", "timeout=1500")


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--kernel", "series", type=click.Choice(tuple(SERIES)), default="6.1")
@click.option("--seconds", default=3000.0, show_default=True, help="how long it may take at most")
@click.option("--run", is_flag=True, help="WORDS are a command, not pytest's arguments")
@click.argument("words", nargs=-1, required=True, type=click.UNPROCESSED)
def main(series: str, seconds: float, run: bool, words: tuple[str, ...]) -> None:
    """Run pytest with WORDS, or the command WORDS, as root of a virtual machine with this tree's files."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by a signal"))  # so that it cleans up
    found = kernel(series)
    print(f"Linux {found.release}, {accelerator()}", file=sys.stderr)
    command = [*words] if run else [*PYTEST, *words]
    try:
        sys.exit(run_in_machine(found, command, seconds=seconds))
    except subprocess.TimeoutExpired:
        sys.exit(f"not done after {seconds:.0f} s: ended")
    except MachineError as error:
        sys.exit(f"the virtual machine ended before its command did:\n{error}")


if __name__ == "__main__":
    main()
