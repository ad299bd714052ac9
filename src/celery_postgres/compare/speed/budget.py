"""How long a comparison may take, and what of that is left for the rounds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from celery_postgres.compare.request import Request

# For three contenders that is under ten minutes with what comes before and after; quick, under 90 seconds.
_CONTENDER_S = 185.0
_QUICK_CONTENDER_S = 26.0

_VISIT_S = 17.0
_QUICK_VISIT_S = 4.6
# In less than that, nothing but the start of a worker would happen.
_SHORTEST_VISIT_S = 3.4


@dataclass(frozen=True)
class Budget:
    """All times are of the monotonic clock."""

    until: float | None
    """When all should be over; None for as long as it takes."""
    usual_visit_s: float
    """The seconds that one contender should have in one round."""

    @classmethod
    def of(cls, request: Request, contenders: int, now: float) -> Budget:
        """For all of a comparison that begins now."""
        usual_s = request.visit_s or (_QUICK_VISIT_S if request.quick else _VISIT_S)
        if request.all_rounds or request.visit_s:
            return cls(None, usual_s)
        return cls(now + contenders * (_QUICK_CONTENDER_S if request.quick else _CONTENDER_S), usual_s)

    def visit_s(self, request: Request, contenders: int, now: float) -> float:
        """The seconds that one contender gets in one round, of what is left."""
        if self.until is None or not contenders:
            return self.usual_visit_s
        left_s = (self.until - now) / (request.rounds * contenders)
        return min(self.usual_visit_s, max(_SHORTEST_VISIT_S, left_s))

    def allows(self, round_s: float, now: float) -> bool:
        """Whether there is time for another round that takes so long."""
        return self.until is None or now + round_s <= self.until
