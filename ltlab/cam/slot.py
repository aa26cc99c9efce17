"""The foreground slot of a stage: CAM-based sampling, and its controls."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from ..counts import ClassCounts, comparable, in_class_order
from .maps import maps_of
from .masks import bounding_boxes, check_masks, check_threshold, foreground_masks, pack_masks, unpack_masks
from .transforms import transform_foreground, transform_images

KINDS = {
    "paper": ("flip", "translate", "rotate", "scale"),
    "authors": ("rotate+scale", "translate", "flip"),
}
MOVES = {"flip", "translate", "rotate", "scale"}
AT_ONCE = 512  # new images that are made together


class ImagesOnDisk(Protocol):
    """N uint8 images (N, 3, H, W) that are read when they are needed, such as `ltlab.data.streaming.ImageFiles`."""

    device: torch.device

    @property
    def shape(self) -> torch.Size: ...

    def __len__(self) -> int: ...

    def batches(self, indices: Sequence[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """For every batch of indices, those that were read, and their images."""
        ...


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class _Transform:
    """What all slots share: the kinds of transform, and drawing one for every image."""

    kinds: tuple[str, ...] | Literal["paper", "authors"] = "paper"
    max_angle: float = 45.0
    min_scale: float = 0.8
    max_scale: float = 1.2

    def __post_init__(self) -> None:
        kinds = self._kinds
        if not isinstance(kinds, tuple) or not kinds or not all(set(str(kind).split("+")) <= MOVES for kind in kinds):
            raise ValueError(
                f"kinds={self.kinds!r} must be 'paper', 'authors', or a tuple of flip, translate, rotate and "
                "scale, joined by + where they go together: ('rotate+scale', 'flip')"
            )
        if not 0 <= comparable(self.max_angle) < math.inf:
            raise ValueError(f"max_angle={self.max_angle!r} must be degrees, at least 0 and finite")
        if not 0 < comparable(self.min_scale) <= comparable(self.max_scale) < math.inf:
            raise ValueError(
                f"min_scale={self.min_scale!r}, max_scale={self.max_scale!r} must be above 0, finite and in order"
            )

    @property
    def _kinds(self) -> tuple[str, ...]:
        return KINDS.get(self.kinds, ()) if isinstance(self.kinds, str) else self.kinds

    def draw(self, shift_limits: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One of the kinds for every image, each equally likely, with its parameters for `transform_foreground`.

        Where flip is drawn, the image is flipped; the angle is uniform within ± max_angle, the factor between
        min_scale and max_scale, the shift over the integers within its limits. All draws are made on the generator's
        device.

        Args:
            shift_limits: (N, 4) pixels, how far an image may be shifted: (left, up, right, down), left and up at
                most 0.
        """
        n, device, kinds = len(shift_limits), shift_limits.device, self._kinds
        kind = torch.randint(len(kinds), (n,), generator=generator, device=generator.device).to(device)
        uniform = torch.rand(n, 4, generator=generator, device=generator.device, dtype=torch.float32).to(device)
        none = torch.zeros_like(kind, dtype=torch.bool)
        drawn = {
            move: sum((kind == k for k, moves in enumerate(kinds) if move in moves.split("+")), none) for move in MOVES
        }  # (N,) bool: the sum of bools is their or
        least, most = shift_limits[:, :2], shift_limits[:, 2:]
        shift = (least + uniform[:, :2] * (most - least + 1)).floor()
        angle = (2 * uniform[:, 2] - 1) * self.max_angle
        factor = self.min_scale + (self.max_scale - self.min_scale) * uniform[:, 3]
        return {
            "flip": drawn["flip"],
            "translate": torch.where(drawn["translate"][:, None], shift, 0),
            "rotate": torch.where(drawn["rotate"], angle, 0),
            "scale": torch.where(drawn["scale"], factor, 1),
        }

    def __repr__(self) -> str:
        """The settings that differ from the defaults; a tensor by its shape."""
        shown = []
        for setting in fields(self):
            value = getattr(self, setting.name)
            if isinstance(value, Tensor):
                shown.append(f"{setting.name}={tuple(value.shape)}")
            elif value != setting.default:
                shown.append(f"{setting.name}={value!r}")
        return f"{type(self).__name__}({', '.join(shown)})"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ForegroundTransform(_Transform):
    """CAM-based sampling: the foreground of every drawn image is moved, by one kind of transform drawn at random.

        prepare   once, with the model of the stage before: true class's CAM -> mask = CAM >= threshold * mean -> bits
        call      per batch: draw flip, shift, turn or scale for every image -> `transform_foreground`

    With the sampler slot it makes the whole family: class-balanced sampling and this is the paper's CAM-based
    class-balanced sampling.

    Args:
        kinds: of transforms, drawn uniformly: "paper" is flip, translate, rotate or scale; "authors", as in their code,
            rotate and scale together, translate, or flip; or a custom tuple such as ("rotate+scale", "flip").
        max_angle: degrees; angles are uniform within ± this.
        min_scale, max_scale: factors are uniform between them.
        threshold: see `foreground_masks`; 1 the paper, 0.75 the authors' code, "otsu".
        fill: whether the hole that a foreground leaves is filled from the background, see `transform_foreground`.
        below: only images of classes with fewer training images than this have a mask and move, the others stay
            unchanged to the bit; None: all. The paper has 100 on ImageNet-LT and 50 on iNaturalist 2018.
        masks: (N, H, W) bool, used instead of the model's, such as the true ones of shapes-lt.
        batch_size: images per forward pass of `prepare`.

    Source: Zhang et al., AAAI 2021, CAM-based sampling; the ranges of angle and scale as in the authors' code.
    """

    threshold: float | Literal["otsu"] = 1.0
    fill: bool = False
    below: int | None = None
    masks: Tensor | None = None
    batch_size: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        check_threshold(self.threshold)
        if self.masks is not None:
            check_masks(self.masks, self.masks.shape)
        if self.below is not None and not comparable(self.below) >= 1:
            raise ValueError(f"below={self.below!r} must be a number of images of at least 1, or None for all")
        if not comparable(self.batch_size) >= 1:
            raise ValueError(f"batch_size={self.batch_size}: a batch is at least 1 image")

    def prepare(self, model: nn.Module | None, images: Tensor | ImagesOnDisk, labels: Tensor) -> Tensor:
        """The foreground of every image as bits, from the model in its present state; with `masks` given, those.

        The model, the images, un-augmented, and the labels are those of `maps_of`.

        Returns:
            (N, ceil(H * W / 8)) uint8 on the images' device, see `pack_masks`; 0 where `below` leaves an image out.
        """
        indices, rows = map(torch.cat, zip(*self.packed_masks(model, images, labels), strict=True))
        packed_masks = rows.new_zeros(len(images), rows.shape[1])
        packed_masks[indices] = rows
        return packed_masks

    def packed_masks(
        self, model: nn.Module | None, images: Tensor | ImagesOnDisk, labels: Tensor,
        share: Callable[[Tensor], Tensor] = lambda batch: batch,
    ) -> Iterator[tuple[Tensor, Tensor]]:  # fmt: skip
        """The rows of `prepare` that have a mask, batch by batch: the indices (n,) of a batch, and its rows.

        `share` gives, of a batch's indices, those whose rows are made here; by default all.
        """
        if len(labels) != len(images):
            raise ValueError(f"labels must be one per image, ({len(images)},), got shape {tuple(labels.shape)}")
        if self.masks is not None:
            check_masks(self.masks, (len(images), *images.shape[2:]))
        labels = labels.to(images.device)
        masked = self.masked_indices(labels)
        sources = [share(batch) for batch in self.mask_source(masked).split(self.batch_size)]
        read = ((batch, images[batch]) for batch in sources) if isinstance(images, Tensor) else images.batches(sources)
        for indices, (source, batch) in zip(masked.split(self.batch_size), read, strict=True):
            if self.masks is None:
                if model is None:
                    raise ValueError("model=None: a slot without masks=... makes them with the model")
                maps = maps_of(model, batch, labels[source], batch_size=self.batch_size)
                masks = foreground_masks(maps, self.threshold)
            else:
                masks = self.masks[source.to(self.masks.device)]
            yield indices, pack_masks(masks).to(images.device)

    def masked_indices(self, labels: Tensor) -> Tensor:
        """The indices of the images that have a mask: all, or those of classes with fewer than `below` images. (M,)"""
        if self.below is None:
            return torch.arange(len(labels), device=labels.device)
        counts = torch.bincount(labels)
        masked = (counts[labels] < self.below).nonzero()[:, 0]
        if len(masked) == 0:
            raise ValueError(
                f"below={self.below}: every class has at least {counts[counts > 0].min()} training images, so nothing "
                "would move; raise it, or take the slot out"
            )
        return masked

    def mask_source(self, masked: Tensor) -> Tensor:
        """For each of the masked images, (M,) indices, the index of the image whose mask it uses: itself. (M,)"""
        return masked

    def __call__(self, images: Tensor, packed_masks: Tensor, *, generator: torch.Generator) -> Tensor:
        """Images (n, channels, H, W) uint8 with their foreground moved, each by its own draw.

        `packed_masks` are the images' rows of what `prepare` returned.
        """
        h, w = images.shape[2:]
        masks = unpack_masks(packed_masks, (h, w))
        boxes = bounding_boxes(masks)
        left, top, right, bottom = boxes.unbind(1)
        shift_limits = torch.stack([-left, -top, w - 1 - right, h - 1 - bottom], 1)
        draws = self.draw(shift_limits, generator)
        return transform_foreground(images, masks, **draws, fill=self.fill, boxes=boxes)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ShuffledForegroundTransform(ForegroundTransform):
    """The control of the maps: every image uses another image's mask.

    Which one is drawn once, with a fixed seed, among all masked images. As much moves as with `ForegroundTransform`,
    and where objects tend to be; what that gains over this, it gains by the map of the image itself.
    """

    def mask_source(self, masked: Tensor) -> Tensor:
        """For each of the masked images, (M,) indices, another one: a random cyclic derangement. (M,)"""
        circle = torch.randperm(len(masked), generator=torch.Generator("cpu").manual_seed(0), device="cpu")
        circle = circle.to(masked.device)
        return masked.scatter(0, circle, masked[circle.roll(1)])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class WholeImageTransform(_Transform):
    """The control of moving a foreground: the draws of `ForegroundTransform`, applied to the whole image.

    Shifts are uniform within ± `max_shift` of the image's sides, in [0, 1]; the rest is as in `ForegroundTransform`.
    """

    max_shift: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= comparable(self.max_shift) <= 1:
            raise ValueError(f"max_shift={self.max_shift!r} must be a fraction of the image's side, in [0, 1]")

    def prepare(self, model: nn.Module | None, images: Tensor | ImagesOnDisk, labels: Tensor | None) -> Tensor:
        """Nothing to prepare: an empty row per image."""
        return torch.empty(len(images), 0, dtype=torch.uint8, device=images.device)

    def __call__(self, images: Tensor, packed_masks: Tensor, *, generator: torch.Generator) -> Tensor:
        """Images (n, channels, H, W) uint8, each transformed by its own draw."""
        down, right = (math.floor(self.max_shift * side) for side in images.shape[2:])
        # made there: copying numbers would stall a GPU
        one = torch.ones(len(images), 1, dtype=torch.float32, device=images.device)
        shift_limits = torch.cat([-right * one, -down * one, right * one, down * one], 1)
        return transform_images(images, **self.draw(shift_limits, generator))


def new_image_counts(class_counts: ClassCounts) -> Tensor:
    """How many new images each class receives in the authors' code: n_max + n_min - n_c.

    With the originals every class then has n_max + n_min images. (C,) -> (C,) int64
    """
    counts = in_class_order(class_counts)
    return counts.max() + counts.min() - counts


def materialise(
    transform: ForegroundTransform | WholeImageTransform, model: nn.Module | None, images: Tensor, labels: Tensor, *,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New images for every class, made once, as the authors' code does; the slot instead moves the foreground each
    time an image is drawn.

    Class c receives n_max + n_min - n_c images, see `new_image_counts`; each is made from an image of the class, drawn
    uniformly with replacement.

    Images are (N, channels, H, W) uint8, labels (N,) int64, with an image of every class up to the largest label. The
    new images and their labels are in order of class; the originals are not among them.
    """
    counts = torch.bincount(labels)
    if (counts == 0).any():
        raise ValueError(f"labels have no image of class {int(counts.argmin())}: leave the class out, or add images")
    packed_masks = transform.prepare(model, images, labels)
    new_labels = torch.arange(len(counts), device=labels.device).repeat_interleave(new_image_counts(counts))
    uniform = torch.rand(len(new_labels), dtype=torch.float64, generator=generator, device=generator.device)
    nth = (uniform.to(labels.device) * counts[new_labels]).long()  # which of its class
    sources = labels.argsort(stable=True)[(counts.cumsum(0) - counts)[new_labels] + nth]
    new_images = images.new_empty(len(sources), *images.shape[1:])
    for new, batch in zip(new_images.split(AT_ONCE), sources.split(AT_ONCE), strict=True):
        new.copy_(transform(images[batch], packed_masks[batch], generator=generator))
    return new_images, new_labels
