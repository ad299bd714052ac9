"""Reports whose words were written by somebody who means harm."""

from __future__ import annotations

from typing import Any

from celery_postgres.compare.report.model import Report

WORDS = "<script>alert(1)</script><img src=http://evil.example/x>\"'&--></style>]]>\x00\x1b[2J\u202e\ud800"

#: What is no word for people: left as it is.
_KEPT = {"kind", "better", "format"}


def hostile(report: Report) -> Report:
    """The same report with these words in every text: names, titles, units, settings, URLs, warnings."""
    return Report.from_dict(_spoilt(report.as_dict()))


def _spoilt(value: Any, key: str = "") -> Any:
    if isinstance(value, str):
        return value if key in _KEPT else value + WORDS
    if isinstance(value, (list, tuple)):
        return [_spoilt(one) for one in value]
    if isinstance(value, dict):
        # Fields keep their names; what is keyed by a name of the report changes with it.
        named = key in {"rounds", "samples", "found", "settings", "environment"}
        return {name + WORDS if named else name: _spoilt(one, name) for name, one in value.items()}
    return value
