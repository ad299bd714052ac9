"""Which plugins there are, and how each is made from an evaluator's settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import PermanentError
from .plugins.arithmetic import Arithmetic
from .plugins.links import Links
from .plugins.readability import Readability
from .plugins.repetition import Repetition
from .plugins.spelling import Spelling
from .plugins.structure import Structure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .findings import Plugin

# In the order in which they run.
DETERMINISTIC = ("structure", "links", "spelling", "readability", "repetition", "arithmetic")


class Registry:
    """Plugins by name. A factory takes the plugin's settings as keyword arguments."""

    def __init__(self, factories: Mapping[str, Callable[..., Plugin]]) -> None:
        self._factories = dict(factories)

    def create(self, name: str, settings: Mapping[str, Any]) -> Plugin:
        """A plugin ready to run. Raises PermanentError for an unknown name or unusable settings."""
        factory = self._factories.get(name)
        if factory is None:
            known = ", ".join(sorted(self._factories))
            raise PermanentError(f"There is no plugin {name!r}; choose from {known}.")
        try:
            return factory(**settings)
        except TypeError as error:
            raise PermanentError(f"The settings of plugin {name!r} do not fit: {error}.") from error


def default_registry() -> Registry:
    """The six deterministic plugins, and `llm`, which works only where it is configured."""
    return Registry(
        {
            "structure": Structure,
            "links": Links,
            "spelling": Spelling,
            "readability": Readability,
            "repetition": Repetition,
            "arithmetic": Arithmetic,
            "llm": _llm,
        }
    )


def _llm() -> Plugin:
    # Loaded on use: it needs httpx, which the other plugins do not.
    from .plugins.llm import Llm

    return Llm.from_environment()
