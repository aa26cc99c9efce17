"""The exercises of notebook 06."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..cam import transform_foreground
from .answers import Matches, NotYet, kind, raise_hint

STILL = {"flip": [False], "translate": [[0, 0]], "rotate": [0.0], "scale": [1.0]}


def _image(*, black: bool) -> tuple[Tensor, Tensor]:
    """An image (3, 16, 16) uint8 and its foreground (16, 16), an L, which no flip or turn maps onto itself.

    With `black`, two of its pixels are pure red and one is black; else no pixel of the image is 0 in any channel.
    """
    image = torch.randint(1, 256, (3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[6:11, 4:6] = True
    mask[9:11, 4:9] = True
    if black:
        image[1:, 9, 5:7] = 0
        image[:, 10, 7] = 0
    return image, mask


def _moved(image: Tensor, mask: Tensor, **knobs: Any) -> Tensor:
    return transform_foreground(image[None], mask[None], **(STILL | knobs))[0]


KNOB_MISTAKES = {
    "turn": ("It turns the wrong way: rotate counts counter-clockwise", {"rotate": [90.0], "translate": [[0, -3]]}),
    "down": ("It moves down instead of up: the second number of translate points down",
             {"rotate": [-90.0], "translate": [[0, 3]]}),
    "sideways": ("It moves sideways: translate is right first, then down", {"rotate": [-90.0], "translate": [[-3, 0]]}),
    "turn_and_down": ("It turns the wrong way and moves down: rotate counts counter-clockwise, and translate is right "
                      "first, then down", {"rotate": [90.0], "translate": [[0, 3]]}),
    "not_moved": ("It does not move", {"rotate": [-90.0]}),
    "not_turned": ("It is not turned", {"translate": [[0, -3]]}),
}  # fmt: skip


def clockwise_and_up(answer: Any) -> str:
    """The knobs of a quarter turn clockwise and a shift by three pixels upwards."""
    if not isinstance(answer, Mapping) or set(answer) != set(STILL):
        got = kind(answer) if not isinstance(answer, Mapping) else f"one of {', '.join(map(str, answer)) or 'nothing'}"
        raise NotYet("kind", f"expected a dictionary of {', '.join(STILL)}; got {got}")
    image, mask = _image(black=False)
    given = _moved(image, mask, **answer)
    if torch.equal(given, image):
        raise NotYet("still", "nothing moves yet: turn and shift it")
    if not torch.equal(given, _moved(image, mask, rotate=[-90.0], translate=[[0, -3]])):
        text = "the foreground is not where it should be"
        raise_hint(text, KNOB_MISTAKES, lambda wrong: torch.equal(given, _moved(image, mask, **wrong)))
    return "a quarter turn clockwise is -90 degrees, three pixels up are -3: angles count as on paper, rows as in text"


def _pasted(image: Tensor, mask: Tensor, columns: Tensor, *, by_colour: bool = False) -> Tensor:
    """The image with column x of its foreground taken from `columns[x]`, a column outside the frame from nowhere."""
    inside = (columns >= 0) & (columns < mask.shape[1])
    columns = columns.clamp(0, mask.shape[1] - 1)
    shown, moved = inside & mask[:, columns], image[:, :, columns]
    return torch.where(shown & (moved > 0) if by_colour else shown, moved, image)


def _mirrored(mask: Tensor) -> Tensor:
    """Columns of a flip about the middle of the foreground's box."""
    columns = mask.any(0).nonzero()
    return columns.min() + columns.max() - torch.arange(mask.shape[1])


def _upside_down(image: Tensor, mask: Tensor) -> Tensor:
    return _pasted(image.mT, mask.T, _mirrored(mask.T)).mT


CASES = {
    "an L without a black pixel": _image(black=False),
    "an L with a black pixel and two pure red ones": _image(black=True),
}

my_flip = Matches(
    oracle=lambda image, mask: _moved(image, mask, flip=[True]),
    cases=CASES,
    mistakes={
        "image_axis": ("It is mirrored about the middle of the image; use the middle of the foreground's box",
                       lambda image, mask: _pasted(image, mask, mask.shape[1] - 1 - torch.arange(mask.shape[1]))),
        "whole_image": ("The whole image is mirrored; only the foreground must move",
                        lambda image, mask: image.flip(2)),
        "mask_not_moved": ("The mask must be mirrored together with the image: use both in the same columns",
                           lambda image, mask: torch.where(
                               mask, image[:, :, _mirrored(mask).clamp(0, mask.shape[1] - 1)], image)),
        "upside_down": ("It is upside down; left and right change places", _upside_down),
        "unflipped": ("Nothing is flipped yet", lambda image, mask: image),
        "background_too": ("The background is flipped too; it must not change",
                           lambda image, mask: image[:, :, _mirrored(mask).clamp(0, mask.shape[1] - 1)]),
        "background_lost": ("The background is missing: paste the moved foreground over the image",
                            lambda image, mask: (
                                _pasted(image, mask, _mirrored(mask)) * mask[:, _mirrored(mask) % mask.shape[1]])),
        "dark": ("Dark pixels of the object are lost: use the mask, not the colour",
                 lambda image, mask: _pasted(image, mask, _mirrored(mask), by_colour=True)),
    },
    right="as cam.transform_foreground, to the bit: the box is mapped onto itself, so nothing leaves the frame",
)  # fmt: skip


def _to_the_left(image: Tensor, mask: Tensor, *, first: int = 0, by_colour: bool = False) -> Tensor:
    columns = torch.arange(mask.shape[1]) + mask.any(0).nonzero()[first]
    return _pasted(image, mask, columns % mask.shape[1], by_colour=by_colour)


to_the_left_edge = Matches(
    oracle=lambda image, mask: _moved(image, mask, translate=[[-16, 0]]),  # stops at the frame
    cases=CASES,
    mistakes={
        "too_far": ("It is one column too far to the left", lambda image, mask: _to_the_left(image, mask, first=1)),
        "pixels_lost": ("Some pixels of the object are missing, and some in one channel only",
                        lambda image, mask: _to_the_left(image, mask, by_colour=True)),
        "not_moved": ("Nothing has moved", lambda image, mask: image),
        "background_too": ("The background has moved too; only the foreground must move",
                           lambda image, mask: torch.roll(image, -int(mask.any(0).nonzero()[0]), dims=2)),
    },
    right="[0] is the first column, and the mask says what the object is, of any colour",
)  # fmt: skip

EXERCISES = {"tweak": clockwise_and_up, "implement": my_flip, "bug": to_the_left_edge}
