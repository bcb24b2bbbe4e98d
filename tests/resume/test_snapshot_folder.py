"""The folder of a snapshot: files of an earlier run are never lost without a word."""

from __future__ import annotations

import logging

import pytest

from camshaft import Engine, Events, Snapshot
from camshaft.exceptions import StorageError
from support.steps import no_op

REFUSED = r"has snapshots of an earlier run \(snapshot_000003_iteration_3.pt and 1 more\).*resume=\"latest\".*overwrite"


def engine_with(folder, name="trainer", **options):
    engine = Engine(no_op, name)
    engine.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(engine, folder, **options))
    return engine


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def folder(tmp_path):
    """A folder with the two files that an earlier run has left."""
    engine_with(tmp_path).run(range(3))
    return tmp_path


def left_paused(folder):
    engine = engine_with(folder)
    engine.add_event_handler(Events.ITERATION_COMPLETED(once=2), Engine.interrupt)
    engine.run(range(3))
    return engine


# -- refused -----------------------------------------------------------------------------------------------------------


def stepped(engine):
    return next(engine.steps(range(3)))


def called(engine):
    engine.snapshot()


def closed_after_resume(engine):
    engine.resume()
    engine.close()
    engine.run(range(3))


def resumed_from_elsewhere_and_closed(engine):
    elsewhere = engine.snapshot.dirname / "elsewhere"
    elsewhere.mkdir()
    copied = elsewhere / "snapshot_000002_iteration_2.pt"
    copied.write_bytes((engine.snapshot.dirname / copied.name).read_bytes())
    engine.resume(copied)
    engine.close()
    engine.run(range(3))


STARTS = {
    "run": lambda engine: engine.run(range(3)),
    "steps": stepped,
    "written outside of a run": called,
    "closed after resume()": closed_after_resume,
    "closed after resume() from elsewhere": resumed_from_elsewhere_and_closed,
}


@pytest.mark.parametrize("start", STARTS.values(), ids=STARTS)
def test_a_new_run_over_files_of_an_earlier_one_is_refused(folder, start):
    before, fired = contents(folder), []
    engine = engine_with(folder)
    engine.add_event_handler(Events.STARTED, lambda: fired.append("started"))
    with pytest.raises(StorageError, match=REFUSED):
        start(engine)
    assert {name: content for name, content in contents(folder).items() if name in before} == before
    assert (fired, engine.state.iteration, engine.current_run) == ([], 0, None)


def test_after_the_refusal_the_run_can_be_resumed_or_go_elsewhere(folder, tmp_path):
    engine = engine_with(folder)
    with pytest.raises(StorageError):
        engine.run(range(3))
    engine.run(range(3), max_epochs=2, resume="latest")
    assert engine.state.iteration == 6


def test_a_second_engine_of_the_same_program_is_refused_too(folder):
    with pytest.raises(StorageError, match="earlier run"):
        engine_with(folder, "another").run(range(3))


# -- allowed -----------------------------------------------------------------------------------------------------------


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_overwrite_deletes_the_earlier_files_with_the_first_of_the_run(folder):
    engine, seen = engine_with(folder, overwrite=True, n_saved=3), []
    engine.add_event_handler(Events.ITERATION_STARTED, lambda: seen.append(names(folder)))
    engine.run(range(3))
    old = ["snapshot_000002_iteration_2.pt", "snapshot_000003_iteration_3.pt"]
    new = ["snapshot_000004_iteration_1.pt", "snapshot_000005_iteration_2.pt", "snapshot_000006_iteration_3.pt"]
    assert seen == [old, new[:1], new[:2]]
    assert names(folder) == new


def test_with_overwrite_a_run_that_resumes_keeps_its_files(folder):
    engine = engine_with(folder, overwrite=True)
    engine.run(range(3), max_epochs=2, resume="latest")
    assert engine.state.iteration == 6
    assert names(folder) == ["snapshot_000005_iteration_5.pt", "snapshot_000006_iteration_6.pt"]


AGAIN = {
    "anew": lambda engine: engine.run(range(3)),
    "continued with higher limits": lambda engine: engine.run(range(3), max_epochs=2),
    "closed": lambda engine: (engine.close(), engine.run(range(3))),
    "continued after terminate()": lambda engine: (terminated(engine), engine.run(range(3), max_epochs=9)),
}


def terminated(engine):
    with engine.add_event_handler(Events.EPOCH_STARTED, engine.terminate):
        engine.run(range(3), max_epochs=3)


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
@pytest.mark.parametrize("resumed", [False, True])
def test_further_runs_of_one_engine_rotate_its_own_files(tmp_path, again, resumed):
    engine = engine_with(tmp_path)
    engine.run(range(3))
    if resumed:
        engine = engine_with(tmp_path)
        engine.run(range(3), max_epochs=2, resume="latest")
    again(engine)
    assert len(names(tmp_path)) == 2


def test_a_paused_run_goes_on_and_rotates_its_own_files(tmp_path):
    engine = left_paused(tmp_path)
    engine.run()
    assert names(tmp_path) == ["snapshot_000002_iteration_2.pt", "snapshot_000003_iteration_3.pt"]


@pytest.mark.parametrize("path", ["latest", "snapshot_000002_iteration_2.pt"])
def test_a_resumed_run_rotates_all_files_of_the_folder(folder, path):
    engine = engine_with(folder)
    engine.run(range(3), max_epochs=2, resume=path if path == "latest" else folder / path)
    assert len(names(folder)) == 2


def test_only_snapshots_are_files_of_a_run(tmp_path):
    others = ["notes.txt", "snapshot_best.pt", "model_000001_iteration_3.pt", ".camshaft-0123456789abcdef.tmp"]
    for name in others:
        (tmp_path / name).write_bytes(b"kept")
    engine_with(tmp_path, overwrite=True).run(range(3))
    assert set(others[:3]) < set(names(tmp_path))
    assert len(names(tmp_path)) == 5 + (others[3] in names(tmp_path))


def test_a_folder_that_does_not_exist_is_not_refused(tmp_path):
    engine_with(tmp_path / "a" / "b").run(range(3))
    assert len(names(tmp_path / "a" / "b")) == 2


# -- kept --------------------------------------------------------------------------------------------------------------


def check_kept(folder, before, engine):
    with pytest.warns(UserWarning, match=r"has snapshots of another run \(snapshot_.*\): they are kept"):
        engine.run(range(3), max_epochs=2)
    after = contents(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 2


def test_a_loaded_state_continues_beside_the_files_of_another_run(folder):
    before = contents(folder)
    engine = engine_with(folder)
    engine.load_state_dict({"epoch": 1, "epoch_length": 3, "max_epochs": 2})
    check_kept(folder, before, engine)


def test_a_snapshot_that_is_attached_late_keeps_the_files_it_finds(folder):
    before = contents(folder)
    engine = Engine(no_op)
    engine.run(range(3), max_epochs=1)
    engine.add_event_handler(Events.ITERATION_COMPLETED, Snapshot(engine, folder))
    check_kept(folder, before, engine)


def test_two_snapshots_in_one_folder_keep_the_files_of_each_other(tmp_path):
    first, second = (engine_with(tmp_path, name).steps(range(3)) for name in ("first", "second"))
    next(first), next(second)  # both begin while the folder is empty
    with pytest.warns(UserWarning, match="give each Snapshot a folder of its own"):
        for _ in (*first, *second):
            pass
    assert [name.rpartition("_")[2] for name in names(tmp_path)] == ["2.pt", "3.pt", "2.pt", "3.pt"]


# -- told --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["run", "resume"])
@pytest.mark.parametrize("exists", [False, True])
def test_resuming_without_a_file_is_told_in_one_line(tmp_path, caplog, how, exists):
    folder = tmp_path if exists else tmp_path / "new"
    engine = engine_with(folder)
    with caplog.at_level(logging.INFO, logger="camshaft"):
        if how == "run":
            engine.run(range(3), resume="latest")
        else:
            assert engine.resume() is None
    line, *of_the_run = caplog.records
    assert [one.getMessage().partition(" ")[0] for one in of_the_run] == (
        ["run", "EPOCH", "run"] if how == "run" else []
    )
    assert (line.name, line.levelname) == ("camshaft.trainer", "INFO")
    assert line.getMessage() == f"no snapshot in {folder}: the run starts from the beginning"


def test_resuming_from_a_file_says_that_the_run_continues(folder, caplog):
    with caplog.at_level(logging.INFO, logger="camshaft"):
        engine_with(folder).run(range(3), max_epochs=2, resume="latest")
    assert "snapshot" not in caplog.text
    assert "run continues after epoch" in caplog.records[0].getMessage()
