"""Celery's words onto our verbs: the result backend `postgresql://`."""

from __future__ import annotations

import logging
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import states
from celery._state import get_current_task
from celery.backends.asynchronous import AsyncBackendMixin
from celery.backends.base import (
    BaseKeyValueStoreBackend,
    compress_payload,
    decompress_payload,
)
from celery.exceptions import BackendStoreError
from celery.result import GroupResult
from celery.signals import task_prerun
from celery.utils.functional import _regen
from kombu.serialization import loads
from kombu.utils.encoding import safe_str
from kombu.utils.functional import retry_over_time

from . import dsn as dsn_module
from .chords import LAST, Chords, Part
from .completion import Completion
from .connection import Database
from .delivery import ENQUEUED_AT
from .errors import DatabaseRejected, DatabaseUnavailable, Error, passing_is_unavailable
from .messages import readable
from .options import Options
from .result_consumer import ResultConsumer
from .results import Encoded, Result, Results

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_log = logging.getLogger(__name__)

#: Under this name a task's request remembers when its code began, by this process's monotonic clock.
_BEGAN = "celery_postgres_began"

_ERROR_AT_MOST = 500


class Backend(BaseKeyValueStoreBackend, AsyncBackendMixin):
    """Results in the tables of one schema; one instance serves all threads of a process.

    A lost connection is opened again for about 20 seconds (Celery's `retry_policy` for results) before
    DatabaseUnavailable is raised; who waits for a result waits on.
    """

    supports_autoexpire = True
    supports_native_join = True
    supports_result_compression = True
    supports_failure_expires = True

    #: Keys are plain text here, and only tell tasks from groups.
    key_t = str
    task_keyprefix = "task:"
    group_keyprefix = "group:"
    chord_keyprefix = "chord:"

    retry_policy: dict[str, Any] = BaseKeyValueStoreBackend.retry_policy

    def __init__(self, app: Any, url: str | None = None, **kwargs: Any) -> None:
        super().__init__(app, url=url, **kwargs)
        self.thread_safe = True
        failure_expires = app.conf.get("result_failure_expires")
        self.failure_expires = (
            self.expires if failure_expires is None else self.prepare_expires(failure_expires)
        )
        target = dsn_module.parse(url or "")
        given = {**target.options, **(app.conf.get("result_backend_transport_options") or {})}
        policy = given.pop("retry_policy", None)
        if policy:
            self.retry_policy = {**self.retry_policy, **policy}
        self._dsn = target
        self._database = Database(target, Options.parse(given, "result_backend_transport_options"))
        self._results = Results(self._database)
        self._chords = Chords(self._results, self.chord_expires)
        self._completion = Completion(self, self._results, self._chords, self._database.place, self._ensure)
        self.result_consumer = ResultConsumer(
            self,
            self.app,
            self.accept,
            self._pending_results,
            self._pending_messages,
            database=self._database,
            decode=self.decode_result,
            read=self._results.read,
        )
        task_prerun.connect(self._on_prerun)

    def as_uri(self, include_password: bool = False) -> str:
        url = str(self.url)
        return url if include_password else dsn_module.mask(url)

    def __reduce__(self, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Any:
        return super().__reduce__(args, {**(kwargs or {}), "url": self.url, "expires": self.expires})

    # -- riding out a lost connection -----------------------------------------------------------------

    def _ensure(self, work: Callable[[], Any]) -> Any:
        """Do what may be done twice, again while the connection is lost."""

        def attempt() -> Any:
            with passing_is_unavailable():
                return work()

        policy = self.retry_policy
        return retry_over_time(
            attempt,
            (DatabaseUnavailable,),
            errback=partial(self._unavailable, policy["max_retries"]),
            **policy,
        )

    def _unavailable(self, most: int | None, exc: Exception, intervals: Iterable[float], tried: int) -> float:
        pause = next(iter(intervals))
        _log.error("results are out of reach, try %d of %s in %g s: %s", tried + 1, most or "∞", pause, exc)
        return pause

    def exception_safe_to_retry(self, exc: Exception) -> bool:
        return isinstance(exc, DatabaseUnavailable)

    # -- encoding -------------------------------------------------------------------------------------

    def _encoded(self, data: Any) -> Encoded:
        content_type, content_encoding, payload = self._encode(data)
        if self.compression:
            payload = compress_payload(payload, self.compression)
        if isinstance(payload, str):
            payload = payload.encode("utf-8", "surrogatepass")
        return Encoded(content_type, content_encoding, bytes(payload))

    def decode(self, payload: Any) -> Any:
        """What was encoded, also by another serializer than the one that is configured now, if accepted."""
        if not isinstance(payload, Encoded):
            return super().decode(payload)
        return loads(
            decompress_payload(payload.payload),
            content_type=payload.content_type,
            content_encoding=payload.content_encoding,
            accept=self.accept,
        )

    # -- states ---------------------------------------------------------------------------------------

    def _on_prerun(self, sender: Any = None, **_: Any) -> None:
        request = getattr(sender, "request", None)
        if request is not None:
            setattr(request, _BEGAN, time.monotonic())

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: str | None = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        self._store(self._result(task_id, result, state, traceback, request))
        return result

    def _store(self, value: Result) -> None:
        try:
            self._ensure(lambda: self._results.store(value))
        except DatabaseRejected as exc:
            self._not_stored(value, exc)
            raise BackendStoreError(str(exc), state=value.state, task_id=value.task_id) from exc
        except Error as exc:
            self._not_stored(value, exc)
            raise

    def _not_stored(self, value: Result, exc: Error) -> None:
        """What Celery says about it differs from pool to pool, and does not always name the task."""
        _log.error("the state %s of task %s could not be stored: %s", value.state, value.task_id, exc)

    def _result(self, task_id: str, result: Any, state: str, traceback: str | None, request: Any) -> Result:
        task_id = str(task_id)
        meta = self._get_result_meta(result=result, state=state, traceback=traceback, request=request)
        meta["task_id"] = task_id
        request = request or _own_request(task_id)
        delivery = getattr(request, "delivery_info", None) or {}
        properties = getattr(request, "properties", None) or {}
        began = getattr(request, _BEGAN, None)
        ran = None if began is None else time.monotonic() - began
        return Result(
            task_id=task_id,
            state=state,
            final=state in states.READY_STATES,
            encoded=self._encoded(meta),
            error=_in_short(result) if state in self.EXCEPTION_STATES else None,
            name=readable(getattr(request, "task", None)),
            queue=readable(delivery.get("routing_key")),
            worker=readable(getattr(request, "hostname", None)),
            retries=getattr(request, "retries", None),
            root_id=readable(getattr(request, "root_id", None)),
            parent_id=readable(getattr(request, "parent_id", None)),
            group_id=readable(getattr(request, "group", None)),
            created_us=properties.get(ENQUEUED_AT),
            ran_s=0.0 if state == states.STARTED else ran,
            keep_s=(self.failure_expires if state == states.FAILURE else self.expires) or None,
        )

    def _get_task_meta_for(self, task_id: str) -> Any:
        stored = self.get(self.get_key_for_task(task_id))
        return {"status": states.PENDING, "result": None} if stored is None else self.decode_result(stored)

    def _forget(self, task_id: str) -> None:
        self._ensure(lambda: self._results.forget(str(task_id)))

    def _collect_into(self, result: Any, bucket: Any) -> None:
        self.result_consumer.collect_into(result, bucket)

    def _add_pending_result(self, task_id: Any, result: Any, weak: bool = False) -> None:
        if not isinstance(task_id, str):  # a UUID: what is stored and told goes by its text
            result.id = task_id = str(task_id)
        super()._add_pending_result(task_id, result, weak=weak)

    def cleanup(self) -> None:
        """Delete all that has expired now; it goes by itself too, behind the results that are stored."""
        self._results.expire()

    def close(self) -> None:
        """Let go of the connections; the next use opens others."""
        self.result_consumer.stop()
        self._results.close()

    # -- Celery's key-value view ----------------------------------------------------------------------

    def get(self, key: str) -> Encoded | None:
        if key.startswith(self.group_keyprefix):
            group_id = key.removeprefix(self.group_keyprefix)
            return self._ensure(lambda: self._results.read_group(group_id))
        return self.mget([key])[0]

    def mget(self, keys: Sequence[str]) -> list[Encoded | None]:
        ids = [key.removeprefix(self.task_keyprefix) for key in keys]
        found = dict(self._ensure(lambda: self._results.read(ids)))
        return [found.get(task_id) for task_id in ids]

    # -- groups ---------------------------------------------------------------------------------------

    def _save_group(self, group_id: str, result: Any) -> Any:
        self._save_group_for(group_id, result, self.expires)
        return result

    def _save_group_for(self, group_id: str, result: Any, keep_s: float | None) -> None:
        encoded = self._encoded({"result": result.as_tuple()})
        self._ensure(lambda: self._results.save_group(str(group_id), encoded, keep_s or None))

    def _delete_group(self, group_id: str) -> None:
        self._ensure(lambda: self._results.delete_group(str(group_id)))

    # -- chords ---------------------------------------------------------------------------------------

    def apply_chord(self, header_result_args: tuple[Any, ...], body: Any, **_: Any) -> None:
        """Save the structure of a header that holds groups, to lay its results out in it."""
        if isinstance(header_result_args[1], _regen):
            return
        header = self.app.GroupResult(*header_result_args)
        if any(isinstance(member, GroupResult) for member in header.results):
            self._save_group_for(header.id, header, self.chord_expires)

    def set_chord_size(self, group_id: str, chord_size: int) -> None:
        kept = self._ensure(lambda: self._chords.set_size(group_id, chord_size))
        if kept is not None:
            self._completion.complete(group_id, self.decode(kept), None, None)

    def add_to_chord(self, chord_id: str, result: Any) -> None:
        self._chords.add(chord_id)

    def mark_as_done(
        self,
        task_id: str,
        result: Any,
        request: Any = None,
        store_result: bool = True,
        state: str = states.SUCCESS,
    ) -> None:
        """Store a success; that of a chord's last part together with the body."""
        if not (request and request.chord and request.group):
            super().mark_as_done(task_id, result, request=request, store_result=store_result, state=state)
            return
        stored = None
        if store_result and not request.ignore_result:
            stored = self._result(task_id, self.encode_result(result, state), state, None, request)
        self._return_part(request, state, result, stored)

    def on_chord_part_return(
        self, request: Any, state: str, result: Any, propagate: Any = None, **_: Any
    ) -> None:
        if request.group and request.id:
            self._return_part(request, state, result, None)

    def _return_part(self, request: Any, state: str, result: Any, stored: Result | None) -> None:
        part = Part(
            str(request.group),
            LAST if request.group_index is None else request.group_index,
            str(request.id),
            state,
            self._encoded(self.encode_result(result, state)),
        )
        returned = self._ensure(lambda: self._chords.return_part(part, stored))
        if returned.verdict == "last":
            self._completion.complete(part.group_id, request.chord, part, stored)
        elif returned.bodiless:
            kept = self._encoded(request.chord)
            if self._ensure(lambda: self._chords.keep_callback(part.group_id, kept)):
                self._completion.complete(part.group_id, request.chord, None, None)


def _own_request(task_id: str) -> Any:
    """The request of the task that runs here, if it is this one: Celery names none when it begins."""
    task = get_current_task()
    request = getattr(task, "request", None)
    return request if request is not None and request.id == task_id else None


def _in_short(result: Any) -> str | None:
    if isinstance(result, dict):
        said = result.get("exc_message")
        said = ", ".join(map(str, said)) if isinstance(said, (list, tuple)) else said
        return readable(f"{result.get('exc_type')}: {said}"[:_ERROR_AT_MOST])
    return readable(f"{type(result).__name__}: {safe_str(result)}"[:_ERROR_AT_MOST])
