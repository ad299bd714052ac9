"""`dead`: what nobody will execute by itself is listed, told, given back, or forgotten."""

from __future__ import annotations

import base64
import json
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from celery_postgres.dead import REASONS, DeadLetters, Filter, Redriven
from celery_postgres.jobs import Jobs
from celery_postgres.wakeup import Bell

from .filters import meant, read_moment
from .output import as_json, document, moment, printable, record, table, terminal_width
from .target import reporting, target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery_postgres.dead import Content, DeadLetter, Origin
    from celery_postgres.wire import Session

    from .target import Target

_HEADINGS = ("ID", "DIED", "REASON", "DELIVERIES", "QUEUE", "NAME")


@click.group()
def dead() -> None:
    """What was rejected, expired or delivered too often, and is kept in dead_letter."""


def _reason(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    if value is None or value.lower() in REASONS:
        return value and value.lower()
    raise click.BadParameter(
        f"{value!r} is no reason: {meant(value, REASONS)}The reasons are {', '.join(REASONS)}."
    )


def _filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that choose dead letters."""
    for option in (
        click.option("--before", callback=read_moment, help="Only what died before then."),
        click.option(
            "--since", callback=read_moment, help="Only what died since then: a time, or how long ago: 2h."
        ),
        click.option("--reason", callback=_reason, help=f"Only for this reason: {', '.join(REASONS)}."),
        click.option("--name", help="Only of this task; * stands for anything."),
        click.option("--queue", help="Only what came from this queue."),
    ):
        command = option(command)
    return command


def _many(command: Callable[..., Any]) -> Callable[..., Any]:
    """The arguments and options of what changes dead letters, one or many."""
    for option in (
        as_json,
        click.option("--yes", is_flag=True, help="Do not ask."),
        click.option("--limit", type=click.IntRange(1), help="At most so many, the oldest messages first."),
        click.option("--all", "everything", is_flag=True, help="All that there are."),
        _filters,
        click.argument("ids", metavar="[ID]…", nargs=-1),
    ):
        command = option(command)
    return command


def _dead_letters(aim: Target, session: Session) -> DeadLetters:
    return DeadLetters(session, aim.timeout, Bell(aim.options.schema) if aim.options.notify else None)


# -- looking ------------------------------------------------------------------------------------------


@dead.command("list")
@_filters
@click.option(
    "--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many."
)
@as_json
@click.pass_context
@reporting
def list_(context: click.Context, as_json: bool, limit: int, **chosen: Any) -> None:
    """List dead letters, the last that died first."""
    wanted = Filter(**chosen)
    aim = target(context)
    with aim.session() as session:
        letters = _dead_letters(aim, session)
        found = letters.last(wanted, limit)
        if as_json:
            click.echo(document([record(letter) for letter in found]))
        elif found:
            rows = [(f.message_id, moment(f.died_on), f.reason, f.deliveries, f.queue, f.name) for f in found]
            click.echo(table(_HEADINGS, rows, terminal_width()))
        if len(found) == limit:
            total = sum(origin.dead for origin in letters.count(wanted))
            if total > limit:
                click.echo(f"These are the last {limit:,} of {total:,}; --limit shows more.", err=True)
        if not found:
            click.echo(_nothing(letters, wanted), err=as_json)


def _nothing(letters: DeadLetters, wanted: Filter) -> str:
    if wanted == Filter():
        return "No dead letter is kept."
    known = {origin.queue for origin in letters.count(Filter()) if origin.queue is not None}
    hint = "" if wanted.queue is None or wanted.queue in known else meant(wanted.queue, known)
    return f"No dead letter is like that{': ' + hint.strip() if hint else '.'}"


@dead.command()
@click.argument("id_", metavar="ID")
@as_json
@click.pass_context
@reporting
def show(context: click.Context, id_: str, as_json: bool) -> None:
    """Tell everything about one dead letter, with its headers and arguments.

    ID is the number that `dead list` prints, or the id of a task, which may have several.
    """
    aim = target(context)
    with aim.session() as session:
        letters = _dead_letters(aim, session)
        found = letters.read(letters.identify([id_])[id_])
        if not found:
            _refuse(aim, session, [id_])
    if as_json:
        click.echo(document([{**record(letter), **_content(content)} for letter, content in found]))
    else:
        click.echo("\n\n".join(_told(*one) for one in found))


def _refuse(aim: Target, session: Session, ids: Sequence[str]) -> NoReturn:
    """What somebody took for a dead letter: say what it is."""
    for id_ in ids:
        found = Jobs(session, aim.timeout).find(id_)
        if found is None:
            said = "unknown: it was redriven, discarded, or never dead; `dead list` tells what is there"
        else:
            said = f"not dead: it is {found[0].state}, `job {printable(id_)}` tells more"
        click.echo(f"{printable(id_)}  {said}", err=True)
    sys.exit(1)


def _content(content: Content) -> dict[str, Any]:
    """For programs: the body as text where it is text."""
    try:
        body, encoding = content.body.decode(), "utf-8"
    except UnicodeDecodeError:
        body, encoding = base64.b64encode(content.body).decode(), "base64"
    return {**record(content), "body": body, "body_encoding": encoding}


def _told(letter: DeadLetter, content: Content) -> str:
    headers = content.headers
    known = [
        ("id", letter.message_id),
        ("task id", letter.task_id),
        ("name", letter.name),
        ("reason", letter.reason),
        ("died", moment(letter.died_on)),
        ("queue", letter.queue or "gone when it died"),
        ("deliveries", letter.deliveries),
        ("created", moment(letter.created_on)),
        ("eta", headers.get("eta")),
        ("expires", headers.get("expires")),
        ("retries", headers.get("retries")),
        ("priority", letter.priority),
        ("exchange", letter.exchange or None),
        ("routing key", letter.routing_key),
        *_arguments(content),
        ("headers", _json(headers)),
        ("properties", _json(content.properties)),
    ]
    return "\n".join(f"{label:<12}{printable(str(value))}" for label, value in known if value is not None)


def _arguments(content: Content) -> list[tuple[str, object]]:
    """Of a task what it is called with; of any other message the body."""
    size = f"{len(content.body):,} bytes of {content.content_type or 'no content type'}"
    try:
        body = json.loads(content.body) if content.content_type == "application/json" else None
    except ValueError:  # compressed
        body = None
    if body is None:
        said = [("args", content.headers.get("argsrepr")), ("kwargs", content.headers.get("kwargsrepr"))]
        return [*said, ("body", f"{size}, which only the application can read")]
    match body:
        case [list(args), dict(kwargs), dict(embedded)] if "task" in content.headers:
            then = {key: value for key, value in embedded.items() if value}
            return [
                ("args", _json(args)),
                ("kwargs", _json(kwargs)),
                ("then", _json(then) if then else None),
                ("body", size),
            ]
    return [("body", _json(body))]


def _json(value: object) -> str:
    """In one line where it is short, indented below where it is not."""
    line = json.dumps(value, ensure_ascii=False)
    return line if len(line) <= 100 else "\n" + json.dumps(value, ensure_ascii=False, indent=2)


# -- acting -------------------------------------------------------------------------------------------


@dead.command()
@_many
@click.option("--to", "to", metavar="QUEUE", help="Into this queue, and not where they came from.")
@click.option(
    "--unexpire", is_flag=True, help="Take Celery's `expires` away: what is past it runs all the same."
)
@click.pass_context
@reporting
def redrive(context: click.Context, to: str | None, unexpire: bool, **given: Any) -> None:
    """Give dead letters back to the queues that they came from, to be executed.

    Name them by ID (the number that `dead list` prints, or the id of a task), or choose them by filters, or
    all. Exit code 1 if one of them is not redriven.
    """
    aim = target(context)
    with aim.session() as session:
        letters = _dead_letters(aim, session)
        if to is not None:
            _check_queue(letters, to)
        chosen = _chosen(aim, session, letters, given, "Redrive", to)
        done = Redriven()
        try:
            for some in letters.redrive(chosen, to=to, unexpire=unexpire, limit=given["limit"]):
                done.add(some)
        finally:  # also where it is interrupted: what was told is done
            _tell_redriven(done, quiet=given["as_json"])
        if not done.moved and not done.homeless and isinstance(chosen, Filter):
            click.echo(_nothing(letters, chosen), err=True)
    if done.homeless:
        sys.exit(1)


def _tell_redriven(done: Redriven, *, quiet: bool) -> None:
    if quiet:
        homeless = [{"queue": queue, "dead": number} for queue, number in done.homeless.items()]
        told = {"redriven": done.moved.total(), "queues": dict(done.moved), "expired": done.expired}
        click.echo(document({**told, "homeless": homeless}))
    else:
        where = ", ".join(f"{number:,} to {printable(queue)}" for queue, number in sorted(done.moved.items()))
        click.echo(f"redriven: {done.moved.total():,}{f' ({where})' if where else ''}")
    if done.expired:
        click.echo(
            f"{done.expired:,} of them are past their `expires`: a worker will revoke and not run them; "
            "--unexpire would have taken that away",
            err=True,
        )
    for queue, number in done.homeless.items():
        _tell_homeless(queue, number)


def _tell_homeless(queue: str | None, number: int) -> None:
    gone = f"queue {printable(queue)} does not exist" if queue else "their queue was gone when they died"
    again = "declare it again (a worker that consumes it does), or " if queue else ""
    click.echo(f"not redriven: {number:,}, {gone}: {again}name another one with --to QUEUE", err=True)


@dead.command()
@_many
@click.pass_context
@reporting
def discard(context: click.Context, **given: Any) -> None:
    """Delete dead letters for good.

    Name them by ID, or choose them by filters, or all, as for `dead redrive`.
    """
    aim = target(context)
    with aim.session() as session:
        letters = _dead_letters(aim, session)
        chosen = _chosen(aim, session, letters, given, "Discard", None)
        gone = 0
        try:
            for number in letters.discard(chosen, limit=given["limit"]):
                gone += number
        finally:
            click.echo(document({"discarded": gone}) if given["as_json"] else f"discarded: {gone:,}")
        if not gone and isinstance(chosen, Filter):
            click.echo(_nothing(letters, chosen), err=True)


def _check_queue(letters: DeadLetters, name: str) -> None:
    known = letters.queues()
    if name not in known:
        raise click.BadParameter(
            f"no queue {printable(name)!r} takes messages: {meant(name, known)}"
            "`queues` lists them; a worker that consumes it declares it.",
            param_hint="--to",
        )


def _chosen(
    aim: Target, session: Session, letters: DeadLetters, given: dict[str, Any], act: str, to: str | None
) -> Filter | list[int]:
    """Those that were named, or a filter that was confirmed. Exits where a name is wrong."""
    ids: tuple[str, ...] = given["ids"]
    wanted = Filter(**{key: given[key] for key in ("queue", "name", "reason", "since", "before")})
    if ids:
        if given["everything"] or wanted != Filter():
            raise click.UsageError("either IDs, or filters, or --all")
        identified = letters.identify(list(dict.fromkeys(ids)))
        unknown = [id_ for id_, meant_ in identified.items() if not meant_]
        if unknown:
            _refuse(aim, session, unknown)
        return [message_id for meant_ in identified.values() for message_id in meant_]
    if wanted == Filter() and not given["everything"]:
        raise click.UsageError("which? Name IDs, or filters such as --queue and --reason, or --all")
    if wanted != Filter() and given["everything"]:
        raise click.UsageError("either filters, or --all")
    if not given["yes"]:
        _confirm(letters.count(wanted), given["limit"], act, to)
    return wanted


def _confirm(origins: list[Origin], limit: int | None, act: str, to: str | None) -> None:
    """Ask, unless there is nothing to ask for."""
    total = sum(origin.dead for origin in origins)
    if not total:
        return
    some = (
        f"{total:,} dead letters"
        if limit is None or limit >= total
        else f"{limit:,} of {total:,} dead letters"
    )
    where = ", ".join(f"{origin.dead:,} of {printable(origin.queue or 'no queue')}" for origin in origins)
    goal = "" if act == "Discard" else f" to {printable(to)}" if to else " to where they came from"
    if not sys.stdin.isatty():
        raise click.UsageError(f"{act} {some} ({where}){goal}? Nobody is there to confirm: add --yes")
    click.confirm(f"{act} {some} ({where}){goal}?", abort=True, err=True)
