"""An application of the user's own, put onto another broker and onto one queue, its code unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import signals
from celery.app.routes import Router
from celery.app.utils import find_app

if TYPE_CHECKING:
    from celery import Celery


class OneQueue(Router):
    """Whatever a route, a task or a caller names: the message goes to the one queue."""

    _PLACES = ("queue", "exchange", "exchange_type", "routing_key")

    def __init__(self, queue: Any, app: Celery) -> None:
        super().__init__(app=app)
        self._queue = queue

    def route(self, options: dict[str, Any], *_: Any, **__: Any) -> dict[str, Any]:
        """Celery asks this for each task that it sends, and for nothing else."""
        kept = {name: value for name, value in options.items() if name not in self._PLACES}
        return {**kept, "queue": self._queue}


def transferred(name: str, settings: dict[str, Any]) -> Celery:
    """The application that `celery -A` would find, with these settings instead of its own."""
    app = find_app(name)
    # Modules that it loads late may configure it, too: they shall have done so, here and in the worker, which
    # loads them once more.
    app.loader.import_default_modules()
    app.finalize()
    _put(app, settings)
    signals.celeryd_init.connect(lambda **_: _put(app, settings), weak=False)
    return app


def _put(app: Celery, settings: dict[str, Any]) -> None:
    app.conf.update(settings)
    # Made of other settings, if something has asked for it by now.
    del app.amqp
    app.amqp.router = OneQueue(app.amqp.queues[settings["task_default_queue"]], app)
