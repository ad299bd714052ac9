"""The folder of one server: what lies in it, and whether it may be used.

    DIRECTORY/
      celery-postgres.json   password, last port, process that owns it now; mode 0600; locked while in use
      server.log
      data/                  PostgreSQL's own; belongs to the account of the server

The JSON file also says that the folder is ours: a folder that holds other things is never touched.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from celery_postgres.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

    from .account import Account

MARK = "celery-postgres.json"
# How long a killed owner's server may take to stop before its folder counts as occupied.
PREDECESSOR_S = 20


@dataclass
class Identity:
    password: str
    port: int | None = None
    owner: int | None = None


class Home:
    """A folder that is ours and locked by `lock`, until every holder of that descriptor has closed it.

    The password of `identity` is made on the first use and kept.
    """

    def __init__(self, folder: Path, account: Account) -> None:
        """Take the folder, making it if need be.

        Raises ConfigurationError when it is not ours, in use by another process, or out of reach.
        """
        self.folder = folder.absolute()
        self._account = account
        try:
            self.lock = self._take()
        except OSError as error:
            raise ConfigurationError(
                f"cannot use the directory {self.folder} ({error.strerror}): choose another one"
            ) from error
        try:
            self.identity = self._recall()
        except BaseException:
            os.close(self.lock)
            raise

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    @property
    def _mark(self) -> Path:
        return self.folder / MARK

    @property
    def major_version(self) -> int | None:
        """The version of the server that made the data; None when there is no data yet."""
        try:
            return int((self.data / "PG_VERSION").read_text())
        except FileNotFoundError:
            return None

    def new_data(self) -> Path:
        """An empty folder for initdb; it becomes `data` only when `adopt` says that initdb succeeded."""
        unfinished = self.folder / "data.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(0o700)
        self._account.own(unfinished)
        return unfinished

    def adopt(self, finished: Path) -> None:
        finished.rename(self.data)

    def record(self, port: int) -> None:
        self.identity.port = port
        self._write(self.identity)

    def _take(self) -> int:
        for folder in reversed((self.folder, *self.folder.parents)):
            if not folder.exists():
                folder.mkdir(0o700)
                if self._account.switched:
                    folder.chmod(0o755)  # the account must pass through; what is private has its own mode
        if not self._mark.exists() and any(self.folder.iterdir()):
            raise ConfigurationError(
                f"the directory {self.folder} is not empty and was not made for a private server: "
                "choose an empty or a new one"
            )
        if self._account.switched and not self._account.reaches(self.folder):
            raise ConfigurationError(
                f"PostgreSQL does not run as root but as {self._account.name}, who cannot enter "
                f"{self.folder}: choose a directory that every user can enter, or start as another user"
            )
        lock = os.open(self._mark, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if os.fstat(lock).st_uid != os.geteuid():
                raise ConfigurationError(
                    f"the server in {self.folder} was made by another user: start it as that user, "
                    "or choose another directory"
                )
            self._wait_for(lock)
        except BaseException:
            os.close(lock)
            raise
        return lock

    def _wait_for(self, lock: int) -> None:
        """Lock the mark. Waits only for the server of an owner that is gone, which is about to stop."""
        deadline = time.monotonic() + PREDECESSOR_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                text = os.pread(lock, 4096, 0)
            owner = json.loads(text).get("owner") if text else None
            if (owner is not None and _lives(owner)) or time.monotonic() > deadline:
                raise ConfigurationError(
                    f"a server already runs in {self.folder}, started by process {owner}: "
                    "use its URL, or stop that process, or choose another directory"
                )
            time.sleep(0.05)

    def _recall(self) -> Identity:
        text = self._mark.read_text()
        try:
            identity = Identity(**json.loads(text)) if text else Identity(password=secrets.token_urlsafe(16))
        except (TypeError, ValueError) as error:
            raise ConfigurationError(
                f"{self._mark} is damaged, and with it the password of the data: choose another directory"
            ) from error
        identity.owner = os.getpid()
        self._write(identity)
        return identity

    def _write(self, identity: Identity) -> None:
        # In place, because the lock is on this very file, and in one write, so that no half of it is seen.
        text = json.dumps(asdict(identity)).encode() + b"\n"
        mark = os.open(self._mark, os.O_WRONLY | os.O_NOFOLLOW)
        try:
            os.write(mark, text)
            os.ftruncate(mark, len(text))
        finally:
            os.close(mark)


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
