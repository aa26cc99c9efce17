"""How fast a GPU trains: the conventional pipeline, ltlab's step as it is written, and the same as a CUDA graph.

    python benchmarks/gpu_step.py                        # ResNet-32, batch 128
    python benchmarks/gpu_step.py --seeds 3              # and the errors of whole runs, as written and captured
    python benchmarks/gpu_step.py --large --rows data/results/steps.csv    # ResNet-10 and ResNet-50, 224 pixels
    python benchmarks/gpu_step.py --device cpu --quick   # a tiny version, to see that it works; also with --large

Images of random pixels with the class counts of CIFAR-10-LT-100 (with --seeds: the set itself), so that nothing has to
be there. Every way trains whole epochs with the network, batch size, augmentation and optimiser of the paper's
settings, in one run, by turns; figures are medians over the turns.

    conventional   PIL images, torchvision transforms, a DataLoader with a worker per core, float32
    as written     images on the device, one kernel after another, float32 or bfloat16
    captured       the same step recorded once and replayed
    bag of tricks  the captured step with class-balanced sampling, moved foregrounds and mixup in it

Per way: images/s, seconds of a 200-epoch run, and the share of the device's bfloat16 peak: operations of the network's
forward and backward pass (counted by torch) over those that a large matrix product reaches in the same run.

--large measures training on ImageNet-LT and iNaturalist 2018 as their settings have it: uint8 images of 256 pixels on
the device, cropped to 224, flipped, and on ImageNet-LT jittered there, in float32 and bfloat16, as written and
captured. Beside it stand the bare step, which is the network's forward and backward pass and the update on a batch that
lies ready, what others' benchmarks time; and the second stage of the bag of tricks, with every image's foreground moved
and mixup. Reading images is not in it, see benchmarks/large_data.py. The rows are what `python docs/scaling.py`
computes the length of whole runs from.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
from step import conventional
from torch.utils.flop_counter import FlopCounterMode

from ltlab import models, results
from ltlab.data import LongTailedData, Split, load, long_tail_counts
from ltlab.recipes import CIFAR, IMAGENET, INAT, Settings, Stage, get
from ltlab.train import CapturedStep, TrainingStep, find_device, fit, train_epoch
from ltlab.train.step import Slots, sgd

EPOCHS = 200
LARGE = {  # settings, recipe of the bag of tricks, classes, images of a batch on one GPU
    "resnet10": (IMAGENET, "bag_of_tricks_imagenet_lt", 1000, 512),
    "resnet50": (INAT, "bag_of_tricks_inat18", 8142, 256),
}
SIDE = 256  # of the images that are cropped


def random_images(max_count: int, imbalance: float) -> LongTailedData:
    """Random pixels with the class counts of a long-tailed CIFAR-10, or fewer."""
    generator = torch.Generator().manual_seed(0)

    def split(labels: torch.Tensor) -> Split:
        return Split(torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator), labels)

    counts = torch.tensor(long_tail_counts(10, max_count, imbalance))
    train, test = split(torch.arange(10).repeat_interleave(counts)), split(torch.arange(10))
    return LongTailedData("random", train, test, tuple(f"class {c}" for c in range(10)))


def ours(
    split: Split, classes: int, settings: Settings, stage: Stage, bfloat16: bool, captured: bool
) -> Callable[[], float]:
    """A function that trains one epoch of a stage, on the device of the images."""
    device = split.labels.device
    model = models.build(settings.model, classes).to(device, memory_format=torch.channels_last)
    slots = Slots(stage, 0, split, torch.bincount(split.labels, minlength=classes), seed=0)
    if slots.foreground:
        slots.masks = slots.foreground.prepare(model, split.images, split.labels)
    generator = torch.Generator(device).manual_seed(0)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
    step = TrainingStep(model, slots, settings, sgd(model, settings, capture=captured), generator, autocast)
    take = CapturedStep(step, generator) if captured else None
    return lambda: train_epoch(step, split, lambda share: 0.05, take)


def bare(split: Split, classes: int, settings: Settings, bfloat16: bool) -> Callable[[], float]:
    """A function that takes as many steps as an epoch has, all of them on one batch that lies ready."""
    device, size = split.labels.device, settings.batch_size
    model = models.build(settings.model, classes).to(device, memory_format=torch.channels_last)
    optimizer = sgd(model, settings)
    images = torch.rand(size, 3, settings.crop, settings.crop, device=device).to(memory_format=torch.channels_last)

    def epoch() -> float:
        for _ in range(len(split) // size):
            with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
                loss = F.cross_entropy(model(images), split.labels[:size])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return loss.item()

    return epoch


def seconds_per_epoch(ways: dict[str, Callable[[], float]], turns: int, device: torch.device) -> dict[str, float]:
    """Medians over the turns, after two epochs of each, in which recordings are made."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 2):
        for name, epoch in ways.items():
            started = time.perf_counter()
            epoch()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn >= 2:
                taken[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in taken.items()}


def operations_per_image() -> float:
    """Floating-point operations of ResNet-32's forward and backward pass for one image."""
    model, images = models.build(CIFAR.model, 10), torch.zeros(2, 3, 32, 32)
    with FlopCounterMode(display=False) as counter:
        model(images).sum().backward()
    return counter.get_total_flops() / len(images)


def peak(device: torch.device) -> float:
    """Operations per second of a large bfloat16 matrix product."""
    n = 8192 if device.type == "cuda" else 512
    a, b = torch.randn(2, n, n, device=device, dtype=torch.bfloat16)
    seconds = []
    for _ in range(10):
        started = time.perf_counter()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return 2 * n**3 / statistics.median(seconds[3:])


def speeds(device: torch.device, quick: bool) -> pd.DataFrame:
    """Images per second, seconds of a run, times the conventional pipeline and share of the peak, one row per way."""
    data = random_images(6, 3) if quick else random_images(5000, 100)
    split, plain, second = data.train.to(device), Stage(epochs=1), get("bag_of_tricks").resolve(CIFAR).stages[1]
    ways = {
        "conventional, float32": conventional(data, CIFAR, device, workers=2 if quick else os.cpu_count()),
        "as written, float32": ours(split, 10, CIFAR, plain, bfloat16=False, captured=False),
        "as written, bfloat16": ours(split, 10, CIFAR, plain, bfloat16=True, captured=False),
        "captured, float32": ours(split, 10, CIFAR, plain, bfloat16=False, captured=True),
        "captured, bfloat16": ours(split, 10, CIFAR, plain, bfloat16=True, captured=True),
        "bag of tricks, captured, bfloat16": ours(split, 10, CIFAR, second, bfloat16=True, captured=True),
    }
    seconds = pd.Series(seconds_per_epoch(ways, 1 if quick else 10, device))
    rate = len(data.train) / seconds
    return pd.DataFrame({
        "images/s": rate.round().astype(int),
        f"seconds for {EPOCHS} epochs": (EPOCHS * seconds).round(1),
        "times conventional": (rate / rate.iloc[0]).round(2),
        "share of peak (%)": (100 * rate * operations_per_image() / peak(device)).round(2),
    })  # fmt: skip


def large_speeds(
    device: torch.device, networks: list[str], batch: int | None, quick: bool
) -> Iterator[dict[str, object]]:
    """A row per network, precision and way of taking the step; on a CPU there is nothing to capture."""
    on_cpu = device.type == "cpu"
    batches, turns = (1, 1 if quick else 5) if on_cpu else (8, 5)
    for network in networks:
        settings, recipe, classes, size = LARGE[network]
        settings = replace(settings, batch_size=batch or (2 if quick else size))
        images = settings.batch_size * batches
        pixels = torch.randint(256, (images, 3, SIDE, SIDE), dtype=torch.uint8, device=device)
        split = Split(pixels, torch.arange(images, device=device) % classes)
        plain, second = Stage(epochs=1), get(recipe).resolve(settings).stages[1]
        for bfloat16 in (False, True):
            ways = {
                "bare": bare(split, classes, settings, bfloat16),
                "as written": ours(split, classes, settings, plain, bfloat16, captured=False),
                "bag of tricks": ours(split, classes, settings, second, bfloat16, captured=False),
            }
            if not on_cpu:
                ways["captured"] = ours(split, classes, settings, plain, bfloat16, captured=True)
            seconds = seconds_per_epoch(ways, turns, device)
            del ways  # and their memory, before the next are made
            for step in seconds:
                yield {
                    "network": network, "classes": classes, "pixels": settings.crop, "batch_size": settings.batch_size,
                    "precision": "bfloat16" if bfloat16 else "float32", "step": step,
                    "images_per_second": round(images / seconds[step], 2),
                    "times_bare": round(seconds["bare"] / seconds[step], 3),
                    "kind": device.type, **results.provenance(device),
                }  # fmt: skip


def errors(device: torch.device, seeds: int) -> pd.DataFrame:
    """Whole runs of plain training on CIFAR-10-LT-100, float32 as written against bfloat16 captured, a row per run."""
    data, rows = load("cifar10-lt", imbalance=100), []
    for seed in range(seeds):
        for precision, capture in (("float32", False), ("bfloat16", True)):
            run = fit("ce", data, seed=seed, device=device, precision=precision, capture=capture,
                      progress=False, evaluate_every=EPOCHS)  # fmt: skip
            way = f"{'captured' if capture else 'as written'}, {precision}"
            rows.append(
                {"way": way, "seed": seed, "error (%)": 100 * run.metrics["top1_error"], "seconds": run.seconds}
            )
            print(f"{way}, seed {seed}: {rows[-1]['error (%)']:.2f} % in {run.seconds:.0f} s", flush=True)
    return pd.DataFrame(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--quick", action="store_true", help="few images, one turn")
    parser.add_argument("--seeds", type=int, default=0, help="whole runs of each of two ways")
    parser.add_argument("--large", action="store_true", help="large images instead")
    parser.add_argument("--networks", nargs="+", choices=LARGE, default=list(LARGE), help="of --large")
    parser.add_argument("--batch", type=int, help="images of a batch of --large, where a device is small")
    parser.add_argument("--rows", type=Path, help="append the rows of --large to this CSV")
    arguments = parser.parse_args()
    device = find_device(arguments.device)
    if arguments.large:
        for row in large_speeds(device, arguments.networks, arguments.batch, arguments.quick):
            way = f"{row['network']}, batch {row['batch_size']}, {row['precision']}"
            rate = f"{row['images_per_second']:,.1f} images/s, {row['times_bare']:.2f} times the bare step's"
            print(f"{way}, {row['step']}: {rate}", flush=True)
            if arguments.rows:
                results.append_row(arguments.rows, row)
        return
    print(speeds(device, arguments.quick).to_string())
    if arguments.seeds:
        table = errors(device, arguments.seeds).groupby("way")[["error (%)", "seconds"]].agg(["mean", "std"])
        print(f"\n{table.round(2).to_string()}")
    where = results.provenance(device)
    print(f"\n{where['device']}, {where['threads']} threads, torch {where['torch']}, {where['date']}")


if __name__ == "__main__":
    main()
