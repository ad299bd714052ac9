"""Files that are whole or not there: a reader, or a crash, never meets half a report."""

from __future__ import annotations

import os
from pathlib import Path


def write(text: str, path: Path | str) -> None:
    """Put the text where the path leads, in place of what is there; OSError as for any file.

    A symbolic link stays one. What is no file (a terminal, a pipe) is simply written to.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        target.write_text(text, encoding="utf-8")
        return
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
