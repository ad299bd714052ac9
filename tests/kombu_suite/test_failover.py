"""The one check of kombu's failover mixin that cannot be taken over as it stands."""

from __future__ import annotations

from urllib.parse import urlparse


def test_failover_switches_to_the_alternate(failover_connection):
    """Connecting past a dead first URL lands on the alternate, with its parts filled in."""
    connection = failover_connection
    dead, live = urlparse(connection.alt[0]), urlparse(connection.alt[-1])
    assert dead.port != live.port
    assert connection.connect()
    assert connection.connected
    assert connection.port == live.port
    assert connection.transport_cls == live.scheme
    connection.close()
