"""Results as plain text for a terminal.

As a command: `python -m evaluation.report [ID...]`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import select

from .database import engine_for, sessions_for, transaction
from .errors import EvaluationError, PermanentError
from .excerpt import excerpt, printable
from .lines import Lines
from .models import (
    Comment,
    Document,
    DocumentVersion,
    Evaluation,
    EvaluationVersion,
    Evaluator,
    EvaluatorVersion,
    Job,
    PluginRun,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy.orm import Session

WIDTH = 100

_DESCRIPTION = "Show the newest results of evaluations: grade, comments, and the time of each plugin."
_INDENT = " " * 10
_HEADER_INDENT = " " * 32
_COLOURS = {"error": "31", "warning": "33", "nitpick": "36", "info": "34", "strong": "1", "faint": "2"}


@dataclass(frozen=True, slots=True)
class Style:
    """How to write: `width` columns, colours or none, and at most so many comments."""

    width: int = WIDTH
    colour: bool = False
    limit: int | None = None

    def paint(self, text: str, name: str) -> str:
        return f"\x1b[{_COLOURS[name]}m{text}\x1b[0m" if self.colour and text else text


def render(session: Session, evaluation_id: int, style: Style | None = None) -> str:
    """The newest result of an evaluation, or how far it has come. Raises PermanentError for an unknown id."""
    style = style or Style()
    evaluation = session.get(Evaluation, evaluation_id)
    if evaluation is None:
        raise PermanentError(f"There is no evaluation {evaluation_id}.")
    document = session.get_one(Document, evaluation.document_id)
    lines = [
        style.paint(printable(document.title), "strong"),
        style.paint(printable(document.source), "faint"),
    ]
    version = session.scalars(
        select(EvaluationVersion)
        .where(EvaluationVersion.evaluation_id == evaluation_id)
        .order_by(EvaluationVersion.version.desc())
        .limit(1)
    ).one_or_none()
    if version is None:
        return "\n".join([*lines, *_status(session, evaluation, style)]) + "\n"
    comments = session.scalars(
        select(Comment)
        .where(Comment.evaluation_version_id == version.id)
        .order_by(Comment.start_offset.nulls_last(), Comment.id)
    ).all()
    runs = session.scalars(
        select(PluginRun).where(PluginRun.job_id == version.job_id).order_by(PluginRun.id)
    ).all()
    content = session.get_one(DocumentVersion, version.document_version_id).content
    lines += [style.paint(part, "strong") for part in textwrap.wrap(printable(version.summary), style.width)]
    lines += ["", *_comments(comments, Lines(content), style)]
    lines += [*_plugins(runs, version, style), "", _signature(session, evaluation, version)]
    return "\n".join(lines) + "\n"


def _status(session: Session, evaluation: Evaluation, style: Style) -> Iterator[str]:
    yield f"Evaluation {evaluation.id} is {evaluation.status.value}; there is no result."
    job = session.scalars(
        select(Job).where(Job.evaluation_id == evaluation.id).order_by(Job.id.desc()).limit(1)
    ).one_or_none()
    if job is not None and job.error:
        text = f"{job.error_kind} in attempt {job.attempts}: {printable(job.error)}"
        yield from (style.paint(part, "error") for part in textwrap.wrap(text, style.width))


def _comments(comments: Sequence[Comment], lines: Lines, style: Style) -> Iterator[str]:
    shown = comments if style.limit is None else comments[: style.limit]
    for comment in shown:
        yield from _comment(comment, lines, style)
        yield ""
    if len(shown) < len(comments):
        yield f"\u2026 and {len(comments) - len(shown)} more."
        yield ""


def _comment(comment: Comment, lines: Lines, style: Style) -> Iterator[str]:
    place = "?"
    if comment.is_valid and comment.start_offset is not None:
        number, column = lines.position(comment.start_offset)
        place = f"{number}:{column}"
    level = style.paint(f"{comment.level:<8}", comment.level)
    header, *rest = textwrap.wrap(printable(comment.header), style.width - len(_HEADER_INDENT)) or [""]
    yield f"{place:>8}  {level} {comment.source:<12} {header}"
    yield from (_HEADER_INDENT + line for line in rest)
    texts = [comment.description]
    if comment.error:
        texts.append(f"About \u201c{comment.quoted_text}\u201d: {comment.error}")
    for text in texts:
        wrapped = textwrap.wrap(printable(text), style.width - len(_INDENT))
        yield from (_INDENT + line for line in wrapped)
    if comment.is_valid and comment.start_offset is not None and comment.end_offset is not None:
        room = style.width - len(_INDENT) - 2
        part = excerpt(lines, comment.start_offset, comment.end_offset, room)
        marks = " " * part.start + style.paint("^" * (part.end - part.start), comment.level)
        bar = style.paint("|", "faint")
        yield f"{_INDENT}{bar} {part.text}"
        yield f"{_INDENT}{bar} {marks}"


def _plugins(runs: Sequence[PluginRun], version: EvaluationVersion, style: Style) -> Iterator[str]:
    yield style.paint(f"{'plugin':<14}{'grade':>6}{'comments':>10}{'seconds':>10}", "faint")
    for run in runs:
        grade = "-" if run.grade is None else str(run.grade)
        row = f"{run.plugin:<14}{grade:>6}{run.comments:>10}{run.seconds:>10.4f}"
        yield row
        if run.error:
            for part in textwrap.wrap(f"failed: {printable(run.error)}", style.width - 4):
                yield style.paint(f"    {part}", "error")
    grade = "-" if version.grade is None else str(version.grade)
    comments, seconds = sum(run.comments for run in runs), sum(run.seconds for run in runs)
    yield style.paint(f"{'together':<14}{grade:>6}{comments:>10}{seconds:>10.4f}", "strong")


def _signature(session: Session, evaluation: Evaluation, version: EvaluationVersion) -> str:
    evaluator = session.get_one(Evaluator, evaluation.evaluator_id).name
    evaluated_by = session.get_one(EvaluatorVersion, version.evaluator_version_id).version
    text = session.get_one(DocumentVersion, version.document_version_id).version
    job = session.get_one(Job, version.job_id)
    by = f"by {printable(job.worker)}, attempt {job.attempts}" if job.worker else f"attempt {job.attempts}"
    return (
        f"Evaluation {evaluation.id}, version {version.version}: {evaluator} {evaluated_by} "
        f"on version {text} of the document; job {job.id}, {by}."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluation.report", description=_DESCRIPTION)
    parser.add_argument("ids", nargs="*", type=int, metavar="ID", help="an evaluation; all of them if none")
    parser.add_argument("--limit", type=int, metavar="N", help="show at most N comments of each")
    options = parser.parse_args(arguments)
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    style = Style(min(WIDTH, shutil.get_terminal_size().columns), colour, options.limit)
    try:
        with transaction(sessions_for(engine_for())) as session:
            ids = options.ids or session.scalars(select(Evaluation.id).order_by(Evaluation.id)).all()
            print("\n".join(render(session, evaluation_id, style) for evaluation_id in ids), end="")
    except EvaluationError as error:
        print(f"There is nothing to show: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
