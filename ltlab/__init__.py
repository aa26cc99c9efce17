"""ltlab: long-tailed visual recognition, one trick per room.

The rooms are imported when they are first used, so `import ltlab` costs next to nothing:

    data       long-tailed data            models, classifiers
    samplers   which image next            recipes    which trick is on when
    cam        moving the object           train      the training step, once
    mixup      between images              metrics, results: what to believe
    losses     what a mistake costs        calibration what a probability is worth
    detection  boxes, rare and frequent    plots, widgets, course, cli
                                           testing    checks for custom tricks
                                           reporting  `report`: which trick for your data
"""

from importlib import import_module, metadata
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .reporting import report as report

__version__ = "0.1.0"

OLDEST_TORCH = (2, 9)
EXTRAS = {  # what the rooms import beyond torch, torchvision and NumPy, by the extra that installs it
    "train": ("pandas", "tqdm"),
    "detection": ("faster_coco_eval",),
    "course": ("pandas", "tqdm", "ipywidgets", "matplotlib", "seaborn"),
}

_ROOMS = (
    "calibration", "cam", "classifiers", "cli", "course", "data", "detection", "losses", "metrics", "mixup", "models",
    "plots", "recipes", "reporting", "results", "samplers", "testing", "train", "widgets",
)  # fmt: skip


def _check_torch() -> None:
    """Name a torch that is too old, where ltlab was installed without its requirements."""
    try:
        torch = metadata.version("torch")
    except metadata.PackageNotFoundError:
        return  # built from its sources, or missing, which its own import says best
    if tuple(map(int, torch.split(".")[:2])) < OLDEST_TORCH:
        raise ImportError(
            f"ltlab needs torch {OLDEST_TORCH[0]}.{OLDEST_TORCH[1]} or newer, this is {torch}: on Colab choose the "
            "latest runtime version, elsewhere `pip install --upgrade torch torchvision`"
        )


_check_torch()


def require_extra(extra: str) -> None:
    """Raise a ModuleNotFoundError that names the extra to install where one of its packages is missing."""
    if missing := [name for name in EXTRAS[extra] if find_spec(name) is None]:
        raise ModuleNotFoundError(
            f"not installed: {', '.join(missing)}; `pip install 'ltlab[{extra}]'` brings what this room needs",
            name=missing[0],
        )


def __getattr__(name: str):
    if name == "report":
        return import_module(".reporting", __name__).report
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS, "report"])
