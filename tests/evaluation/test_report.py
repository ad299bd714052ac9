"""The report: what people read in a terminal."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from evaluation.errors import PermanentError, TransientError
from evaluation.excerpt import excerpt
from evaluation.findings import Finding, Highlight, PluginResult
from evaluation.lines import Lines
from evaluation.load import load
from evaluation.orchestrator import Orchestrator
from evaluation.registry import Registry, default_registry
from evaluation.report import Style, main, render

from tests.evaluation import PLANTED

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.document_view import DocumentView
    from sqlalchemy.orm import Session, sessionmaker


@pytest.fixture
def planted(sessions: sessionmaker[Session]) -> int:
    (evaluation_id,) = load(sessions, [PLANTED])
    Orchestrator(sessions, default_registry(), worker="w").process_evaluation(evaluation_id)
    return evaluation_id


def rendered(sessions: sessionmaker[Session], evaluation_id: int, style: Style | None = None) -> str:
    with sessions() as session:
        return render(session, evaluation_id, style)


def test_a_report_shows_grade_comments_and_plugins(sessions: sessionmaker[Session], planted: int) -> None:
    """Comments stand in the order of the document, each with its place and the line around it."""
    text = rendered(sessions, planted)
    assert text.startswith(
        f"A Guide to the Harbour\n{PLANTED}\nGrade 70 of 100: 6 errors, 8 warnings, 6 nitpicks.\n\n"
        "   11:35  warning  repetition   Doubled word\n"
        "          'the' stands twice in a row; drop one.\n"
        "          | The walk takes about an hour, and the the view is worth every step of it.\n"
        "          |                                   ^^^^^^^\n\n"
    )
    assert "\nplugin         grade  comments   seconds\nstructure         76         6    0.0" in text
    assert "\ntogether          70        20    0." in text
    assert text.endswith(
        f"Evaluation {planted}, version 1: editor 1 on version 1 of the document; job 1, by w, attempt 1.\n"
    )
    assert "\x1b" not in text


@pytest.mark.parametrize("width", [60, 100])
def test_a_report_fits_the_terminal(sessions: sessionmaker[Session], planted: int, width: int) -> None:
    """No line but the path and the signature is wider than asked for."""
    lines = rendered(sessions, planted, Style(width)).splitlines()
    assert max(len(line) for line in lines[2:-1]) <= width


def test_a_report_can_be_cut_short(sessions: sessionmaker[Session], planted: int) -> None:
    """What is left out is counted."""
    text = rendered(sessions, planted, Style(limit=2))
    assert text.count("^\n") == 2
    assert "\u2026 and 18 more.\n" in text


def test_colours_are_added_on_request(sessions: sessionmaker[Session], planted: int) -> None:
    """They change nothing else."""
    coloured = rendered(sessions, planted, Style(colour=True))
    assert "\x1b[31merror   \x1b[0m" in coloured
    assert re.sub(r"\x1b\[\d+m", "", coloured) == rendered(sessions, planted)


def test_a_document_cannot_steer_the_terminal(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """Control characters in the text are shown as replacements."""
    file = tmp_path / "bad.md"
    file.write_text("# \x1b]0;title\x07\n\nthe the \x1b[31m\x9b\u202e\t`x`\n")
    (evaluation_id,) = load(sessions, [file])
    Orchestrator(sessions, default_registry()).process_evaluation(evaluation_id)
    text = rendered(sessions, evaluation_id)
    assert "| the the \ufffd[31m\ufffd\ufffd `x`\n" in text
    assert text.startswith("\ufffd]0;title\ufffd\n")
    assert not any(character in text for character in "\x1b\x07\x9b\u202e\t")


def test_partial_results_and_lost_places_are_told(sessions: sessionmaker[Session], tmp_path: Path) -> None:
    """A failed plugin stands in the table with its error, a comment without a place with the reason."""

    class Lost:
        name = "lost"

        def analyze(self, view: DocumentView) -> PluginResult:
            place = Highlight("no such words", error="It is not there.")
            return PluginResult("Lost.", (Finding("info", "Where?", "Somewhere.", place),), 50)

    file = tmp_path / "a.md"
    file.write_text("a")
    (evaluation_id,) = load(sessions, [file], ["lost", "gone"])
    Orchestrator(sessions, Registry({"lost": Lost})).process_evaluation(evaluation_id)
    text = rendered(sessions, evaluation_id)
    assert "Partial: gone failed." in text
    assert "       ?  info     lost         Where?\n          Somewhere.\n" in text
    assert "          About \u201cno such words\u201d: It is not there.\n" in text
    assert "    failed: There is no plugin 'gone'; choose from lost.\n" in text


def test_without_a_result_the_report_says_how_far_it_is(
    sessions: sessionmaker[Session], tmp_path: Path
) -> None:
    """Status, and the last error if there was one."""

    class Busy:
        name = "busy"

        def analyze(self, view: DocumentView) -> PluginResult:
            raise TransientError("come back later")

    file = tmp_path / "a.md"
    file.write_text("a")
    (evaluation_id,) = load(sessions, [file], ["busy"])
    assert "is PENDING; there is no result.\n" in rendered(sessions, evaluation_id)
    with pytest.raises(TransientError):
        Orchestrator(sessions, Registry({"busy": Busy})).process_evaluation(evaluation_id)
    text = rendered(sessions, evaluation_id)
    assert text.endswith("is RUNNING; there is no result.\nTransientError in attempt 1: come back later\n")
    with pytest.raises(PermanentError, match="There is no evaluation 99"):
        rendered(sessions, 99)


@pytest.mark.parametrize(
    ("text", "start", "end", "shown", "marked"),
    [
        ("abc", 1, 2, "abc", "b"),
        ("ab\ncd", 1, 4, "ab", "b"),
        ("x" * 50 + "HERE" + "y" * 50, 50, 54, "\u2026" + "x" * 23 + "HERE" + "y" * 11 + "\u2026", "HERE"),
        ("x" * 100 + "HERE", 100, 104, "\u2026" + "x" * 35 + "HERE", "HERE"),
        ("HERE" + "y" * 100, 0, 4, "HERE" + "y" * 35 + "\u2026", "HERE"),
        ("x" * 100, 0, 100, "x" * 39 + "\u2026", "x" * 39 + "\u2026"),
    ],
)
def test_excerpts_keep_the_place_in_view(text: str, start: int, end: int, shown: str, marked: str) -> None:
    """Long lines are cut on either side, and the marks stay below the place."""
    part = excerpt(Lines(text), start, end, 40)
    assert (part.text, part.text[part.start : part.end]) == (shown, marked)


def test_the_command_prints_every_evaluation(
    sessions: sessionmaker[Session],
    planted: int,
    empty_module_database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Without a terminal there are no colours; an unknown id is an error in words."""
    monkeypatch.setenv("DATABASE_URL", empty_module_database_url)
    assert main(["--limit", "1"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("A Guide to the Harbour\n")
    assert "\x1b" not in printed
    assert main(["99"]) == 1
    assert capsys.readouterr().err == "There is nothing to show: There is no evaluation 99.\n"
