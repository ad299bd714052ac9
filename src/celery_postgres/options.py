"""Every option of the transport and of the result backend: name, type, unit, default, range.

The same names serve in the URL's query, in `broker_transport_options`, here and in the documentation.
An `Options` that exists is valid: wrong values and unknown names raise `ConfigurationError` with the remedy.
`python -m celery_postgres.options` prints the table of the documentation in Markdown.

What a value does is left to the modules that read it.
"""

from __future__ import annotations

import difflib
import logging
import math
import re
import reprlib
import sys
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, Protocol, TypeVar

from celery_postgres.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OptionDoc", "Options", "option_names"]

# Not `__name__`, which is "__main__" while the table is printed.
_log = logging.getLogger("celery_postgres.options")

# kombu writes its retry policy into the very mapping that holds the options (`Producer.publish`), and reads
# its own settings from there (`Connection._extract_failover_opts`). Not the user's doing: not worth a word.
_FROM_KOMBU = frozenset(
    {
        "callback",
        "connect_retries_timeout",
        "errback",
        "interval_max",
        "interval_start",
        "interval_step",
        "max_retries",
        "on_revive",
        "retry_errors",
        "retry_policy",
    }
)

# Options of other transports, left over when an application moves here: they have no meaning, and do no harm.
_FOREIGN_BY_TRANSPORT = {
    "several": "body_encoding deadletter_queue polling_interval port queue_name_prefix visibility_timeout"
    " wait_time_seconds",
    "redis": "ack_emulation client_name credential_provider fanout_patterns fanout_prefix global_keyprefix"
    " health_check_interval master_name max_connections min_other_sentinels priority_steps"
    " queue_order_strategy reauth_check_interval result_chord_ordered retry retry_on_error retry_on_timeout"
    " sentinel_fanout_compat sentinel_kwargs sep socket_connect_timeout socket_keepalive"
    " socket_keepalive_options socket_timeout unacked_index_key unacked_key unacked_mutex_expire"
    " unacked_mutex_key unacked_restore_interval unacked_restore_limit unacked_restore_throttle",
    "amqp": "authentication channel_max client_properties confirm_publish frame_max heartbeat locale"
    " login_method login_response on_blocked on_open on_tune_ok on_unblocked read_timeout socket_settings"
    " write_timeout",
    "sqs": "client-config fetch_message_attributes is_secure predefined_exchanges predefined_queues"
    " queue_tags region regioninfo sqs-creation-attributes sqs_base64_encoding sts_role_arn"
    " sts_token_buffer_time sts_token_timeout supports_fanout",
    "azure": "max_lock_renewal_duration peek_lock_seconds retry_backoff_factor retry_backoff_max retry_total"
    " uamqp_keep_alive_interval use_lock_renewal",
    "gcpubsub": "ack_deadline_seconds ack_modify_batch_size bulk_max_messages enable_exactly_once_delivery"
    " expiration_seconds retry_timeout_seconds",
    "kafka": "connection_wait_time_seconds kafka_admin_config kafka_common_config kafka_consumer_config"
    " kafka_producer_config num_partitions replication_factor sasl_mechanism security_protocol topic_config",
    "pgmq": "conn_string fifo_mode init_extension max_poll_seconds notify_throttle_interval_ms"
    " poll_interval_ms pool_size pool_timeout use_notify",
    "sqlalchemy": "echo isolation_level max_overflow message_tablename pool_pre_ping pool_recycle"
    " queue_tablename",
    "mongodb": "broadcast_collection calc_queue_size capped_queue_size default_database default_hostname"
    " default_port messages_collection queues_collection readpreference routing_collection ssl ttl",
    "filesystem": "control_folder data_folder_in data_folder_out processed_folder store_processed",
    "qpid": "ssl_certfile ssl_keyfile ssl_skip_hostname_check ssl_trustfile",
    "slmq": "secure",
}
_FOREIGN = frozenset(name for names in _FOREIGN_BY_TRANSPORT.values() for name in names.split())

# Said once per process and name; a fork may say it again.
_announced: set[str] = set()

T = TypeVar("T")


class _Kind(Protocol):
    """What values an option takes."""

    @property
    def type(self) -> str:
        """The type, in words of the documentation."""

    def read(self, value: object) -> object:
        """The value in its own type; `ValueError` says what is wanted instead."""


@dataclass(frozen=True)
class _Flag:
    """On or off; with `auto`, None stands for "find out"."""

    auto: bool = False

    @property
    def type(self) -> str:
        return "bool or None" if self.auto else "bool"

    def read(self, value: object) -> bool | None:
        word = str(value).strip().lower()
        if word in ("true", "1", "yes", "on"):
            return True
        if word in ("false", "0", "no", "off"):
            return False
        if self.auto and word in ("none", "auto"):
            return None
        raise ValueError("true, false or auto" if self.auto else "true or false")


@dataclass(frozen=True)
class _Number:
    """A number from `low` to `high`; with `off`, 0 too, which switches the limit off.

    With `auto`, None stands for what suits the rest.
    """

    low: float
    high: float
    whole: bool = False
    off: bool = False
    auto: bool = False

    @property
    def type(self) -> str:
        return ("int" if self.whole else "float") + (" or None" if self.auto else "")

    def read(self, value: object) -> float | None:
        if self.auto and str(value).strip().lower() in ("none", "auto"):
            return None
        if isinstance(value, str) or (isinstance(value, (int, float)) and not isinstance(value, bool)):
            try:
                number = int(value) if self.whole else float(value)
                exact = not self.whole or isinstance(value, str) or number == value
            except (ValueError, OverflowError):
                exact, number = False, math.nan
            if exact and (self.low <= number <= self.high or (self.off and number == 0)):
                return number
        bounds = f"a {'whole ' if self.whole else ''}number from {self.low:.15g} to {self.high:.15g}"
        raise ValueError(f"0 or {bounds}" if self.off and self.low > 0 else bounds)


@dataclass(frozen=True)
class _Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def type(self) -> str:
        return " or ".join(f'"{word}"' for word in self.words)

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        raise ValueError(self.type)


@dataclass(frozen=True)
class _SchemaName:
    """A schema that is ours alone: it is dropped as a whole to uninstall."""

    type: str = "str"

    def read(self, value: object) -> str:
        if not isinstance(value, str) or not re.fullmatch(r"[a-z_][a-z0-9_]{0,39}", value):
            raise ValueError(
                "1 to 40 lower-case letters, digits or underscores that do not begin with a digit"
            )
        if value in ("public", "information_schema") or value.startswith("pg_"):
            raise ValueError("a schema for this purpose alone, such as celery")
        return value


@dataclass(frozen=True)
class _Address:
    """The URL of a database, which may hold a password; None stands for none."""

    type: str = "str or None"

    def read(self, value: object) -> str | None:
        if value is None:
            return None
        if isinstance(value, str) and re.match(r"\s*postgres(ql)?(\+[a-z0-9_]+)?://", value, re.IGNORECASE):
            return value.strip()
        raise ValueError("a URL such as postgresql://db.internal:5432")


_SECONDS_MAX = 86_400.0
_TEN_YEARS = 3650 * 86_400.0

#: `max_outage` where kombu could switch to another URL, in seconds.
PATIENCE_WITH_ALTERNATIVES = 15.0


def _option(default: T, kind: _Kind, description: str, unit: str = "") -> T:
    # Typed as its default, as `dataclasses.field` is.
    about = {"kind": kind, "unit": unit, "description": description}
    field_of: T = field(default=default, repr=not isinstance(kind, _Address), metadata=about)
    return field_of


@dataclass(frozen=True)
class OptionDoc:
    """One row of the documentation's table."""

    name: str
    type: str
    default: object
    unit: str
    description: str


@dataclass(frozen=True)
class Options:
    """The options of one connection; durations in seconds.

    Raises `ConfigurationError` for a value out of its range.
    """

    schema: str = _option(
        "celery", _SchemaName(), "Schema that holds all tables; it belongs to this package alone."
    )
    auto_migrate: bool = _option(
        True, _Flag(), "Create or upgrade the schema at the first connection when the role has the right to."
    )
    priority_order: Literal["amqp", "redis"] = _option(
        "amqp", _Choice(("amqp", "redis")), "Which priority runs first: the highest (amqp) or 0 (redis)."
    )
    strict_declare: bool = _option(
        False, _Flag(), "Refuse a declaration that differs from the existing one (406) instead of warning."
    )
    max_message_bytes: int = _option(
        16 * 1024 * 1024,
        _Number(1024, 256 * 1024 * 1024, whole=True),
        "Largest body that is accepted; at most 256 MiB.",
        "bytes",
    )
    hold_eta: bool = _option(
        True,
        _Flag(),
        "Keep a message with an `eta` in the database until it is due, not in a worker's memory.",
    )
    keep_rejected: bool = _option(
        False,
        _Flag(),
        "Keep rejected and expired messages in `dead_letter` when their queue has no dead-letter exchange.",
    )
    max_deliveries: int = _option(
        20,
        _Number(0, 32_767, whole=True),
        "Deliveries after which a message goes to `dead_letter`; 0 means never.",
    )
    dead_letter_keep: float = _option(
        0.0,
        _Number(1.0, _TEN_YEARS, off=True),
        "How long what lies in `dead_letter` is kept; 0 means for ever.",
        "s",
    )
    notify: bool = _option(True, _Flag(), "Wake consumers by LISTEN/NOTIFY; without it they only poll.")
    gossip: bool = _option(
        False, _Flag(), "Workers take part in Celery's gossip, which sends every heartbeat to every worker."
    )
    poll_interval: float = _option(
        1.0, _Number(0.01, 3600.0), "First interval of the poll beneath the notifications.", "s"
    )
    max_poll_interval: float = _option(
        5.0, _Number(0.01, 3600.0), "Interval to which that poll slows down while nothing arrives.", "s"
    )
    grace: float = _option(
        1.0,
        _Number(0.1, 3600.0),
        "How long a worker's sessions may be missing before its messages are released.",
        "s",
    )
    stall_timeout: float = _option(
        60.0,
        _Number(1.0, _SECONDS_MAX),
        "How long a worker that holds its sessions may stand still; five times that outside prefork.",
        "s",
    )
    max_outage: float | None = _option(
        None,
        _Number(0.1, _SECONDS_MAX, off=True, auto=True),
        "How long a consumer waits for a database that is away before it raises, so that Celery connects "
        "anew: 0 for ever, None (`auto` in a URL) for ever too, or 15 s where broker_url names alternatives "
        "(`a;b`).",
        "s",
    )
    connect_timeout: float = _option(
        10.0, _Number(2.0, _SECONDS_MAX), "Limit for one attempt to connect to one host.", "s"
    )
    statement_timeout: float = _option(
        30.0, _Number(0.1, _SECONDS_MAX, off=True), "Limit for one statement; 0 means none.", "s"
    )
    publish_timeout: float = _option(
        30.0,
        _Number(0.1, _SECONDS_MAX, off=True),
        "How long publishing may wait for the server, or for a standby, before it raises; 0 means for ever.",
        "s",
    )
    publish_dedup: bool = _option(
        False,
        _Flag(),
        "Keep the ids of what was published for 10 minutes: no retry doubles what was consumed meanwhile.",
    )
    lock_timeout: float = _option(5.0, _Number(0.01, _SECONDS_MAX), "Limit for the wait for one lock.", "s")
    pooled: bool | None = _option(
        None,
        _Flag(auto=True),
        "Whether a transaction pooler is in between; None (`auto` in a URL) finds out.",
    )
    session_dsn: str | None = _option(
        None,
        _Address(),
        "Where sessions go that no pooler may share: claims, notifications, maintenance; None: nowhere else.",
    )

    def __post_init__(self) -> None:
        for name, kind in _kinds().items():
            object.__setattr__(self, name, _read(name, kind, getattr(self, name)))
        if self.max_poll_interval < self.poll_interval:
            raise ConfigurationError(
                f"option 'max_poll_interval' is {self.max_poll_interval:g} s, less than 'poll_interval'"
                f" ({self.poll_interval:g} s): set max_poll_interval to {self.poll_interval:g} or more"
            )

    def patience(self, *, alternatives: bool) -> float | None:
        """`max_outage` in effect; None for ever. With alternatives another database is worth a try."""
        if self.max_outage is None:
            return PATIENCE_WITH_ALTERNATIVES if alternatives else None
        return self.max_outage or None

    @classmethod
    def parse(cls, given: Mapping[str, object], where: str = "broker_transport_options") -> Options:
        """Options from a mapping whose values may be strings, as in a URL; None means the default.

        `where` is the setting that errors name.
        What kombu puts into the mapping is passed over; an option of another transport is logged once.
        Raises `ConfigurationError` for an unknown name or a wrong value.
        """
        known = option_names()
        values: dict[str, object] = {}
        for name, value in given.items():
            if name in known:
                if value is not None:
                    values[name] = value
            elif name in _FOREIGN:
                _announce(name, where)
            elif name not in _FROM_KOMBU:
                raise ConfigurationError(f"unknown option {name!r} in {where}: {_suggestion(name, known)}")
        return cls(**values)  # type: ignore[arg-type]  # __post_init__ reads each into its type

    @classmethod
    def describe(cls) -> list[OptionDoc]:
        """The options in their order, for documentation."""
        return [
            OptionDoc(
                name=item.name,
                type=item.metadata["kind"].type,
                default=item.default,
                unit=item.metadata["unit"],
                description=item.metadata["description"],
            )
            for item in fields(cls)
        ]


def option_names() -> frozenset[str]:
    """The names that `Options.parse` knows."""
    return frozenset(_kinds())


def _kinds() -> dict[str, _Kind]:
    return {item.name: item.metadata["kind"] for item in fields(Options)}


def _read(name: str, kind: _Kind, value: object) -> object:
    try:
        return kind.read(value)
    except ValueError as exc:
        raise ConfigurationError(
            f"option {name!r} is {_shown(kind, value)}, which it cannot be: set it to {exc}"
        ) from exc


def _shown(kind: _Kind, value: object) -> str:
    return "something" if isinstance(kind, _Address) else reprlib.repr(value)


def _suggestion(name: object, known: frozenset[str]) -> str:
    close = difflib.get_close_matches(str(name).lower(), sorted(known), n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"remove it; the options are {', '.join(sorted(known))}"


def _announce(name: str, where: str) -> None:
    if name not in _announced:
        _announced.add(name)
        _log.info("Option %r in %s belongs to another transport and has no effect here.", name, where)


def _markdown() -> str:
    rows = ["| option | type | default | unit | meaning |", "|---|---|---|---|---|"]
    rows += (
        f"| `{doc.name}` | {doc.type} | `{doc.default!r}` | {doc.unit} | {doc.description} |"
        for doc in Options.describe()
    )
    return "\n".join(rows)


if __name__ == "__main__":
    sys.stdout.write(_markdown() + "\n")
