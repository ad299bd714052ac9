"""The smallest complete configuration: where the messages are, what they may be, and which tasks there are.

The application's database carries them. BROKER_URL names another broker instead; nothing else changes then.
"""

import os

from celery.exceptions import ImproperlyConfigured

broker_url = os.environ.get("BROKER_URL") or os.environ.get("DATABASE_URL")
if not broker_url:
    raise ImproperlyConfigured(
        "Set DATABASE_URL to a PostgreSQL database, or BROKER_URL to another broker. "
        "`celery-postgres serve` starts a private PostgreSQL server and prints its DATABASE_URL."
    )
broker_connection_retry_on_startup = True

# The application's results are rows that its tasks write; only who calls get() needs a backend, such as the
# same URL.
result_backend = os.environ.get("RESULT_BACKEND")

task_serializer = "json"
result_serializer = "json"
accept_content = ["json"]

imports = ("evaluation.tasks",)
