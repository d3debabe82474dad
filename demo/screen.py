"""What the demo shows.

In:   rows, flows, findings
Out:  text on the terminal
Shell: owns the console.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table

from demo.observation import Connection, Row, SeenFlow, Verdict
from demo.outcome import Outcome

SHOWN_FLOWS: Final = 6
"""A sample; all of them are compared."""
FILE_WIDTH: Final = 120
"""Where there is no terminal that has a width."""


class Screen:
    """Prints scenes and counts what differed."""

    def __init__(self, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        if not self._console.is_terminal:
            self._console.width = FILE_WIDTH
        self._begun = time.monotonic()
        self._checked = 0
        self.differences: list[str] = []
        self._scene = ""

    @property
    def elapsed_seconds(self) -> float:
        """Since the demo began."""
        return time.monotonic() - self._begun

    def scene(self, letter: str, title: str) -> None:
        """Open a scene."""
        self._scene = letter
        self._console.print()
        self._console.rule(f"[bold]{letter}. {escape(title)}[/]", align="left", style="blue")

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that something is under way, then how long it took."""
        begun = time.monotonic()
        with self._console.status(escape(text)):
            yield
        took = time.monotonic() - begun
        self._console.print(
            f"  [dim]{self.elapsed_seconds:6.1f}s[/]  {escape(text)} [dim]({took:.2f} s)[/]"
        )

    def say(self, text: str) -> None:
        """One indented line, or several."""
        for line in text.splitlines():
            self._console.print(f"          {line}", soft_wrap=True, markup=False)

    def check(self, claim: str, holds: bool, *, detail: str = "") -> None:
        """State a claim and whether it holds; one that does not is a difference."""
        self._checked += 1
        mark = "[green]✓[/]" if holds else "[bold red]✗[/]"
        shown = f" [dim]({escape(detail)})[/]" if detail else ""
        self._console.print(f"        {mark} {escape(claim)}{shown}", soft_wrap=True)
        if not holds:
            self.differences.append(f"{self._scene}. {claim}" + (f" ({detail})" if detail else ""))

    def quote(self, title: str, text: str) -> None:
        """Text as another program wrote it."""
        self._console.print(Panel(escape(text.rstrip()), title=escape(title), title_align="left"))

    def rows(self, rows: Sequence[Row]) -> None:
        """The table of a scene; every row that differs is a difference."""
        table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
        for heading in (
            "from",
            "to",
            "expected",
            "IPv4",
            "IPv6",
            "denied by, as the kernel reported",
        ):
            table.add_column(heading)
        for row in rows:
            self._checked += 1
            expected = row.expectation
            to = f"{expected.destination.name}:{expected.destination.port}"
            table.add_row(
                expected.source.name,
                to,
                "allow" if expected.allowed else "deny",
                *(_observed(row, connection) for connection in row.connections),
                escape(", ".join(sorted(_blamed(row)))),
            )
            if not row.is_as_expected:
                self.differences.append(f"{self._scene}. {expected.source.name} → {to}")
        self._console.print(table)

    def flows(self, flows: Sequence[SeenFlow]) -> None:
        """A sample of the flows, denials first."""
        dropped = [flow for flow in flows if flow.verdict == Verdict.DROPPED]
        forwarded = [flow for flow in flows if flow.verdict == Verdict.FORWARDED]
        shown = _of_different_pairs(dropped)[: SHOWN_FLOWS - 1]
        shown += _of_different_pairs(forwarded)[: SHOWN_FLOWS - len(shown)]
        for flow in shown:
            style = "red" if flow.verdict == Verdict.DROPPED else "green"
            self._console.print(f"          [{style}]{escape(flow.text)}[/]", soft_wrap=True)
        self.say(f"… of {len(dropped)} denied and {len(forwarded)} forwarded flows")

    def summary(self) -> bool:
        """The last words; True if all was as expected."""
        self._console.print()
        self._console.rule("[bold]Summary[/]", align="left", style="blue")
        for difference in self.differences:
            self._console.print(f"  [bold red]✗[/] {escape(difference)}", soft_wrap=True)
        if not self.differences:
            self._console.print(f"  [green]✓[/] all {self._checked} observations were as expected")
        return not self.differences


def _of_different_pairs(flows: Sequence[SeenFlow]) -> list[SeenFlow]:
    """The first flow of each pair."""
    first: dict[tuple[str, str], SeenFlow] = {}
    for flow in flows:
        first.setdefault((flow.source, flow.destination), flow)
    return list(first.values())


def _observed(row: Row, connection: Connection) -> str:
    allowed = connection.outcome is Outcome.ANSWERED
    right = allowed == row.expectation.allowed and connection.outcome in (
        Outcome.ANSWERED,
        Outcome.TIMEOUT,
    )
    colour = ("green" if allowed else "yellow") if right else "bold red"
    word = {Outcome.ANSWERED: "allow", Outcome.TIMEOUT: "deny"}.get(
        connection.outcome, connection.outcome.value
    )
    return f"[{colour}]{word}[/]"


def _blamed(row: Row) -> frozenset[str]:
    return frozenset().union(*(connection.blamed for connection in row.connections))
