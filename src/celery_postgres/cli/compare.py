"""`compare`: PostgreSQL beside other brokers, with real workers."""

from __future__ import annotations

import json
import shutil
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from celery_postgres import SCHEMES

from .files import demand_folder, writing
from .progress import Progress
from .target import application, reporting
from .verify import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from celery_postgres.compare import Broker, Call
    from celery_postgres.compare.report.model import Report

_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)

POOLS = ("prefork", "solo", "threads", "gevent", "eventlet")


@click.command()
@click.option(
    "--with", "others", multiple=True, metavar="[NAME=]BROKER[|BACKEND]", help="A broker to compare with."
)
@click.option("--url", "other_url", default=None, envvar="DATABASE_URL", help="The PostgreSQL database.")
@click.option("--in-schema", default=None, help="Use this schema, prepared by `migrate`; it is left empty.")
@click.option(
    "--option",
    "options",
    multiple=True,
    metavar="NAME:KEY=VALUE",
    help="A transport option of one contender, such as rabbitmq:confirm_publish=true.",
)
@click.option(
    "--restart",
    "restarts",
    multiple=True,
    metavar="NAME=COMMAND",
    help="How a contender's server may be restarted.",
)
@click.option("--pool", type=click.Choice(POOLS), default="prefork", show_default=True)
@click.option("--concurrency", type=click.IntRange(1), default=2, show_default=True)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=None,
    help="Rounds of each measure. By default 5, or 3 if quick, and fewer on a machine that is too slow.",
)
@click.option("--quick", is_flag=True, help="Fewer and shorter rounds, in 90 seconds.")
@click.option(
    "--only", type=click.Choice(("speed", "behaviour")), default=None, help="One part of it. By default both."
)
@click.option("--task", default=None, help="Measure with this task of the application, for real.")
@click.option("--args", default="[]", callback=json_option(list), help="Its arguments, as a JSON list.")
@click.option("--kwargs", default="{}", callback=json_option(dict), help="… and as a JSON object.")
@click.option(
    "--mix",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='Measure with a mix of tasks: JSON, [{"task": …, "args": […], "kwargs": {…}, "weight": 1}, …].',
)
@click.option("--json", "json_file", type=_FILE, help="Write all of the report to this file, for programs.")
@click.option("--html", "html_file", type=_FILE, help="Write it as one page, with plots.")
@click.option(
    "--timeout", default=30.0, show_default=True, help="The longest wait for one thing, in seconds."
)
@click.pass_context
@reporting
def compare(
    context: click.Context,
    others: tuple[str, ...],
    other_url: str | None,
    in_schema: str | None,
    options: tuple[str, ...],
    restarts: tuple[str, ...],
    pool: str,
    concurrency: int,
    rounds: int | None,
    quick: bool,
    only: Literal["speed", "behaviour"] | None,
    task: str | None,
    args: list[Any],
    kwargs: dict[str, Any],
    mix: Path | None,
    json_file: Path | None,
    html_file: Path | None,
    timeout: float,
) -> None:
    """Put PostgreSQL beside other brokers, with real workers on queues of their own.

    Without --with, an application whose broker is another one today is compared on that. Its transport
    options go with its broker, wherever that stands; every other contender has Celery's defaults and what
    --option says. What cannot be used is told, and the rest is compared; exit code 1 if nothing was left to
    compare. Ctrl+C ends it in good order: what it found until then is shown (exit code 130).
    """
    from celery_postgres.compare import Comparison, Request

    for file in filter(None, (json_file, html_file)):
        demand_folder(file)
    calls = _calls(context, task, args, kwargs, mix)
    baseline, compared = _brokers(context, others, other_url, options, restarts)
    request = Request(
        baseline=baseline,
        others=compared,
        application=_name(context) if calls else None,
        application_settings=_message_settings(context) if calls else {},
        calls=calls,
        pool=pool,
        concurrency=concurrency,
        rounds=rounds or (3 if quick else 5),
        all_rounds=rounds is not None,
        quick=quick,
        only=only,
        timeout_s=timeout,
        prepared_schema=in_schema,
    )
    progress = Progress(sys.stderr)
    comparison = Comparison(request, _command(), progress.tell, progress.at)
    comparison.run()
    progress.end()
    _show(comparison.report, json_file, html_file)


def _show(report: Report, json_file: Path | None, html_file: Path | None) -> None:
    """In all the ways that were asked for; and the exit code."""
    from celery_postgres.compare.report import json_file as as_json
    from celery_postgres.compare.report import page, text
    from celery_postgres.compare.report.wording import absent

    click.echo(text.render(report, max(60, min(120, shutil.get_terminal_size((100, 24)).columns))), nl=False)
    for file, write in ((json_file, as_json.write), (html_file, page.write)):
        if file is None:
            continue
        with writing(file):
            write(report, file)
        click.echo(f"\nThe report is in {file}", err=True)
    if report.interrupted:
        sys.exit(130)
    compared = [one.name for one in report.contenders if not absent(one, report)]
    if len(compared) < 2:
        only = f"only {compared[0]} was left" if compared else "no contender was left"
        raise click.ClickException(f"nothing was compared, {only}: see above what is wrong with the others")


def _brokers(
    context: click.Context,
    others: Sequence[str],
    other_url: str | None,
    options: Sequence[str],
    restarts: Sequence[str],
) -> tuple[Broker, tuple[Broker, ...]]:
    """The baseline and the others. What the application has set for its broker goes with that."""
    from celery_postgres.compare import Broker

    present = _present(context)
    is_ours = present is not None and _is_ours(present.url)
    if context.obj is not None and application(context) is None:
        url, given = context.obj
        asked = other_url if _explicit(context) else None
        baseline = Broker(asked or url or other_url or "", options=given)
    elif is_ours and present is not None:
        baseline = _moved(present, other_url) if other_url and _explicit(context) else present
    else:
        baseline = Broker(other_url or "")
    if not baseline.url:
        raise click.UsageError("which PostgreSQL? give --url postgresql://…, or set DATABASE_URL")
    compared = [_other(text, present) for text in others]
    if not compared and present is not None and not is_ours:
        compared = [present]
    if not compared:
        raise click.UsageError("compare with what? give --with redis://… or --with amqp://…, also several")
    return _chosen((baseline, *compared), options, restarts)


def _is_ours(url: str) -> bool:
    from celery_postgres.compare import urls

    return urls.scheme_of(url).partition("+")[0] in SCHEMES


def _moved(present: Broker, url: str) -> Broker:
    """The application's over another database: what belongs to the present one stays behind."""
    from dataclasses import replace

    options, results = (
        {name: value for name, value in given.items() if name != "session_dsn"}
        for given in (present.options, present.result_options)
    )
    backend = None if present.backend and _is_ours(present.backend) else present.backend
    return replace(present, url=url, backend=backend, options=options, result_options=results)


def _explicit(context: click.Context) -> bool:
    """Whether --url was given on the command line: the environment does not outdo the application."""
    return context.get_parameter_source("other_url") is click.core.ParameterSource.COMMANDLINE


def _other(text: str, present: Broker | None) -> Broker:
    from celery_postgres.compare import Broker, urls

    try:
        name, url, backend = urls.parsed(text)
    except ValueError as exc:
        raise click.BadParameter(f"{urls.masked(text)}: {exc}", param_hint="--with") from exc
    if present is not None and urls.scheme_of(url) == urls.scheme_of(present.url):
        return Broker(url, backend, name, present.options, present.result_options, present.celery)
    return Broker(url, backend, name)


def _chosen(
    brokers: tuple[Broker, ...], options: Sequence[str], restarts: Sequence[str]
) -> tuple[Broker, tuple[Broker, ...]]:
    """With what --option and --restart say of each."""
    from dataclasses import replace

    from celery_postgres.compare import names_of

    names = {name.lower(): index for index, name in enumerate(names_of(brokers))}
    more: dict[int, dict[str, Any]] = defaultdict(dict)
    commands: dict[int, str] = {}
    for text in options:
        name, colon, setting = text.partition(":")
        key, equals, value = setting.partition("=")
        if not (colon and equals and key):
            raise click.BadParameter(f"{name}: write it as NAME:KEY=VALUE", param_hint="--option")
        more[_index(names, name, "--option")][key] = _value(value)
    for text in restarts:
        name, equals, command = text.partition("=")
        if not (equals and command):
            raise click.BadParameter(f"{text}: write it as NAME=COMMAND", param_hint="--restart")
        commands[_index(names, name, "--restart")] = command
    baseline, *others = (
        replace(broker, options={**broker.options, **more[index]}, restart=commands.get(index))
        for index, broker in enumerate(brokers)
    )
    return baseline, tuple(others)


def _index(names: Mapping[str, int], name: str, hint: str) -> int:
    if name.lower() not in names:
        raise click.BadParameter(
            f"no contender is called {name}: take one of {', '.join(names)}", param_hint=hint
        )
    return names[name.lower()]


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _present(context: click.Context) -> Broker | None:
    """The application's present broker and result backend, with what belongs to them."""
    from celery_postgres.compare import NO_RESULTS, OF_BROKER, Broker

    app = application(context)
    if app is None:
        return None
    connection = app.connection_for_write()
    uri = connection.as_uri(include_password=True).split(";")[0]
    celery = {name: app.conf[name] for name in OF_BROKER if app.conf.get(name)}
    if connection.ssl:  # also where it stands in the URL, which loses it here
        celery["broker_use_ssl"] = connection.ssl
    return Broker(
        uri,
        app.conf.result_backend or NO_RESULTS,
        options=dict(app.conf.broker_transport_options or {}),
        result_options=dict(app.conf.result_backend_transport_options or {}),
        celery=celery,
    )


def _calls(
    context: click.Context, task: str | None, args: list[Any], kwargs: dict[str, Any], mix: Path | None
) -> tuple[Call, ...]:
    from celery_postgres.compare import Call

    if task and mix:
        raise click.UsageError("--task or --mix, not both")
    if not (task or mix):
        return ()
    if _name(context) is None:
        raise click.UsageError("whose task? celery -A APPLICATION postgres compare --task …")
    if task:
        return (Call(task, args, kwargs, options=_message_options(context, task)),)
    assert mix is not None
    try:
        given = [Call(**one) for one in json.loads(mix.read_text(encoding="utf-8"))]
    except (TypeError, ValueError) as exc:
        wanted = 'write [{"task": "name", "args": [], "kwargs": {}, "weight": 1}, …]'
        raise click.BadParameter(f"{mix}: {exc}: {wanted}", param_hint="--mix") from exc
    if not given:
        raise click.BadParameter(f"{mix} names no task", param_hint="--mix")
    return tuple(Call(c.task, c.args, c.kwargs, c.weight, _message_options(context, c.task)) for c in given)


def _message_options(context: click.Context, task: str) -> dict[str, Any]:
    """What the application's task gives its messages, but for where they go."""
    app = application(context)
    known = app.tasks.get(task)
    if known is None:  # a worker may know it all the same; it says so if not
        return {}
    names = ("serializer", "compression", "priority", "delivery_mode", "expires", "ignore_result")
    values = {name: getattr(known, name, None) for name in (*names, "time_limit", "soft_time_limit")}
    return {name: value for name, value in values.items() if value is not None}


def _message_settings(context: click.Context) -> dict[str, Any]:
    from celery_postgres.compare import OF_MESSAGES

    app = application(context)
    return {name: app.conf[name] for name in OF_MESSAGES if app.conf.get(name) is not None}


def _name(context: click.Context) -> str | None:
    name = context.find_root().params.get("app")
    return name if isinstance(name, str) else None


def _command() -> list[str]:
    """As it was typed, with all passwords masked; those of a URL in the middle of an argument, too."""
    from celery_postgres.compare import urls

    program, words, before = Path(sys.argv[0]).name, [], ""
    for word in sys.argv[1:]:
        option, equals, setting = word.partition("=")
        if before == "--option":
            words.append(_masked_option(word))
        elif option == "--option" and equals:
            words.append(f"--option={_masked_option(setting)}")
        else:
            words.append(urls.masked_in(word))
        before = word
    return [program, *words]


def _masked_option(text: str) -> str:
    """NAME:KEY=VALUE without what may be secret in the value."""
    from celery_postgres.compare import urls

    setting, equals, value = text.partition("=")
    read = _value(value)
    shown = urls.masked_value(setting.partition(":")[2], read)
    if shown == read:
        return text
    return f"{setting}{equals}{shown if isinstance(shown, str) else json.dumps(shown)}"
