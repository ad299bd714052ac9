"""The tables of the application, all of them in the schema `app`."""

# No postponed annotations here: SQLAlchemy reads them when a class is made.
import enum
from datetime import datetime
from typing import Any, ClassVar

from sqlalchemy import CheckConstraint, DateTime, Enum, ForeignKey, MetaData, UniqueConstraint, func
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import Text

SCHEMA = "app"


class Status(str, enum.Enum):
    """How far an evaluation or a job has come."""

    PENDING = "PENDING"
    RUNNING = "RUNNING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class Base(DeclarativeBase):
    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "pk": "%(table_name)s_pkey",
            "uq": "%(table_name)s_%(column_0_N_name)s_key",
            "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
            "ck": "%(table_name)s_%(constraint_name)s_check",
            "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        },
    )
    type_annotation_map: ClassVar = {
        str: Text,
        datetime: DateTime(timezone=True),
        list[str]: ARRAY(Text),
        dict[str, Any]: JSONB,
        Status: Enum(Status, native_enum=False, create_constraint=True, name="status", length=16),
    }


class Document(Base):
    """A document, whatever its text is at the moment; `source` says where it was read."""

    __tablename__ = "document"

    id: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(unique=True)
    title: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class DocumentVersion(Base):
    """One text of a document. Offsets of comments count the characters of `content`."""

    __tablename__ = "document_version"
    __table_args__ = (UniqueConstraint("document_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[int] = mapped_column(ForeignKey(Document.id, ondelete="CASCADE"))
    version: Mapped[int]
    content: Mapped[str]
    sha256: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Evaluator(Base):
    """Somebody who evaluates, by name."""

    __tablename__ = "evaluator"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)


class EvaluatorVersion(Base):
    """What an evaluator does: its plugins in order, their settings and weights, and its time limit."""

    __tablename__ = "evaluator_version"
    __table_args__ = (UniqueConstraint("evaluator_id", "version"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluator_id: Mapped[int] = mapped_column(ForeignKey(Evaluator.id, ondelete="CASCADE"))
    version: Mapped[int]
    plugins: Mapped[list[str]]
    # By plugin: its keyword arguments, and under "weight" what its grade counts for (1 if not given).
    settings: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    time_limit_s: Mapped[float] = mapped_column(server_default="240")


class Evaluation(Base):
    """A document to be evaluated by an evaluator; results are its versions."""

    __tablename__ = "evaluation"
    __table_args__ = (UniqueConstraint("document_id", "evaluator_id"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    document_id: Mapped[int] = mapped_column(ForeignKey(Document.id, ondelete="CASCADE"))
    evaluator_id: Mapped[int] = mapped_column(ForeignKey(Evaluator.id, ondelete="CASCADE"), index=True)
    status: Mapped[Status] = mapped_column(server_default=Status.PENDING.value, index=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Job(Base):
    """One request to evaluate, over all its attempts. `task_id` is the id that the caller knows it by."""

    __tablename__ = "job"

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey(Evaluation.id, ondelete="CASCADE"), index=True)
    task_id: Mapped[str | None] = mapped_column(unique=True)
    status: Mapped[Status]
    attempts: Mapped[int] = mapped_column(default=0)
    worker: Mapped[str]
    started_at: Mapped[datetime]
    heartbeat_at: Mapped[datetime]
    finished_at: Mapped[datetime | None]
    error: Mapped[str | None]
    error_kind: Mapped[str | None]
    log: Mapped[str | None]


class EvaluationVersion(Base):
    """One result: what one version of an evaluator said about one version of a document."""

    __tablename__ = "evaluation_version"
    __table_args__ = (
        UniqueConstraint("evaluation_id", "version"),
        # The last guard of "evaluated once", below the lock that workers take.
        UniqueConstraint("evaluation_id", "document_version_id", "evaluator_version_id"),
        CheckConstraint("grade BETWEEN 0 AND 100", name="grade"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_id: Mapped[int] = mapped_column(ForeignKey(Evaluation.id, ondelete="CASCADE"))
    version: Mapped[int]
    document_version_id: Mapped[int] = mapped_column(ForeignKey(DocumentVersion.id))
    evaluator_version_id: Mapped[int] = mapped_column(ForeignKey(EvaluatorVersion.id))
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id), unique=True)
    grade: Mapped[int | None]
    partial: Mapped[bool]
    summary: Mapped[str]
    analysis: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Comment(Base):
    """A remark on a place of the document: `content[start_offset:end_offset]` is `quoted_text`.

    Where it is not, `is_valid` is false, and `error` says why.
    """

    __tablename__ = "comment"
    __table_args__ = (
        CheckConstraint("is_valid = (error IS NULL)", name="reason"),
        CheckConstraint("NOT is_valid OR start_offset < end_offset", name="place"),
    )

    id: Mapped[int] = mapped_column(primary_key=True)
    evaluation_version_id: Mapped[int] = mapped_column(
        ForeignKey(EvaluationVersion.id, ondelete="CASCADE"), index=True
    )
    source: Mapped[str]
    level: Mapped[str]
    header: Mapped[str]
    description: Mapped[str]
    importance: Mapped[int]
    start_offset: Mapped[int | None]
    end_offset: Mapped[int | None]
    quoted_text: Mapped[str]
    # What stands right before the place: it helps to find it again in a changed text.
    prefix: Mapped[str]
    is_valid: Mapped[bool]
    error: Mapped[str | None]


class PluginRun(Base):
    """How one plugin fared in a job."""

    __tablename__ = "plugin_run"
    __table_args__ = (UniqueConstraint("job_id", "plugin"),)

    id: Mapped[int] = mapped_column(primary_key=True)
    job_id: Mapped[int] = mapped_column(ForeignKey(Job.id, ondelete="CASCADE"))
    plugin: Mapped[str]
    seconds: Mapped[float]
    cost: Mapped[float | None]
    comments: Mapped[int]
    grade: Mapped[int | None]
    summary: Mapped[str]
    error: Mapped[str | None]
