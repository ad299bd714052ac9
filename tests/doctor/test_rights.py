"""Rights that are missing, or that others should not have, are found; the remedy is the cure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from celery_postgres.doctor import OK, PROBLEM
from celery_postgres.purposes import PURPOSES
from celery_postgres.rights import grants_for, script

if TYPE_CHECKING:
    from collections.abc import Callable

    from .conftest import Doctor


def test_role_without_rights(doctor: Doctor, new_role: Callable[..., str]) -> None:
    """What is missing for the purpose is named, and the remedy is the cure."""
    role = new_role()
    url = doctor.admin.url_of(role)
    doctor.admin.run(*grants_for(PURPOSES["monitor"], "celery", role))
    assert doctor.finding("rights", "suffice for: monitor", url).severity == OK
    found = doctor.finding("rights", "lacks for a producer", url, needs=("producer", "monitor"))
    assert found.severity == PROBLEM
    assert "INSERT on message" in found.said
    assert "USAGE on sequence broadcast_id_seq" in found.said
    doctor.cure(found.remedy)
    assert doctor.finding("rights", "suffice for: producer, monitor", url, needs=("producer",)).severity == OK


def test_role_without_any_right(doctor: Doctor, new_role: Callable[..., str]) -> None:
    """The first connection fails already, with the GRANT."""
    url = doctor.admin.url_of(new_role())
    assert "GRANT USAGE" in doctor.finding("connection", "permission denied", url).remedy


def test_rights_of_everybody(doctor: Doctor) -> None:
    doctor.admin.run("GRANT SELECT ON celery.message TO PUBLIC")
    found = doctor.finding("rights", "everybody who may connect has rights on message")
    doctor.cure(found.remedy)
    assert len(doctor.findings("rights")) == 1


@pytest.mark.parametrize("purpose", PURPOSES)
def test_every_role_can_ask(doctor: Doctor, new_role: Callable[..., str], purpose: str) -> None:
    """What a role may not look at is said; a monitor sees everything but what other sessions do."""
    role = new_role()
    doctor.admin.run(script("celery", {purpose: role}))
    found = doctor.examine(doctor.admin.url_of(role)).findings
    blind = [finding for finding in found if "not looked at" in finding.said]
    assert bool(blind) == (purpose == "producer")
    assert all("celery-postgres grants" in finding.remedy for finding in blind)
