"""Which of Celery's own tests are run, and which of those need not pass, each with its reason."""

from __future__ import annotations

#: Files, or single tests of one. Left out is what is about other backends, Django, the command `upgrade`,
#: log files and memory.
CHOSEN = (
    "test_tasks.py",
    "test_canvas.py",
    "test_group_chains.py",
    "test_inspect.py",
    "test_beat.py",
    "test_serialization.py",
    "test_loader.py",
    "test_events_state_memory_leak.py",
    "test_worker.py::test_concurrency_auto_sizes_prefork_pool",
    "test_worker.py::test_pidbox_reset_after_repeated_control_errors",
)

_BROKEN = ("skipped", "Celery skips it with every broker and backend, as a broken test")
_CHANNELS = ("failed", "counts Redis's own channels")

#: A test without its parameters: what becomes of it, and why that is no fault of ours.
EXCEPTIONS: dict[str, tuple[str, str]] = {
    "test_tasks.py::test_tasks::test_multiprocess_producer": _BROKEN,
    "test_tasks.py::test_tasks::test_multithread_producer": _BROKEN,
    "test_tasks.py::test_tasks::test_task_accepted": _BROKEN,
    "test_tasks.py::test_tasks::test_revoked_by_headers_complex_canvas": (
        "failed",
        "Celery gives it 20 s, and its tasks sleep longer in one process; so it is with Redis",
    ),
    "test_tasks.py::test_task_redis_result_backend::test_asyncresult_forget_cancels_subscription": _CHANNELS,
    "test_tasks.py::test_task_redis_result_backend::test_asyncresult_get_cancels_subscription": _CHANNELS,
    "test_tasks.py::test_task_replacement::test_replaced_task_nesting_level_0": (
        "passed or failed",
        "clears its flag after it has sent the task, which a worker in the same process may have set by then",
    ),
    "test_canvas.py::test_chord::test_redis_subscribed_channels_leak": (
        "xfailed",
        "counts Redis's own channels, and is expected to fail there too",
    ),
    "test_canvas.py::test_chord::test_chord_on_error": (
        "failed",
        "reads the chord's parts under Redis's own key; the rest of it is in tests/results/test_chords.py",
    ),
    "test_canvas.py::test_chord::test_error_propagates_from_chord": (
        "failed",
        "Celery's issue 6437, expected to fail with Redis too: a group is not told of a failure before it",
    ),
}
