"""assert_same_run accepts equal runs, and shows the first difference of others."""

from __future__ import annotations

import random

import numpy
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from camshaft import Engine, Events, Phase, create_supervised_trainer, supervised_loop
from camshaft.testing import assert_same_run


def batches():
    generator = torch.Generator().manual_seed(5)
    return [(torch.randn(8, 4, generator=generator), torch.arange(8) % 3) for _ in range(5)]


def build(lr=0.1):
    model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.2))
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
    return create_supervised_trainer(model, optimizer, nn.functional.cross_entropy), model, optimizer


def difference(first, second, *args, **kwargs):
    with pytest.raises(AssertionError) as caught:
        assert_same_run(first, second, *args, **kwargs)
    return str(caught.value).splitlines()


def test_two_builds_of_one_are_the_same():
    assert_same_run(build, build, batches(), max_epochs=2)


def test_the_function_and_the_loop_of_phases_are_the_same():
    def declared():
        model = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.2))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        return Engine(supervised_loop(model, optimizer, nn.functional.cross_entropy), "trainer"), model, optimizer

    assert_same_run(build, declared, batches(), max_epochs=2)


def test_shuffled_data_with_workers_is_the_same_under_one_seed():
    x = torch.randn(24, 4)
    loader = DataLoader(TensorDataset(x, torch.arange(24) % 3), batch_size=8, shuffle=True, num_workers=2)
    assert_same_run(build, build, loader, max_epochs=2)


def test_a_weight_that_differs_is_shown_with_its_place():
    one, two = (Engine([Phase("A")]), nn.Linear(2, 1)), (Engine([Phase("A")]), nn.Linear(2, 1))
    two[1].load_state_dict(one[1].state_dict())
    assert_same_run(one, two, [1])
    with torch.no_grad():
        two[1].weight[0, 1] += 0.5
    first, place = difference(one, two, [1])
    assert first == "the two runs differ: after the run"
    assert place.startswith("  Linear (object 1)['weight']: 1 of 2 elements differ, by 0.5 at most; the first is ")


def test_the_last_bit_counts():
    def run(value):
        return Engine([Phase("A", lambda engine, batch: torch.tensor([1.0, value]))])

    tiny = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0)).item()
    assert_same_run(run(1.0), run(1.0), [1])
    assert_same_run(run(float("nan")), run(float("nan")), [1])
    assert difference(run(1.0), run(tiny), [1]) == [
        "the two runs differ: at event #7 engine A_COMPLETED 1",
        "  state.output: 1 of 2 elements differ, by 1.19e-07 at most; the first is 1.0 | 1.0000001192092896",
    ]
    zero, minus = run(0.0), run(-0.0)
    assert difference(zero, minus, [1])[1].endswith("the first is 0.0 | -0.0")


def test_events_that_differ_are_shown_with_what_came_before():
    shorter = build()
    shorter[0].add_event_handler(Events.ITERATION_COMPLETED(once=2), shorter[0].terminate)
    torch.manual_seed(0)
    longer = build()
    longer[1].load_state_dict(shorter[1].state_dict())
    lines = difference(longer, shorter, batches())
    assert lines == [
        "the two runs differ: event #23 is trainer GET_BATCH_STARTED 2 in the first, trainer TERMINATE 1 in the second",
        "    21  trainer OPTIM_STEP_COMPLETED 2",
        "    22  trainer ITERATION_COMPLETED 2",
        "  > 23  trainer GET_BATCH_STARTED 2 | trainer TERMINATE 1",
    ]


def test_counters_metrics_and_errors_are_compared():
    counted, other = Engine([Phase("A")]), Engine([Phase("A")])
    other.add_event_handler(Events.EPOCH_COMPLETED, lambda engine: engine.state.metrics.update(accuracy=1.0))
    assert difference(counted, other, [1]) == [
        "the two runs differ: at event #9 engine EPOCH_COMPLETED 1",
        "  state.metrics: {} | {'accuracy': 1.0}",
    ]

    def fails(engine, batch):
        raise OSError("disk full")

    lines = difference(Engine(fails), Engine(lambda engine, batch: None), [1])
    assert lines[0].startswith("the two runs differ: event #6 is engine EXCEPTION_RAISED 1 in the first, ")
    assert_same_run(Engine(fails), Engine(fails), [1])
    assert difference(Engine(fails), Engine(lambda engine, batch: 1 / 0), [1]) == [
        "the two runs differ: the first ended with OSError('disk full'), the second with "
        "ZeroDivisionError('division by zero')"
    ]


def test_nested_engines_are_compared():
    def pair(length):
        trainer, evaluator = Engine([Phase("A")], "trainer"), Engine([Phase("B")], "evaluator")
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[0] * length)
        return trainer

    assert_same_run(lambda: pair(2), lambda: pair(2), [1], max_epochs=2)
    lines = difference(lambda: pair(2), lambda: pair(3), [1], max_epochs=2)
    assert "in the first, evaluator GET_BATCH_STARTED 2 in the second" in lines[0]


def test_outputs_of_nested_engines_are_compared():
    def pair(value):
        trainer, evaluator = Engine([Phase("A")], "trainer"), Engine(lambda engine, batch: value, "evaluator")
        trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[0])
        return trainer

    assert_same_run(lambda: pair(1.0), lambda: pair(1.0), [1])
    assert difference(lambda: pair(0.0), lambda: pair(-0.0), [1])[1] == "  state.output: 0.0 | -0.0"


class Box:
    """An output without ``__eq__``."""

    def __init__(self, value):
        self.value = value


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Box(torch.tensor(1.0)), Box(torch.tensor(2.0))),
        (torch.ones(1, 5)[:, 0], torch.zeros(1, 5)[:, 0]),
        (torch.ones(2).to_sparse(), torch.zeros(2).to_sparse()),
        ({1, 2}, {1, 3}),
        (numpy.array([1, "a"], dtype=object), numpy.array([1, "b"], dtype=object)),
    ],
    ids=["object", "strided", "sparse", "set", "objects of NumPy"],
)
def test_odd_outputs_are_compared(one, other):
    assert_same_run(Engine(lambda engine, batch: one), Engine(lambda engine, batch: one), [1])
    difference(Engine(lambda engine, batch: one), Engine(lambda engine, batch: other), [1])


@pytest.mark.parametrize("draw", [random.random, numpy.random.rand, lambda: torch.rand(1)])
def test_every_generator_is_seeded(draw):
    assert_same_run(*[lambda: Engine([Phase("A", lambda engine, batch: draw())])] * 2, [1, 2])


def test_arrays_and_lists_are_compared():
    def return_batch(value):
        return Engine([Phase("A", lambda engine, batch: {"out": [value]})])

    assert_same_run(return_batch(numpy.arange(3)), return_batch(numpy.arange(3)), [1])
    assert "state.output['out'][0]" in difference(return_batch(numpy.arange(3)), return_batch(numpy.arange(4)), [1])[1]
    assert difference(return_batch(torch.zeros(2)), return_batch(torch.zeros(3)), [1])[1] == (
        "  state.output['out'][0]: (2,) torch.float32 | (3,) torch.float32"
    )


def test_what_is_no_engine_is_refused():
    with pytest.raises(TypeError, match="first and second must be an Engine, or a function that returns one, got 3"):
        assert_same_run(lambda: 3, lambda: 3, [1])
