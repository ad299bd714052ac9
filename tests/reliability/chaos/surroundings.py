"""What a run may have around it where the machine allows: a standby, a small disk, a network of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from celery_postgres.embedded import EmbeddedPostgres
from tests.fixtures.standby import NAME, Standby, confirm_by, execute, url_of_both
from tests.fixtures.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery_postgres.embedded.home import Home
    from celery_postgres.embedded.keeper import Keeper

SETTINGS = {"max_connections": "100", "fsync": "off", "full_page_writes": "off"}
OPTIONS = "max_deliveries=8"
DISK = "512m"
FULL_STEP = 1024 * 1024

_networks = itertools.count(1)


@dataclass
class Servers:
    """The server that is used now, and whatever stands behind it."""

    primary: EmbeddedPostgres
    standby: Standby | None = None
    disk: Path | None = None
    network: Network | None = None
    database: str = "postgres"
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def url(self) -> str:
        """Where to find whoever is primary, from this machine's own network."""
        url = self.primary.url if self.standby is None else url_of_both(self.primary, self.standby)
        return urlsplit(url)._replace(path=f"/{self.database}", query=OPTIONS).geturl()

    @property
    def admin_url(self) -> str:
        """The primary alone, without options of ours."""
        return urlsplit(self.primary.url)._replace(path=f"/{self.database}").geturl()

    @property
    def password(self) -> str:
        return urlsplit(self.primary.url).password or ""

    def promote(self, mode: str) -> None:
        """The primary ends, its standby takes its place, and gets a standby at the old one's port."""
        old, new = self.primary, self.standby
        assert new is not None
        old.halt(mode)  # type: ignore[arg-type]
        new.promote()
        confirm_by(new, "")
        port = old.port
        old.stop()
        self.primary = new
        self.standby = self._stack.enter_context(Follower(new, port))
        self._confirm()

    def _confirm(self) -> None:
        eventually(
            lambda: execute(self.primary.url, "SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"),
            what="the standby streams",
        )
        confirm_by(self.primary, NAME)

    def fill_disk(self) -> Path:
        """Until nothing more can be written; remove the file to heal it."""
        assert self.disk is not None
        ballast = self.disk / "ballast"
        with ballast.open("wb", buffering=0) as file:
            try:
                while file.write(bytes(FULL_STEP)):
                    pass
            except OSError:
                pass  # it is full
        return ballast


class Follower(Standby):
    """A standby at a given port, which looks often whether its primary is back."""

    def __init__(self, primary: EmbeddedPostgres, port: int | None = None) -> None:
        super().__init__(primary)
        self._settings.update(SETTINGS, max_connections="200", wal_retrieve_retry_interval="200ms")
        if "listen_addresses" in primary._settings:  # also where a network was laid to it meanwhile
            self._settings["listen_addresses"] = primary._settings["listen_addresses"]
        self._wanted_port = port

    def _make_data(self, keeper: Keeper, home: Home, scratch: Path) -> None:
        super()._make_data(keeper, home, scratch)
        home.identity.port = self._wanted_port


@contextmanager
def with_standby() -> Iterator[Servers]:
    """A primary whose commits wait for a streaming standby."""
    with ExitStack() as stack:
        primary = stack.enter_context(EmbeddedPostgres(settings=SETTINGS))
        servers = Servers(primary, stack.enter_context(Follower(primary)), _stack=stack)
        servers._confirm()
        yield servers


@contextmanager
def with_small_disk() -> Iterator[Servers]:
    """One server; where root may mount it, its tables lie on a disk that can be filled."""
    with ExitStack() as stack:
        servers = Servers(stack.enter_context(EmbeddedPostgres(settings=SETTINGS)), _stack=stack)
        folder = Path(tempfile.mkdtemp(prefix="small-disk-", dir="/tmp"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK},mode=0777", "tmpfs", str(folder)]
        if os.geteuid() == 0 and not subprocess.run(command, capture_output=True, check=False).returncode:
            stack.callback(subprocess.run, ["umount", "-l", str(folder)], check=True)
            stack.callback(servers.primary.stop)
            _use_disk(servers, folder)
        yield servers


def _use_disk(servers: Servers, folder: Path) -> None:
    space = folder / "space"
    space.mkdir()
    owner = servers.primary.data_path.stat()
    os.chown(space, owner.st_uid, owner.st_gid)
    space.chmod(0o700)
    execute(
        servers.primary.url,
        f"CREATE TABLESPACE small LOCATION '{space}'",
        "CREATE DATABASE chaos TEMPLATE template0 ENCODING 'UTF8'",
        "ALTER DATABASE chaos SET default_tablespace = 'small'",
    )
    servers.disk, servers.database = folder, "chaos"


# -- a network that can be parted ------------------------------------------------------------------------


@dataclass
class Network:
    """A namespace with one cable to this machine; `run` begins a command that lives at its far end."""

    name: str
    cable: str
    near: str

    @property
    def run(self) -> list[str]:
        return ["ip", "netns", "exec", self.name]

    def url(self, url: str) -> str:
        """The same server, seen from the far end."""
        return url.replace("127.0.0.1", self.near)

    def part(self) -> None:
        _ip("link", "set", self.cable, "down")

    def join(self) -> None:
        _ip("link", "set", self.cable, "up")
        self.disturb()

    def disturb(self, *how: str) -> bool:
        """Loss and delay on the way back; nothing for none. False where the machine cannot."""
        subprocess.run(["tc", "qdisc", "del", "dev", self.cable, "root"], capture_output=True, check=False)
        command = ["tc", "qdisc", "add", "dev", self.cable, "root", "netem", *how]
        return bool(how) and not subprocess.run(command, capture_output=True, check=False).returncode


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@contextmanager
def network(servers: Servers) -> Iterator[Network | None]:
    """None where only root may make one, or `ip` is not there. The servers listen to it from now on."""
    number = next(_networks)
    name = f"chaos-{os.getpid()}-{number}"
    cable, far_end = f"ch{os.getpid()}n{number}"[:15], f"cf{os.getpid()}n{number}"[:15]
    subnet = f"10.213.{os.getpid() % 250}"
    made = Network(name, cable, f"{subnet}.1")
    if os.geteuid() != 0 or shutil.which("ip") is None:
        yield None
        return
    try:
        _ip("netns", "add", name)
    except subprocess.CalledProcessError:
        yield None
        return
    try:
        _ip("link", "add", cable, "type", "veth", "peer", "name", far_end, "netns", name)
        _ip("addr", "add", f"{subnet}.1/24", "dev", cable)
        _ip("link", "set", cable, "up")
        for words in (f"addr add {subnet}.2/24 dev {far_end}", f"link set {far_end} up", "link set lo up"):
            _ip("-n", name, *words.split())
        _listen(servers, made)
        servers.network = made
        yield made
    finally:
        _ip("netns", "del", name)


def _listen(servers: Servers, network: Network) -> None:
    for server in filter(None, (servers.primary, servers.standby)):
        with (server.data_path / "pg_hba.conf").open("a") as file:
            file.write(f"\nhost all all {network.near}/24 scram-sha-256\n")
        server._settings["listen_addresses"] = f"127.0.0.1,{network.near}"
        server.restart()
