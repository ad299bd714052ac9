"""Figures of Celery over several brokers, taken side by side in one run: `python -m benchmarks`."""
