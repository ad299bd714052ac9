"""The lines that the documents tell to search for are lines that the code writes."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from .documents import ROOT, blocks

#: A template with fewer letters than this would match anything.
_LETTERS_AT_LEAST = 15

_LINES = [
    pytest.param(line, id=f"{block}+{number}")
    for block in blocks(mark="log")
    for number, line in enumerate(block.text.splitlines())
]


@cache
def templates() -> list[re.Pattern[str]]:
    """Every text of the code, with its placeholders open."""
    found = []
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            pieces = _pieces(node)
            if sum(map(len, pieces)) >= _LETTERS_AT_LEAST:
                # An AMQP error ends with its code.
                found.append(re.compile(".+".join(map(re.escape, pieces)) + r"( \(\d{3}\))?"))
    return found


def _pieces(node: ast.AST) -> list[str]:
    """The fixed parts of a text, between its placeholders."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return re.split(r"%[a-z]", node.value.split("\n", 1)[0])  # a stack may follow
    if isinstance(node, ast.JoinedStr):
        joined = "".join(v.value if isinstance(v, ast.Constant) else "\0" for v in node.values)
        return joined.split("\0")
    return []


@pytest.mark.parametrize("line", _LINES)
def test_line_is_written_by_the_code(line: str) -> None:
    """Somewhere in the code stands the text, with placeholders where the line has values or …."""
    assert any(template.fullmatch(line) for template in templates())
