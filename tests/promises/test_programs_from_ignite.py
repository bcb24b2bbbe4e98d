"""Programs written for pytorch-ignite run on both engines with other import lines only: same outputs, same files."""

import re
import warnings
from pathlib import Path

import ignite.engine
import ignite.metrics
import pytest

PROGRAMS = sorted((Path(__file__).parent / "programs_from_ignite").glob("*.py"))
REPLACED = {"ignite.engine": "camshaft", "ignite.handlers": "camshaft.handlers", "ignite.metrics": "camshaft.metrics"}
PRESENTED = REPLACED | {"ignite.engine": "camshaft.compat"}
"""With handlers of pytorch-ignite that want its own class of engine."""


def moved(source, modules):
    return re.sub(r"(?m)^from (\S+) import", lambda line: f"from {modules.get(line[1], line[1])} import", source)


def result_of(source, folder, monkeypatch, capsys):
    """Run a program in a folder. Returns what it prints, and the names of the files that it leaves."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(ignite.engine.State, "event_to_attr", dict(ignite.engine.State.event_to_attr))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", module="ignite")
        exec(compile(source, "program.py", "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out, sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("program", PROGRAMS, ids=[path.stem for path in PROGRAMS])
@pytest.mark.parametrize("modules", [REPLACED, PRESENTED], ids=["camshaft", "camshaft.compat"])
def test_a_program_does_the_same_with_other_import_lines(program, modules, tmp_path, monkeypatch, capsys):
    source = program.read_text(encoding="utf-8")
    if re.search(r"^from ignite\.(contrib|handlers\.base_logger)", source, re.MULTILINE) and modules is REPLACED:
        pytest.skip("it needs the class of pytorch-ignite's engine")
    other = moved(source, modules)
    assert [line for line in other.splitlines() if line not in source.splitlines()] != []
    expected = result_of(source, tmp_path / "ignite", monkeypatch, capsys)
    assert expected[0]
    assert result_of(other, tmp_path / "camshaft", monkeypatch, capsys) == expected
