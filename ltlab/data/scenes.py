"""scenes-lt: scenes of one to four shapes on textured grounds, drawn by code, with true boxes and masks.

The eighteen classes are the ten shapes of shapes-lt, and eight of them hollow. How often each is seen has a long tail;
which shape is rare is drawn by the seed, because some shapes are easier to find than others.

On all x86-64 processors with AVX2 the images of a seed have equal bits, see `shapes`.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import check_integer, check_seed, comparable
from .detection_sets import COMMON, RARE, DetectionData, DetectionSplit, frequency_groups
from .profiles import long_tail_counts
from .shapes import SHAPES, TEMPLATE_EXTENT, TEXTURES, hsv_to_rgb, shape_templates, texture_tones

TEST_SEEDS = {"test": 2021, "held_out": 2022}  # of the scenes to measure on, the same for every training seed
HOLLOW = ("square", "triangle", "star", "heart", "cross", "moon", "hexagon", "arrow")
CLASSES = (*SHAPES, *(f"hollow {name}" for name in HOLLOW))
MOST_OBJECTS = 4  # in a scene
RADIUS = (9 / 96, 20 / 96)  # of a shape, in units of the image's side
ANGLE = 25.0  # degrees to either side
REACH = 1.08  # every shape lies within so many radii of its middle
WALL = 0.18  # thickness of a hollow shape, in radii
SHADOW = 2  # pixels to the right and down
TRIES = 40  # places that are drawn for an object; the first one that is free is taken


def scenes_lt(
    *, imbalance: float = 200, kind: str = "exp", seed: int = 0, max_count: int = 460, test_count: int = 30,
    rare: int = RARE, common: int = COMMON, held_out: bool = False, noise: float = 0.06, size: int = 96,
) -> DetectionData:  # fmt: skip
    """Draw the built-in detection set: long-tailed training scenes, and test scenes with equally many boxes per class.

    Label 0 is the class with the most boxes. Every class has exactly the boxes of its profile, in scenes of 1 to 4
    objects; the scene of every box is drawn, so that images per class vary a little with the seed.

    Args:
        imbalance, kind: profile of the training boxes, see `long_tail_counts`.
        seed: draws which shape is how frequent, and the training scenes; from 0 to 2**32 - 1, and neither 2021 nor
            2022, which draw the scenes to measure on.
        max_count, test_count: training boxes of the most frequent class; test boxes of every class.
        rare, common: the most training images of a rare and of a common class, see `frequency_groups`.
        held_out: False measures on the test scenes; True on as many others, to choose settings by. Real images have no
            such supply; there `results.hold_out` takes training images.
        noise: standard deviation of Gaussian pixel noise, in units of the full intensity range.
        size: side of the square images in pixels, at least 48; shapes grow with it.
    """
    seed, size = check_seed(seed), check_integer("size", size, least=48)
    test_count = check_integer("test_count", test_count, least=1)
    if seed in TEST_SEEDS.values():
        raise ValueError(f"seed={seed} draws the scenes to measure on: take another for the training scenes")
    if not isinstance(held_out, bool):
        raise ValueError(f"held_out={held_out!r} must be True or False")
    if not 0 <= comparable(noise) < math.inf:
        raise ValueError(f"noise={noise!r} must be a standard deviation, finite and at least 0")
    counts = torch.tensor(long_tail_counts(len(CLASSES), max_count, imbalance, kind))
    train = torch.Generator().manual_seed(seed)
    test = torch.Generator().manual_seed(TEST_SEEDS["held_out" if held_out else "test"])
    order = torch.randperm(len(CLASSES), generator=train)  # shape of every label
    scenes = _draw(order.repeat_interleave(counts), order, train, noise, size)
    return DetectionData(
        name="scenes-lt",
        train=scenes,
        test=_draw(torch.arange(len(CLASSES)).repeat_interleave(test_count), order, test, noise, size),
        class_names=tuple(CLASSES[shape] for shape in order.tolist()),
        groups=frequency_groups(scenes.images_per_class(len(CLASSES)), rare, common),
        options={"imbalance": imbalance, "kind": kind, "seed": seed, "max_count": max_count, "test_count": test_count,
                 "rare": rare, "common": common, "held_out": held_out, "noise": noise, "size": size},
    )  # fmt: skip


class Objects(NamedTuple):
    """All objects of a split, scene after scene: M rows each."""

    shape: Tensor  # index into CLASSES
    scene: Tensor
    slot: Tensor  # 0 for the object at the back, up to 3
    radius: Tensor  # in pixels
    centre: Tensor  # (M, 2), x and y in pixels
    angle: Tensor  # in radians

    def take(self, chosen: Tensor) -> "Objects":
        return Objects(*(values[chosen] for values in self))


def _draw(shapes: Tensor, order: Tensor, generator: torch.Generator, noise: float, size: int) -> DetectionSplit:
    """Scenes with the given shapes, (M,), in random company; label c is the shape order[c]."""
    objects = _placed(shapes[torch.randperm(len(shapes), generator=generator)], generator, size)
    n = int(objects.scene[-1]) + 1
    kinds = torch.randint(len(TEXTURES), (n,), generator=generator)
    tone = texture_tones(kinds, size, generator)[..., None]  # (N, H, W, 1) in [0, 1]
    dark, light, vivid = _colours(objects.scene, n, generator)
    images, owner = _painted(torch.lerp(dark, light, tone), vivid, objects, size)
    if noise:
        images = images + noise * torch.randn(images.shape, generator=generator)  # (N, H, W, 3)
    masks = owner[objects.scene] == objects.slot[:, None, None]  # (M, H, W), what is not covered
    sizes = torch.bincount(objects.scene, minlength=n).tolist()
    return DetectionSplit(
        (images.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 3, 1, 2).contiguous(),
        boxes=list(tight_boxes(masks).split(sizes)),
        labels=list(order.argsort()[objects.shape].split(sizes)),
        masks=list(masks.split(sizes)),
    )


def _placed(shapes: Tensor, generator: torch.Generator, size: int) -> Objects:
    """Scenes of 1 to 4 objects until all are placed, in free places if `TRIES` finds them, else where most is free."""
    m = len(shapes)
    ends = torch.randint(1, MOST_OBJECTS + 1, (m,), generator=generator).cumsum(0)  # object that each scene ends before
    scene = torch.searchsorted(ends, torch.arange(m), right=True)
    slot = torch.arange(m) - torch.cat([ends.new_zeros(1), ends])[scene]
    low, high = RADIUS
    radius = size * (low + (high - low) * torch.rand(m, generator=generator))
    angle = torch.deg2rad(ANGLE * (2 * torch.rand(m, generator=generator) - 1))
    tries = torch.rand(m, TRIES, 2, generator=generator)
    tries = REACH * radius[:, None, None] * (1 - 2 * tries) + size * tries  # (M, T, 2), all of it in the image
    centre = torch.zeros(m, 2)
    for k in range(MOST_OBJECTS):
        mine = (slot == k).nonzero().flatten()  # (m_k,)
        free = torch.full((len(mine), TRIES), torch.inf)  # pixels between an object and its nearest neighbour
        for j in range(1, k + 1):
            other = mine - j
            apart = (tries[mine] - centre[other, None]).square().sum(2).sqrt()  # (m_k, T)
            free = torch.minimum(free, apart - (radius[mine] + radius[other])[:, None])
        first = (free > 0).int().argmax(1)
        chosen = torch.where((free > 0).any(1), first, free.argmax(1))
        centre[mine] = tries[mine, chosen]
    return Objects(shapes, scene, slot, radius, centre, angle)


def _colours(scene: Tensor, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Two muted tones for every ground, (N, 1, 1, 3), and a vivid, clearly other one for every object, (M, 1, 1, 3)."""
    hue, value, muted = torch.rand(3, n, generator=generator)
    away, vivid = torch.rand(2, len(scene), generator=generator)
    bright = value < 0.5  # dark shapes on light ground, or light on dark
    ground = torch.where(bright, 0.72, 0.22)
    dark = hsv_to_rgb(hue, 0.25 + 0.2 * muted, ground)
    light = hsv_to_rgb(hue, 0.15 + 0.2 * muted, ground + 0.22)
    colour = hsv_to_rgb(hue[scene] + 0.25 + 0.5 * away, 0.65 + 0.3 * vivid, torch.where(bright, 0.6, 0.95)[scene])
    return dark.permute(0, 2, 3, 1), light.permute(0, 2, 3, 1), colour.permute(0, 2, 3, 1)


def _painted(ground: Tensor, vivid: Tensor, objects: Objects, size: int) -> tuple[Tensor, Tensor]:
    """Grounds (N, H, W, 3) with all objects on them, and the slot of the object that each pixel shows, -1 for none."""
    edge = math.ceil(size * RADIUS[1] * REACH) + 2 + SHADOW  # half a patch, and a margin that lets patches hang over
    images = F.pad(ground, (0, 0, edge, edge, edge, edge))
    owner = torch.full(images.shape[:3], -1, dtype=torch.int8)
    across = torch.arange(2 * edge)
    for k in range(MOST_OBJECTS):  # from the back to the front
        mine = objects.slot == k
        part = objects.take(mine)
        corner = part.centre.floor().long()  # of the patch, in the padded image
        inside = -_distances(part, part.centre - corner + edge, 2 * edge)  # (m, P, P) pixels within the outline
        place = part.scene[:, None, None], corner[:, 1, None, None] + across[:, None], corner[:, 0, None, None] + across
        shadow = 0.45 * (0.5 + inside.roll((SHADOW, SHADOW), (1, 2)) / 5).clamp(0, 1)
        cover = (0.5 + inside).clamp(0, 1)
        patch = images[place] * (1 - shadow[..., None])  # (m, P, P, 3)
        images[place] = torch.lerp(patch, vivid[mine].expand_as(patch), cover[..., None])
        owner[place] = torch.where(cover > 0.5, k, owner[place])
    within = slice(edge, edge + size)
    return images[:, within, within], owner[:, within, within]


def _distances(objects: Objects, middle: Tensor, side: int) -> Tensor:
    """Signed distance to every object's outline in a square patch, in pixels, negative inside. -> (M, side, side)"""
    line = torch.arange(side) + 0.5
    right, down = (line - middle[:, 0, None])[:, None, :], (line - middle[:, 1, None])[:, :, None]
    cos = (torch.cos(objects.angle) / objects.radius)[:, None, None]
    sin = (torch.sin(objects.angle) / objects.radius)[:, None, None]
    grid = torch.stack([cos * right - sin * down, sin * right + cos * down], dim=3) / TEMPLATE_EXTENT
    distance = torch.empty(len(objects.shape), side, side)
    solid = [*SHAPES]
    of_shape = torch.tensor([solid.index(name.removeprefix("hollow ")) for name in CLASSES])[objects.shape]
    for c, template in enumerate(shape_templates()):
        mine = of_shape == c
        sheet = template.expand(int(mine.sum()), 1, -1, -1)
        distance[mine] = F.grid_sample(sheet, grid[mine], padding_mode="border", align_corners=False)[:, 0]
    hollow = (objects.shape >= len(SHAPES))[:, None, None]
    distance = torch.where(hollow, torch.maximum(distance, -WALL - distance), distance)
    return distance * objects.radius[:, None, None]


def tight_boxes(masks: Tensor) -> Tensor:
    """The smallest box around every mask, (M, H, W) bool with a pixel each -> (M, 4) float32, (x1, y1, x2, y2)."""
    edges = []
    for over in (1, 2):  # columns, then rows
        seen = masks.any(over).int()  # (M, W), then (M, H)
        edges.append((seen.argmax(1), seen.shape[1] - seen.flip(1).argmax(1)))
    (x1, x2), (y1, y2) = edges
    return torch.stack([x1, y1, x2, y2], dim=1).float()
