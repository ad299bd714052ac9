"""The orchestrator when something goes wrong: what is raised, what is stored, what is not."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from evaluation.errors import DeadlineExceeded, PermanentError, TransientError
from evaluation.findings import Finding, Highlight, PluginResult
from evaluation.models import Comment, Evaluation, EvaluationVersion, Job, PluginRun, Status
from evaluation.orchestrator import Orchestrator
from evaluation.registry import default_registry
from sqlalchemy import select, text

from tests.evaluation.scripted import Clock, Scripted, count, failing, good, one, registry_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.document_view import DocumentView
    from sqlalchemy.orm import Session, sessionmaker


def test_one_failing_plugin_makes_the_result_partial(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """The others are stored, the failure is recorded with the plugin, and the summary tells."""
    registry = registry_of(Scripted("a", good), Scripted("b", failing(ValueError("no \0 luck"))))
    result = Orchestrator(sessions, registry).process_evaluation(pending("a", "b", "unknown"))
    assert (result.status, result.grade, result.partial) == (Status.COMPLETED, 80, True)
    with sessions() as session:
        errors = session.scalars(select(PluginRun.error).order_by(PluginRun.id)).all()
    assert errors == [None, "no \ufffd luck", "There is no plugin 'unknown'; choose from a, b."]
    stored = one(sessions, EvaluationVersion)
    assert stored.partial
    assert stored.summary == "Grade 80 of 100: nothing to remark. Partial: b, unknown failed."


def test_when_every_plugin_fails_there_is_no_result(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """The error names every plugin, is not worth a retry, and is noted with the job."""
    registry = registry_of(Scripted("a", failing(ValueError("x"))), Scripted("b", failing(KeyError("y"))))
    with pytest.raises(PermanentError, match="Every plugin failed: a: x; b: 'y'"):
        Orchestrator(sessions, registry).process_evaluation(pending("a", "b"))
    job = one(sessions, Job)
    assert (count(sessions, EvaluationVersion), job.status, job.error_kind) == (
        0,
        Status.RUNNING,
        "PermanentError",
    )


def test_a_transient_error_leaves_the_evaluation_running(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """Nothing is stored, and the next attempt of the same task completes the same job."""
    evaluation_id = pending("a", "b")
    registry = registry_of(Scripted("a", good), Scripted("b", failing(TransientError("later", 7))))
    with pytest.raises(TransientError) as caught:
        Orchestrator(sessions, registry).process_evaluation(evaluation_id, task_id="t")
    assert caught.value.retry_after_s == 7
    assert (one(sessions, Evaluation).status, one(sessions, Job).error) == (Status.RUNNING, "later")
    registry = registry_of(Scripted("a", good), Scripted("b", good))
    result = Orchestrator(sessions, registry).process_evaluation(evaluation_id, task_id="t")
    job = one(sessions, Job)
    assert (result.version, job.attempts, job.error, job.status) == (1, 2, None, Status.COMPLETED)


def test_the_deadline_is_checked_between_plugins(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """The plugin after the deadline does not run, whoever set the deadline."""
    clock = Clock()

    def slow(view: DocumentView) -> PluginResult:
        clock.advance(100)
        return good(view)

    last = Scripted("b", good)
    orchestrator = Orchestrator(sessions, registry_of(Scripted("a", slow), last), clock)
    evaluation_id = pending("a", "b")
    with pytest.raises(DeadlineExceeded, match="No time was left for b"):
        orchestrator.process_evaluation(evaluation_id, clock.now + timedelta(seconds=50))
    with sessions.begin() as session:
        session.execute(text("UPDATE app.evaluator_version SET time_limit_s = 60"))
    with pytest.raises(DeadlineExceeded):
        orchestrator.process_evaluation(evaluation_id, clock.now + timedelta(seconds=5000))
    assert last.calls == 0


def test_an_interruption_ends_the_evaluation(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """An exception by which the surroundings stop a plugin is not that plugin's failure."""

    class StopNowError(Exception):
        pass

    registry = registry_of(Scripted("a", failing(StopNowError())), Scripted("b", good))
    orchestrator = Orchestrator(sessions, registry, interruptions=(StopNowError,))
    with pytest.raises(DeadlineExceeded, match="during a"):
        orchestrator.process_evaluation(pending("a", "b"))


def test_a_crash_while_storing_leaves_nothing_behind(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """If the last of the rows cannot be written, none of the others is there."""

    def bad(_: DocumentView) -> PluginResult:
        finding = Finding("error", "\0", "", Highlight("x"))
        return PluginResult("Bad.", (finding,), 10)

    evaluation_id = pending("a")
    with pytest.raises(Exception, match="NUL"):
        Orchestrator(sessions, registry_of(Scripted("a", bad))).process_evaluation(evaluation_id)
    assert [count(sessions, entity) for entity in (EvaluationVersion, Comment, PluginRun)] == [0, 0, 0]
    assert one(sessions, Evaluation).status is Status.RUNNING


def test_giving_up_is_recorded_once(sessions: sessionmaker[Session], pending: Callable[..., int]) -> None:
    """FAILED is written with the error, not repeated, and never over a result."""
    orchestrator = Orchestrator(sessions, registry_of(Scripted("a", failing(TransientError("down")))))
    evaluation_id = pending("a")
    with pytest.raises(TransientError):
        orchestrator.process_evaluation(evaluation_id, task_id="t")
    assert orchestrator.fail_evaluation(evaluation_id, TransientError("down for good"), task_id="t")
    assert not orchestrator.fail_evaluation(evaluation_id, TransientError("again"), task_id="t")
    job = one(sessions, Job)
    assert (one(sessions, Evaluation).status, job.status) == (Status.FAILED, Status.FAILED)
    assert (job.error, job.error_kind) == ("down for good", "TransientError")
    Orchestrator(sessions, registry_of(Scripted("a", good))).process_evaluation(evaluation_id)
    assert not orchestrator.fail_evaluation(evaluation_id, TransientError("late"))
    assert one(sessions, Evaluation).status is Status.COMPLETED


def test_an_unknown_evaluation_is_a_permanent_error(sessions: sessionmaker[Session]) -> None:
    """There is nothing to retry, and nothing to mark as failed."""
    orchestrator = Orchestrator(sessions, default_registry())
    with pytest.raises(PermanentError, match="There is no evaluation 4711"):
        orchestrator.process_evaluation(4711)
    assert not orchestrator.fail_evaluation(4711, PermanentError("x"))


def test_an_evaluation_without_a_text_is_a_permanent_error(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """The error says what has to be stored first."""
    evaluation_id = pending("a")
    with sessions.begin() as session:
        session.execute(text("DELETE FROM app.document_version"))
    with pytest.raises(PermanentError, match="The document of evaluation 1 has no version"):
        Orchestrator(sessions, registry_of(Scripted("a", good))).process_evaluation(evaluation_id)
