"""Bugs as queues have had them, each to be planted into every process of a test run.

Nothing here is imported by the package, nor by a test that is not about a bug.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery_postgres.sql import Statement


def _changed(statement: Statement, old: str, new: str) -> Statement:
    assert old in statement.text, f"{statement.name} has changed: plant its bug anew"
    return dataclasses.replace(statement, text=statement.text.replace(old, new))


def ack_without_token() -> None:
    """An acknowledgement names the message alone."""
    from celery_postgres.sql import messages

    token = "deliveries = ($3::int[])[array_position($2::bigint[], message_id)]"
    anybody = _changed(messages.ACK, "consumer_id = $1::uuid AND", "$1::uuid IS NOT NULL AND")
    messages.ACK = _changed(anybody, token, "$3::int[] IS NOT NULL")  # type: ignore[misc]


def delete_on_claim() -> None:
    """What is claimed is gone from the database."""
    from celery_postgres.intake import Intake

    original = Intake._arrive

    def arrive(self: Intake, claimed: Any, source: Any = None) -> None:
        original(self, claimed, source)
        self.ack(claimed)

    Intake._arrive = arrive  # type: ignore[method-assign]


def id_watermark() -> None:
    """A session claims nothing with a lower id than it has claimed before."""
    from celery_postgres.sql import messages

    mark = "coalesce(nullif(current_setting('planted.mark', true), '')::bigint, 0)"
    above = _changed(
        messages.CLAIM, "WHERE queue_id = q.id", f"WHERE queue_id = q.id AND message_id > {mark}"
    )
    messages.CLAIM = _changed(  # type: ignore[misc]
        above,
        "ON m.id = p.message_id",
        "ON m.id = p.message_id WHERE set_config('planted.mark', p.message_id::text, false) IS NOT NULL",
    )


def no_look_from_the_beginning() -> None:
    """Who has begun to claim behind what was claimed before never looks in front of it again."""
    import math

    from celery_postgres.lanes import Lanes

    Lanes.next_at = property(lambda _: math.inf)  # type: ignore[method-assign,assignment]


def no_listen_again() -> None:
    """Who has lost a session hears no bell any more."""
    from celery_postgres import recovery

    original = recovery.Recovery.begin

    def begin(self: Any, session: Any, **options: Any) -> None:
        original(self, session, **options)
        self._settings = lambda: [] if self._pooled else [(recovery.NEVER_WAIT, ())]

    recovery.Recovery.begin = begin  # type: ignore[method-assign]


def wall_clock_lease() -> None:
    """Whoever has held a message for half a second has lost it."""
    from celery_postgres.sql import consumers

    owned = """claimed_at < now() - $1::float8 * interval '1 s' AND consumer_id = ANY (ARRAY (
            SELECT o.id FROM owner o WHERE NOT EXISTS (SELECT FROM {s}.consumer c WHERE c.id = o.id)))"""
    lease = "claimed_at < now() - least($1::float8, 0.5) * interval '1 s'"
    consumers.RELEASE_ORPHANS = _changed(consumers.RELEASE_ORPHANS, owned, lease)  # type: ignore[misc]


def swallow_on_publish() -> None:
    """A publish that has failed returns as if it had not."""
    from celery_postgres.commands import Commands
    from celery_postgres.errors import DatabaseUnavailable
    from celery_postgres.messages import Routed

    original = Commands._publish_once

    def publish(self: Commands, outgoing: Any, left: Any) -> Any:
        try:
            return original(self, outgoing, left)
        except DatabaseUnavailable:
            return Routed(queues={0: ""}, limited=[], exchange_exists=True, held=True)

    Commands._publish_once = publish  # type: ignore[method-assign]


def restore_on_loss() -> None:
    """With its session a worker gives back what it holds, also what it is executing."""
    from celery_postgres import recovery

    original = recovery.reconcile

    def reconcile(run: Any, consumer_id: Any, known: Any, held: Any) -> Any:
        from celery_postgres.messages import settle_arguments
        from celery_postgres.sql import messages

        if known:
            run((messages.RELEASE, settle_arguments(consumer_id, known)))
        return original(run, consumer_id, [], held)

    recovery.reconcile = reconcile  # type: ignore[assignment]


def no_pid_guard() -> None:
    """A child keeps its parent's sessions, and closes them as its own."""
    from celery_postgres import fork

    class Forgetful(set):  # type: ignore[type-arg]
        def add(self, _: object) -> None:
            pass

    fork._sessions = Forgetful()  # type: ignore[assignment]


def no_adoption() -> None:
    """A claim that a crash has undone is not repeated."""
    from celery_postgres import reconcile

    def claim_nothing(run: Any, consumer_id: Any, absent: Any, findings: Any) -> Any:
        findings.lost = list(absent.values())
        return set()

    reconcile._claim_again = claim_nothing


def no_ack_again() -> None:
    """An acknowledgement that a crash has undone is not repeated."""
    from celery_postgres import reconcile

    reconcile._acknowledged = lambda *_: []  # type: ignore[assignment]


def unknown_claims_stay() -> None:
    """A claim whose answer was lost is nobody's."""
    from celery_postgres import recovery

    original = recovery.reconcile

    def reconcile(*arguments: Any) -> Any:
        findings = original(*arguments)
        findings.unknown.clear()
        return findings

    recovery.reconcile = reconcile


def late_early_ack() -> None:
    """In the solo pool an early acknowledgement waits for the end of the task."""
    from celery_postgres import pacer
    from celery_postgres.worker import tasks

    tasks._acknowledge_before_solo_tasks = lambda original: original
    pacer.Pacer.arm = lambda *_: None  # type: ignore[method-assign]


#: What is planted, and the tests of which at least one must fail then.
BUGS: dict[str, tuple[Callable[[], None], str]] = {
    "ack_without_token": (ack_without_token, "tests/concurrency/test_settling.py"),
    "delete_on_claim": (delete_on_claim, "tests/reliability/test_chaos.py"),
    "id_watermark": (id_watermark, "tests/reliability/test_stateful.py"),
    "low_water_for_ever": (no_look_from_the_beginning, "tests/lanes"),
    "missing_re_LISTEN": (no_listen_again, "tests/reliability/test_hearing.py"),
    "wall_clock_lease": (wall_clock_lease, "tests/reliability/test_chaos.py"),
    "swallow_on_publish": (swallow_on_publish, "tests/reliability/test_cuts.py -k publish-publish"),
    "restore_on_loss": (restore_on_loss, "tests/reliability/test_chaos.py"),
    "no_pid_guard": (no_pid_guard, "tests/fork/test_fork.py"),
    "claim_is_not_adopted": (no_adoption, "tests/reliability/outage/test_reconciliation.py"),
    "ack_is_not_repeated": (no_ack_again, "tests/reliability/outage/test_reconciliation.py"),
    "lost_answer_of_a_claim": (unknown_claims_stay, "tests/reliability/test_cuts.py -k claim-claim"),
    "early_ack_after_a_solo_task": (late_early_ack, "tests/acceptance/test_killed.py -k solo"),
}


def plant(name: str) -> None:
    BUGS[name][0]()
