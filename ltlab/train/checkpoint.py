"""Checkpoints: written atomically, loaded without running code, refused where they belong to another run."""

import io
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch

FORMAT = "ltlab checkpoint 3"


def save(path: Path, state: dict) -> None:
    """Write `state` so that `path` always holds a whole checkpoint: the new one, or the one before.

    Raises:
        OSError: the disk is full or not writable; the checkpoint before stays as it was.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getbuffer())


def history_of(path: Path) -> Path:
    """The CSV beside a checkpoint that holds the run's history."""
    return path.with_suffix(".csv")


def check_new(path: Path) -> None:
    """Refuse to write a checkpoint where a file of another run stands.

    Raises:
        FileExistsError: there is such a checkpoint, or its history.
    """
    if path.exists():
        raise FileExistsError(f"checkpoint {path} exists: pass resume=True to go on from it, or remove it first")
    if history_of(path).exists():
        raise FileExistsError(
            f"{history_of(path)} exists, where the history of checkpoint {path} goes: remove it first, or name the "
            "checkpoint otherwise"
        )


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
    """Write a file beside `path`, flush it to the disk, then rename it into place."""
    part = _part(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise OSError(
            error.errno, f"could not write {path} ({error.strerror}); what stood there before is untouched"
        ) from error


def _part(path: Path) -> Path:
    """A name beside `path` that no other process uses."""
    return path.with_name(f"{path.name}.{os.getpid()}.part")


def load(path: Path, device: torch.device, refusal: Callable[[dict], str | None]) -> dict:
    """Read a checkpoint that `refusal` has nothing against.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, a file that is no ltlab checkpoint, or one that `refusal` gives a reason against.
    """
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}: train it first, or check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            if damaged := archive.testzip():  # torch loads what its checksums tell to be wrong
                raise zipfile.BadZipFile(f"the checksum of {damaged} is wrong")
        state = torch.load(path, map_location=device, weights_only=True)
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


def difference(theirs: dict[str, str], ours: dict[str, str]) -> str | None:
    """What two identities disagree about, in words; None if nothing."""
    differing = [
        f"{key} is {theirs.get(key, 'absent')} there and {ours.get(key, 'absent')} here"
        for key in sorted(theirs.keys() | ours.keys())
        if theirs.get(key) != ours.get(key)
    ]
    return "; ".join(differing) or None
