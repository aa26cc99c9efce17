"""Checkpoints: written atomically, loaded without running code, refused where they belong to another run."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import torch

FORMAT = "ltlab checkpoint 2"


def save(path: Path, state: dict) -> None:
    """Write `state` so that `path` always holds a whole checkpoint: the new one, or the one before.

    Raises:
        OSError: the disk is full or not writable; the checkpoint before stays as it was.
    """
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state}, buffer)
    write_atomically(path, buffer.getbuffer())


def write_atomically(path: Path, content: bytes | memoryview) -> None:
    """Write a file beside `path`, flush it to the disk, then rename it into place."""
    part = path.with_name(path.name + ".part")
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


def load(path: Path, device: torch.device, refusal: Callable[[dict], str | None]) -> dict:
    """Read a checkpoint that `refusal` has nothing against.

    Raises:
        FileNotFoundError: no such file.
        ValueError: a damaged file, a file that is no ltlab checkpoint, or one that `refusal` gives a reason against.
    """
    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}: train it first, or check the path")
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError) as error:
        raise ValueError(f"checkpoint {path} is damaged or no checkpoint: remove it and start again") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ValueError(f"{path} is not an {FORMAT!r} file: it comes from elsewhere")
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
