"""Goes through every state of the model, the nearest first, and says what must hold in each."""

from __future__ import annotations

from dataclasses import dataclass

from .model import DEAD, GONE, RUNNING, Faults, Protocol, Rules, State, Violation, initial


def check(state: State) -> None:
    """What holds in every state."""
    for number, row in enumerate(state.rows):
        alive = [worker for worker in state.workers if worker.life != DEAD]
        holding = [worker for worker in alive if worker.held[number] is not None or worker.wire is not None]
        if row.state == GONE and not state.executed[number] and not holding:
            raise Violation(f"message {number} is lost")
        executing = [
            worker
            for worker in holding
            if (held := worker.held[number]) is not None and held.state == RUNNING and not worker.fenced
        ]
        if len(executing) > 1 and not state.undone[number]:
            raise Violation(f"two live workers execute message {number}")


def is_over(state: State) -> bool:
    return all(state.executed) and all(row.state == GONE for row in state.rows)


@dataclass
class Exploration:
    """What a search has found."""

    states: int
    violation: str | None = None
    history: tuple[str, ...] = ()
    """The shortest way to the violation."""


def explore(rules: Rules, faults: Faults, *, messages: int = 1, workers: int = 2) -> Exploration:
    """Visit every state, the nearest first, and stop at the first that must not be."""
    protocol = Protocol(rules)
    states = [initial(messages, workers, faults)]
    numbers = {states[0]: 0}
    came_from: list[tuple[int, str]] = [(0, "")]
    leads_here: list[list[int]] = [[]]
    """From which states without a fault."""

    def found(violation: object, number: int) -> Exploration:
        steps = []
        while number:
            number, what = came_from[number]
            steps.append(what)
        return Exploration(len(states), str(violation), tuple(reversed(steps)))

    here = 0
    while here < len(states):
        steps = protocol.steps(states[here])
        while True:
            try:
                what, is_fault, after = next(steps)
            except StopIteration:
                break
            except Violation as violation:
                return found(violation, here)
            number = numbers.setdefault(after, len(states))
            if number == len(states):
                states.append(after)
                came_from.append((here, what))
                leads_here.append([])
                try:
                    check(after)
                except Violation as violation:
                    return found(violation, number)
            if not is_fault:
                leads_here[number].append(here)
        here += 1
    stuck = _first_stuck(states, leads_here)
    return (
        Exploration(len(states)) if stuck is None else found("a message is never executed and settled", stuck)
    )


def _first_stuck(states: list[State], leads_here: list[list[int]]) -> int | None:
    """The nearest state from which the work does not get done without a further fault or some luck."""
    waiting = [number for number, state in enumerate(states) if is_over(state)]
    good = set(waiting)
    while waiting:
        for before in leads_here[waiting.pop()]:
            if before not in good:
                good.add(before)
                waiting.append(before)
    return next((number for number in range(len(states)) if number not in good), None)
