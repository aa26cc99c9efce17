"""Results: one row per run, with everything needed to know where a number comes from."""

import datetime
import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import torch

from .data import LongTailedData
from .train import Result

PACKAGE = Path(__file__).parent


def result_row(result: Result, data: LongTailedData, seed: int) -> dict[str, object]:
    """The row of a finished run: data, recipe, seed, last-epoch figures (fractions), seconds, machine and versions."""
    device = next(result.model.parameters()).device
    protocol = result.recipe.protocol
    return {
        "data": data.name,
        "imbalance": data.options.get("imbalance"),
        "options": " ".join(f"{k}={v}" for k, v in data.options.items() if k not in ("imbalance", "seed")),
        "recipe": result.recipe.name,
        "seed": seed,
        "epochs": result.recipe.epochs,
        "model": protocol.model,
        "batch_size": protocol.batch_size,
        "augmentation": f"crop {protocol.crop_padding}{', flip' if protocol.flip else ''}",
        **{name: round(figure, 6) for name, figure in result.metrics.items()},
        "seconds": round(result.seconds, 2),
        **provenance(device),
    }


def provenance(device: torch.device) -> dict[str, object]:
    """Where and by what a number was measured: device, threads, versions, commit (a + marks uncommitted changes), day."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ltlab": version("ltlab"),
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def append_row(path: str | os.PathLike, row: dict[str, object]) -> None:
    """Add a row to a CSV, at once; a new file gets the header first.

    Raises:
        ValueError: the file's columns are not the row's.
    """
    path = Path(path)
    new = not path.exists()
    if not new:
        columns = list(pd.read_csv(path, nrows=0).columns)
        if columns != list(row):
            differing = ", ".join(sorted(set(columns) ^ set(row))) or "their order"
            raise ValueError(f"{path} has other columns than this row ({differing}): choose another file")
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame([row]).to_csv(path, mode="a", header=new, index=False)


def _processor() -> str:
    """The processor's name as the system tells it, with the number of cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores"


def _commit() -> str:
    """The checkout's short commit, "" outside a checkout."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=PACKAGE, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""
