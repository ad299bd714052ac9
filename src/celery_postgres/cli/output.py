"""How commands print: aligned tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")

_GAP = "  "
_CUT = "…"


def terminal_width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere and nothing need be cut."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], width: int | None = None) -> str:
    """Aligned columns, numbers to the right; the last column is cut to fit into `width`."""
    texts = [[_text(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *texts, strict=True)]
    if width is not None:
        before = sum(widths[:-1]) + len(_GAP) * (len(widths) - 1)
        widths[-1] = max(len(headings[-1]), min(widths[-1], width - before))
    numeric = [
        all(isinstance(row[i], (int, float)) or row[i] is None for row in rows) for i in range(len(widths))
    ]
    lines = []
    for cells in [list(headings), *texts]:
        placed = [
            _cut(cell, size).rjust(size) if right else _cut(cell, size).ljust(size)
            for cell, size, right in zip(cells, widths, numeric, strict=True)
        ]
        lines.append(_GAP.join(placed).rstrip())
    return "\n".join(lines)


def _text(value: object) -> str:
    return "-" if value is None else printable(str(value))


def _cut(text: str, size: int) -> str:
    return text if len(text) <= size else text[: size - 1] + _CUT


def printable(text: str) -> str:
    """Names come from publishers: nothing that moves the cursor, and nothing that the output cannot hold."""
    shown = "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return shown.encode(encoding, "backslashreplace").decode(encoding)


def moment(value: datetime | None) -> str | None:
    """A time for people, in UTC."""
    return None if value is None else f"{value.astimezone(timezone.utc):%Y-%m-%d %H:%M:%S}Z"


def duration(seconds: float | None) -> str | None:
    """How long, in its two largest units."""
    if seconds is None:
        return None
    left = max(0, round(seconds))
    parts: list[str] = []
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)):
        number, left = divmod(left, size)
        if number or (unit == "s" and not parts):
            parts.append(f"{number} {unit}")
        elif parts:
            break
    return " ".join(parts[:2])


def document(value: Any) -> str:
    """One JSON document; times as ISO 8601 in UTC."""
    return json.dumps(value, default=_plain, indent=2)


def record(value: Any) -> dict[str, Any]:
    """A value's fields, in their order."""
    return asdict(value)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(timezone.utc).isoformat()
    raise TypeError(f"no JSON form for {type(value).__name__}")
