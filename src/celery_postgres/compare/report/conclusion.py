"""What a measure says: each contender beside the baseline, and which one is ahead of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .statistics import Difference, Spread, difference, ratio

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .model import Measure, Report


NO_DIFFERENCE = "no difference"
TOO_FEW_ROUNDS = "too few rounds to tell"
_IS_AHEAD = " is ahead"


@dataclass(frozen=True)
class Standing:
    """One contender in one measure."""

    contender: str
    spread: Spread
    ratio: Spread | None = None
    """To the baseline, within the same round; None for the baseline itself, and where that has only zeros."""
    verdict: str = ""
    """Beside the baseline: ahead, behind, no difference, too few rounds; higher and lower where neither is
    better; empty for the baseline itself and without one."""


@dataclass(frozen=True)
class Conclusion:
    """One measure, read by the rule of `statistics`."""

    measure: Measure
    standings: tuple[Standing, ...]
    """In the order of the report, without those that were not measured."""
    leaders: tuple[str, ...]
    """The one that is ahead of all others, or those that share the lead; empty where nothing may be said."""

    @property
    def said(self) -> str:
        """In a few words; empty where no one can be ahead."""
        if self.measure.better == "neither" or len(self.standings) < 2:
            return ""
        if not self.leaders:
            return TOO_FEW_ROUNDS
        if len(self.leaders) == 1:
            return self.leaders[0] + _IS_AHEAD
        if len(self.leaders) == len(self.standings):
            return NO_DIFFERENCE
        return f"no difference between {listed(self.leaders)}"


def conclude(measure: Measure, report: Report) -> Conclusion:
    """Read one measure of the report."""
    names = [one.name for one in report.contenders if measure.rounds.get(one.name)]
    return Conclusion(
        measure,
        tuple(_standing(measure, name, report.baseline) for name in names),
        _leaders(measure, names),
    )


def conclude_all(report: Report) -> dict[str, list[Conclusion]]:
    """All measures that have values, by group, in the order of the report."""
    groups: dict[str, list[Conclusion]] = {}
    for measure in report.measures:
        conclusion = conclude(measure, report)
        if conclusion.standings:
            groups.setdefault(measure.group, []).append(conclusion)
    return groups


def in_short(report: Report) -> dict[str, list[str]]:
    """The titles of the measures by what they say: first those in which one is ahead, the most first."""
    found: dict[str, list[str]] = {}
    for conclusion in (one for group in conclude_all(report).values() for one in group):
        if conclusion.said:
            found.setdefault(conclusion.said, []).append(conclusion.measure.title)
    return dict(sorted(found.items(), key=lambda one: (not one[0].endswith(_IS_AHEAD), -len(one[1]))))


def listed(names: Sequence[str]) -> str:
    """Names as a sentence has them."""
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _standing(measure: Measure, name: str, baseline: str) -> Standing:
    spread = Spread.of(measure.rounds[name])
    pairs = _pairs(measure, name, baseline)
    if name == baseline or not pairs:
        return Standing(name, spread)
    return Standing(name, spread, ratio(pairs), _verdict(measure, difference(pairs)))


def _verdict(measure: Measure, found: Difference) -> str:
    if found not in (Difference.HIGHER, Difference.LOWER) or measure.better == "neither":
        return found.value
    return "ahead" if (found is Difference.HIGHER) == (measure.better == "more") else "behind"


def _leaders(measure: Measure, names: Sequence[str]) -> tuple[str, ...]:
    """The best median, and all that cannot be told apart from it, among those with rounds enough to tell."""
    names = [name for name in names if len(measure.rounds[name]) > 1]
    if measure.better == "neither" or len(names) < 2:
        return ()
    sign = -1 if measure.better == "more" else 1
    best = min(names, key=lambda name: sign * Spread.of(measure.rounds[name]).median)
    return tuple(
        name for name in names if name == best or difference(_pairs(measure, name, best)) is Difference.NONE
    )


def _pairs(measure: Measure, name: str, base: str) -> list[tuple[float, float]]:
    """The rounds that both completed: who drops out does not come back, so the first ones are the same."""
    return list(zip(measure.rounds[name], measure.rounds.get(base, []), strict=False))
