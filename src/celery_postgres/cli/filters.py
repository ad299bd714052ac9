"""How the commands read what is chosen: times, words of a list, and names that nobody knows."""

from __future__ import annotations

import difflib
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

_UNITS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_moment(_context: click.Context, _parameter: click.Parameter, value: str | None) -> datetime | None:
    """A time, or how long ago."""
    if value is None:
        return None
    try:
        ago = re.fullmatch(r"([0-9]{1,9}) ?(s|m|min|h|d|w)( ago)?", value.strip())
        if ago:
            return datetime.now(timezone.utc) - timedelta(seconds=int(ago[1]) * _UNITS[ago[2]])
        at = datetime.fromisoformat(re.sub(r"Z$", "+00:00", value.strip()))
        return (at if at.tzinfo else at.replace(tzinfo=timezone.utc)).astimezone(timezone.utc)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            f"{value!r} is no time: write 2026-01-31, 2026-01-31T12:00 or 2026-01-31T12:00+01:00 (UTC "
            "without an offset), or how long ago: 90s, 15m, 2h, 3d."
        ) from None


def meant(word: str, known: Iterable[str]) -> str:
    """`did you mean …? `, or nothing where no word is near."""
    near = difflib.get_close_matches(word.lower(), sorted(known), 1)
    return f"did you mean {near[0]}? " if near else ""
