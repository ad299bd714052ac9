"""A task of the user's own that does not succeed, and what the command line makes of wrong arguments."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from celery_postgres import dsn
from celery_postgres.options import Options
from celery_postgres.verify import OwnTask, Request
from celery_postgres.verify.checks import database, own_task
from celery_postgres.verify.outcome import Fault
from celery_postgres.verify.stage import Stage

from .run import APPS, ROOT, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def fault(empty_database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Fault]]:
    """Runs a task of the application `shop` as the check does; what it says of the failure."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(APPS), str(ROOT)]))
    stages: list[Stage] = []

    def run(name: str, *args: object, queue: str = "celery") -> Fault:
        task = OwnTask("shop", name, list(args), {}, queue)
        address = dsn.parse(empty_database_url)
        stages.append(Stage(Request(empty_database_url, address, Options(), own_task=task, timeout_s=20)))
        database.connection(stages[-1])
        stages[-1].ground.set_up()
        with pytest.raises(Fault) as caught:
            own_task.own_task(stages[-1])
        return caught.value

    yield run
    for stage in stages:
        stage.end_workers()
        stage.ground.remove()
        stage.close()


def test_task_that_fails(fault) -> None:
    """The error and the number of runs."""
    assert fault("shop.refuse").said == "shop.refuse failed after 1 run: ValueError: sold out"


def test_task_that_is_not_known(fault) -> None:
    """The names that are known, and where they come from."""
    found = fault("shop.ordr")
    assert found.said.endswith("knows no task shop.ordr, only shop.order, shop.receipt, shop.refuse")
    assert "`imports`, `include`" in found.remedy


@pytest.mark.parametrize(
    ("arguments", "app", "said"),
    [
        (["--task", "shop.order"], None, "whose task?"),
        (["--task", "shop.order", "--args", "pen"], "shop", "not JSON"),
        (["--task", "shop.order", "--args", '{"a": 1}'], "shop", "not a JSON list"),
        (["--task", "shop.order", "--kwargs", "[]"], "shop", "not a JSON object"),
        (["--url", "mysql://x"], None, "mysql"),
        ([], "shop", "the application's broker is redis: give --url"),
    ],
)
def test_wrong_arguments(arguments, app, said, empty_database_url) -> None:
    """Told before anything is done, without a traceback."""
    process = start(empty_database_url, *arguments, app=app)
    try:
        process.wait_for_line(said, 30)
        assert process.wait(30) != 0
        assert "Traceback" not in process.tail()
    finally:
        process.end()
