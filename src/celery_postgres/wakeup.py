"""The bell: how publishers wake idle consumers, and how consumers say that they are idle.

Everything here is a hint. A consumer that goes idle on a queue takes a lock of the queue, looks once more,
and then waits; a publisher commits first and then tries the locks, so one of the two always sees the other.
Where that fails (a pooler, a lost session, `notify=false`) the poll finds the message.
"""

from __future__ import annotations

import hashlib
import random
import zlib
from typing import TYPE_CHECKING

from .sql import Statement, consumers, results, wakeup

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from .results import Result
    from .wire import Call

#: What may stand in a notification.
JSON = "application/json"


#: Results are told apart by so many channels: a process hears of its own, and of every n-th of the others.
BUCKETS = 32
#: NOTIFY takes less than 8,000 bytes.
_LARGEST_PAYLOAD = 7900

SLOTS = wakeup.SLOTS
"""How many consumers of one queue can be woken apart from the others."""
#: How many of them are woken for a message: should the one stand still, there is another.
WOKEN = 2
#: For how many queues at once somebody is looked for, since that takes locks; for more all are woken.
_QUEUES_AT_ONCE = 16


def _digest(schema: str, purpose: bytes = b"celery-postgres") -> bytes:
    return hashlib.blake2b(schema.encode(), digest_size=8, person=purpose).digest()


class Bell:
    """The calls that ring and listen, for one schema.

    A slot, from 0 to `SLOTS` - 1, has a channel of its own beside the one that all listen to.
    """

    def __init__(self, schema: str) -> None:
        digest = _digest(schema)
        # Channel names end at 63 bytes, silently for LISTEN: a hash never gets there.
        self.channel = f"celery_{digest.hex()}"
        self.lock_class = int.from_bytes(digest[:4], "big", signed=True)
        self._listen = Statement("listen", f"LISTEN {self.channel}")
        self._listen_at = [
            Statement(f"listen_at_{slot}", f"LISTEN {self.channel}_{slot}") for slot in range(SLOTS)
        ]
        self._listen_no_more_at = [
            Statement(f"listen_no_more_at_{slot}", f"UNLISTEN {self.channel}_{slot}") for slot in range(SLOTS)
        ]

    def listen(self) -> Call:
        return self._listen, ()

    def listen_at(self, slot: int) -> Call:
        return self._listen_at[slot], ()

    def listen_no_more_at(self, slot: int) -> Call:
        return self._listen_no_more_at[slot], ()

    def ring(self, queue_ids: Iterable[int], *, pooled: bool) -> Call:
        """Wake whoever waits for these queues; belongs in a transaction of its own, after the commit.

        The payload is the queue's id, and behind a space the slot, if it is for who is there.
        """
        ids = list(queue_ids)
        if pooled or len(ids) > _QUEUES_AT_ONCE:
            return wakeup.RING, (self.channel, ids)
        # So that all take turns, wherever there are gaps between them.
        first, step = random.randrange(SLOTS), random.randrange(1, SLOTS, 2)  # noqa: S311
        return wakeup.RING_IF_IDLE, (self.channel, self.lock_class, ids, first, step, WOKEN)

    def wait_idle(self, queue_ids: Iterable[int]) -> Call:
        return wakeup.WAIT_IDLE, (self.lock_class, list(queue_ids))

    def wait_no_more(self, queue_ids: Iterable[int]) -> Call:
        return wakeup.WAIT_NO_MORE, (self.lock_class, list(queue_ids))

    def take_slot(self, slot: int, queue_ids: Iterable[int]) -> Call:
        return wakeup.TAKE_SLOT, (self.lock_class, list(queue_ids), slot)

    def leave_slot(self, slot: int, queue_ids: Iterable[int]) -> Call:
        return wakeup.LEAVE_SLOT, (self.lock_class, list(queue_ids), slot)

    def free_slot(self, slot: int, queue_ids: Iterable[int]) -> Call:
        return wakeup.FREE_SLOT, (self.lock_class, list(queue_ids), slot)

    def stand_by(self, *, pooled: bool) -> Call:
        """Try to become the one who sweeps, and see who it is."""
        return (consumers.STAND_BY_POOLED if pooled else consumers.STAND_BY), (self.lock_class,)


class ResultBell:
    """The calls that tell of results and listen for them, for one schema.

    A payload is the length of the task id, a comma, the id, and behind it the result where that is short JSON
    text: who waits for it then need not ask.
    """

    def __init__(self, schema: str) -> None:
        digest = _digest(schema, b"celery-results")
        self._lock_class = int.from_bytes(digest[:4], "big", signed=True)
        self._channels = [f"celery_{digest.hex()}_{bucket}" for bucket in range(BUCKETS)]
        self._listen = [Statement(f"listen_{b}", f"LISTEN {name}") for b, name in enumerate(self._channels)]
        self._unlisten = [
            Statement(f"unlisten_{b}", f"UNLISTEN {name}") for b, name in enumerate(self._channels)
        ]

    @staticmethod
    def bucket(task_id: str) -> int:
        return zlib.crc32(task_id.encode(errors="replace")) % BUCKETS

    def ring(self, result: Result) -> Call:
        """Tell who waits; belongs in a transaction of its own, after the commit of the result."""
        bucket = self.bucket(result.task_id)
        head, inside = _payload(result)
        return results.WAKE_IF_WAITED, (
            self._channels[bucket],
            head,
            self._lock_class,
            bucket,
            result.task_id,
            result.state,
            inside,
        )

    def begin(self, buckets: Collection[int]) -> list[Call]:
        """Listen, and be seen to wait; read the results after this has been committed."""
        return [
            *((self._listen[bucket], ()) for bucket in buckets),
            (results.BEGIN_TO_WAIT, (self._lock_class, list(buckets))),
        ]

    def end(self, buckets: Collection[int]) -> list[Call]:
        return [
            (results.WAIT_NO_MORE, (self._lock_class, list(buckets))),
            *((self._unlisten[bucket], ()) for bucket in buckets),
        ]


def _payload(result: Result) -> tuple[str, str]:
    """Its beginning, and the result itself where that is short JSON text."""
    head, encoded = f"{len(result.task_id)},{result.task_id}", result.encoded
    if 4 * len(head) >= _LARGEST_PAYLOAD:
        return "", ""
    if encoded.content_type == JSON and len(encoded.payload) + 4 * len(head) < _LARGEST_PAYLOAD:
        try:
            return head, encoded.payload.decode()
        except UnicodeDecodeError:  # compressed
            return head, ""
    return head, ""


def read_payload(payload: bytes) -> tuple[str, bytes] | None:
    """Task id and result, which is empty where it has to be read; None for what is no payload of ours."""
    length, comma, rest = payload.decode(errors="replace").partition(",")
    if not comma or not length.isdigit():
        return None
    return rest[: int(length)], rest[int(length) :].encode()
