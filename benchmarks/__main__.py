"""`python -m benchmarks FIGURE`, from the root of the project: one command per figure."""

from __future__ import annotations

import argparse
import signal
import sys
from dataclasses import fields, is_dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import (
    backlog,
    chords,
    drain,
    environment,
    idle,
    latency,
    peers,
    profile,
    publish,
    queues,
    recovery,
    roundtrip,
    sustained,
)
from benchmarks.addresses import RABBITMQ, REDIS, Addresses
from benchmarks.clients import MeasurementError
from benchmarks.figure import Figure, listed
from benchmarks.report import Report
from benchmarks.servers import UnreachableError
from benchmarks.site import prepared
from benchmarks.worker import Pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.peers import Peer

FIGURES = (
    drain.FIGURE,
    publish.FIGURE,
    latency.FIGURE,
    roundtrip.FIGURE,
    chords.FIGURE,
    idle.FIGURE,
    backlog.FIGURE,
    sustained.FIGURE,
    recovery.FIGURE,
    queues.FIGURE,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 0 if all was measured, 1 if a measurement failed, 2 if it could not begin."""
    given = _parser().parse_args(arguments)
    # A terminated run cleans up like an interrupted one.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return int(given.command(given))
    except (UnreachableError, MeasurementError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


def _measure(figure: Figure, given: argparse.Namespace) -> int:
    options = figure.options(given)
    began_at = datetime.now(timezone.utc).isoformat(timespec="seconds")
    machine = environment.machine()
    with _addresses(given) as addresses, prepared(given.peers, figure.name, addresses, given.link_ms) as site:
        baseline = given.baseline or site.brokers[0].peer
        measurements = figure.measure(site.brokers, options, site.directory)
    report = Report(
        figure=figure.name,
        began_at=began_at,
        options={**_flat(options), "link_ms": given.link_ms},
        machine=machine,
        versions=environment.versions(),
        servers={broker.peer.name: broker.facts for broker in site.brokers},
        left_out=site.left_out,
        measurements=measurements,
        tables=figure.tables(measurements, baseline.name),
    )
    print(report)
    if given.json:
        report.write(given.json)
    return 1 if report.failed else 0


def _profile(given: argparse.Namespace) -> int:
    options = profile.Options(
        count=given.count,
        pool=given.pool,
        seconds=given.seconds,
        rate=given.rate,
        format=given.format,
        output=given.output,
    )
    with _addresses(given) as addresses, prepared([given.peer], peers.DRAIN, addresses) as site:
        print(profile.run(site.brokers[0], options, site.directory))
    return 0


def _list(given: argparse.Namespace) -> int:
    with _addresses(given) as addresses:
        for peer in peers.PEERS:
            print(f"{peer.name}: {_readiness(peer, addresses)}")
    return 0


def _readiness(peer: Peer, addresses: Addresses) -> str:
    try:
        peer.reach(addresses)
        peer.reach_results(addresses)
    except UnreachableError as error:
        return str(error)
    return f"ready for {', '.join(sorted(peer.figures))}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for figure in FIGURES:
        command = _command(commands, figure.name, figure.summary)
        command.set_defaults(command=lambda given, figure=figure: _measure(figure, given))
        command.add_argument("--peers", type=listed(peers.named), help="names, separated by commas")
        command.add_argument("--rounds", type=int, default=3)
        command.add_argument("--baseline", type=peers.named, help="ratios are formed to this peer")
        command.add_argument(
            "--link-ms", type=float, default=0.0, help="round trip between the servers and all others"
        )
        command.add_argument("--json", type=Path, metavar="FILE", help="leave everything there as JSON")
        figure.add_arguments(command)
    command = _command(commands, "profile", "where a worker's main process spends its time")
    command.set_defaults(command=_profile)
    profile.add_arguments(command)
    _command(commands, "list", "the peers, and which are ready").set_defaults(command=_list)
    return parser


def _command(commands: argparse._SubParsersAction, name: str, summary: str) -> argparse.ArgumentParser:  # type: ignore[type-arg]
    command: argparse.ArgumentParser = commands.add_parser(name, help=summary, description=summary)
    command.add_argument("--redis-url", metavar="URL", help=f"an empty database; by default {REDIS}")
    command.add_argument("--rabbitmq-url", metavar="URL", help=f"by default {RABBITMQ}")
    command.add_argument(
        "--postgresql-url", metavar="URL", help="by default DATABASE_URL, else a private server"
    )
    return command


def _addresses(given: argparse.Namespace) -> Addresses:
    return Addresses(given.redis_url, given.rabbitmq_url, given.postgresql_url)


def _flat(options: Any) -> dict[str, object]:
    """The options by name; those that several figures share lie one level deeper."""
    found: dict[str, object] = {}
    for field in fields(options):
        value = getattr(options, field.name)
        found.update(
            _flat(value) if is_dataclass(value) and not isinstance(value, Pool) else {field.name: value}
        )
    return {name: _shown(value) for name, value in found.items()}


def _shown(value: object) -> object:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return str(value) if isinstance(value, Pool) else value


if __name__ == "__main__":
    sys.exit(main())
