"""A project, and the command line in it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.command_line import ENV, FILE, PROJECT


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(FILE)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def run(folder):
    def call(*arguments, cwd=folder):
        command = [sys.executable, "-m", "camshaft", *arguments]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=120, env=ENV)

    return call
