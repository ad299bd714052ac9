"""What is done with all contenders: what each of them does, then speed in rounds in which they take turns."""

from __future__ import annotations

import time
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from . import observations
from .progress import Agenda, Item
from .speed import Budget, Client, Plan, Rehearsal, Sheet, visit, workloads_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from .arena import Arena
    from .progress import Step
    from .request import Request
    from .run import Comparison
    from .speed import Estimate

_REHEARSAL_S = 4.0


def rounds(comparison: Comparison, request: Request, sheet: Sheet, at: Callable[[Step], None]) -> None:
    """All that was asked for. `at` hears what is being done.

    Speed comes last, since it can do with the time that is left.
    """
    budget = Budget.of(request, len(comparison.arenas), time.monotonic())
    agenda = Agenda(at)
    speed = _Speed(comparison, request, sheet, agenda, budget)
    if request.only != "speed":
        agenda.expect(observations.items(comparison, request))
    if request.only != "behaviour":
        agenda.expect(speed.items())
    if request.only != "speed":
        observations.observe(comparison, request, agenda)
    if request.only != "behaviour":
        with ExitStack() as stack:
            speed.run(stack)


class _Speed:
    """The rounds of all contenders that take part."""

    def __init__(
        self, comparison: Comparison, request: Request, sheet: Sheet, agenda: Agenda, budget: Budget
    ) -> None:
        self._comparison = comparison
        self._request = request
        self._sheet = sheet
        self._agenda = agenda
        self._budget = budget
        self._workloads = workloads_of(request)
        self._clients: dict[str, Client] = {}
        self._rehearsals: dict[str, Rehearsal] = {}
        self._estimates: dict[str, Estimate] = {}
        self._plans: dict[str, Plan] = {}

    def items(self) -> list[Item]:
        arenas = self._comparison.arenas
        numbers = range(self._request.rounds)
        return [
            *(self._rehearsal_of(arena) for arena in arenas),
            *(self._visit_of(arena, number) for number in numbers for arena in arenas),
        ]

    def run(self, stack: ExitStack) -> None:
        """A rehearsal of each, and then the rounds: A B C A B C …"""
        for arena in self._comparison.arenas:
            self._attempt(arena, lambda arena: self._start(arena, stack))
        for arena in self._comparison.arenas:
            self._turn(self._rehearsal_of(arena), arena, self._rehearse)
        visit_s = self._budget.visit_s(self._request, len(self._estimates), time.monotonic())
        self._agenda.revise("visit", visit_s)
        for name, estimate in self._estimates.items():
            self._plans[name] = Plan.of(self._request, self._workloads, estimate, visit_s)
        self._rounds()

    def _rounds(self) -> None:
        longest_s = 0.0
        for number in range(self._request.rounds):
            began = time.monotonic()
            if number and not self._budget.allows(longest_s, began):
                self._agenda.leave_out(self.items())
                return
            act = partial(self._visit, first=not number)
            for arena in self._comparison.arenas:
                self._turn(self._visit_of(arena, number), arena, act)
            longest_s = max(longest_s, time.monotonic() - began)

    def _turn(self, item: Item, arena: Arena, act: Callable[[Arena], None]) -> None:
        self._agenda.begin(item)
        self._agenda.doing("")
        self._attempt(arena, act)
        self._agenda.done()

    def _attempt(self, arena: Arena, act: Callable[[Arena], None]) -> None:
        if self._comparison.attempt(arena, act):
            return
        # It shall not disturb the others.
        arena.end_workers()
        if arena.name in self._clients:
            self._clients.pop(arena.name).close()
        self._estimates.pop(arena.name, None)
        self._agenda.leave_out_contender(arena.name)

    def _start(self, arena: Arena, stack: ExitStack) -> None:
        client = stack.enter_context(Client(arena, self._workloads))
        self._clients[arena.name] = client
        self._rehearsals[arena.name] = Rehearsal(arena, client, self._workloads)

    def _rehearse(self, arena: Arena) -> None:
        self._estimates[arena.name] = self._rehearsals[arena.name].run()

    def _visit(self, arena: Arena, first: bool) -> None:
        name = arena.name
        found = visit(
            arena, self._clients[name], self._workloads, self._plans[name], first, self._agenda.doing
        )
        self._sheet.add(name, found)
        self._comparison.report.measures = self._sheet.measures()

    def _rehearsal_of(self, arena: Arena) -> Item:
        return Item("before the rounds", "rehearsal", arena.name, _REHEARSAL_S)

    def _visit_of(self, arena: Arena, number: int) -> Item:
        stage = f"round {number + 1} of {self._request.rounds}"
        return Item(stage, "visit", arena.name, self._budget.usual_visit_s)
