"""How fast a GPU trains: the conventional pipeline, ltlab's step as it is written, and the same as a CUDA graph.

    python benchmarks/gpu_step.py                        # ResNet-32, batch 128
    python benchmarks/gpu_step.py --seeds 3              # and the errors of whole runs, as written and captured
    python benchmarks/gpu_step.py --device cpu --quick   # a tiny version, to see that it works

Images of random pixels with the class counts of CIFAR-10-LT-100 (with --seeds: the set itself), so that nothing has to
be there. Every way trains whole epochs with the network, batch size, augmentation and optimiser of the paper's
settings, in one run, by turns; figures are medians over the turns.

    conventional   PIL images, torchvision transforms, a DataLoader with a worker per core, float32
    as written     images on the device, one kernel after another, float32 or bfloat16
    captured       the same step recorded once and replayed
    bag of tricks  the captured step with class-balanced sampling, moved foregrounds and mixup in it

Per way: images/s, seconds of a 200-epoch run, and the share of the device's bfloat16 peak: operations of the network's
forward and backward pass (counted by torch) over those that a large matrix product reaches in the same run.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

import pandas as pd
import torch
from step import conventional
from torch.utils.flop_counter import FlopCounterMode

from ltlab import models, results
from ltlab.data import LongTailedData, Split, load, long_tail_counts
from ltlab.recipes import CIFAR, Stage, get
from ltlab.train import CapturedStep, TrainingStep, find_device, fit, train_epoch
from ltlab.train.step import Slots

EPOCHS = 200


def random_images(max_count: int, imbalance: float) -> LongTailedData:
    """Random pixels with the class counts of a long-tailed CIFAR-10, or fewer."""
    generator = torch.Generator().manual_seed(0)

    def split(labels: torch.Tensor) -> Split:
        return Split(torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator), labels)

    counts = torch.tensor(long_tail_counts(10, max_count, imbalance))
    train, test = split(torch.arange(10).repeat_interleave(counts)), split(torch.arange(10))
    return LongTailedData("random", train, test, tuple(f"class {c}" for c in range(10)))


def ours(
    data: LongTailedData, device: torch.device, stage: Stage, bfloat16: bool, captured: bool
) -> Callable[[], float]:
    """A function that trains one epoch of a stage."""
    data = data.to(device)
    model = models.build(CIFAR.model, len(data.class_names), data.train.images)
    model = model.to(device, memory_format=torch.channels_last)
    slots = Slots(stage, 0, data.train, data.class_counts, seed=0)
    if slots.foreground:
        slots.masks = slots.foreground.prepare(model, data.train.images, data.train.labels)
    rate = {"lr": torch.zeros((), device=device), "fused": True} if captured else {"lr": 0.0}
    optimizer = torch.optim.SGD(model.parameters(), momentum=0.9, nesterov=True, weight_decay=2e-4, **rate)
    generator = torch.Generator(device).manual_seed(0)
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=bfloat16)
    step = TrainingStep(model, slots, CIFAR, optimizer, generator, autocast)
    take = CapturedStep(step, generator) if captured else None
    return lambda: train_epoch(step, data.train, lambda share: 0.05, take)


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
    data = random_images(20, 10) if quick else random_images(5000, 100)
    plain, second = Stage(epochs=1), get("bag_of_tricks").resolve(CIFAR).stages[1]
    ways = {
        "conventional, float32": conventional(data, CIFAR, device, workers=2 if quick else os.cpu_count()),
        "as written, float32": ours(data, device, plain, bfloat16=False, captured=False),
        "as written, bfloat16": ours(data, device, plain, bfloat16=True, captured=False),
        "captured, float32": ours(data, device, plain, bfloat16=False, captured=True),
        "captured, bfloat16": ours(data, device, plain, bfloat16=True, captured=True),
        "bag of tricks, captured, bfloat16": ours(data, device, second, bfloat16=True, captured=True),
    }
    seconds = pd.Series(seconds_per_epoch(ways, 1 if quick else 10, device))
    rate = len(data.train) / seconds
    return pd.DataFrame({
        "images/s": rate.round().astype(int),
        f"seconds for {EPOCHS} epochs": (EPOCHS * seconds).round(1),
        "times conventional": (rate / rate.iloc[0]).round(2),
        "share of peak (%)": (100 * rate * operations_per_image() / peak(device)).round(2),
    })  # fmt: skip


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
    arguments = parser.parse_args()
    device = find_device(arguments.device)
    print(speeds(device, arguments.quick).to_string())
    if arguments.seeds:
        table = errors(device, arguments.seeds).groupby("way")[["error (%)", "seconds"]].agg(["mean", "std"])
        print(f"\n{table.round(2).to_string()}")
    where = results.provenance(device)
    print(f"\n{where['device']}, {where['threads']} threads, torch {where['torch']}, {where['date']}")


if __name__ == "__main__":
    main()
