"""Fixtures for the tests of snapshots, storage and signals."""

import signal

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Restore the handlers of signals after each test."""
    signals = signal.SIGTERM, signal.SIGINT
    before = {number: signal.getsignal(number) for number in signals}
    yield
    assert {number: signal.getsignal(number) for number in signals} == before
