"""What was published lately, for publishers that want no retry to double a message."""

from __future__ import annotations

from alembic import context, op

from celery_postgres.migrations.versions.v1_1_messages import SHORT_LIVED

revision = "1.5"
down_revision = "1.4"

DDL = """
CREATE TABLE {s}.published (
    uuid uuid NOT NULL CONSTRAINT published_pkey PRIMARY KEY,
    published_at timestamptz NOT NULL DEFAULT now()
) {short_lived};
CREATE INDEX published_at_idx ON {s}.published (published_at);
COMMENT ON TABLE {s}.published IS
    'publish calls of the last 10 minutes with publish_dedup: a retry finds its own, also after the '
    'message was consumed';
"""


def upgrade() -> None:
    schema = '"' + context.config.attributes["schema"] + '"'
    op.execute(DDL.format(s=schema, short_lived=SHORT_LIVED).rstrip("\n;"))
