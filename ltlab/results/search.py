"""A greedy search for a recipe of one's own: the best of each family of tricks first, then pairs, then more.

The search chooses by images that it holds out of the training set; the test set is looked at once, at the end.
"""

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import combinations, count
from pathlib import Path
from time import monotonic

import pandas as pd
import torch
from tqdm.auto import tqdm

from ..counts import check_whole_number
from ..data import LongTailedData
from ..recipes import Protocol, Recipe, protocol_for
from .code import to_code
from .comparison import compare
from .held_out import hold_out
from .rows import fingerprint, read_rows, runs_in
from .tables import caption, formatted, mean_std, table
from .tricks import combined, trick_families

Tricks = dict[str, Recipe]  # family: the trick that is taken from it
COLUMNS = ["round", "candidate", "against", "error", "error_std", "gain", "gain_se", "taken", "note"]


def search(
    data_of_seed: Callable[[int], LongTailedData], seeds: int = 3, *,
    folder: str | os.PathLike, budget_minutes: float = 30.0, epochs: int | None = None, validation: float = 0.2,
    families: Mapping[str, Sequence[Recipe]] | None = None, protocol: Protocol | None = None,
    device: str | torch.device = "auto", precision: str = "auto", capture: bool = False, progress: bool = True,
) -> "Search":  # fmt: skip
    """Search for the recipe with the least balanced error on held-out training images, greedily, round by round.

        round 1     every trick of every family, against plain training; each family's best one is its winner
        round 2     pairs of winners, against the best winner
        round 3 ... the best so far with one more winner, against the best so far, until none is taken

    With e_s the balanced error of seed s, and d_s = e_s(against) - e_s(candidate), a candidate may be taken if

        mean(d) > SE(d) = std(d) / sqrt(S),   std with S - 1 below;   SE(d) = 0 for a single seed: any gain counts

    and of those that may, the one with the least mean error is taken (in round 1 one of every family), the first of
    equals. One standard error is a low bar for the best of many candidates: the gains in the rounds flatter what
    was taken, and only the test errors at the end, in which nothing was chosen, are to be believed.

    All candidates train for the same number of epochs. `hold_out` keeps a share of every class from training, with
    the run's seed; the criterion is the mean of the per-class errors on it, because what is held out is as
    long-tailed as the rest. Where it holds 1 to 3 images of a class, that class's error is all but a coin toss, and
    only seeds, which hold out other images, even it out. At the end baseline and winner train on all training images
    and meet the test set, which has had no part in the choice.

    All runs are those of `compare`, rows of folder/runs.csv, and the search follows from the rows alone: stopped
    by its budget or by hand, it goes on from there when it is called again with the same arguments.

    Args:
        data_of_seed: `lambda seed: load("shapes-lt", imbalance=100, seed=seed)`; both parts of the training sets are
            kept in memory.
        seeds: how many, at least 1.
        folder: of runs.csv and the checkpoints of unfinished runs.
        budget_minutes: of wall-clock time for this call, above 0, `math.inf` for no end. A run is not started when
            less is left than the slowest run of as many epochs in runs.csv took.
        epochs: of every candidate; None takes the protocol's.
        validation: share of every class that is held out.
        families: name: recipes of one or two stages; None takes `trick_families()`. At most one family may bring
            recipes of several stages.
        protocol: by which every candidate trains; None takes the data's. The recipe that is found leaves it open.
        device, precision, capture, progress: as for `compare`.

    A candidate that `combined` or `Recipe` refuses, such as one with a protocol of its own, or whose loss is no longer
    finite, is left out, and the rounds note the reason.

    Raises:
        TypeError: something else than a Protocol.
        ValueError: seeds below 1; a budget that is not above 0; what `hold_out` and `compare` refuse.
        FloatingPointError: the baseline's loss is no longer finite.
    """
    started = monotonic()
    seeds = check_whole_number("seeds", seeds, least=1)
    if not budget_minutes > 0:
        raise ValueError(f"budget_minutes={budget_minutes!r}: it must be above 0, math.inf for no end")
    if protocol is not None and not isinstance(protocol, Protocol):
        raise TypeError(f"protocol={protocol!r}: pass a Protocol, such as ltlab.recipes.PROTOCOLS['shapes']")
    held = [hold_out(data_of_seed(seed), validation, seed) for seed in range(seeds)]
    options = {"device": device, "precision": precision, "capture": capture, "progress": progress}
    runs = _Runs(held.__getitem__, seeds, Path(folder), epochs, protocol, started + 60 * budget_minutes, options)
    rounds = _Rounds(trick_families() if families is None else families, runs)
    test, next_run = None, ""
    try:
        rounds.play()
        on_all = replace(runs, data_of_seed=cache(data_of_seed))
        to_test = [{}, rounds.best] if rounds.best else [{}]
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
    recipe: the best so far, with shares of epochs, which resolve on any data. test: the rows of plain training and
    the recipe on the test set, None before the end. next: which run comes next, and why it was not started.
    """

    rounds: pd.DataFrame
    recipe: Recipe
    test: pd.DataFrame | None
    next: str

    @property
    def finished(self) -> bool:
        """Whether all rounds are over and the test set has been looked at."""
        return self.test is not None

    @property
    def code(self) -> str:
        """The recipe as Python code to paste, see `to_code`."""
        return to_code(self.recipe)

    def __str__(self) -> str:
        one_seed = not self.rounds.empty and math.isnan(self.rounds["error_std"][0])
        bar = "0, as one seed has no standard error" if one_seed else "its standard error"
        lines = [
            self._rounds_as_text().to_string(index=False) if len(self.rounds) else "nothing is measured yet",
            "held-out error: mean of the per-class errors ± standard deviation over seeds",
            "gain: mean of the paired differences ± its standard error",
            f"taken: the best of those whose gain is above {bar}; in round 1 the best of each family",
            *(f"left out: {row.candidate}: {row.note}" for row in self.rounds.itertuples() if row.note),
            "",
        ]
        if self.finished:
            test = table(self.test)
            lines += ["Trained on all training images, on the test set:", formatted(test).to_string(), caption(test)]
            lines += ["", f"found: {self.recipe.name}"]
        else:
            lines += [f"found so far: {self.recipe.name}", f"the budget is spent; next is {self.next}"]
        return "\n".join(lines)

    def _rounds_as_text(self) -> pd.DataFrame:
        figures = self.rounds
        return figures[["round", "candidate", "against"]].assign(**{
            "held-out error (%)": list(map(mean_std, figures["error"], figures["error_std"])),
            "gain (points)": list(map(mean_std, figures["gain"], figures["gain_se"])),
            "taken": ["open" if pd.isna(taken) else "yes" if taken else "" for taken in figures["taken"]],
        })  # fmt: skip


# --- the runs --------------------------------------------------------------------------------------------------------


class _BudgetSpent(Exception):
    """The next run cannot be expected to end in time; the message says which it is."""


@dataclass(frozen=True)
class _Runs:
    """Runs of recipes at equal epochs with the seeds 0 ... seeds - 1, one by one until a deadline."""

    data_of_seed: Callable[[int], LongTailedData]
    seeds: int
    folder: Path
    epochs: int | None
    protocol: Protocol | None
    deadline: float
    options: Mapping[str, object]  # of `compare`

    def resolve(self, recipe: Recipe) -> Recipe:
        data = self.data_of_seed(0)
        protocol = self.protocol or protocol_for(data.name, data.side)
        recipe, epochs = recipe.resolve(protocol), protocol.epochs if self.epochs is None else self.epochs
        return recipe if recipe.epochs == epochs else recipe.with_epochs(epochs)

    def rows(self, recipe: Recipe) -> pd.DataFrame:
        """The recipe's rows, a row per seed; runs that are not there yet are trained.

        Raises:
            _BudgetSpent: a run would have to start that is not expected to end before the deadline.
        """
        recipe = self.resolve(recipe)
        trained = partial(compare, [recipe], self.data_of_seed, folder=self.folder, **self.options)
        for seed in range(self.seeds):
            if self.is_missing(recipe, seed):
                self.check_budget(recipe, seed)
                trained(seed + 1)  # the seeds before are there
        return trained(self.seeds)

    def is_missing(self, recipe: Recipe, seed: int) -> bool:
        return (recipe.name, seed, fingerprint(recipe, self.data_of_seed(seed))) not in runs_in(self.path)

    def check_budget(self, recipe: Recipe, seed: int) -> None:
        rows, left = read_rows(self.path), self.deadline - monotonic()
        slowest = rows["seconds"][rows["epochs"] == recipe.epochs].max()  # NaN where there is none yet
        if left <= 0 or left < slowest:
            needs = "" if math.isnan(slowest) else f"; the slowest run so far took {slowest:.0f} s"
            raise _BudgetSpent(f"{recipe.name} with seed {seed}{needs}")

    @property
    def path(self) -> Path:
        return self.folder / "runs.csv"


# --- the rounds ------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class _Candidate:
    """A line of the rounds' table, with the group in which one is taken, and the tricks."""

    round: int
    candidate: str
    against: str
    group: str
    tricks: Tricks
    note: str = ""
    error: float = math.nan
    error_std: float = math.nan
    gain: float = math.nan
    gain_se: float = math.nan
    taken: bool | None = None

    def measure(self, errors: pd.Series, reference: pd.Series) -> None:
        """Fill in the figures from the errors by seed, in percent, and from those of what it is added to."""
        gains = reference - errors
        self.error, self.error_std = errors.mean(), errors.std(ddof=1)
        self.gain, self.gain_se = gains.mean(), gains.sem()

    def is_better(self) -> bool:
        """mean(d) > SE(d), 0 for a single seed; rounded, so that no tie falls to the last bit of a float."""
        return round(self.gain - (0 if math.isnan(self.gain_se) else self.gain_se), 6) > 0


class _Rounds:
    """The greedy choice: `best` holds the tricks taken so far, `candidates` all that were measured or refused."""

    def __init__(self, families: Mapping[str, Sequence[Recipe]], runs: _Runs) -> None:
        self.families, self.runs = families, runs
        self.best: Tricks = {}
        self.candidates: list[_Candidate] = []

    def play(self) -> None:
        """All rounds, until none is better.

        Raises:
            _BudgetSpent: as `_Runs.rows`; what was taken and measured so far stays.
        """
        singles = {family: [{family: trick} for trick in tricks] for family, tricks in self.families.items()}
        winners = self.play_round(1, singles)
        added = [one | other for one, other in combinations(winners, 2)]
        for number in count(2):
            if not added or not self.play_round(number, {"": added}):
                return
            added = [self.best | winner for winner in winners if not winner.keys() <= self.best.keys()]

    def play_round(self, number: int, groups: Mapping[str, list[Tricks]]) -> list[Tricks]:
        """Measure the candidates and return the best of each group that has one better than the best so far."""
        against = self.recipe(self.best)
        candidates = [
            _Candidate(number, self.name(tricks), against.name, group, tricks, note=self.refusal(tricks))
            for group, members in groups.items()
            for tricks in members
        ]
        reference = self.errors(against)
        if number == 1:
            error, spread = reference.mean(), reference.std(ddof=1)
            self.candidates = [_Candidate(0, against.name, "", "", {}, error=error, error_std=spread, taken=True)]
        for candidate in tqdm(candidates, desc=f"round {number}", unit="candidate", leave=False,
                              disable=not self.runs.options["progress"]):  # fmt: skip
            if not candidate.note:
                try:
                    candidate.measure(self.errors(self.recipe(candidate.tricks)), reference)
                except FloatingPointError as error:
                    candidate.note = str(error)
            self.candidates.append(candidate)
        taken = []
        for group in groups:
            better = [candidate for candidate in candidates if candidate.group == group and candidate.is_better()]
            taken += sorted(better, key=_rounded_error)[:1]
        for candidate in candidates:
            candidate.taken = candidate in taken
        if taken:
            self.best = min(taken, key=_rounded_error).tricks
        return [candidate.tricks for candidate in taken]

    def errors(self, recipe: Recipe) -> pd.Series:
        """The balanced error of every seed, in percent."""
        return (100 * self.runs.rows(recipe).set_index("seed")["balanced_error"]).round(3)

    def members(self, tricks: Tricks) -> list[Recipe]:
        return [tricks[family] for family in self.families if family in tricks]

    def name(self, tricks: Tricks) -> str:
        return "+".join(trick.name for trick in self.members(tricks))

    def recipe(self, tricks: Tricks) -> Recipe:
        return combined(*self.members(tricks))

    def refusal(self, tricks: Tricks) -> str:
        """Why these tricks do not go together, "" if they do."""
        try:
            recipe = self.recipe(tricks)
        except ValueError as error:
            return str(error)
        self.runs.resolve(recipe)  # too few epochs are the caller's mistake, named before anything is trained
        return ""

    def table(self) -> pd.DataFrame:
        lines = [{name: getattr(candidate, name) for name in COLUMNS} for candidate in self.candidates]
        return pd.DataFrame(lines, columns=COLUMNS).astype({"taken": "boolean"})


def _rounded_error(candidate: _Candidate) -> float:
    return round(candidate.error, 6)
