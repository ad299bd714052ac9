"""What every figure offers to the command line."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from benchmarks.brokers import Broker
    from benchmarks.measurement import Measurement
    from benchmarks.tables import Table


@dataclass(frozen=True)
class Figure:
    """A subcommand. `options` turns parsed arguments into a dataclass that `measure` takes.

    `tables` gets the measurements and the name of the peer that ratios are formed to.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    options: Callable[[argparse.Namespace], Any]
    measure: Callable[[Sequence[Broker], Any, Path], list[Measurement]]
    tables: Callable[[Sequence[Measurement], str], list[Table]]


def listed(parse: Callable[[str], Any]) -> Callable[[str], tuple[Any, ...]]:
    """Return a parser of comma-separated values for argparse."""

    def parse_all(text: str) -> tuple[Any, ...]:
        try:
            return tuple(parse(part.strip()) for part in text.split(","))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parse_all


def one_of(*words: str) -> Callable[[str], str]:
    """Return a parser that takes these words alone."""

    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"{text!r} is none of {', '.join(words)}")
        return text

    return parse
