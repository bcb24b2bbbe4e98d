"""Tests of ranges in torch.profiler: their times and nesting, read from real profiles."""

import contextlib
import json
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from torch import nn
from torch.profiler import ProfilerActivity, profile, record_function, schedule
from torch.utils.data import DataLoader, TensorDataset

from camshaft import DATA, Engine, Events, Loop, Phase, create_supervised_trainer, record
from camshaft.handlers import ProfilerRanges
from camshaft.testing import loops, scenarios


@contextlib.contextmanager
def profiling(**options):
    with profile(activities=[ProfilerActivity.CPU], **options) as profiled:
        yield profiled


def ranges_of(profiled, engine):
    """Return (name without the engine's, start, end) of each range in order of start, in microseconds."""
    found = [
        (one.name.removeprefix(f"{engine}."), one.time_range.start, one.time_range.end)
        for one in profiled.events()
        if one.name.startswith(f"{engine}.")
    ]
    return sorted(found, key=lambda one: (one[1], -one[2]))


def tree_of(ranges):
    """Return each range as (name, [ranges inside it]). Fail if ranges overlap without nesting."""
    root = ("", [])
    stack = [(root, -1, float("inf"))]
    for name, start, end in ranges:
        while stack[-1][2] <= start and len(stack) > 1:
            stack.pop()
        assert end <= stack[-1][2], f"{name} outlasts {stack[-1][0][0]}"
        node = (name, [])
        stack[-1][0][1].append(node)
        stack.append((node, start, end))
    return root[1]


def shape(engine, run, name="engine"):
    """Run an engine, and return the tree of its ranges and its trace."""
    ProfilerRanges().attach(engine)
    with record() as trace, profiling() as profiled:
        run()
    trace.assert_legal()
    return tree_of(ranges_of(profiled, name)), trace


def work(*_):
    torch.ones(2).add_(1)


def count(tree, name):
    return sum((node[0] == name) + count(node[1], name) for node in tree)


def names(tree):
    return [(name, names(inner)) if inner else name for name, inner in tree]


# -- what is there -----------------------------------------------------------------------------------------------------


def test_ranges_are_those_of_the_trace_and_contain_the_work():
    torch.manual_seed(0)
    model = nn.Linear(4, 2)
    data = TensorDataset(torch.randn(12, 4), torch.randint(2, (12,)))
    trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
    ProfilerRanges().attach(trainer)
    with record() as trace, profiling() as profiled:
        trainer.run(DataLoader(data, batch_size=4), max_epochs=2)
    trace.assert_legal()
    tree = tree_of(ranges_of(profiled, "trainer"))
    iteration = ("ITERATION", ["FORWARD", "BACKWARD", "OPTIM_STEP"])
    assert names(tree) == [("EPOCH", ["GET_BATCH", iteration] * 3)] * 2
    for state in ("EPOCH", "ITERATION", "FORWARD", "BACKWARD", "OPTIM_STEP", "GET_BATCH"):
        assert count(tree, state) == trace.count(f"{state.lower()}_started")

    def around(event):
        event = event.cpu_parent
        while event is not None and not event.name.startswith("trainer."):
            event = event.cpu_parent
        return event.name if event is not None else None

    events = profiled.events()
    assert {around(one) for one in events if one.name == "aten::linear"} == {"trainer.FORWARD"}
    assert {around(one) for one in events if one.name == "Optimizer.step#SGD.step"} == {"trainer.OPTIM_STEP"}
    assert {around(one) for one in events if one.name.startswith("enumerate(DataLoader)")} == {"trainer.GET_BATCH"}
    assert {around(one) for one in events if "trainer.BACKWARD" in one.name} == {"trainer.ITERATION"}


def test_training_with_ranges_gives_the_same_weights_and_trace():
    def trained(attach):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5), nn.Linear(8, 2))
        data = TensorDataset(torch.randn(12, 4), torch.randint(2, (12,)))
        trainer = create_supervised_trainer(model, torch.optim.SGD(model.parameters(), lr=0.1), nn.CrossEntropyLoss())
        if attach:
            ProfilerRanges().attach(trainer)
        with record() as trace, profiling() if attach else contextlib.nullcontext():
            trainer.run(DataLoader(data, batch_size=4, shuffle=True), max_epochs=2)
        return [value.clone() for value in model.parameters()], trace

    (plain, expected), (weights, trace) = trained(False), trained(True)
    assert all(map(torch.equal, weights, plain))
    assert trace == list(expected)


def test_the_step_of_a_schedule_lies_between_iterations():
    engine = Engine(work)
    ProfilerRanges().attach(engine)
    ready = []
    with profiling(
        schedule=schedule(wait=1, warmup=1, active=2, repeat=1), on_trace_ready=lambda one: ready.extend(one.events())
    ) as profiled:
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: profiled.step())
        engine.run(range(6))
    steps = sorted((e.time_range.start, e.time_range.end) for e in ready if e.name.startswith("ProfilerStep"))
    found = sorted((e.time_range.start, e.time_range.end) for e in ready if e.name == "engine.ITERATION")
    assert len(steps) == len(found) == 2
    assert all(outer[0] <= inner[0] <= inner[1] <= outer[1] for outer, inner in zip(steps, found, strict=True))


def test_engines_are_told_apart_and_nested_ones_lie_inside(tmp_path):
    trainer, evaluator = Engine(work, name="trainer"), Engine(work, name="evaluator")
    for engine in (trainer, evaluator):
        ProfilerRanges().attach(engine)
    trainer.nest(evaluator, on=Events.EPOCH_STARTED, data=[1, 2])
    with profiling() as profiled:
        trainer.run([1], max_epochs=2)
    assert names(tree_of(ranges_of(profiled, "trainer"))) == [("EPOCH", ["GET_BATCH", "ITERATION"])] * 2
    inner = ["GET_BATCH", "ITERATION"] * 2
    assert names(tree_of(ranges_of(profiled, "evaluator"))) == [("EPOCH", inner)] * 2
    for one in profiled.events():
        if one.name == "evaluator.EPOCH":
            assert one.cpu_parent.name == "trainer.EPOCH"
    profiled.export_chrome_trace(str(tmp_path / "trace.json"))
    written = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(one.get("name") == "trainer.EPOCH" and one["ph"] == "X" for one in written) == 2


def test_loops_of_any_name_and_conditions_are_shown():
    loop = Loop("EPISODE", Phase("RESET", work), Loop("TIMESTEP", Phase("ACT", work), times=2), Phase("UPDATE", work))
    engine = Engine(loop)
    tree, _ = shape(engine, lambda: engine.run(max_epochs=2))
    assert names(tree) == [("EPISODE", ["RESET", ("TIMESTEP", ["ACT"]), ("TIMESTEP", ["ACT"]), "UPDATE"])] * 2


class Stream:
    """Data of unknown length."""

    def __init__(self, batches):
        self.batches = batches

    def __iter__(self):
        return iter(self.batches)


def test_states_that_share_events_are_told_apart():
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = create_supervised_trainer(model, optimizer, nn.CrossEntropyLoss(), gradient_accumulation_steps=2)
    batches = [(torch.randn(4, 3), torch.randint(2, (4,))) for _ in range(3)]
    tree, trace = shape(trainer, lambda: trainer.run(Stream(batches), max_epochs=1), "trainer")
    fill, step = ("ITERATION", ["FORWARD", "BACKWARD"]), ("ITERATION", ["FORWARD", "BACKWARD", "OPTIM_STEP"])
    batch = ["GET_BATCH", fill, "GET_BATCH", step, "GET_BATCH", fill, "GET_BATCH"]
    assert names(tree) == [("EPOCH", [*batch, "RESCALE", "LAST_OPTIM_STEP"])]
    assert trace.count("optim_step_started") == 2


def test_an_event_may_leave_one_state_and_enter_the_next():
    phases = [Phase("A", work, started="begin", completed="middle"), Phase("B", work, started="middle")]
    engine = Engine(phases)
    tree, _ = shape(engine, lambda: engine.run([1]))
    assert names(tree) == [("EPOCH", ["GET_BATCH", ("ITERATION", ["A", "B"])])]


def test_without_a_profile_nothing_happens():
    engine = Engine(work)
    ProfilerRanges().attach(engine)
    assert engine.run([1, 2]).iteration == 2


# -- free states -------------------------------------------------------------------------------------------------------


def fires(*events):
    def step(engine, batch):
        for event in events:
            engine.fire_event(event)
            work()

    return step


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        (("a_started", "a_completed", "b_started", "b_completed"), ["A", "B"]),
        (("a_started", "b_started", "b_completed", "a_completed"), [("A", ["B"])]),
        (("a_started", "b_started", "a_completed", "b_completed"), [("A", ["B"])]),
        (("a_started", "a_completed", "a_started", "a_completed"), ["A", "A"]),
    ],
)
def test_custom_states_may_overlap_and_their_ranges_are_nested(order, expected):
    engine = Engine(fires(*order))
    ranges = ProfilerRanges()
    ranges.attach(engine)
    engine.register_events("a_started", "a_completed", "b_started", "b_completed", "done")  # after it was attached
    with record() as trace, profiling() as profiled:
        engine.run([1, 2])
    trace.assert_legal()
    tree = tree_of(ranges_of(profiled, "engine"))
    assert names(tree) == [("EPOCH", ["GET_BATCH", ("ITERATION", expected)] * 2)]
    for state in ("A", "B"):
        assert count(tree, state) == trace.count(f"{state.lower()}_started")


def test_custom_states_contain_iterations_or_end_with_them():
    engine = Engine(work)
    engine.register_events("warm_started", "warm_completed", "mid_started", "mid_completed", within="EPOCH")
    engine.add_event_handler(Events.EPOCH_STARTED, lambda: engine.fire_event("warm_started"))
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: engine.fire_event("mid_started"))
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: engine.fire_event("warm_completed"))
    engine.add_event_handler(Events.ITERATION_STARTED(once=3), lambda: engine.fire_event("mid_completed"))
    tree, _ = shape(engine, lambda: engine.run([1, 2, 3]))
    batch = ["GET_BATCH", "ITERATION"]
    warm = ("WARM", [*batch, "GET_BATCH", ("ITERATION", ["MID"])])
    assert names(tree) == [("EPOCH", [warm, *batch])]


# -- how runs end ------------------------------------------------------------------------------------------------------


STATES = ("EPOCH", "ITERATION", "FORWARD", "BACKWARD", "A")


def trainer_with(call, at, n):
    """Return an engine with phases and a custom state. It calls a function at an event or in a phase."""

    def forward(engine, batch):
        engine.fire_event("a_started")
        work()
        if at == "inside" and engine.state.iteration == n:
            call(engine)
        engine.fire_event("a_completed")

    engine = Engine([Phase("FORWARD", forward), Phase("BACKWARD", work)])
    engine.register_events("a_started", "a_completed")
    if at != "inside":
        engine.add_event_handler(at, lambda engine: call(engine) if engine.state.iteration == n else None)
    return engine


def raises(engine):
    raise ZeroDivisionError


def presses_ctrl_c(engine):
    raise KeyboardInterrupt


CALLS = {
    "terminate": lambda engine: engine.terminate(),
    "terminate without COMPLETED": lambda engine: engine.terminate(skip_completed=True),
    "terminate_epoch": lambda engine: engine.terminate_epoch(),
    "terminate_epoch without EPOCH_COMPLETED": lambda engine: engine.terminate_epoch(skip_epoch_completed=True),
    "raise": raises,
    "Ctrl+C": presses_ctrl_c,
}
PLACES = ["inside", "a_started", "backward_started", "backward_completed", "iteration_started", "iteration_completed"]


@pytest.mark.parametrize("at", PLACES)
@pytest.mark.parametrize("what", CALLS)
def test_ranges_are_closed_whatever_ends_what_they_show(what, at):
    engine = trainer_with(CALLS[what], at, n=2)
    ranges = ProfilerRanges()
    ranges.attach(engine)
    with record() as trace, profiling() as profiled:
        with contextlib.suppress(ZeroDivisionError, KeyboardInterrupt):
            engine.run(range(3), max_epochs=2)
        assert ranges._ranges == []
        work()
    tree = tree_of(ranges_of(profiled, "engine"))
    for state in STATES:
        assert count(tree, state) == trace.count(f"{state.lower()}_started"), state
    assert [name for name, _ in tree] == ["EPOCH"] * trace.count(Events.EPOCH_STARTED)
    assert all(name in ("GET_BATCH", "ITERATION") for _, inside in tree for name, _ in inside)
    last = max(end for _, _, end in ranges_of(profiled, "engine"))
    assert last <= max(one.time_range.start for one in profiled.events() if one.name == "aten::ones")


@pytest.mark.parametrize("at", ["get_batch_completed", "iteration_started"])
def test_the_range_of_an_iteration_that_is_skipped_ends_with_it(at):
    engine = Engine([Phase("FORWARD", work)])
    engine.add_event_handler(at, lambda engine: engine.state.iteration == 1 and engine.skip_iteration())
    tree, trace = shape(engine, lambda: engine.run([1, 2, 3]))
    assert trace.count(Events.ITERATION_SKIPPED) == 1
    iterations = [node for node in tree[0][1] if node[0] == "ITERATION"]
    assert len(iterations) == 3
    assert sorted(map(len, (inner for _, inner in iterations))) == [0, 1, 1]


@pytest.mark.parametrize(
    ("call", "event"),
    [("skip_iteration", Events.ITERATION_SKIPPED), ("terminate_epoch", Events.TERMINATE_SINGLE_EPOCH)],
)
def test_what_ends_an_iteration_early_is_in_the_epoch_alone(call, event):
    engine = Engine([Phase("FORWARD", work)])
    ProfilerRanges().attach(engine)
    engine.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: getattr(engine, call)())

    @engine.on(event)
    def handler():
        with record_function("handler"):
            work()

    with profiling() as profiled:
        engine.run([1, 2, 3])
    (ran,) = (one for one in profiled.events() if one.name == "handler")
    assert ran.cpu_parent.name == "engine.EPOCH"


@pytest.mark.parametrize("at", ["get_batch_started", "iteration_started", "forward_started", "epoch_started"])
def test_a_pause_ends_all_ranges_and_those_around_begin_again(at):
    engine = Engine([Phase("FORWARD", work), Phase("BACKWARD", work)])
    engine.add_event_handler(at, lambda engine: engine.state.iteration < 2 and engine.interrupt())
    ranges = ProfilerRanges()
    ranges.attach(engine)
    with record() as trace, profiling() as profiled:
        engine.run([1, 2, 3])
        while engine.current_run is not None:
            assert ranges._ranges == []
            work()
            engine.run()
    trace.assert_legal()
    tree = tree_of(ranges_of(profiled, "engine"))
    pauses = trace.count(Events.INTERRUPT)
    assert pauses
    assert [name for name, _ in tree] == ["EPOCH"] * (1 + pauses)
    assert count(tree, "BACKWARD") == 3
    assert all(name in ("GET_BATCH", "ITERATION") for _, inside in tree for name, _ in inside)


def test_a_run_after_one_left_midway_begins_with_nothing_open():
    engine = Engine(work)
    ranges = ProfilerRanges()
    ranges.attach(engine)
    for one in engine.steps([1, 2]):
        if one is Events.ITERATION_STARTED:
            break
    engine.close()
    with profiling() as profiled:
        engine.run([1])
    assert names(tree_of(ranges_of(profiled, "engine"))) == [("EPOCH", ["GET_BATCH", "ITERATION"])]
    assert ranges._ranges == []


@settings(max_examples=settings().max_examples // 10)
@given(scenarios(loops(), max_calls=3))
def test_ranges_of_any_run_are_nested_and_those_of_the_trace(scenario):
    made = []

    def make(loop, name):
        engine = Engine(loop, name)
        made.append(ProfilerRanges())
        made[-1].attach(engine)
        return engine

    plain = scenario.play()
    with profiling() as profiled:
        watched = scenario.play(make)
    assert [str(one) for one in watched.trace] == [str(one) for one in plain.trace]
    assert (watched.handler_calls, watched.function_calls) == (plain.handler_calls, plain.function_calls)
    assert made[0]._ranges == []
    tree = tree_of(ranges_of(profiled, "trainer"))
    if watched.trace.count(Events.INTERRUPT):
        return
    fired = Counter(one.event for one in watched.trace if one.engine == "trainer")
    for _, item in scenario.loop.walk():
        if isinstance(item, (Loop, Phase)):
            assert count(tree, item.name) == fired[item.started], item.name
    assert count(tree, "GET_BATCH") == fired["get_batch_started"]


# -- wrong arguments ---------------------------------------------------------------------------------------------------


def test_wrong_arguments_give_one_clear_error():
    ranges = ProfilerRanges()
    with pytest.raises(TypeError, match="ProfilerRanges: engine must be an Engine, got 3"):
        ranges.attach(3)
    engine = Engine(Loop("ITERATION", Phase("ACT", work), over=DATA))
    ranges.attach(engine)
    before = len(engine.handlers(Events.STARTED))
    ranges.attach(engine)
    assert len(engine.handlers(Events.STARTED)) == before
    with pytest.raises(ValueError, match="already attached to an engine other than other: create one ProfilerRanges"):
        ranges.attach(Engine(work, name="other"))
    assert engine.run([1, 2], max_iters=2).iteration == 2
