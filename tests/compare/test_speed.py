"""Speed, processor time and footprint of real brokers, in rounds; and the arithmetic behind them."""

from __future__ import annotations

from itertools import islice
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from celery_postgres.compare import Broker, Call, Comparison, Request, progress
from celery_postgres.compare.progress import Agenda, Item, Step
from celery_postgres.compare.report import json_file, page, text
from celery_postgres.compare.report.statistics import percentile
from celery_postgres.compare.speed.budget import Budget
from celery_postgres.compare.speed.bystanders import MachineLook, share
from celery_postgres.compare.speed.catalogue import Finding, Sheet
from celery_postgres.compare.speed.plan import Plan
from celery_postgres.compare.speed.rehearsal import Estimate
from celery_postgres.compare.speed.workload import in_turns, workloads_of
from tests.fixtures.redis_server import COMPARE, found_redis_url

from .servers import RABBITMQ, answers, rabbitmq_names

if TYPE_CHECKING:
    from pathlib import Path

URL = "postgresql://localhost/x"

#: Of which every contender has a value; RabbitMQ has no chords, and says nothing of its disk.
EVERYWHERE = {
    *("publish.noop", "publish.large", "drain.noop", "drain.large", "drain.pause"),
    *("latency.p50", "latency.p95", "latency.p99", "roundtrip.p50", "roundtrip.p95", "roundtrip.p99"),
    *("cpu.client", "cpu.worker", "worker.processes", "worker.memory"),
}


def others_of(database_url: str) -> tuple[Broker, ...]:
    """Redis and RabbitMQ where they are, else kombu's transport over the same server."""
    redis, rabbitmq = found_redis_url(COMPARE), RABBITMQ if answers(5672) else None
    there = [Broker(url) for url in (redis, rabbitmq) if url is not None]
    return tuple(there) or (
        Broker("sqla+" + database_url.replace("postgresql://", "postgresql+psycopg://", 1)),
    )


def test_all_measures(database_url: str, tmp_path: Path) -> None:
    """A round of everything, in all three forms; nothing stays in any of the brokers."""
    others = others_of(database_url)
    asked = Request(Broker(database_url), others, rounds=1, visit_s=1.0, only="speed")
    comparison = Comparison(asked, ["celery-postgres", "compare"], print)
    comparison.run()
    report = comparison.report
    names = [one.name for one in report.contenders]
    assert not any(one.failure for one in report.contenders), report.contenders
    measures = {one.key: one for one in report.measures}
    for key in EVERYWHERE:
        assert {name: len(values) for name, values in measures[key].rounds.items()} == dict.fromkeys(
            names, 1
        ), key
        assert all(value > 0 for values in measures[key].rounds.values() for value in values), key
    for key in ("server.log", "cpu.server", "cpu.all", "chord", "server.memory", "worker.connections"):
        assert len(measures[key].rounds["PostgreSQL"]) == 1, key
    if "RabbitMQ" in names:
        assert "RabbitMQ: rpc:// has no chords." in measures["chord"].note
    for percent in (50, 95, 99):
        samples = measures[f"latency.p{percent}"].samples["PostgreSQL"]
        assert min(samples) <= percentile(samples, percent) <= max(samples)
    assert any("Only 1 round:" in warning for warning in report.warnings)
    assert [warning for warning in report.warnings if "not everything was removed" in warning] == []
    # Others are at work on that server.
    ours = {name for arena in comparison.arenas for name in (arena.queue, *arena.place.reply_queues)}
    left = rabbitmq_names() if answers(5672) else set()
    assert [name for name in left if any(one in name for one in ours)] == []
    json_file.write(report, tmp_path / "report.json")
    assert json_file.read(tmp_path / "report.json") == report
    page.write(report, tmp_path / "report.html")
    for form in (text.render(report), (tmp_path / "report.html").read_text()):
        assert "Draining no-op tasks" in form


def test_a_contender_that_drops_out(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They take turns; what it did until then stays, and the others go on."""
    monkeypatch.chdir(tmp_path)
    other = Broker(f"sqla+sqlite:///{tmp_path}/celery.db", backend="none")
    asked = Request(Broker(database_url), (other,), rounds=2, visit_s=1.0, timeout_s=20.0, only="speed")
    comparison: Comparison

    turns: list[tuple[str, str]] = []

    def break_it(step: Step) -> None:
        if step.item.kind == "visit" and not step.doing:
            turns.append((step.item.stage, step.item.contender))
        if step.item.stage == "round 2 of 2" and step.item.contender == "SQLAlchemy" and not step.doing:
            for file in tmp_path.glob("celery.db.*"):
                file.write_bytes(b"no database any more" * 100)

    comparison = Comparison(asked, ["compare"], print, break_it)
    comparison.run()
    names = ("PostgreSQL", "SQLAlchemy")
    assert turns == [(f"round {number} of 2", name) for number in (1, 2) for name in names]
    drains = next(one for one in comparison.report.measures if one.key == "drain.noop")
    assert {name: len(values) for name, values in drains.rounds.items()} == {"PostgreSQL": 2, "SQLAlchemy": 1}
    postgresql, sqlite = comparison.report.contenders
    assert postgresql.failure is None
    assert sqlite.failure
    assert "look at the broker's log" in sqlite.failure
    trips = next(one for one in comparison.report.measures if one.key == "roundtrip.p50")
    assert "SQLAlchemy: keeps no results." in trips.note


def test_in_turns() -> None:
    """A mix keeps its proportions in every part of it."""
    chosen = list(islice(in_turns([3, 1]), 12))
    assert [chosen[begin : begin + 4].count(0) for begin in (0, 4, 8)] == [3, 3, 3]
    assert list(islice(in_turns([1]), 3)) == [0, 0, 0]


def plan(request: Request, publish_s: float, drain_s: float, duration_s: float = 0.0) -> Plan:
    workloads = workloads_of(request)
    drains = dict.fromkeys((one.key for one in workloads.sent), drain_s)
    return Plan.of(request, workloads, Estimate(publish_s, drains, duration_s), visit_s=17.0)


def test_a_slow_contender_gets_fewer_tasks() -> None:
    asked = Request(Broker(URL))
    fast, slow = plan(asked, 0.0005, 0.0005), plan(asked, 0.005, 0.005)
    assert fast.counts["noop"] > 1000
    assert fast.counts["noop"] == pytest.approx(10 * slow.counts["noop"], rel=0.02)
    assert all(count >= 2 * asked.concurrency + 2 for count in plan(asked, 9.0, 9.0).counts.values())


def test_a_long_task_is_sent_to_an_idle_worker() -> None:
    """And not by the hundred."""
    own = Request(Broker(URL), application="shop", calls=(Call("slow"),))
    made = plan(own, 0.001, 1.0, duration_s=2.0)
    assert made.interval_ms == 3000
    assert made.samples == 3
    assert made.chords_s == 0
    assert made.counts == {"own": 7}


def test_budget() -> None:
    """What is late already has shorter rounds, and then fewer."""
    quick = Request(Broker(URL), quick=True, rounds=3)
    budget = Budget.of(quick, contenders=3, now=100.0)
    assert budget.visit_s(quick, 3, now=101.0) == budget.usual_visit_s
    until = budget.until
    assert until is not None
    assert until < 100 + 90
    assert budget.visit_s(quick, 3, now=until - 36) == 4.0
    assert budget.visit_s(quick, 3, now=until) < 4.0
    assert budget.allows(10.0, now=until - 11)
    assert not budget.allows(10.0, now=until - 9)
    firm = Budget.of(Request(Broker(URL), quick=True, all_rounds=True), contenders=3, now=100.0)
    assert firm.allows(10.0, now=1000.0)


def test_a_missing_value_ends_a_series() -> None:
    """Or values of different rounds would be compared."""
    sheet = Sheet(workloads_of(Request(Broker(URL))))
    for values in ({"server.log": 1.0}, {}, {"server.log": 3.0}):
        sheet.add("Redis", Finding({"drain.noop": 5.0, **values}))
    found = {one.key: one.rounds["Redis"] for one in sheet.measures()}
    assert found == {"drain.noop": [5.0, 5.0, 5.0], "server.log": [1.0]}


def test_share_of_others() -> None:
    before = MachineLook(at_s=10.0, busy_s=100.0, observer_s=1.0, processors=2)
    after = MachineLook(at_s=12.0, busy_s=103.0, observer_s=1.5, processors=2)
    assert share(before, after, own_s=0.5) == 0.5
    assert share(before, after, own_s=9.0) == 0.0
    assert share(None, after, own_s=0.0) is None


def test_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """An estimate becomes better with each turn of the same contender."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    told: list[Step] = []
    agenda = Agenda(told.append)
    items = [Item(f"round {n}", "visit", name, 0.2) for n in (1, 2) for name in ("A", "B")]
    agenda.expect(items)
    assert agenda.left_s() == pytest.approx(0.8)
    agenda.begin(items[0])
    clock.now += 0.4
    agenda.done()
    # As long as that will the second one of A take, and as much longer than it seemed both of B.
    assert agenda.left_s() == pytest.approx(1.2)
    agenda.leave_out_contender("B")
    assert agenda.left_s() == pytest.approx(0.4)
