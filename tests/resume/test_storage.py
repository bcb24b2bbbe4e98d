"""Atomic files, on a real disk and with killed writers."""

import errno
import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from camshaft.exceptions import StorageError
from camshaft.resume.storage import is_temporary, load, save, write_atomically
from support.checkpoints import names

PLAIN = {
    "weights": torch.arange(12.0).reshape(3, 4),
    "counts": OrderedDict(epoch=3, iteration=57),
    "names": ["a", ("b", None)],
    "numbers": (1, 2.5, True, float("inf")),
}


def same(first, second):
    return torch.equal(first["weights"], second["weights"]) and all(
        first[name] == second[name] for name in PLAIN if name != "weights"
    )


def in_another_process(script, *args):
    """Run a script to its end. Returns its exit status and its output."""
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    return done.returncode, done.stdout + done.stderr


# -- writing ----------------------------------------------------------------------------------------------------------


def test_what_was_saved_is_loaded_again(tmp_path):
    save(tmp_path / "state.pt", PLAIN)
    assert same(load(tmp_path / "state.pt"), PLAIN)
    assert names(tmp_path) == ["state.pt"]


def test_states_of_models_and_optimizers_are_plain_enough(tmp_path):
    model = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 2)
    states = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    save(str(tmp_path / "states.pt"), states)
    loaded = load(str(tmp_path / "states.pt"), map_location="cpu")
    assert loaded["schedule"] == states["schedule"]
    assert all(map(torch.equal, loaded["model"].values(), states["model"].values()))


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    save(tmp_path / "state.pt", PLAIN)
    (tmp_path / "plain").write_bytes(b"")
    assert (tmp_path / "state.pt").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_the_file_before_stays_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "words"
    path.write_bytes(b"old")
    seen = []

    def write(file):
        file.write(b"new")
        file.flush()
        seen.append((path.read_bytes(), [name for name in names(tmp_path) if is_temporary(name)]))

    write_atomically(path, write)
    assert [(old, len(temporaries)) for old, temporaries in seen] == [(b"old", 1)]
    assert path.read_bytes() == b"new"


def test_the_temporary_file_cannot_be_taken_for_a_checkpoint(tmp_path):
    seen = []
    write_atomically(tmp_path / "state.pt", lambda file: seen.append(Path(file.name)))
    assert seen[0].parent == tmp_path and seen[0].suffix != ".pt" and is_temporary(seen[0])
    assert not is_temporary(tmp_path / "state.pt")


@pytest.mark.parametrize("error", [KeyError("mine"), KeyboardInterrupt()])
def test_a_failure_leaves_the_file_before_and_nothing_else(tmp_path, error):
    path = tmp_path / "words"
    path.write_bytes(b"old")

    def write(file):
        file.write(b"half of the n")
        raise error

    with pytest.raises(type(error)) as raised:
        write_atomically(path, write)
    assert raised.value is error
    assert names(tmp_path) == ["words"] and path.read_bytes() == b"old"


def test_an_object_that_fails_to_pickle_leaves_the_file_before(tmp_path):
    class Failing:
        def __reduce__(self):
            raise RuntimeError("no state today")

    save(tmp_path / "state.pt", PLAIN)
    with pytest.raises(RuntimeError, match="no state today"):
        save(tmp_path / "state.pt", {"weights": torch.ones(9), "bad": Failing()})
    assert same(load(tmp_path / "state.pt"), PLAIN)
    assert names(tmp_path) == ["state.pt"]


def test_what_could_not_be_loaded_is_refused_when_saved(tmp_path):
    save(tmp_path / "state.pt", PLAIN)
    with pytest.raises(
        StorageError, match=r"state.pt was not written: the object contains torch.nn.modules.linear.Linear.* save"
    ):
        save(tmp_path / "state.pt", {"model": nn.Linear(1, 1)})
    assert same(load(tmp_path / "state.pt"), PLAIN)
    assert names(tmp_path) == ["state.pt"]


@pytest.mark.parametrize("error", ["EINVAL", "ENOTSUP", "EOPNOTSUPP", "ENOSYS", "EBADF", "EISDIR", "EPERM", "EACCES"])
@pytest.mark.parametrize("call", ["fsync of a folder", "fsync of all", "open of a folder"])
def test_a_file_system_that_cannot_flush_is_no_error(tmp_path, monkeypatch, call, error):
    real_fsync, real_open = os.fsync, os.open

    def fsync(descriptor):
        if "fsync" in call and ("all" in call or stat.S_ISDIR(os.fstat(descriptor).st_mode)):
            raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))
        return real_fsync(descriptor)

    def open_(path, *args, **kwargs):
        if "open" in call and os.path.isdir(path):
            raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))
        return real_open(path, *args, **kwargs)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "open", open_)
    save(tmp_path / "state.pt", 1)
    save(tmp_path / "state.pt", 2)
    monkeypatch.undo()
    assert load(tmp_path / "state.pt") == 2 and names(tmp_path) == ["state.pt"]


@pytest.mark.parametrize("error", ["EIO", "ENOSPC", "EDQUOT"])
def test_a_disk_that_fails_to_flush_is_an_error(tmp_path, monkeypatch, error):
    def fsync(descriptor):
        raise OSError(getattr(errno, error), os.strerror(getattr(errno, error)))

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="state.pt cannot be written"):
        save(tmp_path / "state.pt", 1)


def test_threads_that_write_the_same_file_leave_one_of_theirs(tmp_path):
    path = tmp_path / "state.pt"

    def write_often(value):
        for _ in range(10):
            save(path, torch.full((1000,), value))
            assert load(path).unique().numel() == 1

    failures = []

    def guarded(value):
        try:
            write_often(value)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(float(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert names(tmp_path) == ["state.pt"]


# -- folders and disks that refuse a file -----------------------------------------------------------------------------


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StorageError, match=f"nowhere/state.pt cannot be written.*create the folder {tmp_path}/nowhere"):
        save(tmp_path / "nowhere" / "state.pt", PLAIN)


def test_a_folder_in_the_place_of_the_file_is_named(tmp_path):
    (tmp_path / "state.pt").mkdir()
    with pytest.raises(StorageError, match="state.pt cannot be written: Is a directory"):
        save(tmp_path / "state.pt", PLAIN)
    assert names(tmp_path) == ["state.pt"]


UNWRITABLE = """
import os, sys
from pathlib import Path
from camshaft.resume.storage import save
folder = Path(sys.argv[1])
if os.geteuid() == 0:
    os.setuid(65534)  # root may write anywhere
try:
    save(folder / "state.pt", 1)
except OSError as error:
    print(type(error).__name__, error)
"""


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    tmp_path.chmod(0o555)
    for folder in (*tmp_path.parents,)[:2]:
        folder.chmod(0o755)
    try:
        status, printed = in_another_process(UNWRITABLE, tmp_path)
    finally:
        tmp_path.chmod(0o755)
    assert status == 0, printed
    assert (
        "StorageError" in printed
        and "Permission denied" in printed
        and f"make {tmp_path}" in printed
        and "writable, or save elsewhere" in printed
    )


TOO_BIG = """
import resource, sys, torch
from camshaft.resume.storage import load, save
path = sys.argv[1]
save(path, torch.ones(10))
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
try:
    save(path, {"small": torch.zeros(10), "big": torch.zeros(1_000_000)})
except OSError as error:
    print(type(error).__name__, error, "because of", repr(error.__cause__))
print(load(path).sum().item())
"""


def test_a_write_that_stops_half_way_leaves_the_file_before(tmp_path):
    status, printed = in_another_process(TOO_BIG, tmp_path / "state.pt")
    assert status == 0, printed
    assert f"StorageError {tmp_path}/state.pt cannot be written: File too large" in printed
    assert "because of OSError(27" in printed and printed.endswith("10.0\n")
    assert names(tmp_path) == ["state.pt"]


FULL = """
import os, sys, torch
from camshaft.resume.storage import load, save
folder = sys.argv[1]
save(folder + "/state.pt", torch.ones(10))
try:
    save(folder + "/state.pt", torch.zeros(1_000_000))
except OSError as error:
    print(type(error).__name__, error)
print(os.listdir(folder), load(folder + "/state.pt").sum().item())
"""


def test_a_full_disk_is_named_and_the_file_before_is_untouched(tmp_path):
    mount = 'mount -t tmpfs -o size=1m tmpfs "$1" && shift && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", str(tmp_path)]
    try:
        allowed = subprocess.run([*command, "true"], capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        allowed = False
    if not allowed:
        pytest.skip("no small disk can be mounted here")
    done = subprocess.run(
        [*command, sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert f"state.pt cannot be written: No space left on device; free some space in {tmp_path}" in done.stdout
    assert done.stdout.endswith("['state.pt'] 10.0\n"), done.stderr


# -- writers that were killed -----------------------------------------------------------------------------------------


KILLED = """
import os, signal, sys
from camshaft.resume.storage import write_atomically

def write(file):
    file.write(bytes(1_000_000))
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

write_atomically(sys.argv[1], write)
"""


def test_what_a_killed_writer_left_is_never_loaded(tmp_path):
    path = tmp_path / "state.pt"
    save(path, PLAIN)
    for _ in range(2):
        status, printed = in_another_process(KILLED, path)
        assert status == -signal.SIGKILL, printed
        leftovers = [name for name in names(tmp_path) if name != "state.pt"]
        assert len(leftovers) == 1 and is_temporary(leftovers[0])  # the second writer has removed the file of the first
        assert (tmp_path / leftovers[0]).stat().st_size == 1_000_000
        assert same(load(path), PLAIN)
    with pytest.raises(StorageError, match="is incomplete: its writer was stopped.*load another file"):
        load(tmp_path / leftovers[0])
    save(tmp_path / "other.pt", PLAIN)
    assert names(tmp_path) == ["other.pt", "state.pt"]


AT_WORK = """
import sys
from camshaft.resume.storage import write_atomically

def write(file):
    file.write(b"slowly")
    file.flush()
    print("writing", flush=True)
    sys.stdin.readline()

write_atomically(sys.argv[1], write)
"""


def test_the_temporary_file_of_a_writer_at_work_stays(tmp_path):
    command = [sys.executable, "-c", AT_WORK, str(tmp_path / "slow")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout.readline() == "writing\n"
        save(tmp_path / "state.pt", PLAIN)
        assert len([name for name in names(tmp_path) if is_temporary(name)]) == 1
        writer.communicate("go on\n", timeout=60)
    assert writer.returncode == 0
    assert (tmp_path / "slow").read_bytes() == b"slowly"
    assert names(tmp_path) == ["slow", "state.pt"]


# -- reading ----------------------------------------------------------------------------------------------------------


class Planted:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path):
    torch.save({"model": Planted(tmp_path / "planted")}, tmp_path / "evil.pt")
    with pytest.raises(StorageError, match=r"evil.pt contains posix.mkdir, and loading that could run code: save"):
        load(tmp_path / "evil.pt")
    assert names(tmp_path) == ["evil.pt"]


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_bare_pickle_is_refused_and_runs_nothing(tmp_path, protocol):
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Planted(tmp_path / "planted"), protocol))
    with pytest.raises(StorageError, match="evil.pt is damaged, incomplete, or was not written by torch.save"):
        load(tmp_path / "evil.pt")
    assert names(tmp_path) == ["evil.pt"]


def test_a_file_that_is_not_there_and_a_folder_are_named(tmp_path):
    with pytest.raises(StorageError, match=f"state.pt does not exist: check the name and the folder {tmp_path}"):
        load(tmp_path / "state.pt")
    with pytest.raises(StorageError, match=f"{tmp_path} cannot be read: Is a directory"):
        load(tmp_path)


def test_tensors_for_a_missing_device_are_not_called_damaged(tmp_path):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    save(tmp_path / "state.pt", PLAIN)
    with pytest.raises(StorageError, match=r"state.pt is undamaged, but cannot be loaded: .*CUDA"):
        load(tmp_path / "state.pt", map_location="cuda")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "state.pt"
    save(path, PLAIN)
    return path.read_bytes()


on_one_folder = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@given(st.data())
@on_one_folder
def test_a_file_cut_short_anywhere_is_refused(tmp_path, whole, data):
    length = data.draw(st.integers(0, len(whole) - 1))
    (tmp_path / "cut.pt").write_bytes(whole[:length])
    with pytest.raises(StorageError, match=r"cut.pt is damaged, incomplete"):
        load(tmp_path / "cut.pt")


@given(st.data())
@on_one_folder
def test_a_file_whose_content_is_damaged_is_refused(tmp_path, whole, data):
    position, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
    damaged = bytearray(whole)
    damaged[position] ^= 1 << bit
    (tmp_path / "damaged.pt").write_bytes(damaged)
    try:
        loaded = load(tmp_path / "damaged.pt")
    except StorageError as error:
        assert "damaged.pt" in str(error)
    else:
        assert same(loaded, PLAIN)


def test_a_flipped_bit_in_a_tensor_is_noticed(tmp_path, whole):
    position = whole.index(PLAIN["weights"].numpy().tobytes()) + 5
    damaged = bytearray(whole)
    damaged[position] ^= 1
    (tmp_path / "damaged.pt").write_bytes(damaged)
    assert not same(
        torch.load(tmp_path / "damaged.pt", weights_only=True), PLAIN
    )  # torch itself does not verify checksums
    with pytest.raises(StorageError, match="damaged.pt is damaged"):
        load(tmp_path / "damaged.pt")
