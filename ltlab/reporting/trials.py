"""Held-out logits of every candidate: each image is held out once, and a run that has ended is never trained again."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..classifiers import TAUS
from ..data import LongTailedData
from ..losses import adjust_logits
from ..progress import progress_bar
from ..recipes import Plan, Recipe, Settings
from ..results import fingerprint
from ..train import fit
from .candidates import CHOSEN, PLAIN, Candidate
from .choice import image_weights

# At a linear head's rate cosines hardly turn in the few steps of some hundred images. Of 0.3, 1, 3 and 10 this is among
# the best on held-out images of CIFAR-10-LT.
COSINE_RATE = 3.0


def fold_of(labels: Tensor, folds: int, seed: int) -> Tensor:
    """The fold that holds out each image, stratified by class; -1 for the only image of a class. -> (N,) int64

    The images of a class are shuffled and dealt out in turn, each class starting where the one before has ended, so
    that folds are of one size and hold as many images of a class as any other, or one more.
    """
    generator = torch.Generator().manual_seed(seed)
    fold = torch.full_like(labels, -1)
    dealt = 0
    for c in labels.unique().tolist():
        rows = (labels == c).nonzero()[:, 0]
        if len(rows) > 1:
            shuffled = rows[torch.randperm(len(rows), generator=generator)]
            fold[shuffled] = (dealt + torch.arange(len(rows))) % folds
            dealt += len(rows)
    return fold


@dataclass
class HeldOut:
    """What candidates say of held-out training images.

    rows: (n,) their places in the training split. labels, fold: (n,) each. logits: (n, C) by candidate's name. taus:
    of post-hoc adjustment, by candidate's name.
    """

    rows: Tensor
    labels: Tensor
    fold: Tensor
    candidates: list[Candidate] = field(default_factory=list)
    logits: dict[str, Tensor] = field(default_factory=dict)
    taus: dict[str, float] = field(default_factory=dict)

    @property
    def wrong(self) -> Tensor:
        """(n, J), 1 where the candidate is wrong."""
        of_each = [self.logits[each.name].argmax(1) != self.labels for each in self.candidates]
        return torch.stack(of_each, 1).double()


class Trials:
    """Runs on one set of features: trained once, kept in a folder.

    prior: (C,) class fractions that count. deadline: `time.monotonic()` after which only what is necessary starts.
    """

    def __init__(
        self, data: LongTailedData, settings: Settings, folder: Path, prior: Tensor, *, folds: int, seed: int,
        deadline: float, **options: Any,
    ) -> None:  # fmt: skip
        self.data, self.settings, self.folder, self.prior = data, settings, folder, prior
        self.deadline, self.options = deadline, options
        can_be_held = int(data.class_counts[data.class_counts > 1].sum())
        self.fold = fold_of(data.train.labels, min(folds, can_be_held), seed)
        self.parts = [self._part(fold) for fold in range(min(folds, can_be_held))]
        self.uniform = bool((prior == prior[0]).all())
        self.seconds: dict[str, float] = {}  # of the slowest run of a recipe
        self.skipped: list[Candidate] = []

    def _part(self, fold: int) -> LongTailedData:
        train, test = (self.fold != fold).nonzero()[:, 0], (self.fold == fold).nonzero()[:, 0]
        splits = {"train": self.data.train.take(train), "test": self.data.train.take(test)}
        return replace(self.data, **splits, options={"held_out": f"{fold + 1}/{len(self.fold.unique())}"})

    def plan(self, recipe: Recipe) -> Plan:
        """The recipe by the settings; a cosine classifier learns at `COSINE_RATE`."""
        cosine = recipe.classifier == "cosine"
        return recipe.resolve(self.settings.with_learning_rate(COSINE_RATE) if cosine else self.settings)

    def run(self, recipe: Recipe, data: LongTailedData, seed: int) -> Tensor:
        """The logits of the data's test split after training, (n, C); read where the run has been made before."""
        plan = self.plan(recipe)
        path = self.folder / f"{recipe.name}-{fingerprint(plan, data)}-{seed}.npy"
        if path.exists():
            return torch.from_numpy(np.load(path, allow_pickle=False))
        started = time.monotonic()
        result = fit(plan, data, seed=seed, progress=False, evaluate_every=plan.epochs, **self.options)
        self.seconds[recipe.name] = max(self.seconds.get(recipe.name, 0), time.monotonic() - started)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".tmp.npy")
        np.save(unfinished, result.logits.float().numpy())
        unfinished.replace(path)
        return result.logits.float()

    def held_out(self, always: Sequence[Candidate], if_time: Sequence[Candidate], progress: bool) -> HeldOut:
        """Train and judge the candidates: the first ones always, in as many folds as time allows, at least one."""
        recipes = {each.recipe.name: each.recipe for each in always}
        found: dict[str, list[Tensor]] = {name: [] for name in recipes}
        bar = progress_bar(shown=progress, total=len(recipes) * len(self.parts), desc="training", unit="run")
        for fold, part in enumerate(self.parts):
            if fold and time.monotonic() + sum(self.seconds.values()) > self.deadline:
                break
            for name, recipe in recipes.items():
                found[name].append(self.run(recipe, part, fold))
                bar.update()
        done = len(found[always[0].recipe.name])
        candidates = list(always)
        for each in if_time:
            name, factor = each.recipe.name, sum(stage.share for stage in each.recipe.stages)
            if name not in found:
                expected = factor * done * self.seconds.get(PLAIN.recipe.name, 0)
                if time.monotonic() + expected > self.deadline:
                    self.skipped.append(each)
                    continue
                bar.total += done
                found[name] = []
                for fold in range(done):
                    found[name].append(self.run(each.recipe, self.parts[fold], fold))
                    bar.update()
            candidates.append(each)
        bar.close()
        return self._judged(candidates, found, done)

    def _judged(self, candidates: list[Candidate], found: dict[str, list[Tensor]], done: int) -> HeldOut:
        rows = torch.cat([(self.fold == fold).nonzero()[:, 0] for fold in range(done)])
        held = HeldOut(rows, self.data.train.labels[rows], self.fold[rows], candidates)
        for each in candidates:
            logits = torch.cat(found[each.recipe.name])
            held.logits[each.name], held.taus[each.name] = self._adjusted(each, logits, held)
        return held

    def _adjusted(self, candidate: Candidate, logits: Tensor, held: HeldOut) -> tuple[Tensor, float]:
        """Logits after the candidate's correction, and its tau; one that is chosen is chosen on the other folds."""
        if candidate.tau is None:
            return logits, 0.0
        if candidate.tau != CHOSEN:
            return self.adjust(logits, float(candidate.tau)), float(candidate.tau)
        wrong = torch.stack([(self.adjust(logits, tau).argmax(1) != held.labels).double() for tau in TAUS])  # (T, n)
        adjusted = torch.empty_like(logits)
        folds = held.fold.unique()
        for fold in folds:
            here = held.fold == fold
            others = ~here if len(folds) > 1 else here
            adjusted[here] = self.adjust(logits[here], TAUS[self._best(wrong[:, others], held.labels[others])])
        return adjusted, TAUS[self._best(wrong, held.labels)]

    def _best(self, wrong: Tensor, labels: Tensor) -> int:
        """The place in `TAUS` of the least error; of several that are equal the middle one."""
        error = wrong @ image_weights(labels, self.prior)  # (T,)
        best = (error <= error.min() + 1e-12).nonzero()[:, 0]
        return int(best[len(best) // 2])

    def adjust(self, logits: Tensor, tau: float) -> Tensor:
        return adjust_logits(logits, self.data.class_counts, tau, None if self.uniform else self.prior)

    def test(self, candidate: Candidate, tau: float, seeds: int) -> Tensor:
        """The logits of the test images after training on all training images, (seeds, N, C)."""
        logits = [self.run(candidate.recipe, self.data, seed) for seed in range(seeds)]
        return torch.stack([logits_ if candidate.tau is None else self.adjust(logits_, tau) for logits_ in logits])
