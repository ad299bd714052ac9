"""A report as a JSON file: for programs, and to be shown again later."""

from __future__ import annotations

import json
from pathlib import Path

from . import file
from .model import Report


def write(report: Report, path: Path | str) -> None:
    """Write all of it; the file is whole or not there. OSError where it cannot be written."""
    file.write(json.dumps(report.as_dict(), indent=1, allow_nan=False) + "\n", path)


def read(path: Path | str) -> Report:
    """What `write` wrote. OSError without such a file, ValueError if it is no report or of another format."""
    text = Path(path).read_text(encoding="utf-8")
    try:
        given = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path} is no JSON ({error}): name a file that `compare --json` wrote") from error
    if not isinstance(given, dict):
        raise ValueError(f"{path} is no report: name a file that `compare --json` wrote")
    try:
        return Report.from_dict(given)
    except ValueError as error:
        raise ValueError(f"{path} holds {error}: read it with the release that wrote it") from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no report, or a damaged one ({type(error).__name__}: {error}): "
            "name a file that `compare --json` wrote"
        ) from error
