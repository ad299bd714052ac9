"""Arithmetic: equations in the text that do not hold."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, localcontext
from itertools import pairwise
from typing import TYPE_CHECKING

from evaluation.findings import Finding, Highlight, PluginResult
from evaluation.grading import share_grade
from evaluation.plugins.expression import Symbol, symbols, value

if TYPE_CHECKING:
    from collections.abc import Iterator

    from evaluation.document_view import DocumentView

_EQUALS = re.compile(r"(?<![=!<>:~])=(?![=>~])")
# How far from the equals sign a side may reach, in characters.
_REACH = 200
# Enough for a product of numbers within that reach, so that no result is rounded before it is compared.
_DIGITS = 500
_PLACES = 20
# Before a sum: what makes it the end of a longer one that cannot be read here.
_CONTINUES = frozenset("^%<>\u2248\u00b1\u221a")


@dataclass(frozen=True, slots=True)
class _Equation:
    left: list[Symbol]
    right: list[Symbol]


class Arithmetic:
    """Every `sum = result` of plain numbers is worked out; results may be rounded or cut off."""

    name = "arithmetic"

    def analyze(self, view: DocumentView) -> PluginResult:
        findings: list[Finding] = []
        total = 0
        with localcontext() as context:
            context.prec = _DIGITS
            for block in view.blocks:
                for equation in _equations(view.prose_of(block)):
                    total += 1
                    if text := _problem(equation):
                        start, end = equation.left[0].start, equation.right[-1].end
                        place = Highlight.at(view, block.start + start, block.start + end)
                        findings.append(Finding("error", "Wrong result", text, place, 3))
        summary = f"{total} equations, {len(findings)} of them wrong." if total else "No equations."
        return PluginResult(summary, tuple(findings), share_grade(total - len(findings), total))


def _equations(prose: str) -> Iterator[_Equation]:
    before = 0
    signs = [match.start() for match in _EQUALS.finditer(prose)]
    for sign, after in pairwise([*signs, len(prose)]):
        left = _left(prose, symbols(prose, max(before, sign - _REACH), sign))
        right = _right(prose, symbols(prose, sign + 1, min(after, sign + _REACH)))
        before = sign + 1
        if left and right:
            yield _Equation(left, right)


def _left(prose: str, found: list[Symbol]) -> list[Symbol]:
    """The longest sum that ends at the equals sign; empty unless it holds an operation."""
    for first in range(len(found)):
        rest = found[first:]
        if rest[0].kind == "other" or not _is_sum(rest):
            continue
        ahead = found[first - 1] if first else None
        continued = ahead is not None and (ahead.kind == "operator" or ahead.text in _CONTINUES)
        called = rest[0].start > 0 and prose[rest[0].start - 1].isalnum()
        operations = any(symbol.kind == "operator" for symbol in rest[1:])
        return rest if operations and not continued and not called else []
    return []


def _right(prose: str, found: list[Symbol]) -> list[Symbol]:
    """The longest sum that begins at the equals sign."""
    for end in range(len(found), 0, -1):
        if found[0].kind != "other" and _is_sum(found[:end]):
            follows = prose[found[end - 1].end :].lstrip()[:1]
            return [] if follows and follows in _CONTINUES else found[:end]
    return []


def _is_sum(found: list[Symbol]) -> bool:
    try:
        return value(found) is not None
    except ZeroDivisionError:
        return True


def _problem(equation: _Equation) -> str | None:
    try:
        left, right = value(equation.left), value(equation.right)
    except ZeroDivisionError:
        return "It divides by zero."
    if left is None or right is None:
        raise AssertionError("an equation has two complete sums")
    places = _PLACES
    if len(equation.right) <= 2:
        places = len(equation.right[-1].text.partition(".")[2])
    unit = Decimal(1).scaleb(-places)
    rounded = left.quantize(unit, ROUND_HALF_UP)
    if right.quantize(unit) in (rounded, left.quantize(unit, ROUND_DOWN)):
        return None
    if places == _PLACES:
        return "The two sides are not equal."
    return f"The left side is {_written(left)}."


def _written(number: Decimal) -> str:
    text = f"{number.quantize(Decimal('0.000001')):f}"
    return text.rstrip("0").rstrip(".")
