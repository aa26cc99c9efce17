"""Checkpoints: written atomically, by one run at a time, loaded without running code, refused where of another run."""

import io
import os
import platform
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import torch
from filelock import FileLock, Timeout
from torch import Tensor

FORMAT = "ltlab checkpoint 5"


def save(path: Path, state: dict) -> None:
    """Write `state` so that `path` always holds a whole checkpoint: the new one, or the one before.

    Raises:
        OSError: the disk is full or not writable; the checkpoint before stays as it was.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getbuffer())


def history_of(path: Path) -> Path:
    """The CSV next to a checkpoint that holds the run's history."""
    return path.with_suffix(".csv")


def absolute(path: str | os.PathLike | None) -> Path | None:
    """A path that means the same after `os.chdir`, with ~ for the home folder.

    Raises:
        ValueError: a user's home folder that does not exist.
    """
    try:
        return None if path is None else Path(path).expanduser().absolute()
    except RuntimeError as error:
        raise ValueError(f"{path}: there is no such user") from error


def check_path(path: Path | None, resume: bool) -> None:
    """Refuse a checkpoint that a run could not continue from, or would overwrite; None keeps nothing.

    Raises:
        ValueError: `resume` without a path; a path that ends in .csv.
        FileNotFoundError: `resume`, and no such file.
        FileExistsError: without `resume`, there is such a file, or its history.
    """
    if path is None:
        if resume:
            raise ValueError("resume needs a checkpoint to continue from")
        return
    history = history_of(path)
    if path.suffix.lower() == ".csv":
        raise ValueError(f"checkpoint={str(path)!r}: the history goes to a file of this name, call it {path.stem}.pt")
    if resume and not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}: train it first, or check the path")
    if not resume and path.exists():
        raise FileExistsError(f"checkpoint {path} exists: resume the run, or remove the file")
    if not resume and history.exists():
        raise FileExistsError(
            f"{history} exists, where the history of checkpoint {path} goes: remove it first, or name the checkpoint "
            "otherwise"
        )


@contextmanager
def held(path: Path | None, resume: bool) -> Iterator[None]:
    """Keep a checkpoint and its history for this run alone, on a disk where they can be written; None keeps nothing.

    The operating system locks a file next to them for as long as the process lives, however it ends. What a killed run
    leaves of that file holds nothing. Where the file system has no locks, a warning says so, and the run continues.

    Raises:
        BlockingIOError: another run holds them.
        FileExistsError: without `resume`, a run that has just ended has left them.
        OSError: they cannot be written.
    """
    if path is None:
        yield
        return
    check_writable(path)
    beside = path.with_name(f"{history_of(path).name}.lock")
    lock = FileLock(beside)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        holder = ""
        with suppress(OSError):  # gone by now, or on Windows, where a lock keeps others from reading
            holder = f" ({beside.read_text(encoding='utf-8')})"
        raise BlockingIOError(
            f"checkpoint {path} is being written by another run{holder}: wait until it has ended, or stop it, and "
            f"resume it; or name another checkpoint. If no run is left, delete {beside}"
        ) from None
    except OSError as error:
        warnings.warn(
            f"checkpoint {path} cannot be locked ({error.strerror}): start no other run that writes it", stacklevel=5
        )
    try:
        if not resume:
            check_path(path, resume)
        if lock.is_locked:
            with suppress(OSError):
                beside.write_text(f"process {os.getpid()} on {platform.node()}", encoding="utf-8")
        yield
    finally:
        if lock.is_locked:
            with suppress(OSError):  # on Windows the release removes it
                beside.unlink()  # while it is locked: whoever opened it before sees that it is gone
            lock.release()


def check_writable(path: Path) -> None:
    """Make the checkpoint's folder, and refuse one where no file can be written.

    Raises:
        OSError: the folder cannot be made or written to.
    """
    part = _part(path)
    try:
        if not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        part.touch()
        part.unlink()
    except OSError as error:
        raise OSError(
            error.errno, f"checkpoint {path} cannot be written ({error.strerror}): name a folder that can"
        ) from error


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a whole file, or leave the one before, see `atomically`."""
    with atomically(path) as file:
        file.write(content)


@contextmanager
def atomically(path: Path) -> Iterator[BinaryIO]:
    """A file next to `path` to write to; afterwards it is flushed to the disk and renamed into place.

    Raises:
        OSError: the disk is full or not writable. Then, and after any other error, nothing half-written is left.
    """
    part = _part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        if error.errno is None:  # what gives the content has failed, not the disk
            raise
        raise OSError(
            error.errno, f"could not write {path} ({error.strerror}): make room; what was there before is untouched"
        ) from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    """A name next to `path` that no other process uses."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def load(path: Path, device: torch.device, refusal: Callable[[dict], str | None]) -> dict:
    """Read a checkpoint that `refusal` has nothing against.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, one that is not an ltlab checkpoint, or that `refusal` gives a reason against.
    """
    check_path(path, resume=True)
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch loads what its checksums tell to be wrong
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        state = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:  # removed meanwhile
        raise
    except Exception as error:  # of many kinds, where a file is anything but a checkpoint
        raise ValueError(f"checkpoint {path} is damaged or no checkpoint: remove it and start again") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(
            f"{path} is not an {FORMAT!r} file: it comes from elsewhere, or from another version; remove it "
            "and train again"
        )
    if reason := refusal(state):
        raise ValueError(f"checkpoint {path} belongs to another run: {reason}")
    return state


def classifier_in(state: dict) -> dict[str, Tensor]:
    """The state of the network's classifier, by the names that it has for it."""
    return {
        name.removeprefix("classifier."): value
        for name, value in state["model"].items()
        if name.startswith("classifier.")
    }


def difference(theirs: dict[str, str], ours: dict[str, str]) -> str | None:
    """What two identities disagree about, in words, and how to start as many processes as then; None if nothing."""
    differing = [
        f"{key} is {theirs.get(key, 'absent')} there and {ours.get(key, 'absent')} here"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key) != ours.get(key)
    ]
    if theirs.get("processes") != ours.get("processes"):
        differing.append(f"start as many processes as then, {theirs.get('processes', 1)}")
    return "; ".join(differing) or None
