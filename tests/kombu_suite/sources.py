"""kombu's own integration tests, which its wheel does not carry."""

from __future__ import annotations

import importlib.util
import os
import tarfile
from functools import lru_cache
from typing import TYPE_CHECKING

from tests.fixtures.sources import SourceUnavailableError, fetch

if TYPE_CHECKING:
    from types import ModuleType

MEMBER = "t/integration/common.py"


@lru_cache
def integration_mixins() -> ModuleType:
    """The module with kombu's test mixins, of the version that is installed."""
    archive = fetch("kombu")
    root = archive.name.removesuffix(".tar.gz")
    target = archive.with_name(f"{root}-common.py")
    with tarfile.open(archive) as tar:
        member = tar.extractfile(f"{root}/{MEMBER}")
        if member is None:
            raise SourceUnavailableError(f"{archive} has no {MEMBER}")
        # Other processes of this run read it, perhaps just now.
        written = target.with_name(f"{target.name}.{os.getpid()}")
        written.write_bytes(member.read())
        written.replace(target)
    spec = importlib.util.spec_from_file_location("kombu_integration_common", target)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
