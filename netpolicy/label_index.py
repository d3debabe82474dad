"""Which of many label sets a selector matches, without trying each.

In:   label sets, numbered in the order given
Out:  the numbers of those that a selector matches, as a compressed bitmap
Pure.

Holds always:
1. A number is in the answer if and only if `Selector.matches` is true of its label set.
2. A question costs a few bitmap operations for each requirement, however many label sets there are.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyroaring import BitMap

from netpolicy.labels import Labels, Operator, Requirement, Selector

LabelKey = tuple[str, str]
"""Source (or `any`) and key."""


class LabelIndex:
    """Label sets by what they hold: (source, key) → value → numbers."""

    __slots__ = ("_all", "_by_key", "_having")

    def __init__(self, label_sets: Iterable[Labels]) -> None:
        numbers: dict[LabelKey, dict[str, list[int]]] = {}
        count = 0
        for labels in label_sets:
            for key, value in labels.lookups():
                numbers.setdefault(key, {}).setdefault(value, []).append(count)
            count += 1
        self._all = BitMap(range(count))
        self._by_key = {
            key: {value: BitMap(holders) for value, holders in values.items()}
            for key, values in numbers.items()
        }
        self._having = {
            key: BitMap.union(BitMap(), *values.values()) for key, values in self._by_key.items()
        }

    def __len__(self) -> int:
        return len(self._all)

    def matching(self, selector: Selector) -> BitMap:
        """The numbers of the label sets that the selector matches."""
        found = self._all
        for requirement in selector.requirements:
            found = self._narrowed(found, requirement)
            if not found:
                break
        return found.copy() if found is self._all else found

    def matches_any(self, selector: Selector) -> bool:
        """True if the selector matches at least one label set."""
        return bool(self.matching(selector))

    def _narrowed(self, found: BitMap, requirement: Requirement) -> BitMap:
        key = (requirement.source, requirement.key)
        match requirement.operator:
            case Operator.IN:
                return found & self._holding(key, requirement.values)
            case Operator.NOT_IN:
                return found - self._holding(key, requirement.values)
            case Operator.EXISTS:
                return found & self._having.get(key, BitMap())
            case Operator.DOES_NOT_EXIST:
                return found - self._having.get(key, BitMap())

    def _holding(self, key: LabelKey, values: tuple[str, ...]) -> BitMap:
        holders = self._by_key.get(key, {})
        if len(values) == 1:
            return holders.get(values[0], BitMap())
        return BitMap.union(BitMap(), *(holders[value] for value in values if value in holders))
