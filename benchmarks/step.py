"""Images per second of one training epoch: ltlab's step against the conventional pipeline, in one run.

    python benchmarks/step.py                 # both networks, about two minutes on two CPU cores
    python benchmarks/step.py --seconds 20    # longer, steadier

Conventional: a Dataset of PIL images, torchvision transforms (random crop with padding, horizontal flip, to tensor,
normalise), a DataLoader with two workers, float32. ltlab: the same network, batch size, augmentation and optimiser by
`ltlab.train.train_epoch` on uint8 tensors in memory, float32. The two take turns; figures are medians over the turns.
The table in the README is what this prints.
"""

import argparse
import statistics
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from ltlab import models
from ltlab.data import LongTailedData, Split, load
from ltlab.recipes import CIFAR, SHAPES, Settings, Stage
from ltlab.results import provenance
from ltlab.train import TrainingStep, train_epoch
from ltlab.train.step import Slots, set_learning_rate, sgd

RATE = 0.05


class Pictures(Dataset):
    """What most code bases have: one PIL image at a time, transformed in a worker process."""

    def __init__(self, split: Split, settings: Settings, mean: torch.Tensor, std: torch.Tensor) -> None:
        self.pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in split.images]
        self.labels = split.labels.tolist()
        self.transform = transforms.Compose([
            transforms.RandomCrop(split.images.shape[-1], padding=settings.crop_padding),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize(mean.tolist(), std.tolist()),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.transform(self.pictures[index]), self.labels[index]


def conventional(data: LongTailedData, settings: Settings, device: torch.device | str = "cpu", workers: int = 2):
    """A function that trains one epoch in the conventional way."""
    mean, std = models.channel_statistics(data.train.images)
    model = models.build(settings.model, len(data.class_names)).to(device)  # its own normalisation is off
    model.normalise = torch.nn.Identity()
    optimizer = sgd(model, settings)
    set_learning_rate(optimizer, RATE)
    pictures = Pictures(data.train, settings, mean, std)
    loader = DataLoader(
        pictures, settings.batch_size, shuffle=True, num_workers=workers, persistent_workers=True,
        pin_memory=torch.device(device).type == "cuda",
    )  # fmt: skip

    def epoch() -> None:
        model.train()
        for images, labels in loader:
            images, labels = images.to(device, non_blocking=True), labels.to(device, non_blocking=True)
            loss = F.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return epoch


def ours(data: LongTailedData, settings: Settings):
    """A function that trains one epoch by ltlab's step."""
    model = models.build(settings.model, len(data.class_names), data.train.images)
    model = model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(0)
    slots = Slots(Stage(epochs=1), 0, data.train, data.class_counts, seed=0)
    autocast = torch.autocast("cpu", enabled=False)
    step = TrainingStep(model, slots, settings, sgd(model, settings), generator, autocast)
    return lambda: train_epoch(step, data.train, lambda share: RATE)


def images_per_second(data: LongTailedData, settings: Settings, seconds: float) -> dict[str, float]:
    """Medians over turns; both ways are warmed up by one epoch first."""
    ways = {"conventional": conventional(data, settings), "ltlab": ours(data, settings)}
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for epoch in ways.values():
        epoch()
    stop = time.perf_counter() + seconds
    while time.perf_counter() < stop or len(rates["ltlab"]) < 3:
        for name, epoch in ways.items():
            started = time.perf_counter()
            epoch()
            rates[name].append(len(data.train) / (time.perf_counter() - started))
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30, help="per network, after the warm-up")
    seconds = parser.parse_args().seconds
    cases = {
        "small net, batch 32, 32 x 32": (load("shapes-lt", imbalance=1), SHAPES),
        "ResNet-32, batch 128, 32 x 32": (
            load("shapes-lt", imbalance=1, max_count=128),
            replace(CIFAR, crop_padding=4),
        ),
    }
    print("| network | conventional, images/s | ltlab, images/s | ratio |\n|---|---|---|---|")
    for name, (data, settings) in cases.items():
        rate = images_per_second(data, settings, seconds)
        ratio = rate["ltlab"] / rate["conventional"]
        print(f"| {name} | {rate['conventional']:,.0f} | {rate['ltlab']:,.0f} | {ratio:.2f} |", flush=True)
    where = provenance(torch.device("cpu"))
    print(f"\n{where['device']}, {where['threads']} threads, torch {where['torch']}, {where['date']}")


if __name__ == "__main__":
    main()
