"""An application of somebody's own, whose broker and results are elsewhere and out of reach."""

from __future__ import annotations

import os

import psycopg
from celery import Celery

app = Celery("shop", broker="redis://127.0.0.1:1/0", backend="redis://127.0.0.1:1/1")
app.conf.task_routes = {"shop.order": {"queue": "orders"}}


@app.task(name="shop.order", bind=True, max_retries=1)
def order(self, article: str, amount: int = 1) -> str:
    """Write an order into the application's table; the first attempt fails."""
    with psycopg.connect(os.environ["DATABASE_URL"]) as database:
        database.execute("INSERT INTO shop.orders (article, amount) VALUES (%s, %s)", (article, amount))
    if self.request.retries == 0:
        raise self.retry(countdown=0)
    receipt.delay(article)
    return f"{amount} of {article}"


@app.task(name="shop.receipt")
def receipt(article: str) -> None:
    """Nobody runs this."""


@app.task(name="shop.refuse")
def refuse() -> None:
    """Fail."""
    raise ValueError("sold out")
