"""The evaluation of one document, from the request to the stored result.

It knows nothing of queues and never decides about retries: it says by the class of its errors whether
another try could help, and it may be called any number of times for the same evaluation.
"""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

from .completion import complete
from .database import transaction
from .document_view import DocumentView
from .errors import DeadlineExceeded, EvaluationError, PermanentError, TransientError, message_of
from .records import Assignment, beat, begin, fail, note_error
from .result import EvaluationResult, PluginOutcome, timetable, verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy.orm import Session, sessionmaker

    from .registry import Registry

log = logging.getLogger(__name__)

# A heartbeat is read by people and by clean-up jobs; writing it more often only makes dead rows.
_BEAT_EVERY = timedelta(seconds=5)


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Orchestrator:
    """Evaluates documents with the plugins of a registry.

    `worker` is recorded with every job. `interruptions` are the exceptions by which the surroundings
    tell a plugin to stop: they end the evaluation as an exceeded deadline instead of one plugin.
    Instances hold no state between calls and may be shared by threads.
    """

    def __init__(
        self,
        session_factory: sessionmaker[Session],
        registry: Registry,
        clock: Callable[[], datetime] = utc_now,
        *,
        worker: str = "",
        interruptions: tuple[type[Exception], ...] = (),
    ) -> None:
        self._sessions = session_factory
        self._registry = registry
        self._clock = clock
        self._worker = worker
        self._interruptions = interruptions

    def process_evaluation(
        self,
        evaluation_id: int,
        deadline: datetime | None = None,
        heartbeat: Callable[[str], None] | None = None,
        *,
        task_id: str | None = None,
    ) -> EvaluationResult:
        """Evaluate the newest version of the document and store the result in one transaction.

        A result that is there already is returned as it is. The deadline is checked between plugins,
        and so is the evaluator's own time limit. `heartbeat` is called with a plugin's name before it
        runs; what it raises ends the evaluation. `task_id` joins the attempts of one request.

        Blocks until done. Raises TransientError, PermanentError or DeadlineExceeded; the evaluation then
        stays RUNNING until somebody calls again or gives it up with `fail_evaluation`.
        """
        now = self._clock()
        with transaction(self._sessions) as session:
            assignment = begin(session, evaluation_id, task_id, self._worker, now)
        if isinstance(assignment, EvaluationResult):
            log.info("evaluation %s: %s already", evaluation_id, assignment.status.value.lower())
            return assignment
        log.info("evaluation %s: job %s, attempt %s", evaluation_id, assignment.job_id, assignment.attempt)
        limit = now + timedelta(seconds=assignment.time_limit_s)
        try:
            outcomes = self._run_plugins(assignment, min(deadline or limit, limit), heartbeat)
            result = self._complete(assignment, outcomes)
        except EvaluationError as error:
            self._note(assignment, error)
            raise
        log.info("evaluation %s: %s", evaluation_id, result)
        return result

    def fail_evaluation(
        self, evaluation_id: int, error: BaseException, *, task_id: str | None = None
    ) -> bool:
        """Give the evaluation up: FAILED, with the error. False if it had ended before, in whatever way."""
        with transaction(self._sessions) as session:
            failed = fail(session, evaluation_id, task_id, error, self._clock())
        if failed:
            log.error("evaluation %s: failed: %s", evaluation_id, error)
        return failed

    def _run_plugins(
        self, assignment: Assignment, deadline: datetime, heartbeat: Callable[[str], None] | None
    ) -> list[PluginOutcome]:
        view = DocumentView(assignment.content)
        outcomes: list[PluginOutcome] = []
        last_beat = self._clock()
        for name in assignment.plugins:
            now = self._clock()
            if now >= deadline:
                raise DeadlineExceeded(f"No time was left for {name}; raise the evaluator's time_limit_s.")
            if now - last_beat >= _BEAT_EVERY:
                with transaction(self._sessions) as session:
                    beat(session, assignment, now)
                last_beat = now
            if heartbeat is not None:
                heartbeat(name)
            outcomes.append(self._run_plugin(name, assignment, view))
        if all(outcome.error is not None for outcome in outcomes):
            errors = "; ".join(f"{outcome.plugin}: {outcome.error}" for outcome in outcomes)
            raise PermanentError(f"Every plugin failed: {errors or 'the evaluator has none'}")
        return outcomes

    def _run_plugin(self, name: str, assignment: Assignment, view: DocumentView) -> PluginOutcome:
        settings = {key: value for key, value in assignment.settings.get(name, {}).items() if key != "weight"}
        started = time.perf_counter()
        try:
            result = self._registry.create(name, settings).analyze(view)
        except (TransientError, DeadlineExceeded):
            # A retry may still make the result a whole one.
            raise
        except self._interruptions as error:
            raise DeadlineExceeded(f"The time limit was reached during {name}.") from error
        except Exception as error:
            log.exception("evaluation %s: plugin %s failed", assignment.evaluation_id, name)
            return PluginOutcome(name, time.perf_counter() - started, error=message_of(error))
        return PluginOutcome(name, time.perf_counter() - started, result)

    def _complete(self, assignment: Assignment, outcomes: list[PluginOutcome]) -> EvaluationResult:
        judged = verdict(outcomes, assignment.settings)
        report = f"# Job {assignment.job_id}, attempt {assignment.attempt}\n\n{timetable(outcomes)}"
        with transaction(self._sessions) as session:
            return complete(session, assignment, judged, report, self._clock())

    def _note(self, assignment: Assignment, error: EvaluationError) -> None:
        try:
            with transaction(self._sessions) as session:
                note_error(session, assignment, error, self._clock())
        except TransientError as second:
            # The first error is the one to raise; it may well have the same cause.
            log.warning(
                "evaluation %s: its error could not be recorded: %s", assignment.evaluation_id, second
            )
