"""`dead list|show|redrive|discard` as people type them."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.fixtures.worker import celery_argv

if TYPE_CHECKING:
    from .conftest import Cemetery

LETTER = [
    "message_id",
    "task_id",
    "name",
    "queue",
    "reason",
    "died_on",
    "deliveries",
    "created_on",
    "priority",
    "exchange",
    "routing_key",
]
CONTENT = ["content_type", "content_encoding", "headers", "properties", "body", "body_encoding"]


def numbers(cemetery: Cemetery) -> list[str]:
    return [str(row["message_id"]) for row in cemetery.dead()]


def test_list(cemetery: Cemetery) -> None:
    """The last that died first, one to a line; how many there are beyond the limit is said."""
    ids = [cemetery.kill(number) for number in range(3)]
    listed = cemetery.answer("list", "--limit", "2")
    assert [letter["task_id"] for letter in listed] == [ids[2], ids[1]]
    assert list(listed[0]) == LETTER
    done = cemetery.run("list", "--limit", "2")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["ID", "DIED", "REASON", "DELIVERIES", "QUEUE", "NAME"]
    assert [line.split()[0] for line in lines[1:]] == numbers(cemetery)[:0:-1]
    assert lines[1].split()[3:] == ["rejected", "1", "mail", "shop.greet"]
    assert done.stderr == "These are the last 2 of 3; --limit shows more.\n"
    assert cemetery.run("list", "--limit", "3").stderr == ""


def test_show(cemetery: Cemetery) -> None:
    """Everything: why, where from, headers, arguments; by the id of the task as well."""
    task_id = cemetery.kill("é", [1], priority=3, headers={"mine": "kept"}, kwargs={"who": "you"})
    for id_ in [task_id, *numbers(cemetery)]:
        told = cemetery.run("show", id_).stdout
        said = {line[:12].strip(): line[12:] for line in told.splitlines()}
        assert (said["task id"], said["name"], said["queue"]) == (task_id, "shop.greet", "mail")
        assert (said["reason"], said["deliveries"], said["priority"]) == ("rejected", "1", "3")
        assert (said["args"], said["kwargs"]) == ('["é", [1]]', '{"who": "you"}')
        assert '"mine": "kept"' in told
        assert '"delivery_mode": 2' in told
    (shown,) = cemetery.answer("show", task_id)
    assert list(shown) == LETTER + CONTENT
    assert shown["headers"]["mine"] == "kept"
    assert json.loads(shown["body"])[:2] == [["é", [1]], {"who": "you"}]


def test_show_what_only_the_application_can_read(cemetery: Cemetery) -> None:
    """Of a pickled body what Celery wrote for people is told; programs get its bytes."""
    task_id = cemetery.kill(1, "two", serializer="pickle")
    told = cemetery.run("show", task_id).stdout
    assert "args        (1, 'two')" in told
    assert "which only the application can read" in told
    (shown,) = cemetery.answer("show", task_id)
    assert shown["body_encoding"] == "base64"
    assert base64.b64decode(shown["body"]) == cemetery.dead()[0]["body"]


def test_show_message_that_is_no_task(cemetery: Cemetery) -> None:
    """Its body is told as it is, and nothing in it moves the cursor."""
    cemetery.declare("mail")
    message = cemetery.channel.prepare_message('"\\u001b[2J"', content_type="application/json")
    cemetery.channel.basic_publish(message, "", "mail")
    cemetery.reject()
    told = cemetery.run("show", *numbers(cemetery)).stdout
    assert "\x1b" not in told
    assert "\\u001b[2J" in told


def test_show_what_is_not_dead(cemetery: Cemetery) -> None:
    """What somebody takes for a dead letter is said to be what it is."""
    alive = cemetery.send(1)
    for id_, said in {
        alive: f"not dead: it is created, `job {alive}` tells more",
        "4711": "unknown: ",
    }.items():
        for command in ("show", "redrive", "discard"):
            done = cemetery.run(command, id_)
            assert (done.exit_code, done.stdout) == (1, "")
            assert f"{id_}  {said}" in done.stderr


def test_redrive_one(cemetery: Cemetery) -> None:
    """Named, it goes without a question."""
    ids = [cemetery.kill(number) for number in range(2)]
    done = cemetery.run("redrive", ids[0])
    assert (done.exit_code, done.stdout) == (0, "redriven: 1 (1 to mail)\n")
    assert [row["task_id"] for row in cemetery.dead()] == ids[1:]


def test_redrive_by_filter(cemetery: Cemetery) -> None:
    """With `--yes`; what does not match stays."""
    ids = [cemetery.kill(1), cemetery.kill(2, queue="post"), cemetery.kill(3, queue="post")]
    told = cemetery.answer("redrive", "--queue", "post", "--since", "1h", "--yes")
    assert told == {"redriven": 2, "queues": {"post": 2}, "expired": 0, "homeless": []}
    assert [row["task_id"] for row in cemetery.dead()] == ids[:1]
    again = cemetery.run("redrive", "--queue", "pots", "--yes")
    assert (again.exit_code, again.stdout) == (0, "redriven: 0\n")
    assert again.stderr == "No dead letter is like that.\n"
    assert "did you mean mail?" in cemetery.run("redrive", "--queue", "mial", "--yes").stderr


def test_redrive_without_a_queue(cemetery: Cemetery) -> None:
    """Exit code 1 and the remedy where a queue is gone; `--to` names another one, which must exist."""
    cemetery.kill(1, queue="old")
    cemetery.declare("mail")
    cemetery.channel.queue_delete("old")
    done = cemetery.run("redrive", "--all", "--yes")
    assert (done.exit_code, done.stdout) == (1, "redriven: 0\n")
    assert "not redriven: 1, queue old does not exist: declare it again" in done.stderr
    assert "--to QUEUE" in done.stderr
    done = cemetery.run("redrive", "--all", "--yes", "--to", "mial")
    assert done.exit_code == 2
    assert "did you mean mail?" in done.stderr
    assert cemetery.answer("redrive", "--all", "--yes", "--to", "mail")["queues"] == {"mail": 1}


def test_redrive_past_its_expiry(cemetery: Cemetery) -> None:
    """That a worker will revoke it is said, and how to have it run."""
    task_id = cemetery.kill(1, expires=0.001)
    assert "1 of them are past their `expires`" in cemetery.run("redrive", task_id).stderr
    cemetery.reject()
    assert cemetery.run("redrive", task_id, "--unexpire").stderr == ""


def test_discard(cemetery: Cemetery) -> None:
    """By id, by filter with a limit, and all."""
    ids = [cemetery.kill(number) for number in range(4)]
    assert cemetery.run("discard", ids[1]).stdout == "discarded: 1\n"
    assert cemetery.answer("discard", "--reason", "rejected", "--limit", "1", "--yes") == {"discarded": 1}
    assert [row["task_id"] for row in cemetery.dead()] == ids[2:]
    assert cemetery.run("discard", "--all", "--yes").stdout == "discarded: 2\n"
    assert cemetery.rows("SELECT id FROM celery.message") == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["redrive"], "which? Name IDs, or filters such as --queue and --reason, or --all"),
        (["discard", "--limit", "1"], "which? Name IDs"),
        (["redrive", "1", "--all"], "either IDs, or filters, or --all"),
        (["redrive", "1", "--queue", "mail"], "either IDs, or filters, or --all"),
        (["discard", "--all", "--name", "a"], "either filters, or --all"),
        (["list", "--reason", "expird"], "did you mean expired? The reasons are rejected, expired"),
        (["list", "--since", "yesterday"], "is no time"),
        (["list", "--limit", "0"], "0 is not in the range"),
        (["redrvie"], "No such command 'redrvie'"),
    ],
)
def test_bad_input(cemetery: Cemetery, arguments: list[str], said: str) -> None:
    """Refused with the remedy, and nothing is done."""
    cemetery.kill(1)
    done = cemetery.run(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(cemetery.dead()) == 1


def test_nobody_to_confirm(cemetery: Cemetery) -> None:
    """Without a terminal many are not touched unless `--yes` says so; what would be done is told."""
    cemetery.kill(1)
    cemetery.kill(2, queue="post")
    for command, goal in (("redrive", " to where they came from"), ("discard", "")):
        done = cemetery.run(command, "--all")
        assert done.exit_code == 2
        said = f"{command.title()} 2 dead letters (1 of mail, 1 of post){goal}? Nobody is there to confirm"
        assert said in done.stderr
    assert len(cemetery.dead()) == 2
    assert cemetery.run("list", "--queue", "nowhere").stdout == "No dead letter is like that.\n"


@pytest.mark.parametrize(("typed", "left"), [("y", 0), ("n", 2)])
def test_confirmation(cemetery: Cemetery, typed: str, left: int) -> None:
    """At a terminal the question names what it is about, and no is no."""
    for number in range(2):
        cemetery.kill(number)
    terminal, inside = pty.openpty()
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("celery-postgres")), "dead", "discard", "--queue", "mail"],
        env={**os.environ, "DATABASE_URL": cemetery.url},
        stdin=inside,
        stdout=inside,
        stderr=inside,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509
    )
    os.close(inside)
    said = b""
    while b"[y/N]" not in said:
        said += os.read(terminal, 1000)
    assert b"Discard 2 dead letters (2 of mail)?" in said
    os.write(terminal, f"{typed}\n".encode())
    assert process.wait(30) == (0 if typed == "y" else 1)
    os.close(terminal)
    assert len(cemetery.dead()) == left


def test_form_of_the_application(cemetery: Cemetery) -> None:
    """`celery -A app postgres dead …` takes the database from the application."""
    task_id = cemetery.kill(1)
    environment = {"PROBE_BROKER_URL": cemetery.url, "PROBE_RECORD": os.devnull}
    done = subprocess.run(
        celery_argv("postgres", "dead", "redrive", task_id, "--json"),
        cwd=Path(__file__).parents[1] / "acceptance" / "apps",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["redriven"] == 1, done.stderr
    assert cemetery.state(task_id) == "created"
