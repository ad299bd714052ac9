"""`verify`: a trial of the database with real workers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from celery_postgres import SCHEMES

from .files import demand_folder, writing
from .target import application, reporting, target

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_postgres.verify import OwnTask


def json_option(of: type) -> Callable[..., Any]:
    """Reads an option that is a JSON list or object."""

    def read(_: click.Context, __: click.Parameter, value: str) -> Any:
        try:
            found = json.loads(value)
        except ValueError as exc:
            raise click.BadParameter(f"not JSON: {exc}") from exc
        if not isinstance(found, of):
            raise click.BadParameter(f"not a JSON {'list' if of is list else 'object'}")
        return found

    return read


@click.command()
@click.option("--url", "other_url", default=None, help="Another database than that of broker_url.")
@click.option("--in-schema", default=None, help="Use this schema, prepared by `migrate`; it is left empty.")
@click.option("--task", default=None, help="Also run this task of the application, for real.")
@click.option("--args", default="[]", callback=json_option(list), help="Its arguments, as a JSON list.")
@click.option("--kwargs", default="{}", callback=json_option(dict), help="… and as a JSON object.")
@click.option("--timeout", default=30.0, show_default=True, help="The longest wait of one check, in seconds.")
@click.option("--keep", is_flag=True, help="Keep the schema, to look at it in SQL.")
@click.option(
    "--json", "file", type=click.Path(dir_okay=False, path_type=Path), help="Also write JSON to this."
)
@click.pass_context
@reporting
def verify(
    context: click.Context,
    other_url: str | None,
    in_schema: str | None,
    task: str | None,
    args: list[Any],
    kwargs: dict[str, Any],
    timeout: float,
    keep: bool,
    file: Path | None,
) -> None:
    """Try the database out with real workers, in a schema of its own; exit code 1 if a check fails."""
    from celery_postgres.compare.report.file import write
    from celery_postgres.verify import Request, Verification, report

    if file:
        demand_folder(file)
    _require_a_database(context, other_url)
    aim = target(context, other_url)
    own_task = _own_task(context, task, args, kwargs) if task else None
    request = Request(aim.url, aim.dsn, aim.options, aim.given, in_schema, own_task, timeout, keep)
    click.echo(report.heading(request))
    verification = Verification(request, lambda outcome: click.echo(report.line(outcome)))
    interrupted = False
    try:
        verification.run()
    except KeyboardInterrupt:
        interrupted = True
    click.echo("\n" + report.summary(verification.outcomes, verification.schema if keep else None))
    if file:
        with writing(file):
            write(report.as_json(request, verification.outcomes, verification.schema), file)
    if interrupted:
        click.echo("Interrupted: what was not told was not checked.", err=True)
        sys.exit(130)
    sys.exit(0 if report.ok(verification.outcomes) else 1)


def _require_a_database(context: click.Context, other_url: str | None) -> None:
    """An application whose messages are still elsewhere has to be told where to try."""
    app = application(context)
    if app is None or other_url:
        return
    scheme = app.connection_for_write().as_uri().partition(":")[0]
    if scheme not in SCHEMES:
        raise click.UsageError(f"the application's broker is {scheme}: give --url postgresql://…")


def _own_task(context: click.Context, task: str, args: list[Any], kwargs: dict[str, Any]) -> OwnTask:
    from celery_postgres.verify import OwnTask

    app = application(context)
    name = context.find_root().params.get("app")
    if app is None or not isinstance(name, str):
        raise click.UsageError(f"whose task? celery -A APPLICATION postgres verify --task {task}")
    queue = app.amqp.router.route({}, task, args, kwargs).get("queue")
    return OwnTask(name, task, args, kwargs, getattr(queue, "name", queue) or app.conf.task_default_queue)
