"""What stands in the foreground slot of a stage: CAM-based re-sampling, and its controls."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..counts import as_tensor, comparable
from .maps import maps_of
from .masks import bounding_boxes, check_masks, foreground_masks, pack_masks, unpack_masks
from .shards import ImagesOnDisk, StoredMasks, digest_of
from .transforms import transform_foreground, transform_images

KINDS = {
    "paper": ("flip", "translate", "rotate", "scale"),
    "authors": ("rotate+scale", "translate", "flip"),
}
MOVES = {"flip", "translate", "rotate", "scale"}
ROWS_AT_ONCE = 512  # images whose masks are handled together where nothing else says how many


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class _Transform:
    """What both slots share: which kinds of transform there are, and drawing one for every image."""

    kinds: tuple[str, ...] | Literal["paper", "authors"] = "paper"
    max_angle: float = 45.0
    min_scale: float = 0.8
    max_scale: float = 1.2

    def __post_init__(self) -> None:
        kinds = self._kinds
        if not isinstance(kinds, tuple) or not kinds or not all(set(str(kind).split("+")) <= MOVES for kind in kinds):
            raise ValueError(
                f"kinds={self.kinds!r}: it must be 'paper', 'authors', or a tuple of flip, translate, rotate and "
                "scale, joined by + where they go together: ('rotate+scale', 'flip')"
            )
        if not 0 <= comparable(self.max_angle) < math.inf:
            raise ValueError(f"max_angle={self.max_angle!r}: it must be degrees, at least 0 and finite")
        if not 0 < comparable(self.min_scale) <= comparable(self.max_scale) < math.inf:
            raise ValueError(
                f"min_scale={self.min_scale!r}, max_scale={self.max_scale!r}: they must be above 0, finite and in order"
            )

    @property
    def _kinds(self) -> tuple[str, ...]:
        return KINDS.get(self.kinds, ()) if isinstance(self.kinds, str) else self.kinds

    def draw(self, free: Tensor, generator: torch.Generator) -> dict[str, Tensor]:
        """One of the kinds for every image, each equally likely, with its parameters.

        A flip is sure where its kind is drawn; the angle is uniform within max_angle, the factor from min_scale to
        max_scale, the shift over the whole pixels of its range. All draws are made on the generator's device.

        Args:
            free: (N, 4) pixels, how far an image may be shifted: (left, up, right, down), left and up not above 0.
            generator: of the draws.

        Returns:
            flip (N,), translate (N, 2), rotate (N,) and scale (N,), as `transform_foreground` takes them.
        """
        n, device = len(free), generator.device
        kind = torch.randint(len(self._kinds), (n,), generator=generator, device=device).to(free.device)
        uniform = torch.rand(n, 4, generator=generator, device=device).to(free.device)

        def drawn(move: str) -> Tensor:
            with_move = [kind == k for k, moves in enumerate(self._kinds) if move in moves.split("+")]
            return torch.stack(with_move).any(0) if with_move else torch.zeros_like(kind, dtype=torch.bool)

        shift = (free[:, :2] + uniform[:, :2] * (free[:, 2:] - free[:, :2] + 1)).floor()
        angle = (2 * uniform[:, 2] - 1) * self.max_angle
        factor = self.min_scale + (self.max_scale - self.min_scale) * uniform[:, 3]
        return {
            "flip": drawn("flip"),
            "translate": torch.where(drawn("translate")[:, None], shift, 0),
            "rotate": torch.where(drawn("rotate"), angle, 0),
            "scale": torch.where(drawn("scale"), factor, 1),
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
        kinds: what is drawn from, uniformly: "paper" is flip, translate, rotate or scale; "authors", as in their code,
            rotate and scale together, translate, or flip; or a tuple of your own, ("rotate+scale", "flip").
        max_angle: degrees, turns are uniform within ± this.
        min_scale, max_scale: scaling is uniform between them.
        threshold: see `foreground_masks`; 1 the paper, 0.75 the authors' code, "otsu".
        fill: whether the hole that a foreground leaves is filled from the background, see `transform_foreground`.
        below: only images of classes with fewer training images than this have a mask and are moved, the others stay
            to the bit; None: all. The paper has 100 on ImageNet-LT and 50 on iNaturalist 2018.
        masks: (N, H, W) bool, foregrounds to take instead of the model's, such as the true ones of shapes-lt.
        batch_size: images per forward pass while preparing.

    Raises:
        ValueError: an unknown kind; an angle, scale, threshold or count outside its range; masks that are not bool
             (N, H, W).

    Source: Zhang et al., AAAI 2021, CAM-based sampling; the ranges of angle and scale as in the authors' code.
    """

    threshold: float | Literal["otsu"] = 1.0
    fill: bool = False
    below: int | None = None
    masks: Tensor | None = None
    batch_size: int = 128

    def __post_init__(self) -> None:
        super().__post_init__()
        foreground_masks(torch.zeros(1, 1, 1), self.threshold)  # refuses a bad threshold now, not hours into a run
        if self.masks is not None:
            check_masks(self.masks, self.masks.shape)
        if self.below is not None and not comparable(self.below) >= 1:
            raise ValueError(f"below={self.below!r}: it must be a number of images of at least 1, or None for all")
        if not comparable(self.batch_size) >= 1:
            raise ValueError(f"batch_size={self.batch_size}: a batch is at least 1 image")

    def prepare(self, model: nn.Module | None, images: Tensor, labels: Tensor) -> Tensor:
        """The foreground of every image as bits, with the model as it is now; with `masks` given, those.

        Args:
            model, images, labels: as in `maps_of`; the images un-augmented.

        Returns:
            (N, ceil(H * W / 8)) uint8 on the images' device, see `pack_masks`; 0 where `below` leaves an image out.

        Raises:
            ValueError: `masks` that do not fit the images; `below` leaves all out; what `maps_of` raises.
        """
        packed = torch.zeros(len(images), self._row_bytes(images), dtype=torch.uint8, device=images.device)
        moved = self.moved(images, labels).to(images.device)
        for chosen, seen in zip(moved.split(self.batch_size), self.seen(moved).split(self.batch_size), strict=True):
            packed[chosen] = self._packed(model, images[seen], labels, seen)
        return packed

    def prepare_in(
        self, folder: Path, model: nn.Module | None, images: ImagesOnDisk, labels: Tensor, *,
        num_replicas: int = 1, rank: int = 0,
    ) -> StoredMasks:  # fmt: skip
        """The same for images that are read from disk, in a folder, shard by shard.

        Interrupted and called again with the same model, it makes the shards that are missing.

        Args:
            folder: of the masks, see `StoredMasks`.
            model, labels: as for `prepare`.
            images: `batches(indices)` reads them, as `ltlab.data.streaming.ImageFiles` does.
            num_replicas, rank: of the processes that share the work; this one makes the shards rank,
                rank + num_replicas, ... of those that are missing.

        Raises:
            ValueError: as `prepare` and `StoredMasks`.
        """
        chosen = self.moved(images, labels).cpu()
        made_of = f"{self!r} on {tuple(images.shape)} with model and labels {digest_of(model, labels)}"
        masks = StoredMasks(folder, chosen, len(images), self._row_bytes(images), made_of)
        todo = [shard for shard in masks.missing() if shard % num_replicas == rank]
        seen = torch.arange(len(images)).scatter(0, chosen, self.seen(chosen))
        batches = [(shard, batch) for shard in todo for batch in seen[masks.images_of(shard)].split(self.batch_size)]
        made: list[Tensor] = []
        for (shard, rows), (_, batch) in zip(batches, images.batches([rows for _, rows in batches]), strict=True):
            made.append(self._packed(model, batch, labels, rows.to(labels.device)).cpu())
            if sum(map(len, made)) == len(masks.images_of(shard)):
                masks.write(shard, torch.cat(made))
                made.clear()
        return masks

    def reopen(self, folder: Path, images: ImagesOnDisk, labels: Tensor, checksum: str) -> StoredMasks:
        """The masks that `prepare_in` has finished in a folder.

        Raises:
            FileNotFoundError: the folder has none.
            ValueError: masks that are not finished, damaged, or of another checksum.
        """
        masks = StoredMasks(folder, self.moved(images, labels), len(images), self._row_bytes(images), None)
        if masks.checksum != checksum:
            raise ValueError(f"the masks in {folder} are not those of the checkpoint: put its own folder back")
        return masks

    def moved(self, images: Tensor, labels: Tensor) -> Tensor:
        """The images that have a mask, int64 indices: all, or those of classes with fewer than `below` images.

        Raises:
            ValueError: not one label per image; no class has fewer than `below`.
        """
        if self.below is None:
            return torch.arange(len(images))
        if labels.shape != (len(images),):
            raise ValueError(f"labels must be one per image, ({len(images)},), got shape {tuple(labels.shape)}")
        counts = torch.bincount(labels)
        chosen = (counts[labels] < self.below).nonzero()[:, 0]
        if len(chosen) == 0:
            raise ValueError(
                f"below={self.below}: every class has at least {counts[counts > 0].min()} training images, so nothing "
                "would move; raise it, or take the slot out"
            )
        return chosen

    def seen(self, moved: Tensor) -> Tensor:
        """The images in whose foreground those at `moved`, (M,) indices, are moved: their own. (M,)"""
        return moved

    def _packed(self, model: nn.Module | None, images: Tensor, labels: Tensor, chosen: Tensor) -> Tensor:
        """The packed masks of a batch: of the model, or those given."""
        if self.masks is not None:
            return pack_masks(self.masks[chosen.to(self.masks.device)]).to(images.device)
        maps = maps_of(model, images, labels[chosen], batch_size=self.batch_size)
        return pack_masks(foreground_masks(maps, self.threshold))

    def _row_bytes(self, images: Tensor) -> int:
        """Of a packed mask; masks that were given must fit the images."""
        if self.masks is not None:
            check_masks(self.masks, (len(images), *images.shape[2:]))
        return -(-math.prod(images.shape[2:]) // 8)

    def __call__(self, images: Tensor, packed: Tensor, *, generator: torch.Generator) -> Tensor:
        """Images with their foreground moved, each by its own draw.

        Args:
            images: (n, channels, H, W) uint8.
            packed: (n, ceil(H * W / 8)), the images' rows of what `prepare` returned.
            generator: of the draws.
        """
        h, w = images.shape[2:]
        masks = unpack_masks(packed, (h, w))
        left, top, right, bottom = bounding_boxes(masks).unbind(1)
        free = torch.stack([-left, -top, w - 1 - right, h - 1 - bottom], 1)
        return transform_foreground(images, masks, **self.draw(free, generator), fill=self.fill)


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ShuffledForegroundTransform(ForegroundTransform):
    """The control of the maps: every image is moved in the foreground of another one.

    Who gets whose is drawn once, from a seed of its own, among all images that move. As much moves as with
    `ForegroundTransform`, and where objects tend to be; what that gains over this, it gains by the map of the image.

    Args:
        all of them: as in `ForegroundTransform`.
    """

    def seen(self, moved: Tensor) -> Tensor:
        """Of those at `moved`, (M,) indices, another one for each, no one twice: the next in a random circle. (M,)"""
        circle = torch.randperm(len(moved), generator=torch.Generator().manual_seed(0)).to(moved.device)
        return moved.scatter(0, circle, moved[circle.roll(1)])


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class WholeImageTransform(_Transform):
    """The control of moving a foreground: the same draws as `ForegroundTransform`'s, applied to the whole image.

    Args:
        kinds, max_angle, min_scale, max_scale: as in `ForegroundTransform`.
        max_shift: in [0, 1], shifts are uniform within ± this share of the image's sides.

    Raises:
        ValueError: a setting outside its range.
    """

    max_shift: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= comparable(self.max_shift) <= 1:
            raise ValueError(f"max_shift={self.max_shift!r}: it must be a share of the image's side, in [0, 1]")

    def prepare(self, model: nn.Module | None, images: Tensor, labels: Tensor) -> Tensor:
        """Nothing to prepare: an empty row per image."""
        return torch.empty(len(images), 0, dtype=torch.uint8, device=images.device)

    def __call__(self, images: Tensor, packed: Tensor, *, generator: torch.Generator) -> Tensor:
        """Images (n, channels, H, W) uint8, each transformed by its own draw."""
        down, right = (math.floor(self.max_shift * side) for side in images.shape[2:])
        reach = torch.ones(len(images), 1, device=images.device)
        free = torch.cat([-right * reach, -down * reach, right * reach, down * reach], 1)
        return transform_images(images, **self.draw(free, generator))


def new_image_counts(class_counts: Sequence[int] | Tensor) -> Tensor:
    """How many new images each class receives in the authors' code: n_max + n_min - n_c.

    With the originals every class then has n_max + n_min images. (C,) -> (C,) int64
    """
    counts = as_tensor(class_counts)
    return counts.max() + counts.min() - counts


def materialise(
    transform: ForegroundTransform | WholeImageTransform, model: nn.Module | None, images: Tensor, labels: Tensor, *,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """New images for every class, made once, as the authors' code does; the slot instead moves the foreground anew
    each time an image is drawn.

    Class c receives n_max + n_min - n_c images, see `new_image_counts`; each starts from one of the class's own,
    drawn uniformly with replacement.

    Args:
        transform, model: which foregrounds, and how they move.
        images, labels: (N, channels, H, W) uint8 and (N,) int64, the training set; every class up to the largest label
            has an image.
        generator: of all draws.

    Returns:
        The new images and their labels, in order of class; the originals are not among them.

    Raises:
        ValueError: a class without an image; what `transform.prepare` raises.
    """
    counts = torch.bincount(labels)
    if (counts == 0).any():
        raise ValueError(f"labels have no image of class {int(counts.argmin())}: leave the class out, or add images")
    packed = transform.prepare(model, images, labels)
    new_labels = torch.arange(len(counts), device=labels.device).repeat_interleave(new_image_counts(counts))
    uniform = torch.rand(len(new_labels), dtype=torch.float64, generator=generator, device=generator.device)
    nth = (uniform.to(labels.device) * counts[new_labels]).long()  # which of its class
    sources = labels.argsort(stable=True)[(counts.cumsum(0) - counts)[new_labels] + nth]
    new_images = images.new_empty(len(sources), *images.shape[1:])
    for start in range(0, len(sources), ROWS_AT_ONCE):
        rows = sources[start : start + ROWS_AT_ONCE]
        new_images[start : start + ROWS_AT_ONCE] = transform(images[rows], packed[rows], generator=generator)
    return new_images, new_labels
