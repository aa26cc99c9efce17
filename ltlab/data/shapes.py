"""shapes-lt: ten shape classes on textured backgrounds, drawn by code, each image with its true foreground mask.

Every image is one posed shape on one background texture. A shape is a signed distance d(x, y), negative inside;
posing it is one affine `grid_sample` of a template of d; its edge is anti-aliased by clamping -d to one pixel.

On all x86-64 processors with AVX2 the images of a seed have equal bits. Other processors round some functions
differently: of millions of grey values, a few differ by one.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from ..counts import check_integer, check_seed, comparable
from .profiles import long_tail_counts
from .sets import LongTailedData, Split

TEMPLATE_SIZE = 128  # samples per side of a shape's distance template
TEMPLATE_EXTENT = 2.0  # the template covers [-2, 2]²; every shape lies within 1.1 of its middle
TEST_SEED = 2021  # the test set is the same for every seed

# a pose: (low, high) of each parameter in the test set; lengths in units of half the image's side
POSE = {"angle": (-25.0, 25.0), "right": (-0.25, 0.25), "down": (-0.25, 0.25), "scale": (0.6, 0.95)}


def shapes_lt(
    *, imbalance: float = 100, kind: str = "exp", seed: int = 0, max_count: int = 320, test_count: int = 200,
    context: float = 0.5, pose_variety: float = 1.0, noise: float = 0.1, size: int = 32,
) -> LongTailedData:  # fmt: skip
    """Draw the built-in long-tailed set: a long-tailed training split and a balanced test split, both with masks.

    Args:
        imbalance, kind: profile of the training counts, see `long_tail_counts`.
        seed: draws the training images, from 0 to 2**32 - 1 and not 2021, which draws the test images of every set.
        max_count, test_count: training images of the most frequent class; test images of every class.
        context: probability in [0, 1] that the background carries the class's own texture; otherwise it carries
            one of the other nine, uniformly. 0.1 makes background and class independent.
        pose_variety: fraction in [0, 1] of each pose range (angle ±25°, shift ±¼ of the half side, scale 0.6 to 0.95)
            that a class shows in training; where in the range is drawn per class. 1: training poses are
            distributed like test poses; 0: a class has a single training pose. The test set always covers the range.
        noise: standard deviation of Gaussian pixel noise, in units of the full intensity range.
        size: side of the square images in pixels, at least 8.
    """
    for name, fraction in {"context": context, "pose_variety": pose_variety}.items():
        if not 0 <= comparable(fraction) <= 1:
            raise ValueError(f"{name}={fraction!r} must be a fraction in [0, 1]")
    if not 0 <= comparable(noise) < math.inf:
        raise ValueError(f"noise={noise!r} must be a standard deviation, finite and at least 0")
    size = check_integer("size", size, least=8)
    test_count = check_integer("test_count", test_count, least=1)
    if (seed := check_seed(seed)) == TEST_SEED:
        raise ValueError(f"seed={seed} draws the test images; training images would have the same masks: take another")

    counts = long_tail_counts(len(SHAPES), max_count, imbalance, kind)
    look = {"context": context, "noise": noise, "size": size}
    train, test = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(TEST_SEED)
    class_poses = torch.rand(len(SHAPES), len(POSE), generator=train) * (1 - pose_variety)  # where each window begins
    return LongTailedData(
        name="shapes-lt",
        train=_draw(torch.tensor(counts), class_poses, pose_variety, train, **look),
        test=_draw(torch.full((len(SHAPES),), test_count), torch.zeros_like(class_poses), 1.0, test, **look),
        class_names=tuple(SHAPES),
        options={"imbalance": imbalance, "kind": kind, "seed": seed, "max_count": max_count, "test_count": test_count,
                 "context": context, "pose_variety": pose_variety, "noise": noise, "size": size},
    )  # fmt: skip


def _draw(
    counts: Tensor, window: Tensor, width: float, generator: torch.Generator, *,
    context: float, noise: float, size: int,
) -> Split:  # fmt: skip
    """`counts[c]` images of every class c, with pose parameters uniform on [window, window + width] of their range."""
    labels = torch.arange(len(counts)).repeat_interleave(counts)  # (N,)
    n = len(labels)
    uniform = window[labels] + width * torch.rand(n, len(POSE), generator=generator)  # (N, 4) in [0, 1]
    low, high = torch.tensor(list(POSE.values())).T
    coverage = _posed_shapes(labels, low + (high - low) * uniform, size)  # (N, H, W) in [0, 1]

    own = torch.rand(n, generator=generator) < context
    other = (labels + torch.randint(1, len(SHAPES), (n,), generator=generator)) % len(SHAPES)
    tone = texture_tones(torch.where(own, labels, other), size, generator)  # (N, H, W) in [0, 1]

    shape, dark, light = _colours(n, generator)  # each (N, 3, 1, 1)
    background = torch.lerp(dark, light, tone[:, None])
    images = torch.lerp(background, shape, coverage[:, None])  # (N, 3, H, W)
    if noise:
        images = images + noise * torch.randn(images.shape, generator=generator)
    return Split((images.clamp(0, 1) * 255).round().to(torch.uint8), labels, coverage > 0.5)


def _posed_shapes(labels: Tensor, pose: Tensor, size: int) -> Tensor:
    """Coverage of every pixel by the shape of each label: 1 inside, 0 outside, between on the edge. -> (N, H, W)"""
    angle, right, down, scale = pose.T
    cos, sin = torch.cos(angle.deg2rad()) / scale, torch.sin(angle.deg2rad()) / scale
    line = torch.linspace(-1, 1, size) * ((size - 1) / size)  # the pixels' middles
    x, y = line, line[:, None]
    # from image to shape coordinates (y down): turn back by the angle (counter-clockwise on the screen), shift, scale;
    # in elementary steps, because a matrix product (`F.affine_grid`) is rounded differently by each processor
    rows = (cos, -sin, -(cos * right - sin * down)), (sin, cos, -(sin * right + cos * down))
    grid = torch.empty(len(labels), size, size, 2)
    for i, row in enumerate(rows):
        of_x, of_y, shift = (torch.stack(row) / TEMPLATE_EXTENT)[:, :, None, None]  # each (N, 1, 1)
        grid[..., i] = of_x * x + of_y * y + shift
    coverage = torch.empty(len(labels), size, size)
    for c, template in enumerate(shape_templates()):
        mine = labels == c
        sheet = template.expand(int(mine.sum()), 1, -1, -1)
        distance = F.grid_sample(sheet, grid[mine], padding_mode="border", align_corners=False)[:, 0]
        pixels = distance * scale[mine, None, None] * (size / 2)  # signed distance in pixels
        coverage[mine] = (0.5 - pixels).clamp(0, 1)
    return coverage


def shape_templates() -> list[Tensor]:
    """The signed distance of every shape on one grid over [-2, 2]². -> 10 of (1, 1, T, T)"""
    line = (torch.arange(TEMPLATE_SIZE) + 0.5) / TEMPLATE_SIZE * 2 - 1
    y, x = torch.meshgrid(line * TEMPLATE_EXTENT, line * TEMPLATE_EXTENT, indexing="ij")
    return [distance(x, y)[None, None] for distance in SHAPES.values()]


# --- the ten shapes: signed distance d(x, y), y pointing down, negative inside ---------------------------------------


def _disc(radius: float, x0: float = 0.0) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: torch.hypot(x - x0, y) - radius


def _without(outer: Callable, inner: Callable) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, y: torch.maximum(outer(x, y), -inner(x, y))


def _polygon(corners: list[tuple[float, float]]) -> Callable[[Tensor, Tensor], Tensor]:
    """Distance to the nearest edge; the sign by counting the edges that a ray to the right crosses."""

    def distance(x: Tensor, y: Tensor) -> Tensor:
        nearest, inside = torch.full_like(x, torch.inf), torch.zeros_like(x, dtype=torch.bool)
        for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
            dx, dy = x1 - x0, y1 - y0
            along = (((x - x0) * dx + (y - y0) * dy) / (dx * dx + dy * dy)).clamp(0, 1)
            nearest = torch.minimum(nearest, torch.hypot(x - x0 - along * dx, y - y0 - along * dy))
            if dy:
                inside ^= ((y0 > y) != (y1 > y)) & (x < x0 + (y - y0) / dy * dx)
        return torch.where(inside, -nearest, nearest)

    return distance


def _on_circle(n: int, radii: tuple[float, ...] = (1.0,)) -> list[tuple[float, float]]:
    """n corners around the centre, the first at the top, their radii taken in turn."""
    turn = [(2 * math.pi * k / n, radii[k % len(radii)]) for k in range(n)]
    return [(r * math.sin(a), -r * math.cos(a)) for a, r in turn]


def _heart(n: int = 40) -> list[tuple[float, float]]:
    turn = [2 * math.pi * k / n for k in range(n)]
    x = [math.sin(t) ** 3 for t in turn]
    y = [-(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16 for t in turn]
    return [(0.95 * a, 0.95 * b) for a, b in zip(x, y, strict=True)]


_CROSS = [(-.32, -.9), (.32, -.9), (.32, -.32), (.9, -.32), (.9, .32), (.32, .32),
          (.32, .9), (-.32, .9), (-.32, .32), (-.9, .32), (-.9, -.32), (-.32, -.32)]  # fmt: skip
_ARROW = [(0, -1.0), (0.75, -0.1), (0.3, -0.1), (0.3, 0.9), (-0.3, 0.9), (-0.3, -0.1), (-0.75, -0.1)]

SHAPES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {     # in order of training frequency
    "circle": _disc(0.85),
    "square": _polygon([(-.75, -.75), (.75, -.75), (.75, .75), (-.75, .75)]),
    "triangle": _polygon(_on_circle(3)),
    "star": _polygon(_on_circle(10, (1.0, 0.45))),
    "heart": _polygon(_heart()),
    "ring": _without(_disc(0.9), _disc(0.5)),
    "cross": _polygon(_CROSS),
    "moon": _without(_disc(0.9), _disc(0.75, x0=0.5)),
    "hexagon": _polygon(_on_circle(6, (0.9,))),
    "arrow": _polygon(_ARROW),
}  # fmt: skip


# --- backgrounds and colours -----------------------------------------------------------------------------------------

# one texture per class: a wave over the image, x and y in radians, r and phi polar around the centre
TEXTURES: tuple[Callable[[Tensor, Tensor, Tensor, Tensor], Tensor], ...] = (
    lambda x, y, r, phi: torch.sin(y),                              # lying stripes
    lambda x, y, r, phi: torch.sin(x),                              # standing stripes
    lambda x, y, r, phi: torch.sin((x + y) / math.sqrt(2)),         # rising stripes
    lambda x, y, r, phi: torch.sin((x - y) / math.sqrt(2)),         # falling stripes
    lambda x, y, r, phi: torch.sin(x) * torch.sin(y),               # chequers
    lambda x, y, r, phi: torch.sin(x) + torch.sin(y) - 0.8,         # dots
    lambda x, y, r, phi: torch.sin(r),                              # rings
    lambda x, y, r, phi: torch.sin(8 * phi),                        # rays
    lambda x, y, r, phi: torch.sin(y + 1.5 * torch.sin(x / 2)),     # waves
    lambda x, y, r, phi: torch.maximum(torch.sin(x), torch.sin(y)) - 0.6,   # lattice
)  # fmt: skip


def texture_tones(kinds: Tensor, size: int, generator: torch.Generator) -> Tensor:
    """A background wave of each kind with its own frequency and phase, squashed to [0, 1]. -> (N, H, W)"""
    n = len(kinds)
    frequency = math.pi * (3.0 + 2.0 * torch.rand(n, 1, 1, generator=generator))  # 3 to 5 periods over the image
    x0, y0 = 2 * math.pi * torch.rand(2, n, 1, 1, generator=generator)
    line = (torch.arange(size) + 0.5) / size * 2 - 1
    tone = torch.empty(n, size, size)
    for k, wave in enumerate(TEXTURES):
        mine = kinds == k
        f = frequency[mine]
        x, y = (f * line + x0[mine]).expand(-1, size, -1), (f * line[:, None] + y0[mine]).expand(-1, -1, size)
        r, phi = torch.hypot(line, line[:, None]), torch.atan2(line[:, None], line)
        tone[mine] = torch.sigmoid(4 * wave(x, y, f * r + x0[mine], phi + x0[mine]))
    return tone


def _colours(n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Per image: a vivid colour for the shape and two tones of a muted, clearly different one behind it."""
    hue, away, value, vivid, muted = torch.rand(5, n, generator=generator)
    behind = hue + 0.25 + 0.5 * away  # at least a quarter turn of the colour circle away
    bright = value < 0.5  # dark shape on light ground, or light on dark
    shape = hsv_to_rgb(hue, 0.65 + 0.3 * vivid, torch.where(bright, 0.55, 0.95))
    ground = torch.where(bright, 0.72, 0.22)
    dark = hsv_to_rgb(behind, 0.25 + 0.2 * muted, ground)
    light = hsv_to_rgb(behind, 0.15 + 0.2 * muted, ground + 0.22)
    return shape, dark, light


def hsv_to_rgb(hue: Tensor, saturation: Tensor, value: Tensor) -> Tensor:
    """HSV, each (N,), hue in turns, to RGB (N, 3, 1, 1): v - v s max(0, min(k, 4 - k, 1)), k = (n + 6h) mod 6."""
    k = (torch.tensor([5.0, 3.0, 1.0]) + 6 * hue[:, None]) % 6  # (N, 3)
    ramp = torch.minimum(k, 4 - k).clamp(0, 1)
    return (value[:, None] * (1 - saturation[:, None] * ramp))[:, :, None, None]
