"""graceful_exit in child processes, which get real signals."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

SIGNALS = SIGTERM, SIGINT = signal.SIGTERM, signal.SIGINT
PRELUDE = """
import os, signal, sys, time
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from camshaft import Engine, Events, graceful_exit, record

def idle(engine, batch):
    time.sleep(0.001)

def ready(engine):
    print("ready", flush=True)
"""


class Child:
    """A program in a process group of its own. It reports when it is ready for signals."""

    def __init__(self, program):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-c", PRELUDE + textwrap.dedent(program)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
            text=True,
            start_new_session=True,
        )
        self.pid = self.process.pid

    def is_ready(self):
        line = self.process.stdout.readline()
        assert line == "ready\n", (line, *self.process.communicate())

    def ends(self):
        """Wait for the end of all processes of its group. Returns its exit code and its output."""
        out, err = self.process.communicate(timeout=60)  # waits for every process that has its streams open
        with pytest.raises(ProcessLookupError):
            os.killpg(self.pid, 0)
        return self.process.returncode, out.splitlines(), err.splitlines()


WITH_WORKERS = """
data = TensorDataset(torch.randn(64, 4), torch.randint(2, (64,)))
model = nn.Linear(4, 2)
optimizer = torch.optim.SGD(model.parameters(), 0.1)

def step(engine, batch):
    time.sleep(0.002)
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    optimizer.step()
    return loss.item()

trainer = Engine(step, "trainer")
trainer.add_event_handler(Events.ITERATION_STARTED(once=ITERATION), ready)
with record() as trace:
    try:
        with graceful_exit(trainer):
            trainer.run(DataLoader(data, batch_size=4, num_workers=2, persistent_workers=PERSISTENT), max_epochs=10**6)
    finally:
        trace.assert_legal()
        print(*[event.event for event in trace][-2:])
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are those of POSIX")
@pytest.mark.parametrize(("iteration", "persistent"), [(1, False), (20, True)])
def test_ctrl_c_to_the_group_ends_training_with_workers(iteration, persistent):
    child = Child(WITH_WORKERS.replace("ITERATION)", f"{iteration})").replace("PERSISTENT", str(persistent)))
    child.is_ready()
    os.killpg(child.pid, SIGINT)
    code, out, err = child.ends()
    assert (code, out) == (130, ["iteration_completed interrupt"])
    assert err == [
        "SIGINT: trainer stops at the next resumable point, and the process exits with 130; "
        "a second Ctrl+C ends it at once"
    ]


def test_sigterm_ends_training_with_workers():
    child = Child(WITH_WORKERS.replace("ITERATION)", "3)").replace("PERSISTENT", "False"))
    child.is_ready()
    os.kill(child.pid, SIGTERM)
    code, out, err = child.ends()
    assert (code, out, len(err)) == (143, ["iteration_completed interrupt"], 1)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="process groups are those of POSIX")
def test_a_second_ctrl_c_ends_a_hanging_step_and_its_workers():
    child = Child("""
        loader = DataLoader(TensorDataset(torch.randn(64, 4)), batch_size=4, num_workers=2)

        def step(engine, batch):
            ready(engine)
            while True:
                time.sleep(60)

        trainer = Engine(step, "trainer")
        with graceful_exit(trainer):
            trainer.run(loader)
    """)
    child.is_ready()
    os.killpg(child.pid, SIGINT)
    first = child.process.stderr.readline()
    assert first.startswith("SIGINT: trainer stops at the next resumable point")
    os.killpg(child.pid, SIGINT)
    code, _, err = child.ends()
    assert code == -SIGINT
    assert err[-2:] == ["KeyboardInterrupt", "in trainer: EPOCH 1 / ITERATION 1"]


def test_a_signal_while_there_is_no_run_ends_the_process_at_once():
    child = Child("""
        with graceful_exit(Engine(idle, "trainer")):
            ready(None)
            while True:
                time.sleep(60)
    """)
    child.is_ready()
    os.kill(child.pid, SIGTERM)
    assert child.ends() == (143, [], ["SIGTERM: no run of trainer is executing, exiting with 143"])


def test_without_the_block_signals_do_what_they_always_did():
    child = Child("""
        trainer = Engine(idle, "trainer")
        with graceful_exit(trainer):
            trainer.run([0])
        trainer.add_event_handler(Events.ITERATION_STARTED(once=2), ready)
        trainer.run([0], max_epochs=10**9)
    """)
    child.is_ready()
    os.kill(child.pid, SIGTERM)
    assert child.ends()[0] == -SIGTERM


def test_a_signal_in_the_middle_of_a_log_write_fails_no_run():
    child = Child("""
        def step(engine, batch):
            ready(engine)
            sys.stderr.write("x" * 2**20)

        trainer = Engine(step, "trainer")
        with graceful_exit(trainer):
            trainer.run(range(3))
    """)
    child.is_ready()
    assert child.process.stderr.read(1) == "x"  # the pipe is full now, so the program is in the middle of a write
    os.kill(child.pid, SIGTERM)
    code, out, err = child.ends()
    assert (code, out) == (143, [])
    assert "Error" not in "".join(err)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on POSIX")
def test_a_forked_process_ignores_ctrl_c_and_ends_on_sigterm():
    child = Child("""
        import multiprocessing
        context = multiprocessing.get_context("fork")

        def wait(pipe):
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pipe.send("alive")
            while True:
                time.sleep(60)

        def step(engine, batch):
            here, there = context.Pipe()
            process = context.Process(target=wait, args=(there,))
            process.start()
            print(here.recv())
            process.terminate()
            process.join()
            print(process.exitcode)

        with graceful_exit(trainer := Engine(step, "trainer")):
            trainer.run([0])
    """)
    assert child.ends() == (0, ["alive", "-15"], [])


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on POSIX")
def test_a_process_forked_in_the_block_has_blocks_of_its_own():
    child = Child("""
        trainer = Engine(idle, "trainer")
        with graceful_exit(trainer):
            if os.fork() == 0:
                trainer.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: signal.raise_signal(signal.SIGTERM))
                try:
                    with graceful_exit(trainer):
                        trainer.run(range(4))
                except SystemExit as left:
                    os._exit(left.code)
            print(os.waitstatus_to_exitcode(os.wait()[1]))
    """)
    code, out, _ = child.ends()
    assert (code, out) == (0, ["143"])


def test_a_handler_that_python_did_not_set_stays():
    child = Child("""
        import _imp
        from importlib.machinery import BuiltinImporter, ModuleSpec

        def own(number, frame):
            print("own handler")

        # reloaded, the module no longer knows the handler of its former self: as if C code had set it
        signal.signal(signal.SIGTERM, own)
        _imp.exec_builtin(_imp.create_builtin(ModuleSpec("_signal", BuiltinImporter, origin="built-in")))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        assert signal.getsignal(signal.SIGTERM) is None
        trainer = Engine(idle, "trainer")
        trainer.add_event_handler(Events.ITERATION_STARTED(once=2), lambda: signal.raise_signal(signal.SIGINT))
        try:
            with graceful_exit(trainer):
                trainer.run(range(4))
        finally:
            assert signal.getsignal(signal.SIGTERM) is None
    """)
    code, out, err = child.ends()
    assert (code, out) == (130, [])
    assert err[0] == ("graceful_exit: SIGTERM keeps its handler, which was not set by Python and could not be restored")
