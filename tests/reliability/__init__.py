"""Faults of processes, sessions and servers, and what becomes of the messages."""
