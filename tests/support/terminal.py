"""Pseudo-terminals, and readers of their screens."""

import os
import pty
import re
import select
import subprocess
import sys
import termios
import textwrap

import pyte

PRELUDE = """
import logging, os, signal, sys, time, warnings
from camshaft import Engine, Events
from camshaft.handlers.progress.bar import ProgressBar
# a shell without job control starts background jobs with SIGINT ignored, and children inherit that
signal.signal(signal.SIGINT, signal.default_int_handler)
"""


class Seen:
    """The screens of a terminal: one before each redrawing of the bars, and the last one."""

    def __init__(self, raw, columns):
        screen, self.screens = pyte.Screen(columns, 40), []
        stream = pyte.ByteStream(screen)
        for piece in re.split(rb"(?=\r\x1b\[2K)", raw):
            stream.feed(piece)
            self.screens.append([line.rstrip() for line in screen.display if line.strip()])
        self.lines = self.screens[-1]
        self.cursor_hidden = screen.cursor.hidden
        self.column = screen.cursor.x

    def during(self, *patterns):
        """Return whether the last lines of the screen matched these patterns at some moment."""
        return any(
            len(lines) >= len(patterns) and all(map(re.fullmatch, patterns, lines[-len(patterns) :]))
            for lines in self.screens
        )


def raw_output(program, *argv, columns=100, stderr=None):
    """Run a program in its own pseudo-terminal, and return the bytes that it wrote to the screen."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, columns))
    before, raw = termios.tcgetattr(slave), b""
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "FORCE_COLOR")}
    child = subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program), *argv],
        stdin=slave,
        stdout=slave,
        stderr=stderr or slave,
        env=environment | {"TERM": "xterm-256color", "PYTHONWARNINGS": "ignore::DeprecationWarning"},
        start_new_session=True,
    )
    while True:
        over = child.poll() is not None  # checked before reading, so that its last output is not lost
        if select.select([master], [], [], 0.05)[0]:
            raw += os.read(master, 1 << 16)
        elif over:
            break
    assert termios.tcgetattr(slave) == before
    os.close(master)
    os.close(slave)
    assert child.returncode == 0, raw.decode()
    return raw


def in_terminal(program, *argv, columns=100, stderr=None):
    return Seen(raw_output(program, *argv, columns=columns, stderr=stderr), columns)


def in_pipe(program, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | environment,
    )
    assert done.returncode == 0, done.stderr
    return done
