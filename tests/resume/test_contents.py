"""What may be in a file: NumPy scalars become numbers, and what is refused is named by its place."""

import datetime
import decimal
import enum
import fractions
import pathlib
import pickle
import threading
import uuid
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple

import numpy
import pytest
import torch
from torch import nn

from camshaft import Engine, Events, Snapshot
from camshaft.exceptions import StorageError
from camshaft.resume.contents import check_contents, find_refused, without_numpy_scalars
from camshaft.resume.storage import load, save
from support.checkpoints import names


class Color(enum.Enum):
    RED = 1


class Level(enum.IntEnum):
    LOW = 1


Pair = namedtuple("Pair", "first second")

SCALARS = {
    "float64": (numpy.float64(0.1), 0.1),
    "float32": (numpy.float32(0.1), float(numpy.float32(0.1))),
    "float16": (numpy.float16(0.5), 0.5),
    "int64": (numpy.int64(-3), -3),
    "uint8": (numpy.uint8(255), 255),
    "bool": (numpy.bool_(True), True),
    "complex": (numpy.complex64(1j), 1j),
    "text": (numpy.str_("a"), "a"),
    "bytes": (numpy.bytes_(b"a"), b"a"),
    "of a range": (numpy.logspace(-3, -1, 3)[1], 0.01),
}

REFUSED = {
    "array": (numpy.ones(2), "numpy.ndarray"),
    "array of objects": (numpy.array([None]), "numpy.ndarray"),
    "date of NumPy": (numpy.datetime64("2020-01-01"), "numpy.datetime64"),
    "duration of NumPy": (numpy.timedelta64(5, "ns"), "numpy.timedelta64"),
    "long number of NumPy": (numpy.longdouble(0.1), "numpy.longdouble"),
    "enum": (Color.RED, ".*test_contents.Color"),
    "enum of integers": (Level.LOW, ".*test_contents.Level"),
    "path": (pathlib.Path("a"), "pathlib.*Path"),
    "decimal": (decimal.Decimal("0.1"), "decimal.Decimal"),
    "fraction": (fractions.Fraction(1, 3), "fractions.Fraction"),
    "date": (datetime.datetime(2020, 1, 1), "datetime.datetime"),
    "uuid": (uuid.UUID(int=1), "uuid.UUID"),
    "named tuple": (Pair(1, 2), ".*test_contents.Pair"),
    "defaultdict": (defaultdict(list, a=[1]), "collections.defaultdict"),
    "deque": (deque([1]), "collections.deque"),
    "frozenset": (frozenset([1]), "builtins.frozenset"),
    "range": (range(3), "builtins.range"),
    "class": (nn.Linear, "torch.nn.modules.linear.Linear"),
    "function": (len, "builtins.len"),
    "module": (nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
    "lambda": (lambda: 1, ".*test_contents.<lambda>"),
    "lock": (threading.Lock(), "_thread.lock"),
}

SAVED = {
    "nothing": None,
    "number": 2**100,
    "complex": 1j,
    "bytes": b"a",
    "set": {1, 2},
    "type of tensors": torch.float16,
    "device": torch.device("cpu"),
    "size": torch.Size([1, 2]),
    "layout": torch.strided,
    "ordered": OrderedDict(a=1, b=[None]),
    "counts": Counter("aab"),
    "keys of many kinds": {1: 2, (1, "a"): 3, None: 4, 0.5: 5},
}


def around(value):
    """Return a value inside of all kinds of containers, and its place."""
    return {"group": [OrderedDict(lr=(1, value)), "x"]}, "group[0].lr[1]"


@pytest.mark.parametrize("name", SCALARS)
def test_numpy_scalars_are_saved_as_equal_numbers(tmp_path, name):
    scalar, plain = SCALARS[name]
    for value, expected in (
        (scalar, plain),
        ({"a": scalar}, {"a": plain}),
        ({scalar: 1}, {plain: 1}),
        (Counter({scalar: 3}), Counter({plain: 3})),
        ([{"b": (scalar, [scalar])}], [{"b": (plain, [plain])}]),
        ({scalar}, {plain}),
    ):
        save(tmp_path / "state.pt", value)
        loaded = load(tmp_path / "state.pt")
        assert loaded == expected == value and type(loaded) is type(expected)
        assert b"numpy" not in pickle.dumps(loaded)


def test_a_state_without_numpy_scalars_is_not_copied():
    state = {"model": nn.Linear(2, 2).state_dict(), "list": [1, (2, {3})], "counts": Counter("a")}
    state["itself"] = state
    assert without_numpy_scalars(state) is state


def test_the_caller_keeps_its_own_numpy_scalars(tmp_path):
    optimizer = torch.optim.Adam([torch.ones(1, requires_grad=True)], lr=numpy.float64(0.1))
    save(tmp_path / "state.pt", optimizer.state_dict())
    assert type(optimizer.param_groups[0]["lr"]) is numpy.float64
    optimizer.load_state_dict(load(tmp_path / "state.pt"))
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_attributes_of_the_state_of_a_module_are_kept(tmp_path):
    state = nn.BatchNorm1d(2).state_dict()
    state["scale"] = numpy.float32(2)
    save(tmp_path / "state.pt", state)
    assert load(tmp_path / "state.pt")._metadata == state._metadata


@pytest.mark.parametrize("name", SAVED)
def test_plain_values_are_saved_as_they_are(tmp_path, name):
    inside, _ = around(SAVED[name])
    check_contents(inside, "Handler")
    save(tmp_path / "state.pt", inside)
    loaded = load(tmp_path / "state.pt")
    assert loaded == inside
    assert type(loaded["group"][0]["lr"][1]) is type(SAVED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named_by_its_place(tmp_path, name):
    value, kind = REFUSED[name]
    inside, place = around(value)
    where = place.replace("[", r"\[")
    save(tmp_path / "state.pt", 1)
    with pytest.raises(
        StorageError, match=rf"Handler: the state contains {kind} at adam.{where}, and loading that cou"
    ):
        check_contents(inside, "Handler", "adam")
    with pytest.raises(StorageError, match=rf"state.pt was not written: the object contains {kind} at adam.{where}, "):
        save(tmp_path / "state.pt", inside, "adam")
    with pytest.raises(StorageError, match=rf"was not written: the object contains {kind} at {where}, "):
        save(tmp_path / "state.pt", inside)
    with pytest.raises(StorageError, match=rf"was not written: the object contains {kind}, "):
        save(tmp_path / "state.pt", value)
    assert names(tmp_path) == ["state.pt"] and load(tmp_path / "state.pt") == 1


def test_a_lazy_parameter_is_refused_only_when_it_is_saved(tmp_path):
    state = nn.LazyLinear(1).state_dict()
    check_contents(state, "Handler", "model")  # the first batch may give it a shape before it is saved
    with pytest.raises(StorageError, match=r"contains torch.nn.parameter.UninitializedParameter at model.weight, and"):
        save(tmp_path / "state.pt", state, "model")


def test_places_are_written_like_python():
    refused = pathlib.Path("a")
    for state, place in (
        ({"0.weight": refused}, "['0.weight']"),
        ({"a": {"b c": {3: [refused]}}}, "a['b c'][3][0]"),
        ({"a": {refused: 1}}, "a key of a"),
        ({refused: 1}, "a key"),
    ):
        assert find_refused(state).place == place


def test_a_state_that_contains_itself_is_searched_once(tmp_path):
    state = {"a": []}
    state["a"].append(state)
    check_contents(state, "Handler")
    state["b"] = Color.RED
    assert find_refused(state).place == "b"


def test_what_the_user_allowed_is_not_refused(tmp_path):
    with torch.serialization.safe_globals([Color]):
        save(tmp_path / "state.pt", {"color": Color.RED})
        check_contents({"color": Color.RED}, "Handler")


def test_a_check_calls_no_method_that_a_user_has_written():
    class Counted:
        def __reduce__(self):
            raise AssertionError("called")

    check_contents({"counted": Counted()}, "Handler")


class Tuned:
    """An object whose state is given to it."""

    def __init__(self, state):
        self.state = state

    def state_dict(self):
        return self.state

    def load_state_dict(self, state):
        self.state = state


def test_a_snapshot_refuses_named_objects_at_once(tmp_path):
    with pytest.raises(StorageError, match=r"Snapshot: the state contains .*Color at tuned.mode\[0\], and loading"):
        Snapshot(Engine(lambda engine, batch: None), tmp_path, tuned=Tuned({"mode": [Color.RED]}))


def test_a_snapshot_saves_numpy_scalars_and_names_what_it_cannot(tmp_path):
    engine, tuned = Engine(lambda engine, batch: None, "trainer"), Tuned({"lr": numpy.float32(0.5)})
    engine.add_event_handler(Events.EPOCH_COMPLETED, Snapshot(engine, tmp_path, tuned=tuned))
    engine.run([0])
    (file,) = tmp_path.iterdir()
    assert load(file)["objects"]["tuned"] == {"lr": 0.5}
    engine.close()
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: tuned.load_state_dict({"lr": decimal.Decimal(1)}))
    with pytest.raises(StorageError, match=r"contains decimal.Decimal at objects.tuned.lr, and loading"):
        engine.run([0])
    assert names(tmp_path) == [file.name]
