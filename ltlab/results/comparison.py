"""Recipes times seeds: every run is trained once, its row kept, and an interrupted comparison goes on."""

import glob
import os
import pickle
import re
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Self

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..counts import check_whole_number
from ..data import LongTailedData
from ..recipes import Recipe, protocol_for
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

    The seed draws the data and the training. Each finished run is a row of folder/runs.csv at once; a run whose row
    is there is not trained again, and an unfinished one goes on from its checkpoint in `folder`. A row counts as the
    run's as long as recipe, protocol, epochs, images and seed are the same. Device and precision do not matter for
    that, so that rows from another machine can be used: compare precisions in folders of their own.

    Args:
        recipes: recipes or names of recipes, each name once.
        data_of_seed: `lambda seed: load("shapes-lt", imbalance=100, seed=seed)`.
        seeds: how many, at least 1; the standard deviation needs 2, a fair comparison 3 or more.
        folder: of runs.csv and the checkpoints of unfinished runs.
        epochs: shortens or stretches every recipe to this many; None keeps each recipe's own.
        device, precision, capture: as for `fit`.
        processes: how many runs go side by side, each in a process with its share of the CPU's threads. Small nets
            gain: two processes of one thread do more than one of two. `data_of_seed` and the recipes must then be
            such as can be pickled, which a lambda cannot, and a script must call `compare` under
            `if __name__ == "__main__":`.
        progress: show a bar of the runs and, with one process, one of the current run's epochs.

    The test set is looked at once, after a run's last epoch.

    Raises:
        ValueError: no recipe, an unknown one, or one name twice; `seeds` or `processes` below 1; a `data_of_seed`
            or a recipe that cannot be pickled, with several processes; an unknown device or precision; fewer epochs
            than a recipe has stages; a runs.csv with other columns, or damaged; a checkpoint that is damaged or of
            another device or precision.
        FloatingPointError: a run's training loss is no longer finite; recipe and seed are named.
        ChildProcessError: one of several processes could not start, or died.
    """
    seeds = check_whole_number("seeds", seeds, least=1)
    processes = check_whole_number("processes", processes, least=1)
    recipes = [recipe_named(recipe) if isinstance(recipe, str) else recipe for recipe in recipes]
    names = [recipe.name for recipe in recipes]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"recipes={names}: give at least one recipe, and each a name of its own")
    device, folder = find_device(device), Path(folder)
    path = folder / "runs.csv"
    done = runs_in(path)
    train = partial(measure, device=device, precision=precision, capture=capture, progress=progress and processes == 1)
    asked, running = [], {}
    with (
        _Workers(processes, data_of_seed, recipes) as workers,
        tqdm(total=len(recipes) * seeds, desc="compare", unit="run", disable=not progress, leave=False) as bar,
    ):
        for seed in range(seeds):
            data = data_of_seed(seed)
            for recipe in [_resolve(recipe, data, epochs) for recipe in recipes]:
                run = (recipe.name, seed, fingerprint(recipe, data))
                checkpoint = checkpoint_in(folder, *run)
                asked.append(run)
                if run in done:
                    clear(checkpoint)
                    bar.update()
                elif processes > 1:
                    running[workers.submit(train, recipe, seed, checkpoint)] = checkpoint
                else:
                    append_row(path, train(recipe, data, seed, checkpoint))
                    clear(checkpoint)
                    bar.update()
        for finished in as_completed(running):
            append_row(path, finished.result())
            clear(running[finished])
            bar.update()
    rows = read_rows(path).drop_duplicates(RUN)
    return pd.DataFrame(asked, columns=RUN).merge(rows, on=RUN)[rows.columns]


def _resolve(recipe: Recipe, data: LongTailedData, epochs: int | None) -> Recipe:
    recipe = recipe.resolve(protocol_for(data.name, data.side))
    return recipe if epochs is None else recipe.with_epochs(epochs)


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
    recipe: Recipe, data: LongTailedData, seed: int, checkpoint: Path, *, device: torch.device | str = "auto",
    precision: str = "auto", capture: bool = False, progress: bool = True, start_from: Path | None = None,
) -> dict[str, object]:  # fmt: skip
    """The row of one run, which starts, or goes on from its checkpoint; the test set is looked at once, at its end.

    With `start_from`, see `fit`, it starts where a finished run of its first stages has ended; the row is the same.

    Raises:
        ValueError: as `fit`.
        FloatingPointError: the training loss is no longer finite; recipe and seed are named.
    """
    asked = fingerprint(recipe, data)  # before anything of yours has been called, which may change what it holds
    try:
        result = fit(recipe, data, seed=seed, device=device, precision=precision, capture=capture, progress=progress,
                     checkpoint=checkpoint, resume=checkpoint.exists(), start_from=start_from,
                     evaluate_every=recipe.epochs)  # fmt: skip
    except FloatingPointError as error:
        raise FloatingPointError(f"recipe {recipe.name!r}, seed {seed}: {error}") from error
    return result_row(result, data, seed) | {"fingerprint": asked}


class _Workers:
    """Processes that train runs; none for one process, which trains in this one."""

    def __init__(
        self, processes: int, data_of_seed: Callable[[int], LongTailedData], recipes: Iterable[Recipe]
    ) -> None:
        self.processes, self.pool = processes, None
        if processes > 1:
            for what, value in [("a data_of_seed", data_of_seed), *(("recipes", recipe) for recipe in recipes)]:
                _check_pickle(f"processes={processes} needs {what}", value)
            threads = max(1, (os.cpu_count() or 1) // processes)
            self.pool = ProcessPoolExecutor(
                processes, mp_context=get_context("spawn"), initializer=_begin_worker, initargs=(data_of_seed, threads)
            )

    def submit(self, train: Callable, recipe: Recipe, seed: int, checkpoint: Path) -> Future:
        return self.pool.submit(_train_in_worker, train, recipe, seed, checkpoint)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)  # runs that have begun end, and leave their checkpoint
        if isinstance(error, BrokenProcessPool):
            raise ChildProcessError(
                f"processes={self.processes}: one of them could not start, or died. A script must call compare under "
                'if __name__ == "__main__":, and what data_of_seed and the recipes are made of must come from a '
                "module, not from a notebook's cell; if memory ran out, take fewer processes"
            ) from error


def _check_pickle(needs: str, value: object) -> None:
    try:
        pickle.dumps(value)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise ValueError(
            f"{needs} that can be pickled, {getattr(value, 'name', value)!r} cannot ({error}): define its functions at "
            "the top of a module"
        ) from error


_data_of_seed: Callable[[int], LongTailedData]  # in a worker: with the last seed's data kept


def _begin_worker(data_of_seed: Callable[[int], LongTailedData], threads: int) -> None:
    global _data_of_seed
    _data_of_seed = lru_cache(maxsize=1)(data_of_seed)
    torch.set_num_threads(threads)


def _train_in_worker(train: Callable, recipe: Recipe, seed: int, checkpoint: Path) -> dict[str, object]:
    return train(recipe, _data_of_seed(seed), seed, checkpoint)
