"""The document with planted errors: every plugin finds its own ones there, and nothing else."""

from __future__ import annotations

import pytest
from evaluation.document_view import DocumentView
from evaluation.registry import DETERMINISTIC, default_registry

from tests.evaluation import PLANTED

Found = tuple[int, int, str, str, str]

LONG = """\
The crane, which was brought here from the next town on a barge that nearly sank on the way, still
lifts every crate that comes into the harbour, although its chain was replaced twice, its wheel was
mended by a smith who had never seen a crane before, and nobody now alive remembers its colour."""

FINDINGS: dict[str, tuple[int | None, list[Found]]] = {
    "structure": (
        76,
        [
            (29, 6, "warning", "Heading level skipped", "The Crane"),
            (41, 4, "warning", "Empty section", "The Lighthouse"),
            (43, 4, "nitpick", "Repeated heading", "Before You Go"),
            (56, 3, "warning", "More than one title", "The Way Back"),
            (31, 1, "warning", "Image without a description", "![](crane.jpg)"),
            (37, 1, "nitpick", "Code block without a language", "```"),
        ],
    ),
    "links": (
        50,
        [
            (15, 19, "error", "Link to a missing heading", "[map of the town](#the-town-map)"),
            (16, 22, "error", "Link without a target", "[at the gate]()"),
            (58, 21, "error", "Malformed address", "[station](https:///station)"),
            (16, 42, "error", "Undefined reference", "[on the pier][tides]"),
            (20, 1, "nitpick", "Unused definition", "[old leaflet]: https://harbour.example/leaflet"),
        ],
    ),
    "spelling": (
        65,
        [
            (17, 15, "nitpick", "Unknown word", "recieve"),
            (45, 57, "nitpick", "Unknown word", "definately"),
            (53, 26, "nitpick", "Unknown word", "fourty"),
        ],
    ),
    "readability": (
        100,
        [
            (
                33,
                1,
                "warning",
                "Long sentence",
                LONG,
            )
        ],
    ),
    "repetition": (
        65,
        [
            (11, 35, "warning", "Doubled word", "the the"),
            (26, 76, "warning", "Doubled word", "to\nto"),
            (49, 15, "warning", "Doubled word", "for *for"),
        ],
    ),
    "arithmetic": (
        67,
        [
            (24, 72, "error", "Wrong result", "12 + 2 = 15"),
            (54, 12, "error", "Wrong result", "60 - 5 = 65"),
        ],
    ),
}


@pytest.fixture(scope="module")
def planted() -> DocumentView:
    return DocumentView(PLANTED.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_plugin_finds_exactly_what_was_planted(name: str, planted: DocumentView) -> None:
    """Grade, place, level, headline and quote of every finding are the expected ones."""
    result = default_registry().create(name, {}).analyze(planted)
    found = []
    for finding in result.findings:
        assert finding.highlight.problem(planted.text) is None
        assert finding.highlight.start is not None
        line, column = planted.lines.position(finding.highlight.start)
        found.append((line, column, finding.level, finding.header, finding.highlight.quoted_text))
    assert (result.grade, found) == FINDINGS[name]


def test_every_deterministic_plugin_has_planted_errors() -> None:
    """No plugin is left without an expectation."""
    assert set(FINDINGS) == set(DETERMINISTIC)
