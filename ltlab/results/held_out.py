"""What a recipe is chosen by: training images that are held out."""

from dataclasses import replace

import torch

from ..data import LongTailedData, long_tail_subset


def hold_out(data: LongTailedData, share: float = 0.2, seed: int = 0) -> LongTailedData:
    """Data to choose by: a fraction of every class's training images becomes the test split.

        h_c = min(n_c - 1, max(1, round(share * n_c)))

    The two parts are disjoint and together make up the training split; the test split is left out. Name and options
    stay, with the option held_out = share, so that their rows can be distinguished.

    Args:
        data: a long-tailed set.
        share: the fraction, in (0, 1).
        seed: draws the held-out images, see `long_tail_subset`.

    Raises:
        ValueError: share outside (0, 1), or a class with a single image.
    """
    if not 0 < share < 1:
        raise ValueError(f"share={share!r}: the fraction of the training images to hold out must lie between 0 and 1")
    counts = data.class_counts.cpu()  # (C,)
    if (counts < 2).any():
        name = data.class_names[int(counts.argmin())]
        raise ValueError(
            f"class {name!r} has a single training image, but one must train and one must be held out: use a "
            "smaller imbalance, or leave the class out"
        )
    held = torch.minimum((share * counts.double()).round().long().clamp(min=1), counts - 1)
    chosen = long_tail_subset(data.train.labels, held, seed)
    rest = torch.ones(len(data.train), dtype=torch.bool).index_fill(0, chosen, False).nonzero().flatten()
    train, test = data.train.take(rest), data.train.take(chosen)
    return replace(data, train=train, test=test, options=data.options | {"held_out": share})
