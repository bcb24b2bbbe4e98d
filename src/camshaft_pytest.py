"""The pytest plugin of camshaft: fixtures, a marker and options for those who test the order of training events.

It stands beside the package and not in it: pytest imports its plugins at every start, and importing a part of a
package imports the package, here with torch. What a session does not use is not imported either.
PYTEST_DONT_REWRITE: there is no assert statement in it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from camshaft import Trace
    from camshaft.testing.coverage import EventCoverage

_TRACES: pytest.StashKey[list[Trace]] = pytest.StashKey()
_VERDICT: pytest.StashKey[str | None] = pytest.StashKey()
_WRITTEN: pytest.StashKey[dict[str, str]] = pytest.StashKey()
_COVERAGE: pytest.StashKey[EventCoverage] = pytest.StashKey()

_SENT = "camshaft"
"""Under this name a worker of pytest-xdist sends what it saw."""


# -- options and markers ----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options."""
    group = parser.getgroup("camshaft", "the order of training events")
    group.addoption("--update-traces", action="store_true", help="write the files that golden_trace compares with")
    group.addoption(
        "--event-coverage",
        action="store_true",
        help="show which transitions of which machines the tests never took",
    )
    group.addoption(
        "--event-coverage-fail-under",
        type=_percentage,
        metavar="N",
        help="fail when the tests took less than N percent of all transitions; implies --event-coverage",
    )


def _percentage(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: give a number from 0 to 100")
    return value


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and prepare what the options ask for."""
    config.addinivalue_line(
        "markers",
        "legal_events: judge what every engine fires in the body of the test by the machine of its loop. "
        "With call_sites=True the line of code that fired an illegal event is shown; that is slow.",
    )
    config.stash[_WRITTEN] = {}
    is_asked_for = config.option.event_coverage or config.option.event_coverage_fail_under is not None
    if is_asked_for and not config.option.collectonly:
        from camshaft.testing.coverage import EventCoverage

        config.stash[_COVERAGE] = EventCoverage()


# -- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def event_trace(request: pytest.FixtureRequest) -> Iterator[Callable[..., AbstractContextManager[Trace]]]:
    """Records events as ``camshaft.record`` does, and shows the last of them when the test fails.

    ``with event_trace(trainer, evaluator) as trace: trainer.run(data)``. Without engines it records all that run.
    """
    from camshaft import record

    traces: list[Trace] = []
    request.node.stash[_TRACES] = traces

    @contextmanager
    def recording(*engines: Any, **options: Any) -> Iterator[Trace]:
        with record(*engines, **options) as trace:
            traces.append(trace)
            yield trace

    yield recording
    del request.node.stash[_TRACES]  # it holds loops, and they hold models


@pytest.fixture
def golden_trace(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Trace]]:
    """Records events, and compares them with a file in the folder ``traces`` beside the test.

    ``with golden_trace("two_epochs", trainer): trainer.run(data, max_epochs=2)`` compares with
    ``traces/two_epochs.txt``; ``pytest --update-traces`` writes it. Without engines it records all that run.
    """
    from camshaft.testing.golden import Golden

    config = request.config
    return Golden(request.path.parent / "traces", config.option.update_traces, config.stash[_WRITTEN])


# -- judging and showing ----------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Judge the events of a test that is marked ``legal_events``."""
    event_writer = item.get_closest_marker("legal_events")
    if event_writer is None:
        return (yield)
    from camshaft import record

    with record(*event_writer.args, **event_writer.kwargs) as trace:
        try:
            result = yield
        except BaseException:
            item.stash[_VERDICT] = _judge(trace)  # its own failure stays; the report says what was illegal besides
            raise
    verdict = item.stash[_VERDICT] = _judge(trace)
    if verdict is not None:
        pytest.fail(verdict, pytrace=False)
    return result


def _judge(trace: Trace) -> str | None:
    """What is illegal in a trace; None when nothing is."""
    from camshaft import EventOrderError

    try:
        trace.assert_legal()
    except EventOrderError as error:
        return str(error)
    return None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what was recorded, and what was illegal, to the report of a test that failed."""
    report = yield
    if not report.failed:
        return report
    verdict = item.stash.get(_VERDICT, None)
    if verdict is not None and call.when == "call" and call.excinfo is not None and str(call.excinfo.value) != verdict:
        report.sections.append(("illegal events", verdict))
    for trace in item.stash.get(_TRACES, []):
        from camshaft.testing.golden import last_events

        report.sections.append(("events recorded", last_events(trace)))
    return report


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Say where two traces, or a trace and a list of events, part: few enough lines to be shown whole."""
    if op != "==" or "camshaft.trace" not in sys.modules:
        return None
    from camshaft.testing.golden import first_difference

    return first_difference(left, right)


# -- the session ------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Observe all engines that run in tests, if their coverage is asked for."""
    coverage = session.config.stash.get(_COVERAGE, None)
    if coverage is None:
        return (yield)
    with coverage.observing():
        return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send what was seen to the session that started this one as a worker; or let low coverage fail the session."""
    config = session.config
    coverage = config.stash.get(_COVERAGE, None)
    output = getattr(config, "workeroutput", None)
    if output is not None:
        written, dumped = config.stash[_WRITTEN], coverage.dump() if coverage is not None else None
        output[_SENT] = {"written": [*written], "coverage": dumped}
    elif _shortfall(config) is not None and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a worker of pytest-xdist sends; one that crashed sends nothing."""
    sent = getattr(node, "workeroutput", {}).get(_SENT)
    if sent is None:
        return
    stash = node.config.stash
    stash[_WRITTEN].update(dict.fromkeys(sent["written"], ""))
    if sent["coverage"] is not None:
        stash[_COVERAGE].merge(sent["coverage"])


def _shortfall(config: pytest.Config) -> str | None:
    coverage, wanted = config.stash.get(_COVERAGE, None), config.option.event_coverage_fail_under
    return coverage.shortfall(wanted) if coverage is not None and wanted is not None else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say how many golden traces were written, and show the coverage."""
    if config.option.update_traces:
        number = len(config.stash[_WRITTEN])
        terminalreporter.write_sep("=", "golden traces")
        terminalreporter.write_line(f"{number or 'no'} golden trace{'s' * (number != 1)} written")
    coverage = config.stash.get(_COVERAGE, None)
    if coverage is None:
        return
    terminalreporter.write_sep("=", "event coverage")
    for line in coverage.report():
        terminalreporter.write_line(line)
    shortfall = _shortfall(config)
    if shortfall is not None:
        terminalreporter.write_line(shortfall, red=True, bold=True)
