"""Sessions of pytest of their own."""

from __future__ import annotations

import pytest

from support.sessions import Sessions


@pytest.fixture
def sessions(pytester):
    return Sessions(pytester)
