"""DisAlign on kept features of shapes-lt: its parts one by one, its rho, its gate, beside post-hoc logit adjustment.

    python benchmarks/alignment.py [--seeds 5] [--output FILE]

For every seed plain training, once on all training images and once without a fifth of them, on which tau and rho are
chosen. On the features of either, un-augmented, every part of DisAlign is trained by `losses.GeneralizedReweightLoss`
for 20 epochs, the backbone and the old classifier frozen. Every classifier adds a row to the output
(data/results/alignment.csv): errors and gaps as fractions on the balanced test set, the balanced error on the held-out
images, and mean and standard deviation of the gate over the test images. A second call continues from there.

About 30 s per seed on one core. Prints the errors in percent, what is chosen, and what the gate adds, paired by seed.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from ltlab import calibration, metrics, results
from ltlab.classifiers import AlignedClassifier, choose_tau, classifier_inputs
from ltlab.data import LongTailedData, load
from ltlab.losses import GeneralizedReweightLoss, adjust_logits
from ltlab.train import fit

ROOT = Path(__file__).parents[1]
RHOS = 0.0, 0.8, 1.2, 1.5
PARTS = {"magnitude and margin": (), "magnitude": ("margin",), "margin": ("magnitude",)}  # and what is frozen


class Kept:
    """A plainly trained network as its classifier and the features of training and test images."""

    def __init__(self, data: LongTailedData, seed: int) -> None:
        run = fit("ce", data, seed=seed, device="cpu", progress=False, evaluate_every=1000)
        self.counts, self.base = data.class_counts, run.model.classifier
        self.train, self.labels = classifier_inputs(run.model, data.train.images), data.train.labels
        self.test, self.answers, self.logits = (
            classifier_inputs(run.model, data.test.images),
            data.test.labels,
            run.logits,
        )

    def aligned(self, rho: float, parts: str, gated: bool, seed: int) -> AlignedClassifier:
        """Stage 2 of DisAlign on the kept features: SGD with one cosine from 0.1 to 0."""
        classifier = AlignedClassifier(self.base, "interpolate" if gated else "ungated")
        for part in PARTS[parts]:
            getattr(classifier, part).requires_grad_(False)
        loss, generator = GeneralizedReweightLoss(self.counts, rho), torch.Generator().manual_seed(seed)
        learnt = [parameter for parameter in classifier.parameters() if parameter.requires_grad]
        optimizer = torch.optim.SGD(learnt, lr=0.1, momentum=0.9, weight_decay=5e-4)
        batches = [
            batch for _ in range(20) for batch in torch.randperm(len(self.labels), generator=generator).split(32)
        ]
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
        for batch in batches:
            optimizer.zero_grad()
            loss(classifier(self.train[batch]), self.labels[batch]).backward()
            optimizer.step()
            schedule.step()
        return classifier.requires_grad_(False)


def row_of(kept: Kept, logits: Tensor, gate: Tensor | None = None) -> dict[str, float]:
    """What a row says of logits on the test images."""
    groups = metrics.class_groups(kept.counts)
    gaps = calibration.signed_gap(logits, kept.answers, groups)
    return {
        "top1_error": metrics.top1_error(logits, kept.answers),
        **{f"{name}_accuracy": accuracy for name, accuracy in
           metrics.group_accuracy(logits, kept.answers, kept.counts).items()},
        "expected_calibration_error": calibration.expected_calibration_error(logits, kept.answers),
        **{f"{name}_gap": gaps[name] for name in groups},
        "gate_mean": float("nan") if gate is None else gate.mean().item(),
        "gate_std": float("nan") if gate is None else gate.std().item(),
    }  # fmt: skip


def measure(seed: int) -> Iterator[dict[str, Any]]:
    """The rows of one seed."""
    data = load("shapes-lt", seed=seed)
    whole, twin = Kept(data, seed), Kept(results.hold_out(data), seed)
    tau = choose_tau(twin.logits, twin.answers, twin.counts)
    for name, t in (("plain training", 0.0), ("logit adjustment", 1.0), ("logit adjustment, chosen", tau)):
        held_out = metrics.balanced_error(adjust_logits(twin.logits, twin.counts, t), twin.answers)
        row = {"classifier": name, "tau": t, "held_out_error": held_out}
        yield row | row_of(whole, adjust_logits(whole.logits, whole.counts, t))
    for parts in PARTS:
        for gated in (True, False):
            for rho in RHOS:
                theirs = twin.aligned(rho, parts, gated, seed)(twin.test)
                classifier = whole.aligned(rho, parts, gated, seed)
                gate = classifier.gate(whole.test).sigmoid() if gated else None
                held_out = metrics.balanced_error(theirs, twin.answers)
                row = {"classifier": parts, "gated": gated, "rho": rho, "held_out_error": held_out}
                yield row | row_of(whole, classifier(whole.test), gate)


def report(rows: pd.DataFrame) -> None:
    """Errors, what rho is chosen, and what the gate adds."""
    percent = rows.assign(error=100 * rows["top1_error"], held_out=100 * rows["held_out_error"])
    keys = ["classifier", "gated", "rho"]
    print(
        percent.groupby(keys, dropna=False)[["error", "held_out", "gate_mean", "gate_std"]].mean().round(3).to_string()
    )
    aligned = percent.dropna(subset="rho")
    best = aligned.loc[aligned.groupby(["classifier", "gated", "seed"])["held_out_error"].idxmin()]
    print("\nrho chosen on held-out images:")
    print(best.groupby(["classifier", "gated"])["error"].agg(["mean", "std"]).round(2).to_string())
    errors = aligned.pivot(index=["classifier", "rho", "seed"], columns="gated", values="error")
    print("\npoints of error that the gate gains:")
    gains = (errors[False] - errors[True]).groupby(["classifier", "rho"]).agg(["mean", "std"])
    print(gains.round(2).to_string())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "alignment.csv")
    arguments = parser.parse_args()
    rows = pd.read_csv(arguments.output) if arguments.output.exists() else pd.DataFrame({"seed": []})
    for seed in range(arguments.seeds):
        if not (rows["seed"] == seed).any():
            same = {"data": "shapes-lt", "seed": seed}, results.provenance(torch.device("cpu"))
            new = pd.DataFrame([same[0] | row | same[1] for row in measure(seed)])
            columns = ["data", "seed", "classifier", "gated", "rho", "tau"]
            new = new[columns + [name for name in new if name not in columns]]
            rows = pd.concat([rows, new]) if len(rows) else new
            rows.to_csv(arguments.output, index=False, float_format="%.6g")
    report(rows)


if __name__ == "__main__":
    main()
