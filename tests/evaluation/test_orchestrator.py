"""The orchestrator: one result per text and evaluator, whoever asks and however often."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from evaluation.findings import Finding, Highlight, PluginResult
from evaluation.load import load
from evaluation.models import Comment, Evaluation, EvaluationVersion, Job, PluginRun, Status
from evaluation.orchestrator import Orchestrator
from evaluation.registry import Registry, default_registry
from evaluation.result import EvaluationResult
from sqlalchemy import select, update

from tests.evaluation import PLANTED
from tests.evaluation.scripted import Clock, Scripted, count, good, one, registry_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from evaluation.document_view import DocumentView
    from sqlalchemy.orm import Session, sessionmaker


def test_the_whole_result_is_stored(sessions: sessionmaker[Session]) -> None:
    """Grade, summary, comments and plugin runs are rows, and every comment quotes the document."""
    (evaluation_id,) = load(sessions, [PLANTED])
    result = Orchestrator(sessions, default_registry(), worker="w1").process_evaluation(
        evaluation_id, task_id="t1"
    )
    assert result == EvaluationResult(evaluation_id, Status.COMPLETED, 1, 70, 20)
    content = PLANTED.read_text(encoding="utf-8")
    with sessions() as session:
        version = session.scalars(select(EvaluationVersion)).one()
        comments = session.scalars(select(Comment).order_by(Comment.id)).all()
        runs = session.scalars(select(PluginRun).order_by(PluginRun.id)).all()
        job = session.scalars(select(Job)).one()
        assert session.get_one(Evaluation, evaluation_id).status is Status.COMPLETED
    assert (version.grade, version.partial, version.job_id) == (70, False, job.id)
    assert version.summary == "Grade 70 of 100: 6 errors, 8 warnings, 6 nitpicks."
    assert version.analysis.startswith("## structure\n\n7 headings, 6 remarks")
    assert len(comments) == 20
    for comment in comments:
        assert comment.is_valid
        assert content[comment.start_offset : comment.end_offset] == comment.quoted_text
        assert content[: comment.start_offset].endswith(comment.prefix)
    assert [(run.plugin, run.grade, run.comments) for run in runs] == [
        ("structure", 76, 6),
        ("links", 50, 5),
        ("spelling", 65, 3),
        ("readability", 100, 1),
        ("repetition", 65, 3),
        ("arithmetic", 67, 2),
    ]
    assert (job.status, job.attempts, job.task_id, job.worker) == (Status.COMPLETED, 1, "t1", "w1")
    assert job.finished_at is not None
    assert "- spelling: " in str(job.log)


def test_a_second_call_returns_the_stored_result(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """At-least-once delivery does no work and stores nothing the second time."""
    plugin = Scripted("a", good)
    orchestrator = Orchestrator(sessions, registry_of(plugin))
    evaluation_id = pending("a")
    first = orchestrator.process_evaluation(evaluation_id, task_id="t")
    second = orchestrator.process_evaluation(evaluation_id, task_id="t")
    assert (first.version, first.reused, second.version, second.reused) == (1, False, 1, True)
    assert (second.grade, second.comments) == (first.grade, first.comments)
    assert (plugin.calls, count(sessions, EvaluationVersion), one(sessions, Job).attempts) == (1, 1, 1)


def test_a_new_text_or_evaluator_makes_a_new_version(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """The result belongs to one text and one evaluator version; the old text finds its old result."""
    file = tmp_path / "a.md"
    orchestrator = Orchestrator(sessions, registry_of(Scripted("a", good), Scripted("b", good)))
    versions = []
    for content, plugins in (("one", "a"), ("two", "a"), ("two", "ab"), ("one", "ab"), ("two", "ab")):
        file.write_text(content)
        (evaluation_id,) = load(sessions, [file], plugins)
        versions.append(orchestrator.process_evaluation(evaluation_id).version)
    assert versions == [1, 2, 3, 4, 3]


def test_heartbeats_are_recorded_and_told(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """The caller hears of every plugin; the job's heartbeat moves when some seconds have gone by."""
    clock = Clock()
    beats = []

    def heartbeat(plugin: str) -> None:
        beats.append((plugin, (one(sessions, Job).heartbeat_at - start).total_seconds()))
        clock.advance(3)

    start = clock.now
    registry = registry_of(*(Scripted(name, good) for name in "abcd"))
    Orchestrator(sessions, registry, clock).process_evaluation(pending(*"abcd"), heartbeat=heartbeat)
    assert beats == [("a", 0.0), ("b", 0.0), ("c", 6.0), ("d", 6.0)]


def test_a_cancelled_evaluation_is_left_alone(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """Cancelled before, it does not run; cancelled meanwhile, its result is not stored."""

    def cancel(view: DocumentView) -> PluginResult:
        with sessions.begin() as session:
            session.execute(update(Evaluation).values(status=Status.CANCELLED))
        return good(view)

    plugin = Scripted("a", cancel)
    orchestrator = Orchestrator(sessions, registry_of(plugin))
    evaluation_id = pending("a")
    for _ in range(2):
        assert orchestrator.process_evaluation(evaluation_id).status is Status.CANCELLED
    assert (plugin.calls, count(sessions, EvaluationVersion)) == (1, 0)
    assert one(sessions, Job).status is Status.CANCELLED


def test_two_workers_at_once_store_one_result(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """Both do the work, one stores it, and both give the same answer."""
    both = threading.Barrier(2, timeout=30)

    def together(view: DocumentView) -> PluginResult:
        both.wait()
        return good(view)

    orchestrator = Orchestrator(sessions, registry_of(Scripted("a", together)))
    evaluation_id = pending("a")
    results: list[EvaluationResult] = []

    def work(task_id: str) -> None:
        results.append(orchestrator.process_evaluation(evaluation_id, task_id=task_id))

    threads = [threading.Thread(target=work, args=(task_id,)) for task_id in ("t1", "t2")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(result.reused for result in results) == [False, True]
    assert [(result.version, result.grade) for result in results] == [(1, 80)] * 2
    assert (count(sessions, EvaluationVersion), count(sessions, PluginRun)) == (1, 1)
    with sessions() as session:
        logs = " ".join(str(log) for log in session.scalars(select(Job.log)))
    assert logs.count("Another worker stored version 1 meanwhile") == 1


def test_a_comment_without_a_place_is_kept_as_invalid(
    sessions: sessionmaker[Session], pending: Callable[..., int]
) -> None:
    """The reason is stored with it."""

    def lost(_: DocumentView) -> PluginResult:
        places = (Highlight("nowhere", error="It does not occur."), Highlight("xyz", 0, 3))
        return PluginResult("Lost.", tuple(Finding("info", "h", "d", place) for place in places))

    result = Orchestrator(sessions, registry_of(Scripted("a", lost))).process_evaluation(pending("a"))
    assert (result.comments, result.grade) == (2, None)
    with sessions() as session:
        stored = session.execute(
            select(Comment.quoted_text, Comment.is_valid, Comment.error).order_by(Comment.id)
        ).all()
    assert [tuple(row) for row in stored] == [
        ("nowhere", False, "It does not occur."),
        ("xyz", False, "The text at 0 to 3 is not the quoted text."),
    ]


def test_weights_count(sessions: sessionmaker[Session], pending: Callable[..., int]) -> None:
    """The evaluator's settings say how much each grade weighs, and reach the plugin otherwise."""
    seen: list[dict[str, Any]] = []

    def factory(**settings: Any) -> Scripted:
        seen.append(settings)
        return Scripted("a", lambda _: PluginResult("Low.", grade=20))

    registry = Registry({"a": factory, "b": lambda: Scripted("b", good)})
    evaluation_id = pending("a", "b", a={"weight": 3, "depth": 2})
    assert Orchestrator(sessions, registry).process_evaluation(evaluation_id).grade == 35
    assert seen == [{"depth": 2}]
