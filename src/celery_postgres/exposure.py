"""Says once when a password is at the mercy of the network.

libpq encrypts where the server offers it and verifies nothing unless told to (`sslmode=prefer`): whoever
stands in between can offer no encryption, or his own, and ask for the password in clear text.
"""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn

_log = logging.getLogger(__name__)

# The hosts that this process has told of.
_told: set[str] = set()


def warn_if_exposed(pgconn: PGconn) -> None:
    """Of a connection that is made: once for each process and host, where its password could be read."""
    host = pgconn.host.decode(errors="replace")
    if host in _told or not pgconn.used_password or _is_local(host, pgconn.hostaddr.decode()):
        return
    given = {option.keyword: (option.val or b"").decode() for option in pgconn.info}
    mode = given.get(b"sslmode", "")
    # With channel binding the server proves over this very connection that it knows the password.
    if (mode == "verify-full" and pgconn.ssl_in_use) or given.get(b"channel_binding") == "require":
        return
    _told.add(host)
    _log.warning(
        "the password of %s crosses the network to %s, and nobody verifies who takes it (sslmode=%s): add "
        "sslmode=verify-full and sslrootcert=system, or the file of your authority's certificate, to the URL",
        pgconn.user.decode(errors="replace"),
        host,
        mode,
    )


def _is_local(host: str, address: str) -> bool:
    """A socket, or an address that never leaves the machine."""
    if host.startswith(("/", "@")) or not address:
        return True
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return False
