"""Roles for verifications, and databases in which there is something to be left alone."""

from __future__ import annotations

from tests.bad_input.conftest import admin, new_role, private_server

__all__ = ["admin", "new_role", "private_server"]
