"""The report in the terminal."""

from __future__ import annotations

import shlex
from dataclasses import replace

import pytest

from celery_postgres.compare.report import text
from celery_postgres.compare.report.model import Contender, Report

from .hostile import hostile
from .sample import sample


def shortened(report: Report, rounds: int) -> Report:
    """What an interruption after so many rounds leaves."""
    report.measures = [
        replace(one, rounds={name: values[:rounds] for name, values in one.rounds.items()})
        for one in report.measures
    ]
    report.interrupted = True
    return report


def paragraph(report: Report, beginning: str) -> str:
    """The paragraph that begins so, as one line with single spaces."""
    found = [part for part in text.render(report).split("\n\n") if part.startswith(beginning)]
    assert len(found) == 1, beginning
    return " ".join(found[0].split())


@pytest.mark.parametrize("width", [60, 80, 100])
@pytest.mark.parametrize("spoil", [False, True])
def test_no_line_is_too_long(width: int, spoil: bool) -> None:
    """But for a single argument of the command, which is there to be copied."""
    report = hostile(sample()) if spoil else sample()
    report.command = ["celery", "-A", "shop"]
    assert [line for line in text.render(report, width).splitlines() if len(line) > width] == []


def test_figures_of_a_measure_stand_below_its_conclusion() -> None:
    drain = next(part for part in text.render(sample()).split("\n\n") if part.startswith("Drain, no-op"))
    assert drain.splitlines() == [
        "Drain, no-op tasks (tasks/s, more is better): RabbitMQ is ahead",
        "  PostgreSQL  2,064  [2,004-2,122]",
        "  Redis       1,034  [951-1,103]    0.501x [0.475-0.520]  behind",
        "  RabbitMQ    2,227  [2,074-2,341]  1.08x [1.02-1.13]     ahead",
    ]


def test_no_difference_is_said() -> None:
    said = paragraph(sample(), "Drain, tasks of 10 ms")
    assert "no difference between PostgreSQL and RabbitMQ" in said
    assert "RabbitMQ 186 [185-190] 1.00x [0.994-1.02] no difference" in said


def test_behaviour_is_told_in_sentences() -> None:
    said = paragraph(sample(), "BEHAVIOUR")
    assert (
        "+ PostgreSQL All 10 ran again, the first one 0.31 s after the kill. (0 lost, 2 duplicated)" in said
    )
    assert "- Redis Not within 20 s: they wait for visibility_timeout, which is 3600 s." in said


def test_abilities_are_one_table() -> None:
    lines = text.render(sample()).split("ABILITIES\n")[1].split("\n\n")[0].splitlines()
    assert lines[0].split() == ["PostgreSQL", "Redis", "RabbitMQ"]
    assert next(line for line in lines if line.startswith("Expired")).split()[-6:] == [
        *("+", "yes", "-", "no", "+", "yes"),
    ]


def test_contenders_are_named_with_versions_settings_and_failures() -> None:
    said = paragraph(sample(), "CONTENDERS")
    assert "RabbitMQ 3.10.8: amqp://guest:**@localhost:5672//, results in redis://localhost:6379/15" in said
    assert "appendfsync: everysec" in said
    assert "RabbitMQ 2: amqp://orders:**@mq.internal:5672/orders" in said
    assert "Takes no part: mq.internal:5672 does not answer (connection refused): start the broker" in said


def test_command_can_be_copied() -> None:
    said = text.render(sample(), 60).split("To repeat it:\n")[1].split("\n\n")[0]
    assert shlex.split(said.replace("\\\n", "")) == sample().command


def test_warnings_come_last_where_the_eye_is() -> None:
    assert text.render(sample()).rstrip().endswith("load 1.4 on 2 cores before the first round.")


def test_interrupted_report_says_so_and_counts_its_rounds() -> None:
    report = shortened(sample(), 2)
    assert "INTERRUPTED" in text.render(report)
    assert "Medians of 2 of 5 planned rounds" in paragraph(report, "SPEED")
    assert "further apart than either varies" in paragraph(report, "SPEED")
    assert "(2 of 5 rounds)" in paragraph(report, "Drain, no-op")


def test_one_round_claims_nothing() -> None:
    report = shortened(sample(), 1)
    assert "none is claimed" in paragraph(report, "SPEED")
    assert "is ahead" not in text.render(report)


def test_contender_that_failed_midway_keeps_what_was_found() -> None:
    report = sample()
    report.contenders[1] = replace(report.contenders[1], failure="Redis went away: start it again.")
    assert "Took part up to its failure: Redis went away: start it again." in text.render(report)
    assert "PostgreSQL, Redis and RabbitMQ compared" in text.render(report)


def test_report_of_nothing_is_still_one() -> None:
    report = Report(["celery-postgres", "compare"], "", {}, "", 5, "PostgreSQL", interrupted=True)
    assert "A comparison without contenders" in text.render(report)
    report.contenders.append(Contender("PostgreSQL", "postgresql", "", "", failure="Not there: start it."))
    assert "Takes no part: Not there: start it." in text.render(report)


def test_nothing_moves_the_cursor() -> None:
    shown = text.render(hostile(sample()))
    assert all(one.isprintable() or one == "\n" for one in shown)
    assert r"\x1b[2J" in shown
