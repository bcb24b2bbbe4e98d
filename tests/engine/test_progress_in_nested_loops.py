"""A run in nested loops, cut at any boundary and resumed, does the same as an uninterrupted one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from camshaft import DATA, Engine, EventPoint, Loop, Phase, Snapshot, every, record
from camshaft.engine.progress import resume_points

BATCHES = [0, 1, 2]


class Unsized:
    def __iter__(self):
        return iter(BATCHES)


def states(draw, level, place):
    """Draw the states before or after the loop over the data, in a loop around it."""
    kinds = draw(st.lists(st.sampled_from(["phase", "rare", "loop", "point", "asked"]), max_size=2))
    made = []
    for number, kind in enumerate(kinds):
        name = f"{kind}_{place}_{level}_{number}".upper()
        if kind == "loop":
            made.append((kind, name, Loop(name, Phase(f"{name}_PHASE"), times=2)))
        elif kind == "point":
            made.append((kind, name, EventPoint(name.lower())))
        else:
            made.append((kind, name, Phase(name)))
    return made


@st.composite
def declarations(draw):
    """Draw, for each loop around the data: its kind, and the states before and after the next loop."""
    depth = draw(st.integers(0, 3))
    return [
        (
            draw(st.sampled_from(["times", "list", "function", "until"])),
            states(draw, level, "before"),
            states(draw, level, "after"),
        )
        for level in range(depth)
    ]


def build(declaration, log, strict=False):
    def note(name):
        def run(engine, batch):
            counts = [getattr(engine.state, counter) for counter in engine.loop.counters]
            # behind the data, a phase without elements gets the last batch, which is not saved
            log.append((name, counts, batch if name == "step" or isinstance(batch, str) else None))

        return run

    def filled(states):
        for kind, name, item in states:
            if kind == "point":
                yield item
            elif kind == "loop":
                yield Loop(name, Phase(f"{name}_PHASE", note(name)), times=2)
            else:
                when = (
                    every(2)
                    if kind == "rare"
                    else (lambda engine: engine.state.iteration % 2 == 0)
                    if kind == "asked"
                    else None
                )
                yield Phase(name, note(name), when=when)

    loop = Loop("ITERATION", Phase("STEP_PHASE", note("step")), over=DATA)
    for level, (kind, before, after) in reversed([*enumerate(declaration)]):
        name = f"L{level}"
        rule = {
            "times": {"times": 2},
            "list": {"over": ["p", "q"]},
            "function": {"over": lambda engine: (letter for letter in "rs")},
            "until": {"until": lambda engine, counter=name.lower(): getattr(engine.state, counter) % 2 == 0},
        }[kind]
        loop = Loop(name, *filled(before), loop, *filled(after), **rule)
    engine = Engine(loop, strict=strict)
    for key in loop.event_keys:
        if key not in ("started", "completed", "get_batch_started", "dataloader_stop_iteration"):
            engine.add_event_handler(key, lambda *_, key=key: engine.state.resumed or log.append(key))
    return engine


@settings(max_examples=settings().max_examples // 3)  # each has four resumed runs
@given(declaration=declarations(), sized=st.booleans(), cuts=st.lists(st.integers(0, 999), min_size=4, max_size=4))
def test_a_run_cut_at_any_boundary_does_the_same(declaration, sized, cuts):
    data = BATCHES if sized else Unsized()
    whole, saved = [], []
    engine = build(declaration, whole)
    points = resume_points(engine.loop)
    for event in engine.steps(data):
        key = getattr(event, "value", event)
        saved.append((key, key in points, len(whole), engine.state_dict()))
    for key, is_exact, done, state in (saved[cut % len(saved)] for cut in cuts):
        rest = []
        resumed = build(declaration, rest, strict=True)
        resumed.load_state_dict(state)
        with record() as trace:
            resumed.run(data)
        trace.assert_legal()
        if is_exact:
            assert rest == whole[done:], f"cut at {key}: {state}"


STAGES = [
    ("list", [("phase", "SPLIT", None)], [("phase", "SCORE", None)]),
    ("times", [("loop", "WARM", None)], [("rare", "CHECK", None)]),
]


@pytest.mark.parametrize("at", range(1, 12))
@pytest.mark.parametrize(
    "moment", ["iteration_completed", "l1_started", "l1_completed", "split_completed", "check_started"]
)
def test_a_snapshot_in_nested_loops_is_written_at_the_next_boundary(tmp_path, at, moment):
    def make(log):
        engine = build(STAGES, log)
        return engine, Snapshot(engine, tmp_path)

    whole, rest = [], []
    engine, snapshot = make(whole)
    fired, done = [], []
    write = snapshot._write

    def written(engine):
        write(engine)
        done.append(len(whole))

    snapshot._write = written
    engine.add_event_handler(moment, lambda: (fired.append(None), len(fired) == at and snapshot()))
    engine.run(BATCHES)
    if not done:
        assert len(fired) < at
        return
    resumed, _ = make(rest)
    with record() as trace:
        resumed.run(BATCHES, resume="latest")
    trace.assert_legal()
    assert rest == whole[done[0] :]


def test_a_run_in_loops_of_several_functions_is_resumed():
    def make(log):
        loop = Loop("ITERATION", Phase("STEP", lambda engine, batch: log.append(batch)), over=DATA)
        for level in range(16):
            loop = Loop(
                f"L{level}",
                Phase(f"A{level}", lambda engine, batch, level=level: log.append(f"a{level}")),
                loop,
                times=1,
            )
        return Engine(Loop("TOP", loop, times=2))

    whole, saved = [], []
    engine = make(whole)
    engine.add_event_handler("iteration_completed", lambda: saved.append((len(whole), engine.state_dict())))
    engine.run(BATCHES)
    for done, state in saved:
        rest = []
        resumed = make(rest)
        resumed.load_state_dict(state)
        resumed.run(BATCHES)
        assert rest == whole[done:]


def test_terminate_epoch_where_a_run_is_resumed_begins_the_next_pass():
    def make(log):
        return build([("times", [("phase", "SPLIT", None)], []), ("times", [("phase", "SHUFFLE", None)], [])], log)

    saved = []
    engine = make([])
    engine.add_event_handler("iteration_completed", lambda: saved.append(engine.state_dict()))
    engine.run(BATCHES)
    for event in ("l0_started", "l1_started"):
        log = []
        resumed = make(log)
        resumed.load_state_dict(saved[1])
        resumed.add_event_handler(event, lambda engine: engine.state.resumed and engine.terminate_epoch())
        with record() as trace:
            resumed.run(BATCHES)
        trace.assert_legal()
        assert log[:3] == ["terminate_single_epoch", "l0_completed", "l0_started"]
        assert [entry[0] for entry in log if isinstance(entry, tuple)].count("SHUFFLE") == 2


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"passes": {"L0": 1}}, "give numbers of 0 or more for these loops: L1, L2"),
        ({"passes": {"L2": 1}}, "for these loops: L1, L2"),
        ({"passes": {"L1": -1, "L2": 1}}, "for these loops: L1, L2"),
        ({"passes": 3}, "for these loops: L1, L2"),
        ({"passes": {"L1": 1}}, "position=1, but not the passes of all loops around the data: save at L0_COMPLETED"),
    ],
)
def test_passes_that_do_not_fit_the_loop_are_refused(changes, says):
    declaration = [("times", [], [])] * 3
    saved = []
    engine = build(declaration, [])
    engine.add_event_handler("iteration_completed", lambda: saved.append(engine.state_dict()))
    engine.run(BATCHES)
    with pytest.raises(ValueError, match=says):
        build(declaration, []).load_state_dict(saved[0] | changes)


@pytest.mark.parametrize(
    "loop", [Loop("EPISODE", Loop("TIMESTEP", Phase("ACT"), times=2)), Loop("EPISODE", Phase("ACT"))]
)
def test_a_loop_that_is_not_resumed_in_a_pass_says_so_at_once(tmp_path, caplog, loop):
    with caplog.at_level("INFO", logger="camshaft"):
        Snapshot(Engine(loop), tmp_path)
    told = [one.getMessage() for one in caplog.records]
    assert len(told) == (len(loop.counters) > 1)
    assert not told or "snapshots are written at EPISODE_COMPLETED" in told[0]


def test_a_loop_without_data_has_no_position_in_data():
    positions = []
    Engine(Loop("EPISODE", Phase("ACT", lambda engine, _: positions.append(engine.position)), times=2)).run()
    assert positions == [0, 0]


def test_a_state_of_a_loop_without_data_goes_on_with_the_next_pass():
    def make(log):
        return Engine(
            Loop("EPISODE", Loop("TIMESTEP", Phase("ACT", lambda engine, _: log.append(engine.state.episode)), times=2))
        )

    engine = make([])
    for _ in engine.steps(max_epochs=3):
        log = []
        resumed = make(log)
        resumed.load_state_dict(engine.state_dict())
        resumed.run(max_epochs=3)
        assert log == [number for number in range(engine.state.episode + 1, 4) for _ in range(2)]
