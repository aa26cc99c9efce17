"""Recipes times seeds: every run is trained once, its row kept, and an interrupted comparison goes on."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..data import LongTailedData
from ..data.counts import check_whole_number
from ..recipes import Recipe, protocol_for
from ..recipes import get as recipe_named
from ..train import find_device, fit
from .rows import append_row, fingerprint, read_rows, result_row

RUN = ["recipe", "seed", "fingerprint"]  # the columns that tell a run from every other


def compare(
    recipes: Iterable[Recipe | str], data_of_seed: Callable[[int], LongTailedData], seeds: int = 3, *,
    folder: str | os.PathLike, epochs: int | None = None, device: str | torch.device = "auto",
    precision: str = "auto", progress: bool = True,
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
        device, precision: as for `fit`.
        progress: show a bar of the runs and one of the current run's epochs.

    The test set is looked at once, after a run's last epoch.

    Raises:
        ValueError: no recipe, an unknown one, or one name twice; `seeds` below 1; an unknown device or precision;
            fewer epochs than a recipe has stages; a runs.csv with other columns; a checkpoint that is damaged or of
            another device or precision.
        FloatingPointError: a run's training loss is no longer finite; recipe and seed are named.
    """
    check_whole_number("seeds", seeds, least=1)
    recipes = [recipe_named(recipe) if isinstance(recipe, str) else recipe for recipe in recipes]
    names = [recipe.name for recipe in recipes]
    if not names or len(set(names)) < len(names):
        raise ValueError(f"recipes={names}: give at least one recipe, and each a name of its own")
    device, folder = find_device(device), Path(folder)
    path = folder / "runs.csv"
    done = set(read_rows(path)[RUN].itertuples(index=False, name=None))
    asked = []
    with tqdm(total=len(recipes) * seeds, desc="compare", unit="run", disable=not progress, leave=False) as bar:
        for seed in range(seeds):
            data = data_of_seed(seed)
            for recipe in [_resolve(recipe, data, epochs) for recipe in recipes]:
                run = (recipe.name, seed, fingerprint(recipe, data))
                checkpoint = folder / f"{recipe.name}-seed{seed}-{run[-1]}.pt"
                if run not in done:
                    append_row(path, _train(recipe, data, seed, checkpoint, device, precision, progress))
                for file in (checkpoint, checkpoint.with_suffix(".csv")):
                    file.unlink(missing_ok=True)
                asked.append(run)
                bar.update()
    rows = read_rows(path).drop_duplicates(RUN)
    return pd.DataFrame(asked, columns=RUN).merge(rows, on=RUN)[rows.columns]


def _resolve(recipe: Recipe, data: LongTailedData, epochs: int | None) -> Recipe:
    recipe = recipe.resolve(protocol_for(data.name))
    return recipe if epochs is None else recipe.with_epochs(epochs)


def _train(
    recipe: Recipe,
    data: LongTailedData,
    seed: int,
    checkpoint: Path,
    device: torch.device,
    precision: str,
    progress: bool,
) -> dict[str, object]:
    """The row of a run that starts, or goes on from its checkpoint."""
    try:
        result = fit(recipe, data, seed=seed, device=device, precision=precision, progress=progress,
                     checkpoint=checkpoint, resume=checkpoint.exists(), evaluate_every=recipe.epochs)  # fmt: skip
    except FloatingPointError as error:
        raise FloatingPointError(f"recipe {recipe.name!r}, seed {seed}: {error}") from error
    return result_row(result, data, seed)
