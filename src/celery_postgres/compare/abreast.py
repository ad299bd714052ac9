"""How the same is done with several contenders: one after the other, or with all at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait as wait_for_all
from typing import TYPE_CHECKING, TypeVar

from celery_postgres.verify.interruption import undisturbed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Future

    from typing_extensions import Self

    from .arena import Arena

Outcome = TypeVar("Outcome")

_LOOK_EVERY_S = 0.2


class InTurn:
    """One after the other, here and now."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def run(self, arenas: Sequence[Arena], act: Callable[[Arena], Outcome]) -> dict[str, Outcome | Exception]:
        """What came of it, or what it raised, by the contender's name."""
        came: dict[str, Outcome | Exception] = {}
        for arena in arenas:
            try:
                came[arena.name] = act(arena)
            except Exception as error:  # noqa: BLE001 - the caller's to judge
                came[arena.name] = error
        return came


class Abreast(InTurn):
    """All at once, each in a thread of its own. Use as a context manager, from one thread.

    A contender keeps its thread throughout, since Celery has a result backend for each.
    """

    def __init__(self, arenas: Sequence[Arena]) -> None:
        self._arenas = list(arenas)
        self._threads = {arena.name: ThreadPoolExecutor(1, arena.name) for arena in arenas}

    def __enter__(self) -> Self:
        self.run(self._arenas, lambda arena: arena.enter_thread())
        return self

    def __exit__(self, *_: object) -> None:
        with undisturbed():
            try:
                self.run(self._arenas, lambda arena: arena.leave_thread())
            finally:
                for thread in self._threads.values():
                    thread.shutdown()

    def run(self, arenas: Sequence[Arena], act: Callable[[Arena], Outcome]) -> dict[str, Outcome | Exception]:
        """As above. KeyboardInterrupt comes when all have ended, for which their workers are ended."""
        futures: dict[str, Future[Outcome]] = {}
        try:
            for arena in arenas:
                futures[arena.name] = self._threads[arena.name].submit(act, arena)
            wait_for_all(futures.values())
        except KeyboardInterrupt:
            with undisturbed():
                while wait_for_all(futures.values(), _LOOK_EVERY_S).not_done:
                    for arena in arenas:
                        arena.end_workers()
            raise
        came: dict[str, Outcome | Exception] = {}
        for name, future in futures.items():
            error = future.exception()
            if error is None:
                came[name] = future.result()
            elif isinstance(error, Exception):
                came[name] = error
            else:
                raise error
        return came
