"""The guide as a sequence of steps: what is executed, what it prints, and how the two are compared.

A comment before a block says what it is:

    <!-- step: NAME, exit N -->    executed in this order; the name is for the table of times
    <!-- long step: … -->          the same, if the long tests are run
    <!-- redis step: … -->         the same, where there is a Redis beside
    <!-- prints -->                what the step before it prints
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.docs.documents import ROOT, Block, blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

GUIDE = ROOT / "docs" / "proof-of-concept.md"

_STEP = re.compile(r"(redis |long )?step(?:: (?P<name>.+?))?(?:, exit (?P<code>\d+))?")

# What differs from run to run, each with what stands for it.
_MASKS = (
    (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "ID"),
    (r"postgresql://[^\s:]\S*", "postgresql://SOMEWHERE"),
    (r"celery_verify_\w+", "celery_verify_X"),
    (r"\b\d{4}-\d\d-\d\dT[\d:.+]+", "TIME"),
    (r"\b\d\d:\d\d:\d\d\b", "TIME"),
    (r"^[0-9a-f]{8} ", "ID "),
    (r"\d+(\.\d+)? (ms|s|MB)\b", r"N \2"),
    (r"\b(PostgreSQL|Python|celery|kombu|psycopg|version) \d+(\.\d+)+", r"\1 V"),
    (r"as [\w]+(, a superuser,)?", "as SOMEBODY"),
    (r"\w+(, a superuser,)? may create", "SOMEBODY may create"),
    (r"\w+@[\w.-]+:", "WORKER:"),
    (r'\b(database|role) "?\w+"?', r"\1 X"),
    (r'ON DATABASE "?\w+"? TO "?\w+"?', "ON DATABASE X TO X"),
    (r"^ +\d+ +oldest waits, N s$|^ +\d+ +oldest waits, s$", "oldest"),
    (r" +", " "),
)


@dataclass(frozen=True)
class Step:
    """One block that is executed, and the block in which its output stands."""

    name: str
    block: Block
    code: int
    printed: Block | None
    long: bool
    redis: bool

    def __str__(self) -> str:
        return self.name or str(self.block)


def steps() -> list[Step]:
    """The steps in their order; one without a name belongs to the one before."""
    found: list[Step] = []
    all_blocks = [block for block in blocks() if block.document == GUIDE]
    for block, following in zip(all_blocks, [*all_blocks[1:], None], strict=True):
        mark = _STEP.fullmatch(block.mark)
        if mark:
            printed = following if following is not None and following.mark == "prints" else None
            name = (mark["name"] or "").partition(", exit")[0]
            found.append(
                Step(name, block, int(mark["code"] or 0), printed, bool(mark[1]), mark[1] == "redis ")
            )
    return found


def masked(text: str) -> str:
    """The text without what differs from run to run, and without the widths that follow from it."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    for pattern, replacement in _MASKS:
        lines = [re.sub(pattern, replacement, line) for line in lines]
    return "\n".join(line for line in lines if not re.fullmatch(r"[-+ ]+", line))


def flat(text: str) -> str:
    """The same for a text that is wrapped: where its lines end depends on the length of what was masked."""
    return " ".join(masked(" ".join(text.split())).split())


def verify_block() -> Block:
    """The output of `verify` in the guide."""
    (block,) = [block for block in blocks(mark="verify output") if block.document == GUIDE]
    return block


def table(names: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """The rows of a query as `psql` shows them."""
    texts = [["" if value is None else str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(names, *texts, strict=True)]
    lines = [
        " | ".join(value.ljust(width) for value, width in zip(line, widths, strict=True)).rstrip()
        for line in (names, *texts)
    ]
    lines.insert(1, "-+-".join("-" * width for width in widths))
    return "\n".join([*lines, f"({len(rows)} row{'' if len(rows) == 1 else 's'})"]) + "\n"


def write(outputs: dict[int, str], times: Sequence[tuple[str, float]] = ()) -> None:
    """Put captured outputs into the guide, each into the block that begins at a line; and the times."""
    lines = GUIDE.read_text(encoding="utf-8").splitlines()
    for begin, text in sorted(outputs.items(), reverse=True):
        end = lines.index("```", begin)
        text = re.sub(r"postgresql://\S+", "postgresql://…", text)
        lines[begin:end] = [line.rstrip() for line in text.strip("\n").splitlines()]
    if times:
        begin = lines.index("<!-- times -->") + 3
        end = lines.index("", begin)
        total = sum(seconds for _, seconds in times)
        lines[begin:end] = [
            *(f"| {name} | {seconds:.1f} |" for name, seconds in times),
            f"| altogether | {total:.1f} |",
        ]
    GUIDE.write_text("\n".join(lines) + "\n", encoding="utf-8")
