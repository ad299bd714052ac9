"""The Celery application of the measurements: tasks that note their start, and one that ends a chord."""

from __future__ import annotations

import time
from pathlib import Path

from celery import Celery

from benchmarks import null_transport
from benchmarks.records import Recorder
from benchmarks.settings import from_environment

null_transport.register()

_settings = from_environment()
_pause_s = _settings.task_ms / 1000
_recorder = Recorder(_settings.record_path) if _settings.record_path else None

app = Celery("benchmarks")
app.conf.update(_settings.celery())


@app.task(name="benchmarks.note")  # type: ignore[untyped-decorator]
def note(index: int, sent_ns: int, payload: str = "") -> int:
    """Record the start; then, if asked for, wait as a task would wait for something else. Return `index`."""
    if _recorder is not None:
        _recorder.started(index, sent_ns, time.monotonic_ns())
    if _pause_s:
        time.sleep(_pause_s)
    return index


@app.task(name="benchmarks.hold")  # type: ignore[untyped-decorator]
def hold(index: int) -> None:
    """Record the start; then run until the observer has made its file."""
    assert _recorder is not None
    _recorder.started(index, 0, time.monotonic_ns())
    while not Path(_settings.hold_path).exists():
        time.sleep(0.01)


@app.task(name="benchmarks.total")  # type: ignore[untyped-decorator]
def total(indices: list[int]) -> int:
    """Add up what the header of a chord returned."""
    return sum(indices)
