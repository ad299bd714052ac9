"""kombu's own integration tests, from the source distribution of the installed kombu."""

from __future__ import annotations

import pytest

from tests.fixtures.broker import OTHER_URL, kind_of
from tests.fixtures.sources import SourceUnavailableError

from .sources import integration_mixins

MIXINS = (
    "BasicFunctionality",
    "BaseExchangeTypes",
    "BaseTimeToLive",
    "BasePriority",
    "BaseMessage",
    "BaseEventLoop",
    "BaseFailover",
)

#: (mixin, test): why this check cannot hold. Empty means that all of them are passed.
EXCEPTIONS: dict[tuple[str, str], str] = {
    ("BaseFailover", "test_failover_switches_to_alternate_url"): (
        "asserts Connection.port before connecting, which kombu leaves empty for every transport that "
        "parses its own URL; test_failover.py checks the rest"
    ),
}

#: mixin: what other brokers lack.
DIFFERENCES = {
    "BaseTimeToLive": {"redis": "messages do not expire"},
    "BasePriority": {"redis": "drain_events delivers one message at a time, the check expects all"},
}

PRIORITY_ORDER = "desc" if kind_of(OTHER_URL) == "redis" else "asc"

try:
    mixins = integration_mixins()
except SourceUnavailableError as error:
    reason = str(error)

    @pytest.mark.parametrize("mixin", MIXINS)
    def test_mixin_was_not_run(mixin: str) -> None:
        """kombu's sources could not be fetched, so this mixin has not been run."""
        pytest.skip(reason)

else:
    for name in MIXINS:
        mixin = getattr(mixins, name)
        suite = type(f"Test{name}", (mixin,), {"PRIORITY_ORDER": PRIORITY_ORDER})
        for (owner, test), why in EXCEPTIONS.items():
            if owner == name:
                setattr(suite, test, pytest.mark.skip(reason=why)(getattr(mixin, test)))
        globals()[suite.__name__] = pytest.mark.differs(**DIFFERENCES.get(name, {}))(suite)
