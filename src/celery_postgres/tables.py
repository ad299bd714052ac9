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
    _results(tables)
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
        Index("message_task_idx", "task_id", postgresql_where=text("task_id IS NOT NULL")),
        Index("message_enqueued_idx", "enqueued_at", postgresql_where=text("task_id IS NOT NULL")),
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
        Index("delayed_message_idx", "message_id"),
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
        Index("dead_letter_died_idx", "died_at", "message_id"),
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
    Table(
        "published",
        tables,
        Column("uuid", Uuid, nullable=False),
        Column("published_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        PrimaryKeyConstraint("uuid", name="published_pkey"),
        Index("published_at_idx", "published_at"),
        comment="publish calls of the last 10 minutes with publish_dedup: a retry finds its own, also after "
        "the message was consumed",
    )


def _consumers(tables: MetaData) -> None:
    Table(
        "consumer",
        tables,
        Column("id", Uuid, nullable=False),
        Column(
            "lock_key",
            BigInteger,
            nullable=False,
            comment="the advisory lock of the session that claims",
        ),
        Column("pooled", Boolean, nullable=False),
        Column("host", Text, nullable=False),
        Column("pid", Integer, nullable=False),
        Column("started_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column(
            "beat_at",
            DateTime(timezone=True),
            nullable=False,
            server_default=text("now()"),
            comment="changes with each beat: by itself, how long ago tells nothing",
        ),
        Column("beat_key", BigInteger, comment="the advisory lock of the session that beats"),
        Column(
            "stall_ms",
            BigInteger,
            nullable=False,
            server_default=text("300000"),
            comment="after so long without a beat it is fenced, its lock held or not",
        ),
        Column("epoch", Uuid, comment="the life of the server in which its locks were taken"),
        Column("host_id", Text, comment="equal for processes that can see each other by their process ids"),
        Column("process_started", BigInteger, comment="tells the process from a later one with the same id"),
        Column("node", Text),
        Column("pool", Text),
        PrimaryKeyConstraint("id", name="consumer_pkey"),
    )
    Table(
        "epoch",
        tables,
        Column("one", Boolean, nullable=False, server_default=text("true")),
        Column("id", Uuid, nullable=False),
        Column("server_started_at", DateTime(timezone=True), nullable=False),
        Column("sweeper", Uuid),
        PrimaryKeyConstraint("one", name="epoch_pkey"),
        CheckConstraint("one", name="epoch_one_check"),
        prefixes=["UNLOGGED"],
        comment="one row: the present life of the server, and who sweeps in it",
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


def _results(tables: MetaData) -> None:
    Table(
        "result",
        tables,
        Column("task_id", Text, nullable=False),
        Column("state", Text, nullable=False),
        *_encoded("what Celery keeps of the task: status, result, traceback, children"),
        Column("error", Text, comment="exception and its message in short, for people"),
        Column("name", Text),
        Column("queue", Text),
        Column("worker", Text),
        Column("retries", Integer),
        Column("root_id", Text),
        Column("parent_id", Text),
        Column("group_id", Text),
        Column(
            "created_at",
            DateTime(timezone=True),
            comment="when the task's message was stored; NULL from another broker",
        ),
        Column(
            "started_at",
            DateTime(timezone=True),
            comment="when its code began; NULL if nobody told, see task_track_started",
        ),
        Column("finished_at", DateTime(timezone=True)),
        Column("updated_at", DateTime(timezone=True), nullable=False, server_default=text("now()")),
        Column("expires_at", DateTime(timezone=True)),
        PrimaryKeyConstraint("task_id", name="result_pkey"),
        Index("result_created_idx", "created_at"),
        Index("result_expiry_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )
    Table(
        "group_result",
        tables,
        Column("group_id", Text, nullable=False),
        *_encoded(),
        Column("expires_at", DateTime(timezone=True)),
        PrimaryKeyConstraint("group_id", name="group_result_pkey"),
        Index("group_result_expiry_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )
    Table(
        "chord",
        tables,
        Column("group_id", Text, nullable=False),
        Column(
            "size", Integer, comment="how many parts the header has; NULL until the last one is being sent"
        ),
        Column(
            "added",
            Integer,
            nullable=False,
            server_default=text("0"),
            comment="how many parts joined while the header ran",
        ),
        Column("returned", Integer, nullable=False, server_default=text("0")),
        Column("callback", LargeBinary, comment="the body, kept while the size is unknown"),
        Column(
            "dispatched_at",
            DateTime(timezone=True),
            comment="when the body was sent: parts that return later change nothing",
        ),
        Column("expires_at", DateTime(timezone=True)),
        PrimaryKeyConstraint("group_id", name="chord_pkey"),
        Index("chord_expiry_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    )
    Table(
        "chord_part",
        tables,
        Column("group_id", Text, nullable=False),
        Column("position", Integer, nullable=False),
        Column("task_id", Text, nullable=False),
        Column("state", Text, nullable=False),
        *_encoded(),
        Column(
            "returned_at", DateTime(timezone=True), nullable=False, server_default=text("clock_timestamp()")
        ),
        PrimaryKeyConstraint("group_id", "position", "task_id", name="chord_part_pkey"),
    )


def _encoded(comment: str | None = None) -> tuple[Column[Any], ...]:
    """What a serializer made, and how to read it."""
    return (
        Column("content_type", Text, nullable=False),
        Column("content_encoding", Text, nullable=False),
        Column("meta", LargeBinary, nullable=False, comment=comment),
    )
