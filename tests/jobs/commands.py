"""The commands as people start them, in both forms."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.fixtures.process import APPS
from tests.fixtures.worker import celery_argv

if TYPE_CHECKING:
    from .conftest import Shop

FORMS = ("celery", "celery-postgres")


def command(shop: Shop, form: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run `celery -A probe postgres …` or `celery-postgres …` to its end."""
    if form == "celery":
        argv = celery_argv("postgres", *arguments)
        environment = {**shop.site.environment(), **environment}
    else:
        argv = [str(Path(sys.executable).with_name("celery-postgres")), *arguments]
        environment = {"DATABASE_URL": shop.url, **environment}
    return subprocess.run(
        argv,
        cwd=APPS,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def answer(shop: Shop, form: str, *arguments: str) -> Any:
    """The JSON document that a command prints."""
    done = command(shop, form, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
