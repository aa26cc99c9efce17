"""What a recipe is chosen by: training images that are held out."""

from dataclasses import replace
from typing import TypeVar, overload

import torch
from torch import Tensor

from ..counts import check_seed
from ..data import DetectionData, LongTailedData, long_tail_subset

Data = TypeVar("Data", LongTailedData, DetectionData)


@overload
def hold_out(data: LongTailedData, share: float = 0.2, seed: int = 0) -> LongTailedData: ...
@overload
def hold_out(data: DetectionData, share: float = 0.2, seed: int = 0) -> DetectionData: ...
def hold_out(data: LongTailedData | DetectionData, share: float = 0.2, seed: int = 0) -> LongTailedData | DetectionData:
    """Data to choose by: a fraction of every class's training images becomes the test split.

        h_c = min(n_c - 1, max(1, round(share * n_c)))

    The two parts are disjoint and together make up the training split; the test split is left out. Name and options
    stay, with the option held_out = share, so that their rows can be distinguished.

    Images of a detection set show several classes: class after class, the least frequent first, images are drawn until
    h_c show it, never the last one that trains a class. A class in a single image only trains, and a class may have
    more than h_c. The groups stay those of all training images.

    Args:
        data: a long-tailed set, or a detection set.
        share: the fraction, in (0, 1).
        seed: draws the held-out images, see `long_tail_subset`.

    Raises:
        ValueError: share outside (0, 1), or a class with a single image.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share!r}: the fraction of the training images to hold out must lie between 0 and 1")
    if isinstance(data, DetectionData):
        chosen = _images_with_every_class(data, share, torch.Generator("cpu").manual_seed(check_seed(seed)))
        return _parted(data, chosen, share)
    counts = data.class_counts.cpu()  # (C,)
    if (counts < 2).any():
        name = data.class_names[int(counts.argmin())]
        raise ValueError(
            f"class {name!r} has a single training image, but one must train and one must be held out: use a "
            "smaller imbalance, or leave the class out"
        )
    held = torch.minimum((share * counts.double()).round().long().clamp(min=1), counts - 1)
    chosen = long_tail_subset(data.train.labels, held, seed)
    return _parted(data, chosen, share)


def _parted(data: Data, chosen: Tensor, share: float) -> Data:
    """The data with the chosen training images as the test split."""
    rest = torch.ones(len(data.train), dtype=torch.bool).index_fill(0, chosen, False).nonzero().flatten()
    train, test = data.train.take(rest), data.train.take(chosen)
    return replace(data, train=train, test=test, options=data.options | {"held_out": share})


def _images_with_every_class(data: DetectionData, share: float, generator: torch.Generator) -> Tensor:
    """The images that `hold_out` draws from a detection set, sorted, (M,) int64."""
    shows = torch.zeros(len(data.train), len(data.class_names), dtype=torch.bool)
    shows[data.train.image_of_object.cpu(), data.train.label_of_object.cpu()] = True  # (N, C)
    counts = shows.sum(0)  # (C,)
    wanted = torch.minimum((share * counts.double()).round().long().clamp(min=1), counts - 1)
    left, held = counts.clone(), set()
    for c in counts.argsort(stable=True).tolist():
        images = shows[:, c].nonzero().flatten()
        for i in images[torch.randperm(len(images), generator=generator)].tolist():
            if counts[c] - left[c] >= wanted[c]:
                break
            if i not in held and (left[shows[i]] > 1).all():
                held.add(i)
                left -= shows[i].long()
    return torch.tensor(sorted(held), dtype=torch.int64)
