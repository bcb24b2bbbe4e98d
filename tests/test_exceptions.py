"""Every error of camshaft has one common base, and the built-in base that fits."""

import pytest

import camshaft
from camshaft import CamshaftError, exceptions
from camshaft.loop import Loop

BUILT_IN = {
    "EventOrderError": RuntimeError,
    "LoopError": ValueError,
    "NoValueError": ValueError,
    "PatternError": ValueError,
    "StorageError": OSError,
    "TargetError": ValueError,
    "TraceError": ValueError,
}


def test_every_error_is_listed():
    assert {*BUILT_IN, "CamshaftError"} == set(exceptions.__all__)


@pytest.mark.parametrize("name", BUILT_IN)
def test_an_error_keeps_its_built_in_base(name):
    error = getattr(exceptions, name)
    assert issubclass(error, CamshaftError)
    assert issubclass(error, BUILT_IN[name])


def test_one_except_clause_catches_an_error():
    with pytest.raises(CamshaftError, match="loop A"):
        Loop("A")


def test_errors_that_users_import_are_those():
    assert camshaft.LoopError is exceptions.LoopError
    assert camshaft.EventOrderError is exceptions.EventOrderError
    assert camshaft.TraceError is exceptions.TraceError
