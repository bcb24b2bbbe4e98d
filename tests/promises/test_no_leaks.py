"""Runs close what they open and release what they hold, however they end. Other threads may call an engine."""

from __future__ import annotations

import gc
import io
import itertools
import multiprocessing
import os
import pty
import sys
import threading
import time
import tracemalloc
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import pytest
import torch
from rich.console import Console
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from camshaft import Engine, Events, create_supervised_evaluator, create_supervised_trainer, handlers, record
from camshaft.handlers import (
    EMA,
    BasicTimeProfiler,
    Checkpoint,
    ClipGradNorm,
    ClipGradValue,
    CustomPeriodicEvent,
    EarlyStopping,
    GradNorm,
    HandlersTimeProfiler,
    LRScheduler,
    ModelCheckpoint,
    ProfilerRanges,
    ProgressBar,
    TensorBoardLogger,
    TerminateOnNan,
    TimeLimit,
    Timer,
    global_step_from_engine,
)
from camshaft.metrics import Accuracy
from support.steps import no_op
from support.thoroughness import repeats


def broken(*_):
    raise ValueError("broken")


def press_ctrl_c(*_):
    raise KeyboardInterrupt


@contextmanager
def without_gc():
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


# -- every way to end -------------------------------------------------------------------------------------------------


X = torch.tensor([[1.0, -1.0], [0.5, 2.0]]).repeat(6, 1)
DATA = TensorDataset(X, (X[:, 0] > X[:, 1]).long())


class BreaksInTheMiddle(TensorDataset):
    """Data that fails at item 7."""

    def __getitem__(self, index):
        return broken() if index == 7 else super().__getitem__(index)


def pair():
    """Return a trainer with a nested evaluator, its model and its optimizer."""
    model = nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    trainer = create_supervised_trainer(model, optimizer, nn.functional.cross_entropy)
    evaluator = create_supervised_evaluator(model, {"accuracy": Accuracy()})
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=DataLoader(DATA, batch_size=4))
    return trainer, evaluator, model, optimizer


def on_the_way(act, engine=0):
    """Return an ending that calls ``act`` at iteration 4 of 6, or at iteration 2 of the evaluator."""

    def end(engines, data):
        engines[engine].add_event_handler(Events.ITERATION_COMPLETED(once=2 if engine else 4), act)
        engines[0].run(data, max_epochs=2)

    return end


def fail_in_step(engines, data):
    engines[0].add_event_handler("backward_completed", broken)
    engines[0].run(data)


def fail_in_data(engines, data):
    engines[0].run(DataLoader(BreaksInTheMiddle(*data.dataset.tensors), num_workers=data.num_workers, batch_size=4))


def leave_steps(engines, data):
    for index, _ in enumerate(engines[0].steps(data, max_epochs=2)):
        if index == 9:
            return


def interrupt_and_close(engines, data):
    on_the_way(Engine.interrupt)(engines, data)
    engines[0].close()


ENDINGS = {
    "completed": lambda engines, data: engines[0].run(data, max_epochs=2),
    "terminated": on_the_way(Engine.terminate),
    "terminated without COMPLETED": on_the_way(partial(Engine.terminate, skip_completed=True)),
    "interrupted and closed": interrupt_and_close,
    "interrupted and dropped": on_the_way(Engine.interrupt),
    "failed in the step": fail_in_step,
    "failed in a handler": on_the_way(broken),
    "failed in the evaluator": on_the_way(broken, engine=1),
    "failed in the data": fail_in_data,
    "steps left midway": leave_steps,
    "KeyboardInterrupt": on_the_way(press_ctrl_c),
}
PAUSED = {"interrupted and dropped", "steps left midway"}
"""Endings with a paused run. It and its engine refer to each other, so only the garbage collector frees them."""

FAILING = {"failed in the step", "failed in a handler", "failed in the evaluator", "failed in the data"}


AT_ONCE = [ending for ending in ENDINGS if ending not in {*PAUSED, "failed in the data"}]
"""Endings that leave nothing to the garbage collector. (Frames of torch keep the error of a worker alive.)"""


def end(ending, engines, data):
    """Run to one of :data:`ENDINGS`, and drop the error."""
    try:
        ENDINGS[ending](engines, data)
    except (ValueError, KeyboardInterrupt) as error:
        assert (ending in FAILING) == isinstance(error, ValueError)
        return
    assert ending not in {*FAILING, "KeyboardInterrupt"}


def equip(stack, folder, console):
    """Return a pair of engines with every handler that opens files, draws or measures."""
    trainer, evaluator, model, optimizer = pair()
    ProgressBar(console=console).attach(trainer, metric_names="all")
    ProgressBar(console=console).attach(evaluator)
    BasicTimeProfiler().attach(trainer)
    HandlersTimeProfiler().attach(trainer)
    ProfilerRanges().attach(trainer)
    Timer().attach(trainer)
    saver = Checkpoint({"model": model, "optimizer": optimizer}, folder / "checkpoints", require_empty=False)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(every=3), saver)
    logger = stack.enter_context(TensorBoardLogger(folder / "logs"))
    logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "training")
    logger.attach_output_handler(
        evaluator, Events.COMPLETED, "validation", "all", global_step_transform=global_step_from_engine(trainer)
    )
    return trainer, evaluator


def run_once(number, folder, console):
    """Run once. The number decides the ending, the workers and the handlers."""
    ending = list(ENDINGS)[number % len(ENDINGS)]
    workers = int(number % 5 == 0 and ending in AT_ONCE)
    data = DataLoader(DATA, batch_size=4, num_workers=workers, multiprocessing_context="fork" if workers else None)
    with ExitStack() as stack:
        equipped = number % 2 and ending != "steps left midway"  # where a bar would stay until the process ends
        engines = equip(stack, folder, console) if equipped else pair()[:2]
        end(ending, engines, data)


def open_now():
    """Return the number of open files, the names of threads and the child processes of this process."""
    deadline = time.monotonic() + 10
    while any(thread.name == "QueueFeederThread" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)  # threads of closed queues have been told to end
    threads = sorted(thread.name for thread in threading.enumerate())
    return len(os.listdir("/proc/self/fd")), threads, multiprocessing.active_children()


def resident():
    """Return the resident memory of this process in megabytes."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.fixture
def console():
    """Return a console on a pseudo-terminal, and discard its output."""
    master, slave = pty.openpty()

    def drain():
        with suppress(OSError):  # the other side was closed
            while os.read(master, 65536):
                pass

    reader = threading.Thread(target=drain)
    reader.start()
    with os.fdopen(slave, "w") as file:
        yield Console(file=file)
    reader.join()
    os.close(master)


def test_nothing_is_left_open_after_many_runs_of_every_ending(tmp_path, console):
    for number in range(22):
        run_once(number, tmp_path, console)
    gc.collect()
    before, memory = open_now(), resident()
    for number in range(repeats(66, 220)):  # 22 endings
        run_once(number, tmp_path, console)
    for _ in range(2):  # the first collection only frees the workers of paused runs
        gc.collect()
    assert open_now() == before
    assert resident() - memory < 40


@pytest.mark.parametrize("ending", AT_ONCE)
def test_workers_and_files_are_gone_at_once_however_a_run_ends(ending):
    data = DataLoader(DATA, batch_size=4, num_workers=1, multiprocessing_context="fork")
    end(ending, pair()[:2], data)
    with without_gc():
        before = open_now()
        end(ending, pair()[:2], data)
        assert open_now() == before
        assert before[2] == []


def test_no_memory_is_kept_after_a_run_however_it_ends():
    def all_endings(times):
        for _ in range(times):
            for ending in ENDINGS:
                end(ending, pair()[:2], DataLoader(DATA, batch_size=4))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        all_endings(2)
        assert all_endings(9) - all_endings(2) < 50_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("attached", [False, True])
def test_many_iterations_leave_memory_flat(attached):
    iterations = repeats(200_000, 1_000_000)
    engine = Engine(no_op)
    if attached:
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: None)
        engine.add_event_handler(Events.ITERATION_STARTED(every=1000), lambda engine: None)
    engine.run(range(1000))
    tracemalloc.start()
    try:
        engine.run(range(10_000))
        kept, peak = tracemalloc.get_traced_memory()
        tracemalloc.reset_peak()
        engine.run(range(iterations))
        kept_now, peak_now = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert engine.state.iteration == iterations
    assert kept_now - kept < 2000
    assert peak_now - peak < 10_000


# -- engines that nobody needs any more -------------------------------------------------------------------------------


def gone_after(ending):
    trainer, evaluator, *_ = pair()
    end(ending, (trainer, evaluator), DataLoader(DATA, batch_size=4))
    return weakref.ref(trainer)


@pytest.mark.parametrize("ending", [ending for ending in ENDINGS if ending not in PAUSED])
def test_an_engine_is_freed_at_once_however_its_run_ended(ending):
    gone_after(ending)
    with without_gc():
        assert gone_after(ending)() is None


@pytest.mark.parametrize("ending", sorted(PAUSED))
def test_an_engine_dropped_in_a_pause_is_collected(ending):
    with without_gc():
        gone = gone_after(ending)
        gc.collect()
        assert gone() is None


def at(one, make):
    """Return a function that attaches a handler to an event of the trainer."""
    return lambda trainer, evaluator, model, optimizer, folder: trainer.add_event_handler(
        one, make(model, optimizer, folder)
    )


def to_trainer(make):
    """Return a function that lets a handler attach itself to the trainer."""
    return lambda trainer, evaluator, model, optimizer, folder: make().attach(trainer)


def attach_model_checkpoint(trainer, evaluator, model, optimizer, folder):
    evaluator.add_event_handler(Events.COMPLETED, ModelCheckpoint(folder, "best"), {"model": model})


def attach_logger(trainer, evaluator, model, optimizer, folder):
    logger = TensorBoardLogger(folder)
    logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "training")
    logger.attach_opt_params_handler(trainer, Events.EPOCH_STARTED, optimizer)
    trainer.add_event_handler(Events.COMPLETED, logger.writer.close)


def attach_logger_and_close_it(trainer, evaluator, model, optimizer, folder):
    with TensorBoardLogger(folder) as logger:
        logger.attach_output_handler(trainer, Events.ITERATION_COMPLETED, "training")


def attach_early_stopping(trainer, evaluator, model, optimizer, folder):
    stopping = EarlyStopping(5, lambda engine: engine.state.metrics["accuracy"], trainer)
    evaluator.add_event_handler(Events.COMPLETED, stopping)


def attach_checkpoint_of_itself(trainer, evaluator, model, optimizer, folder):
    trainer.add_event_handler(Events.COMPLETED, Checkpoint({"trainer": trainer}, folder))


def step_lr(model, optimizer, folder):
    return LRScheduler(torch.optim.lr_scheduler.StepLR(optimizer, 1))


BACKWARD, STEPPED = "backward_completed", "optim_step_completed"
ATTACHED = {
    "BasicTimeProfiler": to_trainer(BasicTimeProfiler),
    "Checkpoint": at(Events.EPOCH_COMPLETED, lambda model, optimizer, folder: Checkpoint({"model": model}, folder)),
    "ClipGradNorm": at(BACKWARD, lambda model, *_: ClipGradNorm(model.parameters(), 1.0)),
    "ClipGradValue": at(BACKWARD, lambda model, *_: ClipGradValue(model.parameters(), 1.0)),
    "CustomPeriodicEvent": to_trainer(lambda: CustomPeriodicEvent(n_iterations=2)),
    "EMA": at(STEPPED, lambda model, *_: EMA(model)),
    "GradNorm": at(BACKWARD, lambda model, *_: GradNorm(model.parameters())),
    "HandlersTimeProfiler": to_trainer(HandlersTimeProfiler),
    "LRScheduler": at(STEPPED, step_lr),
    "ModelCheckpoint": attach_model_checkpoint,
    "ProfilerRanges": to_trainer(ProfilerRanges),
    "ProgressBar": to_trainer(lambda: ProgressBar(console=Console(file=io.StringIO()))),
    "TensorBoardLogger, closed": attach_logger_and_close_it,
    "TerminateOnNan": at(Events.ITERATION_COMPLETED, lambda *_: TerminateOnNan()),
    "TimeLimit": to_trainer(lambda: TimeLimit(1000)),
    "Timer": to_trainer(Timer),
}
HELD = {
    "Checkpoint of the engine itself": attach_checkpoint_of_itself,
    "EarlyStopping": attach_early_stopping,
    "TensorBoardLogger": attach_logger,
}
"""Handlers that were given the engine that holds them: only the garbage collector frees such an engine."""


def gone_after_a_run(attach, folder):
    trainer, evaluator, model, optimizer = pair()
    attach(trainer, evaluator, model, optimizer, folder)
    end("completed", (trainer, evaluator), DataLoader(DATA, batch_size=4))
    return weakref.ref(trainer)


@pytest.mark.parametrize("name", ATTACHED)
def test_no_handler_keeps_an_engine_alive_unless_told_to(name, tmp_path):
    gone_after_a_run(ATTACHED[name], tmp_path / "before")
    with without_gc():
        assert gone_after_a_run(ATTACHED[name], tmp_path / "now")() is None


@pytest.mark.parametrize("name", HELD)
def test_an_engine_that_its_handler_refers_to_is_collected(name, tmp_path):
    with without_gc():
        gone = gone_after_a_run(HELD[name], tmp_path)
        assert gone() is not None
        gc.collect()
        assert gone() is None


def test_each_handler_was_tried():
    tried = {name.split(",")[0].split(" of ")[0] for name in (*ATTACHED, *HELD)}
    assert tried == set(handlers.__all__) - {"global_step_from_engine"}


# -- other threads ----------------------------------------------------------------------------------------------------


@contextmanager
def beside(work):
    """Call ``work`` in another thread during the block, with a very short switch interval."""
    errors, interval = [], sys.getswitchinterval()

    def guarded():
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    sys.setswitchinterval(1e-6)
    try:
        thread.start()
        yield
    finally:
        sys.setswitchinterval(interval)
        thread.join()
    assert errors == []


def test_handlers_may_come_and_go_in_another_thread():
    engine, stayed, seen, going = Engine(no_op), Counter(), [], threading.Event()
    for one in (Events.ITERATION_STARTED, Events.ITERATION_COMPLETED, Events.ITERATION_COMPLETED(every=1)):
        engine.add_event_handler(one, lambda engine, one: stayed.update([str(one)]), one)
    engine.add_event_handler(Events.STARTED, going.set)

    def come_and_go():
        going.wait(60)
        for number in range(10_000):
            calls = []
            one = Events.ITERATION_COMPLETED(every=1) if number % 2 else Events.ITERATION_COMPLETED
            handle = engine.add_event_handler(one, lambda engine, calls=calls: calls.append(engine.state.iteration))
            handle.remove()
            seen.append((calls, engine.state.iteration))
        done.append(True)

    done = []
    stop = lambda engine: engine.terminate() if done else None
    engine.add_event_handler(Events.ITERATION_COMPLETED, stop)
    with record() as trace, beside(come_and_go):
        engine.run(itertools.count(), max_iters=10_000_000)
    trace.assert_legal()
    assert done
    assert set(stayed.values()) == {engine.state.iteration} and len(stayed) == 3
    assert trace.count(Events.ITERATION_COMPLETED) == engine.state.iteration
    assert sum(map(len, (calls for calls, _ in seen))) > 100
    assert all(max(calls, default=0) <= removed_at for calls, removed_at in seen)
    assert all(len(calls) == len(set(calls)) for calls, _ in seen)
    assert len(engine.handlers(Events.ITERATION_COMPLETED)) == 3


class Breaks:
    def __len__(self):
        return 4

    def __getitem__(self, index):
        if index == 2:
            raise ValueError("broken")
        return index


def test_workers_are_gone_even_while_the_error_is_kept():
    loader = DataLoader(Breaks(), num_workers=2, multiprocessing_context="fork")
    with pytest.raises(ValueError, match="broken"):
        Engine(lambda engine, batch: None).run(loader)
    assert multiprocessing.active_children() == []


def test_everything_that_an_engine_held_is_freed_with_it():
    model = torch.nn.Linear(2, 2)
    trainer, evaluator = Engine(partial(lambda model, engine, batch: None, model)), create_supervised_evaluator(model)
    trainer.nest(evaluator, on=Events.EPOCH_COMPLETED, data=[(torch.ones(1, 2), torch.ones(1))])
    trainer.run([1])
    gone = [weakref.ref(trainer), weakref.ref(evaluator), weakref.ref(model)]
    gc.collect()
    gc.disable()
    try:
        del trainer, evaluator, model
        assert [ref() for ref in gone] == [None] * 3
    finally:
        gc.enable()


def test_a_bar_is_removed_with_an_engine_dropped_in_mid_run():
    from camshaft.handlers.progress.display import Display

    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as file:
        engine = Engine(lambda engine, batch: None)
        console = Console(file=file)
        ProgressBar(console=console).attach(engine)
        for one in engine.steps(range(5)):
            if one is Events.ITERATION_COMPLETED:
                break
        del engine
        gc.collect()
        standing = console in Display.active
        if standing:
            Display.active[console]._stop()
    os.close(master)
    assert not standing


# -- control calls from another thread ---------------------------------------------------------------------------------


@pytest.fixture
def often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def controlled(engine, ask):
    """Run while another thread calls ``ask``. Return the error of that call, or the iteration at which it returned."""
    found, going = [], threading.Event()
    engine.add_event_handler(Events.EPOCH_STARTED(once=1), going.set)

    def guarded():
        going.wait(60)
        try:
            ask()
            found.append(engine.state.iteration)
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    engine.run(itertools.count(), max_iters=1_000_000)
    thread.join()
    return found[0]


def test_control_calls_from_another_thread_raise_nothing(often):
    for _ in range(200):
        engine = Engine(lambda engine, batch: None)
        with record() as trace:
            asked = controlled(engine, engine.terminate)
        assert not isinstance(asked, BaseException), repr(asked)
        trace.assert_legal()
        assert trace.count(Events.TERMINATE) == 1


def test_interrupts_and_a_terminate_from_another_thread(often):
    engine, errors = Engine(lambda engine, batch: None), []
    going, enough, over = threading.Event(), threading.Event(), threading.Event()
    engine.add_event_handler(Events.STARTED, going.set)

    def ask():
        for calls in itertools.count(1):
            engine.interrupt()
            if (calls >= 10_000 and enough.is_set()) or over.is_set():
                break
        while not over.is_set():  # a call between two runs does nothing
            engine.terminate()

    def guarded():
        going.wait(60)
        try:
            ask()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    try:
        with record() as trace:
            thread.start()
            engine.run(itertools.count(), max_iters=100_000_000)
            pauses = 1
            while engine.current_run is not None and not errors:
                engine.run()
                pauses += 1
                if pauses > 11:
                    enough.set()
    finally:
        going.set()
        over.set()
        thread.join()
    assert errors == []
    trace.assert_legal()
    assert trace.count(Events.INTERRUPT) >= pauses - 1 > 10
    assert trace.count(Events.TERMINATE) == 1


def test_terminate_is_not_lost_during_a_lower_control_call(often):
    for number in range(400):
        engine = Engine(lambda engine, batch: None)

        def ask():
            for _ in range(number % 37):
                engine.set_data(itertools.count())
            engine.terminate()

        asked = controlled(engine, ask)
        assert asked >= 500_000 or engine.state.iteration < 1_000_000
