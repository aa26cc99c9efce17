"""The command line: a command is a function whose signature gives the options and whose docstring gives their help.

Options that several commands have are dataclasses. cyclopts reads both; it is imported when a command runs, so that
`ltlab --help` is quick.
"""
# ruff: noqa: RUF009 (`default` is a dataclass field)

import ast
import io
import os
import shutil
import subprocess
import sys
import sysconfig
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from pickle import PickleError
from typing import TYPE_CHECKING, Annotated, Any
from zipfile import BadZipFile

if TYPE_CHECKING:
    import pandas as pd

    from .data import LongTailedData
    from .recipes import Plan, Recipe, Settings
    from .train import Result

PROPER_SCORES = ("negative_log_likelihood", "brier_score")  # in nats, and from 0 to 2: not fractions
NOT_IN_NAMES = ("workers", "on_error", "stream", "lists", "download")  # options that leave the images as they are


def default(value: Any, help: str) -> Any:
    """A field of a group of options, with its help."""
    return field(default=value, metadata={"help": help})


# --- options that commands share: the docstring of a group is its title in the help ----------------------------------


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Data"""

    imbalance: str | None = default(
        None, "largest over smallest class count, 'none' for every image; the default is 100, for custom sets none"
    )
    kind: str = default("exp", "profile of the class counts: exp or step")
    option: tuple[str, ...] = default((), "NAME=VALUE of the data set, such as context=0.9")
    root: Path | None = default(None, "where the CIFAR files are or go; LTLAB_DATA is the default")

    def load(self, name: str, seed: int) -> "LongTailedData":
        from .data import load

        profile = self.profile(name)
        try:
            factor = None if profile == "none" else float(profile)
        except ValueError:
            raise ValueError(f"imbalance={profile!r} is neither a number of at least 1 nor 'none'") from None
        options = dict(map(_parsed, self.option))
        return load(name, imbalance=factor, kind=self.kind, seed=seed, root=self.root, **options)

    def profile(self, name: str) -> str:
        """The imbalance as it was given, or the default of the set."""
        from .data import DATA_SETS

        return (self.imbalance or ("100" if name in DATA_SETS else "none")).lower()

    def folder_name(self, name: str) -> str:
        """What tells the data of runs apart, as the name of their folder."""
        from .results.comparison import file_name

        path = Path(name)
        stem = path.stem if path.suffix.lower() == ".npz" else path.name or path.resolve().name
        options = [text for text in self.option if text.partition("=")[0] not in NOT_IN_NAMES]
        return file_name("-".join([stem, self.profile(name), *([] if self.kind == "exp" else [self.kind]), *options]))


@dataclass(frozen=True, kw_only=True)
class Data(Subset):
    """Data"""

    data: str = default("shapes-lt", "shapes-lt, cifar10-lt, cifar100-lt, a .npz file or a folder")


@dataclass(frozen=True, kw_only=True)
class Training:
    """Training"""

    epochs: int | None = default(None, "total epochs; the stages of a recipe keep their proportions")
    settings: str | None = default(
        None,
        "train as is usual on shapes, small, cifar, imagenet-lt, imagenet-lt-90 (the paper's), inat18, inat18-90 or "
        "places-lt; the default is the data set's own, for custom images imagenet-lt from 224 pixels on, else small "
        "up to 5,000 training images, else cifar",
    )
    batch_size: int | None = default(None, "images per step; the settings' is the default")
    lr: float | None = default(None, "learning rate of training from scratch; later stages' change in proportion")

    def settings_for(self, data: "LongTailedData") -> "Settings":
        from .names import look_up
        from .recipes import SETTINGS, SMALL, settings_for

        settings = settings_for(data.name, data.side, len(data.train))
        if self.settings is not None:
            settings = look_up("settings", self.settings, {"small": SMALL} | SETTINGS)
        if self.batch_size is not None:
            settings = replace(settings, batch_size=self.batch_size)
        return settings if self.lr is None else settings.with_learning_rate(self.lr)

    def changes(self) -> str:
        """What changes the settings, as a part of a folder's name; "" for nothing."""
        given = {"-": self.settings, "-batch": self.batch_size, "-lr": self.lr}
        return "".join(f"{prefix}{value}" for prefix, value in given.items() if value is not None)

    def resolve(self, recipe: "Recipe", data: "LongTailedData") -> "Plan":
        if recipe.settings is not None and self.changes():
            raise ValueError(
                f"recipe {recipe.name!r} has its own settings, {recipe.settings.name}: it takes no --settings, "
                "--batch-size or --lr"
            )
        return recipe.resolve(self.settings_for(data))


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Computing"""

    device: str = default("auto", "auto, cpu, cuda, cuda:1, mps")
    precision: str = default("auto", "auto, float32 (32-true), bfloat16 (bf16-mixed)")
    capture: bool = default(False, "record the step as a CUDA graph")
    threads: int | None = default(
        None, "CPU threads; the default is OMP_NUM_THREADS, else 1 for the small net and all for larger ones"
    )

    def of(self, settings: "Settings") -> dict[str, Any]:
        """What `fit` takes of these; the number of threads is set."""
        import torch

        from .counts import check_integer

        if self.threads is not None:
            torch.set_num_threads(check_integer("threads", self.threads, least=1))
        elif settings.model == "small_net" and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(1)  # on a busy machine several threads wait for each other
        return {"device": self.device, "precision": self.precision, "capture": self.capture}


@dataclass(frozen=True, kw_only=True)
class Photographs:
    """Photographs"""

    test: Path | None = default(None, "of a list or CSV: another of test images")
    root: Path | None = default(None, "folder that the paths of a list or CSV start from; its own is the default")
    size: int | None = default(
        None, "side in pixels, as the backbone sees them; the default is 96 for small photographs, else 224"
    )
    backbone: str = default("efficientnet_lite0", "frozen network: efficientnet_lite0, or one of torchvision or timm")
    cache: Path | None = default(None, "folder of the features")


@dataclass(frozen=True, kw_only=True)
class Watching:
    """Watching"""

    evaluate_every: int = default(1, "epochs between evaluations on the test set; the last epoch always has one")
    results: Path | None = default(None, "append the result's row to this CSV file, unless it has the run's row")
    tensorboard: Path | None = default(None, "write the run's curves to this folder; needs `pip install tensorboard`")


# --- commands --------------------------------------------------------------------------------------------------------


def lab(*arguments: str) -> None:
    """Open JupyterLab on the first notebook.

    The notebooks are your own copies, in my_notebooks. What is there stays;
    delete a file to get it as it came.

    Args:
        arguments: passed on to jupyter
    """
    from jupyterlab.labapp import LabApp

    notebooks = Path(__file__).parents[1] / "notebooks"
    if not notebooks.is_dir():
        raise FileNotFoundError(f"{notebooks} does not exist: clone the repository and run `uv run ltlab lab` in it")
    mine = _copied(notebooks, notebooks.parent / "my_notebooks")
    sys.argv = ["jupyter-lab"]  # the name in jupyter's own messages
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the kernels, as the texts were made
    settings = str(notebooks / ".jupyter")  # next to the learner's own: no question about news over the page
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, (os.environ.get("JUPYTER_CONFIG_PATH"), settings)))
    first = "--LabApp.default_url=/lab/tree/00_start_here.ipynb"
    try:
        LabApp.launch_instance(argv=[f"--ServerApp.root_dir={mine}", first, *arguments])
    except SystemExit as stop:
        if stop.code and getattr(os, "geteuid", lambda: 1)() == 0 and "--allow-root" not in arguments:
            raise PermissionError("jupyter does not start for root: `ltlab lab --allow-root` makes it") from None
        raise


def _copied(notebooks: Path, mine: Path) -> Path:
    """Copy what is not there yet, so that a learner's work changes nothing that is committed."""
    for path in (*notebooks.glob("*.ipynb"), *notebooks.glob("*.md"), *notebooks.glob("solutions/*.ipynb")):
        copy = mine / path.relative_to(notebooks)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return mine


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
    from . import recipes
    from .results import comparison, rows
    from .train import fit, is_first

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

    from . import results
    from .metrics import per_class_accuracy

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

    from . import plots

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

    from . import plots, recipes, results

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
    """Search for the best combination of tricks; print it as Python code.

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
    from . import results

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

    from .counts import check_integer
    from .reporting import report

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


def list_recipes(name: str | None = None, /, *, data: str | None = None, code: bool = False) -> None:
    """List the recipes, or show one: which trick is on when.

    Args:
        name: a recipe's name, or a custom one, FILE.py:NAME
        data: fill in what the recipe leaves open for this data set
        code: as Python code to paste
    """
    from . import recipes, results
    from .names import look_up
    from .recipes.schedules import OF_DATA

    settings = look_up("data set", data, OF_DATA) if data else None
    for family, members in {"": [recipes.load(name)]}.items() if name else recipes.FAMILIES.items():
        if family and not code:
            print(f"{family}:")
        for recipe in members:
            recipe = recipe.resolve(settings) if settings else recipe
            print(f"{results.to_code(recipe)}\n" if code else f"{recipe}\n" if name else _one_line(recipe))


def _one_line(recipe: "Recipe") -> str:
    """A recipe's name and, for every stage, its epochs (or its fraction of the settings') and what is in its slots."""
    from .recipes import describe

    stages = []
    for stage in recipe.stages:
        loss = stage.loss if stage.epochs != 0 else None
        slots = filter(None, (stage.sampler, stage.foreground, stage.mix, loss, stage.classifier))
        epochs = f"{stage.share:.0%}" if stage.epochs is None else f"{stage.epochs}"
        stages.append(f"{epochs:>4} {', '.join(map(describe, slots))}")
    return f"  {recipe.name:36} {' → '.join(stages)}"


def show_data(
    name: str | None = None, /, *, seed: int = 0, sheet: Path | None = None, cam: Path | None = None,
    subset: Subset = Subset(),
) -> None:  # fmt: skip
    """List the data sets, or show one: size, class counts, sample images.

    Args:
        name: a data set
        seed: draws the subset
        sheet: draw the first training images of every class to this file; .png without an ending
        cam: checkpoint of a run on these data: draw the images that CAM-based re-sampling makes with its model
    """
    from .data import DATA_SETS

    if name is None:
        for known, about in DATA_SETS.items():
            print(f"{known:14} {about}")
        return
    if cam is not None and sheet is None:
        raise ValueError("--cam draws a contact sheet: say where to with --sheet FILE")
    data = subset.load(name, seed)
    if sheet is not None:
        _draw_sheet(data, sheet if sheet.suffix else sheet.with_suffix(".png"), cam, seed)
    arrays = [x for split in (data.train, data.test) for x in (split.images, split.labels, split.masks)]
    weight = sum(x.nbytes for x in arrays if x is not None)
    print(f"{data}\n{weight / 2**20:.1f} MiB in memory, fingerprint {data.fingerprint}\n")
    for class_name, count in zip(data.class_names, data.class_counts.tolist(), strict=True):
        print(f"{count:7} {class_name}")


def _draw_sheet(data: "LongTailedData", path: Path, checkpoint: Path | None, seed: int) -> None:
    import torch
    from matplotlib import pyplot as plt

    from .cam import ForegroundTransform, materialise
    from .plots import contact_sheet
    from .train import load_model

    images, labels = data.train.images, data.train.labels
    if checkpoint is not None:
        if not isinstance(images, torch.Tensor):
            raise ValueError("--cam makes new images of those in memory: leave -o stream=True out")
        model, generator = load_model(checkpoint, data), torch.Generator().manual_seed(seed)
        images, labels = materialise(ForegroundTransform(), model, images, labels, generator=generator)
        print(f"{len(images):,} new images, {(labels == labels[-1]).sum():,} of class {data.class_names[-1]}")
    rows = min(len(data.class_names), 20)
    axes = contact_sheet(images, labels, rows=rows)
    for row, (name, count) in enumerate(zip(data.class_names[:rows], torch.bincount(labels.cpu()), strict=False)):
        axes.text(-0.1, row + 0.5, f"{name}, {count:,}", ha="right", va="center")
    path.parent.mkdir(parents=True, exist_ok=True)
    plt.savefig(path, dpi=150, bbox_inches="tight")
    print(f"contact sheet written to {path}")


def book(*, output: Path | None = None) -> None:
    """Build the course as a static site, to be read without a kernel.

    Args:
        output: folder of the site; docs/_build is the default
    """
    script = Path(__file__).parents[1] / "docs" / "book" / "build.py"
    if not script.exists():
        raise FileNotFoundError(f"{script} does not exist: clone the repository and run `uv run ltlab book` in it")
    if not all(map(find_spec, ("myst_nb", "furo", "latex2mathml", "ziamath"))):
        raise ModuleNotFoundError("the book's own packages are missing: `uv sync`, or `pip install --group book`")
    site = output or script.parents[1] / "_build"
    site.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the notebooks were executed
    if status := subprocess.run([sys.executable, script, site], check=False).returncode:
        sys.exit(status)
    print(f"written to {site / 'index.html'}")


def quizzes(*notebook: str, format: str = "moodle", output: Path | None = None) -> None:
    """Export the quizzes for Moodle and other learning platforms.

    Args:
        notebook: numbers, such as 02 05; all of them by default
        format: moodle (its XML) or gift
        output: the file; ltlab-quizzes.xml or .gift is the default
    """
    from .course import exports

    text = exports.export(format, notebook)
    path = output or Path(f"ltlab-quizzes{exports.ENDINGS[format]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def detect() -> None:
    """Train a detector on boxes, evaluate it, or draw what it finds."""


def assignments(folder: Path, /, *notebook: str, seed: int = 0) -> None:
    """Write the exercises as assignments for nbgrader.

    Args:
        folder: nbgrader's course folder; made if it is not there
        notebook: numbers, such as 02 05; all of them by default
        seed: draws the arguments of the tests; choose one and keep it to yourself
    """
    from .course.assignments import write_assignments

    for path in write_assignments(folder, seed, notebook):
        print(f"written to {path}")


COMMANDS = {"lab": lab, "train": train, "compare": compare, "search": search, "report": report, "detect": detect,
            "recipes": list_recipes, "data": show_data, "book": book, "quizzes": quizzes,
            "assignments": assignments}  # fmt: skip


# --- reading the command line ----------------------------------------------------------------------------------------


def _parsed(text: str) -> tuple[str, Any]:
    """Name and value of a NAME=VALUE; a value that is not a Python literal is text."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError(f"option {text!r} is not NAME=VALUE, such as context=0.9")
    if name in ("name", "imbalance", "kind", "root", "seed"):
        raise ValueError(f"-o {text}: use --{'data' if name == 'name' else name} {value}")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError, TypeError):  # TypeError: {[]: 1}
        return name, value


AFTER = """`ltlab COMMAND --help` lists a command's options; after
`ltlab --install-completion` the Tab key completes them."""


def _overview() -> str:
    lines = (f"  {name:11} {str(command.__doc__).splitlines()[0]}" for name, command in COMMANDS.items())
    return "\n".join(["Usage: ltlab COMMAND [OPTIONS]\n", *lines, f"\n{AFTER}"])


def _check_integers(_app: object, _command: object, arguments: Any) -> None:
    """Refuse 1.5 for an integer, which cyclopts would round."""
    for argument in arguments:
        for token in argument.tokens if argument.hint in (int, int | None) else ():
            if not token.value.lstrip("+-").isdecimal():
                raise ValueError(f"{token.keyword} {token.value}: it must be an integer")


@cache
def _flatten_groups() -> None:
    """Make the fields of the groups options without a prefix, under the group's title."""
    from cyclopts import Group, Parameter

    for order, group in enumerate((Subset, Data, Photographs, Training, Compute, Watching), start=1):
        Parameter(name="*", group=Group(str(group.__doc__), sort_key=order))(group)
    Training.__annotations__["settings"] = Annotated[str | None, Parameter(alias="--protocol")]


def _call(arguments: Sequence[str]) -> None:
    """Call the command that the arguments name; a mistake in them is a ValueError."""
    from . import require_extra

    require_extra("train")
    from cyclopts import App, CycloptsError, Group, Parameter

    _flatten_groups()
    options = Parameter(
        negative=(),
        allow_repeating=True,  # the last one counts
        short_alias=lambda field, _: "-o" if field.name == "option" else None,
        show_default=lambda value: None if value in (None, ()) or value is False else str(value),
    )
    app = App(
        "ltlab", help_format="plaintext", version_flags=(), default_parameter=options,
        group_parameters=Group("Options", sort_key=0), config=_check_integers,
        print_error=False, exit_on_error=False, result_action="return_value",
    )  # fmt: skip
    for name, command in COMMANDS.items():
        if command is not detect:
            app.command(command, name=name)
    if arguments[:1] == ["detect"]:
        from .detection.commands import COMMANDS as OF_DETECT

        app.command(inside := App("detect", help=detect.__doc__, result_action="return_value"))
        for name, command in OF_DETECT.items():
            inside.command(command, name=name)
    app["lab"].default_parameter = Parameter(allow_leading_hyphen=True)
    if "--install-completion" in arguments:
        app.register_install_completion_command()
    try:
        app(arguments)
    except CycloptsError as error:
        raise ValueError(error) from error


def _where(error: Exception) -> str:
    """Where custom code raised an error, or its cause, and what; "" if only ltlab and libraries took part."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    inside = (str(Path(__file__).parent), str(Path(os.__file__).parent), sysconfig.get_path("purelib"))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(inside)]
    return f"{frames[-1].filename}, line {frames[-1].lineno}: {type(error).__name__}: {error}" if frames else ""


def run(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status: 2 for a user's mistake, which is one line on standard error."""
    if not sys.stderr.isatty() and "lab" not in arguments[:1]:  # whose notebooks have bars
        os.environ.setdefault("TQDM_DISABLE", "1")  # no progress bars of downloads in a log
    try:
        if set(arguments) <= {"-h", "--help"}:
            print(_overview())
        else:
            _call(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, TypeError, OSError, ImportError, FloatingPointError, PickleError, BadZipFile) as error:
        place = [f"({where})"] if error.__cause__ and (where := _where(error)) else []
        print("ltlab:", *str(error).split(), *place, file=sys.stderr)
        return 1 if isinstance(error, FloatingPointError) else 2
    except Exception as error:  # whatever custom code raises
        if not (where := _where(error)):
            raise
        print(f"ltlab: {' '.join(where.split())}", file=sys.stderr)
        return 2
    return 0 if arguments else 2


def main() -> None:
    """Run the command that this process was started with, and end with its status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file or a pipe may be in an encoding without –, ± or γ
            stream.reconfigure(errors="replace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
