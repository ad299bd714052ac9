"""Of several hosts the commands look at the primary, also where a standby comes first."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from celery_postgres import dsn, schema
from celery_postgres.cli import main
from tests.fixtures.standby import execute, standby, url_of_both

if TYPE_CHECKING:
    from tests.fixtures.standby import Standby

__all__ = ["standby"]


@pytest.mark.timeout(600)
def test_commands_go_to_the_primary(embedded_server, standby: Standby, tmp_path) -> None:
    schema.upgrade(dsn.parse(embedded_server.url), "celery")
    url = url_of_both(standby, embedded_server)
    doctor = CliRunner().invoke(main, ["--url", url, "doctor", "--json"])
    assert [f for f in json.loads(doctor.output)["findings"] if "not looked at" in f["said"]] == []
    execute(embedded_server.url, "CREATE ROLE watcher")
    grants = ["grants", "--only", "monitor", "--monitor", "watcher", "--apply"]
    granted = CliRunner().invoke(main, ["--url", url, *grants])
    assert granted.exit_code == 0, granted.output
    report = tmp_path / "report.json"
    CliRunner().invoke(main, ["--url", url, "verify", "--json", str(report), "--timeout", "1"])
    checks = {check["name"]: check["verdict"] for check in json.loads(report.read_text())["checks"]}
    assert checks["connection"] == checks["schema"] == checks["removal"] == "PASS"
