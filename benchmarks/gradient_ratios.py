"""The gradient ratios of every class while a detector trains on scenes-lt: what the explorer of notebook 10 replays.

    python benchmarks/gradient_ratios.py [--epochs 8] [--output FILE]

Trains binary cross-entropy and EQL v2 from two initial biases, seed 0, and keeps the ratio g of every tenth step,
labels in order of frequency, in data/results/gradient_ratios.csv. Binary cross-entropy is EQL v2 with all weights 1.
"""

import argparse
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from ltlab import detection, results
from ltlab.classifiers import with_prior
from ltlab.data import load
from ltlab.losses import EqualizationV2Loss
from ltlab.recipes import Recipe, Stage

ROOT = Path(__file__).parents[1]
LOSSES = {"BCE": {"mu": -1e6, "alpha": 0.0}, "EQL v2": {}}
PRIORS = (0.1, 0.001)
EVERY = 10


class Recorded(EqualizationV2Loss):
    """EQL v2 that notes its ratios after every tenth step."""

    def __init__(self, class_counts: Tensor, noted: list[list[float]], **options: float) -> None:
        super().__init__(len(class_counts), background=0, **options)
        self.noted, self.steps = noted, 0

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        value = super().forward(logits, targets)
        if self.training and torch.is_grad_enabled() and self.positive.sum() > 0:
            self.steps += 1
            if self.steps % EVERY == 0:
                self.noted.append([self.steps, *self.ratio.tolist()])
        return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "gradient_ratios.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    data, parts = load("scenes-lt", seed=0), []
    for prior in PRIORS:
        for name, options in LOSSES.items():
            noted: list[list[float]] = []
            stage = Stage(
                loss=partial(Recorded, noted=noted, **options), classifier=partial(with_prior, prior=prior),
                epochs=arguments.epochs,
            )  # fmt: skip
            run = detection.fit(
                Recipe(stage, name="ratios"), data, seed=0, device="cpu", progress=False, evaluate_every=1000
            )
            columns = ["step", *(f"g{c}" for c in range(len(data.class_names)))]
            part = pd.DataFrame(noted, columns=columns).astype({"step": int})
            part.insert(0, "loss", name)
            part.insert(1, "prior", prior)
            parts.append(part)
            found = {key: round(100 * value, 1) for key, value in run.metrics.items()}
            print(name, prior, found, f"{run.seconds:.0f} s", flush=True)
            pd.concat(parts).to_csv(arguments.output, index=False, float_format="%.4g")
    print(results.provenance(torch.device("cpu")))


if __name__ == "__main__":
    main()
