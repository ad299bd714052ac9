"""Sums as they are written in prose: tokens, and their value in decimal arithmetic."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

# Longer numbers are identifiers, not quantities.
_LONGEST_NUMBER = 30

_NUMBER = r"(?<![\w.])(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?!\w|[.,]\d)"
_OPERATOR = "[-+*/\u00d7\u00f7\u2212]"
_TOKEN = re.compile(rf"(?P<number>{_NUMBER})|(?P<operator>{_OPERATOR})|(?P<bracket>[()])|(?P<other>\S)")
_PLAIN = {"\u00d7": "*", "\u00f7": "/", "\u2212": "-"}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A number, an operator (`+ - * /`), a bracket, or anything else that ends a sum."""

    kind: str
    text: str
    start: int
    end: int


def symbols(text: str, start: int, end: int) -> list[Symbol]:
    """The symbols of `text[start:end]`, whatever is no part of a sum included as kind `other`."""
    found: list[Symbol] = []
    for match in _TOKEN.finditer(text, start, end):
        kind, written = str(match.lastgroup), match.group()
        if kind == "number" and len(written) > _LONGEST_NUMBER:
            kind = "other"
        found.append(Symbol(kind, _PLAIN.get(written, written), match.start(), match.end()))
    return found


def value(sum_: Sequence[Symbol]) -> Decimal | None:
    """What the symbols amount to; None if they are no complete sum. Raises ZeroDivisionError."""
    reader = _Reader(sum_)
    result = reader.terms()
    return result if reader.done else None


class _Reader:
    """Products before sums, brackets before both; every method gives None where the sum is broken."""

    def __init__(self, sum_: Sequence[Symbol]) -> None:
        self._symbols = sum_
        self._next = 0

    @property
    def done(self) -> bool:
        return self._next == len(self._symbols)

    def terms(self) -> Decimal | None:
        result = self._factors()
        while result is not None and (sign := self._take("operator", "+-")):
            term = self._factors()
            if term is None:
                return None
            result = result + term if sign == "+" else result - term
        return result

    def _factors(self) -> Decimal | None:
        result = self._factor()
        while result is not None and (sign := self._take("operator", "*/")):
            factor = self._factor()
            if factor is None:
                return None
            if sign == "/" and not factor:
                raise ZeroDivisionError("the sum divides by zero")
            result = result * factor if sign == "*" else result / factor
        return result

    def _factor(self) -> Decimal | None:
        if self._take("operator", "-"):
            factor = self._factor()
            return None if factor is None else -factor
        if self._take("bracket", "("):
            inner = self.terms()
            return inner if self._take("bracket", ")") else None
        number = self._take("number")
        return Decimal(number.replace(",", "")) if number else None

    def _take(self, kind: str, allowed: str | None = None) -> str | None:
        if self.done:
            return None
        symbol = self._symbols[self._next]
        if symbol.kind != kind or (allowed is not None and symbol.text not in allowed):
            return None
        self._next += 1
        return symbol.text
