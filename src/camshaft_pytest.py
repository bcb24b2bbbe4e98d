"""The pytest plugin of camshaft: fixtures, a marker and options for tests of the order of training events.

It is a module of its own, outside the package ``camshaft``. pytest imports its plugins at every start, and importing
a part of a package imports the whole package, here with torch. Other modules are imported when a test needs them.

PYTEST_DONT_REWRITE: the module has no assert statements.
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
_ILLEGAL: pytest.StashKey[str | None] = pytest.StashKey()
_WRITTEN: pytest.StashKey[dict[str, str]] = pytest.StashKey()
_COVERAGE: pytest.StashKey[EventCoverage] = pytest.StashKey()

_SENT = "camshaft"
"""The key under which a worker of pytest-xdist sends its results."""


# -- options and markers ----------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options ``--update-traces``, ``--event-coverage`` and ``--event-coverage-fail-under``."""
    group = parser.getgroup("camshaft", "the order of training events")
    group.addoption(
        "--update-traces", action="store_true", help="write the files that golden_trace compares traces with"
    )
    group.addoption(
        "--event-coverage",
        action="store_true",
        help="list the transitions of each machine that no test took",
    )
    group.addoption(
        "--event-coverage-fail-under",
        type=_percentage,
        metavar="N",
        help="fail if the tests took less than N percent of all transitions; implies --event-coverage",
    )


def _percentage(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"must be a number from 0 to 100, got {text!r}")
    return value


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker, and prepare event coverage if an option requests it."""
    config.addinivalue_line(
        "markers",
        "legal_events: fail if an engine fires an illegal event in the body of the test, or if none runs there. "
        "With call_sites=True the report shows the line of code that fired it; this is slow.",
    )
    config.stash[_WRITTEN] = {}
    is_requested = config.option.event_coverage or config.option.event_coverage_fail_under is not None
    if is_requested and not config.option.collectonly:
        from camshaft.testing.coverage import EventCoverage

        config.stash[_COVERAGE] = EventCoverage()


# -- fixtures ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def event_trace(request: pytest.FixtureRequest) -> Iterator[Callable[..., AbstractContextManager[Trace]]]:
    """Record events like ``camshaft.record``, and show the last of them if the test fails.

    ``with event_trace(trainer, evaluator) as trace: trainer.run(data)`` records these engines. Without arguments it
    records every engine that runs.
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
    del request.node.stash[_TRACES]  # loops hold the functions of the user, and these hold models


@pytest.fixture
def golden_trace(request: pytest.FixtureRequest) -> Callable[..., AbstractContextManager[Trace]]:
    """Record events, and compare them with a file in the folder ``traces`` next to the test file.

    ``with golden_trace("two_epochs", trainer): trainer.run(data, max_epochs=2)`` compares with
    ``traces/two_epochs.txt``. ``pytest --update-traces`` writes the file. Without engines it records every engine
    that runs.
    """
    from camshaft.testing.golden import Golden

    config = request.config
    return Golden(request.path.parent / "traces", config.option.update_traces, config.stash[_WRITTEN])


# -- reports ----------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """Check the events of a test with the marker ``legal_events``."""
    marker = item.get_closest_marker("legal_events")
    if marker is None:
        return (yield)
    from camshaft import record

    with record(*marker.args, **marker.kwargs) as trace:
        try:
            result = yield
        except BaseException:
            # the test fails with its own error: makereport adds the illegal events
            item.stash[_ILLEGAL] = _check(trace)
            raise
    illegal = item.stash[_ILLEGAL] = _check(trace)
    if illegal is not None:
        pytest.fail(illegal, pytrace=False)
    if not trace.runs:
        pytest.fail(
            "legal_events: no engine ran in the body of this test, so nothing was checked: run one there, in this "
            "process, or take the marker away",
            pytrace=False,
        )
    return result


def _check(trace: Trace) -> str | None:
    """Return the message about the illegal events of a trace, or None if there are none."""
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
    """Add the recorded and the illegal events to the report of a failed test."""
    report = yield
    if not report.failed:
        return report
    illegal = item.stash.get(_ILLEGAL, None)
    if illegal is not None and call.when == "call" and call.excinfo is not None and str(call.excinfo.value) != illegal:
        report.sections.append(("illegal events", illegal))
    for trace in item.stash.get(_TRACES, []):
        from camshaft.testing.golden import last_events

        report.sections.append(("events recorded", last_events(trace)))
    return report


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Return the first difference of two traces, or of a trace and a list of events, for a failed ``==``."""
    if op != "==" or "camshaft.trace" not in sys.modules:
        return None
    from camshaft.testing.golden import first_difference

    return first_difference(left, right)


# -- the session ------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Record the transitions of all engines that run in tests, if event coverage is requested."""
    coverage = session.config.stash.get(_COVERAGE, None)
    if coverage is None:
        return (yield)
    with coverage.observing():
        return (yield)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the results of a worker to the main session, or fail the main session if the coverage is too low."""
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
    """Add the results of a worker of pytest-xdist. A crashed worker sends none."""
    sent = getattr(node, "workeroutput", {}).get(_SENT)
    if sent is None:
        return
    stash = node.config.stash
    stash[_WRITTEN].update(dict.fromkeys(sent["written"], ""))
    if sent["coverage"] is not None:
        stash[_COVERAGE].merge(sent["coverage"])


def _shortfall(config: pytest.Config) -> str | None:
    coverage, required = config.stash.get(_COVERAGE, None), config.option.event_coverage_fail_under
    return coverage.shortfall(required) if coverage is not None and required is not None else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Print the number of golden traces that were written, and the event coverage."""
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
