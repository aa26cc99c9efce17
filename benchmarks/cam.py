"""CAM-based sampling for all of CIFAR-10-LT-100: ltlab's batches against a loop over images, in one run.

    python benchmarks/cam.py                  # about two minutes on two CPU cores
    python benchmarks/cam.py --loop 1000      # more images for the loop, steadier

The authors' rule asks for 38,094 new images: class c of CIFAR-10-LT-100 receives n_max + n_min - n_c. The loop works as
most public code does: one forward pass per image, its map resized by PIL, a mask by NumPy, one torchvision transform of
a PIL image, pasted by NumPy. It is measured on a few hundred images and extrapolated. ltlab makes maps and masks once
for each of the 12,406 images, as bits, then 38,094 transforms, in batches. Images are random and the ResNet-32 is
untrained, which does not change the work. Nothing is written to disk.
"""

import argparse
import random
import resource
import sys
import time

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import functional as vision

from ltlab import models
from ltlab.cam import ForegroundTransform, WholeImageTransform, materialise, new_image_counts
from ltlab.data import long_tail_counts
from ltlab.results import provenance


def random_set(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """As many images and labels as in CIFAR-10-LT-100, of random pixels."""
    labels = torch.arange(10).repeat_interleave(torch.tensor(long_tail_counts(10, 5000, 100)))
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (len(labels), 3, 32, 32), dtype=torch.uint8, generator=generator), labels


def one_image(model: models.Net, image: np.ndarray, label: int) -> np.ndarray:
    """A new image from one image: forward pass, map, mask, one of four transforms, composite. (H, W, 3) uint8."""
    height, width = image.shape[:2]
    with torch.no_grad():
        features = model.features(torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255)[0]
    cam = (model.classifier.weight[label].detach()[:, None, None] * features).sum(0).numpy()
    cam = cam - cam.min()
    cam = np.asarray(Image.fromarray(np.uint8(255 * cam / cam.max())).resize((width, height), Image.BILINEAR))
    mask = cam >= cam.mean()
    foreground = Image.fromarray(np.dstack([image, np.uint8(255 * mask)]))  # the mask travels as a fourth channel
    kind = random.choice(["flip", "translate", "rotate", "scale"])
    if kind == "flip":
        foreground = vision.hflip(foreground)
    else:
        angle = random.uniform(-45, 45) if kind == "rotate" else 0.0
        shift = [random.randint(-8, 8), random.randint(-8, 8)] if kind == "translate" else [0, 0]
        scale = random.uniform(0.8, 1.2) if kind == "scale" else 1.0
        foreground = vision.affine(foreground, angle, shift, scale, [0.0])
    moved = np.asarray(foreground)
    return np.where(moved[:, :, 3:] > 127, moved[:, :, :3], image)


def loop_rate(model: models.Net, images: torch.Tensor, labels: torch.Tensor, n: int) -> float:
    """New images per second of the loop over n random images: the fastest tenth of them, which favours the loop."""
    chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[:n]
    pictures, targets = images[chosen].permute(0, 2, 3, 1).contiguous().numpy(), labels[chosen].tolist()
    seconds = []
    for part in np.array_split(np.arange(n), 10):
        started = time.perf_counter()
        for i in part:
            one_image(model, pictures[i], targets[i])
        seconds.append((time.perf_counter() - started) / len(part))
    return 1 / min(seconds)


def transform_rate(
    slot: ForegroundTransform | WholeImageTransform, images: torch.Tensor, packed_masks: torch.Tensor
) -> float:
    """Images per second of the slot alone, in batches of 128 as a training step calls it: the best of five passes."""
    generator, seconds = torch.Generator().manual_seed(0), []
    for _ in range(5):
        started = time.perf_counter()
        for batch, rows in zip(images.split(128), packed_masks.split(128), strict=True):
            slot(batch, rows, generator=generator)
        seconds.append(time.perf_counter() - started)
    return len(images) / min(seconds)


def peak_memory() -> float:
    """The process's largest resident size so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--loop", type=int, default=400, help="images that the loop is measured on")
    measured = parser.parse_args().loop
    torch.manual_seed(0)
    random.seed(0)
    images, labels = random_set()
    wanted = int(new_image_counts(labels.bincount()).sum())
    model = models.build("resnet32", 10, images).eval()
    loop = wanted / loop_rate(model, images, labels, measured)

    slot, generator = ForegroundTransform(), torch.Generator().manual_seed(0)
    model = model.to(memory_format=torch.channels_last)  # as `ltlab.train.fit` does
    before = peak_memory()
    started = time.perf_counter()
    packed_masks = slot.prepare(model, images, labels)
    prepared = time.perf_counter() - started
    new_images, _ = materialise(slot, model, images, labels, generator=generator)
    whole = time.perf_counter() - started - prepared
    growth = peak_memory() - before

    print(f"| {len(new_images):,} new images, 32 x 32, ResNet-32 | seconds | ratio |\n|---|---|---|")
    print(f"| loop over images ({measured} measured) | {loop:,.0f} | 1 |")
    print(f"| ltlab, maps, masks and transforms | {whole:.1f} | {loop / whole:.0f} |")
    print(f"| of it maps and masks of {len(images):,} images | {prepared:.1f} | |")
    print("\n| transforms alone, batches of 128 | images/s |\n|---|---|")
    for alone in (slot, ForegroundTransform(fill=True), WholeImageTransform()):
        print(f"| {alone!r} | {transform_rate(alone, images, packed_masks):,.0f} |")
    where = provenance(torch.device("cpu"))
    print(f"\npeak memory grew by {growth:,.0f} MiB, of which the new images are {new_images.numel() / 2**20:,.0f}")
    print(f"{where['device']}, {where['threads']} threads, torch {where['torch']}, {where['date']}")


if __name__ == "__main__":
    main()
