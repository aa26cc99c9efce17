"""The options that commands share: a group is a dataclass whose docstring is its title in the help."""
# ruff: noqa: RUF009 (`default` is a dataclass field)

import ast
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data import LongTailedData
    from ..recipes import Plan, Recipe, Settings

NOT_IN_NAMES = ("workers", "on_error", "stream", "lists", "download")  # options that leave the images as they are


def default(value: Any, help: str) -> Any:
    """A field of a group of options, with its help."""
    return field(default=value, metadata={"help": help})


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
        from ..data import load

        profile = self.profile(name)
        try:
            factor = None if profile == "none" else float(profile)
        except ValueError:
            raise ValueError(f"imbalance={profile!r} is neither a number of at least 1 nor 'none'") from None
        options = dict(map(_parsed, self.option))
        return load(name, imbalance=factor, kind=self.kind, seed=seed, root=self.root, **options)

    def profile(self, name: str) -> str:
        """The imbalance as it was given, or the default of the set."""
        from ..data import DATA_SETS

        return (self.imbalance or ("100" if name in DATA_SETS else "none")).lower()

    def folder_name(self, name: str) -> str:
        """What tells the data of runs apart, as the name of their folder."""
        from ..results.comparison import file_name

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
        from ..names import look_up
        from ..recipes import SETTINGS, SMALL, settings_for

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

        from ..counts import check_integer

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
