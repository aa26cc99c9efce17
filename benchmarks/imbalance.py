"""Plain training on shapes-lt at every imbalance: what the tail costs, class by class.

    python benchmarks/imbalance.py [--imbalances 1 2 5 10 20 50 100 200] [--seeds 5] [--output FILE]

Trains `ce` on the subset of seed 0. Every finished run adds a row per class to the output
(data/results/imbalance.csv): its training images, and its test accuracy as a fraction. A second call continues from
there. `widgets.imbalance_explorer` shows the rows.

About 12 s per run on one core: 40 runs, 8 minutes. Prints the accuracy of every class in percent, mean over seeds.
"""

import argparse
from pathlib import Path

import pandas as pd

from ltlab import results
from ltlab.data import load
from ltlab.metrics import per_class_accuracy
from ltlab.train import fit

ROOT = Path(__file__).parents[1]
COLUMNS = [
    "data", "imbalance", "recipe", "seed", "fingerprint", "class", "images", "accuracy", "seconds", "precision",
    "device", "threads", "python", "torch", "ltlab", "commit", "date",
]  # fmt: skip


def measure(imbalance: float, seed: int) -> pd.DataFrame:
    """The rows of one run, one per class."""
    data = load("shapes-lt", imbalance=imbalance)
    run = fit("ce", data, seed=seed, device="cpu", progress=False, evaluate_every=1000)
    accuracy = per_class_accuracy(run.logits, data.test.labels)
    of_classes = {"class": data.class_names, "images": data.class_counts.tolist(), "accuracy": accuracy.tolist()}
    return pd.DataFrame(results.result_row(run, data, seed) | of_classes)[COLUMNS]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--imbalances", type=int, nargs="+", default=[1, 2, 5, 10, 20, 50, 100, 200])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "imbalance.csv")
    arguments = parser.parse_args()
    rows = pd.read_csv(arguments.output) if arguments.output.exists() else pd.DataFrame(columns=["imbalance", "seed"])
    for seed in range(arguments.seeds):
        for imbalance in arguments.imbalances:
            if not ((rows["imbalance"] == imbalance) & (rows["seed"] == seed)).any():
                new = measure(imbalance, seed)
                rows = pd.concat([rows, new]) if len(rows) else new
                rows.to_csv(arguments.output, index=False, float_format="%.6g")
    means = rows.pivot_table("accuracy", "class", "imbalance", sort=False)
    print((100 * means).round(1).to_string())


if __name__ == "__main__":
    main()
