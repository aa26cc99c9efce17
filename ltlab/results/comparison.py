"""Recipes times seeds: every run is trained once, its row kept, and an interrupted comparison continues."""

import glob
import os
import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from ..counts import check_integer
from ..data import LongTailedData
from ..progress import in_notebook, progress_bar
from ..recipes import Plan, Recipe, settings_for
from ..recipes import get as recipe_named
from ..train import find_device, fit
from ..train.checkpoint import history_of
from .rows import RUN, append_row, fingerprint, read_rows, result_row, runs_in


def compare(
    recipes: Iterable[Recipe | str], data_of_seed: Callable[[int], LongTailedData], seeds: int = 3, *,
    folder: str | os.PathLike, epochs: int | None = None, device: str | torch.device = "auto",
    precision: str = "auto", capture: bool = False, processes: int = 1, progress: bool = True,
) -> pd.DataFrame:  # fmt: skip
    """Train every recipe with the seeds 0 ... seeds - 1 and return one row per run, see `result_row`.

    The seed draws the data and the training. A finished run is a row of folder/runs.csv and is not trained again; an
    unfinished one continues from its checkpoint. A row is a run's if recipe, settings, epochs, images and seed are the
    same. Device and precision do not count, so that rows from another machine can be used: compare precisions in
    separate folders. The test set is evaluated once, after a run's last epoch.

    Args:
        recipes: recipes or names of recipes, each name once.
        data_of_seed: `lambda seed: load("shapes-lt", imbalance=100, seed=seed)`.
        seeds: how many, at least 1; the standard deviation needs 2, a fair comparison 3 or more.
        folder: of runs.csv and the checkpoints of unfinished runs.
        epochs: shortens or stretches every recipe to this many; None keeps each recipe's own.
        device, precision, capture: as for `fit`.
        processes: how many runs train side by side, each in a process with its fraction of the CPU's threads. Small
            nets gain. The data of all seeds are then in memory; lambdas and functions of a notebook are copied too.
        progress: in a terminal or a notebook, show a bar of the runs, and in a terminal of one run's epochs.

    Raises:
        ValueError: no recipe, an unknown one, or one name twice; `seeds` or `processes` below 1; fewer epochs than a
            recipe has stages; a runs.csv with other columns, or damaged; what `fit` refuses.
        FloatingPointError: a run's training loss is no longer finite; recipe and seed are named.
        ChildProcessError: one of several processes died.
    """
    seeds = check_integer("seeds", seeds, least=1)
    processes = check_integer("processes", processes, least=1)
    recipes = [recipe_named(recipe) if isinstance(recipe, str) else recipe for recipe in recipes]
    names = [recipe.name for recipe in recipes]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"recipes={names}: give at least one recipe, and each a different name")
    device, folder = find_device(device), Path(folder).resolve()  # as other processes find it
    path = folder / "runs.csv"
    done = runs_in(path)
    epochs_shown = progress and processes == 1 and not in_notebook()  # where a cell has one line of progress
    train = partial(measure, device=device, precision=precision, capture=capture, progress=epochs_shown)
    asked: dict[tuple[str, int], tuple[str, int, str]] = {}  # recipe and seed: with the fingerprint
    with progress_bar(shown=progress, total=len(recipes) * seeds, desc="compare", unit="run") as bar:

        def missing() -> Iterator[tuple[Plan, LongTailedData, int, Path]]:
            """What `measure` takes, for every run without a row."""
            for seed in range(seeds):
                data = data_of_seed(seed)
                for recipe in [_resolve(recipe, data, epochs) for recipe in recipes]:
                    run = (recipe.name, seed, fingerprint(recipe, data))
                    asked[recipe.name, seed] = run
                    if run not in done:
                        yield recipe.as_told() if processes > 1 else recipe, data, seed, checkpoint_in(folder, *run)
                    else:
                        clear(checkpoint_in(folder, *run))
                        bar.update()

        for row in side_by_side(train, list(missing()), processes) if processes > 1 else starmap(train, missing()):
            run = asked[row["recipe"], row["seed"]]
            row |= zip(RUN, run, strict=True)
            append_row(path, row)
            clear(checkpoint_in(folder, *run))
            bar.update()
    rows = read_rows(path).drop_duplicates(RUN)
    return pd.DataFrame(asked.values(), columns=RUN).merge(rows, on=RUN).reindex(columns=rows.columns)


def side_by_side(function: Callable, calls: Iterable[tuple], processes: int) -> Iterator[Any]:
    """The results of calls in so many processes, the first that is ready first; each has its fraction of the threads.

    Raises:
        ChildProcessError: a process died.
    """
    from joblib import Parallel, delayed, parallel_config

    threads = max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // processes))
    try:
        with parallel_config("loky", n_jobs=processes, inner_max_num_threads=threads, idle_worker_timeout=10):
            results = Parallel(return_as="generator_unordered")(delayed(function)(*call) for call in calls)
        yield from results
    except BrokenProcessPool as error:
        raise ChildProcessError(f"processes={processes}: one of them died, fewer need less memory. {error}") from error


def _resolve(recipe: Recipe, data: LongTailedData, epochs: int | None) -> Plan:
    plan = recipe.resolve(settings_for(data.name, data.side, len(data.train)))
    return plan if epochs is None else plan.with_epochs(epochs)


def checkpoint_in(folder: Path, recipe: str, seed: int, fingerprint: str) -> Path:
    """Where a run is kept."""
    return folder / f"{file_name(recipe)}-seed{seed}-{fingerprint}.pt"


def file_name(recipe: str) -> str:
    """A recipe's name without what Linux, macOS or Windows keep out of a file's."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]', "_", recipe)


def clear(checkpoint: Path) -> None:
    """Remove the checkpoint of a run whose row is written, its history, and its masks on disk."""
    masks = checkpoint.parent.glob(f"{glob.escape(checkpoint.stem)}-masks-*.npy*")
    for file in (checkpoint, history_of(checkpoint), *masks):
        file.unlink(missing_ok=True)


def measure(
    recipe: Plan, data: LongTailedData, seed: int, checkpoint: Path, *, device: torch.device | str = "auto",
    precision: str = "auto", capture: bool = False, progress: bool = True, start_from: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The row of one run, which starts or continues from its checkpoint; the test set is evaluated once, at its end.

    With `start_from`, see `fit`, it starts where a finished run of its first stages has ended; the row is the same.

    Raises:
        ValueError: as `fit`.
        FloatingPointError: the training loss is no longer finite; recipe and seed are named.
        BlockingIOError, FileExistsError: another comparison trains this run in the same folder.
    """
    asked = fingerprint(recipe, data)  # before a custom object is called, which may change what it holds
    try:
        result = fit(recipe, data, seed=seed, device=device, precision=precision, capture=capture, progress=progress,
                     checkpoint=checkpoint, resume=checkpoint.exists(), start_from=start_from,
                     evaluate_every=recipe.epochs)  # fmt: skip
    except FloatingPointError as error:
        raise FloatingPointError(f"recipe {recipe.name!r}, seed {seed}: {error}") from error
    except (BlockingIOError, FileExistsError) as error:
        raise type(error)(
            f"the folder {checkpoint.parent} is in use: {checkpoint.name} of recipe {recipe.name!r}, seed {seed}, is "
            "being trained; call again when that has ended, or name another folder"
        ) from error
    return result_row(result, data, seed) | {"fingerprint": asked}
