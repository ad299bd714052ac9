"""All checks together: what the command prints, and its exit code."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from celery_postgres.cli import main
from celery_postgres.doctor import OK, worst

if TYPE_CHECKING:
    from .conftest import Doctor


def test_healthy(doctor: Doctor) -> None:
    """Nothing is invented."""
    found = doctor.examine().findings
    assert [finding for finding in found if finding.severity != OK] == []
    assert len({finding.check for finding in found}) == 13
    assert worst(found) == OK


@pytest.mark.parametrize(
    ("statement", "code"),
    [
        ("SELECT 1", 0),
        ("GRANT SELECT ON celery.queue TO PUBLIC", 1),
        ("DROP INDEX celery.message_expiry_idx", 2),
    ],
)
def test_exit_code(doctor: Doctor, statement: str, code: int) -> None:
    """0 for ok, 1 for warnings, 2 for problems; the text and the JSON say the same."""
    doctor.admin.run(statement)
    text = CliRunner().invoke(main, ["--url", doctor.url, "doctor"])
    told = CliRunner().invoke(main, ["--url", doctor.url, "doctor", "--json"])
    assert (text.exit_code, told.exit_code) == (code, code), text.output
    document = json.loads(told.output)
    assert document["worst"] == ("ok", "warning", "problem")[code]
    for finding in document["findings"]:
        assert set(finding) == {"check", "severity", "said", "remedy", "figures"}
        assert re.search(rf"^{finding['severity']} +{finding['check']} ", text.output, re.MULTILINE)
    assert doctor.admin.password not in text.output + told.output


def test_url_that_is_wrong() -> None:
    """A problem, as whatever keeps it from looking: whoever goes by the exit code hears of it."""
    url = "postgresql://127.0.0.1/db?schem=x"
    told = CliRunner().invoke(main, ["--url", url, "doctor", "--json"])
    assert told.exit_code == 2
    (found,) = json.loads(told.output)["findings"]
    assert (found["check"], found["severity"]) == ("connection", "problem")
    assert "schem" in found["said"] + found["remedy"]
    assert CliRunner().invoke(main, ["--url", url, "doctor"]).exit_code == 2
