"""Large images: their settings, and runs whose images are read from disk."""

import errno
import importlib
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import nn

from ltlab import models, recipes
from ltlab.cam import ForegroundTransform, ShuffledForegroundTransform
from ltlab.data import Split, load
from ltlab.recipes import (
    CIFAR,
    IMAGENET,
    IMAGENET_90,
    INAT,
    INAT_90,
    SETTINGS,
    SHAPES,
    SMALL,
    OneCycle,
    Recipe,
    Stage,
    settings_for,
)
from ltlab.train import checkpoint as checkpoints
from ltlab.train import fit, predict
from ltlab.train.augmentation import centre_crop, colour_jitter, random_resized_crop
from ltlab.train.processes import ALONE, OneProcess
from ltlab.train.step import augment, augmented
from ltlab.train.stored_masks import Masks, write

DOCS = Path(__file__).parents[1] / "docs"
SIZE, CROP = 24, 20
COUNTS = (9, 5, 3)
TINY = replace(
    IMAGENET, name="tiny", model="small_net", epochs=2, batch_size=4, crop=CROP, schedules={"base": OneCycle(lr=0.05)}
)
MOVED = Recipe(Stage(epochs=1), Stage(epochs=2, foreground=ForegroundTransform(below=6, batch_size=2)),
               name="moved", settings=TINY)  # fmt: skip


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


# --- settings -------------------------------------------------------------------------------------------------------


STEPS_100 = ({0: 0.2, 59: 0.2, 60: 0.02, 79: 0.02, 80: 2e-3, 99: 2e-3}, 100)
STEPS_90 = ({0: 0.2, 29.99: 0.2, 30: 0.02, 59.99: 0.02, 60: 2e-3, 79.99: 2e-3, 80: 2e-4, 89: 2e-4}, 90)


@pytest.mark.parametrize(
    ("settings", "model", "jitter", "rates", "epochs"),
    [
        (settings_for("imagenet-lt"), "resnet10", (0.4, 0.4, 0.4), *STEPS_100),
        (settings_for("inat18"), "resnet50", None, *STEPS_100),
        (IMAGENET_90, "resnet10", IMAGENET_90.colour_jitter, *STEPS_90),
        (INAT_90, "resnet50", INAT_90.colour_jitter, *STEPS_90),
    ],
)
def test_the_settings_of_the_large_benchmarks(settings, model, jitter, rates, epochs):
    assert (settings.model, settings.batch_size, settings.weight_decay, settings.crop) == (model, 512, 1e-4, 224)
    assert (settings.colour_jitter, settings.crop_padding, settings.flip, settings.epochs) == (jitter, 0, True, epochs)
    (plain,) = recipes.get("ce").resolve(settings).stages
    assert [plain.schedule(t, epochs) for t in rates] == pytest.approx(list(rates.values()))


@pytest.mark.parametrize("settings", [IMAGENET, IMAGENET_90])
def test_on_large_images_too_two_stages_follow_the_base_schedule(settings):
    (plain,) = recipes.get("ce").resolve(settings).stages
    first, second = recipes.get("cam_drs").resolve(settings).stages
    assert first.epochs + second.epochs == settings.epochs
    for epoch in range(settings.epochs):
        late = epoch >= first.epochs
        rate = second.schedule(epoch - first.epochs, second.epochs) if late else first.schedule(epoch, first.epochs)
        assert rate == pytest.approx(plain.schedule(epoch, settings.epochs))


def test_custom_images_are_told_by_their_side(root):
    assert [settings_for("mine", side) for side in (32, 223, 224, 256)] == [CIFAR, CIFAR, IMAGENET, IMAGENET]
    assert [settings_for("mine", 32, images) for images in (5_000, 5_001)] == [SMALL, CIFAR]
    assert settings_for("mine", 224, 32) is IMAGENET and settings_for("cifar10-lt", 32, 32) is CIFAR
    assert settings_for("shapes-lt", 256) is SHAPES and settings_for("inat18", 32) is INAT
    large = load(root, stream=True, imbalance=None, size=224, workers=0)
    model = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    assert fit(Recipe(Stage(epochs=1)), large, model, progress=False).recipe.settings is IMAGENET


def test_another_learning_rate_keeps_the_proportions():
    changed = CIFAR.with_learning_rate(0.3)
    assert changed.schedules["base"] == replace(CIFAR.schedules["base"], lr=0.3)
    assert changed.schedules["second"].lr == pytest.approx(0.003) and changed.schedules["retrain"].lr == 0.3
    assert CIFAR.with_learning_rate(0.1) == CIFAR
    for lr in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"lr={lr}: it must be above 0"):
            CIFAR.with_learning_rate(lr)
    for size in (0, 1.5, True):
        with pytest.raises(ValueError, match=f"batch_size={size} must be"):
            replace(CIFAR, batch_size=size)


def test_the_final_recipe_on_large_images():
    for name, below, settings in (("imagenet_lt", 100, IMAGENET), ("inat18", 50, INAT)):
        first, second, last = recipes.get(f"bag_of_tricks_{name}").resolve(settings).stages
        assert (first.epochs, second.epochs, last.epochs) == (160, 40, 20)
        assert first.mix and second.mix and not last.mix and second.foreground.below == below
        assert [first.schedule(t, 160) for t in (119, 120)] == pytest.approx([0.2, 0.02])
        assert {second.schedule(t, 40) for t in (0, 39)} == {0.002}
        assert [last.schedule(t, 20) for t in (7, 8, 16)] == pytest.approx([2e-3, 2e-4, 2e-5])


def test_small_images_keep_their_settings_and_the_text_of_their_identity():
    assert settings_for("shapes-lt") is SHAPES and settings_for("cifar10-lt") is settings_for("mine") is CIFAR
    before = {"protocol.model", "protocol.epochs", "protocol.batch_size", "protocol.weight_decay", "protocol.momentum",
              "protocol.crop_padding", "protocol.flip"}  # fmt: skip
    for settings, keys in ((SHAPES, before), (IMAGENET, before | {"protocol.crop", "protocol.colour_jitter"})):
        identity = recipes.get("ce").resolve(settings).identity()
        assert {key for key in identity if key.startswith("protocol.")} == keys
    assert "ForegroundTransform()" in recipes.get("cam_drs").resolve(SHAPES).identity().values()


def test_augmentation_of_large_images_is_crop_flip_jitter_in_this_order():
    images = torch.randint(256, (5, 3, SIZE, SIZE), dtype=torch.uint8)
    out = augmented(images, TINY, torch.Generator().manual_seed(0))
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
    recipe = Recipe(Stage(epochs=1), settings=replace(TINY, crop=SIZE + 1))
    with pytest.raises(ValueError, match=r"crops 25 x 25 pixels.*\(24, 24\)"):
        fit(recipe, in_memory)


# --- docs/scaling.md -------------------------------------------------------------------------------------------------


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(DOCS)
    return importlib.import_module("scaling")


def test_the_times_on_the_page_are_those_of_the_rows(scaling):
    _, _, rest = scaling.PAGE.read_text(encoding="utf-8").partition(scaling.BEGIN)
    section, end, _ = rest.partition(scaling.END)
    assert end and section.strip() == scaling.section(scaling.measured_steps()), "run: python docs/scaling.py"


def test_times_are_images_over_rates(scaling):
    """Published rates first; a GPU with both networks gets columns, by ltlab's fastest step; all others none."""
    rows = pd.DataFrame(
        [("X", "resnet10", "cuda", "as written", 500.0), ("X", "resnet10", "cuda", "captured", 1000.0),
         ("X", "resnet10", "cuda", "bare", 1500.0), ("X", "resnet50", "cuda", "as written", 2000.0),
         ("half", "resnet10", "cuda", "as written", 9e9), ("CPU", "resnet10", "cpu", "as written", 9e9),
         ("CPU", "resnet50", "cpu", "as written", 9e9)],
        columns=["device", "network", "kind", "step", "images_per_second"],
    )  # fmt: skip
    rates = scaling.rates(rows)
    assert list(rates) == ["1 A100", "8 A100", "1 RTX 3090", "1 X, ltlab's own step", "8 X"]
    assert rates["1 X, ltlab's own step"] == {"resnet10": 1000, "resnet50": 2000}
    assert rates["8 X"]["resnet50"] == pytest.approx(2000 * 16621 / 2470)
    lines = scaling.of_runs(rows).splitlines()
    _, images, *times = [cell.strip() for cell in lines[2].strip("|").split("|")]
    assert images == "10.4 M" and times[3:] == ["2.9 h", "26 min"]  # 115,846 images, 90 times, 1,000 a second: 2.9 h
    assert lines[4].split("|")[3].strip() == "4.4 h"  # 437,513 images, 90 times, 2,470 a second


def test_the_page_names_the_settings_as_they_are(scaling):
    page = scaling.PAGE.read_text(encoding="utf-8")
    for name, settings in SETTINGS.items():
        if settings.crop:
            network, base = settings.model.replace("resnet", "ResNet-"), settings.schedules["base"]
            *early, last = [f"{round(share * settings.epochs)}" for share in base.milestones]
            rate = f"{base.lr}, x {base.factor} at {', '.join(early)} and {last}"
            assert f"| `{name}` | {network} | {settings.epochs} | {settings.batch_size} | {rate} |" in page


@pytest.mark.slow
def test_the_benchmark_of_large_images_runs_without_a_gpu(scaling, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(DOCS.parent / "benchmarks")
    rows, options = tmp_path / "steps.csv", ["--large", "--device", "cpu", "--quick", "--networks", "resnet10"]
    monkeypatch.setattr(sys, "argv", ["gpu_step.py", *options, "--rows", str(rows)])
    importlib.import_module("gpu_step").main()
    measured = pd.read_csv(rows)
    steps = ["bare", "as written", "bag of tricks"]
    assert measured["step"].tolist() == 2 * steps and (measured["images_per_second"] > 0).all()
    bare = measured["images_per_second"][measured["step"] == "bare"].repeat(3).to_numpy()
    assert measured["times_bare"].to_numpy() == pytest.approx(measured["images_per_second"] / bare, abs=0.02)
    page = scaling.section(measured)
    for words in ("has been measured on a CPU", "not on a GPU yet", "| ResNet-10, batch 2 | bfloat16 | bare |"):
        assert words in page
    nothing = scaling.section(measured[:0])
    assert "has not been measured on a GPU yet" in nothing and "No step has been measured" in nothing


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
    assert path.stat().st_size < 2**20 and np.load(tmp_path / "run-masks-2.npy").shape == (8 + 1, SIZE * SIZE // 8)
    resumed = fit(MOVED, streamed, device="cpu", checkpoint=path, resume=True, progress=False)
    assert torch.equal(whole.logits, resumed.logits)


SLOTS = {
    "all": ForegroundTransform(batch_size=4), "rare": ForegroundTransform(below=6, batch_size=3),
    "shuffled": ShuffledForegroundTransform(below=6, batch_size=3),
}  # fmt: skip


def network():
    torch.manual_seed(0)
    return models.small_net(3)


@pytest.mark.parametrize("name", SLOTS)
def test_masks_on_disk_are_those_in_memory(streamed, tmp_path, name):
    images, labels, masks = streamed.train.images, streamed.train.labels, Masks(streamed, tmp_path / "run.pt", ALONE)
    rows, stored = SLOTS[name].prepare(network(), images, labels), masks.prepare(SLOTS[name], network(), 1)
    reopened = masks.reopen(SLOTS[name], stored.digest, 1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0)).repeat(2)
    assert torch.equal(stored[order], rows[order]) and torch.equal(reopened[order], rows[order])
    assert [file.name for file in tmp_path.iterdir()] == ["run-masks-2.npy"]
    without_checkpoint = Masks(streamed, None, ALONE).prepare(SLOTS[name], network(), 1)
    assert without_checkpoint.digest == stored.digest


def test_an_interrupted_pass_over_the_masks_starts_again(streamed, tmp_path, monkeypatch):
    whole = Masks(streamed, tmp_path / "whole.pt", ALONE).prepare(SLOTS["all"], network(), 1)
    """And replaces what an earlier run has left in its place."""
    masks, packed_masks = Masks(streamed, tmp_path / "run.pt", ALONE), ForegroundTransform.packed_masks
    masks.file(1).write_bytes(b"of another run")

    def interrupted(*arguments):
        yield next(packed_masks(*arguments))
        raise KeyboardInterrupt

    monkeypatch.setattr(ForegroundTransform, "packed_masks", interrupted)
    with pytest.raises(KeyboardInterrupt):
        masks.prepare(SLOTS["all"], network(), 1)
    assert masks.file(1).read_bytes() == b"of another run"
    monkeypatch.undo()
    assert masks.prepare(SLOTS["all"], network(), 1).digest == whole.digest


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda file: file.unlink(), FileNotFoundError),
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), ValueError),
        (lambda file: file.write_bytes(b""), ValueError),
        (lambda file: np.save(file, np.load(file) ^ 1), ValueError),
    ],
    ids=["missing", "cut off", "empty", "other bits"],
)
def test_masks_that_are_not_the_checkpoints_are_refused_and_left(streamed, tmp_path, damage, error):
    masks = Masks(streamed, tmp_path / "run.pt", ALONE)
    kept, file = masks.prepare(SLOTS["all"], network(), 1).digest, masks.file(1)
    damage(file)
    before = file.read_bytes() if file.exists() else None
    with pytest.raises(error, match=r"run-masks-2\.npy.*restore"):
        masks.reopen(SLOTS["all"], kept, 1)
    assert (file.read_bytes() if file.exists() else None) == before


class InThreads(OneProcess):
    """Processes that are threads of this one."""

    def __init__(self, rank, size, barrier, given):
        self.rank, self.size, self.barrier, self.given = rank, size, barrier, given

    def of_all(self, value):
        self.given[self.rank] = value
        self.barrier.wait(60)
        values = torch.stack(self.given)
        self.barrier.wait(60)
        return values

    def wait(self):
        self.barrier.wait(60)


@pytest.mark.parametrize("name", SLOTS)
def test_processes_share_the_masks_out_and_the_first_writes(streamed, tmp_path, name):
    size = 5
    given = torch.rand(len(streamed.train), SIZE, SIZE, generator=torch.Generator().manual_seed(0)) < 0.5
    slot = replace(SLOTS[name], masks=given)
    whole = Masks(streamed, tmp_path / "whole.pt", ALONE).prepare(slot, None, 1)
    shared, barrier = [None] * size, threading.Barrier(size)

    def prepare(rank):
        processes = InThreads(rank, size, barrier, shared)
        return Masks(streamed, tmp_path / "run.pt", processes).prepare(slot, None, 1)

    with ThreadPoolExecutor(size) as pool:
        prepared = list(pool.map(prepare, range(size)))
    assert {one.digest for one in prepared} == {whole.digest}


def test_a_slot_with_a_prepare_of_its_own_is_asked_for_images_on_disk_too(streamed, tmp_path):
    class Own(ForegroundTransform):
        def prepare(self, model, images, labels):
            return torch.arange(len(images))

    rows = Masks(streamed, tmp_path / "run.pt", ALONE).prepare(Own(), network(), 1)
    assert rows.tolist() == list(range(len(streamed.train)))


def test_masks_that_cannot_be_written_leave_no_file(tmp_path):
    def rows():
        yield torch.zeros(1, 2, dtype=torch.uint8)
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"run-masks-2\.npy \(No space left on device\)"):
        write(tmp_path / "run-masks-2.npy", (2, 2), rows())
    assert not list(tmp_path.iterdir())


def test_a_recorded_step_cannot_read_masks_from_disk(streamed):
    with pytest.raises(ValueError, match="capture records what one device does"):
        fit(MOVED, streamed, capture=True)
