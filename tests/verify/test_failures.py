"""Each check fails where what it looks at is really broken, says so, and leaves nothing."""

from __future__ import annotations

import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg
import pytest

from celery_postgres import schema
from tests.fixtures.waiting import eventually

from .run import Run, begin, finish, run, start

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.fixtures.process import Process

# What a database can do to our tables: triggers that change or refuse what is written.
BROKEN = """
CREATE FUNCTION celery_verify.flat() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN NEW.priority := 0; RETURN NEW; END';
CREATE TRIGGER flat BEFORE INSERT ON celery_verify.ready
    FOR EACH ROW EXECUTE FUNCTION celery_verify.flat();
CREATE FUNCTION celery_verify.never() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER never BEFORE INSERT ON celery_verify.delayed
    FOR EACH ROW EXECUTE FUNCTION celery_verify.never();
CREATE FUNCTION celery_verify.lost() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN RAISE EXCEPTION ''the results are full''; END';
CREATE TRIGGER lost BEFORE INSERT ON celery_verify.result
    FOR EACH ROW EXECUTE FUNCTION celery_verify.lost();
CREATE FUNCTION celery_verify.gone() RETURNS trigger LANGUAGE plpgsql AS
    'BEGIN IF NEW.deliveries > 0 THEN RETURN NULL; END IF; RETURN NEW; END';
CREATE TRIGGER gone BEFORE INSERT ON celery_verify.ready
    FOR EACH ROW EXECUTE FUNCTION celery_verify.gone();
"""


def leftovers(folder: Path) -> set[str]:
    """What a run left in its temporary folder, but for the report and the logs that it names."""
    return {path.name for path in folder.rglob("*") if path.is_file()} - {"report.json"}


def still_there(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that have not ended; where nobody waits for orphans, one that has ended is a zombie."""
    return [one for one in processes if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module", autouse=True)
def breaking(
    empty_module_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Process, Path]]:
    """A run in a prepared schema whose triggers spoil nearly everything; it waits, beside the others."""
    with psycopg.connect(empty_module_database_url, autocommit=True) as database:
        database.execute(schema.script("celery_verify"))
        database.execute(BROKEN)
    folder = tmp_path_factory.mktemp("verify")
    options = ("--in-schema", "celery_verify", "--timeout", "12")
    process = begin(empty_module_database_url, folder, *options)
    yield process, folder
    process.end()


@pytest.fixture(scope="module")
def broken(breaking: tuple[Process, Path], empty_module_database_url: str) -> Run:
    """That run, when it has ended. It lasts a minute, so the tests of it come last."""
    done = finish(*breaking)
    print(done.text)
    with psycopg.connect(empty_module_database_url) as database:
        rows = database.execute("SELECT count(*) FROM celery_verify.message").fetchone()
    assert rows == (0,), "what was prepared is left empty"
    return done


def test_worker_that_does_not_start(admin, tmp_path) -> None:
    """Everything that needs one fails with the worker's own words."""
    admin.run(
        schema.script("celery_verify"),
        "ALTER TABLE celery_verify.consumer ADD CHECK (host = 'nobody')",
    )
    process = start(
        admin.url, "--in-schema", "celery_verify", "--timeout", "8", env={"TMPDIR": str(tmp_path)}
    )
    try:
        assert "did not get ready" in process.wait_for_line("FAIL  priority")
        log = process.wait_for_line("log: ").partition("log: ")[2]
        process.wait_for_line("FAIL  job")
        process.send_signal(signal.SIGINT)
        process.wait_for_line("PASS  removal")
        assert process.wait(40) == 130
    finally:
        process.end()
    assert "consumer_host_check" in Path(log).read_text()
    assert leftovers(tmp_path) <= {"priority.log", "job.log"}


def test_versions(admin, tmp_path) -> None:
    """An older Celery than this release was written for."""
    (tmp_path / "celery-5.6.0.dist-info").mkdir()
    (tmp_path / "celery-5.6.0.dist-info" / "METADATA").write_text("Name: celery\nVersion: 5.6.0\n")
    process = start(admin.url, "--timeout", "1", env={"PYTHONPATH": str(tmp_path)})
    try:
        line = process.wait_for_line("versions")
        assert "FAIL" in line
        assert "celery is 5.6.0" in line
        process.wait_for_line(r"pip install 'celery>=5\.7'")
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.end()


def test_object_outside_the_schema(admin, tmp_path) -> None:
    """Somebody's event trigger makes a table for each of ours: the difference is named."""
    admin.run(
        """CREATE FUNCTION public.copy() RETURNS event_trigger LANGUAGE plpgsql AS
           'BEGIN CREATE TABLE IF NOT EXISTS public.shadow (id int); END'""",
        "CREATE EVENT TRIGGER copy ON ddl_command_end WHEN TAG IN ('CREATE SCHEMA') EXECUTE FUNCTION copy()",
    )
    done = run(admin.url, tmp_path)
    assert done.failed() == {"schema", "nothing else"}
    assert "table public.shadow is new" in done.check("schema")["said"]
    assert done.check("job")["verdict"] == "SKIP"
    assert admin.schemas() == set()


def test_schema_that_cannot_be_removed(admin, tmp_path) -> None:
    """It is said, with the statement that removes it; the exit code tells."""
    admin.run(
        """CREATE FUNCTION public.forbid() RETURNS event_trigger LANGUAGE plpgsql AS
           'BEGIN RAISE EXCEPTION ''nothing is dropped here''; END'""",
        "CREATE EVENT TRIGGER forbid ON ddl_command_start WHEN TAG IN ('DROP SCHEMA')"
        " EXECUTE FUNCTION forbid()",
    )
    process = start(admin.url)
    try:
        process.wait_for_line("queue counts")
        process.send_signal(signal.SIGTERM)
        process.wait_for_line("FAIL  removal")
        line = process.wait_for_line("remedy: DROP SCHEMA")
        assert process.wait(30) == 130
    finally:
        process.end()
    admin.run("DROP EVENT TRIGGER forbid", line.partition("remedy: ")[2])
    assert admin.schemas() == set()


def test_interrupted(admin, tmp_path) -> None:
    """In the middle of a task, by a terminal that is closed: nothing is left, and the exit code is 130."""
    process = start(admin.url, env={"TMPDIR": str(tmp_path)})
    try:
        process.wait_for_line("PASS  job")
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.send_signal(signal.SIGHUP)
        assert process.wait(40) == 130
    finally:
        process.end()
    assert admin.schemas() == set()
    assert not still_there(workers)
    assert leftovers(tmp_path) == set()


def test_lost_sessions(admin, tmp_path) -> None:
    """Every session is ended in the middle, as by a restart: the schema is removed all the same."""
    process = start(admin.url, env={"TMPDIR": str(tmp_path)})
    try:
        process.wait_for_line("PASS  job")
        admin.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        process.wait_for_line("retries")
        process.send_signal(signal.SIGTERM)
        process.wait_for_line("PASS  removal")
        assert process.wait(40) == 130
    finally:
        process.end()
    assert admin.schemas() == set()


def test_options_of_the_url(admin) -> None:
    """They hold as the application has them, but for the schema: that of the application is not touched."""
    process = start(f"{admin.url}?schema=jobs&priority_order=redis&auto_migrate=false")
    try:
        assert "auto_migrate is off" in process.wait_for_line("FAIL  rights")
        process.wait_for_line("executed 0, 0, 5, 10")
        process.wait_for_line("PASS  job")
        assert [name.startswith("celery_verify_") for name in admin.schemas()] == [True]
        workers = psutil.Process(process.pid).children(recursive=True)
        assert workers
        process.send_signal(signal.SIGINT)
        assert process.wait(40) == 130
    finally:
        process.end()
    assert admin.schemas() == set()
    assert not still_there(workers)


def test_kept(admin) -> None:
    """With `--keep` the schema stays, also then, with its tables; and it is said how to remove it."""
    process = start(admin.url, "--keep")
    try:
        process.wait_for_line("PASS  queue counts")
        process.send_signal(signal.SIGINT)
        line = process.wait_for_line("To remove it: ")
        assert process.wait(40) == 130
    finally:
        process.end()
    (name,) = admin.schemas()
    assert admin.run(f"SELECT count(*) FROM {name}.queue")
    admin.run(line.partition("To remove it: ")[2])
    assert admin.schemas() == set()


def test_killed(admin, tmp_path) -> None:
    """Nobody can clean up after SIGKILL; but no worker stays behind."""
    process = start(admin.url, env={"TMPDIR": str(tmp_path)})
    try:
        process.wait_for_line("PASS  job")
        workers = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGKILL)
        process.wait(20)
        eventually(lambda: not still_there(workers), what="the workers ended")
    finally:
        process.end()
    assert [name.startswith("celery_verify_") for name in admin.schemas()] == [True]


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ("queue counts", r"of 4 messages SQL counts"),
        ("priority", r"executed as 0, 5, 0, 10 instead of 10, 5, 0, 0"),
        ("retries", r"0 of 1 tasks succeeded within 12 s"),
        ("failure", r"0 of 1 tasks failed within 12 s"),
        ("results", r"no result came within"),
        ("chord", r"no result came within"),
        ("killed worker", r"1 of 2 tasks started within 12 s"),
        ("warm shutdown", r"[012] of 3 waiting messages are ready again|still there"),
    ],
)
def test_broken(broken: Run, check: str, said: str) -> None:
    """It fails, and says what it saw."""
    found = broken.check(check)
    assert found["verdict"] == "FAIL"
    assert re.search(said, found["said"]), found["said"]


def test_what_is_not_broken(broken: Run) -> None:
    """The others pass all the same, and the exit code tells of the failures."""
    passed = {name for name, verdict in broken.verdicts().items() if verdict == "PASS"}
    assert passed == {"connection", "versions", "rights", "schema", "job", "removal", "nothing else"}
    assert broken.code == 1


def test_log_of_the_failing_step(broken: Run) -> None:
    """The workers' words while a check failed are kept, and no others."""
    for check in broken.report["checks"]:
        assert (check["log"] is not None) == (
            check["verdict"] == "FAIL" and check["name"] != "queue counts"
        ), check
    log = Path(broken.check("results")["log"]).read_text()
    assert "verify.add" in log
    assert "the results are full" in log
    assert "verify.broken" not in log
