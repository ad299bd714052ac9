"""The tasks' policy: what is retried, what is not, and what is written at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from evaluation.errors import DeadlineExceeded, PermanentError, TransientError
from evaluation.findings import PluginResult
from evaluation.load import load
from evaluation.models import Document, Evaluation, EvaluationVersion, Job, Status
from evaluation.registry import Registry
from sqlalchemy import select, update

from tests.evaluation import PLANTED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evaluation.document_view import DocumentView
    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def tasks(
    sessions: sessionmaker[Session], empty_module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> Any:
    """The task module on this test's database; tasks are run in place, retries at once."""
    monkeypatch.setenv("DATABASE_URL", empty_module_database_url)
    from evaluation import tasks

    monkeypatch.setattr(tasks, "sessions", lambda: sessions)
    return tasks


@pytest.fixture
def scripted(
    tasks: Any, sessions: sessionmaker[Session], monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, list[int]]]:
    """An evaluation whose only plugin raises these errors in turn and then succeeds; and its calls."""

    def make(*errors: Exception) -> tuple[int, list[int]]:
        waiting, calls = list(errors), []

        class Plugin:
            name = "p"

            def analyze(self, view: DocumentView) -> PluginResult:
                calls.append(view.words)
                if waiting:
                    raise waiting.pop(0)
                return PluginResult("Fine.", grade=90)

        monkeypatch.setattr(tasks, "default_registry", lambda: Registry({"p": Plugin}))
        return load(sessions, [PLANTED], ["p"])[0], calls

    return make


def one(sessions: sessionmaker[Session], entity: Any) -> Any:
    with sessions() as session:
        return session.scalars(select(entity)).one()


def test_a_task_answers_with_the_result(tasks: Any, sessions: sessionmaker[Session]) -> None:
    """Id, version, grade and number of comments, and the same when it runs again."""
    (evaluation_id,) = load(sessions, [PLANTED])
    expected = {"evaluation_id": evaluation_id, "version": 1, "grade": 70, "comments": 20}
    assert tasks.evaluate.apply((evaluation_id,)).get() == expected
    assert tasks.evaluate.apply(kwargs={"evaluation_id": evaluation_id}).get() == expected


def test_transient_errors_are_retried(
    tasks: Any, sessions: sessionmaker[Session], scripted: Callable[..., tuple[int, list[int]]]
) -> None:
    """With the other side's advice on waiting or without, up to three times, in one job."""
    errors = (TransientError("a"), TransientError("b", 3600.0), TransientError("c", 0.0))
    evaluation_id, calls = scripted(*errors)
    assert tasks.evaluate.apply((evaluation_id,), task_id="t").get()["grade"] == 90
    job = one(sessions, Job)
    assert (len(calls), job.attempts, job.task_id, job.status) == (4, 4, "t", Status.COMPLETED)


@pytest.mark.parametrize("wait", [None, 0.0])
def test_the_last_retry_fails_for_good(
    tasks: Any,
    sessions: sessionmaker[Session],
    scripted: Callable[..., tuple[int, list[int]]],
    caplog: pytest.LogCaptureFixture,
    wait: float | None,
) -> None:
    """The error of the last attempt is the task's, and FAILED is written once."""
    evaluation_id, calls = scripted(*(TransientError(f"error {n}", wait) for n in range(9)))
    result = tasks.evaluate.apply((evaluation_id,), task_id="t")
    assert isinstance(result.result, TransientError)
    assert (len(calls), str(result.result)) == (4, "error 3")
    job = one(sessions, Job)
    assert (one(sessions, Evaluation).status, job.status, job.error) == (
        Status.FAILED,
        Status.FAILED,
        "error 3",
    )
    assert [record.message for record in caplog.records].count(
        f"evaluation {evaluation_id}: failed: error 3"
    ) == 1


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (PermanentError("never"), PermanentError),
        (DeadlineExceeded("late"), DeadlineExceeded),
        (SoftTimeLimitExceeded(), DeadlineExceeded),
    ],
)
def test_other_errors_are_not_retried(
    tasks: Any,
    sessions: sessionmaker[Session],
    scripted: Callable[..., tuple[int, list[int]]],
    error: Exception,
    kind: type[Exception],
) -> None:
    """They fail at once, a time limit as an exceeded deadline."""
    evaluation_id, calls = scripted(error)
    result = tasks.evaluate.apply((evaluation_id,))
    assert isinstance(result.result, kind)
    assert (len(calls), one(sessions, Evaluation).status) == (1, Status.FAILED)
    assert one(sessions, Job).error_kind == kind.__name__


def test_a_failed_evaluation_can_be_asked_for_again(
    tasks: Any, sessions: sessionmaker[Session], scripted: Callable[..., tuple[int, list[int]]]
) -> None:
    """A later task is a job of its own."""
    evaluation_id, _ = scripted(PermanentError("no"))
    tasks.evaluate.apply((evaluation_id,))
    assert tasks.evaluate.apply((evaluation_id,)).get()["version"] == 1
    assert one(sessions, Evaluation).status is Status.COMPLETED
    with sessions() as session:
        statuses = session.scalars(select(Job.status).order_by(Job.id)).all()
    assert statuses == [Status.FAILED, Status.COMPLETED]


def test_a_cancelled_evaluation_has_no_version(
    tasks: Any, sessions: sessionmaker[Session], scripted: Callable[..., tuple[int, list[int]]]
) -> None:
    """The task succeeds, since there is nothing to do."""
    evaluation_id, calls = scripted()
    with sessions.begin() as session:
        session.execute(update(Evaluation).values(status=Status.CANCELLED))
    assert tasks.evaluate.apply((evaluation_id,)).get()["version"] is None
    assert calls == []


@pytest.mark.parametrize("arguments", [(), ("7",), (4711,), (1, 2)])
def test_nonsense_fails_and_marks_nothing(
    tasks: Any, sessions: sessionmaker[Session], arguments: tuple[Any, ...]
) -> None:
    """A message without a usable id is a failed task, and no evaluation's failure."""
    assert tasks.evaluate.apply(arguments).failed()
    with sessions() as session:
        assert session.scalars(select(Job)).all() == []
        assert session.scalars(select(EvaluationVersion)).all() == []


def test_an_import_answers_with_what_it_stored(
    tasks: Any, sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    """Twice is once; a file that is not there fails without a retry."""
    file = tmp_path / "a.md"
    file.write_text("# A")
    results = [tasks.import_document.apply((str(file),)).get() for _ in range(2)]
    assert results == [
        {"document_id": 1, "version": 1, "created": True},
        {"document_id": 1, "version": 1, "created": False},
    ]
    assert one(sessions, Document).title == "A"
    assert isinstance(tasks.import_document.apply((str(tmp_path / "b.md"),)).result, PermanentError)


def test_messages_survive_their_worker(tasks: Any) -> None:
    """Both tasks acknowledge late, come back from a lost worker, and have limits that fit together."""
    for task in (tasks.evaluate, tasks.import_document):
        assert (task.acks_late, task.reject_on_worker_lost, task.max_retries) == (True, True, 3)
        assert 240 < task.soft_time_limit < task.time_limit
    assert tasks.app.tasks["evaluation.evaluate"].name == tasks.evaluate.name


def test_sessions_come_from_the_environment(
    tasks: Any, empty_module_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Made at first use, in the process that uses them."""
    monkeypatch.undo()
    monkeypatch.setenv("DATABASE_URL", empty_module_database_url)
    tasks.sessions.cache_clear()
    try:
        with tasks.sessions()() as session:
            assert session.connection().engine.url.database in empty_module_database_url
    finally:
        tasks.sessions.cache_clear()
