"""Recordings of engines in threads, pools and asyncio tasks: which block is around them, and that nothing is mixed."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import sys
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool

import pytest

from camshaft import Engine, EventOrderError, Events, Trace, record
from support.steps import no_op


def run(name="inner", data=(1, 2), step=no_op):
    return Engine(step, name).run(data)


def in_thread(call, *args):
    """Call a function in a new thread, and return its result."""
    found = []
    thread = threading.Thread(target=lambda: found.append(call(*args)))
    thread.start()
    thread.join()
    return found[0]


def in_daemon_of_a_thread(call):
    return in_thread(in_thread, call)


def in_subclass(call):
    class Own(threading.Thread):
        def run(self):
            call()

    thread = Own()
    thread.start()
    thread.join()


def in_timer(call):
    timer = threading.Timer(0, call)
    timer.start()
    timer.join()


def in_pool(call):
    with ThreadPoolExecutor(2) as pool:
        pool.submit(call).result()


def in_map(call):
    with ThreadPool(2) as pool:
        pool.map(lambda _: call(), [1])


def in_task(call):
    async def main():
        async def task():
            call()

        await asyncio.gather(task())

    asyncio.run(main())


def in_executor_of_a_loop(call):
    async def main():
        await asyncio.get_running_loop().run_in_executor(None, call)

    asyncio.run(main())


WAYS = {
    "thread": in_thread,
    "thread of a thread": in_daemon_of_a_thread,
    "subclass of Thread": in_subclass,
    "timer": in_timer,
    "pool": in_pool,
    "multiprocessing's pool": in_map,
    "to_thread": lambda call: asyncio.run(asyncio.to_thread(call)),
    "task": in_task,
    "executor of a loop": in_executor_of_a_loop,
}


def names(trace):
    return [each.engine for each in trace.runs]


@pytest.fixture(params=WAYS)
def way(request):
    return WAYS[request.param]


def test_an_engine_in_a_thread_belongs_to_the_block_around_it(way):
    with record() as outer, record() as trace:
        way(run)
    assert trace == outer and len(trace) == 12
    trace.assert_legal()
    way(run)
    assert len(trace) == 12


def illegal():
    engine = Engine(lambda engine, batch: engine.fire_event("backward_completed"), "trainer")
    engine.register_events("backward_started", "backward_completed")
    engine.run([1])


def test_an_illegal_order_in_a_thread_is_found(way):
    with record() as trace:
        way(illegal)
    with pytest.raises(EventOrderError, match="BACKWARD_COMPLETED is illegal"):
        trace.assert_legal()


def test_a_thread_started_before_belongs_to_the_main_thread():
    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result()
        with record() as trace:
            pool.submit(run, "in the block").result()
        with record() as again:
            pool.submit(run, "again").result()
        pool.submit(run).result()
    assert (names(trace), names(again)) == (["in the block"], ["again"])


def test_a_thread_of_an_outer_block_belongs_to_the_inner_one_too():
    with record() as outer, ThreadPoolExecutor(1) as pool:
        pool.submit(run, "first").result()
        with record() as inner:
            pool.submit(run, "second").result()
    assert (names(outer), names(inner)) == (["first", "second"], ["second"])


def blocks_at_once(*works):
    """Do work in one block for each of several threads at the same time. Return the traces."""
    barrier, traces = threading.Barrier(len(works), timeout=60), [Trace() for _ in works]

    def work_in_block(index):
        with record() as trace:
            barrier.wait()
            works[index]()
            barrier.wait()
        traces[index] = trace

    threads = [threading.Thread(target=work_in_block, args=(index,)) for index in range(len(works))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return traces


@pytest.mark.parametrize("inner", [lambda call: call(), in_thread, in_pool])
def test_blocks_in_two_threads_do_not_see_each_other(inner):
    first, second = blocks_at_once(lambda: inner(lambda: run("A")), lambda: inner(lambda: run("B")))
    assert (names(first), names(second)) == (["A"], ["B"])


@pytest.mark.parametrize("inner", [lambda call: call(), in_thread, in_pool])
def test_a_block_of_the_main_thread_does_not_see_into_others(inner):
    begin, end, found = threading.Event(), threading.Event(), []

    def beside():
        begin.wait(60)
        with record() as trace:
            inner(lambda: run("beside"))
        found.append(trace)
        end.set()

    thread = threading.Thread(target=beside)
    thread.start()
    with record() as trace:
        begin.set()
        end.wait(60)
        run("main")
    thread.join()
    assert (names(trace), names(found[0])) == (["main"], ["beside"])


def test_a_block_around_blocks_in_threads_sees_everything():
    with record() as trace:
        first, second = blocks_at_once(lambda: run("A"), lambda: in_thread(run, "B"))
    trace.assert_legal()
    assert (names(first), names(second), sorted(names(trace))) == (["A"], ["B"], ["A", "B"])


def test_the_main_thread_is_not_inside_of_a_block_elsewhere():
    opened, done = threading.Event(), threading.Event()

    def beside():
        with record() as trace:
            opened.set()
            done.wait(60)
        return trace

    with ThreadPoolExecutor(1) as pool:
        found = pool.submit(beside)
        opened.wait(60)
        run("main")
        done.set()
        assert len(found.result()) == 0


def test_tasks_see_their_own_blocks():
    async def task(name):
        with record() as trace:
            await asyncio.sleep(0)
            run(name)
            await asyncio.to_thread(run, f"{name} beside")
        return trace

    async def main():
        return await asyncio.gather(task("A"), task("B"))

    first, second = asyncio.run(main())
    assert (names(first), names(second)) == (["A", "A beside"], ["B", "B beside"])


def test_a_task_that_outlives_the_block_is_not_recorded():
    async def main():
        async def late():
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            run("late")

        with record() as trace:
            task = asyncio.create_task(late())
            await asyncio.sleep(0)
        await task
        return trace

    assert len(asyncio.run(main())) == 0


@pytest.fixture
def often():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def test_engines_in_many_threads_at_once_are_not_mixed(often, tmp_path):
    barrier = threading.Barrier(6, timeout=60)

    def train(number):
        barrier.wait()
        trainer = Engine(no_op, f"trainer {number}")
        trainer.nest(Engine(no_op, f"evaluator {number}"), on=Events.EPOCH_COMPLETED, data=[1])
        for epochs in (2, 4):
            trainer.run(range(number + 5), max_epochs=epochs)

    with record(call_sites=True, handler_times=True) as trace:
        threads = [threading.Thread(target=train, args=(number,)) for number in range(1, 6)]
        for thread in threads:
            thread.start()
        train(0)
        for thread in threads:
            thread.join()
    trace.assert_legal()
    for number in range(6):
        with record() as alone:
            barrier.reset()
            threads = [threading.Thread(target=barrier.wait) for _ in range(5)]
            for thread in threads:
                thread.start()
            train(number)
            for thread in threads:
                thread.join()
        found = [each for each in trace if each.engine.endswith(f" {number}")]
        assert [(each.engine, each.event, each.count, each.depth) for each in found] == [
            (each.engine, each.event, each.count, each.depth) for each in alone
        ]
    assert {one.engine for one in trace.handler_times} == {f"trainer {number}" for number in range(6)}
    assert str(trace) and trace.diagram("evaluator 3").text()
    trace.save(tmp_path / "trace")
    assert Trace.load(tmp_path / "trace") == trace
    assert {each.site is None for each in trace} == {False}


def test_an_engine_in_a_thread_of_a_handler_is_nested_if_told_so():
    trainer, evaluator = Engine(no_op, "trainer"), Engine(no_op, "evaluator")

    @trainer.on(Events.EPOCH_COMPLETED)
    def evaluate():
        asyncio.run(asyncio.to_thread(evaluator.run, [1]))

    with record() as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
    assert [each.parent for each in trace.runs] == [None, 0, 0]


def test_an_engine_in_a_thread_of_its_own_is_added_after_the_run():
    trainer = Engine(no_op, "trainer")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: in_thread(run, "beside"))
    with record() as trace:
        trainer.run([1], max_epochs=2)
    trace.assert_legal()
    assert names(trace) == ["trainer", "beside", "beside"]
    assert [each.parent for each in trace.runs] == [None] * 3


def test_a_run_that_pauses_in_a_thread_goes_on_elsewhere():
    engine = Engine(no_op, "trainer")
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=1), engine.interrupt)
    with record() as trace:
        in_thread(engine.run, [1, 2, 3])
        engine.run()
    trace.assert_legal()
    assert (names(trace), trace.runs[0].outcome) == (["trainer"], "completed")


def test_nothing_is_left_when_the_blocks_are_over():
    plain = threading.Thread.start
    with ThreadPoolExecutor(1) as pool:
        with record() as trace:
            pool.submit(run).result()
            assert threading.Thread.start is not plain
            with record():
                pass
            assert threading.Thread.start is not plain
        assert threading.Thread.start is plain
        gone = weakref.ref(trace)
        del trace
        gc.collect()
        assert gone() is None  # although the thread of the pool lives


def test_only_named_engines_are_recorded_in_threads():
    wanted, other = Engine(no_op, "wanted"), Engine(no_op, "other")
    with record(wanted) as trace, ThreadPoolExecutor(2) as pool:
        for engine in (wanted, other):
            pool.submit(engine.run, [1]).result()
    assert names(trace) == ["wanted"]


def test_a_copied_context_is_inside_of_the_block():
    with record() as trace:
        context = contextvars.copy_context()
        in_thread(context.run, run)
    assert len(trace) == 12
