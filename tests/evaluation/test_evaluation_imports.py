"""The application without its tasks knows nothing of the queue."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import evaluation
import pytest

PACKAGE = Path(evaluation.__file__).parent
OF_THE_QUEUE = {"celery", "kombu", "billiard", "amqp", "vine", "celery_postgres"}
OF_CELERY = {"tasks.py", "app.py"}
FILES = sorted(file for file in PACKAGE.rglob("*.py") if file.name not in OF_CELERY)


def imported(file: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
        elif isinstance(node, ast.ImportFrom):
            names.update(f"evaluation.{node.module or alias.name}" for alias in node.names)
    return names


@pytest.mark.parametrize("file", FILES, ids=[str(file.relative_to(PACKAGE)) for file in FILES])
def test_only_the_tasks_import_celery(file: Path) -> None:
    """No other file imports the queue, or the files that do."""
    names = imported(file)
    assert {name.partition(".")[0] for name in names}.isdisjoint(OF_THE_QUEUE)
    assert names.isdisjoint({"evaluation.tasks", "evaluation.app"})


def test_an_evaluation_needs_no_celery_at_run_time() -> None:
    """Neither does anything that the orchestrator imports."""
    code = "import sys, evaluation.orchestrator, evaluation.load, evaluation.report, evaluation.plugins.llm\n"
    code += f"print(*sorted({OF_THE_QUEUE!r} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "\n"


def test_the_deterministic_plugins_need_no_http() -> None:
    """The extra for the language model is not needed without it."""
    code = "import sys, evaluation.registry; print('httpx' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True
    )
    assert done.stdout == "False\n"
