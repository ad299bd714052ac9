"""The report: lines for people as the checks go on, and the same as JSON for programs."""

from __future__ import annotations

import json
import textwrap
from typing import TYPE_CHECKING, Any

from .outcome import FAIL, PASS, SKIP

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .outcome import Outcome
    from .request import Request

_WIDTH = 110
_INDENT = " " * 33


def heading(request: Request) -> str:
    """What is going to happen, said before anything does."""
    lines = [f"Verifying {request.dsn.masked()}"]
    if request.prepared_schema:
        lines.append(
            f"in the schema {request.prepared_schema}, which is left empty; nothing else is touched."
        )
    else:
        end = "kept" if request.keep else "removed"
        lines.append(f"in a schema of its own, which is {end} at the end; nothing else is touched.")
    if task := request.own_task:
        arguments = [*map(json.dumps, task.args), *(f"{k}={json.dumps(v)}" for k, v in task.kwargs.items())]
        lines.append(
            f"At the end {task.name}({', '.join(arguments)}) of -A {task.application} really runs: "
            "whatever it does to the application's data, it does. Its broker and its result backend are "
            "replaced; tasks that it sends stay in the schema."
        )
    return "\n".join(textwrap.fill(line, _WIDTH) for line in lines) + "\n"


def line(outcome: Outcome) -> str:
    """One outcome: verdict, name, seconds, what was seen; a failure with its remedy below."""
    taken = f"{outcome.seconds:6.2f} s" if outcome.verdict != SKIP else " " * 8
    text = textwrap.fill(outcome.said, _WIDTH, initial_indent=" " * 33, subsequent_indent=_INDENT)
    lines = [f"{outcome.verdict}  {outcome.name:<16} {taken}  {text.lstrip()}"]
    if outcome.remedy:
        # Not wrapped: it is there to be copied.
        lines.append(f"      remedy: {outcome.remedy}")
    if outcome.log:
        lines.append(f"      log: {outcome.log}")
    return "\n".join(lines)


def summary(outcomes: Sequence[Outcome], schema: str | None = None) -> str:
    """How many of each, and after how long; with a schema, how to look at it and to remove it."""
    passed, failed, skipped = (sum(o.verdict == v for o in outcomes) for v in (PASS, FAIL, SKIP))
    seconds = sum(outcome.seconds for outcome in outcomes)
    lines = [f"{passed} passed, {failed} failed, {skipped} skipped in {seconds:.1f} s."]
    if schema:
        lines.append(f'The schema "{schema}" is kept. To remove it: DROP SCHEMA "{schema}" CASCADE;')
    return "\n".join(lines)


def as_json(request: Request, outcomes: Sequence[Outcome], schema: str) -> str:
    """Everything, for programs; seconds are floats, the URL shows no password."""
    content: dict[str, Any] = {
        "database": request.dsn.masked(),
        "schema": schema,
        "kept": request.keep,
        "ok": ok(outcomes),
        "checks": [
            {
                "name": outcome.name,
                "verdict": outcome.verdict,
                "seconds": round(outcome.seconds, 4),
                "said": outcome.said,
                "remedy": outcome.remedy or None,
                "log": str(outcome.log) if outcome.log else None,
                "figures": dict(outcome.figures),
            }
            for outcome in outcomes
        ],
    }
    return json.dumps(content, indent=2) + "\n"


def ok(outcomes: Sequence[Outcome]) -> bool:
    """Whether nothing failed."""
    return all(outcome.verdict != FAIL for outcome in outcomes)
