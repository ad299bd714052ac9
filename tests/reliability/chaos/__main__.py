"""The long form, for `dev.py chaos`."""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from . import surroundings
from .arena import Arena, Crew
from .faults import EVERYTHING
from .run import Plan, Run, summary

if TYPE_CHECKING:
    from .faults import Fault

AROUND = {"standby": surroundings.with_standby, "disk": surroundings.with_small_disk}


def kinds(names: str) -> list[type[Fault]]:
    """By their names; an error for one that there is not."""
    known = {kind.__name__: kind for kind in EVERYTHING}
    if unknown := set(names.split(",")) - known.keys():
        raise argparse.ArgumentTypeError(
            f"no fault {', '.join(sorted(unknown))}: there are {', '.join(known)}"
        )
    return [known[name] for name in names.split(",")]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="dev.py chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--messages", type=int, default=0, help="go on until so many are acknowledged")
    parser.add_argument("--rate", type=float, default=150, help="messages per second")
    parser.add_argument("--stretch", type=float, default=1, help="how much longer the tasks are than usual")
    parser.add_argument("--around", choices=AROUND, help="a standby or a small disk; else by the seed")
    parser.add_argument(
        "--faults", type=kinds, default=EVERYTHING, help="of these kinds alone, such as CrashServer,KillChild"
    )
    parser.add_argument("--keep", type=Path, help="keep journals and logs in this folder")
    given = parser.parse_args(arguments)
    for number in (signal.SIGINT, signal.SIGTERM):  # also where a script made us ignore them
        signal.signal(number, signal.default_int_handler)
    directory = given.keep or Path(tempfile.mkdtemp(prefix="chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - begun:7.1f} s  {what}", flush=True)

    # Without it the repeated attempts of publishers are one more cause of a second execution.
    crew = Crew(rate=given.rate, stretch=given.stretch, dedup=given.seed % 4 < 2)
    plan = Plan(given.seed, given.minutes * 60, given.faults, messages_at_least=given.messages, say=say)
    around = given.around or sorted(AROUND)[given.seed % len(AROUND)]
    with AROUND[around]() as servers, surroundings.network(servers):
        arena = Arena(servers, directory, crew, given.seed)
        try:
            verdict = Run(arena, plan).whole()
        finally:
            arena.close()
        print(summary(plan, arena, verdict), flush=True)
    if verdict.passed and given.keep is None:
        shutil.rmtree(directory)
    else:
        print(f"journals and logs are in {directory}")
    return 0 if verdict.passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
