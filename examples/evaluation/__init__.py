"""An application that evaluates Markdown documents, as an example of a Celery application.

Read it in this order: `models` (the tables), `plugins` (the checks), `orchestrator` (the work, which
knows nothing of Celery), `tasks` (the work as Celery tasks), `load` and `report` (in and out).

Every offset in this package counts Python characters (code points) in the stored content.
"""
