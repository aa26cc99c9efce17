"""shapes-lt: deterministic, quick, with true masks, and every knob does what it says."""

import math
import time

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ltlab.data import load, shapes

SMALL = {"imbalance": 1, "max_count": 40, "test_count": 40}


def test_default_set():
    data = load("shapes-lt")
    assert data.train.images.shape == (int(data.class_counts.sum()), 3, 32, 32)
    assert data.train.masks.shape == (len(data.train), 32, 32)
    assert data.class_counts[0] / data.class_counts[-1] == pytest.approx(100, rel=0.2)
    assert torch.bincount(data.test.labels).tolist() == [200] * 10
    assert len(data.class_names) == len(shapes.TEXTURES) == 10


def test_deterministic_by_seed_and_the_test_set_is_one():
    a, b, c = load("shapes-lt", seed=1), load("shapes-lt", seed=1), load("shapes-lt", seed=2)
    assert a.fingerprint == b.fingerprint != c.fingerprint
    assert torch.equal(a.test.images, c.test.images) and not torch.equal(a.train.images, c.train.images)


def test_the_images_are_those_of_the_shipped_rows(same_bits):
    assert load("shapes-lt").fingerprint == "bd8a17a71cd2b195"


class Operations(TorchDispatchMode):
    """Notes which operations of torch are called."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_nothing_is_drawn_by_a_matrix_product():
    """Their sums are rounded as each processor's library likes, and a grey value follows."""
    with Operations() as called:
        load("shapes-lt", **SMALL)
    products = {"mm", "bmm", "addmm", "baddbmm", "mv", "dot", "affine_grid_generator"}
    assert "grid_sampler_2d" in called.names and not called.names & products


def test_train_and_test_take_at_most_two_seconds():
    """Of processor time, which is at least the time on an idle machine and bears other work on this one."""
    seconds = []
    for seed in range(3):
        started = time.process_time()
        load("shapes-lt", seed=seed)
        seconds.append(time.process_time() - started)
    assert min(seconds) <= 2


@pytest.mark.parametrize("name", shapes.SHAPES)
def test_distances_have_slope_one_and_the_right_sign(name):
    """A signed distance changes by at most the step taken, and is negative inside: at some point, but not far out."""
    line = torch.linspace(-2, 2, 161, dtype=torch.float64)
    y, x = torch.meshgrid(line, line, indexing="ij")
    d = shapes.SHAPES[name](x, y)
    step = float(line[1] - line[0])
    assert d.diff(dim=0).abs().max() <= step * (1 + 1e-9) and d.diff(dim=1).abs().max() <= step * (1 + 1e-9)
    assert d.min() < -0.1 and d[torch.hypot(x, y) > 1.1].min() > 0
    if name != "moon":  # all others mirror themselves
        torch.testing.assert_close(d.abs(), d.flip(1).abs())


def pose(**values) -> torch.Tensor:
    return torch.tensor([[values.get("angle", 0.0), values.get("right", 0.0), values.get("down", 0.0), 1.0]])


def test_pose_turns_counter_clockwise_and_shifts_right_and_down():
    arrow = torch.tensor([list(shapes.SHAPES).index("arrow")])
    up = shapes._posed_shapes(arrow, pose(), 64)[0]
    left = shapes._posed_shapes(arrow, pose(angle=90.0), 64)[0]
    torch.testing.assert_close(left, torch.rot90(up), atol=0.02, rtol=0)  # rot90 turns counter-clockwise
    moved = shapes._posed_shapes(arrow, pose(right=0.25, down=0.125), 64)[0]
    torch.testing.assert_close(moved[4:, 8:], up[:-4, :-8], atol=0.02, rtol=0)  # 0.25 of 32 pixels, 0.125 of 32


def test_coverage_is_the_area_of_the_shape():
    labels = torch.arange(10)
    coverage = shapes._posed_shapes(labels, pose().expand(10, 4), 64).sum((1, 2)) / 32**2  # in units of the half side
    square, disc = 1.5**2, math.pi * 0.85**2
    assert coverage[0] == pytest.approx(disc, rel=0.01) and coverage[1] == pytest.approx(square, rel=0.01)
    ring = math.pi * (0.9**2 - 0.5**2)
    assert coverage[list(shapes.SHAPES).index("ring")] == pytest.approx(ring, rel=0.02)


def test_masks_are_where_the_shape_s_colour_is():
    data = load("shapes-lt", noise=0.0, **SMALL)
    for image, mask in zip(data.test.images[::37].float(), data.test.masks[::37], strict=True):
        inside, outside = image[:, mask], image[:, ~mask]
        colour = inside.median(dim=1).values[:, None]
        assert ((inside - colour).abs().amax(0) < 2).float().mean() > 0.7  # one flat colour, but for the edge
        assert ((outside - colour).abs().amax(0) > 20).float().mean() > 0.7


def test_context_is_the_fraction_of_own_textures(monkeypatch):
    drawn = []
    textures = shapes.texture_tones
    monkeypatch.setattr(shapes, "texture_tones", lambda kinds, *rest: drawn.append(kinds) or textures(kinds, *rest))
    for context, low, high in ((0.0, 0, 0), (0.5, 0.45, 0.55), (1.0, 1, 1)):
        drawn.clear()
        data = load("shapes-lt", context=context, **(SMALL | {"max_count": 100}))
        fraction = (drawn[0] == data.train.labels).float().mean().item()
        assert low <= fraction <= high


def centres(data, c: int) -> torch.Tensor:
    """Centre of mass of the masks of a class. -> (n, 2)"""
    masks = data.train.masks[data.train.labels == c].float()
    line = torch.arange(32.0)
    return torch.stack([(masks.sum(1) * line).sum(1), (masks.sum(2) * line).sum(1)], 1) / masks.sum((1, 2))[:, None]


def test_pose_variety_narrows_the_training_poses_only():
    spread = {}
    for variety in (0.0, 0.3, 1.0):
        data = load("shapes-lt", pose_variety=variety, **SMALL)
        spread[variety] = centres(data, 0).std(0).mean().item()
        test = load("shapes-lt", pose_variety=variety, **SMALL).test
        assert torch.equal(test.images, load("shapes-lt", **SMALL).test.images)
    assert spread[0.0] == 0 < spread[0.3] < spread[1.0]
    assert spread[0.3] / spread[1.0] == pytest.approx(0.3, abs=0.1)


def test_noise_is_a_standard_deviation_of_the_full_range():
    clean, noisy = (load("shapes-lt", noise=noise, **SMALL).test.images.float() / 255 for noise in (0.0, 0.04))
    far_from_clipping = (clean > 0.2) & (clean < 0.8)
    assert (noisy - clean)[far_from_clipping].std().item() == pytest.approx(0.04, rel=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context": 1.5}, "context=1.5"),
        ({"pose_variety": None}, "pose_variety=None"),
        ({"noise": math.nan}, "noise=nan"),
        ({"size": 4}, "size=4"),
        ({"test_count": 0}, "test_count=0"),
        ({"max_count": 5}, "without an image"),
        ({"imbalance": None}, "imbalance=None"),
        ({"seed": 2021}, "seed=2021 draws the test images"),
        ({"seed": 2**32 + 2021}, "seed=4294969317 .* from 0 to 4294967295"),
    ],
)
def test_bad_input_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        load("shapes-lt", **options)
