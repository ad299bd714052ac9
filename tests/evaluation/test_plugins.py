"""Each deterministic plugin at its limits; what it finds in a document is in test_planted_document."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from evaluation.document_view import DocumentView
from evaluation.errors import PermanentError
from evaluation.findings import Highlight
from evaluation.grading import density_grade, mean_grade, share_grade
from evaluation.plugins.arithmetic import Arithmetic
from evaluation.plugins.links import Links
from evaluation.plugins.readability import Readability
from evaluation.plugins.repetition import Repetition
from evaluation.plugins.spelling import Spelling
from evaluation.plugins.structure import Structure
from evaluation.registry import DETERMINISTIC, default_registry

if TYPE_CHECKING:
    from pathlib import Path

    from evaluation.findings import Plugin


def quotes(plugin: Plugin, text: str) -> list[str]:
    return [finding.highlight.quoted_text for finding in plugin.analyze(DocumentView(text)).findings]


@pytest.mark.parametrize(
    "text",
    [
        "2 + 2 = 4.",
        "10 / 3 = 3.33",
        "20 / 3 = 6.66",
        "20 / 3 = 6.67",
        "(2 + 3) * 4 = 20",
        "2 + 3 * 4 = 14",
        "1,000 + 500 = 1,500",
        "0.1 + 0.2 = 0.3",
        "3 - 5 = -2",
        "-3 + 5 = 2",
        "10 / 3 = 20 / 6",
        "2 + 2 = 4 - as ever",
        "7 \u2212 3 = 4 and 2 \u00d7 3 = 6 and 6 \u00f7 2 = 3",
        "1 + 1 = 2 = 2",
    ],
)
def test_right_equations_pass(text: str) -> None:
    """A true equation counts and is not remarked upon, rounded or cut off as it may be."""
    result = Arithmetic().analyze(DocumentView(text))
    assert (result.grade, result.findings) == (100, ())


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("2 + 2 = 5", "2 + 2 = 5"),
        ("In 2024, 2 + 2 = 5.", "2 + 2 = 5"),
        ("see (3) 2 \\* 2 = 5", "2 \\* 2 = 5"),
        ("**2 + 2** = 5", "2 + 2** = 5"),
        ("a = 3 + 4 = 8", "3 + 4 = 8"),
        ("1 +\n1 = 3", "1 +\n1 = 3"),
        ("1 / 0 = 0", "1 / 0 = 0"),
        ("0 / 0 = 0", "0 / 0 = 0"),
        ("2 + 2 = 1 + 4", "2 + 2 = 1 + 4"),
        ("10 / 3 = 3.34", "10 / 3 = 3.34"),
    ],
)
def test_wrong_equations_are_quoted_whole(text: str, wrong: str) -> None:
    """The finding covers the sum and the result, whatever stands around them."""
    assert quotes(Arithmetic(), text) == [wrong]


@pytest.mark.parametrize(
    "text",
    [
        "x * 2 + 2 = 9",
        "f(2) + 2 = 5",
        "2^3 + 1 = 9",
        "2 + 1 = 9^2",
        "10% + 5 = 3",
        "50 * 2 = 99%",
        "1 + 1 == 3",
        "1 + 1 <= 3",
        "x = 2 + 3",
        "5 = 6",
        "version 1.2.3 - 1 = 4",
        "`2 + 2 = 5`",
        "9" * 40 + " + 1 = 2",
        "$2 + $2 = $5",
        "2 + 2 =",
        "= 5",
    ],
)
def test_what_is_no_plain_equation_is_left_alone(text: str) -> None:
    """Formulas, percentages, comparisons and code are not arithmetic."""
    assert Arithmetic().analyze(DocumentView(text)).grade is None


def test_links_lead_to_headings_anchors_and_definitions() -> None:
    """Fragments in any case, HTML anchors, references and external addresses are good links."""
    text = (
        '# \u00dcber Uns\n\n<a id="there"></a>[a](#\u00fcber-uns) [b](#there) [c][R] [R][] [R] '
        "[d](#) [e](#top) [f](other.md#x) [g](mailto:a@b.c) <https://a.b> ![h](i.png)\n\n[r]: https://a.b\n"
    )
    result = Links().analyze(DocumentView(text))
    assert (result.grade, result.findings) == (100, ())


def test_files_are_looked_up_beside_the_document(tmp_path: Path) -> None:
    """With a base folder, a link to a file that is not there is broken."""
    (tmp_path / "here it is.md").touch()
    text = "[a](here%20it%20is.md#x) [b](gone.md) [c](https://gone.md)"
    assert quotes(Links(base=str(tmp_path)), text) == ["[b](gone.md)"]
    assert quotes(Links(), text) == []


def test_an_index_in_prose_is_no_reference() -> None:
    """Two pairs of brackets after a word are not taken for a link."""
    assert quotes(Links(), "The cell a[i][j] holds it.") == []


def test_spelling_looks_at_plain_lower_case_words_only() -> None:
    """Names, identifiers, paths, addresses, code and allowed words are not looked up."""
    text = "Xyzzq xyz_zq xyz/zq xyzzq2 xyzzq.py `xyzzq` a@xyzzq.org don't dog's dogs' xyzzq\u200bq fleebly"
    assert quotes(Spelling(allow=["fleebly"]), text) == []


def test_an_unknown_word_is_reported_once() -> None:
    """The first place is shown, the number of places is told."""
    (finding,) = (
        Spelling().analyze(DocumentView("a well-fleebed dog (fleebed) is \u201cfleebed\u201d")).findings
    )
    assert (finding.highlight.start, finding.highlight.quoted_text) == (7, "fleebed")
    assert finding.description == "Did you mean 'fleeced'? It occurs 3 times."


def test_sentences_end_before_capitals() -> None:
    """An abbreviation does not end a sentence; headings and table cells are not sentences."""
    text = "# One two three\n\nOne, e.g. two three. Four.\n\n| One two three four |\n|---|\n"
    assert quotes(Readability(longest_sentence=3), text) == ["One, e.g. two three."]


def test_too_few_words_are_not_graded() -> None:
    """Readability needs some text to say anything."""
    assert Readability().analyze(DocumentView("One two.")).grade is None


@pytest.mark.parametrize(
    "text", ["the `the`", "the-the", "that that", "on-the the", "the. The", "a\n\na", "10 10"]
)
def test_not_every_repetition_is_a_doubled_word(text: str) -> None:
    """Code, hyphens, full stops and paragraphs separate; some words do double in English."""
    assert quotes(Repetition(), text) == []


def test_equal_headings_in_different_sections_are_fine() -> None:
    """A change log repeats its headings in every section."""
    assert quotes(Structure(), "# A\n\n## 1\n\n### Added\n\nx\n\n## 2\n\n### Added\n\nx\n") == []


def test_a_perfect_structure_earns_full_marks_and_a_bad_one_none() -> None:
    """The grade of the structure stays between 0 and 100."""
    assert Structure().analyze(DocumentView("# A\n\nx")).grade == 100
    assert Structure().analyze(DocumentView("![](a)\n" * 30)).grade == 0


@pytest.mark.parametrize(
    "unit",
    ["a", "xq ", ".", "a.", "(", "[", "![", "1+", "1 = ", "=1", "<a", "**a ", "`", "# a\n\n", "| a ", "- "],
)
def test_no_text_takes_long(unit: str) -> None:
    """The work grows with the length of the text, not with its square."""
    view = DocumentView(unit * (20_000 // len(unit)))
    for name in DETERMINISTIC:
        default_registry().create(name, {}).analyze(view)


def test_an_unknown_plugin_is_named_with_its_alternatives() -> None:
    """The error says what could be chosen instead."""
    with pytest.raises(PermanentError, match=r"no plugin 'grammar'; choose from arithmetic, links, llm"):
        default_registry().create("grammar", {})


def test_unusable_settings_are_refused() -> None:
    """A setting that the plugin does not have is an error and not ignored."""
    with pytest.raises(PermanentError, match="settings of plugin 'links' do not fit"):
        default_registry().create("links", {"colour": "red"})


def test_a_highlight_holds_only_where_the_text_says_the_same() -> None:
    """Every way in which a place can be wrong is told in words."""
    assert Highlight("b", 1, 2).problem("abc") is None
    assert Highlight("x", 1, 2).problem("abc") == "The text at 1 to 2 is not the quoted text."
    assert Highlight("b", 1, 9).problem("abc") == "The place 1 to 9 lies outside of the text (3 characters)."
    assert Highlight("", 1, 1).problem("abc") == "The place 1 to 1 lies outside of the text (3 characters)."
    assert Highlight("b").problem("abc") == "The comment names no place in the text."
    assert Highlight("b", error="Not found.").problem("abc") == "Not found."


def test_grades_come_from_counts() -> None:
    """Density goes down in steps, shares are per cent, means weigh, and nothing graded is None."""
    assert [density_grade(count, 100) for count in (0, 1, 2, 3, 9)] == [100, 80, 65, 45, 25]
    assert [density_grade(1, 0), share_grade(0, 0), mean_grade([]), mean_grade([(50, 0.0)])] == [None] * 4
    assert [share_grade(2, 3), mean_grade([(100, 1.0), (40, 2.0)])] == [67, 60]
