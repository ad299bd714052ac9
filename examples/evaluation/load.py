"""Documents and an evaluator into the database, evaluations left to be done.

As a command: `python -m evaluation.load FILE...` prints the ids of the evaluations.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from .database import create_tables, engine_for, sessions_for, transaction
from .errors import EvaluationError
from .intake import import_file
from .models import DocumentVersion, Evaluation, Evaluator, EvaluatorVersion, Status
from .records import stored_result
from .registry import DETERMINISTIC

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from sqlalchemy.orm import Session, sessionmaker

EVALUATOR = "editor"

_DESCRIPTION = "Load documents, leave their evaluations to be done, and print the ids of those."


def load(
    sessions: sessionmaker[Session],
    paths: Sequence[str | Path],
    plugins: Sequence[str] = DETERMINISTIC,
    settings: Mapping[str, Any] | None = None,
    evaluator: str = EVALUATOR,
) -> list[int]:
    """Store the files and what the evaluator shall do with them; return the evaluations' ids, in order.

    Those without a result for the present text and evaluator are PENDING afterwards, unless a worker
    has one in hand. Everything is stored in one transaction and nothing twice.
    """
    with transaction(sessions) as session:
        version = _evaluator_version(session, evaluator, list(plugins), dict(settings or {}))
        return [_evaluation(session, import_file(session, path).document_id, version) for path in paths]


def _evaluator_version(
    session: Session, name: str, plugins: list[str], settings: dict[str, Any]
) -> EvaluatorVersion:
    session.execute(insert(Evaluator).values(name=name).on_conflict_do_nothing())
    evaluator = session.scalars(select(Evaluator).where(Evaluator.name == name).with_for_update()).one()
    newest = session.scalars(
        select(EvaluatorVersion)
        .where(EvaluatorVersion.evaluator_id == evaluator.id)
        .order_by(EvaluatorVersion.version.desc())
        .limit(1)
    ).one_or_none()
    if newest is not None and (newest.plugins, newest.settings) == (plugins, settings):
        return newest
    version = EvaluatorVersion(
        evaluator_id=evaluator.id,
        version=newest.version + 1 if newest else 1,
        plugins=plugins,
        settings=settings,
    )
    session.add(version)
    session.flush()
    return version


def _evaluation(session: Session, document_id: int, evaluator: EvaluatorVersion) -> int:
    pair = {"document_id": document_id, "evaluator_id": evaluator.evaluator_id}
    session.execute(insert(Evaluation).values(pair).on_conflict_do_nothing())
    evaluation = session.scalars(select(Evaluation).filter_by(**pair).with_for_update()).one()
    sha256 = session.scalars(
        select(DocumentVersion.sha256)
        .where(DocumentVersion.document_id == document_id)
        .order_by(DocumentVersion.version.desc())
        .limit(1)
    ).one()
    done = stored_result(session, evaluation.id, sha256, evaluator.id)
    if done is None and evaluation.status is not Status.RUNNING:
        evaluation.status = Status.PENDING
    return evaluation.id


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m evaluation.load", description=_DESCRIPTION)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a Markdown file")
    parser.add_argument("--llm", action="store_true", help="also ask the model that EVALUATION_LLM_URL names")
    options = parser.parse_args(arguments)
    plugins = [*DETERMINISTIC, "llm"] if options.llm else DETERMINISTIC
    try:
        engine = engine_for()
        create_tables(engine)
        for evaluation_id in load(sessions_for(engine), options.files, plugins):
            print(evaluation_id)
    except EvaluationError as error:
        print(f"Nothing was loaded: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
