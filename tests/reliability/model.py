"""The lease protocol as a small model, explored exhaustively: every order of every step and every fault.

What is modelled: messages that are ready, unacked or gone; workers that claim, execute and acknowledge over
a session that can be cut between any two steps, with the statement lost, executed, or still under way; a
second session that beats; commits of claims and acknowledgements that a crash of the server undoes; a
reaper in each worker.

Time is not modelled, its promises are: a worker that runs takes its lock again within the grace, and after
a restart of the server within the half minute of rule B; only one that stands still does not. `Rules` takes
single parts of the protocol away, to show what each is for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    Incarnation = tuple[int, int]
    """The place of the worker, and how many times it has registered."""
    Step = tuple[str, bool, "State"]
    """What happens, whether it is a fault, and what is then."""

READY, UNACKED, GONE = "ready", "unacked", "gone"
UP, STALLED, DEAD = "up", "stalled", "dead"
RUNNING, DONE, ACKED, LOST = "running", "done", "acked", "lost"
"""What a process knows of a message: it executes it; it has; it has said so; it is no longer its own."""
CLAIM, ACK = "claim", "ack"


class Violation(Exception):
    """An invariant does not hold after this step."""


@dataclass(frozen=True)
class Rules:
    """The protocol, and what can be taken away from it."""

    grace: bool = True
    """Rule A waits for one whose session was cut to come back."""
    restart: bool = True
    """Rule B: after a restart of the server everybody gets half a minute."""
    stall: bool = True
    """Rule C: who holds the lock and does not beat is fenced."""
    incarnation: bool = True
    """An acknowledgement names its incarnation, and not the number of the delivery alone."""
    adopt: bool = True
    """After a reconnect: what is held and was undone is claimed again and not delivered again."""
    ack_again: bool = True
    """After a reconnect: what was acknowledged and is there is acknowledged again."""
    deliver_unknown: bool = True
    """After a reconnect: what was claimed and never arrived is delivered, or given back."""
    old_session_first: bool = True
    """The new session waits until the old one has ended, with all that it had been sent."""
    keep_claimed: bool = True
    """A claim keeps the message until the acknowledgement."""


class Faults(NamedTuple):
    """How many may happen in one history: of each kind, and together."""

    together: int = 2
    kills: int = 2
    cuts: int = 2
    stalls: int = 1
    crashes: int = 1

    def one_less(self, kind: str) -> Faults | None:
        """After one of this kind; None where there may be none."""
        left = getattr(self, kind)
        if not left or not self.together:
            return None
        return self._replace(together=self.together - 1, **{kind: left - 1})


class Row(NamedTuple):
    """A message in the database."""

    state: str
    deliveries: int
    owner: Incarnation | None = None


class Held(NamedTuple):
    """A message in a process, with the number of its delivery."""

    state: str
    deliveries: int


class Statement(NamedTuple):
    """One that was sent; `row` is what it claimed, once it is executed."""

    verb: str
    owner: Incarnation
    message: int = 0
    deliveries: int = 0
    executed: bool = False


class Worker(NamedTuple):
    number: int = 0
    """Of the incarnation."""
    life: str = UP
    loop: bool = True
    """The session that claims, and holds the lock."""
    reconciled: bool = True
    """It has compared what the server knows with what it knows; it does not claim before."""
    beat: bool = True
    """The session that beats, and holds the lock too."""
    wire: Statement | None = None
    """Under way on the loop's session."""
    orphan: Statement | None = None
    """Under way on a session whose client is gone: the server may still execute it."""
    held: tuple[Held | None, ...] = ()
    fenced: bool = False
    """It was declared dead while it stood still: then two may execute a message."""


class State(NamedTuple):
    rows: tuple[Row, ...]
    disk: tuple[Row, ...]
    """What a crash of the server would leave of `rows`."""
    live: frozenset[Incarnation]
    """The rows of the table `consumer`."""
    restarted: bool
    """The server was, and half a minute has not passed since."""
    workers: tuple[Worker, ...]
    executed: tuple[bool, ...]
    undone: tuple[bool, ...]
    """A crash has undone the claim or the acknowledgement: then it may be executed twice."""
    faults: Faults


def initial(messages: int, workers: int, faults: Faults) -> State:
    rows = (Row(READY, 0),) * messages
    return State(
        rows=rows,
        disk=rows,
        live=frozenset((place, 0) for place in range(workers)),
        restarted=False,
        workers=(Worker(held=(None,) * messages),) * workers,
        executed=(False,) * messages,
        undone=(False,) * messages,
        faults=faults,
    )


def put(items: tuple, place: int, item: object) -> tuple:
    return (*items[:place], item, *items[place + 1 :])


class Protocol:
    """All steps from a state. Raises Violation from a step that breaks an invariant."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules

    def steps(self, state: State) -> Iterator[Step]:
        if state.rows != state.disk:
            yield "the server flushes", False, state._replace(disk=state.rows)
        if state.restarted and all(w.loop and w.beat for w in state.workers if w.life == UP):
            yield "half a minute has passed", False, state._replace(restarted=False)
        for place, worker in enumerate(state.workers):
            for what, is_fault, after in self._of(state, place, worker):
                yield f"worker {place} {what}", is_fault, after
        if (left := state.faults.one_less("crashes")) is not None:
            yield "the server crashes", True, self._crash(state._replace(faults=left))

    def _of(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        yield from self._server(state, place, worker)
        yield from self._faults(state, place, worker)
        if worker.life == DEAD:
            yield "is started again", False, self._register(state, place, worker, up=True)
            return
        for number, held in enumerate(worker.held):
            if held is not None and held.state in (RUNNING, LOST):
                kept = held._replace(state=DONE) if held.state == RUNNING else None
                after = self._worker(state, place, worker._replace(held=put(worker.held, number, kept)))
                yield (
                    f"has executed {number}",
                    False,
                    after._replace(executed=put(state.executed, number, True)),
                )
        if worker.life == UP:
            yield from self._loop(state, place, worker)
            yield from self._reap(state, place, worker)

    # -- a worker ------------------------------------------------------------------------------------

    def _loop(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        me = (place, worker.number)
        if not worker.beat and me in state.live:
            yield "beats again", False, self._worker(state, place, worker._replace(beat=True))
        if not worker.loop:
            if worker.orphan is None or not self.rules.old_session_first:
                if me in state.live:
                    back = worker._replace(loop=True, reconciled=False, wire=None)
                    yield "reconnects", False, self._worker(state, place, back)
                else:
                    yield "registers anew", False, self._register(state, place, worker, up=False)
            return
        if worker.wire is None:
            yield from self._send(state, place, worker)
        elif worker.wire.executed:
            yield "reads the answer", False, self._worker(state, place, self._read(worker, worker.wire))
        for number, held in enumerate(worker.held):
            if held is not None and held.state == ACKED and state.disk[number].state == GONE:
                forgot = worker._replace(held=put(worker.held, number, None))
                yield f"forgets {number}", False, self._worker(state, place, forgot)

    def _send(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        """One statement at a time; and what is acknowledged need not wait for the reconciliation."""
        me = (place, worker.number)
        if not worker.reconciled:
            for after in self._reconcile(state, place, worker):
                yield "reconciles", False, after
        elif any(row.state == READY for row in state.rows):
            claim = worker._replace(wire=Statement(CLAIM, me))
            yield "sends a claim", False, self._worker(state, place, claim)
        for number, held in enumerate(worker.held):
            if held is not None and held.state == DONE:
                ack = worker._replace(wire=Statement(ACK, me, number, held.deliveries))
                yield f"sends its ack of {number}", False, self._worker(state, place, ack)

    def _read(self, worker: Worker, wire: Statement) -> Worker:
        worker = worker._replace(wire=None)
        if wire.verb == ACK:
            return worker._replace(held=put(worker.held, wire.message, Held(ACKED, wire.deliveries)))
        if not wire.deliveries:  # there was nothing
            return worker
        return self._begin(worker, wire.message, wire.deliveries)

    def _begin(self, worker: Worker, number: int, deliveries: int) -> Worker:
        held = worker.held[number]
        if held is not None and held.state != LOST:
            raise Violation(f"a process begins message {number} again, which it has {held.state}")
        return worker._replace(held=put(worker.held, number, Held(RUNNING, deliveries)))

    def _reconcile(self, state: State, place: int, worker: Worker) -> Iterator[State]:
        """One statement in the real thing: nobody comes in between."""
        me = (place, worker.number)
        if me not in state.live:
            yield self._register(state, place, worker, up=False)
            return
        possible = [(state, worker._replace(reconciled=True))]
        for number in range(len(state.rows)):
            possible = [after for before in possible for after in self._compare(*before, me, number)]
        for after, reconciled in possible:
            yield self._worker(after, place, reconciled)

    def _compare(
        self, state: State, worker: Worker, me: Incarnation, number: int
    ) -> Iterator[tuple[State, Worker]]:
        """Compare one message with what the process knows of it."""
        rules, row, held = self.rules, state.rows[number], worker.held[number]

        def now(state: str, deliveries: int) -> Worker:
            return worker._replace(held=put(worker.held, number, Held(state, deliveries)))

        mine = row.owner == me
        if held is None or held.state == LOST:
            if mine and rules.deliver_unknown:
                yield state, self._begin(worker, number, row.deliveries)
                yield self._row(state, number, Row(READY, row.deliveries)), worker
            else:
                yield state, worker
        elif held.state == ACKED and not rules.ack_again:
            yield state, worker
        elif mine:
            yield state, now(RUNNING if held.state == RUNNING else DONE, row.deliveries)
        elif row.state == READY and rules.adopt:
            claimed = Row(UNACKED, row.deliveries + 1, me)
            yield (
                self._row(state, number, claimed),
                now(RUNNING if held.state == RUNNING else DONE, claimed.deliveries),
            )
        elif row.state == READY:
            yield state, worker
        else:  # somebody else's by now, or gone
            kept = Held(LOST, held.deliveries) if held.state == RUNNING else None
            yield state, worker._replace(held=put(worker.held, number, kept))

    def _register(self, state: State, place: int, worker: Worker, *, up: bool) -> State:
        """A new incarnation; what the old one executes is no longer its own."""
        held = tuple(
            Held(LOST, h.deliveries) if h is not None and h.state in (RUNNING, LOST) and not up else None
            for h in worker.held
        )
        number = worker.number + 1
        born = Worker(number=number, held=held, orphan=worker.orphan)
        state = self._worker(state, place, born)
        return state._replace(live=state.live | {(place, number)}, disk=state.rows)

    # -- the server ----------------------------------------------------------------------------------

    def _server(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        if worker.wire is not None and not worker.wire.executed:
            for after, answer in self._execute(state, worker.wire):
                yield (
                    f"has its {worker.wire.verb} executed",
                    False,
                    self._worker(after, place, worker._replace(wire=answer)),
                )
        if worker.orphan is not None:
            ended = worker._replace(orphan=None)
            yield "loses what its old session was sent", False, self._worker(state, place, ended)
            for after, _ in self._execute(state, worker.orphan):
                yield "has its old session's statement executed", False, self._worker(after, place, ended)

    def _execute(self, state: State, sent: Statement) -> Iterator[tuple[State, Statement]]:
        if sent.verb == CLAIM:
            ready = [number for number, row in enumerate(state.rows) if row.state == READY]
            if sent.owner not in state.live or not ready:
                yield state, sent._replace(executed=True)
                return
            number = ready[0]
            claimed = Row(UNACKED, state.rows[number].deliveries + 1, sent.owner)
            answer = sent._replace(executed=True, message=number, deliveries=claimed.deliveries)
            yield self._row(state, number, claimed if self.rules.keep_claimed else Row(GONE, 0)), answer
            return
        row = state.rows[sent.message]
        matches = row.state == UNACKED and row.deliveries == sent.deliveries
        if matches and self.rules.incarnation:
            matches = row.owner == sent.owner
        if matches:
            if row.owner != sent.owner:
                raise Violation(f"the ack of {sent.owner} takes message {sent.message} from {row.owner}")
            state = self._row(state, sent.message, Row(GONE, 0))
        yield state, sent._replace(executed=True)

    def _reap(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        """Any worker may; what it takes away commits durably."""
        if not worker.beat:
            return
        for owner in state.live - {(place, worker.number)}:
            of = state.workers[owner[0]]
            current = of.number == owner[1] and of.life != DEAD
            holds = of.number == owner[1] and (of.loop or of.beat or of.orphan is not None)
            if not holds and self._is_dead(state, of, current=current):
                yield f"reaps {owner}", False, self._give_back(state, owner, of)
            elif self.rules.stall and current and holds and of.life == STALLED:
                ended = of._replace(loop=False, beat=False, wire=None, orphan=None)
                yield f"fences {owner}", False, self._give_back(state, owner, ended)

    def _is_dead(self, state: State, worker: Worker, *, current: bool) -> bool:
        """Of one whose locks are free."""
        if not current:
            return True  # the process is seen to be gone, or the grace is over
        if state.restarted:
            return not self.rules.restart
        return worker.life == STALLED or not self.rules.grace

    def _give_back(self, state: State, owner: Incarnation, worker: Worker) -> State:
        rows = tuple(Row(READY, row.deliveries) if row.owner == owner else row for row in state.rows)
        if worker.number == owner[1] and worker.life == STALLED:
            worker = worker._replace(fenced=True)
        state = self._worker(state, owner[0], worker)
        return state._replace(rows=rows, disk=rows, live=state.live - {owner})

    # -- faults --------------------------------------------------------------------------------------

    def _faults(self, state: State, place: int, worker: Worker) -> Iterator[Step]:
        if worker.life == STALLED:
            # It need not: so nothing may depend on it.
            yield "goes on", True, self._worker(state, place, worker._replace(life=UP))
        if worker.life == DEAD:
            return
        if (left := state.faults.one_less("kills")) is not None:
            nothing = (None,) * len(worker.held)
            for cut in self._cut(worker):
                killed = cut._replace(life=DEAD, beat=False, held=nothing)
                yield "is killed", True, self._worker(state._replace(faults=left), place, killed)
        if (left := state.faults.one_less("cuts")) is not None:
            fewer = state._replace(faults=left)
            if worker.loop:
                for cut in self._cut(worker):
                    yield "loses its session", True, self._worker(fewer, place, cut)
            if worker.beat:
                silent = worker._replace(beat=False)
                yield "loses the session that beats", True, self._worker(fewer, place, silent)
        if worker.life == UP and (left := state.faults.one_less("stalls")) is not None:
            stalled = worker._replace(life=STALLED)
            yield "stands still", True, self._worker(state._replace(faults=left), place, stalled)

    def _cut(self, worker: Worker) -> Iterator[Worker]:
        """The statement under way is lost, or its answer is; or the server goes on with it."""
        yield worker._replace(loop=False, wire=None)
        if worker.wire is not None and not worker.wire.executed and worker.orphan is None:
            yield worker._replace(loop=False, wire=None, orphan=worker.wire)

    def _crash(self, state: State) -> State:
        return state._replace(
            rows=state.disk,
            restarted=True,
            workers=tuple(
                worker._replace(loop=False, beat=False, wire=None, orphan=None) for worker in state.workers
            ),
            undone=tuple(
                before or now != kept
                for before, now, kept in zip(state.undone, state.rows, state.disk, strict=True)
            ),
        )

    def _worker(self, state: State, place: int, worker: Worker) -> State:
        return state._replace(workers=put(state.workers, place, worker))

    def _row(self, state: State, number: int, row: Row) -> State:
        return state._replace(rows=put(state.rows, number, row))
