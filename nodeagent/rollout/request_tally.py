"""Count the requests that a shadow judges otherwise, and how requests are answered meanwhile.

In:   opinions on requests, as they are made; answers
Out:  Tally, to be added to what the kernel counted of the same shadow; AnswerCounts
Shell over nothing; may be asked from another thread than the one that counts.

Holds always:
1. At most `MAX_DIFFERENCES` differences are told apart; what comes beyond is counted as omitted.
2. What was taken is not told again.
"""

from __future__ import annotations

from collections import Counter
from threading import Lock

from netpolicy.evidence import MAX_DIFFERENCES, AnswerCounts, Difference
from nodeagent.rollout.tally import Tally


class RequestTally:
    """The counts since they were taken last."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts: Counter[Difference] = Counter()
        self._omitted = 0
        self._answers = AnswerCounts()

    def answer(self, answers: AnswerCounts) -> None:
        """Count how requests were answered."""
        with self._lock:
            self._answers += answers

    def answers(self) -> AnswerCounts:
        """How requests were answered since the last restart."""
        with self._lock:
            return self._answers

    def restart_answers(self) -> None:
        """Count from zero: what decides over requests has changed."""
        with self._lock:
            self._answers = AnswerCounts()

    def add(self, difference: Difference) -> None:
        """Count a request; `difference` has no count."""
        with self._lock:
            if difference in self._counts or len(self._counts) < MAX_DIFFERENCES:
                self._counts[difference] += 1
            else:
                self._omitted += 1

    def add_unknown(self) -> None:
        """Count a request of which cannot be said whether it would be judged otherwise."""
        with self._lock:
            self._omitted += 1

    def standing(self) -> Tally:
        """What was counted."""
        with self._lock:
            return Tally(differences=Counter(self._counts), omitted=self._omitted)

    def take(self) -> Tally:
        """What was counted, which is forgotten here."""
        with self._lock:
            found = Tally(differences=self._counts, omitted=self._omitted)
            self._counts, self._omitted = Counter(), 0
        return found
