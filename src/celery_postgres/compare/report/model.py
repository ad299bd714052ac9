"""What a comparison found. The JSON file is this, field for field; text and page are made from it alone.

Contenders are named by their `name` everywhere. A contender that is missing from a mapping was not measured.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Kind = Literal["postgresql", "redis", "amqp", "sqla", "pgmq", "other"]

#: Raised when a field changes its meaning or goes; a field more is none.
FORMAT = 1


@dataclass(frozen=True)
class Contender:
    """A broker with its result backend, as it was found."""

    name: str
    """For people, unique in the report: PostgreSQL, Redis, RabbitMQ; with a number if it is the second."""
    kind: Kind
    broker: str
    """The URL, with the password masked."""
    backend: str
    version: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    """What decides on durability and redelivery: fsync, synchronous_commit, appendonly, confirm_publish, …"""
    failure: str | None = None
    """Why it takes no part (any more); ends with the remedy."""


@dataclass(frozen=True)
class Measure:
    """A quantity, measured once in each round."""

    key: str
    """`drain.noop`, `latency.p50`, …: stable, for programs."""
    group: str
    """The heading that it stands under: speed, processor time, footprint."""
    title: str
    unit: str
    """tasks/s, ms, bytes, …"""
    better: Literal["more", "less", "neither"]
    rounds: dict[str, list[float]]
    """By contender: one value for each round that was completed."""
    samples: dict[str, list[float]] = field(default_factory=dict)
    """By contender: all single values of all rounds, where there are such; for distributions."""
    note: str = ""


@dataclass(frozen=True)
class Behaviour:
    """What one contender did in one situation."""

    said: str
    """One sentence: ran again 0.3 s after the kill; not within 20 s (visibility_timeout is 3600 s)."""
    good: bool | None
    """None where it is a matter of taste."""
    seconds: float | None = None
    lost: int | None = None
    duplicated: int | None = None
    timeline: list[tuple[float, int]] = field(default_factory=list)
    """Tasks ended by then: seconds since the fault (negative before it), and how many in all."""


@dataclass(frozen=True)
class Situation:
    """A situation that all contenders were brought into."""

    key: str
    title: str
    what: str
    """What was done to them, in a sentence."""
    found: dict[str, Behaviour]


@dataclass(frozen=True)
class Ability:
    """Whether one contender can do something, as it was seen."""

    has: bool | None
    """None where it could not be told, or where the answer is a number."""
    said: str


@dataclass(frozen=True)
class Feature:
    """An ability that all contenders were tried for."""

    key: str
    title: str
    found: dict[str, Ability]


@dataclass
class Report:
    """Everything. Grows while the comparison runs, so that what an interrupted one found can be shown."""

    command: list[str]
    """As it can be repeated; passwords masked."""
    began: str
    """ISO 8601 with the zone."""
    environment: dict[str, str]
    """The machine and the versions of Python, Celery, kombu, celery-postgres, …"""
    workload: str
    """What the tasks were, the pool, the concurrency, in a sentence."""
    planned_rounds: int
    baseline: str
    """The contender whose figures the others' are compared with: the one on celery-postgres."""
    contenders: list[Contender] = field(default_factory=list)
    measures: list[Measure] = field(default_factory=list)
    situations: list[Situation] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """Where the comparison is unfair, or the machine was not fit."""
    took_s: float = 0.0
    interrupted: bool = False
    format: int = FORMAT

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, given: dict[str, Any]) -> Report:
        """What `as_dict` gave. ValueError for a format that is not known."""
        if given.get("format") != FORMAT:
            raise ValueError(f"a report of the format {given.get('format')!r}: this release reads {FORMAT}")
        plain = dict(given)
        plain["contenders"] = [Contender(**contender) for contender in given["contenders"]]
        plain["measures"] = [Measure(**measure) for measure in given["measures"]]
        plain["situations"] = [
            Situation(**{**situation, "found": {k: _behaviour(v) for k, v in situation["found"].items()}})
            for situation in given["situations"]
        ]
        plain["features"] = [
            Feature(**{**feature, "found": {k: Ability(**v) for k, v in feature["found"].items()}})
            for feature in given["features"]
        ]
        return cls(**plain)


def _behaviour(given: dict[str, Any]) -> Behaviour:
    return Behaviour(**{**given, "timeline": [(at, count) for at, count in given["timeline"]]})
