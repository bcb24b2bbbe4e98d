"""Diagrams kept in a project: drawn, checked, and refused with the reason."""

from __future__ import annotations

import pytest

from support.command_line import FILE


def test_the_drawings_of_a_project_are_made_and_checked(run, folder):
    done = run("draw", "--check")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "pictures/loop.svg is missing",
        "pictures/loop.txt is missing",
    ]
    assert run("draw", "--all").stdout == "drew pictures/loop.svg\ndrew pictures/loop.txt\n"
    assert run("draw", "--check").returncode == 0
    assert run("draw", "--all").stdout == ""
    (folder / "train.py").write_text(FILE.replace('"trainer"', '"teacher"'))
    assert run("draw", "--check").stderr == "pictures/loop.svg is out of date\n"
    (folder / "inner").mkdir()
    assert run("draw", "--all", cwd=folder / "inner").returncode == 0
    assert run("draw", "--check", cwd=folder / "inner").returncode == 0
    assert "teacher" in (folder / "pictures/loop.svg").read_text()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "lists no diagrams: add [tool.camshaft.diagrams]"),
        ('[tool.camshaft.diagrams]\n"a.svg" = 3', "give a target"),
        ('[tool.camshaft.diagrams]\n"a.png" = "train.py:trainer"', "cannot write a diagram as '.png'"),
        ('[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", size = 3}', "unknown key 'size'"),
        (
            '[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", level = "all"}',
            "level must be 'overview' or 'full', got 'all'",
        ),
        ('[tool.camshaft.diagrams]\n"a.svg" = "train.py:nothing"', "has no attribute 'nothing'"),
        ('[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", trace = "no.jsonl"}', "no.jsonl"),
        (
            '[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", handlers = "no"}',
            "handlers must be true or false, got 'no'",
        ),
        (
            '[tool.camshaft.diagrams]\n"a.svg" = {target = "train.py:trainer", trace = 3}',
            "trace must be the name of a file, got 3",
        ),
        ("tool = 3", "lists no diagrams"),
        ("[tool]\ncamshaft = 3", "lists no diagrams"),
        ("[tool", "pyproject.toml: "),
    ],
)
def test_a_project_that_cannot_be_drawn_says_why(run, folder, text, why):
    (folder / "pyproject.toml").write_text(text)
    for option in ("--all", "--check"):
        done = run("draw", option)
        assert done.returncode == 2
        assert why in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_each_file_has_neighbours_of_its_own(run, folder):
    for name in ("a", "b"):
        (folder / name).mkdir()
        (folder / name / "helper.py").write_text(f"NAME = 'trainer of {name}'\n")
        (folder / name / "string.py").write_text(
            "from camshaft import Engine\n"
            "def trainer():\n"
            "    from helper import NAME\n"
            "    return Engine(lambda engine, batch: batch, NAME)\n"
        )
    (folder / "pyproject.toml").write_text(
        '[tool.camshaft.diagrams]\n"a.txt" = "a/string.py:trainer"\n"b.txt" = "b/string.py:trainer"\n'
    )
    assert run("draw", "--all").returncode == 0
    assert "trainer of a" in (folder / "a.txt").read_text()
    assert "trainer of b" in (folder / "b.txt").read_text()


def test_a_file_that_leaves_says_why(run, folder):
    (folder / "leaves.py").write_text("import sys\nsys.exit('no\\nway')\n")
    done = run("source", "leaves.py:trainer")
    assert (done.returncode, "SystemExit: no way" in done.stderr) == (2, True)
