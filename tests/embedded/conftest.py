from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .owners import Place

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def place() -> Iterator[Place]:
    """Not below tmp_path, which is closed to the account under which root's servers run."""
    folder = Path(tempfile.mkdtemp(prefix="private-servers-"))
    place = Place(folder)
    yield place
    place.clear()
    shutil.rmtree(folder)
