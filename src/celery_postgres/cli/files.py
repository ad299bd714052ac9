"""Files that a command leaves behind."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def demand_folder(file: Path) -> None:
    """Before the work of which the file is to tell."""
    if not os.access(file.parent, os.W_OK):
        raise click.UsageError(f"{file} cannot be written: there is no folder {file.parent} to write to")


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Around the writing of a file: what goes wrong is one line and exit code 1."""
    try:
        yield
    except OSError as exc:
        raise click.ClickException(f"{file} could not be written ({exc.strerror}): name another") from exc
