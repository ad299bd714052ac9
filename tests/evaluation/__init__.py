"""Tests of the example application in `examples/evaluation`."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PLANTED = ROOT / "examples" / "evaluation" / "documents" / "planted.md"
