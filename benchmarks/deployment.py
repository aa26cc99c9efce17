"""What calibrated probabilities are good for on shapes-lt: priors of unlabelled images, and sets of classes.

    python benchmarks/deployment.py [--seeds 5] [--output FOLDER]

Every recipe is trained with every seed. 200 labelled images of each class are held out, balanced, to calibrate on, and
other images are met without labels.

prior_estimates.csv: the logits, for the uniform prior, stay as trained, or are scaled by a temperature or by vector
scaling. The prior of long-tailed draws is estimated, from that of the training set over uniform to reversed. The miss
is the largest difference of a class's fraction.

coverage.csv: how often sets for a coverage of 90 % hold the label, by the kind of threshold and the group of classes,
next to the interval in which 99 of 100 coverages lie that are as promised (blank where nothing is promised).

A second call continues from there. Prints the largest miss over the priors, and how often coverage is in its interval.
About a minute per seed on one core.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ltlab import calibration, metrics, results
from ltlab.data import LongTailedData, load, long_tail_subset
from ltlab.train import fit, predict

ROOT = Path(__file__).parents[1]
RECIPES = {"ce": 1.0, "ce_long": 1.0, "balanced_softmax_long": 0.0}  # and the tau that their logits still need
FITTED, DRAWN = 200, 1000  # images of each class to calibrate on; images of the most frequent class in a draw
COVERAGE = 0.9
PATH = (0.0, 0.25, 0.5, 0.75, 1.0)


def calibrated(logits: Tensor, labels: Tensor, fitted: Tensor) -> dict[str, Tensor]:
    """The logits (N, C) in three forms, the scales fitted to the images (M,)."""
    z, y = logits[fitted], labels[fitted]
    scale, bias = calibration.fit_vector_scaling(z, y)
    return {
        "as trained": logits,
        "temperature": logits / calibration.fit_temperature(z, y),
        "vector scaling": scale * logits + bias,
    }


def estimates(
    data: LongTailedData, logits: Tensor, fitted: Tensor, rest: Tensor, seed: int
) -> Iterator[dict[str, Any]]:
    """A row for each form of the logits and each prior."""
    labels = data.test.labels
    uniform = torch.full((logits.shape[1],), 1 / logits.shape[1])
    for name, z in calibrated(logits, labels, fitted).items():
        for t in PATH:
            asked = results.prior_path(data.class_counts, t)
            drawn = (DRAWN * asked / asked.max()).round().long().clamp(min=1)
            taken = rest[long_tail_subset(labels[rest], drawn, seed=seed)]
            miss = calibration.estimate_prior(z[taken], uniform) - drawn / drawn.sum()
            yield {"logits": name, "t": t, "images": len(taken), "miss": miss.abs().max().item()}


def coverages(data: LongTailedData, logits: Tensor, fitted: Tensor, rest: Tensor) -> Iterator[dict[str, Any]]:
    """A row for each kind of threshold and each group of classes."""
    labels, prior = data.test.labels, data.class_counts / data.class_counts.sum()
    groups = {"all": torch.ones(len(prior), dtype=torch.bool)} | metrics.class_groups(data.class_counts)
    for kind in ("marginal", "classwise", "prevalence"):
        thresholds = calibration.set_thresholds(logits[fitted], labels[fitted], COVERAGE, kind, prior=prior)
        sets = calibration.prediction_sets(logits[rest], thresholds)
        for group, covered in calibration.set_coverage(sets, labels[rest], groups).items():
            inside = groups[group][labels[rest]]
            promised = kind == "classwise" or group == "all"
            pieces = int(groups[group].sum()) if kind == "classwise" else 1  # each with a threshold of its own
            low, high = interval(len(fitted), len(rest), pieces) if promised else (float("nan"), float("nan"))
            yield {
                "kind": kind, "group": group, "images": int(inside.sum()), "coverage": covered, "low": low,
                "high": high, "mean_size": sets[inside].double().sum(1).mean().item(),
            }  # fmt: skip


def interval(fitted: int, met: int, pieces: int) -> tuple[float, float]:
    """Mean -+ 2.58 standard deviations of the coverage: beta-binomial, or the mean over the classes of such."""
    if pieces > 1:
        fitted, met = FITTED, DRAWN  # of each class
    k = math.ceil((fitted + 1) * COVERAGE - 1e-9)
    mean = k / (fitted + 1)
    std = math.sqrt(mean * (1 - mean) * (fitted + 1 + met) / (fitted + 2) / met / pieces)
    return mean - 2.58 * std, mean + 2.58 * std


def measure(recipe: str, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The rows of one network for both files."""
    data = load("shapes-lt", seed=seed, test_count=FITTED + DRAWN)
    run = fit(recipe, data, seed=seed, device="cpu", progress=False, evaluate_every=1000)
    logits, labels = predict(run.model, data.test.images), data.test.labels
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    of_class = [order[labels[order] == c] for c in range(len(data.class_names))]
    fitted, rest = (torch.cat([part[piece] for part in of_class]) for piece in (slice(FITTED), slice(FITTED, None)))
    balanced = logits - RECIPES[recipe] * (data.class_counts / data.class_counts.sum()).log()
    run_of = {"recipe": recipe, "seed": seed}
    return (
        [run_of | row for row in estimates(data, balanced, fitted, rest, seed)],
        [run_of | row for row in coverages(data, logits, fitted, rest)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = [arguments.output / name for name in ("prior_estimates.csv", "coverage.csv")]
    tables = [pd.read_csv(file).to_dict("records") if file.exists() else [] for file in files]
    done = {(row["recipe"], row["seed"]) for row in tables[1]}
    for seed in range(arguments.seeds):
        for recipe in RECIPES:
            if (recipe, seed) not in done:
                for file, table, rows in zip(files, tables, measure(recipe, seed), strict=True):
                    table += rows
                    pd.DataFrame(table).round(4).to_csv(file, index=False)
    misses, covered = map(pd.DataFrame, tables)
    largest = misses.groupby(["recipe", "logits", "seed"], sort=False)["miss"].max()
    print(largest.groupby(["recipe", "logits"], sort=False).agg(["mean", "std", "max"]).round(3).to_string())
    promised = covered.dropna(subset="low")
    inside = (promised["coverage"] >= promised["low"]) & (promised["coverage"] <= promised["high"])
    print(inside.groupby([promised["kind"], promised["group"]]).agg(["sum", "count"]).to_string())


if __name__ == "__main__":
    main()
