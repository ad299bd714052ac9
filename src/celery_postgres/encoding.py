"""Values on the wire: parameters as PostgreSQL reads them, and the fields of the rows that it returns."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

from psycopg import pq

from .errors import DatabaseRejected

if TYPE_CHECKING:
    from collections.abc import Sequence

    from psycopg.pq.abc import PGresult

BINARY = pq.Format.BINARY
_TEXT = pq.Format.TEXT


def encode(value: object) -> bytes | None:
    """A parameter as PostgreSQL reads it in text format; `bytes` pass through and are sent as binary.

    Raises DatabaseRejected for a text that PostgreSQL would refuse, or cut off at a NUL.
    """
    if value is None or isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return _encode_text(value)
    if isinstance(value, bool):
        return b"t" if value else b"f"
    if isinstance(value, list):
        return _encode_text("{" + ",".join(map(_element, value)) + "}")
    if isinstance(value, (int, float, UUID)):
        return str(value).encode()
    raise TypeError(f"no PostgreSQL form for {type(value).__name__}")


def _element(value: object) -> str:
    """One element of an array's text form."""
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return str(value)


def _encode_text(text: str) -> bytes:
    if "\0" in text:
        raise DatabaseRejected(f"the text {text[:60]!r} contains a NUL: remove it", "22021")
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise DatabaseRejected(f"the text {text[:60]!r} is not valid Unicode: correct it", "22021") from None


def formats_of(values: Sequence[object]) -> list[pq.Format]:
    """The format of each parameter that `encode` makes."""
    return [BINARY if isinstance(value, bytes) else _TEXT for value in values]


class Rows:
    """The rows that one statement returned, in binary form; `text`, `number` and `flag` decode a field."""

    __slots__ = ("_value", "count")

    def __init__(self, result: PGresult) -> None:
        self.count = result.ntuples
        self._value = result.get_value

    def raw(self, row: int, column: int) -> bytes | None:
        return self._value(row, column)

    def text(self, row: int, column: int) -> str | None:
        value = self._value(row, column)
        return None if value is None else value.decode()

    def number(self, row: int, column: int) -> int | None:
        value = self._value(row, column)
        return None if value is None else int.from_bytes(value, "big", signed=True)

    def integer(self, row: int, column: int) -> int:
        """A number that is never NULL."""
        return int.from_bytes(self._value(row, column) or b"", "big", signed=True)

    def flag(self, row: int, column: int) -> bool:
        return self._value(row, column) == b"\x01"
