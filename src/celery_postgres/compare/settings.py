"""Celery's settings for one contender: every name that is left on a broker is the comparison's own."""

from __future__ import annotations

from typing import Any

#: What an application says of its messages and tasks, and what another publisher has to say as well.
OF_MESSAGES = (
    "accept_content",
    "enable_utc",
    "result_accept_content",
    "result_compression",
    "result_serializer",
    "task_compression",
    "task_default_delivery_mode",
    "task_default_priority",
    "task_default_queue_type",
    "task_protocol",
    "task_queue_max_priority",
    "task_serializer",
    "timezone",
)

#: What belongs to a broker or to a result backend, and does not go to another one.
OF_BROKER = ("broker_use_ssl", "broker_login_method", "broker_heartbeat", "redis_backend_use_ssl")

#: The result backend that keeps nothing.
NO_BACKEND = "disabled://"

# Celery's defaults, in the place of what belongs to the application's present broker.
_NEUTRAL: dict[str, Any] = {
    "broker_use_ssl": False,
    "broker_login_method": None,
    "redis_backend_use_ssl": None,
    "broker_read_url": None,
    "broker_write_url": None,
    "broker_connection_retry_on_startup": True,
    "result_backend": NO_BACKEND,
    "result_backend_transport_options": {},
    "database_table_schemas": {},
    "database_table_names": {},
}


def settings(name: str, *given: dict[str, Any]) -> dict[str, Any]:
    """For a queue of this name; what is given for broker and backend goes over the rest."""
    own = {
        **_NEUTRAL,
        "task_default_queue": name,
        "task_default_exchange": name,
        "task_default_exchange_type": "direct",
        "task_default_routing_key": name,
        "task_queues": None,
        "task_routes": None,
        "control_exchange": name,
        "event_exchange": f"{name}.events",
        "event_queue_prefix": name,
        # Further queues, exchanges and files of the application.
        "worker_direct": False,
        "worker_state_db": None,
        "task_always_eager": False,
    }
    for further in given:
        own.update(further)
    return own
