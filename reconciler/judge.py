"""Judge one revision: its files in; its units, or the diagnostics that refuse it, out.

In:   SourceFile values of one commit, the settings beside them, what is known of the cluster
Out:  Verdict: units and diagnostics
Pure (the cache only saves work). Joins objects → validate → compile → intents.

Holds always:
1. A revision with one error has no units: it is applied whole or not at all.
2. A revision that removes every policy is refused, unless its settings allow it.
3. Where intents are held, a revision that breaks one is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from netpolicy.encryption import OFF, Encryption
from netpolicy.errors import Diagnostic, Place, Severity, has_errors
from netpolicy.inventory import Inventory
from netpolicy.rules import Policy, Unit
from reconciler.codes import CODES
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.intents.check import check_intents
from reconciler.intents.expected import expected_denials
from reconciler.intents.read import read_intents
from reconciler.objects import ReadCache, read_policies
from reconciler.objects.memo import PolicyMemo
from reconciler.rollout.expected import ExpectedDenial
from reconciler.rollout.plan import DIRECT, Plan
from reconciler.settings import Settings, read_settings
from reconciler.validate import (
    MistakeMemo,
    ValidationContext,
    ValidationMemo,
    check_capabilities,
    find_mistakes,
    validate,
    warn_unenforceable,
)

REMOVES_EVERY_POLICY: Final = "TG401"
BROKEN_INTENT: Final = "TG403"


class JudgeCache:
    """What the last revisions held and meant: saves the work of files that stay the same."""

    def __init__(self) -> None:
        self.readings = ReadCache()
        self.validated = ValidationMemo()
        self.compiled: PolicyMemo[Policy] = PolicyMemo()
        self.mistakes = MistakeMemo()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The units of an accepted revision (empty if refused), and all diagnostics, sorted.

    `plan`: how its settings want revisions rolled out. `expected`: denials that its intents declare.
    `encryption`: how nodes are to encrypt between each other.
    """

    units: tuple[Unit, ...]
    diagnostics: tuple[Diagnostic, ...]
    plan: Plan = DIRECT
    expected: tuple[ExpectedDenial, ...] = ()
    encryption: Encryption = OFF

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
    hold_intents: bool = False,
    site: Settings | None = None,
) -> Verdict:
    """Read, validate and compile the files of one revision, and perhaps hold it to its intents.

    `nodes` says what each node's agent can enforce; None where no fleet is in question (an author's
    own check, which warns of what no agent of this version could).

    `found` are faults that the source itself met; `had_policies` says that the enforced revision
    has policies, so that a revision without any needs the author's explicit word. `site`: what the
    cluster's operator says beside the repository's own settings.
    """
    files, cache = tuple(files), cache or JudgeCache()
    settings, settings_faults = read_settings(files, site=site)
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
    policies = [policy for unit in units for policy in unit.policies]
    if nodes is None:
        more += warn_unenforceable(reading.objects, policies)
    else:
        more += check_capabilities(reading.objects, policies, nodes)
    expected: tuple[ExpectedDenial, ...] = ()
    if hold_intents:
        expected, broken = _hold_intents(files, units, inventory)
        more += broken
    ordered = tuple(sorted({*ordered, *more}, key=lambda diagnostic: diagnostic.sort_key))
    if has_errors(ordered):
        return Verdict(units=(), diagnostics=ordered)
    return Verdict(
        units=units,
        diagnostics=ordered,
        plan=settings.rollout,
        expected=expected,
        encryption=settings.encryption,
    )


def _hold_intents(
    files: Sequence[SourceFile], units: Sequence[Unit], inventory: Inventory | None
) -> tuple[tuple[ExpectedDenial, ...], list[Diagnostic]]:
    """What the intents expect to be denied, and those that the policies break."""
    intents, faults = read_intents(files, inventory=inventory)
    policies = [policy for unit in units for policy in unit.policies]
    broken = [result for result in check_intents(intents, policies) if not result.holds]
    code = CODES[BROKEN_INTENT]
    faults += [
        Diagnostic(
            code=BROKEN_INTENT,
            severity=Severity.ERROR,
            place=result.intent.place,
            message=f'"{result.intent.name}": {result.complaint}; {result.found}',
            why=code.why,
            fix=code.fix,
        )
        for result in broken
    ]
    return expected_denials(intents), faults


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
