"""An application of somebody's own on Redis: routes, queues, a schedule, settings that come late."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from celery import Celery, signals
from kombu import Queue

app = Celery("shop")


class Settings:
    """Read when they are needed, as by `config_from_object`."""

    broker_url = os.environ.get("SHOP_BROKER", "redis://127.0.0.1:1/0")
    result_backend = os.environ.get("SHOP_BROKER", "redis://127.0.0.1:1/0")
    broker_transport_options: ClassVar = {"visibility_timeout": 77}
    task_routes: ClassVar = {"shop.order": {"queue": "orders"}}
    task_queues: ClassVar = [Queue("celery"), Queue("orders", routing_key="orders")]
    worker_direct = True
    beat_schedule: ClassVar = {"often": {"task": "shop.receipt", "schedule": 0.1, "args": ["beat"]}}


app.config_from_object(Settings)


@signals.import_modules.connect(weak=False)
def _late(**_: object) -> None:
    app.conf.task_default_queue = "late"


def write(line: str) -> None:
    path = os.environ.get("SHOP_FILE")
    if path:
        with Path(path).open("a") as file:
            file.write(line + "\n")


@app.task(name="shop.order", bind=True, max_retries=1)
def order(self, article: str, amount: int = 1) -> str:
    """Fails first; then sends a receipt in each of the ways in which a queue can be named."""
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    write(f"order {article} {amount} over {self.request.delivery_info['routing_key']}")
    receipt.delay("plain")
    receipt.apply_async(["named"], queue="orders")
    receipt.apply_async(["keyed"], exchange="orders", routing_key="orders")
    pinned.delay()
    app.send_task("shop.receipt", ["sent"], queue="elsewhere")
    return article


@app.task(name="shop.receipt")
def receipt(how: str) -> None:
    write(f"receipt {how} over {receipt.request.delivery_info['routing_key']}")


@app.task(name="shop.pinned", queue="orders")
def pinned() -> None:
    write(f"receipt pinned over {pinned.request.delivery_info['routing_key']}")


@app.task(name="shop.refuse")
def refuse() -> None:
    raise ValueError("sold out")
