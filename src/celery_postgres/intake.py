"""The consuming half of a connection: claims in, settlements out, one pipeline per turn.

A turn gathers what has piled up (acknowledgements, releases, rejections, a claim for each channel that has
room, a read of the broadcast log) into one batch and sends it without waiting. While it is under way the
worker hands out tasks; what piles up meanwhile joins the next turn. So batches grow with the load by
themselves, and the loop never waits for a round trip. Where that is a long one, the next turn does not wait
for it either.

    bell, poll, credit ──▶ turn ──▶ pump ──▶ arrivals ──▶ the channels' callbacks
                            ▲                               │
                            └────── ack, release, reject ◀──┘

The session is a `line.Line`: when it is lost, what was under way is where it was before, acknowledgements
wait, and what was delivered stays ours. `recovery.py` makes both sides agree before anything is claimed.

Thread-safety: settling may come from any thread, and so may `turn`; everything here is done under the
line's lock. Callbacks run outside of it, in the thread that calls the transport's loop.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from .arrivals import Arrivals
from .backoff import Patience
from .broadcast import BroadcastReader
from .claims import Claims
from .dead_letter import Burial
from .errors import DatabaseRejected, DatabaseUnavailable, Error, NotFound, passing_is_unavailable
from .gathering import Gathering
from .held import Held
from .idleness import Idleness
from .lanes import Lanes
from .line import Line
from .liveness import Incarnation
from .looks import Looks
from .messages import Claimed, read_claimed
from .outage import Lookout
from .pacer import Pacer
from .recovery import Recovery, own_settings, tell_of_untraced
from .settlements import Settlements
from .sql import consumers as consumer_sql
from .sql import messages as sql
from .sql import topology as topology_sql
from .subscription import Roster, Source, Subscription
from .topology import deletion
from .turn import Turn, Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from .connection import Server
    from .encoding import Rows
    from .liveness import Role
    from .options import Options
    from .reconcile import Findings
    from .topology import Queue
    from .wakeup import Bell
    from .wire import Batch, Call, Session

_log = logging.getLogger(__name__)

FLUSHES_AT_MOST = 3

#: An answer that took longer, in seconds, may have lain in a link that was cut. The server gave the session
#: up meanwhile (keepalives take 11 s), and what was claimed has been given to others. So may what has waited
#: here since an answer to something that was sent longer ago.
STALE_AFTER = 10.0

#: How long a consumer that leaves waits for a database that is away, in seconds.
PATIENCE_AT_THE_END = 3.0


class Intake:
    """Claims for all channels of one connection. Needs a session of its own."""

    def __init__(
        self,
        connect: Callable[[], tuple[Session, Server]],
        bell: Bell,
        options: Options,
        role: Role | None = None,
        *,
        max_outage: float | None = None,
        at_work: Callable[[], bool] = lambda: False,
    ) -> None:
        """`connect()` makes a session; `max_outage` is how long the line may be away, None for ever.

        `at_work()` tells whether this process executes something that it has acknowledged already.
        """
        session, server = connect()
        self.session = Line(session)
        self.pooled = server.pooled
        self.incarnation = Incarnation(role)
        self.on_look_planned: Callable[[], None] | None = None
        """Told, in any thread, when `seconds_to_poll` has changed; for an event loop's timer."""
        self._bell = bell
        self._options = options
        self._timeout = options.statement_timeout or None
        self._lock = self.session.lock
        self._roster = Roster()
        self._arrivals = Arrivals()
        self._held = Held()
        self._settlements = Settlements(self.incarnation.id, self._held, keep_rejected=options.keep_rejected)
        self._idleness = Idleness(self.session, bell, listening=options.notify and not server.pooled)
        self._reader = BroadcastReader()
        self._looks = Looks(
            options,
            self._roster,
            self._reader,
            self._idleness,
            self.incarnation,
            at_work=at_work,
            planned=self._look_planned,
        )
        self._claims = Claims(
            self.incarnation.id, self._roster, self._idleness, self._take, self._looks.plan, self._pass_on
        )
        self._recovery = Recovery(
            connect,
            self.session,
            self.incarnation,
            self._roster,
            self._held,
            settings=lambda: own_settings(self._idleness, pooled=server.pooled),
            pooled=server.pooled,
            timeout=self._timeout,
        )
        self._recovery.on_agreed = self._agree
        self._recovery.on_declared_dead = self.give_up
        self._claiming = True
        self._aside = False
        self._cancelled: list[str] = []
        """Subscriptions that were ended while the line was away."""
        self._turns = Turns()
        self._gathering = Gathering()
        self._resume_at = 0.0
        self._refusal: DatabaseRejected | None = None
        self._patience = Patience()
        self._failure: Exception | None = None
        try:
            self._recovery.begin(
                session, stall_timeout=options.stall_timeout, timeout=options.connect_timeout
            )
        except BaseException:
            session.close()
            raise
        self.pacer = Pacer(self)
        self.lookout = Lookout(
            self.session, self._recovery.restore, look=self._look_after, max_outage=max_outage
        )

    # -- consumers -----------------------------------------------------------------------------------

    @property
    def queue_ids(self) -> list[int]:
        """The queues that are consumed."""
        return self._roster.queue_ids

    def subscribe(self, subscription: Subscription) -> bool:
        """Register a consumer and begin to claim for it; False when the queue takes no further one.

        Raises NotFound when the queue was deleted meanwhile.
        """
        queue = subscription.queue
        values = (
            self.incarnation.id,
            subscription.name,
            queue.id,
            subscription.no_ack,
            subscription.exclusive,
        )
        with passing_is_unavailable():
            locked, entered = self._run(
                (topology_sql.LOCK_QUEUE, (queue.id,)), (consumer_sql.SUBSCRIBE, values)
            )
        if not locked.count:
            raise NotFound(f"queue {queue.name!r} was deleted just now: declare it again")
        if not entered.count:
            return False
        self.lookout.start()
        with self._lock:
            self._roster.add(subscription)
            if queue.broadcast_from is not None:
                self._reader.follow(queue.id, queue.broadcast_from)
                for claimed in self._arrivals.withdraw_apart(queue.id):
                    self._arrive(claimed)
            if queue.prompt:
                with self.session.riding_out():
                    self._idleness.begin([queue.id])
        return True

    def cancel(self, subscription: Subscription) -> None:
        """End a consumer; what it was given stays its own, what it was not yet given returns."""
        queue_id = subscription.queue.id
        with self._lock:
            last = self._roster.remove(subscription)
            try:
                self._settle_under_way()
            finally:  # also when a signal handler came in the middle of something
                self.release(self._arrivals.withdraw(subscription))
            # First the locks, which last although the batch be refused: nobody is to ring here any more.
            calls = self._idleness.ending([queue_id]) if last else []
            calls.append((consumer_sql.UNSUBSCRIBE, (self.incarnation.id, subscription.name)))
            if self.session.away:  # perhaps the recovery has listed those who consume already
                self._cancelled.append(subscription.name)
            else:
                with self.session.riding_out(), passing_is_unavailable():
                    self._run(*calls)

    def forget_queue(self, queue_id: int) -> None:
        """The queue is gone: so is its place in the log."""
        with self._lock:
            self._reader.forget(queue_id)
            self._arrivals.withdraw_apart(queue_id)
            self._roster.forget(queue_id)

    @property
    def has_arrived(self) -> bool:
        """Whether a message waits for its callback, and is ours beyond doubt."""
        return bool(self._arrivals) and not self._doubts

    def deliver_one(self) -> bool:
        """Hand the next arrived message to its consumer, in this thread; False when none has arrived.

        Or none of which it is certain that nobody else has it: the next turn asks.
        """
        with self._lock:
            entry = None if self._doubts else self._arrivals.take()
            if entry is None:
                return False
            subscription, claimed = entry
            delivery = subscription.accept(claimed)
        subscription.deliver(delivery)
        return True

    def deliver_arrived(self) -> int:
        """Hand over what has arrived by now, and not what arrives meanwhile; returns how many."""
        delivered = 0
        for _ in range(len(self._arrivals)):
            if not self.deliver_one():  # a callback cancelled its consumer, or waited for more itself
                break
            delivered += 1
        return delivered

    @property
    def _doubts(self) -> bool:
        """Whether others may have what waits here, as after a long task of the loop's thread."""
        return time.monotonic() - self._turns.confirmed_at > STALE_AFTER

    # -- settling ------------------------------------------------------------------------------------

    def ack(self, claimed: Claimed) -> None:
        """Acknowledge; returns at once, and `turn` or `pace` follow.

        Raises DatabaseUnavailable when the line is over.
        """
        if claimed.logged:
            return
        with self._lock:
            if self._is_held(claimed):
                self._settlements.ack(claimed)

    def pace(self) -> None:
        """See to it that what could not be sent yet leaves within 20 ms, whatever the loop does."""
        if self.unsent:
            self.pacer.arm()

    def reject(self, claimed: Claimed, reason: str = "rejected") -> None:
        """Drop or dead-letter; as `ack`."""
        if claimed.logged:
            return
        with self._lock:
            if self._is_held(claimed):
                self._settlements.reject(claimed, reason)
        self.pacer.arm()

    def release(self, claimed: Iterable[Claimed]) -> None:
        """Give back in place; as `ack`."""
        with self._lock:
            messages = list(claimed)
            rows = [message for message in messages if not message.logged]
            for message in rows[:1]:
                self._check_over(message)
            self._settlements.release(filter(self._held.holds, rows))
            for message in reversed(messages):
                if message.logged:
                    self._put_back(message)
        self.pacer.arm()

    def _is_held(self, claimed: Claimed) -> bool:
        """Whether there is something to settle; else the log says so.

        The server matches the number of a message, which after a crash may be that of another one.
        """
        self._check_over(claimed)
        if self._held.holds(claimed):
            return True
        self._settlements.too_late(claimed)
        return False

    def _check_over(self, claimed: Claimed) -> None:
        if self.session.over is not None:
            raise DatabaseUnavailable(
                f"message {claimed.message_id} (task {claimed.task_id}) cannot be settled, the consumer that "
                "claimed it is gone: it will be delivered again"
            )

    def _put_back(self, entry: Claimed) -> None:
        owner = self._roster.owner(entry, None)
        if owner is None:
            self._arrivals.set_apart_first(entry)
        else:
            self._arrivals.put_back(owner, entry)

    # -- turns ---------------------------------------------------------------------------------------

    def turn(self) -> None:
        """Send what has piled up, unless a batch is under way that should be back soon; never blocks."""
        session = self.session
        if session.away or not self._may_send or not self._has_work or time.monotonic() < self._resume_at:
            return
        with session.riding_out(), self._lock:
            if self._may_send and not self._can_wait():
                self._send(claiming=self._claiming and not self._aside)

    @property
    def _may_send(self) -> bool:
        return not self.session.busy or self._turns.may_overtake()

    @property
    def _has_work(self) -> bool:
        """Whether a turn would send anything: every step of the loop asks, and most have nothing."""
        if self._settlements or self._claims.wanted or self._reader.wanted:
            return True
        return bool(self._arrivals) and self._doubts

    def _can_wait(self) -> bool:
        """Under load a fuller batch is worth a few milliseconds: the worker has half a window in hand."""
        return (
            self._gathering.worth_it
            and not self._reader.due
            and self._settlements.can_wait
            and all(source.has_enough() for source in self._roster.sources)
            and self._gathering.may_go_on()
        )

    def _send(self, *, claiming: bool) -> None:
        self._gathering.ended(len(self._settlements))
        turn = Turn()
        try:
            self._settlements.add_to(turn, self._roster.queue, self._refilled)
            if claiming and not self._reader.waits:  # a task must not overtake a command
                self._claims.add_to(turn)
                if self._reader.wanted:
                    self._reader.add_to(turn, self._arrive)
                    turn.on_success(self._wait_for_log)
            if not turn.calls and self._arrivals and self._doubts:
                turn.add((consumer_sql.CONFIRM, ()))
            if turn.calls:
                self._turns.sent(turn)
                self.session.send(turn.calls, lambda batch: self._answered(turn, batch))
        except BaseException:
            self._turns.ended(turn)
            turn.undo()
            raise

    def _answered(self, turn: Turn, batch: Batch) -> None:
        self._turns.ended(turn)
        age = time.monotonic() - turn.sent_at
        if batch.error is None and age > STALE_AFTER:
            # As if it had been lost: over the next session both sides find out what is whose.
            batch.error = DatabaseUnavailable(f"an answer came after {age:.0f} s, and may be out of date")
        error = batch.error
        if error is None:
            self._patience.reset()
            self._turns.answered(turn)
            with self.session.riding_out():
                turn.take(batch.results)
            return
        turn.undo()
        if isinstance(error, DatabaseRejected):
            # A deadlock, a time-out, a full disk: nothing of the batch happened, so it is sent again.
            # One that no repetition helps too: an acknowledgement has nobody to be given to.
            pause = self._patience.after(error.reaction)
            _log.warning("the server refused a batch, trying again in %g s: %s", round(pause, 2), error)
            self._refusal = error
            self._resume_at = time.monotonic() + pause
            self._looks.plan(self._resume_at)
        elif not isinstance(error, DatabaseUnavailable):
            self._failure = error

    # -- what comes back -----------------------------------------------------------------------------

    def pump(self) -> None:
        """Take in what has arrived; never blocks. Raises what ended the line or cannot be retried."""
        self.session.pump()
        if self._failure is not None:
            raise self._failure
        while (payload := self.session.notification()) is not None:
            self._rung(payload)

    def _rung(self, payload: bytes) -> None:
        number, _, slot = payload.partition(b" ")
        try:
            queue_id = int(number)
        except ValueError:  # anybody may notify on any channel
            return
        with self._lock:
            if slot and not self._idleness.may_be_meant(queue_id):
                return
            self._look(queue_id)
            self._looks.rung(queue_id)

    def _look(self, queue_id: int) -> None:
        for subscription in self._roster.of(queue_id):
            if subscription.queue.broadcast_from is not None:
                self._reader.due = True
            else:
                subscription.source.look = True

    def _take(self, claimed: Claimed, source: Source | None) -> None:
        self._held.add(claimed)
        if claimed.expired:
            self.reject(claimed, "expired")
        else:
            self._arrive(claimed, source)

    def _arrive(self, claimed: Claimed, source: Source | None = None) -> None:
        """Hand a message to one of its queue's subscriptions, or keep it for whoever comes."""
        owner = self._roster.owner(claimed, source)
        if self._aside and not claimed.logged:  # it was under way when the loop was found to stand still
            self.release([claimed])
        elif owner is not None:
            self._arrivals.put(owner, claimed)
        elif claimed.logged:
            self._arrivals.set_apart(claimed)
        else:
            self.release([claimed])

    def _wait_for_log(self) -> None:
        """Wait to be woken for the queues of the log, as a claim does for those of rows.

        Not only at the start: the session may be another one since, or a publisher held the lock just then.
        """
        prompt = [
            queue_id
            for queue_id in self._reader.queue_ids
            if any(subscription.queue.prompt for subscription in self._roster.of(queue_id))
        ]
        if self._idleness.begin(prompt):
            self._reader.due = True  # once more, now that publishers see that somebody waits

    def _refilled(self, queue_ids: Iterable[int]) -> None:
        """Something came back to these queues, or was copied there: whoever waits for it is woken."""
        ids = list(queue_ids)
        self._pass_on(ids)
        for queue_id in ids:
            self._look(queue_id)

    def _pass_on(self, queue_ids: list[int]) -> None:
        if queue_ids and self._options.notify:
            self.session.send([self._bell.ring(queue_ids, pooled=self.pooled)])

    # -- time ----------------------------------------------------------------------------------------

    def seconds_to_poll(self) -> float:
        """How long the loop may sleep if nothing arrives."""
        return self._looks.seconds_left()

    def poll(self) -> None:
        """Look although no bell rang, if that is due."""
        with self._lock:
            self._looks.poll()

    def _look_planned(self) -> None:
        if self.on_look_planned is not None:
            self.on_look_planned()

    # -- a loop that stands still ----------------------------------------------------------------------

    def set_aside(self) -> bool:
        """Claim nothing any more, and give back what has not been handed over; False without a consumer.

        For another thread than the loop's, which does not turn.
        """
        with self._lock:
            if not self._roster.queue_ids:
                return False
            self._aside = True
            self.release(self._arrivals.withdraw_rows())
            with self.session.riding_out():  # no bell would be heard here
                for source in self._roster.sources:
                    self._idleness.leave(source.queue_ids)
        self.turn()
        return True

    def take_up(self) -> None:
        """Claim again."""
        with self._lock:
            self._aside = False
            for source in self._roster.sources:
                source.look = True

    # -- synchronous use -----------------------------------------------------------------------------

    def _run(self, *calls: Call) -> list[Rows]:
        return self.session.run(*calls, timeout=self._timeout)

    def claim_one(self, queue: Queue) -> Claimed | None:
        """Claim the next message of a queue; blocks for a round trip."""
        self.lookout.start()
        if queue.broadcast_from is not None:
            return self._next_entry(queue, queue.broadcast_from)
        self._roster.remember(queue)
        while True:
            calls: list[Call] = [(sql.CLAIM, (self.incarnation.id, [queue.id], 1))]
            if "x-expires" in queue.arguments:
                calls.append((topology_sql.TOUCH_QUEUES, ([queue.id],)))
            claimed = self._claim_now(calls)
            if not claimed:
                return None
            if not claimed[0].expired:
                return claimed[0]
            self._bury_now(claimed, queue, "expired")

    def _claim_now(self, calls: Sequence[Call]) -> list[Claimed]:
        """Claim and wait; what is claimed for somebody whom a time limit took away is given back."""
        claimed: list[Claimed] = []
        gone = False

        def hold(batch: Batch) -> None:
            if batch.error is None:
                claimed.extend(read_claimed(batch.results[0]))
                for message in claimed:
                    self._held.add(message)
                if gone:
                    self.release(claimed)

        batch = self.session.send(calls, hold)
        try:
            self.session.wait(batch, self._timeout)
        except BaseException:
            with self._lock:
                gone = True
                if claimed:
                    self.release(claimed)
            raise
        return claimed

    def _bury_now(self, claimed: Sequence[Claimed], queue: Queue, reason: str) -> None:
        keep = self._options.keep_rejected
        burial = Burial(self.incarnation.id, claimed, queue, reason, keep=keep)
        try:
            self._refilled(burial.run(self._run))
        except BaseException:
            with self._lock:  # nobody else holds it, or would settle it
                for message in filter(self._held.holds, claimed):
                    self._settlements.reject(message, reason)
            self.pacer.arm()
            raise
        with self._lock:
            self._held.settled(claimed, burial.repeatable)

    def _next_entry(self, queue: Queue, snapshot: str) -> Claimed | None:
        with self._lock:
            self._roster.remember(queue)
            self._reader.follow(queue.id, snapshot)
            self._settle_under_way()
            while (entry := self._arrivals.take_of_queue(queue.id)) is None:
                call = self._reader.call()
                for found in self._reader.take(call, self._run(call)[0]):
                    self._arrive(found)
                if not self._reader.more:
                    return self._arrivals.take_of_queue(queue.id)
            return entry

    def _settle_under_way(self) -> None:
        """Wait for what is under way, so that nothing is known to the server alone.

        Or is known to nobody, since the session is lost.
        """
        with self.session.waiting():
            while self.session.busy:
                self.session.pump()
                self.session.give_up_silent(STALE_AFTER)
                if self.session.busy:
                    self.session.wait_readable(None)

    def flush(self) -> None:
        """Block until everything settled so far has reached the server, unless the line is away.

        Then it leaves as soon as that is home again.
        Raises DatabaseRejected when the server refuses it again and again.
        """
        refused, sent = 0, False
        while True:
            self._settle_under_way()
            if sent and self._failure is not None:
                raise self._failure
            if sent and self._refusal is not None:
                refused += 1
                if refused == FLUSHES_AT_MOST:
                    raise self._refusal
                time.sleep(max(0.0, self._resume_at - time.monotonic()))
            with self.session.riding_out(), self._lock:  # nobody sends meanwhile, the pacer neither
                if self.session.away or not (self.session.busy or self._settlements):
                    return
                if not self.session.busy:
                    self._refusal, sent = None, True
                    self._send(claiming=False)

    @property
    def unsent(self) -> bool:
        """Whether something settled could be sent and has not been."""
        return not self.session.away and (bool(self._settlements) or self.session.unsent)

    # -- the line: lost, home again, over -------------------------------------------------------------

    def _look_after(self) -> None:
        """In the lookout's thread: take in what the loop has not got to, and notice a line that is dead."""
        self.pacer.help_out()
        self.session.give_up_silent(STALE_AFTER)

    def _agree(self, findings: Findings) -> None:
        """Take over what the reconciliation found; every hint may have been lost, so look everywhere."""
        self._idleness.forget()
        heard_at, self._turns = self._turns.confirmed_at, Turns()
        self._held.drop(findings.lost)
        self._held.forget(findings.overtaken)
        # Before others are added, which takes away those that are older than an outage of seconds.
        untraced = self._held.acknowledged_before(heard_at) if findings.crashed else {}
        findings.taken = self._settlements.lose(findings.lost, findings.taken)
        if findings.crashed:
            untraced |= self._held.acknowledged_since(heard_at)  # the server had, and its answer was lost
            findings.untraced = {key: task for key, task in untraced.items() if key not in findings.finished}
            self._held.forget(untraced)  # what is there after a crash, and what is not, is on disk
        self._held.acknowledged_again(findings.finished)
        self._arrivals.drop(findings.lost)
        for claimed in findings.unknown:
            self._take(claimed, None)
        for source in self._roster.sources:
            source.look = True
            source.full_claims = 0
            source.asked = 0
            source.lanes = Lanes()
        self._reader.read_again()
        if findings.crashed:
            self._reader.start_over()
        for name in self._cancelled:
            self.session.send([(consumer_sql.UNSUBSCRIBE, (self.incarnation.id, name))])
        self._cancelled.clear()
        self._resume_at = 0.0
        self.pace()

    def give_up(self, crashed: bool = False) -> None:
        """Others have declared us dead and given our messages back: what we still hold is not ours.

        `crashed` is whether that came with a crash of the server: then they may have been given what we had
        acknowledged, too. In any thread; the loop meets DatabaseUnavailable, so that whoever consumes
        connects anew.
        """
        _log.error("this consumer was declared dead, its messages were given to others: connecting anew")
        if crashed:
            with self._lock:
                untraced = self._held.acknowledged_before(self._turns.confirmed_at)
            tell_of_untraced(untraced)
        self.session.end(
            DatabaseUnavailable("this consumer was declared dead: it did not show signs of life for too long")
        )

    def consumed(self) -> list[Queue]:
        """The queue of each subscription."""
        with self._lock:
            return [subscription.queue for subscription in self._roster.subscriptions]

    def lose_queues(self, gone: Sequence[Queue]) -> None:
        """Queues were deleted while they are consumed. AMQP cancels their consumers; here the line is over.

        In any thread; the loop meets DatabaseUnavailable, so that whoever consumes declares them again.
        """
        with self._lock:
            known = set(self._roster.queue_ids)
        names = sorted(queue.name for queue in gone if queue.id in known)
        if names:
            said = f"queue {', '.join(map(repr, names))} was deleted while it was consumed: connecting anew"
            _log.error("%s", said)
            self.session.end(DatabaseUnavailable(said))

    def close(self) -> None:
        """Settle what can be, give back what was not delivered, and leave. A lost session is no error.

        Waits for a few seconds if the database is away.
        """
        self.pacer.stop()
        self._claiming = False  # the pacer may be in the middle of a turn
        try:
            if self.session.wait_home(PATIENCE_AT_THE_END):
                self._settle_under_way()
                with self._lock:
                    self._settlements.release(self._arrivals.withdraw_rows())
                self.flush()
                self._delete_own_queues()
                self._run(self.incarnation.deregister())
            elif self.session.over is None:
                _log.warning("the consumer leaves while the database is away: what it holds returns later")
        except Error as exc:
            _log.warning("the consumer left without saying so, its messages return after a grace: %s", exc)
        finally:
            self.lookout.stop()
            self.session.close()
            if self._settlements.final:
                _log.warning(
                    "%d acknowledgements or rejections did not reach the server: those messages will be "
                    "delivered again",
                    self._settlements.final,
                )

    def _delete_own_queues(self) -> None:
        """Exclusive queues go with their connection."""
        rows = self._run((topology_sql.FIND_OWN_QUEUES, (self.incarnation.id,)))[0]
        for row in range(rows.count):
            self._run(*deletion(rows.integer(row, 0)))
