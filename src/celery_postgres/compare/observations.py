"""Situations and abilities: each contender is brought into each of them, and what it does is put down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import cast
from .failure import worded
from .features import FEATURES
from .progress import Item
from .report.model import Ability, Behaviour, Feature, Situation
from .situations import SITUATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .arena import Arena
    from .progress import Agenda
    from .request import Request
    from .run import Comparison
    from .trial import Outcome, Trial


def items(comparison: Comparison) -> list[Item]:
    """All of them, as they will be done."""
    trials: tuple[Trial[Any], ...] = (*FEATURES, *SITUATIONS)
    return [_item(one, arena) for one in trials for arena in comparison.arenas]


def observe(comparison: Comparison, request: Request, agenda: Agenda) -> None:
    """Put it down in the report."""
    each = _Observer(comparison, request, agenda).each
    report = comparison.report
    for ability in FEATURES:
        feature = Feature(ability.key, ability.title, {})
        report.features.append(feature)
        each(ability, feature.found, lambda said: Ability(None, said))
    for fault in SITUATIONS:
        situation = Situation(fault.key, fault.title, fault.what, {})
        report.situations.append(situation)
        each(fault, situation.found, lambda said: Behaviour(said, None))


class _Observer:
    def __init__(self, comparison: Comparison, request: Request, agenda: Agenda) -> None:
        self._comparison = comparison
        self._request = request
        self._agenda = agenda

    def each(
        self, trial: Trial[Outcome], found: dict[str, Outcome], untold: Callable[[str], Outcome]
    ) -> None:
        """Try all contenders that still take part. Where nothing can be told, that is told."""
        for arena in self._comparison.arenas:
            self._agenda.begin(_item(trial, arena))
            self._agenda.doing("")
            try:
                found[arena.name] = trial.observe(arena, self._request)
            except Exception as error:  # noqa: BLE001 - whatever it is, the other trials go on
                found[arena.name] = untold(f"could not be told: {worded(error)}")
                if not self._comparison.attempt(arena, _begin_anew):
                    self._agenda.leave_out_contender(arena.name)
            self._agenda.done()


def _item(trial: Trial[Any], arena: Arena) -> Item:
    return Item(trial.title, trial.key, arena.name, trial.seconds)


def _begin_anew(arena: Arena) -> None:
    """After a trial that broke off. Raises where the server is gone: it takes no part any more."""
    cast.dismiss(arena)
    arena.end_workers()
    cast.leave_empty(arena)
