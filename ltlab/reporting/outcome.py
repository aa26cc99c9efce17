"""What a report says, as numbers: of every candidate, of every class, of the test set."""

from dataclasses import dataclass
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ..calibration import Reliability, expected_calibration_error, fit_temperature, reliability
from ..metrics import class_groups
from .candidates import Candidate
from .choice import choose, class_means, gains, image_weights, standard_errors
from .inspection import Inspected
from .trials import HeldOut, Trials

Z = 1.96  # standard errors to either side of a 95 % interval
EQUAL = 1.5  # times the smallest class count, up to which a training set counts as balanced
SEEDS = 3  # runs on all training images, whose mean the test set judges


@dataclass
class Tested:
    """The test set, evaluated once: plain training and the recommended recipe, fractions."""

    images: int
    plain_error: float
    error: float
    gain: float
    se: float
    top1_error: float


@dataclass
class Outcome:
    """What was chosen and measured.

    chosen: place among the candidates, 0 is plain training. table: a line per candidate. judged: which images judge,
    "test" or "held-out training"; of these labels and places in their split, (n,); wrong, (n, 2), of plain training and
    the chosen candidate; and its logits, (n, C), before the temperature. bins, calibration: before and after it.
    """

    held: HeldOut
    chosen: int
    table: pd.DataFrame
    threshold: float
    tested: Tested | None
    judged: str
    labels: Tensor
    wrong: Tensor
    logits: Tensor
    places: Tensor
    temperature: float | None
    bins: tuple[Reliability, Reliability] | None
    calibration: tuple[float, float] | None

    @property
    def candidate(self) -> Candidate:
        return self.held.candidates[self.chosen]

    @property
    def tau(self) -> float:
        return self.held.taus[self.candidate.name]


def outcome(inspected: Inspected, trials: Trials, held: HeldOut, seed: int) -> Outcome:
    """Choose on held-out images, then evaluate the test set, if there is one, once.

    On a balanced set there is nothing for a trick to correct, and plain training is chosen; where another classifier is
    better all the same, the report says so.
    """
    prior = trials.prior
    counts = trials.data.class_counts
    balanced = trials.uniform and counts.max() <= EQUAL * counts.min()
    chosen = 0 if balanced else choose(held.wrong, held.labels, prior, seed)
    table, threshold = _table(held, prior, trials, seed)
    candidate = held.candidates[chosen]
    judged, labels, logits, places = "held-out training", held.labels, held.logits[candidate.name], held.rows
    wrong, tested = held.wrong[:, [0, chosen]], None
    if inspected.has_test:
        judged, labels, places = "test", inspected.data.test.labels, torch.arange(len(inspected.data.test))
        plain = trials.test(held.candidates[0], 0.0, SEEDS)
        of_chosen = trials.test(candidate, held.taus[candidate.name], SEEDS)
        runs = torch.stack([(run.argmax(2) != labels).double() for run in (plain, of_chosen)], 2)  # (S, N, 2)
        wrong, logits = runs.mean(0), of_chosen[0]
        tested = _tested(runs, labels, prior)
    temperature, calibrated = _calibrated(held, candidate, logits, judged == "test", prior)
    bins = calibration = None
    if calibrated is not None:
        bins = reliability(logits, labels), reliability(calibrated, labels)
        calibration = expected_calibration_error(logits, labels), expected_calibration_error(calibrated, labels)
    return Outcome(held, chosen, table, threshold, tested, judged, labels, wrong, logits, places, temperature, bins,
                   calibration)  # fmt: skip


def _table(held: HeldOut, prior: Tensor, trials: Trials, seed: int) -> tuple[pd.DataFrame, float]:
    """One line per candidate, as fractions, in the order of the candidates; and the threshold of their gains."""
    found = gains(held.wrong, held.labels, prior, seed)
    counts = trials.data.class_counts
    as_trained = image_weights(held.labels, counts / counts.sum()) @ held.wrong
    columns = {
        "error": found.error, "gain": found.gain, "se": found.se, "low": found.gain - Z * found.se,
        "high": found.gain + Z * found.se, "error_as_trained": as_trained,
    }  # fmt: skip
    for group, classes in class_groups(counts).items():
        columns[group] = image_weights(held.labels, classes.double()) @ held.wrong  # NaN of no classes
    table = pd.DataFrame({name: values.tolist() for name, values in columns.items()})
    table.insert(0, "label", [each.label for each in held.candidates])
    table["tau"] = [held.taus[each.name] if each.tau is not None else float("nan") for each in held.candidates]
    return table.set_axis([each.name for each in held.candidates]), found.threshold


def _tested(runs: Tensor, labels: Tensor, prior: Tensor) -> Tested:
    """runs (S, N, 2): the standard error of the gain is that of the images, and that of the runs."""
    weights = image_weights(labels, prior)
    error = weights @ runs.mean(0)  # (2,)
    better = runs[..., 0] - runs[..., 1]  # (S, N)
    of_runs = (better @ weights).var() / len(runs)
    of_images = standard_errors(better.mean(0)[:, None], labels, prior) ** 2
    return Tested(
        len(labels), error[0].item(), error[1].item(), (error[0] - error[1]).item(),
        (of_runs + of_images).sqrt().item(), runs.mean(0)[:, 1].mean().item(),
    )  # fmt: skip


def _calibrated(
    held: HeldOut, candidate: Candidate, logits: Tensor, on_test: bool, prior: Tensor
) -> tuple[float | None, Tensor | None]:
    """The temperature, fitted on held-out images of the prior, and the judged logits divided by one.

    Held-out logits are divided by the temperature of the other folds. None where no temperature is best.
    """
    counts = torch.bincount(held.labels, minlength=len(prior))
    weight = torch.where(counts > 0, prior / counts.clamp(min=1), 0)
    of_held = held.logits[candidate.name]
    if not of_held.isfinite().all():  # a prior of 0
        return None, None
    try:
        temperature = fit_temperature(of_held, held.labels, weight)
        if on_test:
            return temperature, logits / temperature
        folds = held.fold.unique()
        if len(folds) < 2:  # no other images to fit it on
            return temperature, None
        calibrated = logits.clone()
        for fold in folds:
            here = held.fold == fold
            calibrated[here] /= fit_temperature(of_held[~here], held.labels[~here], weight)
    except ValueError:  # the logits separate the classes, or say nothing
        return None, None
    return temperature, calibrated


def confusions(out: Outcome, prior: Tensor, most: int = 5) -> list[dict[str, Any]]:
    """The pairs of true and predicted class that cost most, prior_t P(predicted p | true t), with their images.

    Each has true, predicted, cost (a fraction of all errors), rate, images, and rows, the places of up to 8 of them in
    their split, those that the recipe is surest of first.
    """
    predicted, weights = out.logits.argmax(1), image_weights(out.labels, prior)
    sure = out.logits.softmax(1).amax(1)
    classes = len(prior)
    pairs = torch.zeros(classes * classes, dtype=torch.float64).index_add(0, out.labels * classes + predicted, weights)
    pairs[:: classes + 1] = 0  # what is right
    found, total = [], pairs.sum().item()
    for cell in pairs.argsort(descending=True)[:most].tolist():
        true, wrong = divmod(cell, classes)
        rows = ((out.labels == true) & (predicted == wrong)).nonzero()[:, 0]
        if pairs[cell] > 0:
            surest = rows[sure[rows].argsort(descending=True)][:8]
            found.append({
                "true": true, "predicted": wrong, "cost": pairs[cell].item() / total, "images": len(rows),
                "rate": len(rows) / int((out.labels == true).sum()), "rows": out.places[surest],
            })  # fmt: skip
    return found


def class_errors(out: Outcome, classes: int) -> Tensor:
    """Error of every class, of plain training and of the recommended recipe, NaN without images. -> (C, 2)"""
    absent = torch.bincount(out.labels, minlength=classes) == 0
    return class_means(out.wrong, out.labels, classes).masked_fill(absent[:, None], float("nan"))
