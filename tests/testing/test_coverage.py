"""Event coverage: the transitions that the tests of a session took."""

from __future__ import annotations

import pytest
from hypothesis import given

from camshaft import DATA, Engine, Events, Loop, Phase, every
from camshaft.adapters.reporter import Reporter
from camshaft.testing import loops
from camshaft.testing.coverage import EventCoverage, MachineCoverage
from support.sessions import GOLDEN, section
from support.steps import no_op

pytest_plugins = ["pytester"]

COVERED = """
@pytest.mark.parametrize("name", ["one", "other"])
def test_run(name):
    Engine(nothing, name=name).run([1, 2])

def test_terminated():
    trainer = make(name="trainer")
    trainer.add_event_handler(Events.ITERATION_STARTED, lambda: trainer.fire_event("backward_started"))
    trainer.add_event_handler(Events.ITERATION_STARTED, trainer.terminate)
    trainer.run([1, 2])
"""

REPORT = """\
one, other (EPOCH, ITERATION): 9/26 transitions taken, 34.6%
  STARTED -- COMPLETED --> COMPLETED
  EPOCH -- ITERATION_STARTED --> EPOCH/ITERATION
  EPOCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH -- DATALOADER_STOP_ITERATION --> EPOCH/GET_BATCH/RESTART
  EPOCH/GET_BATCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH/RESTART -- GET_BATCH_COMPLETED --> EPOCH/after GET_BATCH
  EPOCH/ITERATION -- ITERATION_SKIPPED --> EPOCH/after ITERATION
  EPOCH/after ITERATION -- ITERATION_STARTED --> EPOCH/ITERATION
  after EPOCH -- EPOCH_STARTED --> EPOCH
  EPOCH/TERMINATED -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/TERMINATED -- EPOCH_STARTED --> EPOCH
  EPOCH/TERMINATED -- COMPLETED --> COMPLETED
  TERMINATED -- COMPLETED --> COMPLETED
  EXCEPTION_RAISED anywhere in the run
  INTERRUPT anywhere in the run
  TERMINATE anywhere in the run
  TERMINATE_SINGLE_EPOCH anywhere within EPOCH
trainer (EPOCH, ITERATION, BACKWARD): 8/28 transitions taken, 28.5%
  STARTED -- COMPLETED --> COMPLETED
  EPOCH -- ITERATION_STARTED --> EPOCH/ITERATION
  EPOCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH -- DATALOADER_STOP_ITERATION --> EPOCH/GET_BATCH/RESTART
  EPOCH/GET_BATCH -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/GET_BATCH/RESTART -- GET_BATCH_COMPLETED --> EPOCH/after GET_BATCH
  EPOCH/ITERATION -- ITERATION_COMPLETED --> EPOCH/after ITERATION
  EPOCH/ITERATION -- ITERATION_SKIPPED --> EPOCH/after ITERATION
  EPOCH/after ITERATION -- GET_BATCH_STARTED --> EPOCH/GET_BATCH
  EPOCH/after ITERATION -- ITERATION_STARTED --> EPOCH/ITERATION
  EPOCH/after ITERATION -- EPOCH_COMPLETED --> after EPOCH
  after EPOCH -- EPOCH_STARTED --> EPOCH
  after EPOCH -- COMPLETED --> COMPLETED
  EPOCH/TERMINATED -- EPOCH_COMPLETED --> after EPOCH
  EPOCH/TERMINATED -- EPOCH_STARTED --> EPOCH
  EPOCH/TERMINATED -- COMPLETED --> COMPLETED
  BACKWARD_COMPLETED anywhere within ITERATION
  EXCEPTION_RAISED anywhere in the run
  INTERRUPT anywhere in the run
  TERMINATE_SINGLE_EPOCH anywhere within EPOCH
total: 17/54 transitions taken, 31.4%""".splitlines()


def test_the_report_shows_what_was_never_taken(sessions):
    assert section(sessions.output(COVERED, "--event-coverage", passed=3), "event coverage") == REPORT


def test_coverage_and_golden_traces_under_xdist(sessions):
    sessions.write(COVERED + GOLDEN.replace("test_golden", "test_golden1") + GOLDEN.replace("two_epochs", "more"))
    spread = sessions.run("-n2", "--update-traces", "--event-coverage-fail-under=90")
    alone = sessions.run("--update-traces", "--event-coverage-fail-under=90")
    for result in (spread, alone):
        result.assert_outcomes(passed=5)
        assert result.ret == pytest.ExitCode.TESTS_FAILED
        assert section(str(result.stdout), "golden traces") == ["2 golden traces written"]
    report = section(str(spread.stdout), "event coverage")
    assert report == section(str(alone.stdout), "event coverage")
    assert report[-1] == "event coverage: 35% is less than the required 90%"
    spread = sessions.run("-n1", "-k", "not golden", "--event-coverage-fail-under=31")
    assert spread.ret == pytest.ExitCode.OK
    assert section(str(spread.stdout), "event coverage") == REPORT


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ("31.4", None),
        ("0", None),
        ("31.5", "31.4% is less than the required 31.5%"),
        ("100", "31.4% is less than the required 100%"),
    ],
)
def test_low_coverage_fails_the_session(sessions, wanted, said):
    sessions.write(COVERED)
    result = sessions.run("--color=yes", f"--event-coverage-fail-under={wanted}")
    result.assert_outcomes(passed=3)
    assert result.ret == (pytest.ExitCode.OK if said is None else pytest.ExitCode.TESTS_FAILED)
    red = f"\x1b[31m\x1b[1mevent coverage: {said}\x1b[0m"
    assert (red in str(result.stdout)) == (said is not None)
    assert "total: 17/54 transitions taken, 31.4%" in str(result.stdout), "it implies the report"


def test_a_session_that_fails_by_itself_fails_as_such(sessions):
    sessions.write(COVERED + "\ndef test_wrong():\n    assert 0\n")
    assert sessions.run("--event-coverage-fail-under=10").ret == pytest.ExitCode.TESTS_FAILED
    assert sessions.run("--event-coverage-fail-under=10", "-k", "unknown").ret == pytest.ExitCode.NO_TESTS_COLLECTED


def test_a_session_without_engines(sessions):
    sessions.write("def test_nothing():\n    pass\n")
    output = sessions.run("--event-coverage")
    assert section(str(output.stdout), "event coverage") == ["no engine ran"]
    assert output.ret == pytest.ExitCode.OK
    assert sessions.run("--event-coverage-fail-under=0").ret == pytest.ExitCode.OK
    result = sessions.run("--event-coverage-fail-under=1")
    assert section(str(result.stdout), "event coverage") == [
        "no engine ran",
        "event coverage: no engine ran, so it is less than the required 1%",
    ]
    assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_collecting_tests_is_no_coverage(sessions):
    sessions.write(COVERED)
    result = sessions.run("--collect-only", "--event-coverage-fail-under=100")
    assert result.ret == pytest.ExitCode.OK
    assert "event coverage" not in str(result.stdout)


@pytest.mark.parametrize("text", ["101", "-1", "nan", "much"])
def test_what_is_no_percentage_is_refused(sessions, text):
    result = sessions.run(f"--event-coverage-fail-under={text}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*must be a number from 0 to 100, got {text!r}"])


def test_engines_in_fixtures_count_and_all_features_go_together(sessions):
    output = sessions.output(
        """
@pytest.fixture(scope="session", autouse=True)
def trained():
    Engine(nothing, name="before").run([1])
    yield
    Engine(nothing, name="after").run([1])

@pytest.mark.legal_events
def test_all(event_trace, golden_trace):
    with event_trace() as trace, golden_trace("all"):
        Engine(nothing, name="within").run([1])
""",
        "--event-coverage",
        "--update-traces",
        passed=1,
    )
    assert (
        section(output, "event coverage")[0]
        == "after, before, within (EPOCH, ITERATION): 8/26 transitions taken, 30.7%"
    )


def observed(*runs):
    coverage = EventCoverage()
    with coverage.observing():
        for run in runs:
            run()
    return coverage


def test_equal_loops_are_one_machine_and_others_are_not():
    def phases():
        return [Phase("A", lambda engine, batch: None), Phase("B", no_op, when=every(2))]

    coverage = observed(
        lambda: Engine(phases(), name="one").run([1]),
        lambda: Engine(phases(), name="two").run([1, 2]),
        lambda: Engine([Phase("A", no_op)], name="three").run([1]),
    )
    assert [list(machine.engines) for machine in coverage.machines.values()] == [["one", "two"], ["three"]]
    lines = list(coverage.report())
    assert lines[0].startswith("one, two (EPOCH, ITERATION, A, B): ")
    assert lines[-1] == f"total: {coverage.taken}/{coverage.total} transitions taken, {lines[-1].split()[-1]}"


def test_free_states_count_as_their_events():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A", no_op), over=DATA))
    names = [f"{state}_{end}" for state in "xyz" for end in ("started", "completed")]
    engine = Engine(loop)
    plain = MachineCoverage.of(engine.loop)
    engine.register_events(*names)
    machine = MachineCoverage.of(engine.loop)
    assert len(machine.transitions) == len(plain.transitions) + 6
    assert list(machine.transitions.values())[-10:-4] == [f"{name.upper()} anywhere within ITERATION" for name in names]

    @engine.on(Events.ITERATION_STARTED)
    def enter():
        engine.fire_event("x_started")
        engine.fire_event("y_started")

    @engine.on("a_completed")
    def leave():
        engine.fire_event("x_completed")
        engine.fire_event("y_completed")

    (taken,) = observed(lambda: engine.run([1])).machines.values()
    places = {place for place, _ in taken.taken}
    assert not any(place.endswith(("/X", "/Y", "/Z")) for place in places)
    assert {words for key, words in taken.transitions.items() if key in taken.taken} >= {
        "EPOCH/ITERATION -- A_STARTED --> EPOCH/ITERATION/A",
        "EPOCH/ITERATION/A -- A_COMPLETED --> EPOCH/ITERATION/after A",
        "EPOCH/ITERATION/after A -- ITERATION_COMPLETED --> EPOCH/after ITERATION",
        *(f"{name}_{end} anywhere within ITERATION" for name in "XY" for end in ("STARTED", "COMPLETED")),
    }


def test_a_paused_run_and_one_met_midway_are_followed():
    engine, other = Engine(no_op), Engine(no_op)
    for one in (engine, other):
        one.add_event_handler(Events.GET_BATCH_COMPLETED(once=1), one.interrupt)
    whole = observed(lambda: engine.run([1, 2, 3]), engine.run)
    other.run([1, 2, 3])
    rest = observed(other.run)
    (taken,), (later,) = [[machine.taken for machine in seen.machines.values()] for seen in (whole, rest)]
    assert later == {
        ("EPOCH/after GET_BATCH", "iteration_started"),
        ("EPOCH/ITERATION", "iteration_completed"),
        ("EPOCH/after ITERATION", "get_batch_started"),
        ("EPOCH/GET_BATCH", "get_batch_completed"),
        ("EPOCH/after ITERATION", "epoch_completed"),
        ("after EPOCH", "completed"),
    }
    first = {("READY", "started"), ("STARTED", "epoch_started"), ("EPOCH", "get_batch_started"), ("", "interrupt")}
    assert taken == later | first


def test_an_illegal_event_takes_no_transition():
    loop = Loop("EPOCH", Loop("ITERATION", Phase("A"), over=DATA))
    report = Reporter(loop, name="by hand")
    coverage = EventCoverage()
    with coverage.observing(), report:
        for event in ("started", "a_completed", "epoch_started"):
            report(event)
    (machine,) = coverage.machines.values()
    assert sorted(machine.taken) == [("READY", "started"), ("STARTED", "epoch_started")]


def test_what_a_worker_sends_adds_up():
    first = observed(lambda: Engine(no_op, name="one").run([1]))
    second = observed(lambda: Engine(no_op, name="two").run([1, 2]), lambda: Engine([Phase("A", no_op)]).run([1]))
    merged = EventCoverage()
    for coverage in (first, second, first):
        merged.merge(coverage.dump())
    assert merged.total == second.total
    assert len(merged.machines) == 2
    assert next(iter(merged.machines.values())).engines == {"one": None, "two": None}
    assert list(merged.report())[-1].startswith("total: ")
    assert merged.taken == second.taken


def test_long_lists_of_names_are_cut():
    coverage = observed(*(lambda name=name: Engine(no_op, name=f"e{name}").run([1]) for name in range(10, 30)))
    assert next(coverage.report()).startswith("e10, e11, e12, e13, e14, e15, e16, e17, 12 more (EPOCH, ITERATION): ")


def test_all_but_one_of_many_transitions_is_less_than_all():
    coverage = observed(lambda: Engine(no_op).run([1]))
    (machine,) = coverage.machines.values()
    machine.transitions = {(str(number), "x"): "x" for number in range(9999)}
    machine.taken = set(list(machine.transitions)[:-1])
    assert next(coverage.report()).endswith("9998/9999 transitions taken, 99.9%")
    assert coverage.shortfall(99.98) is None
    assert coverage.shortfall(100) == "event coverage: 99.9% is less than the required 100%"


@given(loops())
def test_what_is_counted_is_what_the_declaration_has(loop):
    """Check in random loops that each transition of the machine counts as a transition with words in the report."""
    machine = MachineCoverage.of(loop)
    assert {counted for counted, _ in machine.steps.values()} == set(machine.transitions)
    assert len(set(machine.transitions.values())) == len(machine.transitions)
    without = MachineCoverage.of(loop.evolve(custom_states=()))
    events = sum(len(state.events) for state in loop.custom_states)
    assert len(machine.transitions) == len(without.transitions) + events
