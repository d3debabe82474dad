"""Judge one revision: its files in; its units, or the diagnostics that refuse it, out.

In:   SourceFile values of one commit, the settings beside them, what is known of the cluster
Out:  Verdict: units and diagnostics
Pure (the cache only saves work). Joins objects → validate → compile.

Holds always:
1. A revision with one error has no units: it is applied whole or not at all.
2. A revision that removes every policy is refused, unless its settings allow it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from netpolicy.errors import Diagnostic, Place, Severity, has_errors
from netpolicy.inventory import Inventory
from netpolicy.rules import Policy, Unit
from reconciler.codes import CODES
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import ReadCache, read_policies
from reconciler.objects.memo import PolicyMemo
from reconciler.settings import Settings, read_settings
from reconciler.validate import (
    MistakeMemo,
    ValidationContext,
    ValidationMemo,
    check_capabilities,
    find_mistakes,
    validate,
)

REMOVES_EVERY_POLICY: Final = "TG401"


class JudgeCache:
    """What the last revisions held and meant: saves the work of files that stay the same."""

    def __init__(self) -> None:
        self.readings = ReadCache()
        self.validated = ValidationMemo()
        self.compiled: PolicyMemo[Policy] = PolicyMemo()
        self.mistakes = MistakeMemo()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The units of an accepted revision (empty if refused), and all diagnostics, sorted."""

    units: tuple[Unit, ...]
    diagnostics: tuple[Diagnostic, ...]

    @property
    def accepted(self) -> bool:
        """True if nothing refuses the revision."""
        return not has_errors(self.diagnostics)

    @property
    def policy_count(self) -> int:
        """How many compiled policies the units hold."""
        return sum(len(unit.policies) for unit in self.units)

    def count(self, severity: Severity) -> int:
        """How many diagnostics weigh this much."""
        return sum(diagnostic.severity is severity for diagnostic in self.diagnostics)


def judge(
    files: Iterable[SourceFile],
    *,
    cluster: str = "default",
    inventory: Inventory | None = None,
    cache: JudgeCache | None = None,
    had_policies: bool = False,
    nodes: Mapping[str, Collection[str]] | None = None,
    found: Sequence[Diagnostic] = (),
) -> Verdict:
    """Read, validate and compile the files of one revision.

    `nodes` says what each node's agent can enforce; None where no fleet is in question (an author's
    own check).

    `found` are faults that the source itself met; `had_policies` says that the enforced revision
    has policies, so that a revision without any needs the author's explicit word.
    """
    files, cache = tuple(files), cache or JudgeCache()
    settings, settings_faults = read_settings(files)
    reading = read_policies(files, cache=cache.readings)
    context = ValidationContext(ownership=settings.ownership, inventory=inventory)
    diagnostics = [*found, *settings_faults, *reading.diagnostics]
    diagnostics += validate(reading.objects, context=context, memo=cache.validated)
    if had_policies and not reading.objects and not has_errors(diagnostics):
        diagnostics += _removal_fault(settings)
    ordered = tuple(sorted(set(diagnostics), key=lambda diagnostic: diagnostic.sort_key))
    if has_errors(ordered):
        return Verdict(units=(), diagnostics=ordered)
    units = compile_policies(reading.objects, cluster=cluster, memo=cache.compiled)
    more = find_mistakes(reading.objects, units, inventory=inventory, memo=cache.mistakes)
    if nodes is not None:
        policies = [policy for unit in units for policy in unit.policies]
        more += check_capabilities(reading.objects, policies, nodes)
    ordered = tuple(sorted({*ordered, *more}, key=lambda diagnostic: diagnostic.sort_key))
    return Verdict(units=() if has_errors(ordered) else units, diagnostics=ordered)


def _removal_fault(settings: Settings) -> list[Diagnostic]:
    if settings.allow_empty:
        return []
    code = CODES[REMOVES_EVERY_POLICY]
    return [
        Diagnostic(
            code=REMOVES_EVERY_POLICY,
            severity=Severity.ERROR,
            place=Place(path="policies"),
            message="the revision removes every policy",
            why=code.why,
            fix=code.fix,
        )
    ]
