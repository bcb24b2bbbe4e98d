"""Tests of batches: every tensor is moved to the device, each object keeps its class, and the batch is not changed."""

import collections
import dataclasses
import types
from collections import ChainMap, OrderedDict, UserDict, UserList, defaultdict, deque, namedtuple
from collections.abc import Mapping, MutableMapping, Sequence

import attrs
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

from camshaft import create_supervised_trainer
from camshaft._tensors import detached
from camshaft.training import convert_tensor
from camshaft.training.batches import prepare_pair

ONE = torch.ones(2)


# -- classes of batches, as other libraries have them ------------------------------------------------------------------


class Encoding(UserDict):
    """A mapping whose items are attributes, that moves itself: as of transformers."""

    def __init__(self, data, encodings=None):
        super().__init__(data)
        self._encodings = encodings

    def __getattr__(self, name):
        try:
            return self.__dict__["data"][name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, device):
        self.data = {key: inner.to(device) for key, inner in self.data.items() if isinstance(inner, torch.Tensor)}
        return self


class Output(OrderedDict):
    """An output whose items are attributes as well: as of transformers."""

    def __setitem__(self, key, value):
        super().__setitem__(key, value)
        super().__setattr__(key, value)


class Graph:
    """An object that moves itself, and returns itself: as of torch_geometric."""

    def __init__(self, x):
        self.x, self.store = x, {"edges": x}

    def to(self, device, *args, non_blocking=False):
        self.x = self.x.to(device, non_blocking=non_blocking)
        for key, inner in self.store.items():
            self.store[key] = inner.to(device)
        return self


class Silent(Graph):
    """An object that moves itself and returns nothing."""

    def to(self, device):
        super().to(device)


class New:
    """An object that returns a moved one, and takes any arguments: as of tensordict."""

    def __init__(self, x):
        self.x = x

    def to(self, *args, **kwargs):
        return New(self.x.to(*args, **kwargs))


class Quantity:
    """A physical quantity: its method ``to`` has nothing to do with devices."""

    def to(self, unit, equivalencies=()):
        raise AssertionError("called with a device")


class AttributeDict(dict):
    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


class SelfDict(dict):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.__dict__ = self


class Stored(MutableMapping):
    """A mapping with a dictionary inside, whose class takes other arguments."""

    def __init__(self, name, **items):
        self.name, self._items = name, items

    def __getitem__(self, key):
        return self._items[key]

    def __setitem__(self, key, value):
        self._items[key] = value

    def __delitem__(self, key):
        del self._items[key]

    def __iter__(self):
        return iter(self._items)

    def __len__(self):
        return len(self._items)


class Lazy(Mapping):
    """A mapping that makes its items when they are read."""

    def __getitem__(self, key):
        if key not in ("a", "b"):
            raise KeyError(key)
        return torch.ones(3)

    def __iter__(self):
        return iter("ab")

    def __len__(self):
        return 2


class Tagged(list):
    def __init__(self, items, tag):
        super().__init__(items)
        self.tag = tag


class Pair(tuple):
    __slots__ = ()

    def __new__(cls, first, second):
        return super().__new__(cls, (first, second))


class Labelled(tuple):
    """A tuple with an attribute."""


class Row(Sequence):
    def __init__(self, *items):
        self._items = items

    def __getitem__(self, index):
        return self._items[index]

    def __len__(self):
        return len(self._items)


Named = namedtuple("Named", "left right")


class Checked(Named):
    """A named tuple whose class takes other arguments."""

    __slots__ = ()

    def __new__(cls, both):
        return super().__new__(cls, both, both)


@dataclasses.dataclass
class Plain:
    x: torch.Tensor
    label: str = "a"


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: torch.Tensor
    size: int = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "size", 7)


@dataclasses.dataclass(frozen=True, slots=True)
class Slotted:
    x: torch.Tensor
    extra: torch.Tensor = dataclasses.field(init=False, default_factory=lambda: torch.zeros(1))


@dataclasses.dataclass(kw_only=True)
class Renamed:
    """A data class that takes other arguments than its fields."""

    given: dataclasses.InitVar[torch.Tensor]
    x: torch.Tensor = dataclasses.field(init=False)
    __private: int = 3

    def __post_init__(self, given):
        self.x = given


@attrs.define
class Attrs:
    x: torch.Tensor
    _hidden: torch.Tensor = attrs.field(init=False, factory=lambda: torch.zeros(1))


@attrs.frozen(slots=False)
class FrozenAttrs:
    x: torch.Tensor = attrs.field(validator=attrs.validators.instance_of(torch.Tensor))


class SlottedPrivate(UserList):
    __slots__ = ("__more",)

    def __init__(self, items, more=None):
        super().__init__(items)
        self.__more = more

    @property
    def more(self):
        return self.__more


def labelled(x):
    made = Labelled((x, 1))
    made.label, made.weights = "l", x
    return made


MADE = {  # a function that makes the batch of a tensor, and one that returns the tensors of a batch
    "tensor": (lambda x: x, lambda b: [b]),
    "list": (lambda x: [x, 1], lambda b: [b[0]]),
    "tuple": (lambda x: (x, "text"), lambda b: [b[0]]),
    "dict": (lambda x: {"a": x, 3: None}, lambda b: [b["a"]]),
    "set": (lambda x: {x}, list),
    "frozenset": (lambda x: frozenset([x]), list),
    "deque": (lambda x: deque([x, 1], maxlen=2), lambda b: [b[0]] if b.maxlen == 2 else []),
    "OrderedDict": (lambda x: OrderedDict(b=x, a=x), lambda b: [b["a"], b["b"]] if list(b) == ["b", "a"] else []),
    "defaultdict": (lambda x: defaultdict(list, a=x), lambda b: [b["a"]] if b["new"] == [] else []),
    "ChainMap": (lambda x: ChainMap({"a": x}, {"b": x}), lambda b: [b["a"], b["b"], b.maps[1]["b"]]),
    "UserDict": (lambda x: UserDict(a=x), lambda b: [b["a"]]),
    "UserList": (lambda x: UserList([x]), lambda b: [b[0]]),
    "encoding": (lambda x: Encoding({"ids": x}, "kept"), lambda b: [b.ids, b["ids"]] if b._encodings == "kept" else []),
    "output": (lambda x: Output(logits=x), lambda b: [b.logits, b["logits"]]),
    "attribute dictionary": (lambda x: AttributeDict(a=x), lambda b: [b.a, b["a"]]),
    "dictionary of itself": (lambda x: SelfDict(a=x), lambda b: [b.a, b["a"]] if b.__dict__ is b else []),
    "mapping": (lambda x: Stored("n", a=x), lambda b: [b["a"]] if b.name == "n" else []),
    "list of its own class": (lambda x: Tagged([x], x), lambda b: [b[0], b.tag]),
    "tuple of its own class": (lambda x: Pair(x, 1), lambda b: [b[0]]),
    "tuple with attributes": (labelled, lambda b: [b[0], b.weights] if b.label == "l" else []),
    "sequence of its own class": (lambda x: Row(x, x), lambda b: [b[0], b[1]]),
    "sequence with slots": (lambda x: SlottedPrivate([x], [x]), lambda b: [b[0], b.more[0]]),
    "named tuple": (lambda x: Named(x, 1), lambda b: [b.left]),
    "named tuple of its own class": (lambda x: Checked(x), lambda b: [b.left, b.right]),
    "result of C": (lambda x: torch.max(x[None], 1), lambda b: [b.values, b.indices]),
    "data class": (Plain, lambda b: [b.x] if b.label == "a" else []),
    "frozen data class": (Frozen, lambda b: [b.x] if b.size == 7 else []),
    "frozen data class with slots": (Slotted, lambda b: [b.x, b.extra]),
    "data class of other arguments": (lambda x: Renamed(given=x), lambda b: [b.x]),
    "attrs class": (Attrs, lambda b: [b.x, b._hidden]),
    "frozen attrs class": (FrozenAttrs, lambda b: [b.x]),
}
MOVES_ITSELF = {
    "graph": (Graph, lambda b: [b.x, b.store["edges"]]),
    "graph that returns nothing": (Silent, lambda b: [b.x, b.store["edges"]]),
    "object that returns a new one": (New, lambda b: [b.x]),
}
BATCHES = MADE | MOVES_ITSELF


def on(tensors, device):
    tensors = list(tensors)
    return bool(tensors) and all(tensor.device.type == device for tensor in tensors)


@pytest.mark.parametrize("non_blocking", [False, True])
@pytest.mark.parametrize("name", BATCHES)
def test_a_batch_of_any_class_is_moved_and_keeps_its_class(name, non_blocking):
    make, tensors = BATCHES[name]
    batch = make(torch.ones(2))
    before = list(tensors(batch))
    moved = convert_tensor(batch, "meta", non_blocking)
    assert type(moved) is type(batch)
    assert on(tensors(moved), "meta")
    assert on(tensors(batch), "cpu")  # the batch of the user is as it was
    assert all(one is other for one, other in zip(tensors(batch), before, strict=True))


@pytest.mark.parametrize("name", BATCHES)
def test_without_a_device_every_tensor_stays(name):
    make, tensors = BATCHES[name]
    batch = make(torch.ones(2))
    same = convert_tensor(batch)
    assert type(same) is type(batch)
    assert all(one is other for one, other in zip(tensors(same), tensors(batch), strict=True))


@pytest.mark.parametrize("name", MADE)
def test_an_output_of_any_class_is_detached(name):
    make, tensors = MADE[name]
    x = torch.ones(2, requires_grad=True) * 2
    output = make(x)
    made = detached(output)
    assert type(made) is type(output)
    assert list(tensors(made)) and not any(tensor.requires_grad for tensor in tensors(made))
    assert x.requires_grad and any(tensor.requires_grad for tensor in tensors(output))


NOT_AROUND = {"tensor", "set", "frozenset", "encoding", "result of C", "frozen attrs class"}  # they need a tensor


def tensors_in(batch, names):
    """Return the tensors in a batch that contains another batch where it would have a tensor, and so on."""
    if isinstance(batch, torch.Tensor):
        return [batch]
    return [tensor for part in BATCHES[names[0]][1](batch) for tensor in tensors_in(part, names[1:])]


@given(st.lists(st.sampled_from(sorted(MADE.keys() - NOT_AROUND)), max_size=3), st.sampled_from(sorted(BATCHES)))
def test_batches_inside_of_one_another_are_moved(around, inner):
    batch = BATCHES[inner][0](torch.ones(2))
    for name in reversed(around):
        batch = BATCHES[name][0](batch)
    moved = convert_tensor(batch, "meta")
    assert on(tensors_in(moved, [*around, inner]), "meta")
    assert on(tensors_in(batch, [*around, inner]), "cpu")


@pytest.mark.parametrize(
    "value",
    [
        "text",
        b"raw",
        bytearray(b"raw"),
        range(3),
        1,
        1.5,
        None,
        True,
        torch.Size([1, 2]),
        nn.Linear(1, 1),
        object(),
        Quantity(),
        Graph,
        Plain,
        collections.abc.Mapping,
        len,
        torch.device("cpu"),
        torch.float32,
    ],
    ids=lambda value: type(value).__name__,
)
def test_other_values_are_returned_as_they_are(value):
    assert convert_tensor(value, "meta") is value
    assert convert_tensor([value], "meta")[0] is value
    assert detached(value) is value


def test_a_packed_sequence_keeps_its_sizes_on_the_cpu():
    for sequences, is_sorted in (([3, 2], True), ([2, 3], False)):
        packed = pack_sequence([torch.ones(length, 1) for length in sequences], enforce_sorted=is_sorted)
        for moved in (convert_tensor(packed, "meta"), convert_tensor({"x": [packed]}, "meta")["x"][0]):
            assert type(moved) is PackedSequence
            assert (moved.data.device.type, moved.batch_sizes.device.type) == ("meta", "cpu")
            assert is_sorted or moved.sorted_indices.device.type == moved.unsorted_indices.device.type == "meta"
    graph = pack_sequence([torch.ones(2, 1, requires_grad=True) * 2])
    assert not detached(graph).data.requires_grad and type(detached(graph)) is PackedSequence


@pytest.mark.parametrize(
    "tensor",
    [
        torch.eye(2).to_sparse(),
        nn.Parameter(torch.ones(1)),
        torch.nested.nested_tensor([torch.ones(1), torch.ones(2)], layout=torch.jagged),
    ],
    ids=["sparse", "parameter", "nested"],
)
def test_tensors_of_other_layouts_are_moved(tensor):
    moved = convert_tensor({"x": tensor}, "cpu", True)["x"]
    assert moved is tensor
    assert detached([tensor])[0].layout == tensor.layout
    assert convert_tensor([tensor], "meta")[0].device.type == "meta"


def test_mappings_that_cannot_be_rebuilt_become_dictionaries():
    for mapping in (Lazy(), types.MappingProxyType({"a": ONE, "b": ONE})):
        moved = convert_tensor(mapping, "meta")
        assert type(moved) is dict and on(moved.values(), "meta") and list(moved) == ["a", "b"]


def test_a_tensor_that_is_shared_is_moved_once():
    x = torch.ones(1)
    moved = convert_tensor({"a": x, "b": [x], "c": Plain(x)}, "meta")
    assert moved["a"] is moved["b"][0] is moved["c"].x


def test_a_batch_that_contains_itself_is_moved():
    batch = {"x": ONE, "list": []}
    batch["list"].append(batch)
    batch["again"] = Plain(batch)
    moved = convert_tensor(batch, "meta")
    assert moved["list"][0] is moved is moved["again"].x
    assert moved["x"].device.type == "meta" and batch["x"] is ONE


def test_containers_of_a_step_are_not_those_of_the_loader():
    batch = {"x": [ONE], "more": Tagged([ONE], 1)}
    mine = convert_tensor(batch)
    mine["x"].clear()
    mine["more"].clear()
    del mine["x"]
    assert len(batch["x"]) == len(batch["more"]) == 1


def test_a_training_moves_a_batch_of_its_own_class(monkeypatch):
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 1)

        def forward(self, batch):
            return self.linear(batch.ids)

    model, seen = Model(), []
    trainer = create_supervised_trainer(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        nn.functional.mse_loss,
        device="cpu",
        output_transform=lambda x, y, y_pred, loss: seen.append((type(x), type(y))) or loss.item(),
    )
    trainer.run([(Encoding({"ids": torch.ones(3, 2)}), torch.ones(3, 1))] * 2)
    assert seen == [(Encoding, torch.Tensor)] * 2


def test_a_pair_is_moved_and_other_batches_are_refused():
    x, y = prepare_pair(Named(Plain(ONE), ONE), "meta")
    assert on([x.x, y], "meta")
    for batch in ({"x": 1, "y": 2}, "xy", ONE, [ONE], UserDict(x=1, y=2)):
        with pytest.raises(ValueError, match="a batch must be a pair"):
            prepare_pair(batch, "meta")
