"""Policies of a corpus, through Tidegate's reader, validation and compiler.

Each policy is a file of its own, so that every diagnostic belongs to one; what is refused is set apart
with whom it selects, and the rest is compiled as if it stood alone.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from netpolicy.errors import Diagnostic, Severity
from netpolicy.labels import Labels, Selector
from netpolicy.rules import Policy
from reconciler.compile import compile_policies
from reconciler.files import SourceFile
from reconciler.objects import read_policies
from reconciler.objects.defaults import subject_selector
from reconciler.validate import validate

NOT_YET_READ = frozenset({"TG110", "TG115"})
"""Codes that say "this version does not do that"."""

PolicyData = Mapping[str, Any]


@dataclass(frozen=True)
class Refusal:
    """A policy that Tidegate refuses, why, and whom it selects (None: cannot be said)."""

    policy: PolicyData
    errors: tuple[Diagnostic, ...]
    subjects: tuple[Selector, ...] | None

    def concerns(self, labels: Labels) -> bool:
        """True if an endpoint with these labels might be selected."""
        return self.subjects is None or any(s.matches(labels) for s in self.subjects)

    @property
    def unread(self) -> Diagnostic | None:
        """The first error that only says "not yet", if all do."""
        if all(error.code in NOT_YET_READ for error in self.errors):
            return self.errors[0]
        return None


class CorpusPolicies:
    """A set of policies that apply together."""

    def __init__(self, policies: Iterable[PolicyData]) -> None:
        self.all = tuple(map(_complete, policies))
        reading = read_policies(map(_file, range(len(self.all)), self.all))
        self.diagnostics = (*reading.diagnostics, *validate(reading.objects))
        errors: dict[str, list[Diagnostic]] = {}
        for diagnostic in self.diagnostics:
            if diagnostic.severity is Severity.ERROR:
                errors.setdefault(diagnostic.place.path, []).append(diagnostic)
        self.refusals = tuple(
            Refusal(policy, tuple(errors[_path(number)]), _subjects(policy))
            for number, policy in enumerate(self.all)
            if _path(number) in errors
        )
        self._sound = [p for p in reading.objects if p.document.path not in errors]
        self.sources = {
            (p.id, p.index): self.all[_number(p.document.path)] for p in reading.objects
        }

    @cached_property
    def compiled(self) -> tuple[Policy, ...]:
        """The policies that are not refused."""
        units = compile_policies(self._sound)
        return tuple(policy for unit in units for policy in unit.policies)

    def selecting(self, labels: Labels) -> list[PolicyData]:
        """The policies, as written, that select an endpoint."""
        return [
            self.sources[policy.id, policy.index]
            for policy in self.compiled
            if policy.subject.matches(labels)
        ]


def _complete(policy: PolicyData) -> PolicyData:
    """The policy with the apiVersion and the kind that cyclonus leaves out of some."""
    if "kind" in policy:
        return policy
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", **policy}


def _subjects(policy: PolicyData) -> tuple[Selector, ...] | None:
    """Whom a policy selects, whatever its rules."""
    kept = ("endpointSelector", "podSelector")
    bare = {
        **policy,
        **{
            name: _without_rules(policy[name], kept) for name in ("spec", "specs") if name in policy
        },
    }
    reading = read_policies([_file(0, bare)])
    return tuple(map(subject_selector, reading.objects)) or None


def _without_rules(value: Any, kept: tuple[str, ...]) -> Any:
    if isinstance(value, list):
        return [_without_rules(entry, kept) for entry in value]
    if not isinstance(value, Mapping):
        return value
    return {**{k: v for k, v in value.items() if k in kept}, "ingress": [{}]}


def _file(number: int, policy: PolicyData) -> SourceFile:
    return SourceFile(
        path=_path(number), blob_id=str(number), data=json.dumps(policy, indent=1).encode()
    )


def _path(number: int) -> str:
    return f"policies/{number:04}.yaml"


def _number(path: str) -> int:
    return int(path.removeprefix("policies/").removesuffix(".yaml"))
