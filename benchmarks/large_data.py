"""
benchmarks/large_data.py
What streaming costs: indexing a list of iNaturalist 2018's size, sampling from it, and images per second, compared with
torchvision's ImageFolder with torch's WeightedRandomSampler and transforms.

    python benchmarks/large_data.py               # a few minutes on two free CPU cores
    python benchmarks/large_data.py --quick       # half of that, scatters more

Measured in four runs on two cores of a server (Intel Xeon), torch 2.15, 2 workers, no GPU: 437,513 lines read and
checked in 0.8 to 1.0 s, all files found in 0.9 to 1.2 s, train2018.json (102 MiB) read and indexed in 1.6 to 1.8 s,
both lists loaded in 2.2 to 2.6 s (ImageFolder 1.2 to 1.7 s for the training images); an epoch's sampling 0.12 to 0.16
s (torch 0.27 to 0.31 s); 30 MiB for paths and labels (ImageFolder 81 MiB). StreamedSplit had 2.05 to 2.38 times as
many images per second (706 to 803, ImageFolder 327 to 391); augmented by the one main process of a machine without a
GPU, 1.12 to 1.22 times. These runs decoded with torchvision. Pillow needs 1.14 instead of 1.07 ms of processor time
per image of 400 x 300 pixels, resizing included, and 2.7 instead of 2.3 ms at 800 x 600. It has not been measured
with a GPU, which does the augmentation.

The tree has the real class counts of iNaturalist 2018: 437,513 paths of the real length in 8,142 class folders. Every
path is a hard link to one of a few thousand synthetic JPEGs of 400 x 300 pixels, which differ between the two lists, so
the tree needs 100 MB and yet all paths are different, as the check of lists demands. The files are in the page cache:
this times decoding and Python, not the disk.

Both pipelines draw class-balanced batches of 64 with the same number of workers, in turn, each round from warm workers.
"StreamedSplit" hands over uint8 images of 256 x 256 pixels on the device, as the training step gets them. "augmented"
adds what the step does to them there by ImageNet-LT's settings: crop to 224 pixels, flip, colour jitter, on a CPU by
the main process alone. ImageFolder's workers do that with PIL and hand over float32.
"""

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch.utils.data import DataLoader, WeightedRandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from ltlab.data import benchmark_class_counts, load
from ltlab.data.lists import check_files, check_labels, read_list
from ltlab.recipes import IMAGENET
from ltlab.samplers import PowerSampler
from ltlab.train.step import augmented

BATCH = 64
TRAIN, VAL = "train_val2018/Synthetic", "val/Synthetic"


def make_tree(root: Path, counts: list[int], pictures: int) -> None:
    """The folders, the hard links, and the lists in both public formats."""
    generator = torch.Generator().manual_seed(0)
    for i in range(pictures):
        coarse = torch.rand(1, 3, 19, 25, generator=generator)
        smooth = torch.nn.functional.interpolate(coarse, size=(300, 400), mode="bicubic")[0]
        noisy = smooth + 0.03 * torch.randn(3, 300, 400, generator=generator)
        pixels = (noisy.clamp(0, 1) * 255).byte().permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(root / f"{i}.jpg", quality=90)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    order = torch.randperm(len(labels), generator=generator).tolist()
    for part, chosen in ((TRAIN, order), (VAL, torch.tensor(counts).cumsum(0).sub(1).tolist())):
        for c in range(len(counts)):
            (root / part / str(c)).mkdir(parents=True)
        paths = [f"{part}/{labels[i]}/{i:032x}.jpg" for i in chosen]
        for path, i in zip(paths, chosen, strict=True):
            os.link(root / f"{i % (pictures - 99) if part == TRAIN else pictures - 1 - i % 99}.jpg", root / path)
        name = "train" if part == TRAIN else "val"
        lines = [f"{path} {labels[i]}\n" for path, i in zip(paths, chosen, strict=True)]
        (root / f"iNaturalist18_{name}.txt").write_text("".join(lines), encoding="utf-8")
        if name == "train":
            content = json.dumps(competition(paths, [int(labels[i]) for i in chosen]))
            (root / "train2018.json").write_text(content, encoding="utf-8")


def competition(paths: list[str], labels: list[int]) -> dict:
    """As large as train2018.json: the entries have the keys of the real ones."""
    rest = {"license": 3, "rights_holder": "Observer of the synthetic", "width": 800, "height": 600}
    return {
        "images": [{"id": i, "file_name": path, **rest} for i, path in enumerate(paths)],
        "annotations": [{"id": i, "image_id": i, "category_id": label} for i, label in enumerate(labels)],
        "categories": [{"id": c, "name": str(c), "supercategory": "Synthetic"} for c in sorted(set(labels))],
    }


@contextmanager
def timed(what: str) -> Iterable[None]:
    start, before = time.perf_counter(), memory()
    yield
    print(f"  {what:54s}{time.perf_counter() - start:8.2f} s{(memory() - before) / 2**20:+9.0f} MiB")


def memory(pid: int | str = "self") -> int:
    """Bytes of a process's share of the memory: pages that n processes use count 1/n to each."""
    path = Path(f"/proc/{pid}/smaps_rollup")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


def images_per_second(batches: Iterable, device: torch.device) -> float:
    """Of all batches but the first, which starts the workers."""
    total, start = 0, 0.0
    for number, images in enumerate(batches):
        if number:
            total += len(images)
        else:
            synchronise(device)
            start = time.perf_counter()
    synchronise(device)
    return total / (time.perf_counter() - start)


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def streamed(split, sampler: PowerSampler, images: int, in_training: bool) -> Callable[[], Iterable]:
    device = split.labels.device
    generator = torch.Generator(device).manual_seed(0)

    def run() -> Iterable:
        sampler.set_epoch(sampler.epoch + 1)
        for _, batch, _ in split.batches(sampler.epoch_indices()[:images].split(BATCH)):
            yield augmented(batch, IMAGENET, generator) if in_training else batch

    return run


def image_folder(
    folder: ImageFolder, weights: torch.Tensor, images: int, workers: int, device: torch.device
) -> Callable:
    loader = DataLoader(
        folder, BATCH, sampler=WeightedRandomSampler(weights, images), num_workers=workers,
        persistent_workers=workers > 0, pin_memory=device.type == "cuda",
    )  # fmt: skip
    return lambda: (batch.to(device, non_blocking=True) for batch, _ in loader)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where the tree is made; a temporary folder, removed afterwards")
    parser.add_argument("--workers", type=int, default=min(8, os.cpu_count() or 1))
    parser.add_argument(
        "--threads", type=int, default=1, help="of the main process, which augments where there is no GPU"
    )
    parser.add_argument("--quick", action="store_true", help="fewer images and rounds")
    args = parser.parse_args()
    pictures, images, rounds = (500, 448, 3) if args.quick else (2000, 1280, 5)
    torch.set_num_threads(args.threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(
        f"{platform.machine()}, {os.cpu_count()} cores, {args.workers} workers, {device}, torch {torch.__version__}\n"
    )

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        root = Path(folder)
        print(f"{'index':56s}{'time':>10s}{'memory':>13s}")
        with timed("(make the tree)"):
            make_tree(root, benchmark_class_counts("inat18").tolist(), pictures)
        index(root)
        with timed("ltlab.data.load, both lists, all of it"):
            data = load("inat18", root=root, workers=args.workers).to(device)
        transform = v2.Compose([
            v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), v2.ColorJitter(0.4, 0.4, 0.4), v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
        ])  # fmt: skip
        with timed("torchvision's ImageFolder, training images"):
            imagefolder = ImageFolder(str(root / TRAIN), transform)
        print(f"  paths and labels in arrays: {data.train.images.nbytes / 2**20:.0f} MiB")

        print("\nsampler")
        with timed("PowerSampler q=0: build and draw an epoch"):
            sampler = PowerSampler(data.train.labels.cpu(), q=0)
            sampler.epoch_indices()
        with timed("WeightedRandomSampler: build and draw an epoch"):
            targets = torch.tensor(imagefolder.targets)
            weights = 1 / torch.bincount(targets).double()[targets]
            list(WeightedRandomSampler(weights, len(weights)))

        contestants = {
            "ImageFolder": image_folder(imagefolder, weights, images, args.workers, device),
            "StreamedSplit": streamed(data.train, sampler, images, in_training=False),
            "StreamedSplit, augmented": streamed(data.train.to(device), sampler, images, in_training=True),
        }
        throughput(contestants, rounds, device)


def index(root: Path) -> None:
    with timed('read_list, 437,513 "path label" lines, and check labels'):
        train = read_list(root / "iNaturalist18_train.txt")
        check_labels(train, 8142)
    with timed("check_files: all of them are there"):
        check_files(train, root)
    size = (root / "train2018.json").stat().st_size / 2**20
    with timed(f"read_list, train2018.json of {size:.0f} MiB"):
        read_list(root / "train2018.json")


def throughput(contestants: dict[str, Callable[[], Iterable]], rounds: int, device: torch.device) -> None:
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    shares: dict[str, list[int]] = {}
    for number in range(rounds + 1):
        for name, run in contestants.items():
            before = {process.pid for process in multiprocessing.active_children()}
            rate = images_per_second(run(), device)
            if number:  # the first round starts the workers
                rates[name].append(rate)
            else:
                new = {process.pid for process in multiprocessing.active_children()} - before
                shares[name] = [memory(pid) for pid in new]
    base = rates["ImageFolder"]
    print(f"\n{'images/s':26s}{'median':>9s}{'fastest':>9s}{'ratio':>8s}{'of fastest':>12s}{'MiB per worker':>16s}")
    for name, values in rates.items():
        median, fastest = statistics.median(values), max(values)
        share = statistics.mean(shares[name]) / 2**20 if shares[name] else 0
        print(
            f"{name:26s}{median:9.0f}{fastest:9.0f}{median / statistics.median(base):8.2f}{fastest / max(base):12.2f}"
            f"{share:16.0f}"
        )


if __name__ == "__main__":
    main()
