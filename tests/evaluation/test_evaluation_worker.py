"""The tasks in a real worker, over every broker: the same module, another URL."""

from __future__ import annotations

import os
import secrets
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from evaluation.database import create_tables, engine_for, sessions_for
from evaluation.load import load
from evaluation.models import Comment, Document, Evaluation, EvaluationVersion, Job, PluginRun, Status
from sqlalchemy import func, select

from tests.evaluation import PLANTED, ROOT
from tests.evaluation.brokers import BROKERS, broker_url, remove_queue
from tests.evaluation.llm_server import LlmServer, Reply, llm_server, openai
from tests.evaluation.worker_process import WorkerProcess, worker
from tests.fixtures.database import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker

BUSY = Reply(503, "busy", {"retry-after": "0"})
ANSWER = openai({"summary": "Good.", "grade": 100})


@dataclass
class Site:
    """A worker on one broker, its database, and who sends tasks to it."""

    worker: WorkerProcess
    sessions: sessionmaker[Session]
    llm: LlmServer
    celery: Celery
    queue: str

    def send(self, task: str, *arguments: Any, **options: Any) -> str:
        return str(self.celery.send_task(f"evaluation.{task}", arguments, queue=self.queue, **options).id)

    def asking_the_model(self, file: Path, *replies: Reply) -> int:
        """An evaluation that depends on what the model's server replies."""
        file.write_text("# A\n\nb\n")
        self.llm.replies[:] = replies
        self.llm.requests.clear()
        return load(self.sessions, [file], ["llm"], evaluator=file.name)[0]

    def one(self, entity: Any, **values: Any) -> Any:
        with self.sessions() as session:
            return session.scalars(select(entity).filter_by(**values)).one()


@pytest.fixture(scope="module", params=BROKERS)
def site(request: pytest.FixtureRequest, server: str) -> Iterator[Site]:
    url = broker_url(request.param)
    queue = f"evaluation-{secrets.token_hex(4)}"
    with new_database(server) as empty_database_url:
        engine = engine_for(empty_database_url)
        create_tables(engine)
        environment = {"DATABASE_URL": empty_database_url, **({"BROKER_URL": url} if url else {})}
        try:
            with (
                llm_server(ANSWER) as llm,
                Celery(broker=url or empty_database_url, set_as_current=False) as celery,
            ):
                environment |= {"EVALUATION_LLM_URL": llm.url, "EVALUATION_LLM_MODEL": "m"}
                with worker(queue, environment) as process:
                    yield Site(process, sessions_for(engine), llm, celery, queue)
        finally:
            remove_queue(request.param, queue)


def test_results_are_rows_whatever_the_broker(site: Site) -> None:
    """Two documents are evaluated by processes of the worker; a message that comes twice changes nothing."""
    ids = load(site.sessions, [PLANTED, ROOT / "README.md"])
    tasks = [site.send("evaluate", evaluation_id) for evaluation_id in (*ids, *ids)]
    for task in tasks:
        site.worker.wait_for(f"evaluation.evaluate[{task}] succeeded")
    line = site.worker.wait_for(f"[{tasks[0]}] succeeded")[0]
    assert f"{{'evaluation_id': {ids[0]}, 'version': 1, 'grade': 70, 'comments': 20}}" in line
    with site.sessions() as session:
        versions = session.scalars(
            select(EvaluationVersion).where(EvaluationVersion.evaluation_id.in_(ids))
        ).all()
        assert sorted(version.evaluation_id for version in versions) == ids
        planted = next(version for version in versions if version.evaluation_id == ids[0])
        comments = select(func.count()).where(Comment.evaluation_version_id == planted.id, Comment.is_valid)
        assert (planted.grade, session.scalar(comments)) == (70, 20)
        assert session.scalar(select(func.count()).where(PluginRun.job_id == planted.job_id)) == 6
        job = session.get_one(Job, planted.job_id)
    assert job.task_id in tasks
    assert f"{site.queue}@" in job.worker
    assert not job.worker.endswith(f"/{site.worker.process.pid}")


def test_an_import_runs_in_the_worker(site: Site, tmp_path: Path) -> None:
    """The file is stored once, however often the message comes."""
    file = tmp_path / "imported.md"
    file.write_text("# Imported\n")
    tasks = [site.send("import_document", str(file)) for _ in range(2)]
    for task in tasks:
        site.worker.wait_for(f"evaluation.import_document[{task}] succeeded")
    assert site.one(Document, source=str(file)).title == "Imported"


def test_a_transient_error_is_retried(site: Site, tmp_path: Path) -> None:
    """The model's server is busy twice; the third attempt of the same job succeeds."""
    evaluation_id = site.asking_the_model(tmp_path / "busy.md", BUSY, BUSY, ANSWER)
    task = site.send("evaluate", evaluation_id)
    site.worker.wait_for(f"[{task}] succeeded")
    job = site.one(Job, task_id=task)
    assert (job.attempts, job.status, job.error) == (3, Status.COMPLETED, None)
    assert len(site.worker.wait_for(f"[{task}] retry: Retry in 0", count=2)) == 2


def test_after_the_last_retry_the_evaluation_has_failed(site: Site, tmp_path: Path) -> None:
    """One attempt and three retries, then FAILED with the reason, written once."""
    evaluation_id = site.asking_the_model(tmp_path / "down.md", BUSY)
    task = site.send("evaluate", evaluation_id)
    site.worker.wait_for(f"[{task}] raised unexpected: TransientError")
    assert len(site.worker.wait_for(f"evaluation {evaluation_id}: failed: ")) == 1
    job = site.one(Job, task_id=task)
    assert (job.attempts, job.status, job.error_kind) == (4, Status.FAILED, "TransientError")
    assert job.error == "The model's server answered 503: busy"
    assert site.one(Evaluation, id=evaluation_id).status is Status.FAILED


def test_a_time_limit_ends_an_evaluation(site: Site, tmp_path: Path) -> None:
    """In the middle of a plugin: FAILED is written, and there is no retry."""
    evaluation_id = site.asking_the_model(tmp_path / "slow.md", ANSWER)
    site.llm.gate.clear()
    task = site.send("evaluate", evaluation_id, soft_time_limit=1)
    site.worker.wait_for(f"evaluation {evaluation_id}: failed: ")
    site.llm.gate.set()
    job = site.one(Job, task_id=task)
    assert (job.attempts, job.status, job.error_kind) == (1, Status.FAILED, "DeadlineExceeded")
    assert site.one(Evaluation, id=evaluation_id).status is Status.FAILED


def test_a_killed_process_loses_no_evaluation(site: Site, tmp_path: Path) -> None:
    """The process is killed while it waits for the model; the message comes again and the work is done."""
    evaluation_id = site.asking_the_model(tmp_path / "killed.md", ANSWER)
    site.llm.gate.clear()
    while site.llm.asked.acquire(blocking=False):
        pass
    task = site.send("evaluate", evaluation_id)
    assert site.llm.asked.acquire(timeout=60)
    os.kill(int(site.one(Job, task_id=task).worker.rpartition("/")[2]), signal.SIGKILL)
    assert site.llm.asked.acquire(timeout=60)
    site.llm.gate.set()
    site.worker.wait_for(f"[{task}] succeeded")
    job = site.one(Job, task_id=task)
    assert (job.attempts, job.status) == (2, Status.COMPLETED)
    assert site.one(EvaluationVersion, evaluation_id=evaluation_id).grade == 100
