"""A role that lacks a right is told which one, and the GRANT that it is given is the cure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from celery import Celery

from celery_postgres import schema

from .run import Run, run

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bad_input.admin import Admin

REVOKED = {
    "usage": 'REVOKE USAGE ON SCHEMA celery FROM "{role}"',
    "tables": 'REVOKE ALL ON ALL TABLES IN SCHEMA celery FROM "{role}"',
    "select on the version": 'REVOKE SELECT ON celery.schema_version FROM "{role}"',
    "insert on one table": 'REVOKE INSERT ON celery.message FROM "{role}"',
    "delete on one table": 'REVOKE DELETE ON celery.unacked FROM "{role}"',
    "sequences": 'REVOKE ALL ON ALL SEQUENCES IN SCHEMA celery FROM "{role}"',
}


def cure(admin: Admin, check: dict[str, str]) -> None:
    """Execute the statements of a remedy as they stand."""
    statements = re.findall(r"(?:GRANT|REVOKE) [^;]+;", check["remedy"])
    assert statements, check
    admin.run(*statements)


def rights(admin: Admin, role: str, folder: Path) -> Run:
    """A run of a role that may not make a schema: only its rights are looked at, and no worker starts."""
    done = run(admin.url_of(role), folder)
    assert done.verdicts()["schema"] == "SKIP"
    assert done.verdicts()["job"] == "SKIP"
    assert admin.schemas() <= {"celery"}
    return done


@pytest.mark.parametrize("right", REVOKED)
def test_right_in_the_schema(admin, new_role, tmp_path, right: str) -> None:
    """In a schema that is set up, a single right that is missing fails; granted, it passes."""
    role = new_role()
    admin.run(schema.script("celery", role), REVOKED[right].format(role=role))
    refused = rights(admin, role, tmp_path)
    assert (refused.failed(), refused.code) == ({"rights"}, 1)
    cure(admin, refused.check("rights"))
    granted = rights(admin, role, tmp_path)
    assert (granted.verdicts()["rights"], granted.code) == ("PASS", 0)


def test_create_on_the_database(admin, new_role, tmp_path) -> None:
    """Where the schema does not exist, the role must be able to make it."""
    role = new_role()
    refused = rights(admin, role, tmp_path)
    assert refused.failed() == {"rights"}
    assert "GRANT CREATE ON DATABASE" in refused.check("rights")["remedy"]
    assert f"migrate --sql --role {role}" in refused.check("rights")["remedy"]
    admin.run(schema.script("celery", role))
    assert rights(admin, role, tmp_path).failed() == set()


@pytest.mark.parametrize("given", ["", "GRANT USAGE", "GRANT CREATE"])
def test_create_in_an_empty_schema(admin, new_role, tmp_path, given: str) -> None:
    """In a schema that somebody made and left empty, USAGE and CREATE are needed."""
    role = new_role()
    admin.run("CREATE SCHEMA celery", *([f'{given} ON SCHEMA celery TO "{role}"'] if given else []))
    refused = rights(admin, role, tmp_path)
    assert refused.failed() == {"rights"}
    cure(admin, refused.check("rights"))
    assert rights(admin, role, tmp_path).failed() == set()


def test_older_schema_of_somebody_else(admin, new_role, tmp_path) -> None:
    """The role can use it, and this release cannot, and nobody but the owner can upgrade it."""
    role = new_role()
    admin.run(schema.script("celery", role), "UPDATE celery.schema_version SET version_num = '1.1'")
    refused = rights(admin, role, tmp_path)
    assert refused.failed() == {"rights"}
    assert "have its owner run" in refused.check("rights")["remedy"]


def test_connect(admin, new_role, tmp_path) -> None:
    """Without CONNECT nothing else can be said, and the message has the GRANT."""
    role = new_role()
    admin.run(f'REVOKE CONNECT ON DATABASE "{admin.database}" FROM PUBLIC')
    refused = run(admin.url_of(role), tmp_path)
    assert (refused.failed(), refused.code) == ({"connection"}, 1)
    assert set(refused.verdicts().values()) == {"FAIL", "SKIP"}
    admin.run(re.search(r"GRANT CONNECT ON DATABASE .* TO \S+", refused.check("connection")["said"])[0])
    assert rights(admin, role, tmp_path).check("connection")["verdict"] == "PASS"


def test_wrong_password(admin, new_role, private_server, tmp_path) -> None:
    """One clear line, without the password."""
    from tests.bad_input.admin import Admin

    there = Admin(private_server.url)
    refused = run(there.url_of(there.user, password="wrong"), tmp_path)
    assert refused.failed() == {"connection"}
    assert "password authentication failed" in refused.check("connection")["said"]


def test_no_server(tmp_path) -> None:
    refused = run("postgresql://nobody@127.0.0.1:1/nothing", tmp_path)
    assert (refused.failed(), refused.code) == ({"connection"}, 1)
    assert "start the server, or correct host and port" in refused.check("connection")["said"]


def test_prepared_schema_lacks_rights(admin, new_role, tmp_path) -> None:
    """In a schema that was prepared for the verification, rights are judged before anything is tried."""
    role = new_role()
    admin.run(schema.script("celery", role), schema.script("celery_verify", role))
    admin.run(f'REVOKE INSERT ON celery_verify.ready FROM "{role}"')
    refused = run(admin.url_of(role), tmp_path, "--in-schema", "celery_verify")
    assert refused.failed() == {"schema"}
    cure(admin, refused.check("schema"))
    admin.run(f'REVOKE USAGE ON SCHEMA celery_verify FROM "{role}"')
    refused = run(admin.url_of(role), tmp_path, "--in-schema", "celery_verify")
    assert refused.failed() == {"schema"}


@pytest.mark.long
def test_prepared_schema_suffices(admin, new_role, tmp_path) -> None:
    """A role with the rights of `migrate --sql --role` alone can verify in one, and leaves it empty."""
    role = new_role()
    admin.run(schema.script("celery", role), schema.script("celery_verify", role))
    done = run(admin.url_of(role), tmp_path, "--in-schema", "celery_verify")
    assert (set(done.verdicts().values()), done.code) == ({"PASS"}, 0), done.text
    assert not any(admin.stored("celery_verify").values())
    assert admin.run("SELECT count(*) FROM celery_verify.queue") == [(0,)]


@pytest.mark.long
def test_empty_schema_suffices(admin, new_role, tmp_path) -> None:
    """So can one that may fill a schema of somebody else; its tables are dropped, the schema stays."""
    role = new_role()
    admin.run(schema.script("celery", role), "CREATE SCHEMA celery_verify")
    admin.run(f'GRANT USAGE, CREATE ON SCHEMA celery_verify TO "{role}"')
    done = run(admin.url_of(role), tmp_path, "--in-schema", "celery_verify")
    assert (set(done.verdicts().values()), done.code) == ({"PASS"}, 0), done.text
    assert admin.run("SELECT count(*) FROM pg_class WHERE relnamespace = 'celery_verify'::regnamespace") == [
        (0,)
    ]
    admin.run("DROP SCHEMA celery_verify")


def test_schema_in_use_is_not_taken(admin, tmp_path) -> None:
    """A schema with queues is an application's: it is refused, and left as it is."""
    from tests.bad_input.admin import publish

    publish(admin.url)
    refused = run(admin.url, tmp_path, "--in-schema", "celery")
    assert refused.failed() == {"schema"}
    assert "is in use" in refused.check("schema")["said"]
    assert admin.stored()["message"] == 1


def test_schema_with_results_alone_is_not_taken(admin, tmp_path) -> None:
    """An application whose broker is another one keeps its results there."""
    app = Celery("shop", broker="memory://", backend=admin.url, set_as_current=False)
    app.backend.store_result("kept", 1, "SUCCESS")
    app.backend.close()
    refused = run(admin.url, tmp_path, "--in-schema", "celery")
    assert refused.failed() == {"schema"}
    assert "is in use" in refused.check("schema")["said"]
    assert admin.run("SELECT count(*) FROM celery.result") == [(1,)]


def test_schema_with_other_tables_is_not_taken(admin, tmp_path) -> None:
    """Tables of somebody else are in the way; they stay."""
    admin.run("CREATE SCHEMA other", "CREATE TABLE other.message (id int)")
    refused = run(admin.url, tmp_path, "--in-schema", "other")
    assert refused.failed() == {"schema"}
    assert admin.run("SELECT count(*) FROM other.message") == [(0,)]
