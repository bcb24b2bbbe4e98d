"""Tests of the profilers, on a clock that moves only on request, and on a real training."""

import contextlib
import csv
import math
import statistics
from unittest import mock

import ignite.engine
import ignite.handlers
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import camshaft.engine.handler
import camshaft.handlers.profiling.profilers
from camshaft import DATA, Engine, Events, Loop, Phase, create_supervised_trainer, record
from camshaft.handlers import BasicTimeProfiler, HandlersTimeProfiler
from camshaft.metrics import Accuracy
from camshaft.testing import loops, scenarios

PROFILERS = [BasicTimeProfiler, HandlersTimeProfiler]


class Clock:
    """Clock that moves only when a function waits. Waits are multiples of 1/8 s, so that sums are exact."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now

    def waiter(self, seconds):
        def wait(*_):
            self.now += seconds

        return wait

    def batches(self, number, seconds):
        for batch in range(number):
            self.now += seconds
            yield batch


@pytest.fixture
def clock():
    clock = Clock()
    with (
        mock.patch.object(camshaft.engine.handler, "perf_counter", clock),
        mock.patch.object(camshaft.handlers.profiling.profilers, "perf_counter", clock),
    ):
        yield clock


class Data:
    """Data without a length, whose batches take time."""

    def __init__(self, clock, number, seconds):
        self.clock, self.number, self.seconds = clock, number, seconds

    def __iter__(self):
        return self.clock.batches(self.number, self.seconds)


def profiled(engine):
    """Attach both profilers to an engine, and return them."""
    basic, handlers = BasicTimeProfiler(), HandlersTimeProfiler()
    basic.attach(engine)
    handlers.attach(engine)
    return basic, handlers


def attach(engine, event, call, name):
    call.__qualname__ = name
    return engine.add_event_handler(event, call)


def total(stats):
    return stats["total"]


def rows_of(handlers):
    """Return the total by handler and event."""
    return {(row[0], row[1]): row[2] for row in handlers.get_results()}


def calls_of(profiler):
    """Return the number of calls of each handler, by event and name."""
    return {key: times.count for key, times in profiler._handlers.items() if times.count}


def read(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


# -- what is measured --------------------------------------------------------------------------------------------------


def test_handlers_data_and_processing_are_told_apart(clock, tmp_path):
    engine = Engine(clock.waiter(4), name="trainer")
    basic, handlers = profiled(engine)
    attach(engine, Events.STARTED, clock.waiter(1000), "begin")
    attach(engine, Events.GET_BATCH_STARTED, clock.waiter(1), "before_fetch")
    attach(engine, Events.GET_BATCH_COMPLETED, clock.waiter(2), "after_fetch")
    attach(engine, Events.ITERATION_STARTED, clock.waiter(0.5), "first")
    attach(engine, Events.ITERATION_STARTED, clock.waiter(0.25), "second")
    attach(engine, Events.ITERATION_COMPLETED(every=3), clock.waiter(16), "save")
    attach(engine, Events.EPOCH_COMPLETED, lambda engine: clock.waiter(100 * engine.state.epoch)(), "evaluate")
    attach(engine, Events.COMPLETED, clock.waiter(5000), "end")
    engine.run(Data(clock, 4, 8), max_epochs=2)

    results = basic.get_results()
    assert results["processing_stats"] == {
        "total": 8 * 4,
        "min/index": (4, 0),
        "max/index": (4, 0),
        "mean": 4,
        "std": 0,
    }
    assert total(results["dataflow_stats"]) == 8 * 8
    stats = results["event_handlers_stats"]
    assert {
        key: total(value)
        for key, value in stats.items()
        if key != "total_time" and value["total"] != "not yet triggered"
    } == {
        "STARTED": 1000,
        "EPOCH_COMPLETED": 300,
        "GET_BATCH_STARTED": 9,  # one more than there are batches, because the length of the data was unknown
        "GET_BATCH_COMPLETED": 16,
        "ITERATION_STARTED": 6,
        "ITERATION_COMPLETED": 32,
        "COMPLETED": 5000,
    }
    assert stats["EPOCH_COMPLETED"] == {
        "total": 300,
        "min/index": (100, 0),
        "max/index": (200, 1),
        "mean": 150,
        "std": pytest.approx(statistics.stdev([100, 200])),
    }
    assert stats["total_time"] == 1000 + 300 + 9 + 16 + 6 + 32 + 5000
    assert results["event_handlers_names"]["ITERATION_STARTED_names"] == ["first", "second"]
    assert results["event_handlers_names"]["EPOCH_STARTED_names"] == []
    assert clock.now == stats["total_time"] + total(results["processing_stats"]) + total(results["dataflow_stats"])

    rows = handlers.get_results()
    assert rows[0] == ["begin", "STARTED", 1000, (1000, 0), (1000, 0), 1000, "None"]
    assert rows_of(handlers)["first", "ITERATION_STARTED"] == 4
    assert rows_of(handlers)["second", "ITERATION_STARTED"] == 2
    assert rows[-3:] == [
        ["Total", "", stats["total_time"], "", "", "", ""],
        ["Processing", "None", 32, (4, 0), (4, 0), 4, 0],
        ["Dataflow", "None", 64, (8, 0), (8, 0), 8, 0],
    ]

    basic.write_results(tmp_path / "basic.csv")
    written = read(tmp_path / "basic.csv")
    assert [(row["epoch"], row["iteration"]) for row in written] == [(str(1 + n // 4), str(n + 1)) for n in range(8)]
    assert [row["Event_EPOCH_COMPLETED"] for row in written] == ["100.0"] * 4 + ["200.0"] * 4
    assert [row["Event_STARTED"] for row in written] == ["1000.0"] * 8
    assert [row["Event_ITERATION_COMPLETED"] for row in written] == ["", "", "16.0", "", "", "16.0", "", ""]
    assert {row["processing_stats"] for row in written} == {"4.0"}
    assert {row["Event_GET_BATCH_COMPLETED"] for row in written} == {"2.0"}
    assert {row["Event_EPOCH_STARTED"] for row in written} == {""}

    handlers.write_results(tmp_path / "handlers.csv")
    written = read(tmp_path / "handlers.csv")
    assert [row["#"] for row in written] == [str(n + 1) for n in range(9)]
    assert [row["evaluate (EPOCH_COMPLETED)"] for row in written] == ["100.0", "200.0", *[""] * 7]
    assert [row["dataflow_stats"] for row in written] == ["8.0"] * 8 + [""]


def ignite_profiled(profiler, steps=2):
    engine = ignite.engine.Engine(lambda engine, batch: None)
    profiler.attach(engine)
    engine.add_event_handler(ignite.engine.Events.EPOCH_COMPLETED, lambda: None)
    engine.run(range(steps), max_epochs=2)
    return profiler


def ours_profiled(profiler, steps=2):
    engine = Engine(lambda engine, batch: None)
    profiler.attach(engine)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: None)
    engine.run(range(steps), max_epochs=2)
    return profiler


def test_keys_rows_and_columns_are_those_of_ignite(tmp_path):
    ours = ours_profiled(BasicTimeProfiler()).get_results()
    theirs = ignite_profiled(ignite.handlers.BasicTimeProfiler()).get_results()
    assert list(ours) == list(theirs)
    assert list(ours["processing_stats"]) == list(theirs["processing_stats"])
    for key in ("event_handlers_stats", "event_handlers_names"):
        assert set(theirs[key]) <= set(ours[key])

    ours = ours_profiled(HandlersTimeProfiler()).get_results()
    theirs = ignite_profiled(ignite.handlers.HandlersTimeProfiler()).get_results()
    assert [row[1] for row in ours] == [row[1] for row in theirs]
    assert [row[0] for row in ours[1:]] == [row[0] for row in theirs[1:]]
    assert [[type(part) for part in row] for row in ours[-3:]] == [[type(part) for part in row] for row in theirs[-3:]]

    ours_profiled(BasicTimeProfiler()).write_results(tmp_path / "basic.csv")
    header = (tmp_path / "basic.csv").read_text().splitlines()[0].split(",")
    assert header[:12] == [
        "epoch",
        "iteration",
        "processing_stats",
        "dataflow_stats",
        "Event_STARTED",
        "Event_COMPLETED",
        "Event_EPOCH_STARTED",
        "Event_EPOCH_COMPLETED",
        "Event_ITERATION_STARTED",
        "Event_ITERATION_COMPLETED",
        "Event_GET_BATCH_STARTED",
        "Event_GET_BATCH_COMPLETED",
    ]


def test_custom_events_and_phases_are_not_charged_twice(clock):
    def step(engine, batch):
        clock.now += 4
        engine.fire_event("ping")
        engine.fire_event("ping")

    engine = Engine([Phase("FORWARD", step), Phase("BACKWARD", clock.waiter(2))])
    basic, handlers = profiled(engine)
    engine.register_events("ping", "pong")  # after the profilers were attached
    attach(engine, "ping", lambda engine: engine.fire_event("pong") or clock.waiter(1)(), "ping")
    attach(engine, "pong", clock.waiter(0.5), "pong")
    attach(engine, "backward_completed", clock.waiter(8), "clip")
    engine.run([1, 2, 3])
    stats = basic.get_results()["event_handlers_stats"]
    assert stats["PING"]["mean"] == 2 * 1.5  # of an iteration
    assert stats["PONG"]["total"] == 3 * 2 * 0.5
    assert stats["BACKWARD_COMPLETED"]["total"] == 24
    assert stats["total_time"] == 3 * (2 * 1.5 + 8)
    assert total(basic.get_results()["processing_stats"]) == 3 * 6
    assert calls_of(handlers) == {("ping", "ping"): 6, ("pong", "pong"): 6, ("backward_completed", "clip"): 3}


def test_metrics_are_measured_though_they_run_first(clock):
    engine = Engine(lambda engine, batch: (torch.eye(2), torch.tensor([0, 1])))
    _, handlers = profiled(engine)
    Accuracy().attach(engine, "accuracy")
    engine.run([1, 2])
    assert calls_of(handlers) == {
        ("epoch_started", "accuracy.reset"): 1,
        ("iteration_completed", "accuracy.update"): 2,
        ("epoch_completed", "accuracy.compute"): 1,
    }


def test_loops_without_data_have_a_row_for_each_outer_pass(clock, tmp_path):
    loop = Loop("EPISODE", Phase("RESET", clock.waiter(1)), Loop("TIMESTEP", Phase("ACT", clock.waiter(2)), times=3))
    engine = Engine(loop)
    basic, handlers = profiled(engine)
    attach(engine, "timestep_completed", clock.waiter(0.5), "observe")
    engine.run(max_epochs=2)
    results = basic.get_results()
    assert results["processing_stats"]["mean"] == 1 + 3 * 2
    assert results["dataflow_stats"] == {"total": "not yet triggered"}
    assert results["event_handlers_stats"]["TIMESTEP_COMPLETED"]["mean"] == 1.5
    assert handlers.get_results()[-1] == [
        "Dataflow",
        "None",
        "not triggered",
        ("None", "None"),
        ("None", "None"),
        "None",
        "None",
    ]
    basic.write_results(tmp_path / "rows.csv")
    written = read(tmp_path / "rows.csv")
    assert [(row["episode"], row["processing_stats"], row["Event_TIMESTEP_COMPLETED"]) for row in written] == [
        ("1", "7.0", "1.5"),
        ("2", "7.0", "1.5"),
    ]


def test_loops_around_and_beside_the_data_find_their_rows(clock, tmp_path):
    data_loop = Loop("ITERATION", Phase("ACT", clock.waiter(1)), over=DATA)
    check = Loop("CHECK", Phase("LOOK", clock.waiter(32)), times=2)
    engine = Engine(Loop("FOLD", Loop("EPOCH", data_loop, check, times=2)))
    basic, _ = profiled(engine)
    attach(engine, "check_completed", clock.waiter(4), "checked")
    attach(engine, "fold_completed", lambda engine: clock.waiter(10 * engine.state.fold)(), "folded")
    engine.run([1, 2], max_epochs=2)
    basic.write_results(tmp_path / "rows.csv")
    written = read(tmp_path / "rows.csv")
    assert [(row["fold"], row["epoch"], row["iteration"]) for row in written] == [
        (str(1 + n // 4), str(1 + n // 2), str(n + 1)) for n in range(8)
    ]
    assert {row["Event_CHECK_COMPLETED"] for row in written} == {"8.0"}
    assert [row["Event_FOLD_COMPLETED"] for row in written] == ["10.0"] * 4 + ["20.0"] * 4


# -- how runs end, pause and begin again -------------------------------------------------------------------------------


def test_data_that_is_restarted_costs_what_the_restart_costs(clock):
    engine = Engine(clock.waiter(1))
    basic, _ = profiled(engine)
    attach(engine, Events.DATALOADER_STOP_ITERATION, clock.waiter(100), "restart")
    engine.run(Data(clock, 2, 8), max_epochs=1, epoch_length=5)
    results = basic.get_results()
    assert total(results["dataflow_stats"]) == 5 * 8
    assert total(results["event_handlers_stats"]["DATALOADER_STOP_ITERATION"]) == 200
    assert total(results["processing_stats"]) == 5


def test_results_are_of_the_last_run(clock):
    engine = Engine(clock.waiter(1))
    basic, handlers = profiled(engine)
    handle = attach(engine, Events.ITERATION_COMPLETED, clock.waiter(2), "old")
    engine.run([1, 2, 3])
    handle.remove()
    attach(engine, Events.ITERATION_COMPLETED, clock.waiter(4), "new")
    engine.close()
    engine.run([1])
    assert total(basic.get_results()["event_handlers_stats"]["ITERATION_COMPLETED"]) == 4
    assert basic.get_results()["event_handlers_names"]["ITERATION_COMPLETED_names"] == ["new"]
    assert calls_of(handlers) == {("iteration_completed", "new"): 1}
    assert total(basic.get_results()["processing_stats"]) == 1


def test_results_may_be_asked_for_during_the_run(clock):
    engine = Engine(clock.waiter(1))
    basic, _ = profiled(engine)
    attach(engine, Events.ITERATION_COMPLETED, clock.waiter(2), "log")
    seen = []

    @engine.on(Events.EPOCH_COMPLETED)
    def look():
        clock.now += 64
        results = basic.get_results()
        seen.append((total(results["processing_stats"]), results["event_handlers_stats"]["total_time"]))

    engine.run([1, 2], max_epochs=2)
    assert seen == [(2, 4), (4, 4 + 64 + 4)]


@pytest.mark.parametrize("at", [Events.GET_BATCH_STARTED, Events.ITERATION_STARTED, Events.ITERATION_COMPLETED])
@pytest.mark.parametrize("timed", [False, True])
def test_time_that_passes_during_a_pause_is_not_the_runs(clock, at, timed):
    engine = Engine(clock.waiter(1))
    basic, handlers = profiled(engine)
    attach(engine, Events.ITERATION_COMPLETED, clock.waiter(2), "log")
    attach(engine, Events.INTERRUPT, clock.waiter(16), "paused")
    attach(engine, at(once=2), lambda: engine.interrupt(), "pause")
    with record(handler_times=timed) as trace:
        engine.run(Data(clock, 3, 8), epoch_length=3)
        assert engine.current_run is not None
        clock.now += 10_000
        engine.run()
    trace.assert_legal()
    results = basic.get_results()
    cut = {Events.GET_BATCH_STARTED: (3, 2), Events.ITERATION_STARTED: (2, 3), Events.ITERATION_COMPLETED: (3, 3)}
    processed, fetched = cut[at]  # a duration with a pause in it is discarded
    assert total(results["processing_stats"]) == processed
    assert total(results["dataflow_stats"]) == fetched * 8
    assert total(results["event_handlers_stats"]["ITERATION_COMPLETED"]) == 6
    assert total(results["event_handlers_stats"]["INTERRUPT"]) == 16
    if timed:
        ours = {(one.event, one.handler): one.count for one in trace.handler_times}
        assert calls_of(handlers).items() <= ours.items()


def test_a_custom_event_that_comes_first_after_a_pause_is_measured(clock):
    engine = Engine(lambda engine, batch: engine.fire_event("ping"))
    _, handlers = profiled(engine)
    engine.register_events("ping")
    attach(engine, "ping", clock.waiter(1), "log")
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: engine.interrupt())
    engine.run([1, 2])
    while engine.current_run is not None:
        engine.run()
    assert calls_of(handlers)["ping", "log"] == 2


def test_a_run_that_is_stepped_measures_its_handlers(clock):
    engine = Engine(clock.waiter(1))
    basic, handlers = profiled(engine)
    attach(engine, Events.ITERATION_COMPLETED, clock.waiter(2), "log")
    for _ in engine.steps([1, 2, 3]):
        clock.now += 500
    assert total(basic.get_results()["event_handlers_stats"]["ITERATION_COMPLETED"]) == 6
    assert basic.get_results()["processing_stats"] == {"total": "not yet triggered"}
    assert calls_of(handlers) == {("iteration_completed", "log"): 3}


@pytest.mark.parametrize("skip", [False, True])
def test_runs_epochs_and_iterations_that_are_cut_short(clock, skip, tmp_path):
    engine = Engine(clock.waiter(1))
    basic, handlers = profiled(engine)
    attach(engine, Events.ITERATION_STARTED(once=2), lambda: engine.skip_iteration(), "skip")
    attach(engine, Events.ITERATION_STARTED(once=4), lambda: engine.terminate_epoch(skip_epoch_completed=skip), "cut")
    attach(engine, Events.ITERATION_STARTED(once=7), lambda: engine.terminate(skip_completed=skip), "end")
    for at in (Events.ITERATION_SKIPPED, Events.TERMINATE, Events.TERMINATE_SINGLE_EPOCH, Events.COMPLETED):
        attach(engine, at, clock.waiter(2), "log")
    attach(engine, Events.EPOCH_COMPLETED, clock.waiter(2), "log")
    with record() as trace:
        engine.run(range(5), max_epochs=3)
    trace.assert_legal()
    assert total(basic.get_results()["processing_stats"]) == 4  # iterations 1, 3, 5 and 6
    expected = {(key, "log"): trace.count(key) for key in ("iteration_skipped", "terminate", "terminate_single_epoch")}
    expected |= {(key, "log"): trace.count(key) for key in ("completed", "epoch_completed") if not skip}
    assert {key: count for key, count in calls_of(handlers).items() if key[1] == "log"} == expected
    basic.write_results(tmp_path / "rows.csv")
    written = read(tmp_path / "rows.csv")
    assert [(row["epoch"], row["iteration"]) for row in written] == [("1", str(n)) for n in range(1, 5)] + [
        ("2", str(n)) for n in range(5, 8)
    ]
    assert [row["processing_stats"] for row in written] == ["1.0", "", "1.0", "", "1.0", "1.0", ""]


@pytest.mark.parametrize("swallow", [False, True])
def test_a_failure_is_measured_up_to_where_it_came(clock, swallow):
    engine = Engine(clock.waiter(1))
    basic, handlers = profiled(engine)

    @engine.on(Events.ITERATION_COMPLETED(once=2))
    def fail():
        clock.now += 8
        raise ZeroDivisionError

    attach(engine, Events.EXCEPTION_RAISED, lambda engine, error: clock.waiter(16)() or swallow, "told")
    with contextlib.nullcontext() if swallow else pytest.raises(ZeroDivisionError):
        engine.run([1, 2, 3])
    stats = basic.get_results()["event_handlers_stats"]
    assert (total(stats["ITERATION_COMPLETED"]), total(stats["EXCEPTION_RAISED"]), stats["total_time"]) == (8, 16, 24)
    assert total(basic.get_results()["processing_stats"]) == 2
    engine.remove_event_handler(fail, Events.ITERATION_COMPLETED)
    engine.close()
    engine.run([1])
    assert basic.get_results()["event_handlers_stats"]["total_time"] == 0
    assert calls_of(handlers) == {}


def test_handlers_are_measured_while_they_are_attached(clock):
    engine = Engine(clock.waiter(1))
    _, handlers = profiled(engine)
    handles = []

    @engine.on(Events.ITERATION_STARTED(once=2))
    def add():
        handles.append(attach(engine, Events.ITERATION_COMPLETED, clock.waiter(4), "guest"))

    @engine.on(Events.ITERATION_STARTED(once=4))
    def remove():
        handles[0].remove()

    engine.run(range(5))
    assert rows_of(handlers)["guest", "ITERATION_COMPLETED"] == 8


def test_a_nested_engine_is_in_the_time_of_its_handler(clock):
    trainer, evaluator = Engine(clock.waiter(1), name="trainer"), Engine(clock.waiter(2), name="evaluator")
    outer, _ = profiled(trainer)
    inner, handlers = profiled(evaluator)
    attach(evaluator, Events.COMPLETED, clock.waiter(64), "log")
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[1, 2, 3])
    attach(trainer, Events.ITERATION_COMPLETED(once=1), lambda: evaluator.run([1]), "look")
    trainer.run([1, 2], max_epochs=2)
    stats = outer.get_results()["event_handlers_stats"]
    assert total(stats["EPOCH_COMPLETED"]) == 2 * (3 * 2 + 64)
    assert total(stats["ITERATION_COMPLETED"]) == 2 + 64
    assert total(outer.get_results()["processing_stats"]) == 4
    assert total(inner.get_results()["processing_stats"]) == 6  # results are those of the last run
    assert calls_of(handlers) == {("completed", "log"): 1}


def test_an_event_fired_outside_of_any_run_is_not_measured(clock):
    engine = Engine(lambda engine, batch: engine.fire_event("ping"))
    engine.register_events("ping")
    _, handlers = profiled(engine)
    attach(engine, "ping", clock.waiter(1), "log")
    engine.fire_event("ping")
    engine.run([1, 2])
    engine.fire_event("ping")
    assert calls_of(handlers) == {("ping", "log"): 2}


def test_memory_is_bounded_and_statistics_are_of_all(clock, tmp_path):
    engine = Engine(clock.waiter(1))
    basic, handlers = BasicTimeProfiler(keep=3), HandlersTimeProfiler(keep=3)
    basic.attach(engine)
    handlers.attach(engine)
    attach(engine, Events.ITERATION_COMPLETED, lambda engine: clock.waiter(engine.state.iteration)(), "slower")
    engine.run(range(10))
    stats = basic.get_results()["event_handlers_stats"]["ITERATION_COMPLETED"]
    assert stats["total"] == sum(range(1, 11))
    assert (stats["min/index"], stats["max/index"]) == ((1, 0), (10, 9))
    assert math.isclose(stats["std"], statistics.stdev(range(1, 11)))
    for profiler, column, number in (
        (basic, "Event_ITERATION_COMPLETED", "iteration"),
        (handlers, "slower (ITERATION_COMPLETED)", "#"),
    ):
        profiler.write_results(tmp_path / "rows.csv")
        assert [(row[number], row[column]) for row in read(tmp_path / "rows.csv")] == [
            ("8", "8.0"),
            ("9", "9.0"),
            ("10", "10.0"),
        ]


@given(st.lists(st.floats(0, 1e6), min_size=2))
def test_statistics_are_those_of_the_standard_library(numbers):
    times = camshaft.handlers.profiling.statistics.Times(1)
    for number, seconds in enumerate(numbers):
        times.add(number, seconds)
    found = times.statistics
    assert found.count == times.count == len(numbers)
    assert found.mean == pytest.approx(statistics.fmean(numbers), abs=1e-9)
    assert found.std == pytest.approx(statistics.stdev(numbers), rel=1e-6, abs=1e-6)
    assert found.minimum == (min(numbers), numbers.index(min(numbers)))
    assert found.maximum == (max(numbers), numbers.index(max(numbers)))


# -- nothing else changes ----------------------------------------------------------------------------------------------


@settings(max_examples=settings().max_examples // 3)
@given(scenarios(loops(), max_calls=3, depth=2, evaluators=loops()))
def test_profiling_changes_nothing_and_counts_every_call(scenario):
    made = {}

    def make(loop, name):
        engine = Engine(loop, name)
        made[name] = profiled(engine)
        return engine

    plain = scenario.play()
    with record(handler_times=True) as trace:
        watched = scenario.play(make)
    assert [str(one) for one in watched.trace] == [str(one) for one in plain.trace]
    assert (type(watched.error), str(watched.error), watched.is_paused) == (
        type(plain.error),
        str(plain.error),
        plain.is_paused,
    )
    assert (watched.handler_calls, watched.function_calls, watched.warned) == (
        plain.handler_calls,
        plain.function_calls,
        plain.warned,
    )
    watched.trace.assert_legal()

    measured = {}
    for one in trace.handler_times:
        if one.engine == "trainer" and one.handler not in ("BasicTimeProfiler", "HandlersTimeProfiler"):
            key = (one.event, one.handler)
            measured[key] = measured.get(key, 0) + one.count
    basic, handlers = made["trainer"]
    assert calls_of(handlers) == measured
    names = basic.get_results()["event_handlers_names"].values()
    assert not any("Profiler" in name for group in names for name in group)


def trained(profile):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    generator = torch.Generator().manual_seed(1)
    dataset = TensorDataset(torch.randn(40, 4, generator=generator), torch.randint(2, (40,), generator=generator))
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss())
    Accuracy().attach(trainer, "accuracy", output_transform=lambda loss: (torch.eye(2), torch.tensor([0, 1])))
    profilers = profiled(trainer) if profile else ()
    with record() as trace:
        trainer.run(DataLoader(dataset, batch_size=8, shuffle=True, generator=generator), max_epochs=3)
    return [value.clone() for value in model.state_dict().values()], trace, profilers


def test_training_gives_the_same_weights_and_trace():
    plain, expected, _ = trained(profile=False)
    weights, trace, (basic, handlers) = trained(profile=True)
    assert all(map(torch.equal, weights, plain))
    assert trace == list(expected)
    trace.assert_legal()
    assert basic.get_results()["processing_stats"]["total"] > 0
    assert basic.get_results()["dataflow_stats"]["total"] > 0
    assert calls_of(handlers)["iteration_completed", "accuracy.update"] == 15


def test_a_profiled_engine_resumes_with_its_profiler(clock):
    engine = Engine(clock.waiter(1))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=3), engine.interrupt)
    engine.run([1, 2, 3, 4], max_epochs=2)
    saved = engine.state_dict()
    again = Engine(clock.waiter(1))
    basic, _ = profiled(again)
    again.load_state_dict(saved)
    with record() as trace:
        again.run([1, 2, 3, 4])
    trace.assert_legal()
    assert total(basic.get_results()["processing_stats"]) == 5


# -- what is shown -----------------------------------------------------------------------------------------------------


def test_tables_are_printed_and_returned_within_120_columns(clock, capsys):
    def evaluate_the_model_on_all_of_the_validation_set_and_write_down_what_it_gave(engine):
        clock.now += 90

    engine = Engine(clock.waiter(1))
    profilers = profiled(engine)
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, evaluate_the_model_on_all_of_the_validation_set_and_write_down_what_it_gave
    )
    attach(engine, Events.ITERATION_COMPLETED, clock.waiter(0.125), "log")
    attach(engine, Events.TERMINATE, clock.waiter(0.125), "[red]goodbye[/red]")
    engine.run([1, 2])
    for profiler in profilers:
        text = profiler.print_results(profiler.get_results())
        assert capsys.readouterr().out.rstrip() == text.rstrip()
        assert max(map(len, text.splitlines())) <= 120
        assert "\x1b" not in text
        joined = text.replace("\n", "").replace(" ", "")
        for shown in ("EPOCH_COMPLETED", "ITERATION_COMPLETED", "[red]goodbye[/red]", "90s", "250ms", "never"):
            assert shown in joined
        assert "DATALOADER_STOP_ITERATION" not in text
        assert "…" not in text


# -- wrong arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", PROFILERS)
def test_wrong_arguments_give_one_clear_error(kind, tmp_path):
    name = kind.__name__
    for keep in (0, -1, 1.5, True, None):
        with pytest.raises(ValueError, match=f"{name}: keep must be an integer of 1 or more, got {keep!r}"):
            kind(keep=keep)
    profiler = kind()
    with pytest.raises(RuntimeError, match=f"{name} is not attached to an engine: call attach"):
        profiler.get_results()
    with pytest.raises(RuntimeError, match=f"{name} is not attached to an engine: call attach"):
        profiler.write_results(tmp_path / "none.csv")
    with pytest.raises(TypeError, match=f"{name}: engine must be an Engine, got 3"):
        profiler.attach(3)
    engine = Engine(lambda engine, batch: None)
    profiler.attach(engine)
    before = len(engine.handlers(Events.STARTED))
    profiler.attach(engine)
    assert len(engine.handlers(Events.STARTED)) == before
    with pytest.raises(ValueError, match=f"{name}: already attached to an engine other than other: create one {name}"):
        profiler.attach(Engine(lambda engine, batch: None, name="other"))
    profiler.print_results(profiler.get_results())  # without any run
