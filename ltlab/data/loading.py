"""All data sets by name."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal, overload

from ..defaults import usual_defaults
from ..names import one_of
from .arrays import npz_set
from .benchmarks import BENCHMARK_LISTS, benchmark_set
from .box_files import coco_set
from .detection_sets import DetectionData
from .places import expanded
from .scenes import scenes_lt
from .sets import LongTailedData
from .shapes import shapes_lt

DATA_SETS = {
    "shapes-lt": "ten shapes on textured backgrounds with true masks, drawn by code in about a second",
    "scenes-lt": "scenes of one to four shapes with true boxes and masks, drawn by code in seconds: for detection",
    "cifar10-lt": "CIFAR-10 with the long tail of Cao et al., downloaded once (170 MB)",
    "cifar100-lt": "CIFAR-100 with the long tail of Cao et al., downloaded once (169 MB)",
    "fashion-lt": "Fashion-MNIST with an exponential tail, in grey, downloaded once (30 MB)",
    "imagenet-lt": "ImageNet with the long tail of Liu et al., streamed from your copy of ILSVRC-2012",
    "places-lt": "Places-365 with the long tail of Liu et al., streamed from your copy",
    "inat18": "iNaturalist 2018, whose tail is natural, streamed from your copy",
}


@overload
def load(
    name: Literal["scenes-lt"], *, imbalance: float | Literal["default"] = "default", kind: str = "exp", seed: int = 0,
    root: None = None, **options: Any,
) -> DetectionData: ...  # fmt: skip
@overload
def load(
    name: str | Path, *, imbalance: float | Literal["default"] | None = "default", kind: str = "exp", seed: int = 0,
    root: str | Path | None = None, **options: Any,
) -> LongTailedData: ...  # fmt: skip
@usual_defaults()
def load(
    name: str | Path, *, imbalance: float | Literal["default"] | None = "default", kind: str = "exp", seed: int = 0,
    root: str | Path | None = None, **options: Any,
) -> LongTailedData | DetectionData:  # fmt: skip
    """Load a long-tailed data set by its name or its path.

        name                           what                                          options
        "shapes-lt"                    ten shapes drawn by code, `shapes_lt`         context, pose_variety, noise, ...
        "scenes-lt"                    scenes with boxes, drawn by code, for         noise, held_out, rare, ...
                                       detection, `scenes_lt`
        "cifar10-lt", "cifar100-lt"    CIFAR, downloaded once, `cifar_lt`            download
        "fashion-lt"                   Fashion-MNIST, downloaded once, `fashion_lt`  download
        "imagenet-lt", "places-lt",    from your disk, `benchmark_set`               lists, size, workers, on_error
        "inat18"
        a path ending in .npz          your arrays, `npz_set`
        a path ending in .json         your boxes, for detection, `coco_set`         test, images, size, workers
        a folder                       your images, `folder_set`                     size, test_fraction
        a folder, stream=True          your images, not held in memory,              size, test_fraction, workers,
                                       `streamed_folder_set`                         on_error

    For images named by your lists see `list_set`, for arrays in memory `array_set`. A name of the table comes before a
    folder of that name in the working directory; write ./name or pass a Path to mean the folder.

    Args:
        imbalance, kind: the profile of the training images, see `long_tail_counts`. imbalance=1 makes it flat, None
            keeps all images. The default is 100 for the shapes, CIFAR and Fashion-MNIST, 200 for the scenes, and None
            for your images. The lists of the large benchmarks are a long tail already: there imbalance is None or 100,
            which keep all images, and kind is "exp".
        seed: draws or chooses the training images, from 0 to 2**32 - 1; the test images do not depend on it. A large
            benchmark ignores it.
        root: folder of the files of CIFAR or Fashion-MNIST, see `download_folder`; for a large benchmark the folder
            that the paths of its lists start from. The other sets ignore it.
        options: those of the set.

    Raises:
        ValueError: an unknown name or option, or what the set itself refuses.
        FileNotFoundError: a path that does not exist.
        ConnectionError: the files could not be downloaded.
    """
    make = _maker(name, options.pop("stream", False))
    takes = {p.name: p for p in inspect.signature(make).parameters.values() if p.kind is p.KEYWORD_ONLY}
    for option in options:
        one_of(f"{name} option", option, takes)
    if "root" in takes:
        options["root"] = root
    if "imbalance" in takes:
        profile = {"kind": kind, "seed": seed} | ({} if imbalance == "default" else {"imbalance": imbalance})
        return make(**profile, **options)
    for option, value, kept in (("imbalance", imbalance, ("default", 100, None)), ("kind", kind, ("exp",))):
        if value not in kept:
            raise ValueError(
                f"{option}={value!r}: the lists of {name} are its long tail; leave {option} out, or use "
                "ltlab.data.list_set with your lists"
            )
    return make(**options)


def _maker(name: str | Path, stream: bool) -> Callable[..., LongTailedData | DetectionData]:
    """The function that makes the set. Only what needs torchvision imports it, which takes as long as torch."""
    path = expanded(name)
    custom = name not in DATA_SETS
    ending = path.suffix.lower() if custom else ""
    if stream and (ending in (".npz", ".json") or not custom):
        raise ValueError(f"stream={stream!r} is for a folder of images, not for {str(name)!r}: leave stream out")
    if ending == ".npz":
        return partial(npz_set, path)
    if ending == ".json":
        return partial(coco_set, path)
    if custom and (isinstance(name, Path) or path.is_dir()):
        from .folders import folder_set, streamed_folder_set

        return partial(streamed_folder_set if stream else folder_set, path)
    name = one_of("data set, file ending in .npz or folder", str(name), DATA_SETS)
    if name == "shapes-lt":
        return shapes_lt
    if name == "scenes-lt":
        return scenes_lt
    if name in BENCHMARK_LISTS:
        return partial(benchmark_set, name)
    if name == "fashion-lt":
        from .fashion import fashion_lt

        return fashion_lt
    from .cifar import cifar_lt

    return partial(cifar_lt, name)
