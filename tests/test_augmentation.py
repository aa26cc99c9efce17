"""Augmentation of batches against torchvision's transforms, image by image."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from ltlab.train import augmentation
from ltlab.train.augmentation import centre_crop, colour_jitter, crop_and_jitter, crop_boxes, random_resized_crop
from ltlab.train.step import augment


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def batch(n=6, h=20, w=26, seed=1):
    return torch.randint(0, 256, (n, 3, h, w), dtype=torch.uint8, generator=seeded(seed))


# --- crops -----------------------------------------------------------------------------------------------------------


def torchvision_box(shape, place, h, w, scale, ratio):
    """RandomResizedCrop.make_params, its random numbers replaced by those given, in Python's arithmetic."""
    for area_draw, ratio_draw in zip(*shape, strict=True):
        area = h * w * (scale[0] + (scale[1] - scale[0]) * area_draw)
        log_ratio = math.log(ratio[0]), math.log(ratio[1])
        aspect = math.exp(log_ratio[0] + (log_ratio[1] - log_ratio[0]) * ratio_draw)
        width, height = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < width <= w and 0 < height <= h:
            return int(place[0] * (h - height + 1)), int(place[1] * (w - width + 1)), height, width
    width, height = w, h
    if w / h < min(ratio):
        height = round(width / min(ratio))
    elif w / h > max(ratio):
        width = round(height * max(ratio))
    width, height = max(1, width), max(1, height)  # torchvision fails at 0 pixels
    return (h - height) // 2, (w - width) // 2, height, width


@given(
    st.integers(1, 40), st.integers(1, 40), st.floats(0.01, 1), st.floats(0.01, 1), st.floats(0.2, 3), st.floats(1, 4),
    st.integers(0, 10_000),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_boxes_are_those_of_torchvision_for_the_same_draws(h, w, a, b, low, factor, seed):
    scale, ratio = (min(a, b), max(a, b)), (low, low * factor)
    generator = seeded(seed)
    shape = torch.rand(2, 12, 10, generator=generator, dtype=torch.float64)
    place = torch.rand(2, 12, generator=generator, dtype=torch.float64)
    boxes = torch.stack(crop_boxes(shape, place, (h, w), scale, ratio), 1)
    for i, box in enumerate(boxes.tolist()):
        assert box == list(torchvision_box(shape[:, i].tolist(), place[:, i].tolist(), h, w, scale, ratio))
        top, left, height, width = box
        assert 0 <= top <= h - height and 0 <= left <= w - width and min(height, width) >= 1


def test_boxes_have_the_distribution_of_torchvision():
    """Kolmogorov-Smirnov distances of 4,000 draws, also where half of the tries do not fit."""
    n, h, w, scale, ratio = 4000, 60, 100, (0.3, 1.0), (3 / 4, 4 / 3)
    transform = v2.RandomResizedCrop(10, scale, ratio)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        params = [transform.make_params([torch.empty(3, h, w)]) for _ in range(n)]
    oracle = torch.tensor([[p["top"], p["left"], p["height"], p["width"]] for p in params]).float()
    ours = torch.stack(
        crop_boxes(
            torch.rand(2, n, 10, generator=seeded()), torch.rand(2, n, generator=seeded(1)), (h, w), scale, ratio
        ),
        1,
    )
    for one, other in zip(ours.T, oracle.T, strict=True):
        at = torch.arange(101)[:, None]
        distance = ((one <= at).float().mean(1) - (other <= at).float().mean(1)).abs().max()
        assert distance < 1.63 * math.sqrt(2 / n)  # the 1 % level


def boxes_of(images, generator, scale, ratio):
    shape = torch.rand(2, len(images), 10, generator=generator)
    place = torch.rand(2, len(images), generator=generator)
    return torch.stack(crop_boxes(shape, place, images.shape[2:], scale, ratio), 1).int().tolist()


@pytest.mark.parametrize("size", [7, 20, 33])
@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.01, 0.02), (1.0, 1.0)])
def test_random_resized_crop_is_torchvisions(size, scale):
    images, ratio = batch(), (3 / 4, 4 / 3)
    crops = random_resized_crop(images, size, scale=scale, generator=seeded(3))
    assert crops.shape == (6, 3, size, size) and crops.dtype == torch.float32
    for crop, image, (top, left, h, w) in zip(crops, images, boxes_of(images, seeded(3), scale, ratio), strict=True):
        oracle = F.resized_crop(image.float() / 255, top, left, h, w, [size, size], antialias=False)
        torch.testing.assert_close(crop, oracle, atol=2e-5, rtol=0)
        if max(h, w) <= size:  # then antialiasing changes nothing
            smooth = F.resized_crop(image.float() / 255, top, left, h, w, [size, size], antialias=True)
            torch.testing.assert_close(crop, smooth, atol=2e-5, rtol=0)


def test_the_whole_of_a_square_image_stays_as_it_is():
    images = batch(h=16, w=16)
    whole = random_resized_crop(images, 16, scale=(1, 1), ratio=(1, 1), generator=seeded())
    torch.testing.assert_close(whole, images.float() / 255)
    torch.testing.assert_close(random_resized_crop(whole, 16, scale=(1, 1), ratio=(1, 1), generator=seeded()), whole)


def test_every_image_has_a_draw_of_its_own():
    images = batch(n=1).expand(5, -1, -1, -1)
    crops = random_resized_crop(images, 9, generator=seeded())
    jittered = colour_jitter(images, 0.4, 0.4, 0.4, generator=seeded())
    for out in (crops, jittered):
        assert len({image.numpy().tobytes() for image in out}) == 5


@pytest.mark.parametrize("n", [1, 7])
def test_flip_mirrors_the_crops(n):
    """To the bit as `augment` does, and by its draws."""
    mirrored = random_resized_crop(batch(n), 9, flip=True, generator=seeded(3))
    generator = seeded(3)
    crops = random_resized_crop(batch(n), 9, generator=generator)
    assert torch.equal(mirrored, augment(crops, 0, True, generator))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 0}, "size=0"), ({"scale": (0, 1)}, r"scale=\(0, 1\)"), ({"scale": (0.5, 0.1)}, "scale"),
        ({"scale": (0.5, 1.5)}, "scale"), ({"ratio": (0, 1)}, r"ratio=\(0, 1\)"), ({"ratio": (2, 1)}, "ratio"),
    ],
)  # fmt: skip
def test_random_resized_crop_refuses(options, message):
    with pytest.raises(ValueError, match=message):
        random_resized_crop(batch(), **{"size": 8} | options, generator=seeded())


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 3, 9, 8), (2, 3, 11, 14), (1, 3, 13, 10)])
@pytest.mark.parametrize("size", [1, 4, 7, 8])
def test_centre_crop_is_torchvisions(shape, size):
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=seeded())
    assert torch.equal(centre_crop(images, size), F.center_crop(images, [size, size]))


@pytest.mark.parametrize("size", [0, 21])
def test_centre_crop_refuses(size):
    with pytest.raises(ValueError, match=f"size={size} must be at least 1 and at most the images' sides, 20 x 26"):
        centre_crop(batch(), size)


# --- colours ---------------------------------------------------------------------------------------------------------

ADJUST = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation)


def torchvision_jitter(images, b, seed):
    """torchvision's adjustments, image by image, with the factors and orders that a seed stands for."""
    generator = seeded(seed)
    uniform = torch.rand(3, len(images), generator=generator)
    order = torch.rand(3, len(images), generator=generator).argsort(0)
    jittered = []
    for i, image in enumerate(images.float() / 255):
        for k in order[:, i].tolist():
            low, high = max(0, 1 - b[k]), 1 + b[k]
            image = ADJUST[k](image, low + (high - low) * uniform[k, i].item())
        jittered.append(image)
    return torch.stack(jittered)


@pytest.mark.parametrize("b", [(0.4, 0.4, 0.4), (0.9, 0, 0), (0, 0.9, 0), (0, 0, 0.9), (2, 2, 2), (0, 0, 0)])
def test_colour_jitter_is_torchvisions(b):
    images = batch()
    jittered = colour_jitter(images, *b, generator=seeded(5))
    torch.testing.assert_close(jittered, torchvision_jitter(images, b, seed=5), atol=2e-6, rtol=0)
    assert jittered.dtype == torch.float32 and jittered.min() >= 0 and jittered.max() <= 1


def test_nothing_changes_its_input():
    images = torch.rand(3, 3, 8, 8, generator=seeded())
    before = images.clone()
    colour_jitter(images, 0.4, 0.4, 0.4, generator=seeded())
    random_resized_crop(images, 6, generator=seeded())
    assert torch.equal(images, before)


@pytest.mark.parametrize("options", [{"brightness": -0.1}, {"contrast": math.inf}, {"saturation": math.nan}])
def test_colour_jitter_refuses(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=.* must be finite and at least 0"):
        colour_jitter(batch(), **options, generator=seeded())


def test_what_is_switched_off_takes_no_turn():
    """The other two have the draws and the order that they have among three."""
    images = batch()
    for b in ((0.9, 0.9, 0), (0, 0.9, 0.9), (0.9, 0, 0.9)):
        expected = torchvision_jitter(images, b, seed=2)
        torch.testing.assert_close(colour_jitter(images, *b, generator=seeded(2)), expected, atol=2e-6, rtol=0)
    assert torch.equal(colour_jitter(images, generator=seeded()), images.float() / 255)


# --- where it runs ---------------------------------------------------------------------------------------------------


class NoWaiting(TorchDispatchMode):
    """Refuses what makes the CPU wait for the device, or copies from it: such code cannot be recorded."""

    REFUSED = ("_local_scalar_dense", "nonzero", "masked_select", "lift_fresh", "unique")

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert not any(name in str(func) for name in self.REFUSED), func
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device():
    images, generator = batch(), seeded()
    with NoWaiting():
        crops = random_resized_crop(images, 8, flip=True, generator=generator)
        colour_jitter(centre_crop(crops, 6), 0.4, 0.4, 0.4, generator=generator)
    with NoWaiting(), pytest.raises(AssertionError, match="_local_scalar_dense"):  # the net catches fish
        crops.sum().item()


@pytest.mark.parametrize("group", [1, 3, 100])
def test_results_do_not_depend_on_how_many_images_a_cpu_takes_at_a_time(monkeypatch, group):
    def augmented():
        return crop_and_jitter(batch(n=7), 8, (0.4, 0.4, 0.4), flip=True, generator=seeded(6))

    expected = augmented()
    monkeypatch.setattr(augmentation, "IN_CACHE", group)
    assert torch.equal(augmented(), expected)


@pytest.mark.parametrize("b", [(0.4, 0.4, 0.4), (0, 0.3, 0), (0, 0, 0)])
@pytest.mark.parametrize("flip", [False, True])
def test_crop_and_jitter_are_the_two_one_after_the_other(b, flip):
    one, two = seeded(7), seeded(7)
    together = crop_and_jitter(batch(n=5), 8, b, flip=flip, generator=one)
    crops = random_resized_crop(batch(n=5), 8, flip=flip, generator=two)
    torch.testing.assert_close(together, colour_jitter(crops, *b, generator=two), atol=2e-6, rtol=0)
    assert torch.equal(torch.rand(3, generator=one), torch.rand(3, generator=two))
    for images in (together, crops):
        assert images.is_contiguous(memory_format=torch.channels_last)


def test_a_batch_without_images_stays_one():
    crops = random_resized_crop(batch(n=0), 8, flip=True, generator=seeded())
    assert colour_jitter(crops, 0.4, 0.4, 0.4, generator=seeded()).shape == (0, 3, 8, 8)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_cuda_graph_records_it():
    images = batch().cuda()
    generator = torch.Generator("cuda").manual_seed(0)

    def augment():
        return crop_and_jitter(images, 8, (0.4, 0.4, 0.4), flip=True, generator=generator)

    augment()
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    with torch.cuda.graph(graph):
        out = augment()
    graph.replay()
    first = out.clone()
    graph.replay()
    assert not torch.equal(out, first) and out.min() >= 0 and out.max() <= 1


def test_augmentation_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    colour_jitter(random_resized_crop(batch(), 8, generator=seeded()), 0.4, 0.4, 0.4, generator=seeded())
    assert torch.equal(torch.get_rng_state(), state)
