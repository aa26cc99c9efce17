"""ltlab: long-tailed visual recognition, one trick per room.

The rooms are imported when they are first used, so `import ltlab` costs next to nothing:

    data       long-tailed data            recipes    which trick is on when
    samplers   which image next            train      the training step, once
    losses     what a mistake costs        metrics    what to believe
    models     features and classifier     plots, widgets, cli
"""

from importlib import import_module

__version__ = "0.1.0"

_ROOMS = ("cli", "data", "losses", "metrics", "models", "plots", "recipes", "results", "samplers", "train", "widgets")


def __getattr__(name: str):
    if name in _ROOMS:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_ROOMS])
