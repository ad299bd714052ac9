"""What a broker does with single messages: their order, their time, and their end."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from celery_postgres.compare import cast, whereabouts
from celery_postgres.compare.held import Held
from celery_postgres.compare.notes import Event, key
from celery_postgres.compare.report.model import Ability
from celery_postgres.compare.trial import Trial

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request

_PRIORITIES = (5, 0, 9, 5, 0, 9)
#: The time that messages get to live, and how much later it is looked whether they are gone.
_LIVES_S = 0.5
_LATER_S = 0.7
#: So long it takes at most until a message that is for a worker is with it.
_WAY_S = 0.7


def _priorities(arena: Arena, request: Request) -> Ability:
    worker = cast.standby(arena)
    held = Held(arena)
    busy = held.send(cast.slots(request))
    arena.wait_for(lambda: len(held.started(*busy)) == len(busy), "the tasks did not start", [worker])
    sent = {arena.send("noop", priority=priority).id: priority for priority in _PRIORITIES}
    # One at a time, so that they cannot overtake each other.
    held.release(busy[0])
    arena.wait_for(
        lambda: len(arena.notes.of(Event.SUCCEEDED, *sent)) == len(sent), "the tasks did not end", [worker]
    )
    held.release()
    arena.wait_for(lambda: len(held.ended()) == len(busy), "the tasks did not end", [worker])
    names = {key(id_): priority for id_, priority in sent.items()}
    ran = [names[note.key] for note in arena.notes.of(Event.STARTED, *sent)]
    order = f"sent {_worded(_PRIORITIES)}, ran {_worded(ran)}"
    if ran == sorted(_PRIORITIES, reverse=True):
        return Ability(True, f"yes, the highest first: {order}")
    if ran == sorted(_PRIORITIES):
        return Ability(True, f"yes, the lowest first: {order}")
    needs = (
        "; RabbitMQ needs x-max-priority on the queue (task_queue_max_priority)"
        if arena.place.kind == "amqp" and ran == list(_PRIORITIES)
        else ""
    )
    return Ability(False, f"no: {order}{needs}")


def _worded(priorities: object) -> str:
    return " ".join(map(str, priorities))  # type: ignore[call-overload]


def _expiry(arena: Arena, request: Request) -> Ability:
    cast.leave_empty(arena)  # RabbitMQ looks at the head of a queue alone
    id_ = arena.send("noop", expires=_LIVES_S).id
    before = arena.waiting()
    time.sleep(_LIVES_S + _LATER_S)
    after = arena.waiting()
    rows = arena.place.query(id_)
    arena.purge()
    if not before:
        return Ability(None, "not told: no message waited before its time, either")
    when = f"{_LATER_S:g} s after its time, with no worker"
    if after:
        return Ability(False, f"no: {when}, it still waited in the queue")
    if rows and rows[1]:
        return Ability(True, f"yes: {when}, it was no longer delivered; its row goes with the next worker")
    head = " (RabbitMQ looks at the head of a queue alone)" if arena.place.kind == "amqp" else ""
    return Ability(True, f"yes: {when}, it was gone{head}")


def _delay(arena: Arena, request: Request) -> Ability:
    worker = cast.standby(arena)
    later = arena.send("noop", countdown=3600).id
    sooner = arena.send("noop").id
    arena.wait_for(lambda: bool(arena.notes.of(Event.SUCCEEDED, sooner)), "the task did not end", [worker])
    time.sleep(_WAY_S)
    if whereabouts.received(worker, [later]):
        return Ability(
            False, "no: a task for an hour ahead went to a worker at once, which keeps it in memory"
        )
    return Ability(True, "yes: a task for an hour ahead stayed with the broker, a worker being there")


PRIORITIES = Trial(
    "priorities",
    "Priorities honoured",
    "Tasks of several priorities were sent to a busy worker, with Celery's plain settings.",
    2.0,
    _priorities,
)

EXPIRY = Trial(
    "expiry",
    "Message TTL",
    "A task with expires was sent while no worker ran.",
    2.5,
    _expiry,
)

DELAY = Trial(
    "delay",
    "Delayed delivery",
    "A task with a countdown of an hour was sent to a worker that had nothing to do.",
    1.5,
    _delay,
)
