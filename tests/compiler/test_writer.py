"""The generated source: it reads as if written by hand."""

from __future__ import annotations

import inspect

from camshaft import DATA, Engine, Loop, Phase, every
from camshaft.compiler.writer import generate
from support.steps import echo

STANDARD_SOURCE = '''\
def epoch_loop(engine, state, fetcher):
    """The loop EPOCH. A name in capitals is an event: False while it has no handlers."""
    __tracebackhide__ = True  # pytest and IPython leave this frame out
    began = perf_counter()
    try:
        if STARTED: yield STARTED
        while state.within_limits():
            if not state.resumed: state.epoch += 1
            began_pass = perf_counter()
            try:
                if EPOCH_STARTED: yield EPOCH_STARTED
                fetcher.begin_epoch()
                if GET_BATCH_STARTED and state.iteration < fetcher.end_count: yield GET_BATCH_STARTED
                while fetcher.prepare_batches():
                    for state.batch in fetcher.batches:
                        state.output = output = None
                        try:
                            if GET_BATCH_COMPLETED: yield GET_BATCH_COMPLETED
                            state.iteration += 1
                            if any_handlers:
                                if ITERATION_STARTED: yield ITERATION_STARTED
                                if FORWARD_STARTED: yield FORWARD_STARTED
                            output = forward(engine, state.batch)
                            if output is not None: state.output = output
                            if FORWARD_COMPLETED: yield FORWARD_COMPLETED
                            if state.iteration % 4 == 0:
                                if OPTIM_STEP_STARTED: yield OPTIM_STEP_STARTED
                                output = optim_step(engine, state.batch)
                                if output is not None: state.output = output
                                if OPTIM_STEP_COMPLETED: yield OPTIM_STEP_COMPLETED
                            if ITERATION_COMPLETED: yield ITERATION_COMPLETED
                        except SkipIteration:
                            if ITERATION_SKIPPED: yield ITERATION_SKIPPED
                        if GET_BATCH_STARTED:
                            if state.iteration < fetcher.end_count: yield GET_BATCH_STARTED
                            if fetcher.must_refetch: break
                    if PENDING_CALL and state.iteration < fetcher.end_count: yield PENDING_CALL
                    if fetcher.restart_if_exhausted() and DATALOADER_STOP_ITERATION: yield DATALOADER_STOP_ITERATION
                if PENDING_CALL: yield PENDING_CALL
            except TerminateEpoch as ended:
                output = None
                fetcher.restart()
                if TERMINATE_SINGLE_EPOCH: yield TERMINATE_SINGLE_EPOCH
                if ended.skip_epoch_completed: continue
            state.times["EPOCH_COMPLETED"] = perf_counter() - began_pass
            if EPOCH_COMPLETED: yield EPOCH_COMPLETED
            state.times["EPOCH_COMPLETED"] = perf_counter() - began_pass
    except Terminate as ended:
        output = None
        if TERMINATE: yield TERMINATE
        if ended.skip_completed: return
    state.times["COMPLETED"] = perf_counter() - began
    if COMPLETED: yield COMPLETED
    state.times["COMPLETED"] = perf_counter() - began
'''


def test_the_source_of_the_standard_loop():
    engine = Engine([Phase("FORWARD", echo), Phase("OPTIM_STEP", echo, when=every(4))])
    assert engine.source() == STANDARD_SOURCE


def test_what_is_printed_is_what_runs():
    engine = Engine(echo)
    loop = engine._namespace[engine._program.entry]
    assert inspect.getsource(loop) == engine.source()


def test_every_1_and_a_condition_are_told_apart():
    engine = Engine([Phase("A", echo, when=lambda engine: False)])
    assert engine.run([3]).output is None
    assert Engine([Phase("A", echo, when=every(1))]).run([3]).output == 3


def test_names_that_python_or_the_loop_needs_stay_usable():
    names = ("IMPORT", "STATE", "OUTPUT", "ENGINE", "FETCHER", "RANGE", "PRINT", "ENDED", "INNER", "PENDING_CALL")
    body = [Phase(name, echo) for name in names if name != "OUTPUT"]
    inner = Loop("LOOP", Phase("IF", echo), times=2)
    assert Engine(Loop("EPISODE", inner, *body)).run(max_epochs=2).episode == 2


def test_event_names_that_are_not_identifiers():
    engine = Engine([Phase("A", echo, started="a begins!", completed="Terminate")])
    log = []
    engine.add_event_handler("a begins!", lambda: log.append(1))
    engine.add_event_handler("Terminate", lambda: log.append(2))
    engine.run([1])
    assert log == [1, 2]


def test_generation_is_linear_in_the_number_of_states():
    lines = [
        generate(Loop("A", *[Phase(f"P{n}", echo) for n in range(size)], times=1)).source.count("\n")
        for size in (10, 20)
    ]
    per_state = (lines[1] - lines[0]) / 10
    assert (
        generate(Loop("A", *[Phase(f"P{n}", echo) for n in range(100)], times=1)).source.count("\n")
        == lines[1] + 80 * per_state
    )


def test_at_most_one_try_for_each_loop():
    loop = Loop("FOLD", Loop("EPOCH", Loop("ITERATION", Loop("TIME", Phase("A", echo), times=2), over=DATA), times=2))
    assert generate(loop).source.count("try:") <= 4
