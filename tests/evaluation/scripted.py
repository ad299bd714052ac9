"""Plugins and a clock that do what a test says, and a look at the rows."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from evaluation.findings import PluginResult
from evaluation.registry import Registry
from sqlalchemy import func, select

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluation.document_view import DocumentView
    from evaluation.findings import Plugin
    from sqlalchemy.orm import Session, sessionmaker


class Scripted:
    """A plugin that does what the test says, and counts how often."""

    def __init__(self, name: str, act: Callable[[DocumentView], PluginResult]) -> None:
        self.name = name
        self.calls = 0
        self._act = act

    def analyze(self, view: DocumentView) -> PluginResult:
        self.calls += 1
        return self._act(view)


def good(_: DocumentView) -> PluginResult:
    return PluginResult("Fine.", grade=80)


def failing(error: Exception) -> Callable[[DocumentView], PluginResult]:
    def act(_: DocumentView) -> PluginResult:
        raise error

    return act


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = datetime(2030, 1, 1, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def registry_of(*plugins: Plugin) -> Registry:
    return Registry({plugin.name: lambda plugin=plugin, **_: plugin for plugin in plugins})


def one(sessions: sessionmaker[Session], entity: Any) -> Any:
    with sessions() as session:
        return session.scalars(select(entity)).one()


def count(sessions: sessionmaker[Session], entity: Any) -> int:
    with sessions() as session:
        return session.scalar(select(func.count()).select_from(entity)) or 0
