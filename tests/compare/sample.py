"""A report as a comparison makes it: three brokers, five rounds, and a fourth that could not be reached.

The figures are about those of a machine with two cores; the random numbers are the same in every run.
"""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

from celery_postgres.compare.report.model import (
    Ability,
    Behaviour,
    Contender,
    Feature,
    Measure,
    Report,
    Situation,
)
from celery_postgres.compare.report.statistics import percentile

ROUNDS = 5
NAMES = ("PostgreSQL", "Redis", "RabbitMQ")

_COMMAND = [
    *("celery", "-A", "shop.celery:app", "postgres", "compare"),
    *("--with", "redis://localhost:6379/15"),
    *("--with", "amqp://guest:**@localhost:5672//"),
    *("--with", "amqp://orders:**@mq.internal:5672/orders"),
    *("--task", "shop.tasks.send_receipt", "--args", '[4711, "it\'s <b>paid</b>"]'),
    *("--html", "comparison.html"),
]

_WITHOUT_CONFIRMS = (
    "RabbitMQ publishes without confirms (confirm_publish is off), PostgreSQL waits for the disk with every "
    "task: a crash of RabbitMQ loses what PostgreSQL keeps. Set "
    'broker_transport_options = {"confirm_publish": True} to compare like with like.'
)

Better = Literal["more", "less", "neither"]


def sample() -> Report:
    """A report in which everything occurs that can be shown."""
    return Report(
        command=_COMMAND,
        began="2026-11-28T14:03:11+01:00",
        environment={
            "machine": "2 cores (AMD EPYC 7B13), 8 GB, Linux 6.1",
            "Python": "3.11.2",
            "Celery": "5.7.0",
            "kombu": "5.7.0",
            "celery-postgres": "0.1.0",
            "psycopg": "3.3.1",
            "redis-py": "6.4.0",
            "py-amqp": "5.3.1",
        },
        workload=(
            "No-op tasks, tasks of 10 ms and of 10 kB, and shop.tasks.send_receipt, "
            "by one prefork worker with 2 processes."
        ),
        planned_rounds=ROUNDS,
        baseline="PostgreSQL",
        contenders=_contenders(),
        measures=_measures(),
        situations=_situations(),
        features=_features(),
        warnings=[
            _WITHOUT_CONFIRMS,
            "Redis does not wait for the disk (appendfsync everysec): a crash loses up to a second of tasks.",
            "The machine was busy: load 1.4 on 2 cores before the first round.",
        ],
        took_s=512.4,
    )


def _contenders() -> list[Contender]:
    return [
        Contender(
            "PostgreSQL",
            "postgresql",
            "postgresql://shop:**@localhost:5432/shop",
            "postgresql://shop:**@localhost:5432/shop",
            "15.9",
            {"fsync": "on", "synchronous_commit": "on", "wal_level": "replica", "pooler": "none"},
        ),
        Contender(
            "Redis",
            "redis",
            "redis://localhost:6379/15",
            "redis://localhost:6379/15",
            "7.0.15",
            {"appendonly": "yes", "appendfsync": "everysec", "visibility_timeout": "3600 s"},
        ),
        Contender(
            "RabbitMQ",
            "amqp",
            "amqp://guest:**@localhost:5672//",
            "redis://localhost:6379/15",
            "3.10.8",
            {"queue": "classic, durable", "confirm_publish": "off", "consumer_timeout": "1800 s"},
        ),
        Contender(
            "RabbitMQ 2",
            "amqp",
            "amqp://orders:**@mq.internal:5672/orders",
            "redis://localhost:6379/15",
            failure="mq.internal:5672 does not answer (connection refused): start the broker there, or leave "
            "out this --with.",
        ),
    ]


def _measures() -> list[Measure]:
    chance = random.Random(6)
    latency = _latencies(chance, {"PostgreSQL": 3.1, "Redis": 3.2, "RabbitMQ": 2.4})
    round_trip = _latencies(chance, {"PostgreSQL": 4.6, "Redis": 4.9, "RabbitMQ": 5.2})
    speed: list[Measure] = [
        _rounds(chance, "publish.noop", "Publish, no-op tasks", "tasks/s", "more", (2240, 1850, 3110)),
        _rounds(chance, "drain.noop", "Drain, no-op tasks", "tasks/s", "more", (2080, 1012, 2170), 0.05),
        _rounds(chance, "drain.10ms", "Drain, tasks of 10 ms", "tasks/s", "more", (186, 171, 187), 0.015),
        _rounds(chance, "drain.10kb", "Drain, tasks of 10 kB", "tasks/s", "more", (1610, 890, 1580), 0.04),
        _rounds(chance, "chord.100", "Chord of 100, from call to result", "ms", "less", (98, 310, 285)),
        *_percentiles("latency", "Call to start, idle worker", latency),
        *_percentiles("round_trip", "Call to result, idle worker", round_trip),
    ]
    processor: list[Measure] = [
        _rounds(chance, "cpu.client", "Client, per 1,000 tasks", "CPU s", "less", (0.31, 0.42, 0.22)),
        _rounds(chance, "cpu.worker", "Worker, per 1,000 tasks", "CPU s", "less", (0.66, 1.31, 0.62), 0.06),
        _rounds(chance, "cpu.server", "Server, per 1,000 tasks", "CPU s", "less", (0.48, 0.05, 0.33)),
    ]
    footprint: list[Measure] = [
        Measure(
            "processes",
            "footprint",
            "Server programs to run beside the application's database",
            "programs",
            "less",
            {"PostgreSQL": [0.0] * ROUNDS, "Redis": [1.0] * ROUNDS, "RabbitMQ": [2.0] * ROUNDS},
            note="RabbitMQ cannot keep results: Redis does.",
        ),
        _rounds(chance, "memory", "Memory of the server", "bytes", "less", (61e6, 14e6, 148e6), 0.01),
        _rounds(chance, "wal", "Log written, per 1,000 tasks", "bytes", "less", (3.4e6, 2.1e6)),
        _rounds(chance, "connections", "Connections of a worker", "connections", "neither", (4, 9, 3), 0),
    ]
    return [
        *speed,
        *(replace(measure, group="processor time") for measure in processor),
        *(replace(measure, group="footprint") for measure in footprint),
    ]


def _rounds(
    chance: random.Random,
    key: str,
    title: str,
    unit: str,
    better: Better,
    around: tuple[float, ...],
    spread: float = 0.03,
) -> Measure:
    """Five rounds around these values; the machine's mood is common to a round."""
    moods = [chance.gauss(1, spread) for _ in range(ROUNDS)]
    rounds = {
        name: [round(value * mood * chance.gauss(1, spread / 2), 4) for mood in moods]
        for name, value in zip(NAMES, around, strict=False)
    }
    return Measure(key, "speed", title, unit, better, rounds)


def _latencies(chance: random.Random, around: dict[str, float]) -> dict[str, list[list[float]]]:
    """For each contender, and each round, 100 latencies in ms with a tail."""
    return {
        name: [
            [round(value * chance.lognormvariate(0, 0.16) + chance.expovariate(3), 3) for _ in range(100)]
            for _ in range(ROUNDS)
        ]
        for name, value in around.items()
    }


def _percentiles(key: str, title: str, latencies: dict[str, list[list[float]]]) -> list[Measure]:
    samples = {name: [one for values in rounds for one in values] for name, rounds in latencies.items()}
    return [
        Measure(
            f"{key}.p{percent}",
            "speed",
            f"{title}, p{percent}",
            "ms",
            "less",
            {name: [percentile(values, percent) for values in rounds] for name, rounds in latencies.items()},
            samples if percent == 50 else {},
        )
        for percent in (50, 95, 99)
    ]


def _timeline(chance: random.Random, gap_s: float, rate: float, until_s: float) -> list[tuple[float, int]]:
    """Tasks that end at a rate, but for a gap after the fault."""
    timeline, at, count = [], -2.0, 0
    while at < until_s:
        at += chance.uniform(0.6, 1.4) / rate
        if 0 <= at < gap_s:
            at = gap_s
        count += 1
        timeline.append((round(at, 3), count))
    return timeline


def _situations() -> list[Situation]:
    chance = random.Random(8)
    return [
        Situation(
            "kill.worker",
            "A worker is killed with kill -9",
            "One of two workers, each of which held 10 tasks with late acknowledgement, was killed; how long "
            "until its tasks ran elsewhere?",
            {
                "PostgreSQL": Behaviour(
                    "All 10 ran again, the first one 0.31 s after the kill.",
                    True,
                    0.31,
                    0,
                    2,
                    _timeline(chance, 0.31, 9, 20),
                ),
                "Redis": Behaviour(
                    "Not within 20 s: they wait for visibility_timeout, which is 3600 s.",
                    False,
                    None,
                    0,
                    0,
                    _timeline(chance, 0.0, 4.5, 20),
                ),
                "RabbitMQ": Behaviour(
                    "All 10 ran again, the first one 0.06 s after the kill.",
                    True,
                    0.06,
                    0,
                    2,
                    _timeline(chance, 0.06, 9.5, 20),
                ),
            },
        ),
        Situation(
            "restart.broker",
            "The broker restarts",
            "The broker was restarted while a worker drained a queue.",
            {
                "PostgreSQL": Behaviour(
                    "Went on 2.4 s after the stop.", True, 2.4, 0, 0, _timeline(chance, 2.4, 40, 12)
                ),
                "RabbitMQ": Behaviour(
                    "Went on 7.9 s after the stop.", True, 7.9, 0, 3, _timeline(chance, 7.9, 42, 12)
                ),
            },
        ),
        Situation(
            "eta",
            "A task is due in an hour",
            "100 tasks with an ETA an hour ahead were sent to an idle worker; where do they wait?",
            {
                "PostgreSQL": Behaviour("In the broker, as rows of celery.delayed.", True),
                "Redis": Behaviour("In the worker's memory, unacknowledged.", False),
                "RabbitMQ": Behaviour("In the worker's memory, unacknowledged.", False),
            },
        ),
        Situation(
            "shutdown.warm",
            "A worker is stopped in good order",
            "A worker that held 10 tasks got SIGTERM.",
            {
                "PostgreSQL": Behaviour("Ended the running task, gave back the other 9.", True, 1.2, 0, 0),
                "Redis": Behaviour("Ended the running task, gave back the other 9.", True, 1.3, 0, 0),
                "RabbitMQ": Behaviour("Ended the running task, gave back the other 9.", True, 1.2, 0, 0),
            },
        ),
    ]


def _features() -> list[Feature]:
    yes, no = Ability(True, "yes"), Ability(False, "no")

    def feature(key: str, title: str, *found: Ability) -> Feature:
        return Feature(key, title, dict(zip(NAMES, found, strict=False)))

    return [
        feature(
            "priorities",
            "Priorities are honoured",
            yes,
            Ability(False, "only with steps of their own queues"),
            Ability(False, "not without x-max-priority"),
        ),
        feature("remote", "Remote control", yes, yes, yes),
        feature("events", "Events", yes, yes, yes),
        feature("ttl", "Expired messages go", yes, no, yes),
        feature("delay", "Delayed in the broker", yes, no, no),
        feature("transaction", "Sent by the application's own commit", yes, no, no),
        feature("sql", "The queue can be looked at in SQL", yes, no, no),
        feature(
            "connections",
            "Connections per worker",
            Ability(None, "4"),
            Ability(None, "9"),
            Ability(None, "3"),
        ),
        feature("redrive", "Dead letters can be sent again", yes, no, Ability(None, "could not be told")),
    ]
