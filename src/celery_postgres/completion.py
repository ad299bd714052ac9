"""The end of a chord: its parts are read and its body is sent, or told of the failure."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import maybe_signature, states
from celery.backends.base import _create_chord_error_with_cause
from celery.exceptions import ChordError
from celery.result import allow_join_result

from .errors import DatabaseUnavailable
from .outbox import Outbox

if TYPE_CHECKING:
    from collections.abc import Callable

    from .chords import Chords, Part
    from .results import Result, Results

_log = logging.getLogger(__name__)


class Completion:
    """For one backend, which encodes and decodes; safe to share between threads."""

    def __init__(
        self,
        backend: Any,
        results: Results,
        chords: Chords,
        place: tuple[object, ...],
        ensure: Callable[[Callable[[], Any]], Any],
    ) -> None:
        """`place` is that of the results, see `Database.place`; `ensure` rides out a lost connection."""
        self._backend = backend
        self._app = backend.app
        self._results = results
        self._chords = chords
        self._place = place
        self._ensure = ensure

    def complete(self, group_id: str, body: Any, last: Part | None, stored: Result | None) -> None:
        """All parts are in, counting the last one: send the body, or tell it of the failure."""
        callback = maybe_signature(body, app=self._app)
        try:
            returned = self._ensure(lambda: self._gather(group_id, last))
            if returned is None:
                self._ensure(lambda: self._sent_already(group_id, stored))
            else:
                self._send_body(group_id, callback, returned, stored)
        except DatabaseUnavailable:
            raise
        except Exception as exc:  # noqa: BLE001  whatever the body's code does, its chord must end
            _log.exception("Chord %r raised: %r", group_id, exc)
            # Perhaps a time limit struck when the body was on its way, or another worker has sent it.
            if self._ensure(lambda: self._chords.is_over(group_id)):
                self._ensure(lambda: self._sent_already(group_id, stored))
                return
            error = exc if isinstance(exc, ChordError) else ChordError(f"Join error: {exc!r}")
            self._backend.chord_error_from_stack(callback, error)
            nothing = Outbox(self._place)
            self._ensure(lambda: self._dispatch(group_id, stored, nothing))

    def _send_body(self, group_id: str, callback: Any, returned: list[Any], stored: Result | None) -> None:
        prepared: Outbox | None = None

        def attempt() -> None:
            nonlocal prepared
            if prepared is None or len(prepared):  # what another broker has taken is not sent to it again
                prepared = self._prepared(callback, returned)
            self._dispatch(group_id, stored, prepared)

        self._ensure(attempt)

    def _prepared(self, callback: Any, returned: list[Any]) -> Outbox:
        """The messages of the body; those for another broker are published by now."""
        outbox = Outbox(self._place)
        try:
            with outbox.gathering():
                self._app.amqp._retry_publish(callback.delay, returned)  # noqa: SLF001  as Celery's own do
        except Exception as exc:
            if _unavailable(exc) and not outbox.passed:
                raise DatabaseUnavailable(f"the body of a chord waits for the database: {exc}") from exc
            raise ChordError(f"Callback error: {exc!r}") from exc
        return outbox

    def _dispatch(self, group_id: str, stored: Result | None, outbox: Outbox) -> None:
        if not self._chords.dispatch(group_id, stored, outbox):
            self._sent_already(group_id, stored)

    def _sent_already(self, group_id: str, stored: Result | None) -> None:
        _log.warning(
            "the body of chord %s has been sent, perhaps by another worker: it is not sent again", group_id
        )
        if stored is not None:
            self._results.store(stored)

    def _gather(self, group_id: str, last: Part | None) -> list[Any] | None:
        """What the header returned, in its order and structure; None if the body was sent meanwhile.

        Raises ChordError if a part has failed.
        """
        parts = self._chords.parts(group_id)
        if parts is None:
            return None
        if last is not None and (last.position, last.task_id) not in {(p.position, p.task_id) for p in parts}:
            parts.append(last)
            parts.sort(key=lambda part: part.position)
        values = [self._unpacked(part) for part in parts]
        structure = self._results.read_group(group_id)
        if structure is None:
            return values
        by_id = {part.task_id: value for part, value in zip(parts, values, strict=True)}
        _, members = self._backend.decode(structure)["result"]
        return [self._laid_out(member, by_id) for member in members]

    def _laid_out(self, node: Any, by_id: dict[str, Any]) -> Any:
        """The values of a saved result's members, nested as they are."""
        (task_id, _), members = node
        if members is not None:
            return [self._laid_out(member, by_id) for member in members]
        if task_id in by_id:
            return by_id[task_id]
        with allow_join_result():  # not a part of this chord
            return self._app.AsyncResult(task_id).get(timeout=self._app.conf.result_chord_join_timeout)

    def _unpacked(self, part: Part) -> Any:
        value = self._backend.decode(part.encoded)
        if part.state in self._backend.EXCEPTION_STATES:
            value = self._backend.exception_to_python(value)
        if part.state in states.PROPAGATE_STATES:
            raise _create_chord_error_with_cause(
                message=f"Dependency {part.task_id} raised {value!r}", original_exc=value
            )
        return value


def _unavailable(exc: BaseException | None) -> bool:
    """Whether it came of a database out of reach; kombu wraps what a publish raises."""
    while exc is not None and not isinstance(exc, DatabaseUnavailable):
        exc = exc.__cause__
    return exc is not None
