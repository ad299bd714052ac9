"""Under which system account the server runs.

PostgreSQL refuses to run as root. Then it runs as `nobody`: no account is made for it, and no permission of a
folder that is not ours is changed. What `nobody` cannot reach is copied (programs) or refused (data).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from celery_postgres.errors import ConfigurationError

UNPRIVILEGED = "nobody"
NOT_COPIED = ("*.a", "pgxs", "pkgconfig", "doc", "man")


@dataclass(frozen=True)
class Account:
    """The account of the server's processes; `switched` when it differs from our own."""

    name: str
    uid: int
    gid: int
    switched: bool

    @property
    def switch(self) -> dict[str, Any]:
        """The arguments with which `subprocess` starts a program under this account."""
        return {"user": self.uid, "group": self.gid, "extra_groups": []} if self.switched else {}

    def own(self, path: Path) -> None:
        if self.switched:
            os.chown(path, self.uid, self.gid)

    def reaches(self, folder: Path) -> bool:
        """Whether a process of this account can enter the folder, asked by entering it."""
        return self._runs(["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)])

    def executes(self, bindir: Path) -> bool:
        return self._runs([str(bindir / "postgres"), "--version"])

    def _runs(self, command: list[str]) -> bool:
        try:
            done = subprocess.run(command, capture_output=True, cwd="/", check=False, **self.switch)
        except OSError:
            return False  # no right to switch, or none to execute
        return done.returncode == 0


def server_account() -> Account:
    """Ourselves, or `nobody` for root. Raises ConfigurationError when neither can work."""
    uid = os.geteuid()
    if uid != 0:
        try:
            return Account(pwd.getpwuid(uid).pw_name, uid, os.getegid(), switched=False)
        except KeyError:
            raise ConfigurationError(
                f"user id {uid} has no entry in /etc/passwd, and PostgreSQL does not start without one: "
                "add an entry, or set DATABASE_URL to a server that runs"
            ) from None
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and there is no user {UNPRIVILEGED} to run it: "
            "start as another user, or set DATABASE_URL to a server that runs"
        ) from None
    account = Account(entry.pw_name, entry.pw_uid, entry.pw_gid, switched=True)
    if not account.reaches(Path("/")):
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and this process may not start it as {UNPRIVILEGED}: "
            "start as another user, or set DATABASE_URL to a server that runs"
        )
    return account


def make_scratch(account: Account) -> Path:
    """A temporary folder that the account can enter and only we can change."""
    for parent in (None, Path("/tmp"), Path("/var/tmp")):  # noqa: S108
        scratch = Path(tempfile.mkdtemp(prefix="celery-postgres-", dir=parent))
        if not account.switched:
            return scratch
        scratch.chmod(0o755)
        if account.reaches(scratch):
            return scratch
        scratch.rmdir()
    raise ConfigurationError(
        f"the user {account.name} cannot enter any temporary folder: set TMPDIR to one that it can enter"
    )


def reachable_bindir(bindir: Path, account: Account, scratch: Path) -> Path:
    """The folder of the same programs from which the account can run them, a copy if need be."""
    if account.executes(bindir):
        return bindir
    source = bindir.parent
    target = scratch / "programs" / source.parent.name / source.name
    copy = f"{bindir} is closed to the user {account.name}"
    if not (source / "share").is_dir():
        raise ConfigurationError(f"{copy}: set PG_BINDIR to programs open to it, or start as another user")
    for part in ("bin", "lib", "share"):
        shutil.copytree(source / part, target / part, ignore=shutil.ignore_patterns(*NOT_COPIED))
    # A repaired wheel keeps libpq in a folder beside its package and finds it by a relative path.
    libraries = source.parent.with_name(source.parent.name + ".libs")
    if libraries.is_dir():
        shutil.copytree(libraries, scratch / "programs" / libraries.name)
    for path in (scratch / "programs", *(scratch / "programs").rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    if not account.executes(target / "bin"):
        raise ConfigurationError(
            f"{copy}, and their copy in {scratch} does not run either: "
            "set TMPDIR to a folder on a file system that allows execution"
        )
    return target / "bin"
