"""The command line: ltlab lab | train | compare | search | recipes | data | book."""

import ast
import io
import json
import os
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

from . import require_extra

require_extra("train")

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, help=__doc__
)

DataName = Annotated[str, typer.Option("--data", help="shapes-lt, cifar10-lt, cifar100-lt, a .npz file or a folder")]
Imbalance = Annotated[
    str, typer.Option(help="largest over smallest class count; 'none' keeps every image of a set of your own")
]
Kind = Annotated[str, typer.Option(help="profile of the class counts: exp or step")]
Options = Annotated[list[str], typer.Option("--option", "-o", help="NAME=VALUE of the data set, such as context=0.9")]
Seed = Annotated[int, typer.Option(help="draws the subset; in training also weights, order and augmentation")]
Root = Annotated[Path | None, typer.Option(help="where the CIFAR files are or go; LTLAB_DATA is the default")]
ProtocolName = Annotated[
    str | None,
    typer.Option(
        "--protocol",
        help="train as is usual on shapes, cifar, imagenet-lt, imagenet-lt-90 (the paper's), inat18, inat18-90 or "
        "places-lt; the data's own when left out, for images of your own imagenet-lt from 224 pixels on, else cifar",
    ),
]
Epochs = Annotated[int | None, typer.Option(help="shorten or stretch a recipe to this many epochs")]
BatchSize = Annotated[int | None, typer.Option(help="images; the protocol's when left out")]
LearningRate = Annotated[
    float | None, typer.Option("--lr", help="of training from scratch; later stages' follow in proportion")
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps")]
Precision = Annotated[str, typer.Option(help="auto, float32 (32-true), bfloat16 (bf16-mixed)")]
Capture = Annotated[bool, typer.Option("--capture", help="take the step as a CUDA graph")]


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def lab(context: typer.Context) -> None:
    """Open JupyterLab on the first notebook; further arguments reach jupyter."""
    from jupyterlab.labapp import LabApp

    notebooks = Path(__file__).parents[1] / "notebooks"
    if not (notebooks / "00_start_here.ipynb").exists():
        raise FileNotFoundError(f"no notebooks at {notebooks}: clone the repository and run `uv run ltlab lab` in it")
    sys.argv = ["jupyter-lab"]  # what jupyter says in its own messages
    with TemporaryDirectory() as folder:  # settings beside the learner's own: no question about news over the page
        page_config = Path(folder) / "labconfig" / "page_config.json"
        page_config.parent.mkdir()
        disabled = {"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": True}}
        page_config.write_text(json.dumps(disabled), encoding="utf-8")
        places = [os.environ.get("JUPYTER_CONFIG_PATH"), folder]
        os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, places))
        LabApp.launch_instance(argv=[str(notebooks / "00_start_here.ipynb"), *context.args])


@app.command()
def train(
    data: DataName = "shapes-lt",
    recipe: Annotated[
        str, typer.Option(help="a recipe's name, `ltlab recipes` lists them; or one of yours, FILE.py:NAME")
    ] = "ce",
    seed: Seed = 0,
    epochs: Epochs = None,
    protocol: ProtocolName = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    imbalance: Imbalance = "100",
    kind: Kind = "exp",
    option: Options = [],  # noqa: B006 (typer wants a list and does not change it)
    root: Root = None,
    device: Device = "auto",
    precision: Precision = "auto",
    devices: Annotated[int, typer.Option(help="how many of this machine, a process for each")] = 1,
    num_nodes: Annotated[int, typer.Option(help="machines, each with so many devices")] = 1,
    batch_norm: Annotated[str, typer.Option(help="across devices: local or sync")] = "local",
    timeout: Annotated[
        float, typer.Option(help="seconds that a process waits for the others once all have joined")
    ] = 120.0,
    output: Annotated[
        Path | None, typer.Option(help="folder of the run; runs/DATA/RECIPE/seedN is the default")
    ] = None,
    evaluate_every: Annotated[
        int, typer.Option(help="epochs between looks at the test error; the last always gets one")
    ] = 1,
    capture: Capture = False,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the run's checkpoint")] = False,
    start_from: Annotated[
        Path | None, typer.Option(help="checkpoint of a finished run of the recipe's first stages; goes on from it")
    ] = None,
    results: Annotated[
        Path | None, typer.Option(help="append the result's row to this CSV, unless the run's is there")
    ] = None,
    tensorboard: Annotated[
        Path | None, typer.Option(help="write the run's curves to this folder; needs `pip install tensorboard`")
    ] = None,
) -> None:
    """Train a recipe and print the last epoch's figures."""
    from . import recipes
    from .results import append_row, result_row
    from .results.comparison import file_name
    from .results.rows import RUN, check_appendable, runs_in, skipping
    from .train import fit, is_first

    chosen = recipes.load(recipe)
    there = set()
    if results is not None:  # now, as a file that is damaged or read-only is no news for the end of training
        there = runs_in(results)
        check_appendable(results)
    loaded = _load(data, imbalance, kind, root, option, seed)
    chosen = _resolve(chosen, loaded, protocol, batch_size, lr)
    if epochs is not None:
        chosen = chosen.with_epochs(epochs)
    changes = {"-": protocol, "-batch": batch_size, "-lr": lr}
    changed = "".join(f"{what}{value}" for what, value in changes.items() if value is not None)
    name = _run_name(data, imbalance, kind, option)
    folder = output or Path("runs") / name / f"{file_name(chosen.name)}-{chosen.epochs}{changed}" / f"seed{seed}"
    if is_first():
        typer.echo(f"{loaded}\n{chosen}\n")
    checkpoint = folder / "checkpoint.pt"
    try:
        result = fit(
            chosen, loaded, seed=seed, device=device, precision=precision, capture=capture,
            evaluate_every=evaluate_every, checkpoint=checkpoint, resume=resume, start_from=start_from,
            devices=devices, num_nodes=num_nodes, batch_norm=batch_norm, timeout=timeout, tensorboard=tensorboard,
        )  # fmt: skip
    except KeyboardInterrupt:
        if is_first() and checkpoint.exists():
            typer.echo(f"stopped: the same command with --resume goes on from {checkpoint}", err=True)
        raise
    if not is_first():
        return
    for figure, value in result.metrics.items():
        shown = f"{value:6.1%}" if value == value else "     – (no class in this group)"
        typer.echo(f"{figure.replace('_', ' '):28} {shown}")
    if skipping(loaded):
        typer.echo(
            f"{loaded.train.skipped} training and {loaded.test.skipped} test images could not be read; others of their "
            "classes took their places"
        )
    typer.echo(f"{'seconds':28} {result.seconds:6.1f}")
    row = result_row(result, loaded, seed)
    (folder / "result.csv").unlink(missing_ok=True)
    append_row(folder / "result.csv", row)
    if results is not None and tuple(row[column] for column in RUN) not in there:
        append_row(results, row)
    typer.echo(f"written to {folder}")


@app.command()
def compare(
    recipe: Annotated[
        list[str] | None, typer.Argument(help="names, `ltlab recipes` lists them; or recipes of yours, FILE.py:NAME")
    ] = None,
    family: Annotated[
        str | None,
        typer.Option(help="its recipes: re-weighting, re-sampling, mixup, two-stage, cam, combinations, large; or all"),
    ] = None,
    data: DataName = "shapes-lt",
    seeds: Annotated[int, typer.Option(help="how many; each draws the subset and the training")] = 3,
    epochs: Epochs = None,
    protocol: ProtocolName = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    imbalance: Imbalance = "100",
    kind: Kind = "exp",
    option: Options = [],  # noqa: B006
    root: Root = None,
    device: Device = "auto",
    precision: Precision = "auto",
    capture: Capture = False,
    processes: Annotated[
        int, typer.Option(help="runs side by side, each with its share of the CPU's threads; small nets gain")
    ] = 1,
    output: Annotated[Path | None, typer.Option(help="folder; runs/compare-DATA-IMBALANCE is the default")] = None,
) -> None:
    """Train recipes with several seeds and print one table; run again, it goes on where it stopped."""
    from . import plots, recipes, results

    if family == "all":  # that train on small images
        members = [member for name, of in recipes.FAMILIES.items() if name != "large" for member in of]
    else:
        members = recipes.family(family) if family else ()
    asked = dict.fromkeys([*map(recipes.load, recipe or []), *members])
    data_of_seed = partial(_load, data, imbalance, kind, root, option)
    if (protocol, batch_size, lr) != (None, None, None):
        first = data_of_seed(0)
        asked = [_resolve(one, first, protocol, batch_size, lr) for one in asked]
    folder = output or Path("runs") / f"compare-{_run_name(data, imbalance, kind, option)}"
    rows = results.compare(
        asked, data_of_seed, seeds, folder=folder, epochs=epochs,
        device=device, precision=precision, capture=capture, processes=processes,
    )  # fmt: skip
    table = results.table(rows)
    table.round(4).to_csv(folder / "table.csv")
    axes = plots.comparison(table, baseline="ce" if "ce" in table.index else None)
    axes.figure.savefig(folder / "comparison.png", dpi=150)
    typer.echo(f"{data}, imbalance {imbalance}\n\n{results.formatted(table).to_string()}\n\n{results.caption(table)}")
    typer.echo(f"written to {folder}")


@app.command()
def search(
    data: DataName = "shapes-lt",
    seeds: Annotated[int, typer.Option(help="how many; each draws the subset, what is held out and the training")] = 3,
    epochs: Annotated[int | None, typer.Option(help="of every candidate; the protocol's when left out")] = None,
    budget_minutes: Annotated[float, typer.Option(help="of this call; called again, the search goes on")] = 30.0,
    validation: Annotated[
        float, typer.Option(help="share of every class's training images that is held out to choose by")
    ] = 0.2,
    protocol: ProtocolName = None,
    batch_size: BatchSize = None,
    lr: LearningRate = None,
    imbalance: Imbalance = "100",
    kind: Kind = "exp",
    option: Options = [],  # noqa: B006
    root: Root = None,
    device: Device = "auto",
    precision: Precision = "auto",
    capture: Capture = False,
    output: Annotated[Path | None, typer.Option(help="folder; runs/search-DATA-IMBALANCE is the default")] = None,
) -> None:
    """Search for a recipe: the best trick of each family, then pairs, then more; print it as Python code.

    It chooses by held-out training images and looks at the test set once, at the end.
    """
    from . import results

    data_of_seed = partial(_load, data, imbalance, kind, root, option)
    another = (protocol, batch_size, lr) != (None, None, None)
    folder = output or Path("runs") / f"search-{_run_name(data, imbalance, kind, option)}"
    found = results.search(
        data_of_seed, seeds, folder=folder, budget_minutes=budget_minutes, epochs=epochs, validation=validation,
        protocol=_protocol(data_of_seed(0), protocol, batch_size, lr) if another else None,
        device=device, precision=precision, capture=capture,
    )  # fmt: skip
    typer.echo(f"{data}, imbalance {imbalance}\n\n{found}")
    if found.finished:
        typer.echo(f"\n{found.code}")
    typer.echo(f"the runs are in {folder}")


@app.command("recipes")
def list_recipes(
    name: Annotated[str | None, typer.Argument(help="a name or FILE.py:NAME; all that ltlab has when left out")] = None,
    data: Annotated[
        str | None, typer.Option("--data", help="fill in what the recipe leaves open for these data")
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="as Python code to paste")] = False,
) -> None:
    """List the recipes: which trick is on when."""
    from . import recipes, results

    for recipe in [recipes.load(name)] if name else recipes.RECIPES.values():
        shown = recipe.resolve(recipes.protocol_for(data)) if data else recipe
        typer.echo(f"{results.to_code(shown) if code else shown}\n")


@app.command("data")
def show_data(
    name: Annotated[str | None, typer.Argument(help="a data set; all that ltlab knows when left out")] = None,
    imbalance: Imbalance = "100",
    kind: Kind = "exp",
    seed: Seed = 0,
    option: Options = [],  # noqa: B006
    root: Root = None,
    sheet: Annotated[
        Path | None,
        typer.Option(help="draw a contact sheet of the training images to this file; .png without an ending"),
    ] = None,
    cam: Annotated[
        Path | None,
        typer.Option(
            help="the checkpoint of a run on these data: the sheet shows the images that CAM-based re-sampling "
            "makes with its model"
        ),
    ] = None,
) -> None:
    """Say what data are there and what they weigh; draw a contact sheet."""
    from .data import DATA_SETS

    if name is None:
        for known, about in DATA_SETS.items():
            typer.echo(f"{known:14} {about}")
        return
    if cam is not None and sheet is None:
        raise ValueError("--cam draws a contact sheet: say where to with --sheet FILE")
    sheet = None if sheet is None else _figure_file(sheet)
    loaded = _load(name, imbalance, kind, root, option, seed)
    weight = sum(s.images.nbytes + s.labels.nbytes + (0 if s.masks is None else s.masks.nbytes)
                 for s in (loaded.train, loaded.test))  # fmt: skip
    typer.echo(f"{loaded}\n{weight / 2**20:.1f} MiB in memory, fingerprint {loaded.fingerprint}\n")
    for class_name, count in zip(loaded.class_names, loaded.class_counts.tolist(), strict=True):
        typer.echo(f"{count:7} {class_name}")
    if sheet is not None:
        images, labels = loaded.train.images, loaded.train.labels
        if cam is not None:
            images, labels = _materialised(loaded, cam, seed)
        _contact_sheet(images, labels, loaded.class_names, sheet)
        typer.echo(f"contact sheet written to {sheet}")


@app.command()
def book(
    output: Annotated[Path | None, typer.Option(help="folder of the site; docs/_build is the default")] = None,
) -> None:
    """Build the course as a static site that needs no network and no kernel; index.html is its first page."""
    script = Path(__file__).parents[1] / "docs" / "book" / "build.py"
    if not script.exists():
        raise FileNotFoundError(f"no book at {script.parent}: clone the repository and run `uv run ltlab book` in it")
    if not all(map(find_spec, ("myst_nb", "furo", "latex2mathml", "ziamath"))):
        raise ModuleNotFoundError("the book's own packages are missing: `uv sync`, or `pip install --group book`")
    site = output or script.parents[1] / "_build"
    if status := subprocess.run([sys.executable, script, site], check=False).returncode:
        raise typer.Exit(status)
    typer.echo(f"written to {site / 'index.html'}")


# what -o says of how images are read and where they are
UNNAMED_OPTIONS = ("workers", "on_error", "stream", "lists", "download")


def _run_name(data: str, imbalance: str, kind: str, option: list[str]) -> str:
    """The folder of runs on these data, named by what tells them apart."""
    from .results.comparison import file_name

    path = Path(data)
    name = path.stem if path.suffix.lower() == ".npz" else path.name or path.resolve().name
    named = [text for text in option if text.partition("=")[0] not in UNNAMED_OPTIONS]
    return file_name("-".join([name, imbalance, *([] if kind == "exp" else [kind]), *named]))


def _protocol(data, name: str | None, batch_size: int | None, lr: float | None):
    """The protocol of that name, or the data's own, with another batch size or learning rate where they are given."""
    from .names import look_up
    from .recipes import PROTOCOLS, protocol_for

    protocol = protocol_for(data.name, data.side) if name is None else look_up("protocol", name, PROTOCOLS)
    if batch_size is not None:
        protocol = replace(protocol, batch_size=batch_size)
    return protocol if lr is None else protocol.with_learning_rate(lr)


def _resolve(recipe, data, *changes: object):
    """The recipe by `_protocol`'s protocol; one with a protocol of its own takes no changes."""
    if recipe.protocol is not None and any(change is not None for change in changes):
        raise ValueError(
            f"recipe {recipe.name!r} has a protocol of its own, {recipe.protocol.name}: it takes no --protocol, "
            "--batch-size or --lr"
        )
    return recipe.resolve(_protocol(data, *changes))


# what -o cannot set, because `load` has it from elsewhere
OWN_OPTIONS = {
    "name": "it is the data set itself, --data NAME or `ltlab data NAME`",
    "imbalance": "use --imbalance {value}",
    "kind": "use --kind {value}",
    "root": "use --root {value}",
    "seed": "use --seed {value}; compare and search take the seeds from 0 on, --seeds",
}


def _load(name: str, imbalance: str, kind: str, root: Path | None, option: list[str], seed: int):
    from .data import load

    options = {}
    for text in option:
        key, equals, value = text.partition("=")
        if not equals:
            raise ValueError(f"option {text!r} is not NAME=VALUE, such as context=0.9")
        if key in OWN_OPTIONS:
            raise ValueError(f"-o {text}: {OWN_OPTIONS[key].format(value=value)}")
        try:
            options[key] = ast.literal_eval(value)
        except (ValueError, SyntaxError, TypeError):  # TypeError: {[]: 1}
            options[key] = value
    try:
        factor = None if imbalance.lower() == "none" else float(imbalance)
    except ValueError:
        raise ValueError(f"imbalance={imbalance!r} is neither a number of at least 1 nor 'none'") from None
    return load(name, imbalance=factor, kind=kind, seed=seed, root=root, **options)


def _materialised(data, checkpoint: Path, seed: int):
    """The images that the authors' count rule adds to every class, with the model of a checkpoint, and their labels."""
    import torch

    from .cam import ForegroundTransform, materialise
    from .train import load_model

    model = load_model(checkpoint, data)
    generator = torch.Generator().manual_seed(seed)
    images, labels = materialise(
        ForegroundTransform(), model, data.train.images, data.train.labels, generator=generator
    )
    typer.echo(f"{len(images):,} new images, {(labels == labels[-1]).sum():,} of class {data.class_names[-1]}")
    return images, labels


def _figure_file(path: Path) -> Path:
    """The file, with .png where its name has no ending; refused where matplotlib writes none with its ending."""
    from matplotlib.backend_bases import FigureCanvasBase

    from .names import look_up

    if not path.suffix:
        return path.with_suffix(".png")
    look_up(f"format in --sheet {path}:", path.suffix[1:].lower(), FigureCanvasBase.get_supported_filetypes())
    return path


def _contact_sheet(images, labels, class_names, path: Path, columns: int = 16) -> None:
    """The first images of every class, a row per class; classes with fewer leave the rest of the row empty."""
    import torch
    from matplotlib.figure import Figure

    from . import plots

    shown = min(len(class_names), 20)
    rows = [torch.nonzero(labels == c).flatten()[:columns] for c in range(shown)]
    _, _, h, w = images.shape
    cells = torch.full((shown * columns, 3, h, w), 255, dtype=torch.uint8)
    for c, indices in enumerate(rows):
        cells[c * columns : c * columns + len(indices)] = images[indices]
    figure = Figure(figsize=(columns * 0.6, shown * 0.6), layout="constrained")
    plots.image_grid(cells, columns=columns, ax=figure.subplots())
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


# what the messages of the package call an argument, and how it is given here
ON_THE_COMMAND_LINE = {
    "resume=True": "--resume",
    "capture=True": "--capture",
    "imbalance=None": "--imbalance none",
    "device='auto'": "--device auto",
    "root= must": "--root must",
    "root=... or": "--root or",
    "download=True": "-o download=True",
    "on_error='skip'": "-o on_error=skip",
    "as then, devices=": "as then, --devices ",
    "pass lists=": "pass -o lists=",
    "pass size=": "pass -o size=",
    "with size=": "with -o size=",
    "workers=1 or workers=0": "-o workers=1 or 0",
    "or workers=0, or": "or -o workers=0, or",
}


def _line(error: Exception) -> str:
    """The error's message as one line, with arguments written as the command line has them."""
    line = " ".join(str(error).split())
    for argument, option in ON_THE_COMMAND_LINE.items():
        line = line.replace(argument, option)
    return f"ltlab: {line}"


def main() -> None:
    """Run the command line; a user's mistake is one line on standard error and exit status 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file or a pipe may be in an encoding without –, ± or γ
            stream.reconfigure(errors="replace")
    try:
        app()
    except (ValueError, OSError, ImportError) as error:
        typer.echo(_line(error), err=True)
        sys.exit(2)
    except FloatingPointError as error:
        typer.echo(_line(error), err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
