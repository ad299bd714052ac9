"""One contender made ready: its place on the server, its workers, and who sends them tasks."""

from __future__ import annotations

import shutil
import tempfile
import time
import weakref
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kombu import pools

from celery_postgres.verify.notes import Notes as Journal
from celery_postgres.verify.worker import Worker

from . import processes
from .address import HOSTED, Address, own_variables_aside
from .failure import Failure, worded
from .notes import Notes
from .probe import client

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery import Celery
    from celery.result import AsyncResult
    from typing_extensions import Self

    from .contenders import Candidate
    from .places import Place, Usage
    from .report.model import Contender
    from .request import Call, Request

#: Celery's settings for who publishes: one that cannot go on gives up, and says so.
PUBLISHING = {"task_publish_retry": False, "broker_connection_max_retries": 1}

_LOOK_EVERY_S = 0.005
_TAIL_LINES = 12


class Arena:
    """Use as a context manager: entering reaches the servers and makes the place, leaving removes all of it.

    Leaving never raises: `remains` tells what could not be removed. Not for several threads at a time; one
    that is not the first has to `enter_thread` and to `leave_thread`.
    """

    def __init__(self, candidate: Candidate, request: Request) -> None:
        self.candidate = candidate
        self.request = request
        self.name = candidate.name
        self.folder = Path(tempfile.mkdtemp(prefix="celery-postgres-compare-"))
        # Also of one that is never entered, because something else went wrong before.
        self._remove_folder = weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        self.address = Address(
            candidate.settings(), self.folder / "notes", self.folder / "journal", request.application
        )
        self.notes = Notes(self.address.notes)
        self.journal = Journal(self.address.journal)
        self.client: Celery = client({**request.application_settings, **self.address.settings, **PUBLISHING})
        self.workers: list[Worker] = []
        """All that were ever started."""
        self.remains: list[str] = []
        """What could not be removed, with the remedy."""
        self._found: Contender | None = None
        self._left = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self._remove_folder)
            stack.enter_context(own_variables_aside())
            for place in self.candidate.places:
                stack.callback(place.close)
                place.reach()
            self._found = self.candidate.found()
            for place in self.candidate.places:
                stack.callback(self._clean, place)
                place.prepare()
            self.enter_thread()
            stack.callback(self._close_client)
            stack.callback(self.end_workers)
            self._left = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._left.close()

    def enter_thread(self) -> None:
        """Before this thread sends anything: Celery has a queue of answers for each."""
        self.place.reply_queues.add(self.client.thread_oid)

    def leave_thread(self) -> None:
        """Close what Celery has opened for this thread."""
        try:
            self._close_backend()
        except Exception as error:  # noqa: BLE001 - the server may be gone; what is left has to be cleaned
            self.remains.append(f"{self.name}: a connection was not closed in order ({worded(error)})")

    @property
    def contender(self) -> Contender:
        """As the report shows it."""
        assert self._found is not None
        return self._found

    @property
    def place(self) -> Place:
        """Where the messages are."""
        return self.candidate.place

    @property
    def queue(self) -> str:
        """The only queue; exchanges and all other queues of ours bear its name."""
        return self.address.queue

    @property
    def has_results(self) -> bool:
        return self.candidate.results is not None

    # -- workers ----------------------------------------------------------------------------------------

    def start_worker(
        self,
        *arguments: str,
        pool: str | None = None,
        concurrency: int | None = None,
        ends: bool = False,
        settings: Mapping[str, Any] | None = None,
        probe: bool = False,
    ) -> Worker:
        """A worker that may not be ready yet; pool and concurrency are the request's unless they are given.

        `ends` notes down the ends of tasks, too, see `Address`. `settings` change those of Celery.
        `probe` runs the probe's tasks also where there is an application. `arguments` go to `celery worker`.
        """
        number = len(self.workers) + 1
        own = self.request.application is not None and not probe
        # The probe has to understand what is sent as the application would send it.
        of_messages = {} if own else self.request.application_settings
        address = replace(
            self.address,
            settings={**of_messages, **self.address.settings, **(settings or {})},
            application=self.request.application if own else None,
            worker=number,
            ends=ends,
        )
        chosen = (
            *("-P", pool or self.request.pool),
            *("-c", str(concurrency or self.request.concurrency)),
            *("-Q", self.queue),
        )
        worker = Worker(
            # Short, since some brokers make the name of a table of it; unique on the broker.
            f"w{number}@{self.place.token}",
            self.folder / f"worker{number}.log",
            *chosen,
            *arguments,
            hosted=HOSTED,
            variables=address.environment(),
            own=own,
        )
        self.workers.append(worker)
        return worker

    def wait_ready(self, *workers: Worker) -> None:
        """Until they consume. Raises Failure, also where the application lacks a task of the request."""
        for worker in workers:
            self.wait_for(
                lambda worker=worker: bool(self._readiness(worker)),  # type: ignore[misc]
                "a worker did not get ready",
                [worker],
            )
            facts = self._readiness(worker)[0].facts
            self.place.reply_queues.add(facts["reply_queue"])
            known = facts["tasks"]
            for call in () if "compare.noop" in known else self.request.calls:
                if call.task not in known:
                    own = [name for name in known if not name.startswith("celery.")]
                    raise Failure(
                        f"the workers of -A {self.request.application} know no task {call.task}, only "
                        f"{', '.join(own) or 'none'}: correct the name, or let the application import it"
                    )

    def _readiness(self, worker: Worker) -> list[Any]:
        return [note for note in self.journal.of("ready") if note.worker == worker.name]

    def worker_cpu_s(self, worker: Worker) -> float | None:
        """The CPU seconds of a worker and its pool so far; None where the system does not tell."""
        return processes.tree_cpu_s(worker.pid) if processes.visible() else None

    def pool_pids(self, worker: Worker) -> list[int]:
        """The processes of its pool; none for a pool of another kind than prefork."""
        return processes.children(worker.pid)

    def end_workers(self) -> None:
        """Kill what still runs."""
        for worker in self.workers:
            worker.kill()

    def log_tail(self, worker: Worker, lines: int = _TAIL_LINES) -> str:
        """The last lines that a worker wrote."""
        return "\n".join(worker.log.read_text(errors="replace").splitlines()[-lines:])

    # -- tasks ------------------------------------------------------------------------------------------

    def send(self, task: str, *args: Any, **options: Any) -> AsyncResult:
        """Publish a task of the probe by its short name: `noop`, `pause`, `echo`, … Raises Failure."""
        return self._send(f"compare.{task}", args, {}, options)

    def send_call(self, call: Call, **options: Any) -> AsyncResult:
        """Publish a task of the application. Raises Failure."""
        return self._send(call.task, call.args, call.kwargs, {**call.options, **options})

    def _send(
        self, name: str, args: tuple[Any, ...] | list[Any], kwargs: dict[str, Any], options: dict[str, Any]
    ) -> AsyncResult:
        try:
            return self.client.send_task(name, args, kwargs, **options)
        except Exception as error:
            raise Failure(f"{name} could not be sent ({worded(error)}): look at the broker's log") from error

    def waiting(self) -> int:
        """How many messages wait in the queue; a queue that is gone, as in Redis, has none."""
        counted = self.place.waiting()
        if counted is not None:
            return counted
        with self.client.connection_for_write() as connection:
            channel = connection.default_channel
            try:
                # In Redis, kombu looks for a queue without our prefix; declaring it makes nothing there.
                passive = self.place.kind != "redis"
                return int(channel.queue_declare(self.queue, passive=passive).message_count)
            except connection.channel_errors:
                return 0

    def purge(self) -> int:
        """Remove what waits in the queue; how many that were. What workers hold stays."""
        with self.client.connection_for_write() as connection:
            try:
                return int(connection.default_channel.queue_purge(self.queue) or 0)
            except connection.channel_errors:
                return 0

    def usage(self) -> Usage:
        """What the server of the messages has used so far."""
        return self.place.usage()

    # -- waiting ----------------------------------------------------------------------------------------

    def wait_for(
        self,
        condition: Callable[[], bool],
        otherwise: str,
        workers: list[Worker] | None = None,
        limit_s: float | None = None,
    ) -> None:
        """Until it holds. Raises Failure with `otherwise` when time is up, or those workers have ended."""
        deadline = time.monotonic() + (limit_s or self.request.timeout_s)
        while not condition():
            if workers and not any(worker.alive for worker in workers):
                ended = workers[-1]
                raise Failure(
                    f"{otherwise}: it ended with exit code {ended.exit_code}, and wrote\n"
                    f"{self.log_tail(ended)}\nremove what it complains of, and run this again"
                )
            if time.monotonic() > deadline:
                wrote = f", and a worker wrote\n{self.log_tail(workers[-1])}\n" if workers else "; "
                raise Failure(
                    f"{otherwise} within {limit_s or self.request.timeout_s:g} s{wrote}"
                    "on a slow machine give --timeout more"
                )
            time.sleep(_LOOK_EVERY_S)

    def raise_failed_tasks(self) -> None:
        """Raise Failure for a task that failed or that nobody knew, with what it failed with."""
        for note in self.journal.of("failed"):
            raise Failure(
                f"{note.facts['name']} failed with {note.facts['error']}: try it with the same arguments by "
                "`celery call`, or choose another by --task and --args"
            )
        for note in self.journal.of("unknown"):
            raise Failure(f"the workers know no task {note.facts['name']}: let the application import it")

    # -- the end ----------------------------------------------------------------------------------------

    def _close_client(self) -> None:
        self.leave_thread()
        try:
            self.client.close()
            pools.reset()
        except Exception as error:  # noqa: BLE001 - the broker may be gone; what is left has to be cleaned
            self.remains.append(f"{self.name}: the connections were not closed in order ({worded(error)})")

    def _close_backend(self) -> None:
        """Results come over a connection of their own, which Celery leaves open."""
        if not self.has_results:
            return
        backend = self.client.backend
        if hasattr(backend, "close"):  # ours
            backend.close()
        elif hasattr(backend, "result_consumer"):
            try:
                backend.result_consumer.stop()
            except AttributeError:
                pass  # Celery's, of which nobody has waited for a result

    def _clean(self, place: Place) -> None:
        try:
            place.clean()
        except Exception as error:  # noqa: BLE001 - has to be said, and the others are cleaned all the same
            self.remains.append(
                f"{self.name}: not everything was removed ({worded(error)}): "
                f"remove what bears the name {place.name}"
            )
