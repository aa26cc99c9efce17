"""A greedy search for a recipe: the best of each family of tricks first, then pairs, then more.

The search chooses by images that it holds out of the training set and evaluates on the test set once, at the end.
"""

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count
from pathlib import Path
from statistics import fmean, stdev
from time import monotonic
from typing import Any

import pandas as pd
import torch

from ..counts import check_integer
from ..data import LongTailedData
from ..recipes import Plan, Recipe, Settings, settings_for
from .comparison import compare
from .held_out import hold_out
from .rows import fingerprint, read_rows, runs_in
from .tables import caption, formatted, mean_std, table
from .tricks import combined, trick_families

Tricks = dict[str, Recipe]  # family: the trick that is taken from it
Line = dict[str, Any]  # of the rounds' table, and the tricks
DataOfSeed = Callable[[int], LongTailedData]
ROUND = ["round", "candidate", "against", "error", "error_std", "gain", "gain_se", "taken", "note"]


def search(
    data_of_seed: DataOfSeed, seeds: int = 3, *, folder: str | os.PathLike, budget_minutes: float = 30.0,
    epochs: int | None = None, validation: float = 0.2, families: Mapping[str, Sequence[Recipe]] | None = None,
    settings: Settings | None = None, device: str | torch.device = "auto", precision: str = "auto",
    capture: bool = False, progress: bool = True,
) -> "Search":  # fmt: skip
    """Search for the recipe with the least balanced error on held-out training images, greedily, round by round.

        round 1     every trick of every family, against plain training; each family's best one is its winner
        round 2     pairs of winners, against the best winner
        round 3 ... the best so far with one more winner, against the best so far, until none is taken

    With e_s the balanced error of seed s, and d_s = e_s(against) - e_s(candidate), a candidate may be taken if

        mean(d) > SE(d) = std(d) / sqrt(S),   std with S - 1 below;   SE(d) = 0 for a single seed: any gain counts

    and of those that may, the one with the least mean error is taken (in round 1 one of every family), the first of
    equals. One standard error is a low bar for the best of many candidates, so the gains of the rounds flatter what
    was taken: believe only the test errors at the end, when baseline and winner train on all training images.

    All runs are those of `compare`, rows of folder/runs.csv, and the search follows from the rows alone: called again
    with the same arguments, it continues where its budget or you have stopped it. A candidate that `combined` or
    `Recipe` refuses, or whose loss is no longer finite, is left out, and the rounds note the reason.

    Args:
        data_of_seed, seeds, folder, device, precision, capture: as for `compare`.
        budget_minutes: of wall-clock time for this call, above 0, `math.inf` for no end. A run is not started when
            less is left than the slowest run of as many epochs in runs.csv took.
        epochs: of every candidate; None takes the settings'.
        validation: fraction of every class that is held out, see `hold_out`.
        families: name: recipes of one or two stages; None takes `trick_families()`. At most one family may bring
            recipes of several stages.
        settings: by which every candidate trains; None takes the data's. The recipe that is found leaves it open.
        progress: print a line at the start of every round, and show the bars of `compare`.

    Raises:
        ValueError: seeds below 1; a budget that is not above 0; what `hold_out` and `compare` refuse.
        FloatingPointError: the baseline's loss is no longer finite.
    """
    deadline = monotonic() + 60 * budget_minutes
    seeds = check_integer("seeds", seeds, least=1)
    if not budget_minutes > 0:
        raise ValueError(f"budget_minutes={budget_minutes!r}: it must be above 0, math.inf for no end")
    whole = [data_of_seed(seed) for seed in range(seeds)]
    held = [hold_out(data, validation, seed) for seed, data in enumerate(whole)]
    settings = settings or settings_for(whole[0].name, whole[0].side, len(whole[0].train))
    options = {"device": device, "precision": precision, "capture": capture, "progress": progress}
    rounds = _Rounds(trick_families() if families is None else families, held, Path(folder).resolve(),
                     settings.epochs if epochs is None else epochs, settings, deadline, options)  # fmt: skip
    test, next_run = None, ""
    try:
        rounds.play()
        to_test = [Tricks(), rounds.best] if rounds.best else [Tricks()]
        test = pd.concat([rounds.rows(tricks, whole) for tricks in to_test], ignore_index=True)
    except _BudgetSpent as spent:
        next_run = str(spent)
    found = pd.DataFrame(rounds.lines, columns=ROUND).astype({"taken": "boolean"})
    return Search(found, rounds.recipe(rounds.best), test, next_run)


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

    def __str__(self) -> str:
        found = self.rounds
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
            "taken: the best of those whose gain is above its standard error (0 with one seed); in round 1 the best "
            "of each family",
            *(f"left out: {row['candidate']}: {row['note']}" for row in found.to_dict("records") if row["note"]),
            "",
        ]
        if self.test is None:
            return "\n".join([*lines, f"found so far: {self.recipe.name}", f"the budget is spent; next is {self.next}"])
        test = table(self.test)
        lines += ["Trained on all training images, on the test set:", formatted(test).to_string(), caption(test)]
        return "\n".join([*lines, "", f"found: {self.recipe.name}"])


class _BudgetSpent(Exception):
    """The next run cannot be expected to end in time; the message says which it is."""


@dataclass
class _Rounds:
    """The greedy choice: `best` holds the tricks taken so far, `lines` all that was measured or refused."""

    families: Mapping[str, Sequence[Recipe]]
    held: Sequence[LongTailedData]  # by seed
    folder: Path
    epochs: int
    settings: Settings
    deadline: float
    options: Mapping[str, Any]  # of `compare`
    best: Tricks = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    def play(self) -> None:
        """All rounds, until none is better; raises what `rows` does, and what was taken so far stays."""
        first = [[{family: trick} for trick in tricks] for family, tricks in self.families.items()]
        winners = self.play_round(1, first)
        added = [one | other for one, other in combinations(winners, 2)]
        for number in count(2):
            if not added or not self.play_round(number, [added]):
                return
            added = [self.best | winner for winner in winners if not winner.keys() <= self.best.keys()]

    def play_round(self, number: int, groups: list[list[Tricks]]) -> list[Tricks]:
        """Measure the candidates and return the best of each group that has one better than the best so far."""
        candidates = [[self.candidate(number, tricks) for tricks in group] for group in groups]
        everyone = [line for group in candidates for line in group]
        self.announce(number, sum(not line["note"] for line in everyone))
        reference = self.errors(self.best)
        if number == 1:
            plain = self.candidate(0, {}) | {"against": "", "taken": True}
            self.lines.append(plain | dict(zip(("error", "error_std"), _mean_and_std(reference), strict=True)))
        for line in everyone:
            if not line["note"]:
                try:
                    errors = self.errors(line["tricks"])
                    line["error"], line["error_std"] = _mean_and_std(errors)
                    line["gain"], spread = _mean_and_std([r - e for r, e in zip(reference, errors, strict=True)])
                    line["gain_se"] = spread / math.sqrt(len(errors))
                except FloatingPointError as error:
                    line["note"] = str(error)
            self.lines.append(line)
        better = [list(filter(_is_better, group)) for group in candidates]
        winners = [_least(group) for group in better if group]
        for line in everyone:
            line["taken"] = line in winners
        if winners:
            self.best = _least(winners)["tricks"]
        return [line["tricks"] for line in winners]

    def candidate(self, number: int, tricks: Tricks) -> Line:
        """A line of the rounds' table, still to be measured; with a note where these tricks do not go together."""
        line: Line = dict.fromkeys(ROUND, math.nan) | {"tricks": tricks, "round": number, "note": "", "taken": None}
        line["candidate"], line["against"] = self.name(tricks), self.name(self.best)
        try:
            recipe = self.recipe(tricks)
        except ValueError as error:
            return line | {"note": str(error)}
        self.plan(recipe)  # too few epochs are the caller's mistake, named before anything is trained
        return line

    def announce(self, number: int, candidates: int) -> None:
        """Say what a round has to do at most, and how long that takes by the runs so far."""
        seconds, runs = self.seconds().mean(), candidates * len(self.held)
        takes = "" if math.isnan(seconds) else f", about {runs * seconds / 60:.0f} min if none is there yet"
        if self.options["progress"]:
            print(f"round {number}: {candidates} x {len(self.held)} runs, epochs={self.epochs}{takes}", flush=True)

    def errors(self, tricks: Tricks) -> list[float]:
        """The balanced error of every seed, in percent."""
        return [round(100 * error, 3) for error in self.rows(tricks, self.held)["balanced_error"]]

    def rows(self, tricks: Tricks, data: Sequence[LongTailedData]) -> pd.DataFrame:
        """A row per seed; runs that are not there yet are trained.

        Raises:
            _BudgetSpent: a run would have to start that is not expected to end before the deadline.
        """
        plan, done = self.plan(self.recipe(tricks)), runs_in(self.folder / "runs.csv")
        for seed, of_seed in enumerate(data):
            if (plan.name, seed, fingerprint(plan, of_seed)) not in done:
                left, slowest = self.deadline - monotonic(), self.seconds().max()
                if left <= 0 or left < slowest:
                    needs = "" if math.isnan(slowest) else f"; the slowest run so far took {slowest:.0f} s"
                    raise _BudgetSpent(f"{plan.name} with seed {seed}{needs}")
                compare([plan], data.__getitem__, seed + 1, folder=self.folder, **self.options)  # others are there
        return compare([plan], data.__getitem__, len(data), folder=self.folder, **self.options)

    def seconds(self) -> pd.Series:
        """What the runs of as many epochs took."""
        rows = read_rows(self.folder / "runs.csv")
        return rows.loc[rows["epochs"] == self.epochs, "seconds"].astype(float)

    def plan(self, recipe: Recipe) -> Plan:
        return recipe.resolve(self.settings).with_epochs(self.epochs)

    def recipe(self, tricks: Tricks) -> Recipe:
        return combined(*(tricks[family] for family in self.families if family in tricks))

    def name(self, tricks: Tricks) -> str:
        return "+".join(tricks[family].name for family in self.families if family in tricks) or "ce"


def _mean_and_std(values: list[float]) -> tuple[float, float]:
    return fmean(values), stdev(values) if len(values) > 1 else math.nan


def _is_better(line: Line) -> bool:
    """mean(d) > SE(d), 0 for a single seed; rounded, so that no tie falls to the last bit of a float."""
    return round(line["gain"] - (0 if math.isnan(line["gain_se"]) else line["gain_se"]), 6) > 0


def _least(lines: Iterable[Line]) -> Line:
    """The line with the least error, the first of equals; rounded as in `_is_better`."""
    return min(lines, key=lambda line: round(line["error"], 6))
