"""RabbitMQ: every queue and exchange of ours bears the name; over AMQP alone, without a plugin."""

from __future__ import annotations

from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from kombu import Connection

from celery_postgres.compare import processes, urls
from celery_postgres.compare.failure import Failure, worded

from .place import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

#: What Celery makes for countdowns where queues are of the type quorum. Its names cannot be chosen.
_DELAYS = tuple(f"celery_delayed_{level}" for level in range(28))
_DELAYED_DELIVERY = "celery_delayed_delivery"


class AmqpPlace(Place):
    """A virtual host in which others may be at work.

    Queues for control and events are Celery's own affair: they go with the connection that has declared them,
    or, where that was cut, within a minute. One for results may stay for a day if nobody consumed from it.
    """

    kind: ClassVar = "amqp"
    title: ClassVar[str] = "RabbitMQ"
    schemes: ClassVar[tuple[str, ...]] = ("amqp", "amqps", "pyamqp")
    result_schemes: ClassVar[tuple[str, ...]] = ("rpc",)

    _delays_are_theirs = True

    @property
    def usual_results(self) -> str:
        return "rpc://"

    def reach(self) -> None:
        from amqp.exceptions import AMQPError

        where = urls.masked(self.url)
        if urls.scheme_of(self.url) == "rpc":
            return  # results go over the connection of the messages
        try:
            with self._connection():
                pass
        except AMQPError as error:
            raise Failure(
                f"RabbitMQ at {where} does not let us in ({worded(error)}): "
                "correct user, password and virtual host in the URL"
            ) from error
        except (OSError, ValueError) as error:
            # py-amqp says so where the server closes during the handshake instead of answering.
            raise Failure(
                f"no RabbitMQ answers at {where} ({worded(error)}): start it, or correct the URL"
            ) from error

    def version(self) -> str:
        return str(self._properties().get("version", ""))

    def settings(self) -> dict[str, str]:
        product = str(self._properties().get("product", "AMQP"))
        return {"server": product, "consumer_timeout": "not readable over AMQP; RabbitMQ's default is 30 min"}

    def prepare(self) -> None:
        """Nothing is declared: Celery does. What of it has no name of ours is looked at beforehand."""
        if urls.scheme_of(self.url) != "rpc":
            self._delays_are_theirs = self._exists(_DELAYED_DELIVERY)

    def broker(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"broker_url": self.url, "broker_transport_options": options}

    def results(self, options: dict[str, Any]) -> dict[str, Any]:
        return {"result_backend": "rpc://", "result_backend_transport_options": options}

    def clean(self) -> None:
        if urls.scheme_of(self.url) == "rpc":
            return
        with self._connection() as connection, closing(connection.channel()) as channel:
            channel.queue_delete(self.name)
            for suffix in ("", ".pidbox", ".events"):
                channel.exchange_delete(f"{self.name}{suffix}")
            channel.exchange_delete(f"reply.{self.name}.pidbox")
            for queue in self.reply_queues:
                channel.queue_delete(queue)
        if not self._delays_are_theirs:
            self._remove_delays()

    def listing(self) -> set[str] | None:
        """None: AMQP has no question for it."""
        return None

    def process_id(self) -> int | None:
        """The only Erlang machine here that runs RabbitMQ."""
        return processes.named("beam.smp", "rabbit") if self.is_local else None

    def _remove_delays(self) -> None:
        """Only what nobody has bound or filled in the meantime."""
        acts = [
            *(("queue_delete", name, {"if_unused": True, "if_empty": True}) for name in _DELAYS),
            *(("exchange_delete", name, {"if_unused": True}) for name in (_DELAYED_DELIVERY, *_DELAYS)),
        ]
        with self._connection() as connection:
            for act, name, conditions in acts:
                # A refusal closes the channel.
                with closing(connection.channel()) as channel:
                    try:
                        getattr(channel, act)(name, **conditions)
                    except connection.channel_errors:
                        pass  # in use by now

    def _exists(self, exchange: str) -> bool:
        with self._connection() as connection, closing(connection.channel()) as channel:
            try:
                channel.exchange_declare(exchange, "topic", passive=True)
            except connection.channel_errors:
                return False
            return True

    def _properties(self) -> dict[str, Any]:
        with self._connection() as connection:
            return dict(connection.connection.server_properties)

    @contextmanager
    def _connection(self) -> Iterator[Any]:
        settings = {"ssl": "broker_use_ssl", "login_method": "broker_login_method"}
        given = {name: value for name, of in settings.items() if (value := self.celery.get(of))}
        with Connection(self.url, connect_timeout=5, **given) as connection:
            connection.connect()
            yield connection
