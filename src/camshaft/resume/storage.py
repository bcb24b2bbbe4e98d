"""Atomic files: written under a temporary name, flushed and renamed; read back without executing code."""

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
from typing import Any, BinaryIO, NoReturn

import torch
from torch import nn

from camshaft.exceptions import StorageError
from camshaft.resume.contents import SAVE_ONLY, find_refused, without_numpy_scalars

__all__ = ["check_file_name", "is_temporary", "load", "make_folder", "save", "unwrapped", "write_atomically"]

PREFIX, SUFFIX = ".camshaft-", ".tmp"

LONGEST_NAME = 255
"""The most bytes that the usual file systems allow in a name."""

NOT_SUPPORTED = {
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EBADF,
    errno.EISDIR,
    errno.EPERM,
    errno.EACCES,
}
"""Errors of file systems that cannot open or flush a folder: many network, shared and user-space ones."""


def is_temporary(path: str | Path) -> bool:
    """Return whether a file is still being written, or was left by a writer that was killed."""
    name = Path(path).name
    return name.startswith(PREFIX) and name.endswith(SUFFIX)


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, if they do not exist.

    Raises:
        StorageError: the folder cannot be created.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(f"the folder {folder} cannot be created: {error.strerror}; choose another") from error


def check_file_name(name: str, caller: str, hint: str) -> None:
    """Refuse a text that cannot be the name of a file.

    Args:
        name: the text.
        caller: the name of the handler for the error.
        hint: what to change.

    Raises:
        ValueError: it is empty, too long, or contains a slash or another character that names cannot have.
    """
    separators = [mark for mark in ("/", "\0", os.sep, os.altsep) if mark and mark in name]
    if name in ("", ".", "..") or separators:
        raise ValueError(f"{caller}: {name!r} is not a valid file name: {hint}")
    try:
        size = len(os.fsencode(name))
    except UnicodeEncodeError as error:
        raise ValueError(f"{caller}: {name!r} is not a valid file name, {error.reason}: {hint}") from None
    if size > LONGEST_NAME:
        raise ValueError(
            f"{caller}: the file name {name[:40]!r}... of {size} bytes is too long, {LONGEST_NAME} are allowed: {hint}"
        )


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Write a file so that a reader always finds either the old or the new one, even after a crash.

    The file is written under a temporary name in the same folder, flushed to the disk, and then renamed. Files of
    killed writers are removed first, unless another process is writing in the folder.

    Args:
        path: the file. Its folder must exist.
        write: a function ``write(file)`` that writes everything to the open binary file.

    Raises:
        StorageError: the disk is full, or the folder is missing or not writable. After any error, also one of
            ``write``, the previous file is unchanged.
    """
    path = Path(path)
    try:
        with _writing_in(path.parent) as flush_folder:
            _write_and_rename(path, write)
            flush_folder()
    except StorageError:
        raise
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror or error}; {_advice(error, path.parent.absolute())}"
        ) from error


def _write_and_rename(path: Path, write: Callable[[BinaryIO], object]) -> None:
    temporary = path.parent / f"{PREFIX}{secrets.token_hex(8)}{SUFFIX}"
    try:
        with open(temporary, "xb") as file:
            write(file)
            file.flush()
            _flush(file.fileno())  # before the rename: else a crash could leave the new name with no content
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


@contextmanager
def _writing_in(folder: Path) -> Iterator[Callable[[], None]]:
    """Hold a shared lock, so that no other process removes temporary files in a folder.

    Yields a function that flushes the folder, so that renames in it survive a crash.
    """
    if os.name == "nt":  # Windows can neither lock nor flush a folder
        yield lambda: None
        return
    import fcntl

    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise
        yield lambda: None
        return
    try:
        # An exclusive lock is granted only if no other process is writing: all temporary files are leftovers then.
        # It fails if another process is writing, or if the file system has no locks.
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove_leftovers(folder)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield lambda: _flush(descriptor)
    finally:
        os.close(descriptor)


def _flush(descriptor: int) -> None:
    """Flush a file or a folder to the disk, if its file system can do that."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in NOT_SUPPORTED:
            raise


def _remove_leftovers(folder: Path) -> None:
    for leftover in folder.glob(f"{PREFIX}*{SUFFIX}"):
        leftover.unlink(missing_ok=True)


def _advice(error: OSError, folder: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"free some space in {folder}, or save elsewhere"
    if error.errno == errno.ENOENT:
        return f"create the folder {folder} first"
    return f"make {folder} writable, or save elsewhere"


def save(path: str | Path, obj: Any, name: str = "") -> None:
    """Write state dicts, tensors and plain values atomically with ``torch.save``. NumPy scalars become Python numbers.

    Args:
        path: the file. Its folder must exist.
        obj: the object. :func:`load` returns an equal one.
        name: the name of the object in errors, if it is the state of a single one.

    Raises:
        StorageError: the file cannot be written, or ``obj`` contains an object that :func:`load` would refuse.
    """
    obj = without_numpy_scalars(obj)

    def refuse(error: Exception, reason: str) -> NoReturn:
        raise StorageError(f"{path} was not written: the object {reason}") from error

    def write(file: BinaryIO) -> None:
        try:
            torch.save(obj, file)
        except RuntimeError as error:  # torch raises its own error if the disk is full
            raise (error.__context__ if isinstance(error.__context__, OSError) else error) from None
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            refused = find_refused(obj, name)
            if refused is None:
                raise
            refuse(error, f"contains {refused}, which cannot be saved: {error}")
        file.flush()
        try:  # check that it can be loaded; memory-mapped, so that no tensor is read
            torch.load(file.name, map_location="cpu", mmap=True, weights_only=True)
        except pickle.UnpicklingError as error:
            refused = find_refused(obj, name)
            refuse(error, f"contains {refused}, and {SAVE_ONLY}" if refused is not None else _refusal(error))

    write_atomically(path, write)


def load(path: str | Path, map_location: Any = None) -> Any:
    """Read a file of :func:`save`. Its checksums are verified, and code in it is never executed.

    Args:
        path: the file.
        map_location: the device for the tensors, as in ``torch.load``; by default the one they were saved from.

    Returns:
        The saved object.

    Raises:
        StorageError: the file is missing, damaged, incomplete or of another kind, or loading it could run code.
    """
    path = Path(path)
    if is_temporary(path):
        raise StorageError(f"{path} is incomplete: its writer was stopped, or is still writing; load another file")
    _check_intact(path)
    try:
        return torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        raise StorageError(f"{path} {_refusal(error)}") from error
    except (RuntimeError, OSError) as error:
        raise StorageError(f"{path} is undamaged, but cannot be loaded: {error}") from error


def _check_intact(path: Path) -> None:
    """Refuse a file that is not an undamaged archive of ``torch.save``. ``torch.load`` does not verify checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            is_intact = archive.testzip() is None
    except FileNotFoundError:
        raise StorageError(f"{path} does not exist: check the name and the folder {path.parent.absolute()}") from None
    except OSError as error:
        raise StorageError(
            f"{path} cannot be read: {error.strerror or error}; check its type and its permissions"
        ) from error
    except Exception:  # zipfile raises many types of errors for damaged archives
        is_intact = False
    if not is_intact:
        raise StorageError(f"{path} is damaged, incomplete, or was not written by torch.save: load an earlier file")


def _refusal(error: pickle.UnpicklingError) -> str:
    """Return why torch refuses to load an object, in one line."""
    found = re.search(r"(?:GLOBAL|class|function) ([\w.]+)", str(error))
    what = found[1] if found else "more than plain values"
    return f"contains {what}, and {SAVE_ONLY}"


def unwrapped(obj: Any) -> Any:
    """Return the module inside the wrappers for parallel training and of ``torch.compile``."""
    if isinstance(obj, (nn.DataParallel, nn.parallel.DistributedDataParallel)):
        return unwrapped(obj.module)
    dynamo = sys.modules.get("torch._dynamo")  # slow to import, and imported already if anything was compiled
    if dynamo is not None and isinstance(obj, dynamo.OptimizedModule):
        return unwrapped(obj._orig_mod)
    return obj
