"""A restart of the broker, where the user has said how."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

from celery_postgres.compare import cast, waiting
from celery_postgres.compare.failure import Failure
from celery_postgres.compare.held import Held
from celery_postgres.compare.notes import Event
from celery_postgres.compare.report.model import Behaviour
from celery_postgres.compare.tally import tally
from celery_postgres.compare.trial import Trial

from . import redelivery

if TYPE_CHECKING:
    from celery_postgres.compare.arena import Arena
    from celery_postgres.compare.request import Request

_BEYOND = 4
_COMMAND_S = 120.0
#: A client may begin anew with pauses of some seconds.
_BACK_S = 30.0
_SEND_AGAIN_S = 0.1


def _observe(arena: Arena, request: Request) -> Behaviour:
    command = arena.candidate.broker.restart
    if command is None:
        return Behaviour("not tried: give --restart NAME=COMMAND", None)
    worker = cast.standby(arena)
    held = Held(arena)
    slots = cast.slots(request)
    ids = held.send(slots + _BEYOND)
    arena.wait_for(lambda: len(held.started(*ids)) == slots, "the tasks did not start", [worker])
    fault = time.monotonic()
    _run(command)
    took = time.monotonic() - fault
    held.release()
    fresh = _send(arena)
    ran = waiting.until(lambda: arena.notes.of(Event.STARTED, fresh), bool, _BACK_S) if fresh else []
    seconds = round(ran[0].at_ns / 1e9 - fault, 3) if ran else None
    limit = waiting.patience_s(request)
    waiting.until(lambda: held.ended(*ids), lambda ended: len(ended) == len(ids), limit)
    found = tally(arena, ids, fault)
    words = [
        f"the command took {took:.1f} s; "
        + (
            f"a task sent afterwards ran {seconds:.1f} s after its beginning"
            if seconds is not None
            else f"a task sent afterwards did not run within {_BACK_S:g} s"
        ),
        "the worker lived on" if worker.alive else "the worker ended",
    ]
    if found.lost:
        words.append(f"{found.lost} of the {len(ids)} tasks under way are lost")
    if found.duplicated:
        words.append(f"{found.duplicated} of the {len(ids)} tasks under way ran to their end twice")
    if found.kept:
        words.append(
            f"{found.kept} of the {len(ids)} tasks under way did not run within {limit:g} s more: "
            f"{redelivery.rule(arena)}"
        )
    sound = seconds is not None and worker.alive and not found.kept
    return Behaviour(
        "; ".join(words),
        sound and found.lost == 0 and found.duplicated == 0,
        seconds,
        found.lost,
        found.duplicated,
        found.timeline,
    )


def _run(command: str) -> None:
    try:
        done = subprocess.run(  # noqa: S602 - a command of the user's own
            command,
            shell=True,
            check=False,
            capture_output=True,
            text=True,
            timeout=_COMMAND_S,
        )
    except subprocess.TimeoutExpired as error:
        raise Failure(
            f"{command} had not ended after {_COMMAND_S:g} s: give a command to --restart that does"
        ) from error
    if done.returncode:
        wrote = (done.stderr or done.stdout).strip()[-300:]
        raise Failure(
            f"{command} ended with exit code {done.returncode} ({wrote}): correct what was given to --restart"
        )


def _send(arena: Arena) -> str | None:
    """The id of a task that could be sent; None if that was not possible again."""
    deadline = time.monotonic() + _BACK_S
    while time.monotonic() < deadline:
        try:
            return str(arena.send("noop").id)
        except Failure:
            time.sleep(_SEND_AGAIN_S)
    return None


RESTART = Trial(
    "broker_restart",
    "The broker is restarted",
    "The command that was given was run while some tasks were running and more waited; they came to their "
    "ends behind it. Tasks are acknowledged late.",
    15.0,
    _observe,
    alone=True,
)
