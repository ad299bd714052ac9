"""Documents and evaluations into the database."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest
from evaluation.database import transaction
from evaluation.errors import PermanentError
from evaluation.intake import Imported, import_file
from evaluation.load import load, main
from evaluation.models import Document, DocumentVersion, Evaluation, EvaluatorVersion, Status
from evaluation.orchestrator import Orchestrator
from evaluation.registry import default_registry
from sqlalchemy import select, update

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy.orm import Session, sessionmaker


def imported(sessions: sessionmaker[Session], path: Path) -> Imported:
    with transaction(sessions) as session:
        return import_file(session, path)


def test_a_file_is_stored_once_per_text(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """An unchanged file changes nothing, a changed one is a new version with its new title."""
    file = tmp_path / "guide.md"
    file.write_text("no heading")
    assert [imported(sessions, file) for _ in range(2)] == [Imported(1, 1, True), Imported(1, 1, False)]
    file.write_text("# The *Guide*\n")
    assert imported(sessions, file) == Imported(1, 2, True)
    with sessions() as session:
        document = session.scalars(select(Document)).one()
        assert (document.title, document.source) == ("The Guide", str(file))


def test_text_is_stored_as_offsets_count_it(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """One kind of line end, no byte order mark."""
    file = tmp_path / "dos.md"
    file.write_bytes(b"\xef\xbb\xbf# A\r\n\r\n\xf0\x9f\x98\x80\r\n")
    imported(sessions, file)
    with sessions() as session:
        assert session.scalars(select(DocumentVersion.content)).one() == "# A\n\n\U0001f600\n"


def test_imports_at_the_same_time_make_one_version(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """Ten importers of one file store each of its texts once."""
    file = tmp_path / "a.md"
    with ThreadPoolExecutor(10) as pool:
        for text in ("one", "two", "three"):
            file.write_text(text)
            results = list(pool.map(lambda _: imported(sessions, file), range(10)))
            assert sorted(result.created for result in results) == [False] * 9 + [True]


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"\xff\xfe", "UTF-8"), (b"a\0b", "null character")]
)
def test_unusable_files_are_refused(
    sessions: sessionmaker[Session], tmp_path: Path, content: bytes | None, reason: str
) -> None:
    """The error names the file and the reason, and nothing is stored."""
    file = tmp_path / "bad.md"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(PermanentError, match=f"bad.md.*{reason}"):
        imported(sessions, file)
    with sessions() as session:
        assert session.scalars(select(Document)).all() == []


def test_loading_leaves_pending_evaluations(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """One per file, in the order of the files, and the same ones when repeated."""
    files = [tmp_path / "a.md", tmp_path / "b.md"]
    for file in files:
        file.write_text(f"# {file.name}")
    ids = load(sessions, files)
    assert load(sessions, reversed(files)) == list(reversed(ids))  # type: ignore[arg-type]
    with sessions() as session:
        assert set(session.scalars(select(Evaluation.status))) == {Status.PENDING}
        assert session.scalars(select(EvaluatorVersion.version)).all() == [1]


def test_loading_again_reopens_what_has_no_result(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """A result for the present text stands; failed, cancelled and outdated evaluations are pending again."""
    file = tmp_path / "a.md"
    file.write_text("one")
    statuses = []

    def status_after_loading() -> None:
        load(sessions, [file])
        with sessions() as session:
            statuses.append(session.scalars(select(Evaluation.status)).one())

    def set_status(status: Status) -> None:
        with sessions.begin() as session:
            session.execute(update(Evaluation).values(status=status))

    for status in (Status.FAILED, Status.CANCELLED, Status.RUNNING):
        status_after_loading()
        set_status(status)
    status_after_loading()
    Orchestrator(sessions, default_registry()).process_evaluation(1)
    status_after_loading()
    file.write_text("two")
    status_after_loading()
    expected = [Status.PENDING] * 3 + [Status.RUNNING, Status.COMPLETED, Status.PENDING]
    assert statuses == expected


def test_other_plugins_are_a_new_evaluator_version(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """Evaluator versions are never changed, since results refer to them."""
    file = tmp_path / "a.md"
    file.write_text("a")
    load(sessions, [file], ["links"])
    load(sessions, [file], ["links"], {"links": {"base": "/"}})
    with sessions() as session:
        assert session.scalars(select(EvaluatorVersion.version)).all() == [1, 2]


def test_the_command_prints_the_ids(
    empty_database_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It makes the tables first, so that an empty database will do."""
    file = tmp_path / "a.md"
    file.write_text("a")
    monkeypatch.setenv("DATABASE_URL", empty_database_url)
    assert main([str(file)]) == 0
    assert capsys.readouterr().out == "1\n"
    assert main([str(tmp_path / "gone.md")]) == 1
    assert "Nothing was loaded" in capsys.readouterr().err
