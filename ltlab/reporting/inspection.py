"""A look at the pictures before anything is trained: what can be read, what is there twice, what is too few."""

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ..data import LongTailedData, Split
from ..data.streaming import read_image
from ..progress import progress_bar
from .sources import Gathered

EXAMPLES = 5  # names that a finding lists
SMALL = 64  # pixels up to which pictures are small
FEW_TO_JUDGE = 10  # images of a class below which its error is hardly more than a guess
TURNS = {  # EXIF orientation: how (3, H, W) becomes upright
    2: lambda x: x.flip(2), 3: lambda x: x.flip(1, 2), 4: lambda x: x.flip(1), 5: lambda x: x.transpose(1, 2),
    6: lambda x: x.rot90(-1, (1, 2)), 7: lambda x: x.flip(1, 2).transpose(1, 2), 8: lambda x: x.rot90(1, (1, 2)),
}  # fmt: skip
KINDS = {  # traits of a picture, in the words of the report
    "rotated": "photographs turned upright by their EXIF orientation",
    "grey": "grey images: read as colour",
    "16 bits": "images of 16 bits: read as 8 bits",
    "CMYK": "CMYK images: converted to RGB, without their colour profile",
    "palette": "palette images: converted to RGB",
    "transparent": "transparent images: read without their transparency",
    "animated": "animated images: the first frame alone is read",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was found in the data, how often, and some of the pictures or classes."""

    kind: str
    text: str
    count: int
    examples: list[str]


@dataclass
class Inspected:
    """The data as they are used, and what was found.

    data: whose test split, without test images (`has_test` false), is a stand-in of one image that nothing reads.
    names: of the training and of the test images. sizes: smallest, median and largest (width, height).
    """

    data: LongTailedData
    has_test: bool
    names: tuple[list[str], list[str]]
    findings: list[Finding]
    sizes: tuple[tuple[int, int], ...]


def inspect(gathered: Gathered, side: int | None = None, progress: bool = False) -> Inspected:
    """Read every picture once, and leave out what cannot be used; each treatment is a `Finding`.

    Photographs are turned by their EXIF orientation. A picture counts once: a training image that is also a test image
    is left out of training, one that occurs twice is kept once, and one with two labels is left out. Copies are found
    by equal pixels at the size read.

    Args:
        side: shorter side of the pictures in pixels, of which the centre is cropped; smaller ones are not enlarged
            beyond the largest shorter side among them. None: 96 where pictures are small, else 224.

    Raises:
        ValueError: fewer than two classes with images, or every class has one image.
    """
    findings = [Finding("note", note, 1, []) for note in gathered.notes]
    if not isinstance(gathered.pictures, Tensor):
        gathered, sizes = _read(gathered, side, findings, progress)
    else:
        height, width = gathered.pictures.shape[2:]
        sizes = ((width, height),) * 3
    gathered = _known_classes(_once(gathered, findings), findings)
    parts = [_take(gathered, gathered.in_test == tests) for tests in (False, True)]
    splits = [_split(part) for part in parts]
    has_test = gathered.has_test
    splits[1] = splits[1] if has_test else splits[0].take(torch.tensor([0]))
    data = LongTailedData(gathered.name, splits[0], splits[1], gathered.class_names)
    counts = data.class_counts
    if (counts < 2).all():
        raise ValueError(
            "every class has one training image: one must train and another be held out to choose by; add images"
        )
    findings += _few(gathered, counts)
    return Inspected(data, has_test, (parts[0].names, parts[1].names), findings, sizes)


def _take(gathered: Gathered, keep: Tensor) -> Gathered:
    """The pictures where keep, (N,) bool; they are a tensor by now."""
    rows = keep.nonzero()[:, 0]
    return replace(
        gathered, pictures=gathered.pictures[rows], names=[gathered.names[i] for i in rows.tolist()],
        labels=gathered.labels[rows], in_test=gathered.in_test[rows],
    )  # fmt: skip


def _split(part: Gathered) -> Split:
    return Split(part.pictures.contiguous(), part.labels)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass
class Header:
    """What a file says of its picture before it is decoded."""

    size: tuple[int, int] = (0, 0)  # width, height
    orientation: int = 1
    traits: set[str] = field(default_factory=set)


def header(image: Any) -> Header:
    """Of an open PIL image."""
    orientation = image.getexif().get(0x0112, 1)
    mode, many = image.mode, getattr(image, "is_animated", False)
    traits = {
        "rotated": orientation in TURNS, "grey": mode in ("L", "LA", "1"), "16 bits": mode.startswith("I"),
        "CMYK": mode == "CMYK", "palette": mode == "P", "transparent": mode in ("RGBA", "LA", "PA"), "animated": many,
    }  # fmt: skip
    return Header(image.size, orientation, {name for name, there in traits.items() if there})


def _read(
    gathered: Gathered, side: int | None, findings: list[Finding], progress: bool
) -> tuple[Gathered, tuple[tuple[int, int], ...]]:
    """All pictures as (N, 3, side, side) uint8, without those that cannot be read."""
    headers, errors = _headers(gathered)
    sizes = sorted((h.size for h in headers if h.size > (0, 0)), key=lambda size: size[0] * size[1])
    if not sizes:
        raise ValueError(f"no image of {gathered.name} can be read: {next(iter(errors.values()))}")
    shorter = sorted(map(min, sizes))
    side = min(side or (96 if shorter[len(shorter) // 2] <= SMALL else 224), shorter[-1])
    images = torch.zeros(len(headers), 3, side, side, dtype=torch.uint8)

    def place(i: int) -> None:
        if i not in errors:
            try:
                picture = _pixels(gathered.pictures, i, side)
                images[i] = TURNS.get(headers[i].orientation, lambda x: x)(picture)
            except Exception as error:  # Pillow's decoders and others' data sets raise errors of many types
                errors[i] = str(error)

    files = isinstance(gathered.pictures, list)
    with ThreadPoolExecutor(None if files else 1) as pool:  # others' data sets may not bear several threads
        places = pool.map(place, range(len(headers)))
        list(progress_bar(shown=progress, iterable=places, desc="reading", total=len(headers)))
    if errors:
        findings.append(_finding("unreadable", "images that cannot be read: left out", gathered.names, errors))
    for trait, text in KINDS.items():
        having = [i for i, each in enumerate(headers) if trait in each.traits and i not in errors]
        if having:
            findings.append(_finding(trait, text, gathered.names, having))
    keep = torch.tensor([i not in errors for i in range(len(headers))])
    return _take(replace(gathered, pictures=images), keep), (sizes[0], sizes[len(sizes) // 2], sizes[-1])


def _headers(gathered: Gathered) -> tuple[list[Header], dict[int, str]]:
    """What every file says of itself, and why some cannot be opened."""
    from PIL import Image

    headers, errors = [], {}
    for i in range(len(gathered.labels)):
        headers.append(Header())
        try:
            if isinstance(gathered.pictures, list):
                with Image.open(gathered.pictures[i]) as image:
                    headers[i] = header(image)
            else:
                picture = gathered.pictures[i]
                headers[i] = header(picture) if isinstance(picture, Image.Image) else _size(_tensor(picture))
        except Exception as error:  # Pillow and custom data sets raise errors of any type
            errors[i] = str(error)
    return headers, errors


def _size(picture: Tensor) -> Header:
    _, height, width = picture.shape
    return Header((width, height))


def _pixels(pictures: Any, i: int, side: int) -> Tensor:
    """One picture, its shorter side resized, its centre cropped. -> (3, side, side) uint8"""
    if isinstance(pictures, list):
        return read_image(str(pictures[i]), side)
    from torchvision.transforms.v2 import functional as F

    picture = pictures[i]
    picture = _tensor(picture) if isinstance(picture, Tensor) else F.pil_to_tensor(picture.convert("RGB"))
    return F.center_crop(F.resize(picture, [side], antialias=True), [side])


def _tensor(picture: Any) -> Tensor:
    """A picture of a data set as (3, H, W) uint8."""
    if not isinstance(picture, Tensor) or picture.ndim != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"a picture must be a PIL image or a (3, H, W) tensor, not {type(picture).__name__}")
    if picture.is_floating_point():
        if picture.min() < 0 or picture.max() > 1:
            raise ValueError("a picture of floats must be in [0, 1]: leave Normalize out of the data set's transform")
        picture = (255 * picture).round().to(torch.uint8)
    return picture.expand(3, -1, -1)


# --- what is left out -------------------------------------------------------------------------------------------------


def _once(gathered: Gathered, findings: list[Finding]) -> Gathered:
    """Every picture once, by its pixels: in test before train; not at all if it has two labels."""
    same = defaultdict(list)
    for i, image in enumerate(gathered.pictures):
        same[hashlib.sha256(image.numpy().tobytes()).digest()].append(i)
    keep, twice = torch.ones(len(gathered.labels), dtype=torch.bool), {kind: [] for kind in TWICE}
    for rows in same.values():
        if len(rows) == 1:
            continue
        tests = gathered.in_test[rows].tolist()
        if len(set(gathered.labels[rows].tolist())) > 1:
            kind, out = "two labels", rows
        else:
            kind = "in train and test" if len(set(tests)) > 1 else "duplicates"
            first = rows[tests.index(True)] if any(tests) else rows[0]
            out = [i for i in rows if i != first]
        twice[kind] += out
        keep[out] = False
    findings += [_finding(kind, TWICE[kind], gathered.names, rows) for kind, rows in twice.items() if rows]
    return _take(gathered, keep)


TWICE = {
    "in train and test": "training images that are also test images: left out of training",
    "two labels": "images with two labels: left out; which label is right?",
    "duplicates": "exact copies of other images: left out",
}


def _known_classes(gathered: Gathered, findings: list[Finding]) -> Gathered:
    """The classes that have a training image, numbered without gaps."""
    classes = len(gathered.class_names)
    counts = torch.bincount(gathered.labels[~gathered.in_test], minlength=classes)
    if (counts > 0).sum() < 2:
        there = [repr(name) for name, n in zip(gathered.class_names, counts, strict=True) if n] or ["none"]
        raise ValueError(
            f"{gathered.name} has one class with training images, {there[0]}: a classifier takes two or more; "
            "put the images of each class into a folder of its name"
        )
    gone = [name for name, n in zip(gathered.class_names, counts, strict=True) if n == 0]
    if gone:
        text = "classes without a training image: left out, with their test images"
        findings.append(_finding("classes without training images", text, gone, range(len(gone))))
    names = tuple(name for name in gathered.class_names if name not in set(gone))
    kept = _take(gathered, counts[gathered.labels] > 0)
    kept.labels = ((counts > 0).cumsum(0) - 1)[kept.labels]
    if kept.has_test and (lacking := sorted(set(range(len(names))) - set(kept.labels[kept.in_test].tolist()))):
        text = "classes without a test image: the test set says nothing of them"
        findings.append(_finding("classes without test images", text, names, lacking))
    return replace(kept, class_names=names)


def _few(gathered: Gathered, counts: Tensor) -> list[Finding]:
    """Classes of so few images that their error is hardly known."""
    single, few = ((counts == 1).nonzero()[:, 0].tolist(), (counts < FEW_TO_JUDGE).nonzero()[:, 0].tolist())
    found = []
    if single:
        text = "classes of one training image: it trains, so nothing can be held out to judge them by"
        found.append(_finding("classes of one image", text, gathered.class_names, single))
    if few:
        text = f"classes of fewer than {FEW_TO_JUDGE} training images: their errors are hardly known"
        found.append(_finding("classes too small to judge", text, gathered.class_names, few))
    return found


def _finding(kind: str, text: str, names: Any, rows: Iterable[int]) -> Finding:
    rows = list(rows)
    return Finding(kind, text, len(rows), [names[i] for i in rows[:EXAMPLES]])
