"""Makes `postgresql://` known to kombu, and does nothing else.

kombu has no entry point for transports. It loads those of the group `kombu.serializers` whenever
Celery is imported, so this module stands there. An exception here would break `import celery` for the
whole environment: it imports nothing but kombu's own table and never raises.
"""

from __future__ import annotations

TRANSPORT = "celery_postgres.transport:Transport"

#: kombu takes the text before a `+` for the transport's name, and after a failover the whole scheme.
SCHEMES = (
    "postgresql",
    "postgres",
    "postgresql+psycopg",
    "postgresql+psycopg2",
    "postgresql+asyncpg",
    "postgresql+pg8000",
)

try:
    from kombu.transport import TRANSPORT_ALIASES
except Exception:  # noqa: BLE001  a broken kombu must be reported by whoever really needs it
    TRANSPORT_ALIASES = {}

for _scheme in SCHEMES:
    # A transport of that name inside kombu itself would win.
    TRANSPORT_ALIASES.setdefault(_scheme, TRANSPORT)


def _refuse(_: object) -> object:
    raise TypeError("celery-postgres is a transport, not a serializer: choose json")


#: What the group demands; nobody accepts this content type.
serializer = (_refuse, _refuse, "application/x-celery-postgres", "utf-8")
