"""Files that are whole or not there at all: written aside, then renamed; read back without running code."""

from __future__ import annotations

import errno
import os
import pickle
import re
import secrets
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import nn

from camshaft.exceptions import StorageError

__all__ = ["is_temporary", "load", "make_folder", "save", "unwrapped", "write_atomically"]

PREFIX, SUFFIX = ".camshaft-", ".tmp"


def is_temporary(path: str | Path) -> bool:
    """Whether a name is that of a file still being written, or left behind by a writer that was killed."""
    name = Path(path).name
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def make_folder(folder: Path) -> None:
    """Make a folder and those around it, where they are not there.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {folder} cannot be made: {error.strerror}; choose another") from error


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that every reader finds the old one or the new one, whatever happens meanwhile.

    It is written under a temporary name in the same folder, flushed to the disk, then renamed. What writers that were
    killed have left in that folder is removed first, unless somebody is writing there right now.

    Args:
        path: the file; its folder must be there.
        write: ``write(file)``, which puts everything into the open binary file.

    Raises:
        StorageError: the disk is full, or the folder is missing or cannot be written to. As with anything that
            ``write`` raises, the file that was there before is untouched.
    """
    path = Path(path)
    try:
        with _writing_in(path.parent) as flush_folder:
            _write_aside(path, write)
            flush_folder()
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}; {_advice(error, path.parent.absolute())}"
        ) from error


def _write_aside(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = path.parent / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _writing_in(folder: Path) -> Iterator[Callable[[], None]]:
    """Keep others from clearing up in a folder meanwhile; yields what makes renames there last."""
    if os.name == "nt":  # a folder can be neither locked nor flushed there
        yield lambda: None
        return
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # somebody writes there, or the file system knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_leftovers(folder)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield lambda: os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"{PREFIX}*{SUFFIX}"):
        leftover.unlink(missing_ok=True)


def _advice(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space in {folder}, or save elsewhere"
    if error.errno == errno.ENOENT:
        return f"create the folder {folder} first"
    return f"see to it that {folder} can be written to, or save elsewhere"


def save(path: str | Path, obj: Any) -> None:
    """Write state dicts, tensors and plain values with ``torch.save``, as :func:`write_atomically` does.

    Args:
        path: the file; its folder must be there.
        obj: what :func:`load` gives back.

    Raises:
        StorageError: the file cannot be written, or ``obj`` holds what :func:`load` would refuse.
    """

    def write(file: BinaryIO) -> None:
        try:
            torch.save(obj, file)
        except RuntimeError as error:  # torch hides the full disk behind one of its own
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        file.flush()
        try:  # mapped, so that no tensor is read
            torch.load(file.name, map_location="cpu", mmap=True, weights_only=True)
        except pickle.UnpicklingError as error:
            raise StorageError(f"{path} was not written: what is to be saved {_refusal(error)}") from error

    write_atomically(path, write)


def load(path: str | Path, map_location: Any = None) -> Any:
    """Read back what :func:`save` wrote. No code in the file is run, and its checksums are verified.

    Args:
        path: the file.
        map_location: the device that tensors go to, as for ``torch.load``; the one they came from unless given.

    Raises:
        StorageError: there is no such file; it is damaged, cut short or of another kind; loading it could run code.
    """
    path = Path(path)
    if is_temporary(path):
        raise StorageError(f"{path} was never finished: its writer was stopped, or is still at work; load another file")
    _check_whole(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise StorageError(f"{path} {_refusal(error)}") from error
    except (RuntimeError, OSError) as error:
        raise StorageError(f"{path} is whole, but cannot be loaded: {error}") from error


def _check_whole(path: Path) -> None:
    """Refuse what is no undamaged archive of ``torch.save``, which itself does not look at checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            whole = archive.testzip() is None
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist: check the name and the folder {path.parent.absolute()}") from None
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror or error}; check what it is, and whose") from error
    except Exception:  # zipfile raises many kinds on damaged archives
        whole = False
    if not whole:
        raise StorageError(f"{path} is damaged, cut short, or was not written by torch.save: load an earlier file")


def _refusal(error: pickle.UnpicklingError) -> str:
    """Why torch would not load something, in one line."""
    found = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
    what = found[1] if found else "more than plain values"
    return f"holds {what}, and loading that could run code: save tensors, plain values and state dicts only"


def unwrapped(obj: Any) -> Any:
    """The module inside of what wraps it for parallel training or was made of it by ``torch.compile``."""
    if isinstance(obj, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(obj.module)
    dynamo = sys.modules.get("torch._dynamo")  # slow to import, and there once anything was compiled
    if dynamo is not None and isinstance(obj, dynamo.OptimizedModule):
        return unwrapped(obj._orig_mod)
    return obj
