"""Everything that one run of the command uses, made before and removed after it."""

from __future__ import annotations

import tempfile
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.brokers import Broker
from benchmarks.peers import PEERS
from benchmarks.servers import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.addresses import Addresses
    from benchmarks.peers import Peer

_SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Site:
    """The brokers, a directory in memory if there is one, and why other peers are left out."""

    brokers: list[Broker]
    directory: Path
    left_out: dict[str, str]


@contextmanager
def prepared(
    asked_for: Sequence[Peer] | None, figure: str, addresses: Addresses, link_ms: float = 0.0
) -> Iterator[Site]:
    """Make the site of a figure.

    A peer that was asked for by name must be there, else UnreachableError is raised;
    without names those are taken that are there. Clients and workers are `link_ms` there and back
    away from the servers.
    """
    run = uuid.uuid4().hex[:8]
    left_out: dict[str, str] = {}
    brokers: list[Broker] = []
    with ExitStack() as stack:
        place = _SHARED_MEMORY if _SHARED_MEMORY.is_dir() else None
        directory = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="celery-postgres-benchmark-", dir=place)
        )
        for peer in asked_for or PEERS:
            broker, reason = _reached(peer, figure, addresses, run, Path(directory), link_ms)
            if broker is not None:
                brokers.append(stack.enter_context(broker))
            elif asked_for:
                raise UnreachableError(f"{peer.name}: {reason}")
            else:
                left_out[peer.name] = reason
        yield Site(brokers, Path(directory), left_out)


def _reached(
    peer: Peer, figure: str, addresses: Addresses, run: str, directory: Path, link_ms: float
) -> tuple[Broker | None, str]:
    """The broker of a peer, or why there is none."""
    if figure not in peer.figures:
        return None, f"takes no part in {figure}"
    try:
        return Broker(peer, addresses, run, directory, link_ms), ""
    except UnreachableError as error:
        return None, str(error)
