"""Do one kind of work in several processes, and hand back what each of them found.

In:   a function of a process's number; how many processes
Out:  what it returned, in the order of those numbers
Shell over processes, forked: they know what the caller knows without being sent it, and end with the call.

Holds always:
1. A process that ends without an answer is no answer: StalledError.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkContext
from multiprocessing.process import BaseProcess
from typing import Any, Final, TypeVar

from netpolicy.errors import StalledError

LOOK_SECONDS: Final = 0.2
T = TypeVar("T")


def context() -> ForkContext:
    """What shares numbers with the processes."""
    return multiprocessing.get_context("fork")


def in_processes(
    work: Callable[[int], T], processes: int, *, look: Callable[[], None] | None = None
) -> list[T]:
    """`look` is called now and then while they work. With one process, this one does it."""
    if processes == 1:
        return [work(0)]
    started: list[tuple[BaseProcess, Connection]] = []
    try:
        for number in range(processes):
            started.append(_start(work, number))
        return _answers([answers for _, answers in started], look)
    finally:
        for process, answers in started:
            answers.close()
            process.kill()
            process.join()


def _start(work: Callable[[int], T], number: int) -> tuple[BaseProcess, Connection]:
    answers, told = context().Pipe(duplex=False)
    process = context().Process(target=_work, args=(work, number, told), daemon=True)
    process.start()
    told.close()  # so that its end is the pipe's end
    return process, answers


def _work(work: Callable[[int], T], number: int, told: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller is interrupted, and ends this
    try:
        answer: T | StalledError | OSError = work(number)
    except (StalledError, OSError) as error:
        answer = error
    told.send(answer)


def _answers(pipes: list[Connection], look: Callable[[], None] | None) -> list[Any]:
    """The first that fails ends them all: another may wait for what it held."""
    found: dict[int, Any] = {}
    while len(found) < len(pipes):
        waiting = [pipe for number, pipe in enumerate(pipes) if number not in found]
        ready = wait(waiting, LOOK_SECONDS)
        for number, pipe in enumerate(pipes):
            if pipe in ready:
                found[number] = _answer(pipe)
        if look is not None:
            look()
    return [found[number] for number in range(len(pipes))]


def _answer(pipe: Connection) -> Any:
    try:
        answer = pipe.recv()
    except EOFError:
        raise StalledError("a process that did a part of it was ended; memory?") from None
    if isinstance(answer, (StalledError, OSError)):
        raise answer
    return answer
