"""The report as a JSON file."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from celery_postgres.compare.report import file, json_file

from .hostile import hostile
from .sample import sample

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("spoil", [False, True])
def test_what_is_written_is_read(tmp_path: Path, spoil: bool) -> None:
    report = hostile(sample()) if spoil else sample()
    json_file.write(report, tmp_path / "report.json")
    assert json_file.read(tmp_path / "report.json") == report


def test_programs_find_the_fields_by_their_names(tmp_path: Path) -> None:
    json_file.write(sample(), tmp_path / "report.json")
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["baseline"] == "PostgreSQL"
    assert found["measures"][0]["key"] == "publish.noop"
    assert len(found["measures"][0]["rounds"]["Redis"]) == 5


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text("old")
    with pytest.raises(UnicodeEncodeError):
        file.write("new \ud800", path)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_symbolic_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "report.json"
    link.symlink_to(tmp_path / "elsewhere" / "real.json")
    file.write("{}", link)
    assert link.is_symlink()
    assert (tmp_path / "elsewhere" / "real.json").read_text() == "{}"


def test_what_is_no_file_is_written_to(tmp_path: Path) -> None:
    file.write("gone", "/dev/null")
    with pytest.raises(FileNotFoundError):
        file.write("nowhere", tmp_path / "no" / "report.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("not JSON", "is no JSON"),
        ("[]", "is no report"),
        ("{}", "a report of the format None"),
        ('{"format": 99}', "a report of the format 99: this release reads 1"),
        ('{"format": 1}', "a damaged one"),
        ('{"format": 1, "contenders": [{"colour": 3}]}', "a damaged one"),
        ('{"format": 1, "contenders": 7}', "a damaged one"),
    ],
)
def test_what_is_no_report_is_refused_by_its_path(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=said) as refused:
        json_file.read(path)
    assert str(path) in str(refused.value)
