"""Any two acts at once, the first stopped before each of its statements and before its end."""

from __future__ import annotations

import itertools
from concurrent import futures
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import psycopg
import pytest

from celery_postgres.sql import consumers
from tests.concurrency.conftest import migrated_url, new_hand, url

from .acts import ACTS, NAMES, PUBLISHED, REMOVING, SETTLING, Scene, set_up

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.concurrency.hand import Hand

    from .acts import Step

__all__ = ["migrated_url", "new_hand", "url"]

STATES = ("ready", "unacked", "delayed", "dead_letter")
TABLES = ("message", *STATES, "consumer", "queue")


@pytest.fixture
def hands(new_hand: Callable[[], Hand]) -> list[Hand]:
    """An observer, a consumer, and the two that meet; a wait that never ends is an error."""
    made = [new_hand() for _ in range(4)]
    for hand in made:
        hand.sql("SET lock_timeout = '10s'")
    return made


@pytest.mark.parametrize("first", ACTS)
def test_meets_every_other(hands: list[Hand], first: str) -> None:
    """It commits or gives up: the second ends well, and each message is in one state or rightly gone."""
    observer, holder, one, two = hands
    with ThreadPoolExecutor(1) as thread:
        for second, commits in itertools.product(ACTS, (True, False)):
            for stop in range(1, 1 + len(ACTS[first])):
                scene = set_up(observer, holder)
                try:
                    meet(scene, one, two, first, second, stop=stop, commits=commits, thread=thread)
                    check(scene, first, second, commits=commits)
                except (AssertionError, psycopg.Error) as error:
                    how = "and commits" if commits else "and gives up"
                    pytest.fail(f"{first} stops after {stop} {how}, meets {second}: {error!r}")
                clear(observer, holder)


def meet(
    scene: Scene,
    one: Hand,
    two: Hand,
    first: str,
    second: str,
    *,
    stop: int,
    commits: bool,
    thread: ThreadPoolExecutor,
) -> None:
    """The first does `stop` statements; then the second comes, and goes as far as it gets."""
    steps = ACTS[first]
    one.begin()
    for step in steps[:stop]:
        step(scene, one)
    other = thread.submit(whole, scene, two, ACTS[second])
    while not futures.wait([other], timeout=0.002).done and not waits(scene.hand, two):
        pass
    try:
        if commits:
            for step in steps[stop:]:
                step(scene, one)
            one.commit()
        else:
            one.rollback()
    finally:
        other.result(20)


def whole(scene: Scene, hand: Hand, steps: list[Step]) -> None:
    hand.begin()
    try:
        for step in steps:
            step(scene, hand)
        hand.commit()
    except BaseException:
        hand.rollback()
        raise


def waits(observer: Hand, hand: Hand) -> bool:
    pid = hand.connection.info.backend_pid
    return bool(observer.sql("SELECT pid FROM pg_locks WHERE pid = $1 AND NOT granted", pid))


def check(scene: Scene, first: str, second: str, *, commits: bool) -> None:
    """After the sweeps that come anyway."""
    observer = scene.hand
    observer.run(consumers.DROP_STRAYS)
    observer.run(consumers.RELEASE_ORPHANS, 0.0)
    observer.run(consumers.DROP_STRAYS)
    done = [act for act, happened in ((first, commits), (second, True)) if happened]
    places: dict[int, list[str]] = {}
    for state in STATES:
        for (id_,) in observer.sql(f"SELECT message_id FROM celery.{state}"):
            places.setdefault(id_, []).append(state)
    bodies = {id_: bytes(body).decode() for id_, body in observer.sql("SELECT id, body FROM celery.message")}
    assert set(places) == set(bodies), f"states {places}, messages {bodies}"
    assert all(len(states) == 1 for states in places.values()), places
    assert len(set(bodies.values())) == len(bodies), f"stored twice: {sorted(bodies.values())}"
    where = {bodies[id_]: states[0] for id_, states in places.items()}
    expect(where, done, reaped_twice=first == second == "reap")


def expect(where: dict[str, str], done: list[str], *, reaped_twice: bool) -> None:
    """Of two reapers at once the second does nothing: it comes again a second later."""
    there = set(NAMES) | ({PUBLISHED} if "publish" in done else set())
    settled = next((act for act in done if act in SETTLING), None)
    if settled == "ack":
        there.discard("held")
    if not REMOVING & set(done):
        assert set(where) == there
        wanted = {"release": "ready", "reject": "dead_letter"}
        if settled in wanted and "claim" not in done:
            assert where["held"] == wanted[settled]
        claimed = [
            name for name, state in where.items() if state == "unacked" and name not in ("held", "lost")
        ]
        assert len(claimed) <= 2 * done.count("claim")
    else:
        assert set(where) <= there
    if "delete" in done:
        assert not {"ready", "delayed"} & set(where.values()), where
    if "reap" in done and not reaped_twice and "claim" not in done:
        assert where.get("lost") != "unacked"


def clear(observer: Hand, holder: Hand) -> None:
    holder.sql("SELECT pg_advisory_unlock_all()")
    deletions = [f"DELETE FROM celery.{table}" for table in reversed(TABLES)]
    added = observer.sql("SELECT attrelid::regclass::text FROM pg_attribute WHERE attname = 'added'")
    columns = [f"ALTER TABLE {table} DROP COLUMN added" for (table,) in added]
    observer.connection.execute(";".join(deletions + columns).encode())
