"""Groups and chords of every shape, run by a worker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from celery import chain, chord, group, states
from celery.exceptions import ChordError
from celery.result import AsyncResult

from tests.fixtures.process import run
from tests.fixtures.waiting import eventually

from . import sums

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery


WAIT_S = 30


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(query.encode()).fetchall()


def test_round_trip(worked: Celery) -> None:
    assert sums.add.delay(1, 2).get(timeout=WAIT_S) == 3


def test_exception_reaches_the_caller(worked: Celery) -> None:
    result = sums.fail.delay("for good reason")
    with pytest.raises(sums.OwnError, match="for good reason"):
        result.get(timeout=WAIT_S)
    assert "raise OwnError(text)" in result.traceback


def test_progress_and_retries(worked: Celery) -> None:
    heard: list[Any] = []
    result = sums.report_progress.delay(3)
    assert result.get(timeout=WAIT_S, on_message=heard.append) == 3
    assert sums.retry_twice.delay().get(timeout=WAIT_S) == 2


def test_children_and_parents(worked: Celery) -> None:
    result = (sums.add.s(1, 1) | sums.add.s(10) | sums.add.s(100)).delay()
    assert result.get(timeout=WAIT_S) == 112
    assert result.parent.get(timeout=WAIT_S) == 12
    first = AsyncResult(result.parent.parent.id, app=worked)
    assert [child.id for child in first.children] == [result.parent.id]


@pytest.mark.parametrize("size", [1, 2, 10, 200])
def test_chord(worked: Celery, size: int) -> None:
    result = chord((sums.add.s(n, n) for n in range(size)), sums.gather.s()).delay()
    assert result.get(timeout=WAIT_S) == [2 * n for n in range(size)]


def test_group_of_chords(worked: Celery) -> None:
    parts = [chord([sums.add.s(n, 1), sums.add.s(n, 2)], sums.total.s()) for n in range(5)]
    assert group(parts).delay().get(timeout=WAIT_S) == [2 * n + 3 for n in range(5)]


def test_chord_of_chords(worked: Celery) -> None:
    parts = [chord([sums.add.s(n, 1), sums.add.s(n, 2)], sums.total.s()) for n in range(3)]
    assert chord(parts, sums.gather.s()).delay().get(timeout=WAIT_S) == [3, 5, 7]


def test_header_with_groups_keeps_its_structure(worked: Celery) -> None:
    header = [sums.give.s(1) | group(sums.add.s(n) for n in (1, 2)), sums.give.s(3)]
    assert chord(header, sums.gather.s()).delay().get(timeout=WAIT_S) == [[2, 3], 3]


def test_group_right_in_a_header_is_part_of_it(worked: Celery) -> None:
    """Celery takes it apart: its tasks are parts of the header like the others."""
    header = [group(sums.give.s(n) for n in (1, 2)), sums.give.s(3)]
    assert sorted(chord(header, sums.gather.s()).delay().get(timeout=WAIT_S)) == [1, 2, 3]


@pytest.mark.parametrize(
    ("body", "returned"),
    [
        (lambda: sums.total.s() | sums.add.s(100), 102),
        (lambda: chord([sums.total.s(), sums.total.s()], sums.total.s()), 4),
        (lambda: group([sums.total.s(), sums.gather.s()]), [2, [1, 1]]),
    ],
    ids=["chain", "chord", "group"],
)
def test_body_of_any_kind(worked: Celery, body: Callable[[], Any], returned: Any) -> None:
    assert chord([sums.give.s(1), sums.give.s(1)], body()).delay().get(timeout=WAIT_S) == returned


def test_chain_of_chords(worked: Celery) -> None:
    step = group(sums.add.s(n) for n in (1, 2, 3))
    result = chain(sums.give.s(10), step, sums.total.s(), step, sums.total.s()).delay()
    assert result.get(timeout=WAIT_S) == 36 * 3 + 6


def test_task_that_is_replaced_in_a_header(worked: Celery) -> None:
    result = chord([sums.replace_by_sum.s([1, 2]), sums.give.s(1)], sums.total.s()).delay()
    assert result.get(timeout=WAIT_S) == 7


def test_part_that_joins_while_the_header_runs(worked: Celery) -> None:
    result = chord([sums.bring_another.s(1), sums.give.s(2)], sums.gather.s()).delay()
    assert sorted(result.get(timeout=WAIT_S)) == [1, 2, 101]


def test_part_whose_result_is_ignored_counts(worked: Celery, module_database_url: str) -> None:
    quiet = sums.give.s(5).set(ignore_result=True)
    assert chord([quiet, sums.give.s(1)], sums.total.s()).delay().get(timeout=WAIT_S) == 6


def test_failed_part_fails_the_body_and_calls_its_errback(worked: Celery, tmp_path: Path) -> None:
    path = tmp_path / "errors"
    body = sums.total.s().on_error(sums.append_error.s(str(path)))
    header = [sums.give.s(1), sums.fail.s("broken"), sums.give.s(2)]
    result = chord(header, body).delay()
    with pytest.raises(ChordError) as caught:
        result.get(timeout=WAIT_S, follow_parents=False)
    failed = [part for part in result.parent.results if part.state == states.FAILURE]
    assert len(failed) == 1
    assert f"Dependency {failed[0].id} raised OwnError('broken')" in str(caught.value)
    eventually(lambda: path.exists() and path.read_text().count("\n") == 1)
    assert path.read_text().startswith("ChordError: Dependency")


def test_body_that_fails(worked: Celery) -> None:
    result = chord([sums.give.s(1)], sums.fail_on_total.s("in the body")).delay()
    with pytest.raises(sums.OwnError, match="in the body"):
        result.get(timeout=WAIT_S)


def test_chord_without_parts(worked: Celery) -> None:
    assert chord([], sums.gather.s()).delay().get(timeout=WAIT_S) == []


def test_header_with_a_countdown(worked: Celery) -> None:
    header = [sums.give.s(1).set(countdown=0.5), sums.give.s(2)]
    assert chord(header, sums.total.s()).delay().get(timeout=WAIT_S) == 3


def test_body_whose_result_is_ignored(worked: Celery, tmp_path: Path) -> None:
    path = tmp_path / "sizes"
    chord([sums.give.s(1)], sums.append_size.s(str(path)).set(ignore_result=True)).delay()
    eventually(lambda: path.exists() and path.read_text() == "1\n")


def test_task_that_is_replaced_as_a_body(worked: Celery) -> None:
    result = chord([sums.give.s(1), sums.give.s(2)], sums.replace_by_sum.s()).delay()
    assert result.get(timeout=WAIT_S) == 6


@pytest.mark.filterwarnings("ignore:task_allow_error_cb_on_chord_header")
def test_errback_of_the_whole_chord(worked: Celery, tmp_path: Path) -> None:
    path = tmp_path / "errors"
    failing = chord([sums.fail.s("broken"), sums.give.s(1)], sums.total.s())
    failing.link_error(sums.append_error.s(str(path)))
    with pytest.raises(ChordError):
        failing.delay().get(timeout=WAIT_S, follow_parents=False)
    eventually(lambda: path.exists() and "ChordError: Dependency" in path.read_text())


def test_large_results_fail_the_chord_instead_of_hanging(worked: Celery) -> None:
    """Together they are more than a message may hold."""
    header = [sums.give_large.s(6_000_000) for _ in range(3)]
    with pytest.raises(ChordError, match="max_message_bytes"):
        chord(header, sums.gather.s()).delay().get(timeout=WAIT_S, follow_parents=False)


def test_command_that_shows_a_result(worked: Celery, module_database_url: str) -> None:
    result = sums.add.delay(20, 22)
    result.get(timeout=WAIT_S)
    command = [sys.executable, "-m", "celery", "-A", "tests.results.sums", "result", result.id]
    env = {"SUMS_URL": module_database_url, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert run(command, env).splitlines() == ["42"]


def test_process_that_ends_while_it_waits(module_database_url: str, worked: Celery) -> None:
    """Neither hangs nor complains."""
    program = (
        "import threading, time; from tests.results.sums import app;"
        "results = [app.AsyncResult(str(n)) for n in range(3)];"
        "[threading.Thread(target=r.get, daemon=True).start() for r in results];"
        "app.backend.store_result('x', 1, 'SUCCESS'); print(app.AsyncResult('x').get(timeout=5))"
    )
    env = {"SUMS_URL": module_database_url, "PYTHONPATH": str(Path(__file__).parents[2])}
    assert run([sys.executable, "-c", program], env).splitlines() == ["1"]


def test_frozen_chord_that_is_applied_twice(worked: Celery, tmp_path: Path) -> None:
    path = tmp_path / "sizes"
    frozen = chord([sums.give.s(1), sums.give.s(2)], sums.append_size.s(str(path)))
    frozen.freeze()
    for times in (1, 2):
        frozen.delay()
        eventually(lambda times=times: path.exists() and path.read_text().count("\n") == times)  # type: ignore[misc]


def test_nothing_of_a_chord_is_left_but_its_mark(worked: Celery, module_database_url: str) -> None:
    result = chord([sums.give.s(1), sums.give.s(2)], sums.total.s()).delay()
    result.get(timeout=WAIT_S)
    group_id = result.parent.id
    query = f"SELECT count(*) FROM celery.chord_part WHERE group_id = '{group_id}'"
    assert rows(module_database_url, query) == [(0,)]
    query = f"SELECT dispatched_at IS NOT NULL FROM celery.chord WHERE group_id = '{group_id}'"
    assert rows(module_database_url, query) == [(True,)]


def test_redelivered_part_counts_once(worked: Celery, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    header = [sums.append_and_die_once.s(str(path)), *(sums.give.s(str(n)) for n in range(5))]
    result = chord(header, sums.gather.s()).delay()
    assert result.get(timeout=WAIT_S) == ["survived", *map(str, range(5))]
    assert path.read_text().count("ran") == 2
