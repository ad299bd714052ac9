"""The lease protocol holds in every history of the model, and each of its parts is there for a reason."""

from __future__ import annotations

import pytest

from .model import Faults, Rules
from .search import explore

ONE_FAULT = Faults(together=1)
TWO_FAULTS = Faults(together=2)

NEEDED = {
    "grace": (TWO_FAULTS, "two live workers execute"),
    "restart": (ONE_FAULT, "two live workers execute"),
    "stall": (ONE_FAULT, "never executed and settled"),
    "incarnation": (ONE_FAULT, r"the ack of \(0, 0\) takes message 0 from \(1, 0\)"),
    "adopt": (ONE_FAULT, "begins message 0 again, which it has running"),
    "ack_again": (ONE_FAULT, "begins message 0 again, which it has acked"),
    "deliver_unknown": (ONE_FAULT, "never executed and settled"),
    "old_session_first": (ONE_FAULT, "never executed and settled"),
    "keep_claimed": (ONE_FAULT, "is lost"),
}


def test_protocol_bears_any_two_faults() -> None:
    """Nothing is lost, no ack takes another's message, no two live workers execute one, all get done."""
    found = explore(Rules(), TWO_FAULTS)
    assert found.violation is None, found.history
    assert found.states > 100_000, "the model has become too simple to show anything"


@pytest.mark.parametrize("rule", NEEDED)
def test_without(rule: str) -> None:
    """Take one rule away, and the search finds the history that it prevents."""
    faults, violation = NEEDED[rule]
    found = explore(Rules(**{rule: False}), faults)
    with pytest.raises(AssertionError, match=violation):
        assert found.violation is None, f"{found.violation}: {', '.join(found.history)}"


def test_every_rule_has_been_taken_away() -> None:
    assert set(NEEDED) == set(Rules.__dataclass_fields__)


@pytest.mark.long
@pytest.mark.parametrize(
    ("faults", "messages"),
    [(Faults(together=3, kills=1, stalls=1), 1), (ONE_FAULT, 2)],
    ids=["three faults", "two messages"],
)
def test_larger_model(faults: Faults, messages: int) -> None:
    found = explore(Rules(), faults, messages=messages)
    assert found.violation is None, found.history
