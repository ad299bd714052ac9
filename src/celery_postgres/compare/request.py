"""What is to be compared: the brokers, the workers, the tasks, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

#: In the place of a result backend's URL: no results are kept.
NO_RESULTS = "none"


@dataclass(frozen=True)
class Broker:
    """A broker with its result backend, as the user named it."""

    url: str
    backend: str | None = None
    """None is what usually goes with the broker, see `Place.usual_results`; `none` keeps no results."""
    name: str | None = None
    """None takes the name of its kind."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Celery's broker_transport_options for it."""
    result_options: Mapping[str, Any] = field(default_factory=dict)
    """Celery's result_backend_transport_options for it."""
    celery: Mapping[str, Any] = field(default_factory=dict)
    """Settings of Celery that belong to this broker, such as broker_use_ssl and broker_login_method."""
    restart: str | None = None
    """The shell command that restarts its server; None where the user does not allow that."""


@dataclass(frozen=True)
class Call:
    """A task of the application with its arguments. `weight` is its share in a mix."""

    task: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    """What its application gives the message: serializer, priority, …; never where it goes."""


@dataclass(frozen=True)
class Request:
    """One comparison."""

    baseline: Broker
    """The database that takes the part of celery-postgres."""
    others: tuple[Broker, ...] = ()
    application: str | None = None
    """The user's application as `celery -A` names it. None for the probe."""
    application_settings: Mapping[str, Any] = field(default_factory=dict)
    """Those of the application's settings that make its messages what they are, for who publishes here."""
    calls: tuple[Call, ...] = ()
    """The application's tasks to measure with; empty for those of the probe."""
    pool: str = "prefork"
    concurrency: int = 2
    rounds: int = 3
    all_rounds: bool = False
    """Whether that many are made however slow the machine is; else some may be left out."""
    visit_s: float | None = None
    """The seconds that one contender has in one round; None for what fits a whole comparison."""
    quick: bool = False
    only: Literal["speed", "behaviour"] | None = None
    """One part of the comparison; None is all of it."""
    timeout_s: float = 30.0
    """The longest wait for one thing that should happen."""
    prepared_schema: str | None = None
    """A schema that somebody made for the comparison, where the role may not make one."""

    def __post_init__(self) -> None:
        if self.calls and self.application is None:
            raise ValueError("tasks of an application without the application")

    @property
    def brokers(self) -> tuple[Broker, ...]:
        """All of them, the baseline first."""
        return (self.baseline, *self.others)
