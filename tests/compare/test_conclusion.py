"""Which contender is ahead, and what is said where nothing may be claimed."""

from __future__ import annotations

from typing import Literal

from celery_postgres.compare.report.conclusion import Conclusion, conclude, in_short, listed
from celery_postgres.compare.report.model import Contender, Measure, Report

NAMES = ("ours", "theirs", "another")


def concluded(
    rounds: dict[str, list[float]],
    better: Literal["more", "less", "neither"] = "more",
) -> Conclusion:
    measure = Measure("drain", "speed", "Drain", "tasks/s", better, rounds)
    return conclude(measure, report(measure))


def report(measure: Measure) -> Report:
    contenders = [Contender(name, "other", "", "") for name in NAMES]
    return Report([], "", {}, "", 5, "ours", contenders, [measure])


def verdicts(conclusion: Conclusion) -> list[str]:
    return [standing.verdict for standing in conclusion.standings]


def test_more_is_ahead_where_more_is_better() -> None:
    found = concluded({"ours": [1, 2, 3, 4, 5], "theirs": [2, 3, 4, 5, 6]})
    assert found.said == "theirs is ahead"
    assert verdicts(found) == ["", "ahead"]


def test_more_is_behind_where_less_is_better() -> None:
    found = concluded({"ours": [1, 2, 3, 4, 5], "theirs": [2, 3, 4, 5, 6]}, "less")
    assert found.said == "ours is ahead"
    assert verdicts(found) == ["", "behind"]


def test_nobody_is_ahead_where_neither_is_better() -> None:
    found = concluded({"ours": [1] * 5, "theirs": [2] * 5}, "neither")
    assert (found.said, found.leaders) == ("", ())
    assert verdicts(found) == ["", "higher"]


def test_rounds_that_straddle_are_no_difference() -> None:
    found = concluded({"ours": [1, 2, 3, 4, 5], "theirs": [2, 3, 4, 5, 4]})
    assert found.said == "no difference"
    assert verdicts(found) == ["", "no difference"]


def test_two_may_share_the_lead() -> None:
    found = concluded({"ours": [9, 10, 11, 9, 11], "theirs": [10, 9, 11, 10, 10], "another": [1] * 5})
    assert found.leaders == ("ours", "theirs")
    assert found.said == "no difference between ours and theirs"


def test_one_round_claims_nothing() -> None:
    found = concluded({"ours": [1], "theirs": [1000]})
    assert found.said == "too few rounds to tell"
    assert verdicts(found) == ["", "too few rounds"]
    assert found.standings[1].ratio is not None


def test_who_dropped_out_early_does_not_silence_the_others() -> None:
    found = concluded({"ours": [1, 2, 3, 4, 5], "theirs": [2, 3, 4, 5, 6], "another": [100]})
    assert found.said == "theirs is ahead"
    assert verdicts(found) == ["", "ahead", "too few rounds"]


def test_rounds_are_paired_from_the_first_one_on() -> None:
    found = concluded({"ours": [10, 20, 30, 40, 50], "theirs": [20, 40, 60]})
    ratio = found.standings[1].ratio
    assert ratio is not None
    assert (ratio.low, ratio.high, ratio.rounds) == (2, 2, 3)


def test_nothing_is_a_base_for_a_verdict_and_for_no_ratio() -> None:
    found = concluded({"ours": [0] * 5, "theirs": [1] * 5}, "less")
    assert found.standings[1].ratio is None
    assert found.standings[1].verdict == "behind"


def test_a_missing_baseline_leaves_the_others_comparable() -> None:
    found = concluded({"theirs": [2] * 5, "another": [1] * 5})
    assert [(one.ratio, one.verdict) for one in found.standings] == [(None, ""), (None, "")]
    assert found.said == "theirs is ahead"


def test_one_alone_is_ahead_of_nobody() -> None:
    assert concluded({"ours": [1] * 5}).said == ""
    assert in_short(report(Measure("drain", "speed", "Drain", "tasks/s", "more", {"ours": [1.0]}))) == {}


def test_names_are_listed_as_in_a_sentence() -> None:
    assert listed(["a"]) == "a"
    assert listed(["a", "b"]) == "a and b"
    assert listed(["a", "b", "c"]) == "a, b and c"
