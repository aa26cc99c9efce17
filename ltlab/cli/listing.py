"""The commands that show what there is: recipes, and the images of a data set."""
# ruff: noqa: B008 (the groups of options are frozen)

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data import LongTailedData
    from ..recipes import Recipe

from .options import Subset


def list_recipes(name: str | None = None, /, *, data: str | None = None, code: bool = False) -> None:
    """List the recipes, or show one: which trick is on when.

    Args:
        name: a recipe's name, or a custom one, FILE.py:NAME
        data: fill in what the recipe leaves open for this data set
        code: as Python code to paste
    """
    from .. import recipes, results
    from ..names import look_up
    from ..recipes.schedules import OF_DATA

    settings = look_up("data set", data, OF_DATA) if data else None
    for family, members in {"": [recipes.load(name)]}.items() if name else recipes.FAMILIES.items():
        if family and not code:
            print(f"{family}:")
        for recipe in members:
            recipe = recipe.resolve(settings) if settings else recipe
            print(f"{results.to_code(recipe)}\n" if code else f"{recipe}\n" if name else _one_line(recipe))


def _one_line(recipe: "Recipe") -> str:
    """A recipe's name and, for every stage, its epochs (or its fraction of the settings') and what is in its slots."""
    from ..recipes import describe

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
    """List the data sets, or show one: size, class counts, samples.

    Args:
        name: a data set
        seed: draws the subset
        sheet: draw the first training images of every class to this file; .png without an ending
        cam: checkpoint of a run on these data: draw the images that CAM-based re-sampling makes with its model
    """
    from ..data import DATA_SETS

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

    from ..cam import ForegroundTransform, materialise
    from ..plots import contact_sheet
    from ..train import load_model

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
