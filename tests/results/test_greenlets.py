"""Greenlets wait for results as threads do: each is told, none keeps the others from running."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.fixtures.process import Process

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_greenlets(database_url: str, kind: str) -> None:
    """A process of its own, since the interpreter is patched for good."""
    program = [
        sys.executable,
        "-W",
        "ignore",
        str(Path(__file__).with_name("greenlets.py")),
        kind,
        database_url,
    ]
    process = Process(kind, program, {"PYTHONPATH": str(ROOT)})
    try:
        process.wait_for_line("everything was found")
    finally:
        process.end()
