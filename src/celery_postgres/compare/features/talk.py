"""What goes to and from workers beside tasks: commands, and events."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

from celery_postgres.compare import cast
from celery_postgres.compare.failure import worded
from celery_postgres.compare.held import Held
from celery_postgres.compare.notes import Event
from celery_postgres.compare.report.model import Ability
from celery_postgres.compare.trial import Trial

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request

_ANSWER_S = 3.0
_EVENT_S = 5.0
_AGAIN_S = 0.1


def _control(arena: Arena, request: Request) -> Ability:
    worker = cast.standby(arena)
    control = arena.client.control
    begin = time.monotonic()
    try:
        answers = control.ping([worker.name], timeout=_ANSWER_S, limit=1)
    except Exception as error:  # noqa: BLE001 - a transport without broadcast raises what it likes
        return Ability(False, f"no: a ping could not be sent ({worded(error)})")
    if not answers:
        return Ability(False, f"no: a worker did not answer a ping within {_ANSWER_S:g} s")
    took = time.monotonic() - begin
    held = Held(arena)
    busy = held.send(cast.slots(request))
    arena.wait_for(lambda: len(held.started(*busy)) == len(busy), "the tasks did not start", [worker])
    revoked, last = (arena.send("noop").id for _ in range(2))
    control.revoke(revoked, destination=[worker.name], reply=True, timeout=_ANSWER_S, limit=1)
    held.release()
    arena.wait_for(lambda: bool(arena.notes.of(Event.SUCCEEDED, last)), "the task did not end", [worker])
    arena.wait_for(lambda: len(held.ended()) == len(busy), "the tasks did not end", [worker])
    if arena.notes.of(Event.STARTED, revoked):
        return Ability(False, f"no: a ping was answered after {took:.2f} s, but a revoked task ran")
    return Ability(True, f"yes: a ping was answered after {took:.2f} s, and a revoked task did not run")


def _events(arena: Arena, request: Request) -> Ability:
    cast.standby(arena)
    seen: dict[str, float] = {}
    over = threading.Event()
    wrong: list[str] = []
    listener = threading.Thread(target=_listen, args=(arena, seen, over, wrong), daemon=True)
    listener.start()
    sent: dict[str, float] = {}
    deadline = time.monotonic() + _EVENT_S
    # Nobody says when the listener has begun to listen, so there is a task again and again.
    while not (seen.keys() & sent.keys()) and time.monotonic() < deadline and listener.is_alive():
        sent[arena.send("noop").id] = time.monotonic()
        time.sleep(_AGAIN_S)
    over.set()
    listener.join(_EVENT_S)
    cast.dismiss(arena)  # this is the last trial
    common = seen.keys() & sent.keys()
    if not common:
        return Ability(
            False, f"no: {wrong[0] if wrong else f'no event of a task came within {_EVENT_S:g} s'}"
        )
    took = min(seen[id_] - sent[id_] for id_ in common)
    return Ability(True, f"yes: task-succeeded came {took:.2f} s after its task was sent")


def _listen(arena: Arena, seen: dict[str, float], over: threading.Event, wrong: list[str]) -> None:
    def succeeded(event: dict[str, Any]) -> None:
        seen.setdefault(event["uuid"], time.monotonic())

    try:
        with arena.client.connection_for_read() as connection:
            receiver = arena.client.events.Receiver(connection, handlers={"task-succeeded": succeeded})
            for _ in receiver.itercapture(limit=None, timeout=1, wakeup=False):
                if over.is_set():
                    return
    except Exception as error:  # noqa: BLE001 - a transport without broadcast raises what it likes
        wrong.append(f"events cannot be received ({worded(error)})")


CONTROL = Trial(
    "control",
    "Remote control",
    "A worker was asked for a ping, and told to revoke a task that waited.",
    2.0,
    _control,
)

EVENTS = Trial(
    "events",
    "Events",
    "The events of a worker with -E were received.",
    2.0,
    _events,
)
