"""One row per run, with everything needed to know where a number comes from."""

import datetime
import hashlib
import json
import os
import platform
import subprocess
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pandas as pd
import torch

from .. import __version__
from ..data import LongTailedData
from ..data.places import tables_folder
from ..metrics import per_class_accuracy
from ..recipes import Plan, Recipe, Settings, describe
from ..train import Result
from ..train.checkpoint import write_atomically

PACKAGE = Path(__file__).parent
COLUMNS = (
    "data", "imbalance", "options", "recipe", "seed", "epochs", "model", "batch_size", "augmentation", "fingerprint",
    "top1_error", "balanced_error", "many_accuracy", "medium_accuracy", "few_accuracy", "expected_calibration_error",
    "negative_log_likelihood", "brier_score", "many_gap", "medium_gap", "few_gap", "per_class_accuracy",
    "seconds", "precision", "device", "threads", "python", "torch", "ltlab", "commit", "date",
)  # fmt: skip
TEXT = (
    "data", "options", "recipe", "model", "augmentation", "fingerprint", "per_class_accuracy", "precision", "device",
    "python", "torch", "ltlab", "commit", "date",
)  # fmt: skip
RUN = ["recipe", "seed", "fingerprint"]  # the columns that tell a run from every other


def result_row(result: Result, data: LongTailedData, seed: int) -> dict[str, object]:
    """The row of a finished run, with the keys `COLUMNS`.

    Data, recipe and seed, the `fingerprint` of recipe and data, the last epoch's metrics, the accuracy of every class,
    separated by spaces, seconds of training, precision, machine and versions. The options are those of the data; with
    on_error="skip" they also say how many test images were replaced by others of their classes.
    """
    device, options = next(result.model.parameters()).device, data.options | skipping(data)
    settings = result.recipe.settings
    return {
        "data": data.name,
        "imbalance": data.options.get("imbalance"),
        "options": " ".join(f"{k}={v}" for k, v in options.items() if k not in ("imbalance", "seed")),
        "recipe": result.recipe.name,
        "seed": seed,
        "epochs": result.recipe.epochs,
        "model": result.network,
        "batch_size": settings.batch_size,
        "augmentation": augmentation_of(settings),
        "fingerprint": fingerprint(result.recipe, data, result.network),
        **{name: round(figure, 6) for name, figure in result.metrics.items()},
        "per_class_accuracy": " ".join(
            f"{accuracy:.6g}" for accuracy in per_class_accuracy(result.logits, data.test.labels.cpu()).tolist()
        ),
        "seconds": round(result.seconds, 2),
        "precision": result.precision,
        **provenance(device),
    }


def skipping(data: LongTailedData) -> dict[str, Any]:
    """What options say of data with on_error="skip"; {} of all other data.

    The test images that were skipped are those of every run on these files; held-out ones differ from seed to seed.
    """
    if data.test.on_error == "raise":
        return {}
    return {"on_error": "skip"} | ({} if "held_out" in data.options else {"skipped_test": len(data.test.damaged)})


def augmentation_of(settings: Settings) -> str:
    """The augmentation in a few words: "crop 4, flip" is a random crop from the image padded by 4, and a flip."""
    parts = {
        f"random resized crop {settings.crop}": settings.crop is not None,
        f"crop {settings.crop_padding}": settings.crop_padding > 0,
        "flip": settings.flip,
        f"colour jitter {settings.colour_jitter}": settings.colour_jitter is not None,
    }
    return ", ".join(name for name, there in parts.items() if there) or "none"


def fingerprint(recipe: Plan, data: LongTailedData, network: str | None = None) -> str:
    """12 hex digits of what is trained on what: equal exactly for plans that train alike on equal images.

    The recipe's name, the training's seed, the device and the precision do not count; a custom network that
    `fit` was given counts by its name, `Result.network`.
    """
    given = [] if network in (None, describe(recipe.settings.model)) else [network]
    content = json.dumps([recipe.identity(), data.fingerprint, *given], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:12]


def provenance(device: torch.device) -> dict[str, object]:
    """Where and by what a number was measured: device, threads, versions, commit, day.

    A + after the commit marks uncommitted changes.
    """
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ltlab": __version__,
        "commit": _commit(),
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
    }


def append_row(path: str | os.PathLike, row: dict[str, object]) -> None:
    """Add a row to a CSV, which is replaced atomically; a new file gets the header first.

    Raises:
        ValueError: the file's columns are not the row's, or its last line is cut off.
    """
    path = Path(path)
    there = b""
    if path.exists():
        _check_file(path, list(row))
        there = path.read_bytes()
    line = pd.DataFrame([row]).to_csv(header=not there, index=False)
    write_atomically(path, there + line.encode())


def check_appendable(path: str | os.PathLike) -> None:
    """Make the folder of a CSV, and refuse one that `append_row` could not write, before there is a row to lose.

    Raises:
        OSError: the file or its folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") if path.exists() else TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OSError(error.errno, f"{path} cannot be written ({error.strerror}): name another file") from error


def read_rows(path: str | os.PathLike) -> pd.DataFrame:
    """The rows that `append_row` wrote, in the columns `COLUMNS`; no rows where there is no file yet.

    Text is text, also where pandas would take it for a missing number: "None", "NA", "".

    Raises:
        ValueError: the file has other columns, a line that is not a row, or a last line that is cut off.
    """
    path = Path(path)
    if not path.exists():
        return pd.DataFrame(columns=COLUMNS)
    _check_file(path, list(COLUMNS))
    missing = {column: [""] for column in COLUMNS if column not in TEXT}
    try:
        rows = pd.read_csv(path, dtype=dict.fromkeys(TEXT, str), keep_default_na=False, na_values=missing)
    except ValueError as error:
        raise ValueError(f"{path} is damaged, fix or remove the line: {error}") from error
    if "" in (last := rows[COLUMNS[-1]].tolist()):
        raise ValueError(f"{path} is damaged, remove the line: line {last.index('') + 2} is cut off")
    return rows


def runs_in(path: str | os.PathLike) -> set[tuple[str, int, str]]:
    """The runs whose rows a file has: recipe, seed and fingerprint.

    Raises:
        ValueError: as `read_rows`.
    """
    return set(read_rows(path)[RUN].itertuples(index=False, name=None))


def measured(recipes: Iterable[Recipe | str], file: str = "shapes-lt") -> pd.DataFrame:
    """The rows that come with ltlab, from data/results: the runs of these recipes in a file, in the recipes' order.

    A recipe that was not measured is missing.

    Raises:
        FileNotFoundError: no such file comes with ltlab.
        ValueError: `recipes` is a single name.
    """
    if isinstance(recipes, str):
        raise ValueError(f"recipes={recipes!r} is a single name: pass a list of them, [{recipes!r}]")
    path = tables_folder("results") / f"{file}.csv"
    if not path.exists():
        raise FileNotFoundError(f"no results {file!r} come with ltlab: train with results.compare")
    names = [recipe if isinstance(recipe, str) else recipe.name for recipe in recipes]
    rows = read_rows(path)
    rows = rows.loc[rows["recipe"].isin(names)]
    order = rows["recipe"].map({name: place for place, name in enumerate(names)}).argsort(kind="stable")
    return rows.iloc[order].reset_index(drop=True)


def _check_file(path: Path, columns: list[str]) -> None:
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) or [""]
    theirs = lines[0].rstrip("\r\n").split(",")
    if theirs != columns:
        differing = ", ".join(sorted(set(theirs) ^ set(columns))) or "their order"
        raise ValueError(f"{path} has other columns than a row of this ltlab ({differing}): choose another place")
    if not lines[-1].endswith("\n"):
        raise ValueError(
            f"{path} is damaged, line {len(lines)} is cut off: remove the line, and its run will be trained again"
        )


def _processor() -> str:
    """The processor's name as the system tells it, with the number of cores this process may use."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
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
