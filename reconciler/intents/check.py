"""Hold compiled policies to the intents beside them.

In:   intents, policies
Out:  a Result each: does what the policies say agree with what the author says
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from netpolicy.evaluate import Decision, Outcome, Side, evaluate
from netpolicy.rules import Policy
from reconciler.intents.read import Intent


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An intent and what the policies decide."""

    intent: Intent
    decision: Decision

    @property
    def holds(self) -> bool:
        """True if the policies do what the intent says."""
        return self.decision.allowed == self.intent.allowed

    @property
    def complaint(self) -> str:
        """What the author demands, in words."""
        return f"must be {'allowed' if self.intent.allowed else 'denied'}"

    @property
    def found(self) -> str:
        """What the policies do, in words."""
        decision = self.decision
        sides = (_words("egress", decision.egress), _words("ingress", decision.ingress))
        return f"{'allowed' if decision.allowed else 'denied'}: {'; '.join(sides)}"


def check_intents(intents: Iterable[Intent], policies: Sequence[Policy]) -> tuple[Result, ...]:
    """Evaluate each intent's flow."""
    return tuple(
        Result(intent=intent, decision=evaluate(policies, intent.flow)) for intent in intents
    )


def results_text(results: Iterable[Result]) -> str:
    """A line an intent; failed ones say what was found."""
    return "\n".join(line for result in results for line in _lines(result))


def results_junit(results: Sequence[Result]) -> str:
    """JUnit XML: a test case an intent, a suite for all."""
    failures = sum(not result.holds for result in results)
    suite = Element(
        "testsuite", name="tidegate", tests=str(len(results)), failures=str(failures), errors="0"
    )
    for result in results:
        place = result.intent.place
        case = SubElement(
            suite, "testcase", name=result.intent.name, classname=place.path, file=place.path,
            line=str(place.line),
        )  # fmt: skip
        if not result.holds:
            SubElement(case, "failure", message=result.complaint).text = result.found
    indent(suite)
    return tostring(suite, encoding="unicode", xml_declaration=True)


def _lines(result: Result) -> list[str]:
    intent = result.intent
    if result.holds:
        return [f"ok    {intent.name}"]
    return [f"FAIL  {intent.name}  [{intent.place}]", f"      {result.complaint}; {result.found}"]


def _words(direction: str, side: Side) -> str:
    if side.outcome is Outcome.NOT_AN_ENDPOINT:
        return f"{direction} is judged by no policy"
    outcome = side.outcome.replace("-", " ")
    by = f" by {', '.join(map(str, side.rules))}" if side.rules else ""
    return f"{direction} {outcome}{by}"
