"""Takes the proof of concept away: its schema, with every message and result in it."""

from __future__ import annotations

from . import site


def run() -> int:
    """Drop the schema `poc`; harmless when it is not there. The application's tables stay."""
    with site.database() as connection:
        connection.execute("DROP SCHEMA IF EXISTS poc CASCADE")
    print("The schema poc is gone. What is left are files: rm -r examples/proof_of_concept")
    return 0
