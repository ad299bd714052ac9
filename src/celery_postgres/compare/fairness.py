"""Where a comparison is unfair, or the machine not fit for it; each warning says what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from . import urls
from .report.conclusion import listed
from .report.statistics import ENOUGH_ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .arena import Arena
    from .report.model import Contender, Report

# More than this share of the machine, and figures are no longer of the brokers alone.
_BUSY = 0.1
_FEW_ROUNDS = 3
_DATABASES = ("postgresql", "sqla", "pgmq")
_OFF = ("off", "no", "false", "0")


@dataclass(frozen=True)
class Standing:
    """A contender, and where its server is."""

    contender: Contender
    is_local: bool
    data_folder: Path | None

    @classmethod
    def of(cls, arena: Arena) -> Standing:
        """Asks the server."""
        return cls(arena.contender, arena.place.is_local, arena.place.data_folder())


def of_contenders(standings: Sequence[Standing]) -> list[str]:
    """What can be said before anything is measured."""
    contenders = [one.contender for one in standings]
    return [
        *_without_confirms(contenders),
        *(said for one in contenders for said in _durability(one)),
        *_distance(standings),
        *(said for one in standings for said in _in_memory(one)),
        *_results(contenders),
    ]


def of_measurement(report: Report, others: Sequence[float]) -> list[str]:
    """What turned out meanwhile; `others` are the shares of the machine that others used."""
    found = []
    if others and median(others) > _BUSY:
        usual, worst = (f"{100 * share:.0f} %" for share in (median(others), max(others)))
        found.append(
            f"The machine was busy: while rates were measured, others used {usual} of its processors, at "
            f"worst {worst}. Stop them, and compare again."
        )
    done = max((len(values) for one in report.measures for values in one.rounds.values()), default=0)
    if 0 < done < _FEW_ROUNDS:
        found.append(
            f"Only {done} round{'s' if done > 1 else ''}: that is too few to tell a difference from chance. "
            f"Give --rounds {ENOUGH_ROUNDS}."
        )
    return found


def _without_confirms(contenders: Sequence[Contender]) -> Iterator[str]:
    durable = [one.name for one in contenders if one.kind in _DATABASES and one.settings.get("fsync") == "on"]
    for one in contenders:
        if one.kind == "amqp" and one.settings.get("confirm_publish", "False").lower() in _OFF and durable:
            yield (
                f"{one.name} publishes without confirms (confirm_publish is off), while {listed(durable)} "
                f"waits for the disk with every task: a crash of {one.name} loses what the other keeps. "
                f"Give --option {one.name.lower()}:confirm_publish=true to compare like with like."
            )


def _durability(one: Contender) -> Iterator[str]:
    said = one.settings
    if said.get("fsync") == "off":
        yield (
            f"{one.name} runs with fsync=off: a crash of its machine may destroy the database, and "
            "its figures are better than in production. Set it on."
        )
    # Our own transport sets it for each transaction that has to last.
    if said.get("synchronous_commit") == "off" and one.kind in ("sqla", "pgmq"):
        yield (
            f"{one.name} runs with synchronous_commit=off: a crash loses the tasks of the last moments. "
            "Set it on for its role."
        )
    if one.kind == "redis" and said.get("appendonly") == "no":
        snapshots = said.get("save")
        kept = f"keeps tasks in snapshots only (save {snapshots})" if snapshots else "keeps nothing on disk"
        yield (
            f"{one.name} {kept}, appendonly is no: a crash loses all tasks since the last one. "
            "Set appendonly yes and appendfsync always to compare like with like."
        )
    elif one.kind == "redis" and said.get("appendonly") == "yes" and said.get("appendfsync") != "always":
        yield (
            f"{one.name} does not wait for the disk (appendfsync {said.get('appendfsync')}): a crash loses "
            "the tasks of the last second. Set appendfsync always to compare like with like."
        )


def _distance(standings: Sequence[Standing]) -> Iterator[str]:
    local = [one.contender.name for one in standings if one.is_local]
    remote = [one.contender.name for one in standings if not one.is_local]
    if local and remote:
        yield (
            f"{listed(remote)} {_be(remote)} reached over the network and {listed(local)} {_be(local)} on "
            "this machine: latencies compare the network, too, and a local server shares the processors with "
            "workers and clients. Put all of them at the same distance."
        )


def _be(names: Sequence[str]) -> str:
    return "is" if len(names) == 1 else "are"


def _in_memory(standing: Standing) -> Iterator[str]:
    folder = standing.data_folder
    if folder is not None and _file_system(folder) in ("tmpfs", "ramfs"):
        yield (
            f"{standing.contender.name} has its data in memory ({folder} is on tmpfs): waiting for the disk "
            "costs nothing there. Put it on a real disk."
        )


def _results(contenders: Sequence[Contender]) -> Iterator[str]:
    schemes = {one.name: urls.scheme_of(one.backend) for one in contenders}
    odd = [
        one.name
        for one in contenders
        if schemes[one.name].split("+")[0] != urls.scheme_of(one.broker).split("+")[0]
    ]
    if odd and len(contenders) > 1:
        kept = ", ".join(f"{name} in {scheme}" for name, scheme in schemes.items())
        yield (
            f"Results are kept in different kinds of places ({kept}): round trips and chords compare these, "
            "not the brokers alone. Name the same one for all, as BROKER|BACKEND, to tell them apart."
        )


def _file_system(folder: Path) -> str | None:
    """The kind of file system that a folder is on, as far as this system tells."""
    try:
        lines = Path("/proc/mounts").read_text().splitlines()
    except OSError:
        return None
    mounts = {Path(fields[1]): fields[2] for line in lines if len(fields := line.split()) > 2}
    return next((mounts[one] for one in (folder, *folder.parents) if one in mounts), None)
