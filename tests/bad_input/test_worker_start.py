"""`celery worker` with a configuration that cannot work, or not yet."""

from __future__ import annotations

import re

import pytest

from celery_postgres import schema
from tests.fixtures.broker import Broker
from tests.fixtures.record import Record
from tests.fixtures.worker import Site, Worker

from .admin import CANARY, Admin, publish


@pytest.fixture
def new_site(tmp_path):
    """Makes sites over any URL."""
    made = []

    def make(url: str, **settings) -> Site:
        made.append(Site(Broker(url), Record(tmp_path / "record"), settings))
        return made[-1]

    yield make
    for site in made:
        for process in site._processes:
            assert CANARY not in "\n".join(process.lines)
        site.close()


def last_words(worker: Worker) -> str:
    """The output of a worker that ends by itself, and not with success."""
    assert worker.wait(60) != 0
    worker._reader.join(5)
    return "\n".join(worker.lines)


MISTAKES = {
    "wrong password": ({}, "{wrong}", "correct user or password of {role}"),
    "no database": ({}, "{url}_nowhere", "create it: CREATE DATABASE"),
    "no right to create": ({}, "{url}", "GRANT CREATE ON DATABASE"),
    "no right to use": ({"schema": "theirs"}, "{url}", 'GRANT USAGE ON SCHEMA "theirs" TO "{role}"'),
    "newer schema": ({"schema": "newer"}, "{url}", "upgrade celery-postgres"),
    "no schema": ({"auto_migrate": False}, "{url}", "run `celery-postgres migrate`"),
    "malformed URL": ({}, "postgresql://app:{canary}@host:port/db", "a port is not a number"),
    "unknown parameter": ({}, "{url}?poll_intervall=3", "did you mean 'poll_interval'?"),
    "unknown option": ({"poll_intervall": 3}, "{url}", "did you mean 'poll_interval'?"),
    "wrong value": ({"grace": "long"}, "{url}", "set it to a number from 0.1 to 3600"),
}


@pytest.fixture(scope="module")
def places(private_server):
    """A role and a database on a server that asks for passwords."""
    admin = Admin(private_server.url)
    admin.run(f"CREATE ROLE worker_role LOGIN PASSWORD '{CANARY}'", "CREATE DATABASE workers")
    admin = Admin(admin.url_of(admin.user, admin.password, "workers"))
    admin.run(schema.script("theirs"))
    admin.run(schema.script("newer", "worker_role"), "UPDATE newer.schema_version SET version_num = '2.1'")
    return {
        "url": admin.url_of("worker_role"),
        "wrong": admin.url_of("worker_role", CANARY + "!"),
        "canary": CANARY,
        "role": "worker_role",
    }


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_ends_the_worker(places, new_site, kind):
    """A worker that can never work says why and what to do, and exits non-zero at once."""
    options, url, remedy = MISTAKES[kind]
    site = new_site(url.format(**places), broker_transport_options=options)
    worker = site.start_worker(pool="solo")
    line = re.search(r"^celery_postgres\..*Error: (.*)$", last_words(worker), re.MULTILINE)
    assert line, worker.tail()
    assert remedy.format(**places) in line[1]


def test_broker_use_ssl_ends_the_worker(places, new_site):
    """The setting of other transports is not passed over: it was meant to protect."""
    worker = new_site(places["url"], broker_use_ssl=True).start_worker(pool="solo")
    assert "put sslmode=verify-full&sslrootcert=… into broker_url" in last_words(worker)


@pytest.mark.parametrize("pool", ["prefork", "solo"])
def test_worker_waits_for_a_missing_server(embedded_server, new_site, pool):
    """A worker that finds no server says so, tries again, and works as soon as there is one."""
    url = embedded_server.url
    embedded_server.halt()
    site = new_site(url, broker_transport_options={"keep_rejected": True})
    worker = site.start_worker(pool=pool)
    worker.wait_for_line("Cannot connect to postgresql://.*: start the server, or correct host and port")
    worker.wait_for_line("Trying again in")
    embedded_server.start()
    worker.wait_until_ready()
    site.record.wait_for_one(site.send("record"))
    assert worker.stop() == 0


def test_worker_that_may_not_wait(new_site):
    """With `broker_connection_retry_on_startup` off it ends at once; Celery alone says why."""
    url = f"postgresql://app:{CANARY}@127.0.0.1:1/db"
    worker = new_site(url, broker_connection_retry_on_startup=False).start_worker(pool="solo")
    assert "broker_connection_retry_on_startup=False" in last_words(worker)


def test_worker_with_just_the_rights_of_the_script(admin, new_role, new_site):
    """A role with the GRANTs of `migrate --sql --role` publishes, runs tasks and does all the upkeep."""
    role = new_role()
    admin.run(schema.script("celery", role))
    for auto_migrate in (True, False):
        site = new_site(
            admin.url_of(role),
            broker_transport_options={"auto_migrate": auto_migrate, "keep_rejected": True},
        )
        worker = site.worker("-E", pool="prefork")
        for task in ("record", "reject", "reject_once"):
            site.record.wait_for_one(site.send(task))
        site.record.wait_for_one(site.send("record", countdown=1.5))
        assert site.inspect(worker).ping()
        assert worker.stop() == 0
        assert not [line for line in worker.lines if "permission denied" in line or "failed" in line]


def test_options_of_other_transports_are_announced_once(admin, new_site):
    """A worker that comes from Redis with its options says of each that it has no effect, and works."""
    site = new_site(
        admin.url,
        broker_transport_options={"visibility_timeout": 43200, "fanout_prefix": True, "max_retries": 3},
    )
    worker = site.worker(pool="solo")
    site.record.wait_for_one(site.send("record"))
    assert worker.stop() == 0
    said = [line for line in worker.lines if "belongs to another transport" in line]
    assert sorted(re.findall(r"Option '(\w+)'", " ".join(said))) == ["fanout_prefix", "visibility_timeout"]


@pytest.mark.parametrize("strict", [False, True])
def test_queue_that_exists_otherwise(admin, new_site, strict):
    """A worker keeps the queue as it is and warns once; with `strict_declare` it ends with 406."""
    publish(admin.url, queue="celery", transport_options={})
    admin.run("UPDATE celery.queue SET durable = false, arguments = '{}' WHERE name = 'celery'")
    site = new_site(admin.url, broker_transport_options={"strict_declare": strict})
    worker = site.start_worker("-Q", "celery", pool="solo")
    if strict:
        assert "durable is False, declared True: delete it or declare it as it is (406)" in last_words(worker)
        return
    worker.wait_until_ready()
    site.record.wait_for_one(site.send("record"))
    assert worker.stop() == 0
    assert sum("durable is False, declared True: keeping" in line for line in worker.lines) == 1
