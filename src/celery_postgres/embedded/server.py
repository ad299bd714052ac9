"""EmbeddedPostgres: one private server and its life."""

from __future__ import annotations

import atexit
import os
import random
import shutil
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from celery_postgres.errors import ConfigurationError, DatabaseUnavailable

from .account import make_scratch, reachable_bindir, server_account
from .binaries import find_bindir, major_version, server_version
from .home import Home
from .keeper import Keeper

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from typing_extensions import Self

Mode = Literal["smart", "fast", "immediate", "kill"]
SIGNALS = {
    "smart": signal.SIGTERM,  # waits for the clients to leave
    "fast": signal.SIGINT,  # ends their sessions
    "immediate": signal.SIGQUIT,  # without a checkpoint: the next start recovers
    "kill": signal.SIGKILL,  # every process at once, without a word to the clients
}
# Below the range from which the kernel takes the ports of outgoing connections: a client that retries while
# the server is down could otherwise be given the server's port, and even connect to itself.
PORTS = range(20_000, 32_000)
PORT_ATTEMPTS = 20
PORT_TAKEN = "Address already in use"
INITDB_S = 120
START_S = 60
HALT_S = 60
LOG_TAIL = 2_000
NOT_STARTED = "the private server was never started: call start() first"


class EmbeddedPostgres:
    """A PostgreSQL server of this process's own, reached at `url` as the superuser `postgres`.

    Without `directory` its data is temporary. With one, data and password stay there between starts, and the
    port too if it is free. `settings` are server settings by name; they win over ALTER SYSTEM. `bindir` is
    the folder of initdb and postgres, by default what `find_bindir` finds for the version of the data.

    The server ends with `stop`, with the `with` block, or with the process that started it, however that
    ends; a forked child neither stops it nor holds it up. The methods block and are not thread-safe. They
    raise ConfigurationError when the server cannot work here, DatabaseUnavailable when it failed.
    """

    def __init__(
        self,
        directory: Path | str | None = None,
        settings: Mapping[str, str] | None = None,
        bindir: Path | str | None = None,
    ) -> None:
        self.directory = None if directory is None else Path(directory).expanduser().absolute()
        self._settings = dict(settings or {})
        self._wanted_bindir = None if bindir is None else Path(bindir).absolute()
        self._owner = os.getpid()
        self._keeper: Keeper | None = None
        self._home: Home | None = None
        self._bindir: Path | None = None
        self._running = False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{self._taken.identity.password}@127.0.0.1:{self.port}/postgres"

    @property
    def port(self) -> int:
        port = self._taken.identity.port
        if port is None:
            raise ConfigurationError(NOT_STARTED)
        return port

    @property
    def log_path(self) -> Path:
        return self._taken.log

    @property
    def data_path(self) -> Path:
        return self._taken.data

    @property
    def bindir(self) -> Path:
        """The folder of the programs in use; psql and pgbench are there if their package brought them."""
        if self._bindir is None:
            raise ConfigurationError(NOT_STARTED)
        return self._bindir

    @property
    def version(self) -> str:
        return server_version(self.bindir)

    def start(self) -> None:
        """Start the server and wait until it takes connections; after `halt`, on the same port."""
        if self._running:
            raise ConfigurationError("the private server is running: stop() or halt() it before start()")
        self._owner = os.getpid()
        try:
            if self._keeper is None:
                self._start_on_some_port(self._prepare())
            else:
                self._start_on_port(self._keeper, self.port)
        except BaseException:
            self.stop()
            raise

    def halt(self, mode: Mode = "fast") -> None:
        """Stop the server's processes and keep data and port for the next `start`."""
        if self._keeper is None or not self._running:
            raise ConfigurationError("the private server is not running: start() it before halt()")
        self._keeper.signal(SIGNALS[mode])
        if self._keeper.ended(HALT_S) is None:
            raise DatabaseUnavailable(f"the server did not end in {HALT_S} s by {mode!r}: try another mode")
        self._running = False

    def crash(self) -> None:
        """Kill every process of the server at once, as a power failure would; `start` then recovers."""
        self.halt("kill")

    def restart(self, mode: Mode = "fast") -> None:
        self.halt(mode)
        self.start()

    def wait(self) -> None:
        """Block while the server runs; raises DatabaseUnavailable when it ends by itself."""
        if self._keeper is None or not self._running:
            raise ConfigurationError("the private server is not running: start() it before wait()")
        status = self._keeper.ended(None)
        self._running = False
        raise DatabaseUnavailable(f"the private server ended by itself with {status}: {self._log_tail()}")

    def stop(self) -> None:
        """End the server and remove what is temporary. Does nothing when there is none."""
        if self._keeper is None or os.getpid() != self._owner:
            return
        keeper, self._keeper = self._keeper, None
        self._running = False
        atexit.unregister(self.stop)
        keeper.close()

    @property
    def _taken(self) -> Home:
        if self._home is None:
            raise ConfigurationError(NOT_STARTED)
        return self._home

    def _prepare(self) -> Keeper:
        """Take the folder, have a keeper, know the programs, make the data."""
        account = self._account = server_account()
        scratch = make_scratch(account)
        try:
            home = self._home = Home(self.directory or scratch / "server", account)
            try:
                keeper = self._keeper = Keeper(scratch, home.lock)
            finally:
                os.close(home.lock)  # now the keeper's alone: the folder is free when the server has stopped
        except BaseException:
            shutil.rmtree(scratch)
            raise
        atexit.register(self.stop)
        self._bindir = reachable_bindir(self._fitting_bindir(home), account, scratch)
        if home.major_version is None:
            self._make_data(keeper, home, scratch)
        return keeper

    def _fitting_bindir(self, home: Home) -> Path:
        """The wanted or found programs; existing data decides the version."""
        needed = home.major_version
        if self._wanted_bindir is None:
            try:
                return find_bindir(needed)
            except ConfigurationError as error:
                if needed is None:
                    raise
                raise ConfigurationError(
                    f"the data in {home.folder} was made by PostgreSQL {needed}; {error}, "
                    "or choose another directory"
                ) from error
        found = major_version(self._wanted_bindir)
        if needed not in (None, found):
            raise ConfigurationError(
                f"the data in {home.folder} was made by PostgreSQL {needed}, and {self._wanted_bindir} has "
                f"version {found}: use programs of version {needed}, or choose another directory"
            )
        return self._wanted_bindir

    def _make_data(self, keeper: Keeper, home: Home, scratch: Path) -> None:
        data = home.new_data()
        password = scratch / "password"
        password.touch(0o600)
        password.write_text(home.identity.password)
        self._account.own(password)
        command = [str(self.bindir / "initdb"), "-D", str(data), "-U", "postgres", "-E", "UTF8", "--locale=C"]
        command += ["-A", "scram-sha-256", "--pwfile", str(password)]  # any local user reaches the port
        if self.directory is None:
            command.append("--no-sync")
        log = scratch / "initdb.log"
        keeper.run(command, log, self._account)
        status = keeper.ended(INITDB_S)
        password.unlink()
        if status != 0:
            reason = "did not end in time" if status is None else f"ended with {status}"
            raise DatabaseUnavailable(f"initdb {reason}: {log.read_text(errors='replace').strip()}")
        home.adopt(data)

    def _start_on_some_port(self, keeper: Keeper) -> None:
        """The last port if it is free, else another; again if somebody else was faster."""
        last = self._taken.identity.port
        for port in (*([last] if last else []), *random.sample(PORTS, PORT_ATTEMPTS)):
            if _is_free(port) and self._launch(keeper, port):
                return
        raise DatabaseUnavailable(f"no free port in {PORT_ATTEMPTS} attempts; log: {self._log_tail()}")

    def _start_on_port(self, keeper: Keeper, port: int) -> None:
        deadline = time.monotonic() + START_S
        while not self._launch(keeper, port):
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"another program took port {port} while the server was down")
            time.sleep(0.1)

    def _launch(self, keeper: Keeper, port: int) -> bool:
        """Start the server; False when the port is taken."""
        home = self._taken
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", **self._settings}
        command = [str(self.bindir / "postgres"), "-D", str(home.data), "-p", str(port)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        home.record(port)
        told = home.log.stat().st_size if home.log.exists() else 0
        pid = keeper.run(command, home.log, self._account)
        deadline = time.monotonic() + START_S
        while not _is_ready(home.data, pid):
            status = keeper.ended(0.01)
            if status is not None:
                log = self._log_tail(told)
                # In the C locale, which the keeper sets. To look at the port now would be too late.
                if PORT_TAKEN in log:
                    return False
                raise DatabaseUnavailable(f"the server ended with {status} at its start: {log}")
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"the server was not ready in {START_S} s: {self._log_tail(told)}")
        self._running = True
        return True

    def _log_tail(self, start: int = 0) -> str:
        return self.log_path.read_bytes()[start:].decode(errors="replace")[-LOG_TAIL:].strip()


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the server itself does; else the remains of its own connections would count as taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen()
        except OSError:
            return False
    return True


def _is_ready(data: Path, pid: int) -> bool:
    """PostgreSQL writes its process id and, when it takes connections, "ready" into its pid file."""
    try:
        lines = (data / "postmaster.pid").read_text().split("\n")
    except FileNotFoundError:
        return False
    return lines[0] == str(pid) and len(lines) > 7 and lines[7].strip() == "ready"
