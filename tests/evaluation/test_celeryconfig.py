"""The configuration at the top of the project."""

from __future__ import annotations

import runpy
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from celery.app.defaults import SETTING_KEYS
from celery.exceptions import ImproperlyConfigured

from tests.evaluation import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = ("DATABASE_URL", "BROKER_URL", "RESULT_BACKEND")


@pytest.fixture
def configuration(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """The settings in an environment of these variables."""

    def read(**environment: str) -> dict[str, Any]:
        for name in NAMES:
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return runpy.run_path(str(ROOT / "celeryconfig.py"))

    return read


def test_the_database_is_the_broker(configuration: Callable[..., dict[str, Any]]) -> None:
    """DATABASE_URL alone is enough, and an empty BROKER_URL is none."""
    settings = configuration(DATABASE_URL="postgresql://h/d", BROKER_URL="")
    assert (settings["broker_url"], settings["result_backend"]) == ("postgresql://h/d", None)


def test_another_broker_is_one_variable_away(configuration: Callable[..., dict[str, Any]]) -> None:
    """BROKER_URL goes first; RESULT_BACKEND names a backend."""
    settings = configuration(DATABASE_URL="postgresql://h/d", BROKER_URL="redis://", RESULT_BACKEND="rpc://")
    assert (settings["broker_url"], settings["result_backend"]) == ("redis://", "rpc://")


@pytest.mark.parametrize("environment", [{}, {"DATABASE_URL": ""}])
def test_without_a_url_the_remedy_is_named(
    configuration: Callable[..., dict[str, Any]], environment: dict[str, str]
) -> None:
    """The error says what to set and how to get a server."""
    with pytest.raises(ImproperlyConfigured, match=r"Set DATABASE_URL .* `celery-postgres serve`"):
        configuration(**environment)


def test_celery_knows_every_setting(configuration: Callable[..., dict[str, Any]]) -> None:
    """Nothing in the file is misspelt, and messages are JSON only."""
    settings = configuration(BROKER_URL="memory://")
    own = {name for name in settings if not name.startswith("__")} - {"os", "ImproperlyConfigured"}
    app = Celery(set_as_current=False)
    app.config_from_object({name: settings[name] for name in own})
    assert own <= SETTING_KEYS
    assert (app.conf.accept_content, app.conf.task_serializer, app.conf.result_serializer) == (
        ["json"],
        "json",
        "json",
    )
