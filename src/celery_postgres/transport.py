"""kombu's transport: connections, the event loop, and what the transport can do.

A connection has up to three sessions: one for commands (declaring, publishing); once it consumes, one for
claims and acknowledgements; and if it acknowledges, one for maintenance, opened by a thread after a second.
"""

from __future__ import annotations

import itertools
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from kombu.transport import base

from . import dsn as dsn_module
from . import worker
from .channel import Channel as _Channel
from .commands import Commands
from .connection import DRIVER_VERSION, Database, Server
from .direct import for_sessions
from .errors import ChannelError, ConfigurationError, DatabaseUnavailable
from .event_loop import EventLoop
from .intake import Intake
from .maintenance import Maintenance
from .options import Options
from .reopening import Reopening
from .wakeup import Bell

if TYPE_CHECKING:
    from uuid import UUID

    from .dsn import Dsn
    from .topology import Topology
    from .wire import Session

_log = logging.getLogger(__name__)


class Transport(base.Transport):
    """One connection of kombu's; it is its own connection object, as in kombu's virtual transports."""

    can_parse_url = True
    default_port = 5432
    driver_type = "postgresql"
    driver_name = "psycopg"

    connection_errors = (DatabaseUnavailable,)
    channel_errors = (ChannelError,)
    recoverable_connection_errors = (DatabaseUnavailable,)
    recoverable_channel_errors = ()

    implements = base.Transport.implements.extend(
        asynchronous=True,
        batch_publish=True,
        exchange_type=frozenset(["direct", "topic", "fanout"]),
        heartbeats=False,
    )

    Channel = _Channel

    def __init__(self, client: Any, **kwargs: Any) -> None:
        super().__init__(client, **kwargs)
        self.closing = False
        self.channels: list[_Channel] = []
        self._ids = itertools.count(1)
        self._database: Database | None = None
        self._sessions: Database | None = None
        self._commands: Commands | None = None
        self._reopening: Reopening[tuple[Session, Server]]
        self._intake: Intake | None = None
        self._maintenance: Maintenance | None = None
        self._hub: Any = None
        self._loop: EventLoop | None = None
        self._server: Server | None = None
        self._pid = os.getpid()
        worker.adapt(gossip=self._wants_gossip())

    def _wants_gossip(self) -> bool:
        try:
            given = self._given()[1]
            # This option alone: Celery's logging is not set up yet, and the others have things to say.
            return Options.parse({key: given[key] for key in ("gossip",) if key in given}).gossip
        except ConfigurationError:  # said where the connection is made
            return False

    # -- connecting ----------------------------------------------------------------------------------

    def _given(self) -> tuple[Dsn, dict[str, Any]]:
        """Where to, and the options as they were written."""
        target = _dsn(self.client)
        return target, {**target.options, **(self.client.transport_options or {})}

    def establish_connection(self) -> Transport:
        """Connect, check the server and the schema, and set the schema up if that is allowed."""
        target, given = self._given()
        self.options = Options.parse(given)
        self._bell = Bell(self.options.schema)
        # kombu's is never absent, so it cannot be told from a wish: ours, where it is given, wins.
        patience = None if "connect_timeout" in given else self.client.connect_timeout
        self._database = Database(target, self.options, connect_timeout=patience)
        self._sessions = for_sessions(self._database)
        session, server = self._database.open_set_up()
        self._leave_what_is_over()
        if self._commands is not None:  # kombu connects again where `verify_connection` says no
            self._reopening.abandon()
            self._commands.close()
        self._server = server
        self._commands = Commands(session, server, self._bell, self.options)
        self._reopening = Reopening(self._database.open, lambda opened: opened[0].close())
        return self

    def _leave_what_is_over(self) -> None:
        """kombu connects this transport again where it is not `connected`, and then it should be.

        Consumers that nobody has cancelled hear by their next `drain_events` that they are gone.
        """
        inherited = os.getpid() != self._pid
        intake, maintenance = self._intake, self._maintenance
        if inherited:
            self._hub = self._loop = None  # the parent's, also what the kernel knows of them
        elif intake is None or intake.session.over is None or intake.queue_ids:
            return
        else:
            self._detach()
            if maintenance is not None:
                maintenance.stop()
            intake.close()
        self._intake = self._maintenance = None
        self._pid = os.getpid()

    @property
    def place(self) -> tuple[object, ...] | None:
        """See `Database.place`."""
        return None if self._database is None else self._database.place

    @property
    def commands(self) -> Commands:
        """Raises DatabaseUnavailable where the session is lost and cannot be replaced just now."""
        commands = self._commands
        if commands is None:
            raise DatabaseUnavailable("the connection is closed")
        if self._replaces_commands() and not commands.session.alive() and commands.session.broken:
            commands.resume(*self._reopening.get())
        return commands

    def _replaces_commands(self) -> bool:
        """Celery's worker would begin anew if an event or an answer of its own could not be published.

        Whoever else publishes is told, and kombu connects again.
        """
        if self.closing or os.getpid() != self._pid:
            return False
        return self._intake is not None or worker.is_worker()

    @property
    def topology(self) -> Topology:
        return self.commands.topology

    @property
    def intake(self) -> Intake:
        """Opened by the first consumer: a process that only publishes has one session."""
        if self._intake is None:
            if self._sessions is None or self.closing:
                raise DatabaseUnavailable("the connection is closed")
            patience = self.options.patience(alternatives=bool(self.client.alt and len(self.client.alt) > 1))
            self._intake = Intake(
                self._sessions.open,
                self._bell,
                self.options,
                worker.role(),
                max_outage=patience,
                at_work=worker.is_at_work,
            )
            self._attach()
        return self._intake

    def maintain(self) -> None:
        """Take part in the maintenance: whoever consumes with acknowledgements does, monitors do not."""
        if self._maintenance is None and self._sessions is not None:
            intake = self.intake
            self._maintenance = Maintenance(
                self._sessions,
                self._bell,
                intake.incarnation,
                on_declared_dead=intake.give_up,
                beat_aside=lambda call: intake.session.send([call]),
                consumed=intake.consumed,
                on_deleted=intake.lose_queues,
            )
            self._maintenance.start()

    @property
    def patience(self) -> float | None:
        """How long a publish may take here, in seconds; None: as the options say.

        A worker answers commands inside its loop, and over the connection that consumes.
        """
        return worker.PATIENCE if self._intake is not None and worker.is_worker() else None

    @property
    def holder(self) -> UUID | None:
        """Who owns this connection's exclusive queues; None as long as it has not consumed."""
        return self._intake.incarnation.id if self._intake is not None else None

    @property
    def usable(self) -> bool:
        return self._intake is not None and self._intake.session.over is None

    @property
    def connected(self) -> bool:
        return self.verify_connection(self)

    def verify_connection(self, connection: Transport) -> bool:
        """kombu asks before every publish: looks at the sockets, never at the server."""
        commands, intake = connection._commands, connection._intake
        if commands is None or connection.closing or os.getpid() != connection._pid:
            return False
        if intake is not None:  # it rides out what it can, and `commands` connects again by itself
            return intake.session.over is None
        return commands.session.alive()

    def create_channel(self, connection: Transport) -> _Channel:
        # Not `self`: kombu evaluates `transport` first, and a failover in `connection` makes a new one.
        if connection._commands is None:
            raise DatabaseUnavailable("the connection is closed")
        channel = connection.Channel(connection)
        connection.channels.append(channel)
        return channel

    def next_channel_id(self) -> int:
        return next(self._ids)

    def channel_closed(self, channel: _Channel) -> None:
        if channel in self.channels:
            self.channels.remove(channel)

    def close_channel(self, channel: _Channel) -> None:
        channel.close()

    def close_connection(self, connection: Transport) -> None:
        """Close channels and sessions; what was claimed and not settled is ready again when this returns."""
        connection.closing = True
        try:
            for channel in list(connection.channels):
                channel.close()
        finally:
            connection.drop()

    def _collect(self, connection: Transport | None) -> None:
        """kombu's way to forget a connection that is lost or was inherited through fork."""
        if connection is not None:
            connection.closing = True
            connection.drop()

    def drop(self) -> None:
        if os.getpid() != self._pid:  # inherited through fork: sessions and threads are the parent's
            return
        self._detach()
        if self._maintenance is not None:
            self._maintenance.stop()
        if self._intake is not None:
            self._intake.close()
        if self._commands is not None:
            self._reopening.abandon()
            self._commands.close()
        self.channels.clear()

    # -- waiting: without an event loop --------------------------------------------------------------

    def drain_events(self, connection: Transport, timeout: float | None = None) -> None:
        """Deliver what has arrived, at least one message; blocks for it.

        Raises `socket.timeout` when none arrives within `timeout` seconds; None waits for ever.
        """
        intake = connection._intake
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            if intake is not None:
                intake.pump()
                intake.poll()
                intake.turn()
                if intake.deliver_arrived():
                    return
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise TimeoutError("timed out")
            if intake is None:
                time.sleep(1.0 if left is None else min(1.0, left))
                continue
            pause = intake.seconds_to_poll()
            with intake.session.waiting():
                if not intake.has_arrived:
                    intake.session.wait_readable(pause if left is None else min(pause, left))

    # -- waiting: in kombu's event loop --------------------------------------------------------------

    def register_with_event_loop(self, connection: Transport, loop: Any) -> None:
        self._hub = loop
        self._attach()

    def unregister_from_event_loop(self, connection: Transport, loop: Any) -> None:
        self._detach()
        self._hub = None

    def _attach(self) -> None:
        if self._hub is not None and self._intake is not None and self._loop is None:
            self._loop = EventLoop(self._hub, self._intake)

    def _detach(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.detach()

    @property
    def in_event_loop(self) -> bool:
        """Whether a loop sends what is settled, so that nobody has to block for it."""
        return self._loop is not None

    def consuming(self) -> None:
        """A consumer was added: outside an event loop its claim leaves with the next drain."""
        self.progress()

    def progress(self) -> None:
        """Something was settled or asked for: it is sent now, or when what is under way has returned."""
        intake = self._intake
        if intake is None or self.closing:
            return
        if self._loop is not None:
            self._loop.tick()
        else:
            intake.session.pump_for_others()
            intake.turn()
        intake.pace()

    # -- what kombu and Celery ask -------------------------------------------------------------------

    def driver_version(self) -> str:
        return DRIVER_VERSION

    def as_uri(self, uri: str, include_password: bool = False, mask: str = "**") -> str:
        prefix = getattr(self.client, "uri_prefix", None)
        full = f"{prefix}+{uri}" if prefix and "://" in uri else uri
        return full if include_password else dsn_module.mask(full, mask)

    @property
    def default_connection_params(self) -> dict[str, Any]:
        return {"hostname": "localhost", "port": self.default_port}


def _dsn(client: Any) -> Dsn:
    """kombu hands over the whole URL, or, after a failover, its parts."""
    if client.ssl:
        raise ConfigurationError(
            "broker_use_ssl is for other transports: put sslmode=verify-full&sslrootcert=… into broker_url"
        )
    if client.hostname and "://" in client.hostname:
        return dsn_module.parse(client.hostname)
    return dsn_module.assemble(
        hostname=client.hostname,
        userid=client.userid,
        password=client.password,
        virtual_host=client.virtual_host,
        port=client.port,
        extra={},
    )
