"""The commands of the proof of concept. Each ends with 0 if all went well, else with 1 and one line why."""

from __future__ import annotations

import argparse
import logging
import sys

import psycopg
from evaluation.errors import EvaluationError
from kombu.exceptions import OperationalError

from celery_postgres import Error

from . import site


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m proof_of_concept")
    commands = parser.add_subparsers(dest="command", required=True)
    jobs = commands.add_parser("jobs", help="send test jobs, run them, fail, stop (steps 2 and 3)")
    jobs.add_argument("--seconds", type=float, default=120.0, help="give up after so long")
    one = commands.add_parser("evaluate", help="run the application's own work in a worker (step 5)")
    one.add_argument("id", type=int, nargs="*", help="evaluations; one that is PENDING if none is given")
    one.add_argument("--wait", type=float, default=site.PATIENCE_S, help="give up after so many seconds")
    importing = commands.add_parser("import", help="import a document, twice")
    importing.add_argument("file")
    commands.add_parser("status", help="what waits, runs, failed, is stuck")
    cutover = commands.add_parser("cutover", help="move evaluations from another broker, step by step")
    cutover.add_argument("legacy_url", metavar="URL", help="the broker that the application has now")
    commands.add_parser("clean", help="drop the schema poc")
    return parser


def _run(options: argparse.Namespace) -> int:
    from . import clean, cutover, evaluate, jobs, status

    if options.command == "jobs":
        return jobs.run(options.seconds)
    if options.command == "evaluate":
        return evaluate.run(options.id, options.wait)
    if options.command == "import":
        return evaluate.run_import(options.file, site.PATIENCE_S)
    if options.command == "cutover":
        return cutover.run(options.legacy_url)
    return status.run() if options.command == "status" else clean.run()


def main() -> int:
    options = _parser().parse_args()
    site.url()
    logging.getLogger("celery").setLevel(logging.ERROR)
    try:
        return _run(options)
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130
    except OperationalError as error:  # kombu's name for whatever the broker said
        site.give_up(error)
    except (Error, EvaluationError, psycopg.Error, RuntimeError) as error:
        site.give_up(" ".join(str(error).split()))


if __name__ == "__main__":
    sys.exit(main())
