"""Dead letters by the time at which they died: the last ones are listed, the oldest ones go."""

from __future__ import annotations

from alembic import context, op

revision = "1.7"
down_revision = "1.5"


def upgrade() -> None:
    schema = '"' + context.config.attributes["schema"] + '"'
    op.execute(f"CREATE INDEX dead_letter_died_idx ON {schema}.dead_letter (died_at, message_id)")
