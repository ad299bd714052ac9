"""Who takes part: each broker with its result backend, under a name for people and one on the servers."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from . import urls
from .failure import Failure
from .places import place_of, results_place_of, title_of
from .report.model import Contender
from .request import NO_RESULTS
from .settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .places import Place
    from .request import Broker, Request

#: What everything of a comparison begins with, on every server.
PREFIX = "celery_compare_"


@dataclass(frozen=True)
class Candidate:
    """A contender before anything was opened."""

    name: str
    """For people."""
    broker: Broker
    place: Place
    results: Place | None
    """The same object as `place` where one server has both. None keeps no results."""

    def __post_init__(self) -> None:
        self.settings()  # all that can be wrong about it is said early

    def settings(self) -> dict[str, Any]:
        """Celery's settings for it."""
        results = self.results.results(dict(self.broker.result_options)) if self.results else {}
        own = self.place.broker(dict(self.broker.options))
        return settings(self.place.name, own, results, dict(self.broker.celery))

    @property
    def places(self) -> list[Place]:
        """The one, or the two of them."""
        if self.results is None or self.results is self.place:
            return [self.place]
        return [self.place, self.results]

    def found(self) -> Contender:
        """As the report shows it. Asks the servers, so they have to be reached."""
        said = self.place.settings()
        shown = {key: urls.masked_value(key, value) for key, value in self.broker.options.items()}
        said.update((key, str(value)) for key, value in shown.items() if key != "schema")
        if self.results is not None and self.results is not self.place:
            said.update((f"results: {key}", value) for key, value in self.results.settings().items())
        return Contender(
            self.name,
            self.place.kind,
            urls.masked(self.broker.url),
            urls.masked(self._results_url()),
            self.place.version(),
            said,
        )

    def failed(self, said: str) -> Contender:
        """As the report shows it when it takes no part."""
        broker, results = urls.masked(self.broker.url), urls.masked(self._results_url())
        return Contender(self.name, self.place.kind, broker, results, failure=said)

    def _results_url(self) -> str:
        return self.broker.backend or self.place.usual_results


def names_of(brokers: Sequence[Broker]) -> list[str]:
    """The names for people, in the same order: the user's, or that of the kind; the second gets a number."""
    taken: list[str] = []
    for broker in brokers:
        wanted = broker.name or title_of(broker.url)
        free = (name for number in count(1) if (name := wanted if number == 1 else f"{wanted} {number}"))
        taken.append(next(name for name in free if name not in taken))
    return taken


def candidates(request: Request) -> Iterator[Candidate | Contender]:
    """All that were asked for, the baseline first; a Contender that failed for a URL that nobody can use."""
    for number, (name, broker) in enumerate(zip(names_of(request.brokers), request.brokers, strict=True)):
        token = secrets.token_hex(4)
        schema = request.prepared_schema if number == 0 else None
        try:
            place = place_of(broker.url, f"{PREFIX}{token}", schema, celery=broker.celery)
            results = _results(broker, place, f"{PREFIX}results_{token}")
        except Failure as failure:
            shown = urls.masked(broker.url), urls.masked(broker.backend or "")
            yield Contender(name, "other", *shown, failure=str(failure))
        else:
            yield Candidate(name, broker, place, results)


def _results(broker: Broker, place: Place, name: str) -> Place | None:
    if broker.backend == NO_RESULTS:
        return None
    url = broker.backend or place.usual_results
    results = results_place_of(url, name, celery=broker.celery)
    return place if url == place.usual_results and type(results) is type(place) else results
