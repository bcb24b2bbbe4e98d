"""Output that ends no training: terminals of any encoding, and streams that are closed or that nobody reads."""

import contextlib
import io
import os
import subprocess
import sys
import textwrap
import threading

import pytest
from rich.console import Console

from camshaft import Engine
from camshaft.handlers import BasicTimeProfiler, HandlersTimeProfiler, ProgressBar
from camshaft.handlers.console import EncodableStream, encodable, is_terminal
from support.terminal import PRELUDE, in_pipe, raw_output

TRAININGS = """
    from camshaft.handlers import BasicTimeProfiler, HandlersTimeProfiler
    names = ("loss", "a_long_name_of_a_metric", "ein_ä_wie_größe_und_µ", "имя", "名前", "🙂")
    for encoding in sys.argv[1].split(","):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(encoding=encoding, errors="strict")
        engine = Engine(lambda engine, batch: time.sleep(0.04), name="trainer ü")
        bar = ProgressBar(persist=True)
        bar.attach(engine, state_attributes=list(names))
        vars(engine.state).update(dict.fromkeys(names, 0))
        basic, handlers = BasicTimeProfiler(), HandlersTimeProfiler()
        basic.attach(engine)
        handlers.attach(engine)
        engine.run(range(4), max_epochs=2)
        bar.log_message("message: ü, имя, 名前 — …")
        basic.print_results(basic.get_results())
        handlers.print_results(handlers.get_results())
        print("trained", engine.state.iteration, encoding)
"""
ENCODINGS = ["ascii", "latin-1", "iso8859-15", "cp437", "koi8-r", "cp1252", "shift_jis", "utf-8"]
ALL_TRAINED = b"".join(b"trained 8 " + encoding.encode() + b"\n" for encoding in ENCODINGS)


@pytest.mark.parametrize("columns", [40, 200])
def test_no_encoding_of_a_terminal_ends_a_training(columns):
    raw = raw_output(TRAININGS, ",".join(ENCODINGS), columns=columns).replace(b"\r\n", b"\n")
    assert b"".join(line for line in raw.splitlines(keepends=True) if line.startswith(b"trained 8")) == ALL_TRAINED
    assert raw.count(b"trainer ?") >= 2  # of ASCII and KOI8-R


def test_no_encoding_of_a_log_ends_a_training():
    program = PRELUDE + textwrap.dedent(TRAININGS)
    done = subprocess.run(
        [sys.executable, "-c", program, ",".join(ENCODINGS)], capture_output=True, timeout=120, check=True
    )
    assert b"".join(line for line in done.stdout.splitlines(keepends=True) if b"trained" in line) == ALL_TRAINED
    assert done.stderr.count(b"message: ") == len(ENCODINGS) and b"message: " not in done.stdout
    assert done.stderr.count(b"4/4") == 2 * len(ENCODINGS) and b"4/4" not in done.stdout


# -- streams -----------------------------------------------------------------------------------------------------------


class OnlyWrite:
    """An object that can be written to, and nothing else."""

    def __init__(self):
        self.written = ""

    def write(self, text):
        self.written += text


class Raising(OnlyWrite):
    """A stream that fails with an error."""

    encoding = "utf-8"

    def __init__(self, error, at="write"):
        super().__init__()
        self.error, self.at = error, at

    def write(self, text):
        if self.at == "write":
            raise self.error
        super().write(text)

    def flush(self):
        raise self.error

    def isatty(self):
        return True


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


class BrokenPipe(io.TextIOWrapper):
    """A pipe that nobody reads."""

    def __init__(self):
        reader, writer = os.pipe()
        os.close(reader)
        super().__init__(os.fdopen(writer, "wb", buffering=0), write_through=True)


def of_no_encoding():
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict", write_through=True)

    class Without:
        encoding = None
        write, flush, isatty = stream.write, stream.flush, stream.isatty

    return Without()


def close(stream):
    with contextlib.suppress(AttributeError, OSError):
        stream.close()


STREAMS = {
    "only write": OnlyWrite,
    "closed": closed,
    "broken pipe": BrokenPipe,
    "no encoding": of_no_encoding,
    "an unknown encoding": lambda: type("Odd", (Raising,), {"encoding": "martian"})(
        UnicodeEncodeError("x", "", 0, 1, "")
    ),
    "a terminal that is gone": lambda: Raising(OSError(5, "Input/output error")),
    "a disk that is full": lambda: Raising(OSError(28, "No space left on device"), at="flush"),
    "a strict one": lambda: io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="strict"),
}


@pytest.mark.parametrize("name", STREAMS)
@pytest.mark.parametrize("persist", [None, True])
@pytest.mark.parametrize("where", ["console", "stdout", "stderr", "both"])
def test_no_stream_ends_a_training(monkeypatch, name, where, persist):
    stream, console = STREAMS[name](), None
    if where == "console":
        console = Console(file=stream, force_terminal=True)
    for one in ("stdout", "stderr"):
        if where in (one, "both"):
            monkeypatch.setattr(sys, one, stream)
    engine, bar = Engine(lambda engine, batch: batch, "ü"), ProgressBar(persist, console)
    bar.attach(engine, output_transform=lambda output: {"größe…": output})
    engine.run(range(3), max_epochs=2)
    bar.log_message("größe …")
    assert engine.state.iteration == 6
    close(stream)


def test_without_streams_a_training_runs(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    engine = Engine(lambda engine, batch: batch)
    ProgressBar().attach(engine)
    engine.run(range(3))
    assert engine.state.iteration == 3


@pytest.mark.parametrize("kind", [BasicTimeProfiler, HandlersTimeProfiler])
def test_tables_of_profilers_are_printed_to_any_stream(monkeypatch, kind):
    engine, profiler = Engine(lambda engine, batch: batch), kind()
    profiler.attach(engine)
    engine.run(range(3))
    expected = profiler.print_results(profiler.get_results())
    for make in STREAMS.values():
        monkeypatch.setattr(sys, "stdout", make())
        assert len(profiler.print_results(profiler.get_results())) >= len(expected) // 2
        close(sys.stdout)


def test_only_what_cannot_be_encoded_is_replaced():
    for encoding, shown in (("ascii", "a? ? ?"), ("latin-1", "aä ? ?"), ("koi8-r", "a? и ?"), ("utf-8", "aä и …")):
        raw = io.BytesIO()
        stream = EncodableStream(io.TextIOWrapper(raw, encoding=encoding, errors="strict"))
        assert stream.write("aä и …") == 6
        stream.flush()
        assert raw.getvalue().decode(encoding) == shown
        assert stream.encoding.lower().replace("iso8859-1", "latin-1") == encoding


def test_a_console_gets_its_own_stream_back():
    file = io.StringIO()
    given, default = Console(file=file), Console()
    for console, own in ((given, file), (default, sys.stdout)):
        with encodable(console):
            with encodable(console):
                assert isinstance(console.file, EncodableStream)
            assert isinstance(console.file, EncodableStream)
        assert console.file is own
    replaced = io.StringIO()
    before, sys.stdout = sys.stdout, replaced
    try:
        assert default.file is replaced  # it still follows sys.stdout
    finally:
        sys.stdout = before


def test_consoles_are_shared_by_threads():
    file = io.StringIO()
    console = Console(file=file)
    barrier = threading.Barrier(4)

    def write(number):
        for _ in range(50):
            with encodable(console):
                console.print(f"line {number}")
        barrier.wait(timeout=60)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    barrier.wait(timeout=60)
    for thread in threads:
        thread.join()
    assert console.file is file
    assert sorted(set(file.getvalue().splitlines())) == ["line 0", "line 1", "line 2"]


@pytest.mark.parametrize("stream", [None, OnlyWrite(), closed(), io.StringIO()])
def test_what_is_no_terminal_is_told_apart(stream):
    assert not is_terminal(stream)


def test_lines_go_to_standard_error_and_output_stays_clean():
    program = """
        engine = Engine(lambda engine, batch: print(batch), name="trainer")
        ProgressBar().attach(engine)
        engine.run(range(3))
    """
    done = in_pipe(program)
    assert done.stdout == "0\n1\n2\n"
    assert done.stderr.startswith("trainer  3/3  100%")
