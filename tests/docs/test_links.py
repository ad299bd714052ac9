"""Every link leads somewhere, and those to tests lead to tests that exist."""

from __future__ import annotations

import re

import pytest

from .documents import DOCUMENTS, Link, anchors, links


@pytest.mark.parametrize("link", links(), ids=str)
def test_link_resolves(link: Link) -> None:
    """File and heading exist; a link whose text is a test's name leads to the file that has it."""
    path, _, anchor = link.target.partition("#")
    target = (link.document.parent / path).resolve() if path else link.document
    assert target.exists(), f"{link}: no such file"
    if anchor:
        assert anchor in anchors(target), f"{link}: no such heading"
    if named := re.fullmatch(r"`(test_\w+)`", link.text):
        assert re.search(rf"^\s*def {named[1]}\(", target.read_text(encoding="utf-8"), re.MULTILINE)


def test_every_promise_has_a_test() -> None:
    """No row of the tables of promises is without a link to a test."""
    (guarantees,) = (document for document in DOCUMENTS if document.name == "guarantees.md")
    rows = [line for line in guarantees.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    promises = [row for row in rows if not row.rstrip().endswith("| test |")]
    assert promises
    for row in promises:
        assert re.search(r"\[`test_\w+`\]\(", row.rpartition("|")[0].rpartition("|")[2]), row
