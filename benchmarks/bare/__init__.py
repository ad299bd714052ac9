"""Queues of their own, without Celery: each file fills and consumes one of them.

    python -m benchmarks.bare.kombu_queue fill ORDER
    python -m benchmarks.bare.kombu_queue consume ORDER

`fill` stores jobs and ends; `consume` runs them, notes each start as the tasks of the other figures do, and
is ended from outside. The order is JSON: see `order.py`.
"""
