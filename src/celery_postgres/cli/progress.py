"""What a long command is doing: one line that is rewritten on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from celery_postgres.compare.progress import Step

_SOON_S = 5
_CLEAR = "\r\x1b[K"


class Progress:
    """Writes to a stream of its own, so that the output is the report alone."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._live = stream.isatty()
        self._item: object = None

    def tell(self, text: str) -> None:
        """Something that stays."""
        self._write(f"{_CLEAR if self._live else ''}{text}\n")

    def at(self, step: Step) -> None:
        """What is being done; replaces what was being done before."""
        item = step.item
        line = f"{item.stage}: {item.contender}"
        left = f"{_duration(step.left_s)} left"
        if self._live:
            whole = f"{line}{f', {step.doing}' if step.doing else ''} ({left})"
            self._write(_CLEAR + whole[: shutil.get_terminal_size().columns - 1])
        elif item != self._item:
            # One for each turn of a contender is enough for a log.
            self._write(f"{line} ({left})\n")
        self._item = item

    def end(self) -> None:
        """Make room for what follows."""
        if self._live:
            self._write(_CLEAR)

    def _write(self, text: str) -> None:
        click.echo(text, file=self._stream, nl=False)
        self._stream.flush()


def _duration(seconds: float) -> str:
    if seconds < _SOON_S:
        return "a few seconds"
    minutes, rest = divmod(round(seconds), 60)
    return f"about {minutes} min {rest} s" if minutes else f"about {rest} s"
