"""The Celery application.

A worker, from the folder that holds `celeryconfig.py`:

    PYTHONPATH=examples celery -A evaluation.app worker
"""

from __future__ import annotations

from celery import Celery

app = Celery("evaluation")
app.config_from_object("celeryconfig")
