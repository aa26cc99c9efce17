"""The commands that train: one run, comparisons of recipes, and a report on a data set."""
# ruff: noqa: B008 (the groups of options are frozen)

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from ..data import LongTailedData
    from ..train import Result

from .options import Compute, Data, Photographs, Training, Watching

PROPER_SCORES = ("negative_log_likelihood", "brier_score")  # in nats, and from 0 to 2: not fractions


def train(
    *, recipe: str = "ce", seed: int = 0, output: Path | None = None, resume: bool = False,
    start_from: Path | None = None, data: Data = Data(), training: Training = Training(),
    compute: Compute = Compute(), watching: Watching = Watching(), batch_norm: str = "local",
) -> None:  # fmt: skip
    """Train a recipe; print and draw its metrics, also by class.

    Args:
        recipe: a recipe's name, see `ltlab recipes`, or a custom one, FILE.py:NAME
        seed: draws the subset, weights, order and augmentation
        output: folder of the run; runs/DATA/RECIPE/seedN is the default
        resume: continue from the run's checkpoint
        start_from: checkpoint of another run that began in the same way; continue from there
        batch_norm: of several processes, started by torchrun: local or sync
    """
    from .. import recipes
    from ..results import comparison, rows
    from ..train import fit, is_first

    chosen = recipes.load(recipe)
    if watching.results is not None:  # a file that cannot be appended to is reported before training
        rows.runs_in(watching.results)
        rows.check_appendable(watching.results)
    loaded = data.load(data.data, seed)
    plan = training.resolve(chosen, loaded)
    if training.epochs is not None:
        plan = plan.with_epochs(training.epochs)
    settings = f"{comparison.file_name(plan.name)}-{plan.epochs}{training.changes()}"
    folder = output or Path("runs", data.folder_name(data.data), settings, f"seed{seed}")
    checkpoint = folder / "checkpoint.pt"
    if is_first():
        print(f"{loaded}\n{plan}\n")
    try:
        result = fit(
            plan, loaded, seed=seed, checkpoint=checkpoint, resume=resume, start_from=start_from,
            progress=sys.stderr.isatty(), evaluate_every=watching.evaluate_every, tensorboard=watching.tensorboard,
            batch_norm=batch_norm, **compute.of(plan.settings),
        )  # fmt: skip
    except KeyboardInterrupt:
        if is_first() and checkpoint.exists():
            print(f"stopped: the same command with --resume continues from {checkpoint}", file=sys.stderr)
        raise
    if is_first():
        _report(result, loaded, seed, folder, watching.results)


def _report(result: "Result", data: "LongTailedData", seed: int, folder: Path, file: Path | None) -> None:
    """Print a run's metrics, draw them, and write its rows."""
    import pandas as pd

    from .. import results
    from ..metrics import per_class_accuracy

    accuracy = per_class_accuracy(result.logits, data.test.labels, len(data.class_names))
    classes = pd.DataFrame({"class": data.class_names, "training images": data.class_counts.cpu(),
                            "test accuracy": accuracy.cpu()})  # fmt: skip
    for metric, value in result.metrics.items():
        shown = f"{value:6.3f}" if metric in PROPER_SCORES else f"{value:6.1%}"
        print(f"{metric.replace('_', ' '):28} {shown if value == value else '     – (no class in this group)'}")
    train, test = (getattr(split, "skipped", 0) for split in (data.train, data.test))
    if train or test:
        print(f"{train} training and {test} test images could not be read; others of their classes replaced them")
    print(f"{'seconds':28} {result.seconds:6.1f}\n")
    if len(classes) <= 30:
        print(classes.to_string(index=False, formatters={"test accuracy": "{:.1%}".format}), "\n")
    row = results.result_row(result, data, seed)
    (folder / "result.csv").unlink(missing_ok=True)
    results.append_row(folder / "result.csv", row)
    run = tuple(row[column] for column in results.rows.RUN)
    if file is not None and run not in results.rows.runs_in(file):
        results.append_row(file, row)
    classes.to_csv(folder / "classes.csv", index=False)
    if find_spec("matplotlib"):
        _draw_run(result, classes, folder / "result.png")
    print(f"written to {folder}")


def _draw_run(result: "Result", classes: "pd.DataFrame", path: Path) -> None:
    from matplotlib import pyplot as plt

    from .. import plots

    figure, axes = plt.subplots(1, 3, figsize=(20, 4), width_ratios=(2, 2, 3), layout="constrained")
    plots.training_curves(result.history, axes=axes[:2])
    counts, names = classes["training images"], classes["class"].tolist()
    plots.per_class_error(1 - classes["test accuracy"], counts, names=names, ax=axes[2])
    figure.savefig(path, dpi=100)
    plt.close(figure)


def compare(
    *recipe: str, family: str | None = None, seeds: int = 3, processes: int = 1, prior: str | None = None,
    output: Path | None = None, data: Data = Data(), training: Training = Training(), compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Train recipes with several seeds and print one table.

    Called again, it continues where it stopped.

    Args:
        recipe: names, see `ltlab recipes`, or custom recipes, FILE.py:NAME
        family: its recipes: re-weighting, re-sampling, mixup, two-stage, cam,
            calibration, alignment, combinations, large; or all
        seeds: how many; each draws the subset and the training
        processes: runs side by side, each with its part of the CPU's threads; small networks gain
        prior: also the error where the test set's classes are as frequent as in train, uniform or reversed, or as
            the numbers in a FILE say, one per class
        output: folder of the runs; runs/compare-DATA-IMBALANCE is the default
    """
    from matplotlib import pyplot as plt

    from .. import plots, recipes, results

    if family == "all":  # that train on small images
        members = [member for name, of in recipes.FAMILIES.items() if name != "large" for member in of]
    else:
        members = recipes.family(family) if family else ()
    chosen = list(dict.fromkeys([*map(recipes.load, recipe), *members]))
    if not chosen:
        raise ValueError("name recipes, `ltlab compare ce balanced_softmax`, or a family, `--family re-weighting`")
    first = data.load(data.data, 0)
    if training.changes():
        chosen = [training.resolve(one, first) for one in chosen]
    given = results.prior_named(prior, first.class_counts) if prior else None
    folder = output or Path("runs", f"compare-{data.folder_name(data.data)}")
    rows = results.compare(
        chosen, lambda seed: data.load(data.data, seed) if seed else first, seeds, folder=folder,
        epochs=training.epochs, processes=processes, progress=sys.stderr.isatty(),
        **compute.of(training.settings_for(first)),
    )  # fmt: skip
    table = results.table(rows, given)
    table.round(4).to_csv(folder / "table.csv")
    plots.comparison(table, baseline="ce" if "ce" in table.index else None)
    plt.savefig(folder / "comparison.png", dpi=150)
    print(f"{data.data}, imbalance {data.profile(data.data)}\n\n{results.formatted(table).to_string()}\n")
    print(f"{results.caption(table)}\nwritten to {folder}")


def search(
    *, seeds: int = 3, budget_minutes: float = 30.0, validation: float = 0.2, output: Path | None = None,
    data: Data = Data(), training: Training = Training(), compute: Compute = Compute(),
) -> None:  # fmt: skip
    """Search for the best combination of tricks; print it as code.

    First the best trick of each family, then pairs, then more: with all
    families some 60 recipes in the first round, so begin with few --epochs.
    The search chooses on held-out training images and evaluates on the test
    set once, at the end. Called again, it continues.

    Args:
        seeds: how many; each draws the subset, what is held out and the training
        budget_minutes: of this call
        validation: fraction of every class's training images that is held out to choose on
        output: folder of the runs; runs/search-DATA-IMBALANCE is the default
    """
    from .. import results

    first = data.load(data.data, 0)
    settings = training.settings_for(first)
    folder = output or Path("runs", f"search-{data.folder_name(data.data)}")
    found = results.search(
        lambda seed: data.load(data.data, seed) if seed else first, seeds, folder=folder,
        budget_minutes=budget_minutes, epochs=training.epochs, validation=validation, settings=settings,
        progress=sys.stderr.isatty(), **compute.of(settings),
    )  # fmt: skip
    print(f"{data.data}, imbalance {data.profile(data.data)}\n\n{found}")
    if found.finished:
        print(f"\n{results.to_code(found.recipe)}")
    print(f"the runs are in {folder}")


def report(
    source: str, /, *, prior: str = "uniform", budget_minutes: float = 3.0, folds: int = 5, seed: int = 0,
    output: Path | None = None, device: str = "auto", threads: int | None = None,
    photographs: Photographs = Photographs(),
) -> None:  # fmt: skip
    """Find out which trick helps on your photographs; write a page.

    The source is a folder with train/CLASS/ and, if there are test images,
    test/CLASS/; a folder of CLASS/; a CSV of path and label; a list; or an
    .npz. Called again, it continues where it stopped.

    Args:
        source: a folder, CSV, list, .npz file or data set
        prior: how frequent the classes will be where the recipe is used: uniform, train, reversed, or a FILE of a
            number per class
        budget_minutes: for training; the first recipes are always trained
        folds: parts of the training images that are held out in turn
        seed: draws the parts and the training
        output: folder of the page; runs/report-NAME is the default
        device: auto, cpu, cuda, cuda:1, mps
        threads: CPU threads; the default is OMP_NUM_THREADS, else all
    """
    import torch

    from ..counts import check_integer
    from ..reporting import report

    if threads is not None:
        torch.set_num_threads(check_integer("threads", threads, least=1))
    try:
        made = report(
            source, prior=prior, budget_minutes=budget_minutes, folds=folds, seed=seed, folder=output, device=device,
            progress=sys.stderr.isatty(), **vars(photographs),
        )  # fmt: skip
    except KeyboardInterrupt:
        print("stopped: the same command continues from the runs that have ended", file=sys.stderr)
        raise
    print(made)
