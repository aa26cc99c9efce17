"""All data sets by name."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ..names import look_up
from .sets import LongTailedData
from .shapes import shapes_lt

DATA_SETS = {
    "shapes-lt": "ten shapes on textured backgrounds with true masks, drawn by code in about a second",
    "cifar10-lt": "CIFAR-10 with the long tail of Cao et al., downloaded once (170 MB)",
    "cifar100-lt": "CIFAR-100 with the long tail of Cao et al., downloaded once (169 MB)",
}


def load(
    name: str | Path, *, imbalance: float | None = 100, kind: str = "exp", seed: int = 0,
    root: str | Path | None = None, **options: Any,
) -> LongTailedData:  # fmt: skip
    """Load a long-tailed data set by its name or its path.

        name                           what                                          options
        "shapes-lt"                    ten shapes drawn by code, `shapes_lt`         context, pose_variety, noise, ...
        "cifar10-lt", "cifar100-lt"    CIFAR, downloaded once, `cifar_lt`
        a path ending in .npz          arrays of your own, `npz_set`
        a folder                       images of your own, `folder_set`              size

    A name comes before a folder of that name in the working directory; write ./name or pass a Path to mean the folder.

    Args:
        imbalance, kind: the profile of the training images, see `long_tail_counts`. imbalance=1 makes it flat;
            None keeps all images of CIFAR or of your own set, whose natural counts may be a long tail already.
        seed: draws or chooses the training images; the test images do not depend on it.
        root: where the CIFAR files lie or go, see `download_folder`; the other sets make no use of it.
        options: those of the set.

    Raises:
        ValueError: an unknown name or option, or what the set itself refuses.
        FileNotFoundError: a path that is not there.
        ConnectionError: CIFAR could not be downloaded.
    """
    make = _maker(name)
    takes = {p.name: p for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY}
    for option in options:
        look_up(f"{name} option", option, takes)
    if "root" in takes:
        options["root"] = root
    return make(imbalance=imbalance, kind=kind, seed=seed, **options)


def _maker(name: str | Path) -> Callable[..., LongTailedData]:
    """The function that makes the set. Only CIFAR and files import torchvision, which takes as long as torch itself."""
    path = Path(name).expanduser()
    if name not in DATA_SETS and path.suffix == ".npz":
        from .files import npz_set

        return partial(npz_set, path)
    if name not in DATA_SETS and (isinstance(name, Path) or path.is_dir()):
        from .files import folder_set

        return partial(folder_set, path)
    look_up("data set, file ending in .npz or folder", name, DATA_SETS)
    if name == "shapes-lt":
        return shapes_lt
    from .cifar import cifar_lt

    return partial(cifar_lt, name)
