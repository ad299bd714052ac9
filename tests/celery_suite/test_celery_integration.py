"""Celery's own integration tests, with this package as the broker and the result backend.

They come from the source distribution of the installed Celery and are run by pytests of their own, in a few
processes side by side, since most of their time is waiting. Each of them is reported as one test here.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.database import new_database
from tests.fixtures.sources import SourceUnavailableError

from .expected import CHOSEN, EXCEPTIONS
from .runs import Outcome, collect, name_of, run
from .sources import unpack

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.long

#: Each with a database, a Redis and a worker of its own.
PROCESSES = 5

TIMEOUT_S = 1200

DIRECTORY = pytest.StashKey[Path]()
COLLECTED = pytest.StashKey["list[str]"]()


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of ours for each of theirs; for each file if they could not be fetched."""
    if "theirs" not in metafunc.fixturenames:
        return
    if not metafunc.config.getoption("--long"):
        metafunc.parametrize("theirs", [])
        return
    scratch = tempfile.TemporaryDirectory(prefix="celery-tests-")
    metafunc.config.add_cleanup(scratch.cleanup)
    metafunc.config.stash[DIRECTORY] = Path(scratch.name)
    try:
        unpack(Path(scratch.name))
    except SourceUnavailableError as error:
        not_run = pytest.mark.skip(reason=f"not run: {error}")
        metafunc.parametrize("theirs", [pytest.param(name, marks=not_run) for name in CHOSEN])
        return
    metafunc.config.stash[COLLECTED] = collect(Path(scratch.name), CHOSEN)
    tests = metafunc.config.stash[COLLECTED]
    metafunc.parametrize("theirs", tests, ids=tests)


@pytest.fixture(scope="module")
def outcomes(
    request: pytest.FixtureRequest, server: str, new_redis: Callable[[], dict[str, str]]
) -> dict[str, Outcome]:
    """What became of those of Celery's tests that are chosen."""
    directory = request.config.stash[DIRECTORY]
    calls = [getattr(item, "callspec", None) for item in request.session.items if item.path == request.path]
    chosen = [call.params["theirs"] for call in calls if call is not None]

    def run_some(tests: list[str]) -> dict[str, Outcome]:
        with new_database(server) as url:
            return run(directory, tests, {**redis.pop(), "TEST_BROKER": url, "TEST_BACKEND": url}, TIMEOUT_S)

    parts = [part for part in (chosen[first::PROCESSES] for first in range(PROCESSES)) if part]
    redis = [new_redis() for _ in parts]
    with ThreadPoolExecutor(PROCESSES) as pool:
        found = list(pool.map(run_some, parts))
    return {test: outcome for part in found for test, outcome in part.items()}


def test_celery(theirs: str, outcomes: dict[str, Outcome]) -> None:
    """Celery's test passes, or what becomes of it is a named exception."""
    outcome = outcomes.get(theirs, Outcome("not reported"))
    expected, why = EXCEPTIONS.get(name_of(theirs), ("passed", ""))
    assert outcome.state in expected.split(" or "), outcome.reason
    if outcome.state != "passed":
        pytest.skip(f"{outcome.state}, as expected: {why}")


def test_exceptions_name_tests_that_exist(request: pytest.FixtureRequest) -> None:
    """Nothing stays in the list that Celery has dropped or renamed."""
    collected = request.config.stash.get(COLLECTED, None)
    if collected is None:
        pytest.skip("not run: Celery's sources could not be fetched")
    assert set(EXCEPTIONS) <= {name_of(test) for test in collected}
