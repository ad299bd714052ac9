"""Many threads, one socket: somebody always looks after it, whatever takes the others away."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from celery_postgres.crowd import Crowd

if TYPE_CHECKING:
    from collections.abc import Callable


class Waiter(threading.Thread):
    """Waits in the crowd until it is told to be done, or is struck by what `take_in` raises."""

    def __init__(self, crowd: Crowd, **options: Any) -> None:
        super().__init__(daemon=True)
        self.crowd = crowd
        self.options = options
        self.is_done = threading.Event()
        self.leads = threading.Event()
        self.strike: BaseException | None = None
        self.outcome: Any = None
        self.woken = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            self.outcome = self.crowd.wait(
                self.is_done.is_set, self.woken, take_in=self.take_in, pause=self.pause, **self.options
            )
        except BaseException as exc:  # noqa: BLE001
            self.outcome = exc

    def take_in(self) -> None:
        self.leads.set()
        if self.strike is not None:
            raise self.strike

    def pause(self, _: float | None) -> None:
        self.woken.wait(0.01)


def leave_when_done(waiter: Waiter) -> None:
    waiter.is_done.set()


def leave_by_an_exception(waiter: Waiter) -> None:
    waiter.strike = KeyboardInterrupt()


@pytest.mark.parametrize("leave", [leave_when_done, leave_by_an_exception])
def test_leader_who_leaves_hands_over(leave: Callable[[Waiter], None]) -> None:
    crowd = Crowd()
    first = Waiter(crowd)
    assert first.leads.wait(5)
    others = [Waiter(crowd) for _ in range(3)]
    leave(first)
    first.join(5)
    for _ in range(3):
        leader = next_leader(others)
        leave(leader)
        leader.join(5)
        others.remove(leader)
        assert leader.outcome is True or isinstance(leader.outcome, KeyboardInterrupt)


def next_leader(waiters: list[Waiter]) -> Waiter:
    """Well within the second after which a parked thread looks by itself."""
    for _ in range(50):
        for waiter in waiters:
            if waiter.leads.wait(0.01):
                return waiter
    raise AssertionError("nobody leads")


def test_exception_between_entering_and_leading(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler may raise at any step: whoever it strikes does not lead for ever."""
    crowd = Crowd()
    enter = crowd._enter

    def enter_and_be_struck(woken: threading.Event) -> bool:
        enter(woken)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(crowd, "_enter", enter_and_be_struck)
        with pytest.raises(KeyboardInterrupt):
            crowd.wait(lambda: False, threading.Event(), take_in=lambda: None, pause=lambda _: None)
    other = Waiter(crowd)
    assert other.leads.wait(5)
    other.is_done.set()
    other.join(5)
    assert other.outcome is True


@pytest.mark.parametrize("timeout", [0, -1, 0.05])
def test_time_that_is_over(timeout: float) -> None:
    waiter = Waiter(Crowd(), timeout=timeout)
    waiter.join(5)
    assert waiter.outcome is False


def test_parked_thread_keeps_its_time() -> None:
    crowd = Crowd()
    leader = Waiter(crowd)
    assert leader.leads.wait(5)
    parked = Waiter(crowd, timeout=0.1)
    parked.join(5)
    assert parked.outcome is False
    leader.is_done.set()
    leader.join(5)


def test_callback_of_the_leader_waits_itself() -> None:
    """In its own thread, and as the leader: nobody else reads meanwhile."""
    crowd, came = Crowd(), []

    def take_in() -> None:
        if not came:
            came.append("outer")
            assert crowd.wait(
                lambda: len(came) > 1,
                threading.Event(),
                take_in=lambda: came.append("inner"),
                pause=lambda _: None,
                timeout=5,
            )

    assert crowd.wait(
        lambda: len(came) > 1, threading.Event(), take_in=take_in, pause=lambda _: None, timeout=5
    )
    assert came == ["outer", "inner"]
