"""Who may import whom: the direction of the layers, and which files know which library.

The import lines are read, not executed. Those under `TYPE_CHECKING` are left out: they bind nothing.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import celery_postgres

if TYPE_CHECKING:
    from collections.abc import Iterator

PACKAGE = "celery_postgres"
ROOT = Path(celery_postgres.__file__).parent

#: From the bottom to the top. A module imports from its own layer and from those below, never from above.
LAYERS: dict[str, tuple[str, ...]] = {
    "values": ("backoff", "cadence", "dsn", "errors", "options", "process", "sqlstates", "url", "watch"),
    "sql": (
        "sql",
        "sql.broadcast",
        "sql.chords",
        "sql.consumers",
        "sql.dead",
        "sql.enlistment",
        "sql.flush",
        "sql.jobs",
        "sql.messages",
        "sql.reconcile",
        "sql.results",
        "sql.topology",
        "sql.wakeup",
    ),
    "refusals": ("purposes", "rights", "refusals"),
    "schema": (
        "tables",
        "schema",
        "migrations",
        "migrations.env",
        "migrations.versions.v1_1_messages",
        "migrations.versions.v1_2_results",
        "migrations.versions.v1_3_job_view",
        "migrations.versions.v1_4_liveness",
        "migrations.versions.v1_5_published",
        "migrations.versions.v1_7_dead_letters",
        "migrations.versions.v1_8_runs_again",
    ),
    "connection": ("encoding", "exposure", "wire", "fork", "connection", "direct"),
    "verbs": (
        "arrivals",
        "broadcast",
        "cancellation",
        "chords",
        "claims",
        "commands",
        "crowd",
        "dead",
        "dead_letter",
        "enlistment",
        "event_loop",
        "gathering",
        "held",
        "idleness",
        "intake",
        "lanes",
        "jobs",
        "line",
        "listener",
        "liveness",
        "looks",
        "maintenance",
        "messages",
        "outage",
        "outbox",
        "pacer",
        "reaper",
        "reconcile",
        "recovery",
        "reopening",
        "results",
        "settlements",
        "subscription",
        "sweeper",
        "topology",
        "turn",
        "wakeup",
        "watchdog",
    ),
    "adapters": (
        "backend",
        "batch",
        "channel",
        "completion",
        "delivery",
        "qos",
        "register",
        "result_consumer",
        "transport",
        "worker",
        "worker.events",
        "worker.mailbox",
        "worker.replacing",
        "worker.tasks",
    ),
    "verification": (
        "verify.address",
        "verify.catalog",
        "verify.notes",
        "verify.outcome",
        "verify.ground",
        "verify.interruption",
        "verify.owner",
        "verify.request",
        "verify.probe",
        "verify.hosted",
        "verify.worker",
        "verify.stage",
        "verify.checks.database",
        "verify.checks.ends",
        "verify.checks.jobs",
        "verify.checks.own_task",
        "verify.checks.results",
        "verify.checks",
        "verify.report",
        "verify.run",
        "verify",
    ),
    "doctor": (
        "doctor.finding",
        "doctor.patient",
        "doctor.checks.clock",
        "doctor.checks.connections",
        "doctor.checks.dead_letters",
        "doctor.checks.durability",
        "doctor.checks.notifications",
        "doctor.checks.pooler",
        "doctor.checks.rights",
        "doctor.checks.schema",
        "doctor.checks.server",
        "doctor.checks.snapshots",
        "doctor.checks.tables",
        "doctor.checks.workers",
        "doctor.checks",
        "doctor.examination",
        "doctor.report",
        "doctor",
    ),
    "comparison": (
        "compare.report.model",
        "compare.report.statistics",
        "compare.report.conclusion",
        "compare.report.numerals",
        "compare.report.wording",
        "compare.report.text",
        "compare.report.file",
        "compare.report.json_file",
        "compare.report.page.markup",
        "compare.report.page.series",
        "compare.report.page.table",
        "compare.report.page.plots.scale",
        "compare.report.page.plots.drawing",
        "compare.report.page.plots.distribution",
        "compare.report.page.plots.ranges",
        "compare.report.page.plots.timeline",
        "compare.report.page.plots",
        "compare.report.page.sections",
        "compare.report.page.measures",
        "compare.report.page.behaviour",
        "compare.report.page",
        "compare.report",
        "compare.failure",
        "compare.urls",
        "compare.processes",
        "compare.request",
        "compare.settings",
        "compare.notes",
        "compare.address",
        "compare.probe",
        "compare.transfer",
        "compare.hosted",
        "compare.places.place",
        "compare.places.amqp",
        "compare.places.pgmq",
        "compare.places.postgresql",
        "compare.places.redis",
        "compare.places.sqlalchemy",
        "compare.places",
        "compare.contenders",
        "compare.arena",
        "compare.progress",
        "compare.fairness",
        "compare.speed.workload",
        "compare.speed.sender",
        "compare.speed.client",
        "compare.speed.bystanders",
        "compare.speed.server",
        "compare.speed.worker",
        "compare.speed.budget",
        "compare.speed.drain",
        "compare.speed.rehearsal",
        "compare.speed.plan",
        "compare.speed.catalogue",
        "compare.speed.visit",
        "compare.speed",
        "compare.trial",
        "compare.cast",
        "compare.waiting",
        "compare.held",
        "compare.tally",
        "compare.whereabouts",
        "compare.situations.redelivery",
        "compare.situations.broker_restart",
        "compare.situations.child_killed",
        "compare.situations.eta",
        "compare.situations.long_task",
        "compare.situations.warm_shutdown",
        "compare.situations.worker_killed",
        "compare.situations",
        "compare.features.connections",
        "compare.features.database",
        "compare.features.delivery",
        "compare.features.talk",
        "compare.features",
        "compare.abreast",
        "compare.observations",
        "compare.rounds",
        "compare.run",
        "compare",
    ),
    "command line": (
        "cli",
        "cli.cancel",
        "cli.compare",
        "cli.dead",
        "cli.files",
        "cli.filters",
        "cli.doctor",
        "cli.grants",
        "cli.jobs",
        "cli.output",
        "cli.progress",
        "cli.queues",
        "cli.setup",
        "cli.target",
        "cli.verify",
    ),
}

#: A server for development stands beside all this, on the values alone; the package's face shows the errors,
#: and what an application may call.
BESIDE = {"": {"enlistment", "errors", "register"}, "embedded": {"errors", "dsn", "options"}}

MIGRATIONS = {name for name in LAYERS["schema"] if name.startswith("migrations.versions.")}

#: Which modules may import a library; `embedded` is a program of its own.
KNOWS = {
    "kombu": {
        "register",
        "transport",
        "channel",
        "delivery",
        "batch",
        "backend",
        "cli.cancel",
        "verify.stage",
        "compare.arena",
        "compare.places.amqp",
        "compare.places.sqlalchemy",
    },
    "amqp": {"channel", "compare.places.amqp"},
    "celery": {
        "backend",
        "completion",
        "result_consumer",
        "cli.cancel",
        "verify.owner",
        "verify.probe",
        "verify.hosted",
        "verify.checks.results",
        "compare.probe",
        "compare.transfer",
        "compare.hosted",
        "compare.speed.sender",
    },
    "redis": {"compare.places.redis"},
    "sqlalchemy": {"tables", "schema", "dsn", "doctor.checks.schema"},
    "alembic": {"schema", "migrations.env", *MIGRATIONS},
    "psycopg": {
        "encoding",
        "enlistment",
        "wire",
        "connection",
        "dsn",
        "refusals",
        "rights",
        "verify.catalog",
        "verify.ground",
        "verify.stage",
        "compare.places.postgresql",
        "compare.places.sqlalchemy",
        "compare.places.pgmq",
        "cli.grants",
        "doctor.patient",
        "doctor.examination",
        "doctor.checks.notifications",
        "doctor.checks.snapshots",
    },
    "click": set(LAYERS["command line"]),
}

#: Imported inside functions only: half a second that a process whose schema fits never spends.
LAZY = {"sqlalchemy", "alembic"}


class Import(NamedTuple):
    """One import line of one module of the package."""

    module: str
    target: str
    inside_a_function: bool

    @property
    def library(self) -> str:
        return self.target.partition(".")[0]


def modules() -> dict[str, Path]:
    """Every module of the package, by its name in it; the package itself has the empty name."""
    found = {}
    for path in ROOT.rglob("*.py"):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(module: str, path: Path) -> Iterator[Import]:
    package = path.relative_to(ROOT.parent).parent.parts

    def visit(node: ast.AST, inside: bool) -> Iterator[Import]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            yield from (Import(module, alias.name, inside) for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from .sql import messages` names a module, `from .errors import Error` does not.
                whole = f"{source}.{alias.name}"
                is_module = whole.removeprefix(f"{PACKAGE}.") in modules()
                yield Import(module, whole if is_module else source, inside)
        inside = inside or isinstance(node, (ast.FunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(path.read_text()), False)


MODULES = modules()
IMPORTS = [line for module, path in MODULES.items() for line in imports(module, path)]
HEIGHT = {module: height for height, layer in enumerate(LAYERS.values()) for module in layer}


def own(target: str) -> str | None:
    """The name inside the package, None for another's module."""
    return target.removeprefix(PACKAGE).removeprefix(".") if target.startswith(PACKAGE) else None


def test_every_module_has_a_layer() -> None:
    """A new file says where it belongs."""
    beside = {name for name in MODULES if name.partition(".")[0] in BESIDE or name == "migrations.versions"}
    assert set(MODULES) - beside == set(HEIGHT)


def test_no_module_imports_from_above() -> None:
    """Values ← SQL ← connection ← verbs ← adapters ← command line."""
    wrong = [
        f"{line.module} imports {target}"
        for line in IMPORTS
        if (target := own(line.target))
        and line.module in HEIGHT
        and HEIGHT.get(target, 99) > HEIGHT[line.module]
        # A command may start the development server.
        and not (line.module == "cli.setup" and target == "embedded")
    ]
    assert wrong == []


def test_what_stands_beside_knows_the_values_alone() -> None:
    """The development server could be a package of its own."""
    wrong = [
        f"{line.module or 'celery_postgres'} imports {target}"
        for line in IMPORTS
        if line.module.partition(".")[0] in BESIDE
        and (target := own(line.target)) is not None
        and target.partition(".")[0] != line.module.partition(".")[0]
        and target not in BESIDE[line.module.partition(".")[0]]
    ]
    assert wrong == []


@pytest.mark.parametrize("library", sorted(KNOWS))
def test_library_is_known_to_its_adapters_alone(library: str) -> None:
    """kombu only in the adapters, psycopg only where sessions are made, SQLAlchemy only for the schema."""
    assert {line.module for line in IMPORTS if line.library == library} <= KNOWS[library]


@pytest.mark.parametrize("library", sorted(LAZY))
def test_heavy_library_is_imported_when_it_is_needed(library: str) -> None:
    """`import celery_postgres.transport` loads neither SQLAlchemy nor alembic."""
    only_for_migrations = {"tables", "migrations.env", *MIGRATIONS}
    at_once = {line.module for line in IMPORTS if line.library == library and not line.inside_a_function}
    assert at_once <= only_for_migrations
    assert not [
        line
        for line in IMPORTS
        if own(line.target) in only_for_migrations
        and line.module not in only_for_migrations
        # The doctor compares with the tables what it finds.
        and not (line.module == "doctor.checks.schema" and line.inside_a_function)
    ]


def test_register_imports_kombus_table_alone() -> None:
    """Every process that imports Celery runs this file: it must cost nothing."""
    assert {line.target for line in IMPORTS if line.module == "register"} == {"__future__", "kombu.transport"}
