"""A project, and the command line in it."""

from __future__ import annotations

import pytest

from support.command_line import FILE, PROJECT, run_command


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "train.py").write_text(FILE)
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return tmp_path


@pytest.fixture
def run(folder, tmp_path_factory):
    streams = tmp_path_factory.mktemp("streams")

    def call(*arguments, cwd=folder):
        return run_command([*map(str, arguments)], cwd, streams)

    return call
