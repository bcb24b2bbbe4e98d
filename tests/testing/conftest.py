"""Fixtures for tests that run pytest in separate sessions."""

from __future__ import annotations

import pytest

from support.sessions import Sessions


@pytest.fixture
def sessions(pytester):
    return Sessions(pytester)
