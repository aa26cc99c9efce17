"""The exercises of notebook 04."""

from typing import Any

import torch
from torch import Tensor, nn

from ..mixup import InputMixup, draw_lambda, mix
from .answers import Matches, NotYet, check_given, check_kind, kind


def half_unmixed(answer: Any) -> str:
    """`InputMixup` with the alpha that leaves about half of all batches nearly unmixed."""
    check_kind(answer, InputMixup, "a mixup.InputMixup")
    lam = draw_lambda(answer.alpha, torch.Generator().manual_seed(0), (100_000,))
    unmixed = ((lam - 0.5).abs() > 0.4).double().mean().item()
    told = f"at alpha = {answer.alpha:g}, {unmixed:.0%} of all batches are nearly unmixed"
    if not 0.45 <= unmixed <= 0.55:
        way = "larger" if unmixed > 0.5 else "smaller"
        raise NotYet(way, f"{told}; take a {way} alpha")
    return told


IMAGES = 16


def per_image_mixup(answer: Any) -> str:
    """A mix with a separate lambda for every image.

    Image i is white in its pixel i and black elsewhere, its label is i, and the model returns the pixels: so the logits
    of a mixture are the fractions of the images in it, and the soft targets must be the same.
    """
    check_kind(answer, type, "the class itself")
    images, labels = torch.eye(IMAGES).reshape(IMAGES, 1, 4, 4), torch.arange(IMAGES)

    def mixed(seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(seed)
        mixer = answer()
        given = check_given(mixer(nn.Flatten(), images.clone(), labels.clone(), class_counts=None, generator=generator))
        if not (isinstance(given, tuple) and len(given) == 2):
            raise NotYet("returns", f"a mix returns logits and soft targets, this one returns {kind(given)}")
        return given

    logits, targets = mixed(0)
    if targets.shape != (IMAGES, IMAGES):
        raise NotYet("targets", f"soft targets are (N, C) = ({IMAGES}, {IMAGES}), these are {tuple(targets.shape)}")
    own = logits.diagonal()
    if torch.equal(logits, torch.eye(IMAGES)):
        raise NotYet("unmixed", "nothing is mixed: the model is shown the original images")
    if not torch.allclose(logits.sum(1), torch.ones(IMAGES)):
        raise NotYet("brightness", "the two fractions do not add up to 1: the picture is too dark or too bright")
    if not torch.allclose(logits, targets.to(logits.dtype), atol=1e-5):
        raise NotYet("disagree", "pictures and labels have different lambdas or different partners: draw both once")
    mixtures = own[own < 1]  # an image that is its own partner stays whole
    if len(mixtures) > 1 and torch.allclose(mixtures, mixtures[0].expand_as(mixtures)):
        raise NotYet("one_lambda", f"all images have the same lambda, {mixtures[0]:.3g}: draw_lambda takes a size")
    if not torch.equal(mixed(0)[0], logits):
        raise NotYet("generator", "the same generator gives another mixture each time: pass it to both draws")
    return "a lambda for each image, the same in picture and label, and repeatable by its generator"


def _dark(images: Tensor, partner: Tensor, lam: float) -> Tensor:
    darkened = lam * images
    return darkened + (1 - lam) * darkened[partner]


blended = Matches(
    oracle=mix,
    cases={
        "two images of one pixel, 1 and 0, each the other's partner, lam 0.6": (
            torch.tensor([[1.0], [0.0]]), torch.tensor([1, 0]), 0.6),
        "lam 1, where the batch does not change": (torch.eye(3), torch.tensor([1, 2, 0]), 1.0),
        "eight random images": (
            torch.rand(8, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.arange(8).flip(0), 0.3),
    },
    mistakes={
        "dark": ("The partner is too dark: when is it read?", _dark),
        "swapped": ("The fractions are swapped: lam is that of the image itself",
                    lambda images, partner, lam: mix(images, partner, 1 - lam)),
        "both_lam": ("Both have the fraction lam; the partner's is 1 - lam",
                     lambda images, partner, lam: lam * images + lam * images[partner]),
    },
    right="lam of the image and 1 - lam of its unchanged partner, as in mixup.mix",
)  # fmt: skip

EXERCISES = {"tweak": half_unmixed, "implement": per_image_mixup, "bug": blended}
