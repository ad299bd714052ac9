"""What a second session may be in the middle of: each act as the statements that it sends, one by one."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from celery_postgres.sql import consumers, messages, topology

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.concurrency.hand import Hand

    Step = Callable[["Scene", Hand], object]

QUEUE = "q"
CLAIMED_AT_ONCE = 2


@dataclass
class Scene:
    """One queue with a message in each state. `names` are their bodies."""

    hand: Hand
    holder: Hand
    dead: uuid.UUID
    queue_id: int
    key: uuid.UUID = field(default_factory=uuid.uuid4)
    """Of the message that is published meanwhile, by whoever publishes: it is the same attempt."""
    held: list[tuple[int, int]] = field(default_factory=list)

    def id_of(self, name: str) -> int:
        found: int = self.hand.value("SELECT id FROM celery.message WHERE body = $1", name.encode())
        return found


NAMES = frozenset({"ready 1", "ready 2", "ready 3", "held", "lost", "due"})
PUBLISHED = "published"


def set_up(hand: Hand, holder: Hand) -> Scene:
    """`holder` lives and holds one message; somebody who is gone holds another."""
    queue_id = hand.queue(QUEUE)
    dead = uuid.uuid4()
    hand.sql(
        "INSERT INTO celery.consumer (id, lock_key, pooled, host, pid) VALUES ($1, 1, false, 'elsewhere', 1)",
        dead,
    )
    holder.register()
    scene = Scene(hand, holder, dead, queue_id)
    hand.sql(
        """INSERT INTO celery.message (uuid, queue_id, priority, exchange, routing_key, headers, properties,
                                      body)
           SELECT gen_random_uuid(), $1, 0, '', 'q', '{}', '{}', convert_to(name, 'UTF8')
             FROM unnest($2::text[]) AS name""",
        queue_id,
        sorted(NAMES),
    )
    hand.sql(
        """INSERT INTO celery.ready (queue_id, priority, message_id, deliveries)
           SELECT queue_id, 0, id, 0 FROM celery.message WHERE convert_from(body, 'UTF8') LIKE 'ready%'"""
    )
    for name, owner in (("held", holder.id), ("lost", dead)):
        hand.sql(
            """INSERT INTO celery.unacked (consumer_id, message_id, queue_id, priority, deliveries)
               VALUES ($1, $2, $3, 0, 1)""",
            owner,
            scene.id_of(name),
            queue_id,
        )
    hand.sql(
        """INSERT INTO celery.delayed (due_at, message_id, queue_id, priority, deliveries)
           VALUES (now() - interval '1 s', $1, $2, 0, 0)""",
        scene.id_of("due"),
        queue_id,
    )
    scene.held = [(scene.id_of("held"), 1)]
    return scene


def _publish(scene: Scene, hand: Hand) -> object:
    content = (None, None, None, None, None, "{}", "{}", PUBLISHED.encode(), None, "on")
    return hand.run(messages.PUBLISH_TO_QUEUE, scene.key, "", QUEUE, 0, *content)


def _claim(scene: Scene, hand: Hand) -> object:
    return hand.run(messages.CLAIM, scene.holder.id, [scene.queue_id], CLAIMED_AT_ONCE)


def _lock_queue(scene: Scene, hand: Hand) -> object:
    return hand.run(topology.LOCK_QUEUE, scene.queue_id)


def _delete_queue(scene: Scene, hand: Hand) -> object:
    return hand.run(topology.DELETE_QUEUE, scene.queue_id, False, False)


def _alter(table: str) -> Step:
    return lambda _, hand: hand.sql(f"ALTER TABLE celery.{table} ADD COLUMN IF NOT EXISTS added int")


ACTS: dict[str, list[Step]] = {
    "publish": [_publish],
    "claim": [_claim],
    "ack": [lambda scene, hand: hand.ack(scene.held, scene.holder.id)],
    "release": [lambda scene, hand: hand.release(scene.held, scene.holder.id)],
    "reject": [lambda scene, hand: hand.reject(scene.held, scene.holder.id)],
    "reap": [lambda scene, hand: hand.run(consumers.REAP, scene.dead, 20, None)],
    "promote": [lambda _, hand: hand.run(messages.PROMOTE, 1000)],
    "purge": [lambda scene, hand: hand.run(messages.PURGE, scene.queue_id)],
    "delete": [_lock_queue, _delete_queue],
    # What a release may do to the tables: state rows first, then the message, like everybody.
    "migrate": [_alter("unacked"), _alter("message")],
}

#: These settle the message that is held: the first of two wins.
SETTLING = frozenset({"ack", "release", "reject"})
REMOVING = frozenset({"purge", "delete"})
