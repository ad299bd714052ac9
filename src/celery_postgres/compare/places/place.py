"""What a comparison needs of a server: a place of its own on it, what it says of itself, and its counters."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from celery_postgres.compare import processes, urls

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from celery_postgres.compare.report.model import Kind


@dataclass(frozen=True)
class Usage:
    """What a server has used up to now; None where it cannot be read."""

    cpu_s: float | None = None
    """Processor time of the whole server since its start."""
    memory_bytes: int | None = None
    """Of the whole server."""
    disk_bytes: int | None = None
    """Of the place alone: its tables, where it has such."""
    log_bytes: int | None = None
    """Ever written to the server's log of changes: WAL, append-only file."""


class Place(ABC):
    """One name on one server. Everything that is made there bears the name, and `clean` removes it.

    Nothing is opened before `reach`. The name consists of lower-case letters, digits and underscores,
    and ends with a token that is unique.
    """

    kind: ClassVar[Kind]
    title: ClassVar[str]
    """The name for people."""
    enlists: ClassVar[str] = "by itself"
    """How a publish takes part in the application's transaction, where it does."""
    schemes: ClassVar[tuple[str, ...]]
    """Of broker URLs; one that ends with + is a beginning."""
    result_schemes: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        url: str,
        name: str,
        prepared_schema: str | None = None,
        celery: Mapping[str, Any] | None = None,
    ) -> None:
        """`celery` holds those of Celery's settings that say how to connect, such as `broker_use_ssl`."""
        self.url = url
        self.celery = celery or {}
        self.name = name
        self.prepared_schema = prepared_schema
        self.reply_queues: set[str] = set()
        """Names that Celery makes up for replies: whoever knows them adds them, and `clean` removes them."""

    @property
    def token(self) -> str:
        """The unique end of the name, for where names have to be short."""
        return self.name.rpartition("_")[2]

    @property
    def is_local(self) -> bool:
        """Whether the server is this machine's, as far as the URL tells."""
        return urls.is_local(self.url)

    @property
    def usual_results(self) -> str:
        """The URL of the result backend that usually goes with this broker."""
        return self.url

    @abstractmethod
    def reach(self) -> None:
        """Connect once. Raises Failure: not there, not let in, a package that is missing."""

    @abstractmethod
    def version(self) -> str:
        """The server's."""

    @abstractmethod
    def settings(self) -> dict[str, str]:
        """What decides on durability and redelivery, as far as it can be read."""

    @abstractmethod
    def prepare(self) -> None:
        """Make what Celery does not make by itself. Raises Failure. `clean` may follow in any case."""

    @abstractmethod
    def broker(self, options: dict[str, Any]) -> dict[str, Any]:
        """Celery's settings for messages in this place; `options` are the user's transport options."""

    def results(self, options: dict[str, Any]) -> dict[str, Any]:
        """Celery's settings for results in this place."""
        return {"result_backend": self.url, "result_backend_transport_options": options}

    @abstractmethod
    def clean(self) -> None:
        """Remove everything of this name, once workers and clients are gone. Harmless if nothing is there."""

    @abstractmethod
    def listing(self) -> set[str] | None:
        """Everything that the server holds where this place is, whosever; None if nobody tells."""

    def keeps(self, task_ids: Collection[str]) -> set[str] | None:  # noqa: ARG002
        """Those of these tasks whose messages the server will deliver some time; None if it does not tell."""
        return None

    def waiting(self) -> int | None:
        """How many messages wait in the queue; None where Celery's own way of asking is as good."""
        return None

    def query(self, task_id: str) -> tuple[str, int] | None:  # noqa: ARG002
        """Ask by SQL how many messages a task has: the statement, and the count. None without SQL."""
        return None

    def transaction(self) -> AbstractContextManager[object] | None:
        """A transaction of an application on the same database, rolled back at its end. None without SQL.

        What is published within takes part in it, if there is a way.
        """
        return None

    def process_id(self) -> int | None:
        """The server's first process, if it is one of this machine."""
        return None

    def data_folder(self) -> Path | None:
        """Where the server keeps its data, if it says so and is one of this machine."""
        return None

    def usage(self) -> Usage:
        """What the server has used so far."""
        pid = self.process_id()
        if pid is None:
            return Usage()
        return Usage(processes.tree_cpu_s(pid), processes.tree_memory_bytes(pid))

    def close(self) -> None:  # noqa: B027 - most hold nothing open
        """Let go of the own connections."""
