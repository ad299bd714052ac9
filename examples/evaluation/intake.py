"""Documents into the database: once per text, however often they are handed in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from .document_view import DocumentView
from .errors import PermanentError
from .models import Document, DocumentVersion

if TYPE_CHECKING:
    from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class Imported:
    """Where a document is stored; `created` says whether this call stored a new version."""

    document_id: int
    version: int
    created: bool


def import_file(session: Session, path: str | Path) -> Imported:
    """Store a Markdown file as the newest version of its document, unless it is that already.

    Raises PermanentError for a file that cannot be read or stored as text.
    """
    file = Path(path).resolve()
    try:
        # Line ends become "\n", and a byte order mark is dropped: offsets count what is stored.
        content = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise PermanentError(f"{file} cannot be read as UTF-8 text: {error}") from error
    if "\0" in content:
        raise PermanentError(f"{file} holds a null character, which PostgreSQL cannot store as text.")
    return import_text(session, str(file), _title(content) or file.stem, content)


def import_text(session: Session, source: str, title: str, content: str) -> Imported:
    """Store a text as the newest version of the document from this source."""
    session.execute(insert(Document).values(source=source, title=title).on_conflict_do_nothing())
    # Locked, so that two imports at the same time make one version after the other.
    document = session.scalars(select(Document).where(Document.source == source).with_for_update()).one()
    newest = session.scalars(
        select(DocumentVersion)
        .where(DocumentVersion.document_id == document.id)
        .order_by(DocumentVersion.version.desc())
        .limit(1)
    ).one_or_none()
    sha256 = hashlib.sha256(content.encode()).hexdigest()
    if newest is not None and newest.sha256 == sha256:
        return Imported(document.id, newest.version, created=False)
    version = newest.version + 1 if newest else 1
    document.title = title
    session.add(DocumentVersion(document_id=document.id, version=version, content=content, sha256=sha256))
    session.flush()
    return Imported(document.id, version, created=True)


def _title(content: str) -> str:
    """The first heading of the document."""
    return next((heading.title.strip() for heading in DocumentView(content).headings), "")
