"""A greedy search for a recipe: the best of each family of tricks first, then pairs, then more.

The search chooses by images that it holds out of the training set and evaluates on the test set once, at the end.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import chain, combinations, count
from pathlib import Path
from statistics import fmean, stdev
from time import monotonic
from typing import Any

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..counts import check_integer
from ..data import LongTailedData
from ..recipes import Plan, Recipe, Settings, settings_for
from .code import to_code
from .comparison import compare
from .held_out import hold_out
from .rows import fingerprint, read_rows, runs_in
from .tables import caption, formatted, mean_std, table
from .tricks import combined, trick_families

Tricks = dict[str, Recipe]  # family: the trick that is taken from it
ROUND = ["round", "candidate", "against", "error", "error_std", "gain", "gain_se", "taken", "note"]


def search(
    data_of_seed: Callable[[int], LongTailedData], seeds: int = 3, *,
    folder: str | os.PathLike, budget_minutes: float = 30.0, epochs: int | None = None, validation: float = 0.2,
    families: Mapping[str, Sequence[Recipe]] | None = None, settings: Settings | None = None,
    device: str | torch.device = "auto", precision: str = "auto", capture: bool = False, progress: bool = True,
) -> "Search":  # fmt: skip
    """Search for the recipe with the least balanced error on held-out training images, greedily, round by round.

        round 1     every trick of every family, against plain training; each family's best one is its winner
        round 2     pairs of winners, against the best winner
        round 3 ... the best so far with one more winner, against the best so far, until none is taken

    With e_s the balanced error of seed s, and d_s = e_s(against) - e_s(candidate), a candidate may be taken if

        mean(d) > SE(d) = std(d) / sqrt(S),   std with S - 1 below;   SE(d) = 0 for a single seed: any gain counts

    and of those that may, the one with the least mean error is taken (in round 1 one of every family), the first of
    equals. One standard error is a low bar for the best of many candidates: the gains of the rounds flatter what was
    taken. Only the test errors at the end, by which nothing was chosen, are to be believed.

    All candidates train for the same number of epochs. `hold_out` keeps a fraction of every class from training, with
    the run's seed. The criterion is the mean of the per-class errors, because what is held out is as long-tailed as
    the rest. Where it holds 1 to 3 images of a class, only several seeds even out that class's error. At the end
    baseline and winner train on all training images and are evaluated on the test set.

    All runs are those of `compare`, rows of folder/runs.csv, and the search follows from the rows alone: called again
    with the same arguments, it continues where its budget or you have stopped it.

    Args:
        data_of_seed: `lambda seed: load("shapes-lt", imbalance=100, seed=seed)`; both parts of the training sets are
            kept in memory.
        seeds: how many, at least 1.
        folder: of runs.csv and the checkpoints of unfinished runs.
        budget_minutes: of wall-clock time for this call, above 0, `math.inf` for no end. A run is not started when
            less is left than the slowest run of as many epochs in runs.csv took.
        epochs: of every candidate; None takes the settings'.
        validation: fraction of every class that is held out.
        families: name: recipes of one or two stages; None takes `trick_families()`. At most one family may bring
            recipes of several stages.
        settings: by which every candidate trains; None takes the data's. The recipe that is found leaves it open.
        device, precision, capture, progress: as for `compare`.

    A candidate that `combined` or `Recipe` refuses, or whose loss is no longer finite, is left out, and the rounds note
    the reason.

    Raises:
        TypeError: not `Settings`.
        ValueError: seeds below 1; a budget that is not above 0; what `hold_out` and `compare` refuse.
        FloatingPointError: the baseline's loss is no longer finite.
    """
    started = monotonic()
    seeds = check_integer("seeds", seeds, least=1)
    if not budget_minutes > 0:
        raise ValueError(f"budget_minutes={budget_minutes!r}: it must be above 0, math.inf for no end")
    if settings is not None and not isinstance(settings, Settings):
        raise TypeError(f"settings={settings!r}: pass Settings, such as ltlab.recipes.SETTINGS['shapes']")
    held = [hold_out(data_of_seed(seed), validation, seed) for seed in range(seeds)]
    options = {"device": device, "precision": precision, "capture": capture, "progress": progress}
    settings = settings or settings_for(held[0].name, held[0].side)
    deadline = started + 60 * budget_minutes
    epochs = settings.epochs if epochs is None else epochs
    runs = _Runs(held.__getitem__, seeds, Path(folder), epochs, settings, deadline, options)
    rounds = _Rounds(trick_families() if families is None else families, runs)
    test, next_run = None, ""
    try:
        rounds.play()
        on_all = replace(runs, data_of_seed=cache(data_of_seed))
        to_test = [Tricks(), rounds.best] if rounds.best else [Tricks()]
        test = pd.concat([on_all.rows(rounds.recipe(tricks)) for tricks in to_test], ignore_index=True)
    except _BudgetSpent as spent:
        next_run = str(spent)
    return Search(rounds.table(), rounds.recipe(rounds.best), test, next_run)


@dataclass(frozen=True)
class Search:
    """What a search has found so far.

    rounds: a row per candidate measured or refused, after plain training as round 0: round; candidate; against, what
    it is added to; error, the mean balanced error on the held-out images in percent, with error_std over seeds; gain,
    the mean of the paired differences, with its standard error gain_se; taken, NA while the round is not over;
    note, why it was left out.
    recipe: the best so far, whose stages' lengths resolve on any data. test: the rows of plain training and the recipe
    on the test set, None before the end. next: which run comes next, and why it was not started.
    """

    rounds: pd.DataFrame
    recipe: Recipe
    test: pd.DataFrame | None
    next: str

    @property
    def finished(self) -> bool:
        """Whether all rounds are over and the test set was evaluated."""
        return self.test is not None

    @property
    def code(self) -> str:
        """The recipe as Python code to paste, see `to_code`."""
        return to_code(self.recipe)

    def __str__(self) -> str:
        found = self.rounds
        one_seed = not found.empty and math.isnan(next(iter(found["error_std"])))
        bar = "0, as one seed has no standard error" if one_seed else "its standard error"
        columns = {
            "held-out error (%)": list(map(mean_std, found["error"], found["error_std"])),
            "gain (points)": list(map(mean_std, found["gain"], found["gain_se"])),
            "taken": ["open" if pd.isna(taken) else "yes" if taken else "" for taken in found["taken"]],
        }
        text = found[["round", "candidate", "against"]].assign(**columns).to_string(index=False)
        lines = [
            "nothing is measured yet" if found.empty else text,
            "held-out error: mean of the per-class errors ± standard deviation over seeds",
            "gain: mean of the paired differences ± its standard error",
            f"taken: the best of those whose gain is above {bar}; in round 1 the best of each family",
            *(f"left out: {row['candidate']}: {row['note']}" for row in found.to_dict("records") if row["note"]),
            "",
        ]
        if self.test is not None:
            test = table(self.test)
            lines += ["Trained on all training images, on the test set:", formatted(test).to_string(), caption(test)]
            return "\n".join([*lines, "", f"found: {self.recipe.name}"])
        return "\n".join([*lines, f"found so far: {self.recipe.name}", f"the budget is spent; next is {self.next}"])


class _BudgetSpent(Exception):
    """The next run cannot be expected to end in time; the message says which it is."""


@dataclass(frozen=True)
class _Runs:
    """Runs of recipes at equal epochs with the seeds 0 ... seeds - 1, one by one until a deadline."""

    data_of_seed: Callable[[int], LongTailedData]
    seeds: int
    folder: Path
    epochs: int
    settings: Settings
    deadline: float
    options: Mapping[str, Any]  # of `compare`

    def resolve(self, recipe: Recipe) -> Plan:
        return recipe.resolve(self.settings).with_epochs(self.epochs)

    def rows(self, recipe: Recipe) -> pd.DataFrame:
        """The recipe's rows, a row per seed; runs that are not there yet are trained.

        Raises:
            _BudgetSpent: a run would have to start that is not expected to end before the deadline.
        """
        plan, path = self.resolve(recipe), self.folder / "runs.csv"
        trained = partial(compare, [plan], self.data_of_seed, folder=self.folder, **self.options)
        for seed in range(self.seeds):
            if (plan.name, seed, fingerprint(plan, self.data_of_seed(seed))) in runs_in(path):
                continue
            rows, left = read_rows(path), self.deadline - monotonic()
            like_it = zip(rows["seconds"], rows["epochs"] == plan.epochs, strict=True)
            slowest = max((seconds for seconds, alike in like_it if alike), default=math.nan)
            if left <= 0 or left < slowest:
                needs = "" if math.isnan(slowest) else f"; the slowest run so far took {slowest:.0f} s"
                raise _BudgetSpent(f"{plan.name} with seed {seed}{needs}")
            trained(seed + 1)  # the seeds before are there
        return trained(self.seeds)


@dataclass(eq=False)
class _Candidate:
    """A line of the rounds' table, and the tricks."""

    round: int
    candidate: str
    against: str
    tricks: Tricks
    note: str = ""
    error: float = math.nan
    error_std: float = math.nan
    gain: float = math.nan
    gain_se: float = math.nan
    taken: bool | None = None

    def measure(self, errors: list[float], reference: list[float]) -> None:
        """Fill in the line from the errors by seed, in percent, and from those of what it is added to."""
        self.error, self.error_std = _mean_and_std(errors)
        self.gain, spread = _mean_and_std([r - e for r, e in zip(reference, errors, strict=True)])
        self.gain_se = spread / math.sqrt(len(errors))

    def is_better(self) -> bool:
        """mean(d) > SE(d), 0 for a single seed; rounded, so that no tie falls to the last bit of a float."""
        return round(self.gain - (0 if math.isnan(self.gain_se) else self.gain_se), 6) > 0


def _mean_and_std(values: list[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else math.nan


def _least(candidates: Iterable[_Candidate]) -> _Candidate:
    """The candidate with the least error, the first of equals; rounded as in `_Candidate.is_better`."""
    return min(candidates, key=lambda candidate: round(candidate.error, 6))


class _Rounds:
    """The greedy choice: `best` holds the tricks taken so far, `candidates` all that were measured or refused."""

    def __init__(self, families: Mapping[str, Sequence[Recipe]], runs: _Runs) -> None:
        self.families, self.runs = families, runs
        self.best: Tricks = {}
        self.candidates: list[_Candidate] = []

    def play(self) -> None:
        """All rounds, until none is better; raises what `_Runs.rows` does, and what was taken so far stays."""
        winners = self.play_round(
            1, [[{family: trick} for trick in tricks] for family, tricks in self.families.items()]
        )
        added = [one | other for one, other in combinations(winners, 2)]
        for number in count(2):
            if not added or not self.play_round(number, [added]):
                return
            added = [self.best | winner for winner in winners if not winner.keys() <= self.best.keys()]

    def play_round(self, number: int, groups: Iterable[Iterable[Tricks]]) -> list[Tricks]:
        """Measure the candidates and return the best of each group that has one better than the best so far."""
        against = self.name(self.best)
        candidates = [
            [_Candidate(number, self.name(tricks), against, tricks, self.refusal(tricks)) for tricks in group]
            for group in groups
        ]
        everyone, reference = list(chain.from_iterable(candidates)), self.errors(self.best)
        if number == 1:
            error, spread = _mean_and_std(reference)
            self.candidates.append(_Candidate(0, against, "", {}, error=error, error_std=spread, taken=True))
        for candidate in tqdm(everyone, desc=f"round {number}", unit="candidate", leave=False,
                              disable=not self.runs.options["progress"]):  # fmt: skip
            if not candidate.note:
                try:
                    candidate.measure(self.errors(candidate.tricks), reference)
                except FloatingPointError as error:
                    candidate.note = str(error)
            self.candidates.append(candidate)
        better = [[candidate for candidate in group if candidate.is_better()] for group in candidates]
        winners = [_least(group) for group in better if group]
        for candidate in everyone:
            candidate.taken = candidate in winners
        if winners:
            self.best = _least(winners).tricks
        return [candidate.tricks for candidate in winners]

    def errors(self, tricks: Tricks) -> list[float]:
        """The balanced error of every seed, in percent."""
        return [round(100 * error, 3) for error in self.runs.rows(self.recipe(tricks))["balanced_error"]]

    def recipe(self, tricks: Tricks) -> Recipe:
        return combined(*(tricks[family] for family in self.families if family in tricks))

    def name(self, tricks: Tricks) -> str:
        return "+".join(tricks[family].name for family in self.families if family in tricks) or "ce"

    def refusal(self, tricks: Tricks) -> str:
        """Why these tricks do not go together, "" if they do."""
        try:
            recipe = self.recipe(tricks)
        except ValueError as error:
            return str(error)
        self.runs.resolve(recipe)  # too few epochs are the caller's mistake, named before anything is trained
        return ""

    def table(self) -> pd.DataFrame:
        return pd.DataFrame([vars(each) for each in self.candidates], columns=ROUND).astype({"taken": "boolean"})
