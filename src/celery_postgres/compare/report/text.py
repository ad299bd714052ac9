"""A report for the terminal: plain text, readable without colour, no line longer than asked for.

Words come from applications and servers: what could move the cursor is shown as an escape sequence.
"""

from __future__ import annotations

import shlex
import textwrap
from itertools import zip_longest
from typing import TYPE_CHECKING

from . import numerals
from .conclusion import conclude_all, in_short
from .wording import better, capital, contest, counts, ended, facts, missing, rounds, rule, visible

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from .conclusion import Conclusion
    from .model import Behaviour, Contender, Report, Situation

_INDENT = "  "
_GAP = "  "


def render(report: Report, width: int = 100) -> str:
    """The whole report, ending with a line feed; `width` is at least 60."""
    sections = [
        _opening(report, width),
        _contenders(report, width),
        *_measures(report, width),
        _behaviour(report, width),
        _abilities(report, width),
        _short(report, width),
        _warnings(report, width),
    ]
    return "\n\n".join("\n".join(lines) for lines in sections if lines) + "\n"


def _opening(report: Report, width: int) -> list[str]:
    return [
        *_filled(contest(report), width),
        *_filled(report.workload, width),
        *_filled(ended(report), width),
        *_filled(facts(report.environment), width),
        "To repeat it:",
        *_command(report.command, width),
    ]


def _command(command: Sequence[str], width: int) -> list[str]:
    """As it can be copied: broken between arguments alone."""
    lines = [_INDENT]
    for argument in map(shlex.quote, map(visible, command)):
        # Two columns are left for the backslash.
        if lines[-1].strip() and len(lines[-1]) + len(argument) > width - 2:
            lines[-1] += "\\"
            lines.append(_INDENT * 2)
        lines[-1] += f"{argument} "
    return [line.rstrip() for line in lines]


def _contenders(report: Report, width: int) -> list[str]:
    lines = []
    for one in report.contenders:
        lines += _filled(_introduced(one), width, hanging=_INDENT)
        if one.settings:
            lines += _filled(facts(one.settings), width, _INDENT)
        if one.failure:
            lines += _filled(missing(one, report), width, _INDENT)
    return _headed("contenders", lines)


def _introduced(one: Contender) -> str:
    version = f" {one.version}" if one.version else ""
    results = "" if one.backend == one.broker else f", results in {one.backend}"
    return f"{one.name}{version}: {one.broker}{results}"


def _measures(report: Report, width: int) -> Iterator[list[str]]:
    explained = False
    for group, conclusions in conclude_all(report).items():
        lines: list[str] = []
        if not explained:
            lines += _filled(f"{rounds(report)} {rule(report)}", width)
            explained = True
        for conclusion in conclusions:
            lines += [*([""] if lines else []), *_measure(conclusion, report, width)]
        yield [*_filled(group.upper(), width), *lines]


def _measure(conclusion: Conclusion, report: Report, width: int) -> list[str]:
    measure = conclusion.measure
    divisor, unit = numerals.scale(conclusion)
    said = f": {conclusion.said}" if conclusion.said else ""
    rows = [
        (
            visible(standing.contender),
            numerals.number(standing.spread.median / divisor),
            numerals.spread(standing.spread, divisor),
            f"{numerals.number(standing.ratio.median)}x {numerals.spread(standing.ratio)}"
            if standing.ratio
            else "",
            standing.verdict,
            # Said where it is not as planned.
            f"({standing.spread.rounds} of {report.planned_rounds} rounds)"
            if standing.spread.rounds != report.planned_rounds
            else "",
        )
        for standing in conclusion.standings
    ]
    return [
        *_filled(f"{measure.title} ({', '.join(filter(None, (unit, better(measure))))}){said}", width),
        *_table(rows, width, right={1}),
        *(_filled(measure.note, width, _INDENT) if measure.note else []),
    ]


def _behaviour(report: Report, width: int) -> list[str]:
    lines: list[str] = []
    for situation in report.situations:
        lines += [*([""] if lines else []), *_situation(situation, report, width)]
    return _headed("behaviour", lines)


def _situation(situation: Situation, report: Report, width: int) -> list[str]:
    found = {one.name: situation.found[one.name] for one in report.contenders if one.name in situation.found}
    return [
        *_filled(f"{situation.title}: {situation.what}", width),
        *_sentences({name: (one.good, _told(one)) for name, one in found.items()}, width),
    ]


def _told(found: Behaviour) -> str:
    counted = counts(found)
    return f"{found.said} ({counted})" if counted else found.said


def _abilities(report: Report, width: int) -> list[str]:
    names = [
        one.name for one in report.contenders if any(one.name in feature.found for feature in report.features)
    ]
    rows = [["", *names]]
    for feature in report.features:
        found = [feature.found.get(name) for name in names]
        rows.append([feature.title, *(f"{_mark(one.has)} {one.said}" if one else "" for one in found)])
    return _headed("abilities", _grid(rows, width) if report.features else [])


def _grid(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns of sentences, each filled into its own width."""
    others = len(rows[0]) - 1
    first = min(max(len(row[0]) for row in rows), width // 3)
    rest = (width - first) // max(1, others) - len(_GAP)
    sizes = [first, *[rest] * others]
    lines = []
    for row in rows:
        cells = [_filled(cell, size) for cell, size in zip(row, sizes, strict=True)]
        lines += [
            _GAP.join(cell.ljust(size) for cell, size in zip(placed, sizes, strict=True)).rstrip()
            for placed in zip_longest(*cells, fillvalue="")
        ]
    return lines


def _short(report: Report, width: int) -> list[str]:
    lines: list[str] = []
    for said, titles in in_short(report).items():
        lines += _filled(f"{capital(said)}: {'; '.join(titles)}.", width, hanging=_INDENT)
    return _headed("in short", lines)


def _warnings(report: Report, width: int) -> list[str]:
    lines: list[str] = []
    for warning in report.warnings:
        lines += _filled(f"! {warning}", width, hanging=_INDENT)
    return _headed("warnings", lines)


def _mark(good: bool | None) -> str:
    """One column that the eye can run down: good, bad, a matter of taste."""
    return {True: "+", False: "-", None: " "}[good]


def _headed(title: str, lines: Sequence[str]) -> list[str]:
    return [title.upper(), *lines] if lines else []


def _sentences(said: Mapping[str, tuple[bool | None, str]], width: int) -> list[str]:
    """A sentence for each contender, beside its name."""
    widest = min(max(map(len, said), default=0), width // 3)
    lines = []
    for name, (good, sentence) in said.items():
        beside = f"{_mark(good)} {name.ljust(widest)}  {sentence}"
        lines += _filled(beside, width, _INDENT, hanging=" " * (widest + 4))
    return lines


def _table(rows: Sequence[Sequence[str]], width: int, right: set[int]) -> list[str]:
    """Aligned columns; a row that is too long goes on below."""
    columns = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for row in rows:
        placed = [
            cell.rjust(size) if index in right else cell.ljust(size)
            for index, (cell, size) in enumerate(zip(row, columns, strict=True))
            if size
        ]
        line = _INDENT + _GAP.join(placed).rstrip()
        if len(line) > width:
            lines += textwrap.wrap(line, width, subsequent_indent=_INDENT * 4)
        else:
            lines.append(line)
    return lines


def _filled(text: str, width: int, indent: str = "", hanging: str = "") -> list[str]:
    """A paragraph; `hanging` is what its further lines are indented by, beyond `indent`."""
    return textwrap.wrap(
        visible(text),
        width,
        initial_indent=indent,
        subsequent_indent=indent + hanging,
        break_on_hyphens=False,
    )
