"""How fast each contender is, and what that costs: measured in rounds in which they take turns."""

from __future__ import annotations

from .budget import Budget
from .catalogue import Sheet
from .client import Client
from .plan import Plan
from .rehearsal import Estimate, Rehearsal
from .visit import visit
from .workload import workloads_of

__all__ = ["Budget", "Client", "Estimate", "Plan", "Rehearsal", "Sheet", "visit", "workloads_of"]
