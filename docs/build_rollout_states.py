"""Write the page with the rollout's state diagram from the machine's own table.

Run from the root of the repository: python docs/build_rollout_states.py
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from reconciler.rollout.machine import NEXT, OVER, STAGES, TAKEN_BACK, Phase, Target, Turn

PAGE: Final = Path(__file__).parent / "rollout-states.md"
ORDER: Final = (Phase.SHADOW, Phase.CANARY, Phase.WAVE, Phase.PUBLISHED)
"""The way forward; a plan has all of the first three, none, or leaves out the second or third."""

WORDS: Final = {
    Turn.FORWARD: "the plan's next stage; behind the last one, Published",
    Turn.BACK_IN: "the stage in which it was halted",
    Turn.STAY: "stays",
}


def page() -> str:
    """The whole page."""
    return "\n".join(
        [
            "# The states of a rollout",
            "",
            "Made from the table in `reconciler/rollout/machine.py` by `docs/build_rollout_states.py`.",
            "What follows from each state for operators is in [operating/rollout.md](operating/rollout.md).",
            "",
            "```mermaid",
            *_diagram(),
            "```",
            "",
            f"Over, unless somebody undoes it, or nodes go back from a promoted one by themselves:"
            f" {_names(OVER)}. Taken back, and never applied again by"
            f" itself: {_names(TAKEN_BACK)}.",
            "",
            "| in | on | goes to |",
            "|---|---|---|",
            *_rows(),
            "",
        ]
    )


def _diagram() -> list[str]:
    edges: dict[tuple[Phase, Phase], list[str]] = defaultdict(list)
    for (phase, event), target in NEXT.items():
        for reached in _reached(phase, target):
            edges[phase, reached].append(event.__name__)
    lines = [
        f"    {phase} --> {reached}: {', '.join(events)}"
        for (phase, reached), events in edges.items()
    ]
    return ["stateDiagram-v2", f"    [*] --> {Phase.FETCHED}", *lines]


def _reached(phase: Phase, target: Target) -> tuple[Phase, ...]:
    """Where an event leads, drawn: a wave may follow a wave, and staying is not drawn."""
    match target:
        case Phase():
            return (target,)
        case Turn.STAY:
            return ()
        case Turn.BACK_IN:
            return ORDER[:-1]
    if phase in STAGES:
        behind = ORDER[ORDER.index(phase) + 1 :]
        return (Phase.WAVE, *behind) if phase is Phase.WAVE else behind
    is_beginning = phase in (Phase.VALIDATED, Phase.WAITING)
    return (Phase.SHADOW, Phase.PUBLISHED) if is_beginning else ORDER[1:]


def _rows() -> list[str]:
    return [
        f"| {phase} | {event.__name__} | {target if isinstance(target, Phase) else WORDS[target]} |"
        for (phase, event), target in NEXT.items()
    ]


def _names(phases: frozenset[Phase]) -> str:
    return ", ".join(sorted(phases))


if __name__ == "__main__":
    PAGE.write_text(page())
