"""What holds for tests of everything about resuming."""

import signal

import pytest


@pytest.fixture(autouse=True)
def nothing_is_left_behind():
    """Whatever a test does with signals, their handlers are those from before."""
    signals = signal.SIGTERM, signal.SIGINT
    before = {number: signal.getsignal(number) for number in signals}
    yield
    assert {number: signal.getsignal(number) for number in signals} == before
