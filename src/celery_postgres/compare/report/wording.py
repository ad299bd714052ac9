"""Sentences that text and page share: who was compared, how it ended, who is missing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import numerals
from .conclusion import NO_DIFFERENCE, listed
from .statistics import ENOUGH_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .model import Behaviour, Contender, Measure, Report


def contest(report: Report) -> str:
    """Who was compared: PostgreSQL, Redis and RabbitMQ compared."""
    names = [one.name for one in report.contenders if not absent(one, report)]
    return f"{listed(names)} compared" if names else "A comparison without contenders"


def ended(report: Report) -> str:
    """When, how long, and whether it came to its end."""
    took = f"Began {report.began.replace('T', ' ')} and took {numerals.seconds(report.took_s)}"
    if report.interrupted:
        return f"{took}. It was INTERRUPTED: what it had found by then is shown."
    return f"{took}."


def absent(one: Contender, report: Report) -> bool:
    """Whether it failed before anything was found about it."""
    return one.failure is not None and not (
        any(measure.rounds.get(one.name) for measure in report.measures)
        or any(one.name in situation.found for situation in report.situations)
        or any(one.name in feature.found for feature in report.features)
    )


def missing(one: Contender, report: Report) -> str:
    """Why a contender takes no part, or no longer."""
    part = "Takes no part" if absent(one, report) else "Took part up to its failure"
    return f"{part}: {one.failure}"


def rounds(report: Report) -> str:
    """What the figures are."""
    done = _completed(report)
    if done == 1:
        return f"Values of one round; ratios are to {report.baseline}."
    planned = "" if done == report.planned_rounds else f" of {report.planned_rounds} planned"
    return (
        f"Medians of {done}{planned} rounds, with the lowest and the highest; "
        f"ratios are to {report.baseline} within the same round."
    )


def rule(report: Report) -> str:
    """When a difference is claimed, as `statistics` has it, for as many rounds as there are."""
    done = _completed(report)
    if done == 1:
        return "One round cannot tell a difference from chance: none is claimed."
    if done == 2:
        demanded = "the values of the two rounds lie further apart than either varies"
    elif done < ENOUGH_ROUNDS:
        demanded = "the ranges of the rounds do not touch"
    else:
        demanded = "one was ahead of the other in every single round"
    return f'A difference is claimed only where {demanded}; everything else is "{NO_DIFFERENCE}".'


def _completed(report: Report) -> int:
    """Rounds of the contender that has the most."""
    return max((len(values) for measure in report.measures for values in measure.rounds.values()), default=0)


def better(measure: Measure) -> str:
    """Which way is better, in words; empty where neither is."""
    return "" if measure.better == "neither" else f"{measure.better} is better"


def facts(named: Mapping[str, str]) -> str:
    """Names and values in one line."""
    return "; ".join(f"{name}: {value}" for name, value in named.items())


def counts(found: Behaviour) -> str:
    """What became of the tasks, as far as it was counted: 0 lost, 2 duplicated."""
    counted = ((found.lost, "lost"), (found.duplicated, "duplicated"))
    return ", ".join(f"{count} {word}" for count, word in counted if count is not None)


def capital(text: str) -> str:
    """The same as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def visible(text: str) -> str:
    """The same with an escape sequence for what would move a cursor or turn the direction of the text."""
    return "".join(c if c.isprintable() or c in "\n\xa0" else repr(c)[1:-1] for c in text)
