"""The paper's settings on long-tailed CIFAR, on a CUDA device: one row per run, as many as fit into a budget.

    python benchmarks/reproduce.py --data cifar10-lt --imbalance 100 --seeds 3 --budget-minutes 9
    python benchmarks/reproduce.py --device cpu --quick        # a tiny version, to see that it works

Trains ResNet-32 for 200 epochs (mixup 400, the final recipe 420), the most telling recipes first, all seeds of one
recipe before the next. A finished run is a row of data/results/DATA-IMBALANCE.csv at once, an unfinished one leaves a
checkpoint under runs/; called again, it goes on. Recipes whose first stage is plain training start where `ce` has
ended. The seed draws weights, order and augmentation; the subset is the one of seed 0, as everybody has who compares
on these subsets.

The last column is the distance to the published figure, which is a single run. The yardstick is the re-run by the
paper's authors on the same subsets: a mean at most 1.5 points above it. Nothing is tuned, and the test set is looked at
once, after the last epoch.
"""

import argparse
import dataclasses
import math
import sys
import time
from pathlib import Path

import torch

from ltlab import recipes, results
from ltlab.data import LongTailedData, load
from ltlab.recipes import Recipe
from ltlab.results.comparison import checkpoint_in, clear
from ltlab.results.rows import runs_in
from ltlab.train import find_device

ROOT = Path(__file__).parents[1]
TELLING_FIRST = (
    "ce", "logit_adjusted_post_hoc", "tau_norm", "crt", "lws", "cs_ce", "cb_ce", "focal", "class_balanced",
    "square_root", "progressive", "input_mixup", "manifold_mixup", "input_mixup_finetune", "drw_cs_ce",
    "drs_class_balanced", "cam_drs", "transform_drs", "bag_of_tricks", "input_mixup_balanced_softmax",
)  # fmt: skip


def names_for(data: str) -> list[str]:
    """The recipes with the data's beta: 0.9999 on CIFAR-10, 0.9 on CIFAR-100."""
    return [{"cb_ce": "cb_ce_mild"}.get(name, name) if data == "cifar100-lt" else name for name in TELLING_FIRST]


def load_subset(name: str, imbalance: float, arrays: Path | None) -> LongTailedData:
    """The subset of seed 0, from the official files or from an .npz of its images."""
    if arrays is None:
        return load(name, imbalance=imbalance, seed=0)
    data = load(arrays, imbalance=None)
    counts = data.class_counts
    if round(float(counts.max() / counts.min())) != imbalance:
        raise ValueError(f"{arrays} has {counts.max()} to {counts.min()} images per class, not imbalance {imbalance:g}")
    return dataclasses.replace(data, name=name, options={"imbalance": imbalance, "kind": "exp", "seed": 0})


def thinned(data: LongTailedData) -> LongTailedData:
    """One of 50 training images of every class, and 200 test images."""
    classes = [torch.nonzero(data.train.labels == c).flatten() for c in range(len(data.class_names))]
    kept = torch.cat([indices[: math.ceil(len(indices) / 50)] for indices in classes])
    test = torch.arange(len(data.test))[:: max(1, len(data.test) // 200)]
    options = data.options | {"thinned": 50}
    return dataclasses.replace(data, train=data.train.take(kept), test=data.test.take(test), options=options)


class Budget:
    """The minutes of this call, and what a run may be expected to cost."""

    def __init__(self, minutes: float) -> None:
        self.end = time.monotonic() + 60 * minutes
        self.slowest = 0.0  # seconds per epoch, of this call's runs

    def allows(self, epochs: int) -> bool:
        """Whether a run of that many epochs can be expected to end in time; the first one always."""
        return not self.slowest or time.monotonic() + epochs * self.slowest < self.end

    def spent(self, epochs: int, seconds: float) -> None:
        if epochs:
            self.slowest = max(self.slowest, seconds / epochs)


def goes_on_from(plain: Recipe, recipe: Recipe) -> bool:
    """Whether a recipe's first stage is the whole of plain training."""
    return len(recipe.stages) > 1 and recipe.first(1).identity() == plain.identity() and not recipe.continues(1)


def reproduce(arguments: argparse.Namespace, device: torch.device) -> bool:
    """Train what is missing and fits into the budget; returns whether anything is left."""
    data = load_subset(arguments.data, arguments.imbalance, arguments.arrays)
    data = thinned(data) if arguments.quick else data
    budget = Budget(arguments.budget_minutes)
    protocol = recipes.protocol_for(data.name)
    chosen = [recipes.get(name).resolve(protocol) for name in names_for(arguments.data)]
    if arguments.quick:
        chosen = [recipe.with_epochs(sum(stage.epochs > 0 for stage in recipe.stages)) for recipe in chosen]
    plain = chosen[0]
    runs = [(recipe, seed) for recipe in chosen for seed in range(arguments.seeds)]
    kept = {seed: checkpoint_of(plain, seed, data, arguments.runs) for seed in range(arguments.seeds)}
    for recipe, seed in runs:
        if (recipe.name, seed, results.fingerprint(recipe, data)) in runs_in(arguments.output):
            continue
        begun = kept[seed] if kept[seed].exists() and goes_on_from(plain, recipe) else None
        epochs = recipe.epochs - (plain.epochs if begun else 0)
        if not budget.allows(epochs):
            print(f"the budget is spent; next comes {recipe.name}, seed {seed}: call again to go on")
            return True
        started = time.monotonic()
        checkpoint = checkpoint_of(recipe, seed, data, arguments.runs)
        row = results.measure(
            recipe, data, seed, checkpoint, device=device, capture=not arguments.eager, progress=sys.stderr.isatty(),
            start_from=begun,
        )  # fmt: skip
        results.append_row(arguments.output, row)
        if recipe is not plain:
            clear(checkpoint)
        budget.spent(epochs, time.monotonic() - started)
        print(f"{recipe.name:30} seed {seed}: {100 * row['top1_error']:.2f} % in {row['seconds']:.0f} s", flush=True)
    for checkpoint in kept.values():
        clear(checkpoint)
    return False


def checkpoint_of(recipe: Recipe, seed: int, data: LongTailedData, folder: Path) -> Path:
    return checkpoint_in(folder, recipe.name, seed, results.fingerprint(recipe, data))


def report(path: Path, names: list[str]) -> None:
    """Print the rows' table, and how far each mean lies from its published figure."""
    rows = results.read_rows(path)
    if rows.empty:
        return
    table = results.table(rows.sort_values("recipe", key=lambda column: column.map(names.index), kind="stable"))
    shown = results.formatted(table)
    shown["to published"] = [f"{d:+.2f}" if math.isfinite(d) else "–" for d in table["error"] - table["published"]]
    print(f"\n{shown.to_string()}\n\n{results.caption(table)}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=("cifar10-lt", "cifar100-lt"), default="cifar10-lt")
    parser.add_argument("--imbalance", type=float, default=100)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget-minutes", type=float, default=math.inf)
    parser.add_argument("--arrays", type=Path, help="an .npz with the subset's images, instead of the official files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--eager", action="store_true", help="take the step as it is written, not as a CUDA graph")
    parser.add_argument("--quick", action="store_true", help="one image of 50, one epoch per stage; rows under runs/")
    parser.add_argument("--output", type=Path, help="CSV of the rows")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "reproduce", help="folder of the checkpoints")
    arguments = parser.parse_args()
    name = f"{arguments.data}-{arguments.imbalance:g}"
    if arguments.output is None:
        arguments.output = (arguments.runs / "quick" if arguments.quick else ROOT / "data" / "results") / f"{name}.csv"
    try:
        device = find_device(arguments.device)
    except ValueError:
        print(
            f"there is no device {arguments.device!r} here. The paper's settings need a CUDA device; on a CPU a run of "
            "200 epochs takes hours. --device cpu --quick runs a tiny version, --device cpu the whole."
        )
        return 2
    left = reproduce(arguments, device)
    report(arguments.output, names_for(arguments.data))
    if not left:
        print("nothing is left to run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
