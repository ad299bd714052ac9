"""TLS reaches libpq as it stands in the URL, and a password that nobody protects is warned of."""

from __future__ import annotations

import shutil
import socket
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import psycopg
import pytest
from kombu import Connection

from celery_postgres import exposure
from celery_postgres.embedded import EmbeddedPostgres, find_bindir
from celery_postgres.embedded.account import make_scratch, server_account
from celery_postgres.errors import ConfigurationError, DatabaseUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """[req]
distinguished_name = name
prompt = no
[name]
CN = {name}
[authority]
basicConstraints = critical, CA:TRUE
[server]
subjectAltName = {names}
[client]
"""


@dataclass(frozen=True)
class Authority:
    """Certificates of our own, in a folder that the server's account can enter."""

    folder: Path

    @property
    def certificate(self) -> Path:
        return self.folder / "ca.crt"

    def create(self) -> None:
        self._openssl("req", "-new", "-x509", "-days", "2", *self._new_key("ca"), "-extensions", "authority")

    def sign(self, kind: str, name: str, names: str = "DNS:none") -> tuple[Path, Path]:
        """The certificate and the key of a server or a client."""
        self._openssl("req", "-new", *self._new_key(kind, name, names, suffix="csr"))
        self._openssl(
            *("x509", "-req", "-days", "2", "-in", f"{kind}.csr", "-out", f"{kind}.crt"),
            *("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-extfile", f"{kind}.cnf", "-extensions", kind),
        )
        key = self.folder / f"{kind}.key"
        key.chmod(0o600)
        return self.folder / f"{kind}.crt", key

    def _new_key(
        self, kind: str, name: str = "authority", names: str = "DNS:none", suffix: str = "crt"
    ) -> list[str]:
        (self.folder / f"{kind}.cnf").write_text(CONFIG.format(name=name, names=names))
        words = f"-nodes -newkey rsa:2048 -config {kind}.cnf -keyout {kind}.key -out {kind}.{suffix}"
        return words.split()

    def _openssl(self, *arguments: str) -> None:
        program = shutil.which("openssl")
        if program is None:
            pytest.skip("not run: openssl is not installed")
        done = subprocess.run(
            [program, *arguments], cwd=self.folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class Secure:
    """A server with TLS, and what its clients need."""

    url: str
    authority: Authority
    certificate: Path
    key: Path

    def to(self, host: str = "127.0.0.1", **parameters: object) -> str:
        query = "&".join(f"{name}={quote(str(value))}" for name, value in parameters.items())
        parts = urlsplit(self.url)
        userinfo = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{userinfo}@{host}:{parts.port}", query=query).geturl()


def own_address() -> str | None:
    """An address of this machine that is not its loopback; None where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, suppress(OSError):
        probe.connect(("192.0.2.254", 9))  # which sends nothing
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address
    return None


@pytest.fixture(scope="module")
def secure() -> Iterator[Secure]:
    """Skips where no PostgreSQL is at hand that was built with TLS."""
    account = server_account()
    folder = make_scratch(account)
    try:
        authority = Authority(folder)
        authority.create()
        names = ["DNS:localhost", "IP:127.0.0.1", *([f"IP:{own_address()}"] if own_address() else [])]
        server_certificate, server_key = authority.sign("server", "server", ",".join(names))
        account.own(server_key)
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(server_certificate),
            "ssl_key_file": str(server_key),
            "ssl_ca_file": str(authority.certificate),
            "listen_addresses": "*",
            "fsync": "off",
        }
        certificate, key = authority.sign("client", "asks")
        for server in servers(settings):
            lines = (
                "hostssl all strict all scram-sha-256 clientcert=verify-ca\nhost all all all scram-sha-256\n"
            )
            (server.data_path / "pg_hba.conf").write_text(lines)
            with psycopg.connect(server.url, autocommit=True) as admin:
                admin.execute("CREATE ROLE strict LOGIN SUPERUSER PASSWORD 'strict'")
                admin.execute("SELECT pg_reload_conf()")
            yield Secure(server.url, authority, certificate, key)
    finally:
        shutil.rmtree(folder)


def servers(settings: dict[str, str]) -> Iterator[EmbeddedPostgres]:
    """The one that starts with TLS, among those that are installed."""
    for major in (None, 18, 17, 16, 15, 14, 13):
        with suppress(ConfigurationError):
            server = EmbeddedPostgres(settings=settings, bindir=find_bindir(major))
            try:
                server.start()
            except DatabaseUnavailable:  # built without TLS
                continue
            try:
                yield server
            finally:
                server.stop()
            return
    pytest.skip("not run: no PostgreSQL with TLS is installed")


def connect(url: str) -> None:
    with Connection(url) as connection:
        connection.connect()


def exposed(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [message for message in caplog.messages if "crosses the network" in message]


def test_verified_server(secure: Secure) -> None:
    """verify-full with the authority's certificate; the connection is encrypted."""
    url = secure.to(sslmode="verify-full", sslrootcert=secure.authority.certificate)
    connect(url)
    with psycopg.connect(url) as session:
        assert session.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone() == (
            True,
        )


def test_channel_binding(secure: Secure) -> None:
    """It reaches libpq: over an unencrypted connection it is refused."""
    connect(secure.to(sslmode="require", channel_binding="require"))
    with pytest.raises(DatabaseUnavailable, match="channel binding"):
        connect(secure.to(sslmode="disable", channel_binding="require"))


def test_other_authority(secure: Secure, tmp_path: Path) -> None:
    """A server that the given authority has not certified is refused, with what to do."""
    other = Authority(tmp_path)
    other.create()
    url = secure.to(sslmode="verify-full", sslrootcert=other.certificate)
    with pytest.raises(ConfigurationError, match=r"certificate verify failed.*correct sslmode, sslrootcert"):
        connect(url)


def test_authority_of_the_system(secure: Secure) -> None:
    """`sslrootcert=system` reaches libpq, where it knows that: the system has not heard of ours."""
    if psycopg.pq.version() < 160000:
        pytest.skip("not run: this libpq does not know the authorities of the system")
    with pytest.raises(ConfigurationError, match="correct sslmode, sslrootcert"):
        connect(secure.to(sslmode="verify-full", sslrootcert="system"))


def test_missing_file_of_the_authority(secure: Secure, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="correct sslmode, sslrootcert"):
        connect(secure.to(sslmode="verify-full", sslrootcert=tmp_path / "nowhere.crt"))


def test_client_certificate(secure: Secure) -> None:
    """`sslcert` and `sslkey` reach libpq: a role that must show one is refused without."""
    parts = urlsplit(secure.to(sslmode="verify-full", sslrootcert=secure.authority.certificate))
    url = parts._replace(netloc=f"strict:strict@127.0.0.1:{parts.port}").geturl()
    with pytest.raises((ConfigurationError, DatabaseUnavailable), match="certificate"):
        connect(url)
    connect(f"{url}&sslcert={quote(str(secure.certificate))}&sslkey={quote(str(secure.key))}")


def test_server_without_tls(secure: Secure, database_url: str) -> None:
    """Asked for encryption, a server that has none is refused; nothing falls back."""
    with psycopg.connect(database_url) as session:
        if session.execute("SHOW ssl").fetchone() == ("on",):
            pytest.skip("not run: the server of this run has TLS")
    with pytest.raises(ConfigurationError, match=r"does not support SSL.*correct sslmode"):
        connect(f"{database_url}?sslmode=require")


@pytest.mark.parametrize("mode", ["prefer", "require", "verify-ca", "disable"])
def test_exposed_password(secure: Secure, caplog: pytest.LogCaptureFixture, mode: str) -> None:
    """Once for each process, with the remedy, where nobody verifies who takes the password."""
    exposure._told.clear()
    host = own_address()
    if host is None:
        pytest.skip("not run: this machine has no address but its loopback")
    more = {"sslrootcert": secure.authority.certificate} if mode == "verify-ca" else {}
    for _ in range(2):
        connect(secure.to(host, sslmode=mode, **more))
    assert len(exposed(caplog)) == 1
    assert f"crosses the network to {host}" in exposed(caplog)[0]
    assert f"(sslmode={mode}): add sslmode=verify-full" in exposed(caplog)[0]


def test_protected_password(secure: Secure, caplog: pytest.LogCaptureFixture) -> None:
    """Not where the server is verified, nor where it never leaves the machine, nor without a password."""
    exposure._told.clear()
    connect(secure.to("127.0.0.1"))
    connect(secure.to("localhost", sslmode="disable"))
    host = own_address()
    if host is not None:
        connect(secure.to(host, sslmode="verify-full", sslrootcert=secure.authority.certificate))
        connect(secure.to(host, sslmode="require", channel_binding="require"))
    assert exposed(caplog) == []
