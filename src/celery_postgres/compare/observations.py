"""Situations and abilities: each contender is brought into each of them, and what it does is put down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from . import cast
from .abreast import Abreast, InTurn
from .failure import worded
from .features import FEATURES
from .progress import Item
from .report.model import Ability, Behaviour, Feature, Situation
from .situations import SITUATIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .arena import Arena
    from .progress import Agenda
    from .request import Request
    from .run import Comparison
    from .trial import Outcome, Trial


_ALL = "all contenders"


def items(comparison: Comparison, request: Request) -> list[Item]:
    """All of them, as they will be done."""
    trials: tuple[Trial[Any], ...] = (*FEATURES, *SITUATIONS)
    return [_item(one, who) for one in trials for who, _ in _groups(one, comparison, request)]


def observe(comparison: Comparison, request: Request, agenda: Agenda) -> None:
    """Put it down in the report."""
    with Abreast(comparison.arenas) if request.quick else InTurn() as way:
        each = _Observer(comparison, request, agenda, way).each
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
    def __init__(self, comparison: Comparison, request: Request, agenda: Agenda, way: InTurn) -> None:
        self._comparison = comparison
        self._request = request
        self._agenda = agenda
        self._way = way

    def each(
        self, trial: Trial[Outcome], found: dict[str, Outcome], untold: Callable[[str], Outcome]
    ) -> None:
        """Try all contenders that still take part. Where nothing can be told, that is told."""
        for who, group in _groups(trial, self._comparison, self._request):
            self._agenda.begin(_item(trial, who))
            self._agenda.doing("")
            came = self._way.run(group, lambda arena: trial.observe(arena, self._request))
            for arena in group:
                outcome = came[arena.name]
                # Whatever it is, the other trials go on.
                found[arena.name] = (
                    untold(f"could not be told: {worded(outcome)}")
                    if isinstance(outcome, Exception)
                    else outcome
                )
                if isinstance(outcome, Exception):
                    self._begin_anew(arena)
            self._agenda.done()

    def _begin_anew(self, arena: Arena) -> None:
        """After a trial that broke off. Where the server is gone, the contender takes no part any more."""

        def begin_anew(arena: Arena) -> None:
            (outcome,) = self._way.run([arena], _clear).values()
            if isinstance(outcome, Exception):
                raise outcome

        if not self._comparison.attempt(arena, begin_anew):
            self._agenda.leave_out_contender(arena.name)


def _groups(trial: Trial[Any], comparison: Comparison, request: Request) -> list[tuple[str, Sequence[Arena]]]:
    """Who is tried at the same time, with a name for them.

    A quick comparison cannot wait for one after the other; it tells less exactly how long things take.
    """
    if request.quick and not trial.alone:
        return [(_ALL, comparison.arenas)]
    return [(arena.name, [arena]) for arena in comparison.arenas]


def _item(trial: Trial[Any], who: str) -> Item:
    return Item(trial.title, trial.key, who, trial.seconds)


def _clear(arena: Arena) -> None:
    cast.dismiss(arena)
    arena.end_workers()
    cast.leave_empty(arena)
