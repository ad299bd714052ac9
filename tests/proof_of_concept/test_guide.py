"""The guide is executed from its first command to its last; what it prints is what the guide shows.

The parts that take longest belong to the long tests. `UPDATE_GUIDE=1` with `--long` writes the outputs and
the times of a run into the guide.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import psycopg
import pytest
from celery.app.defaults import NAMESPACES

from celery_postgres.options import option_names
from tests.docs.documents import ROOT
from tests.fixtures.database import new_database
from tests.fixtures.redis_server import CUT_OVER, found_redis_url, redis_url

from .guide import GUIDE, Step, masked, steps, table, write

if TYPE_CHECKING:
    from collections.abc import Iterator

UPDATE = bool(os.environ.get("UPDATE_GUIDE"))


@dataclass
class Walk:
    """A walk through the guide, and what each step printed and took."""

    url: str
    limited_url: str
    folder: Path
    printed: dict[str, str] = field(default_factory=dict)
    codes: dict[str, int] = field(default_factory=dict)
    taken: list[tuple[str, float]] = field(default_factory=list)

    def go(self, step: Step) -> None:
        begin = time.monotonic()
        key = str(step.block)
        self.printed[key], self.codes[key] = (
            self._query(step.block.text) if step.block.language == "sql" else self._shell(step.block.text)
        )
        if step.name:
            self.taken.append((step.name, time.monotonic() - begin))

    def _query(self, query: str) -> tuple[str, int]:
        with psycopg.connect(self.url) as database:
            cursor = database.execute(query.encode())
            return table([column.name for column in cursor.description or ()], cursor.fetchall()), 0

    def _shell(self, command: str) -> tuple[str, int]:
        environment = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        done = subprocess.run(
            ["bash", "-uo", "pipefail", "-c", command],
            cwd=ROOT,
            env={
                **environment,
                "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
                "PYTHONPATH": "examples",
                "PYTHONUNBUFFERED": "1",
                "DATABASE_URL": self.url,
                "LIMITED_URL": self.limited_url,
                "REDIS_URL": found_redis_url(CUT_OVER) or "",
                "TMPDIR": str(self.folder),
                "NO_COLOR": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout), done.returncode


@pytest.fixture(scope="module")
def walk(
    server: str, tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config
) -> Iterator[Walk]:
    whole = pytestconfig.getoption("--long")
    with new_database(server) as url, psycopg.connect(server, autocommit=True) as admin:
        admin.execute("CREATE ROLE limited LOGIN PASSWORD 'limited'")
        parts = urlsplit(url)
        limited = parts._replace(netloc=f"limited:limited@{parts.hostname}:{parts.port or 5432}").geturl()
        walk = Walk(url, limited, tmp_path_factory.mktemp("guide"))
        try:
            for step in steps():
                if (whole or not step.long) and (not step.redis or found_redis_url(CUT_OVER) is not None):
                    walk.go(step)
            yield walk
        finally:
            admin.execute("DROP ROLE limited")
    if UPDATE and whole:
        write(
            {step.printed.line: walk.printed[str(step.block)] for step in steps() if step.printed},
            walk.taken,
        )


@pytest.mark.parametrize(
    "step",
    [pytest.param(step, id=str(step), marks=[pytest.mark.long] if step.long else []) for step in steps()],
)
def test_step(step: Step, walk: Walk) -> None:
    """It ends as the guide says, and prints what the guide shows."""
    if str(step.block) not in walk.printed:
        pytest.skip("not run: redis-server is not installed")
    printed = walk.printed[str(step.block)]
    assert walk.codes[str(step.block)] == step.code, printed
    if not UPDATE:
        assert step.printed is not None
        assert masked(printed) == masked(step.printed.text)


def test_times(walk: Walk) -> None:
    """The table names every part, and no part takes ten times as long as it says."""
    if UPDATE:
        pytest.skip("they are being written")
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d.]+) \|$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE))
    for name, seconds in walk.taken:
        assert seconds < 10 * float(rows[name]) + 5, name


def test_nothing_is_left(walk: Walk) -> None:
    """After the last step the database has what the application made, and nothing of the proof."""
    with psycopg.connect(walk.url) as database:
        rows = database.execute("SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname !~ '^pg_'")
        assert {name for (name,) in rows} == {"app", "information_schema"}


@pytest.mark.long
@pytest.mark.usefixtures("walk")
def test_old_broker_is_left_as_it_was() -> None:
    """The queue of the cut-over is gone from Redis, with its bindings."""
    import redis

    with redis.Redis.from_url(redis_url(CUT_OVER)) as client:
        assert list(client.scan_iter("*cutover-*")) == []


def test_new_files_only() -> None:
    """The application does not know the proof, nor Celery outside its two files for it."""
    for file in (ROOT / "examples" / "evaluation").rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "proof_of_concept" not in text
        if file.name not in ("app.py", "tasks.py"):
            assert not re.search(r"^\s*(from|import) (celery|kombu)\b", text, re.MULTILINE), file


def test_the_folder_can_be_deleted() -> None:
    """Nothing imports it."""
    for folder in ("src", "examples/evaluation", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            assert "proof_of_concept" not in file.read_text(encoding="utf-8"), file


def test_extras() -> None:
    """Those that the guide installs are there."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    named = re.findall(r"\.\[([a-z,-]+)\]", GUIDE.read_text(encoding="utf-8"))
    assert named
    for extra in {extra for names in named for extra in names.split(",")} | {"examples-llm"}:
        assert f"\n{extra} = [" in project


def test_names_of_options() -> None:
    """What the table calls a setting, an attribute or an option is one."""
    settings = {
        f"{section}_{name}"
        for section, options in NAMESPACES.items()
        if isinstance(options, dict)
        for name in options
    } | set(NAMESPACES)
    from celery import Task, signals

    known = settings | set(dir(Task)) | set(dir(signals)) | option_names()
    known |= {"eta", "countdown", "expires", "priority", "retry_backoff", "retry_backoff_max", "retry_jitter"}
    text = GUIDE.read_text(encoding="utf-8")
    rows = text.partition("## What the options are called")[2].partition("## Taking")[0]
    for row in re.findall(r"^\| [^|]+ \| ([^|]+) \|$", rows, re.MULTILINE)[1:]:
        for name in re.findall(r"`([a-z_]+)`", row):
            assert name in known, name
