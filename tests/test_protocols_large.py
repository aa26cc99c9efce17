"""Large images: their protocols, and runs whose images are read from disk."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ltlab import models, recipes
from ltlab.cam import ForegroundTransform
from ltlab.data import Split, load
from ltlab.recipes import CIFAR, IMAGENET, INAT, PLACES, SHAPES, OneCycle, Recipe, Stage, protocol_for
from ltlab.train import checkpoint as checkpoints
from ltlab.train import fit, predict
from ltlab.train.augmentation import centre_crop, colour_jitter, random_resized_crop
from ltlab.train.step import augment, augmented

SIZE, CROP = 24, 20
COUNTS = (9, 5, 3)
PROTOCOL = replace(
    IMAGENET, name="tiny", model="small_net", epochs=2, batch_size=4, crop=CROP, schedules={"base": OneCycle(lr=0.05)}
)
MOVED = Recipe(Stage(epochs=1), Stage(epochs=2, foreground=ForegroundTransform(below=6, batch_size=2)),
               name="moved", protocol=PROTOCOL)  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("tree")
    for part, counts in (("train", COUNTS), ("test", (3, 3, 3))):
        for c, count in enumerate(counts):
            (root / part / str(c)).mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng([c, i, len(part)]).integers(60 * c, 60 * c + 130, (30, 36, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(root / part / str(c) / f"{i}.jpg")
    return root


@pytest.fixture
def streamed(root):
    return load(root, stream=True, imbalance=None, size=SIZE, workers=0)


@pytest.fixture
def in_memory(streamed):
    """The same pixels, read at once."""
    splits = {part: Split(split.images[:], split.labels) for part, split in
              (("train", streamed.train), ("test", streamed.test))}  # fmt: skip
    return replace(streamed, **splits)


# --- protocols -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "model"), [("imagenet-lt", "resnet10"), ("inat18", "resnet50")])
def test_the_settings_of_the_large_benchmarks(name, model):
    protocol = protocol_for(name)
    assert (protocol.model, protocol.batch_size, protocol.weight_decay, protocol.crop) == (model, 512, 1e-4, 224)
    assert protocol.colour_jitter == (0.4, 0.4, 0.4) and protocol.flip and protocol.crop_padding == 0
    (plain,) = recipes.get("ce").resolve(protocol).stages
    rates = [plain.schedule(t, plain.epochs) for t in (0, 59, 60, 79, 80, 99)]
    assert rates == pytest.approx([0.2, 0.2, 0.02, 0.02, 0.002, 0.002])


def test_the_final_recipe_on_large_images():
    for name, below, protocol in (("imagenet_lt", 100, IMAGENET), ("inat18", 50, INAT)):
        first, second, last = recipes.get(f"bag_of_tricks_{name}").resolve(protocol).stages
        assert (first.epochs, second.epochs, last.epochs) == (160, 40, 20)
        assert first.mix and second.mix and not last.mix and second.foreground.below == below
        assert [first.schedule(t, 160) for t in (119, 120)] == pytest.approx([0.2, 0.02])
        assert {second.schedule(t, 40) for t in (0, 39)} == {0.002}
        assert [last.schedule(t, 20) for t in (7, 8, 16)] == pytest.approx([2e-3, 2e-4, 2e-5])


def test_small_images_keep_their_protocols_and_the_text_of_their_identity():
    assert protocol_for("shapes-lt") is SHAPES and protocol_for("cifar10-lt") is protocol_for("mine") is CIFAR
    before = {"protocol.model", "protocol.epochs", "protocol.batch_size", "protocol.weight_decay", "protocol.momentum",
              "protocol.crop_padding", "protocol.flip"}  # fmt: skip
    for protocol, keys in ((SHAPES, before), (PLACES, before | {"protocol.crop", "protocol.colour_jitter"})):
        identity = recipes.get("ce").resolve(protocol).identity()
        assert {key for key in identity if key.startswith("protocol.")} == keys
    assert "ForegroundTransform()" in recipes.get("cam_drs").resolve(SHAPES).identity().values()


def test_augmentation_of_large_images_is_crop_flip_jitter_in_this_order():
    images = torch.randint(256, (5, 3, SIZE, SIZE), dtype=torch.uint8)
    out = augmented(images, PROTOCOL, torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(0)
    oracle = random_resized_crop(images, CROP, generator=generator)
    oracle = colour_jitter(augment(oracle, 0, True, generator), 0.4, 0.4, 0.4, generator=generator)
    assert out.shape == (5, 3, CROP, CROP) and out.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out, oracle, rtol=0, atol=0)


def test_evaluation_takes_the_centre(in_memory, streamed):
    model = models.build("small_net", 3)
    centre = predict(model, centre_crop(in_memory.test.images, CROP))
    torch.testing.assert_close(predict(model, in_memory.test.images, crop=CROP), centre)
    torch.testing.assert_close(predict(model, streamed.test.images, crop=CROP, batch_size=4), centre)


def test_images_smaller_than_the_crop_are_refused_before_the_first_epoch(in_memory):
    recipe = Recipe(Stage(epochs=1), protocol=replace(PROTOCOL, crop=SIZE + 1))
    with pytest.raises(ValueError, match=r"crops 25 x 25 pixels, the images have \(24, 24\): load them with size=25"):
        fit(recipe, in_memory)


# --- runs ------------------------------------------------------------------------------------------------------------


def test_training_from_disk_is_training_from_memory(in_memory, streamed):
    """One seed, equal weights: only where the pixels come from differs."""

    def run(data):
        torch.manual_seed(0)
        model = models.build("small_net", 3)
        return fit(MOVED, data, model, device="cpu", progress=False)

    one, other = run(in_memory), run(streamed)
    torch.testing.assert_close(one.logits, other.logits, rtol=1e-3, atol=1e-4)
    assert one.metrics == pytest.approx(other.metrics, nan_ok=True)


def test_masks_on_disk_survive_resuming(streamed, tmp_path, monkeypatch):
    whole = fit(MOVED, streamed, device="cpu", progress=False)
    save = checkpoints.save

    def saves_and_stops(path, state):
        save(path, state)
        if len(state["history"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "save", saves_and_stops)
    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        fit(MOVED, streamed, device="cpu", checkpoint=path, progress=False)
    monkeypatch.undo()
    assert path.stat().st_size < 2**20 and (tmp_path / "run-masks-2" / "00000.sha256").exists()
    resumed = fit(MOVED, streamed, device="cpu", checkpoint=path, resume=True, progress=False)
    assert torch.equal(whole.logits, resumed.logits)


def test_a_recorded_step_cannot_read_masks_from_disk(streamed):
    with pytest.raises(ValueError, match="capture=True records what one device does"):
        fit(MOVED, streamed, capture=True)
