"""The tables, as this release believes them to be.

The migrations make them; a test compares the two. A message's payload lies in `message`, is written once
and deleted once; its state is the narrow table in which its key lies: `ready`, `unacked`, `delayed` or
`dead_letter`.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.types import UserDefinedType


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


def metadata(schema: str = "celery") -> MetaData:
    """All tables, under the given schema."""
    tables = MetaData(schema=schema)
    _topology(tables)
    _messages(tables)
    _consumers(tables)
    return tables


def _topology(tables: MetaData) -> None:
    Table(
        "exchange",
        tables,
        Column("name", Text, nullable=False),
        Column("type", Text, nullable=False),
        Column("durable", Boolean, nullable=False),
        Column("auto_delete", Boolean, nullable=False),
        Column("arguments", Text, nullable=False),
        PrimaryKeyConstraint("name", name="exchange_pkey"),
        CheckConstraint("type IN ('direct', 'topic', 'fanout')", name="exchange_type_check"),
    )
    Table(
        "queue",
        tables,
        Column("id", BigInteger, Identity(always=True), nullable=False),
        Column("name", Text, nullable=False),
        Column("durable", Boolean, nullable=False),
        Column("auto_delete", Boolean, nullable=False),
        Column("exclusive", Boolean, nullable=False),
        Column("holder", Uuid),
        Column("arguments", Text, nullable=False),
        Column("message_ttl_ms", BigInteger),
        Column("expires_ms", BigInteger),
        Column("max_length", BigInteger),
        Column("max_length_bytes", BigInteger),
        Column("max_priority", SmallInteger),
        Column("dead_letter_exchange", Text),
        Column("dead_letter_routing_key", Text),
        Column(
            "broadcast_from",
            Text,
            comment="set where messages go to the broadcast log: the snapshot at declaration, before which "
            "nothing is read",
        ),
        Column("consumed", Boolean, nullable=False, server_default=text("false")),
        Column("used_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        PrimaryKeyConstraint("id", name="queue_pkey"),
        UniqueConstraint("name", name="queue_name_key"),
    )
    Table(
        "binding",
        tables,
        Column("exchange", Text, ForeignKey("exchange.name", ondelete="CASCADE"), nullable=False),
        Column("routing_key", Text, nullable=False),
        Column("queue_id", BigInteger, ForeignKey("queue.id", ondelete="CASCADE"), nullable=False),
        Column("pattern", Text, comment="the topic pattern as a regular expression"),
        PrimaryKeyConstraint("exchange", "routing_key", "queue_id", name="binding_pkey"),
        Index("binding_queue_idx", "queue_id"),
    )


def _messages(tables: MetaData) -> None:
    Table(
        "message",
        tables,
        Column("id", BigInteger, Identity(always=True), nullable=False),
        Column(
            "uuid",
            Uuid,
            nullable=False,
            comment="made once per publish call: a publish that is retried after an unknown outcome stores "
            "nothing twice",
        ),
        Column("queue_id", BigInteger, nullable=False),
        Column("priority", SmallInteger, nullable=False),
        Column("enqueued_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("expires_at", DateTime(timezone=True)),
        Column("exchange", Text, nullable=False),
        Column("routing_key", Text, nullable=False),
        Column("task", Text),
        Column("task_id", Text),
        Column("content_type", Text),
        Column("content_encoding", Text),
        Column(
            "headers",
            Text,
            nullable=False,
            comment="escaped JSON text, never jsonb, which refuses \\u0000",
        ),
        Column("properties", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        PrimaryKeyConstraint("id", name="message_pkey"),
        UniqueConstraint("uuid", "queue_id", name="message_uuid_key"),
        Index("message_expiry_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )
    Table(
        "ready",
        tables,
        Column("queue_id", BigInteger, nullable=False),
        Column("priority", SmallInteger, nullable=False),
        Column("message_id", BigInteger, nullable=False),
        Column("deliveries", Integer, nullable=False),
        Index("ready_claim_idx", "queue_id", text("priority DESC"), "message_id", unique=True),
    )
    Table(
        "unacked",
        tables,
        Column("consumer_id", Uuid, nullable=False),
        Column("message_id", BigInteger, nullable=False),
        Column("queue_id", BigInteger, nullable=False),
        Column("priority", SmallInteger, nullable=False),
        Column("deliveries", Integer, nullable=False),
        Column("claimed_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        PrimaryKeyConstraint("consumer_id", "message_id", name="unacked_pkey"),
    )
    Table(
        "delayed",
        tables,
        Column("due_at", DateTime(timezone=True), nullable=False),
        Column("message_id", BigInteger, nullable=False),
        Column("queue_id", BigInteger, nullable=False),
        Column("priority", SmallInteger, nullable=False),
        Column("deliveries", Integer, nullable=False),
        PrimaryKeyConstraint("due_at", "message_id", name="delayed_pkey"),
    )
    Table(
        "dead_letter",
        tables,
        Column("message_id", BigInteger, nullable=False),
        Column("queue", Text),
        Column("reason", Text, nullable=False),
        Column("died_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("deliveries", Integer, nullable=False),
        PrimaryKeyConstraint("message_id", name="dead_letter_pkey"),
    )
    Table(
        "broadcast",
        tables,
        Column("id", BigInteger, nullable=False, server_default=text("nextval('broadcast_id_seq')")),
        Column("xid", Xid8, nullable=False, server_default=text("pg_current_xact_id()")),
        Column("published_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("expires_at", DateTime(timezone=True)),
        Column("exchange", Text, nullable=False),
        Column("routing_key", Text, nullable=False),
        Column("content_type", Text),
        Column("content_encoding", Text),
        Column("headers", Text, nullable=False),
        Column("properties", Text, nullable=False),
        Column("body", LargeBinary, nullable=False),
        PrimaryKeyConstraint("id", name="broadcast_pkey"),
        Index("broadcast_xid_idx", "xid", "id"),
        prefixes=["UNLOGGED"],
    )


def _consumers(tables: MetaData) -> None:
    Table(
        "consumer",
        tables,
        Column("id", Uuid, nullable=False),
        Column("lock_key", BigInteger, nullable=False),
        Column("pooled", Boolean, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("started_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("beat_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        PrimaryKeyConstraint("id", name="consumer_pkey"),
    )
    Table(
        "consumer_queue",
        tables,
        Column("consumer_id", Uuid, ForeignKey("consumer.id", ondelete="CASCADE"), nullable=False),
        Column("tag", Text, nullable=False),
        Column("queue_id", BigInteger, ForeignKey("queue.id", ondelete="CASCADE"), nullable=False),
        Column("no_ack", Boolean, nullable=False),
        Column("exclusive", Boolean, nullable=False),
        PrimaryKeyConstraint("consumer_id", "tag", name="consumer_queue_pkey"),
        Index("consumer_queue_queue_idx", "queue_id"),
    )
