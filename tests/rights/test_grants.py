"""The SQL of `celery-postgres grants`: what it gives, to whatever names, however often it is executed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg import sql

from celery_postgres import dsn, schema
from celery_postgres.purposes import PURPOSES, SEQUENCES
from celery_postgres.rights import identifier, script

from .conftest import celery_postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bad_input.admin import Admin

    from .conftest import Roles

_ACL = """SELECT c.relname, a.privilege_type, ''
  FROM pg_class c CROSS JOIN aclexplode(c.relacl) a
 WHERE c.relnamespace = 'celery'::regnamespace AND a.grantee = {who}
UNION ALL
SELECT c.relname, a.privilege_type, t.attname
  FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN aclexplode(t.attacl) a
 WHERE c.relnamespace = 'celery'::regnamespace AND a.grantee = {who}"""


def granted(admin: Admin, role: str | None) -> set[tuple[str, str, str]]:
    """Object, privilege and column (empty for the whole) that a role, or with None everybody, was granted."""
    who = "0" if role is None else f"to_regrole({sql.Literal(identifier(role)).as_string()})"
    return {(str(a), str(b), str(c)) for a, b, c in admin.run(_ACL.format(who=who))}


def needed(purpose: str) -> set[tuple[str, str, str]]:
    return {
        (name, verb, column)
        for name, privileges in PURPOSES[purpose].needs.items()
        for verb, columns in privileges.items()
        for column in columns or ("",)
    }


def test_exactly_what_is_needed(roles: Roles) -> None:
    """The server has just the privileges of `purposes.py`, and nobody else has any."""
    for purpose, role in roles.names.items():
        assert granted(roles.admin, role) == needed(purpose)
    assert granted(roles.admin, None) == set()


def test_executed_again(roles: Roles) -> None:
    """It takes away what a role had beside, and changes nothing else."""
    name = roles.names["monitor"]
    roles.admin.run(
        f'GRANT SELECT ON celery.message TO "{name}"',
        "GRANT SELECT ON celery.result TO PUBLIC",
        "GRANT ALL ON SCHEMA celery TO PUBLIC",
    )
    assert roles.grant("--apply").returncode == 0
    test_exactly_what_is_needed(roles)
    usage = f"SELECT has_schema_privilege('{name}', 'celery', 'CREATE')"
    assert roles.admin.run(usage) == [(False,)]
    monitor = psycopg.connect(roles.url("monitor"))
    with monitor, pytest.raises(psycopg.errors.InsufficientPrivilege):
        monitor.execute("SELECT body FROM celery.message")


def test_roles_are_made_once(admin: Admin, new_role: Callable[..., str]) -> None:
    """Roles that do not exist are made, without a login; printing and applying are the same."""
    schema.upgrade(dsn.parse(admin.url), "celery")
    names = {purpose: f"{new_role()}_made" for purpose in PURPOSES}
    options = [word for purpose, name in names.items() for word in (f"--{purpose}", name)]
    try:
        printed = celery_postgres(admin.url, "grants", *options)
        assert printed.stdout == script("celery", names)
        for _ in range(2):
            admin.run(printed.stdout)
        for purpose, name in names.items():
            assert granted(admin, name) == needed(purpose)
            assert admin.run(f"SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = '{name}'") == [
                (False, False)
            ]
    finally:
        for name in names.values():
            admin.run(f'DROP OWNED BY "{name}"', f'DROP ROLE "{name}"')


@pytest.mark.parametrize("name", ["with space", 'a"b', "x' OR '1'='1", "a;--", "%s {} $1", "Ünïcode \u202e"])
def test_any_name(admin: Admin, new_role: Callable[..., str], name: str) -> None:
    """Names are quoted, as identifiers and inside the blocks."""
    new_role(name=name)
    schema.upgrade(dsn.parse(admin.url), "celery")
    done = celery_postgres(admin.url, "grants", "--only", "producer", "--producer", name, "--apply")
    assert (done.returncode, done.stderr) == (0, "")
    assert granted(admin, name) == needed("producer")


@pytest.mark.parametrize("name", ["", "x" * 64])
def test_impossible_name(admin: Admin, name: str) -> None:
    """PostgreSQL would cut it off in silence."""
    done = celery_postgres(admin.url, "grants", "--producer", name)
    assert done.returncode == 2
    assert "1 to 63 bytes" in done.stderr


def test_owner_needs_no_grant(admin: Admin, new_role: Callable[..., str]) -> None:
    """Whoever owns the tables has all rights; taking some away would stop a later migration."""
    role = new_role()
    admin.run(f'GRANT CREATE ON DATABASE "{admin.database}" TO "{role}"')
    schema.upgrade(dsn.parse(admin.url_of(role)), "celery")
    done = celery_postgres(admin.url, "grants", "--only", "consumer", "--consumer", role, "--apply")
    assert done.returncode == 1
    assert f"{role} owns the tables and has all rights" in done.stderr


def test_without_a_schema(admin: Admin) -> None:
    done = celery_postgres(admin.url, "grants", "--apply")
    assert done.returncode == 1
    assert "run `celery-postgres migrate`" in done.stderr


def test_who_may_not_grant(roles: Roles) -> None:
    """Nothing is changed, and the error says who can."""
    before = granted(roles.admin, roles.names["monitor"])
    url = roles.url("consumer")
    done = celery_postgres(url, "grants", "--only", "monitor", "--monitor", roles.names["monitor"], "--apply")
    assert done.returncode == 1
    assert "have the owner of the schema celery execute this" in done.stderr
    assert granted(roles.admin, roles.names["monitor"]) == before


def test_who_may_not_grant_is_no_warning(roles: Roles, new_role: Callable[..., str]) -> None:
    """Who has some right on everything is only warned by the server, and has granted nothing."""
    monitor = roles.names["monitor"]
    reader = new_role()
    roles.admin.run(f'GRANT pg_read_all_data TO "{reader}"', f'REVOKE ALL ON celery.job FROM "{monitor}"')
    before = granted(roles.admin, monitor)
    url = roles.admin.url_of(reader)
    done = celery_postgres(url, "grants", "--only", "monitor", "--monitor", monitor, "--apply")
    assert done.returncode == 1
    assert "owns the tables, and nobody else may grant rights on them" in done.stderr
    assert granted(roles.admin, monitor) == before


def test_admin_migrates_through_the_owner(admin: Admin, new_role: Callable[..., str]) -> None:
    """A member of the role that owns the tables upgrades them, and that role goes on owning all of them."""
    owner, deputy = new_role("NOLOGIN"), new_role()
    admin.run(f'CREATE SCHEMA celery AUTHORIZATION "{owner}"', f'SET ROLE "{owner}"')
    first = re.sub(r"CREATE VIEW.*?;\n", "", schema.script("celery"), flags=re.DOTALL)
    until_1_2 = first[: first.index("-- Running upgrade 1.2 -> ")] + "COMMIT;"
    with psycopg.connect(admin.url, autocommit=True) as connection:
        connection.execute(f'SET ROLE "{owner}"')
        connection.execute(until_1_2.replace('CREATE SCHEMA IF NOT EXISTS "celery";', ""))
    assert celery_postgres(admin.url_of(deputy), "migrate").returncode == 1
    admin.run(f'GRANT USAGE ON SCHEMA celery TO "{deputy}"', f'GRANT "{owner}" TO "{deputy}"')
    done = celery_postgres(admin.url_of(deputy), "migrate")
    assert (done.returncode, done.stderr) == (0, "")
    owners = admin.run(
        "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class"
        " WHERE relnamespace = 'celery'::regnamespace AND relkind IN ('r', 'v', 'S')"
    )
    assert owners == [(owner,)]
    done = celery_postgres(
        admin.url, "grants", "--only", "admin", "--admin", deputy, "--owner", owner, "--apply"
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert celery_postgres(admin.url_of(deputy), "check").returncode == 0


def test_sequences_are_named_as_such() -> None:
    """A GRANT on a sequence without the word would be one on a table."""
    text = script("celery", {"consumer": "shop"})
    assert all(f'GRANT USAGE ON SEQUENCE "celery"."{name}" TO "shop";' in text for name in SEQUENCES)
