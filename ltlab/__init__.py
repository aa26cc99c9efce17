"""ltlab: long-tailed visual recognition, one trick per room.

The rooms are imported when they are first used, so `import ltlab` costs next to nothing:

    data       long-tailed data            models, classifiers
    samplers   which image next            recipes    which trick is on when
    cam        moving the object           train      the training step, once
    mixup      between images              metrics, results: what to believe
    losses     what a mistake costs        plots, widgets, course, cli
"""

from importlib import import_module, metadata

__version__ = "0.1.0"

OLDEST_TORCH = (2, 9)

_ROOMS = (
    "cam", "classifiers", "cli", "course", "data", "losses", "metrics", "mixup", "models", "plots", "recipes",
    "results", "samplers", "train", "widgets",
)  # fmt: skip


def _check_torch() -> None:
    """Name a torch that is too old, where ltlab was installed beside it without its requirements."""
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


def __getattr__(name: str):
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
