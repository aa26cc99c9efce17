"""Heads on the features of a frozen network: CIFAR-10-LT-100 and CIFAR-100-LT-100 by efficientnet_lite0 at 96 pixels.

    python benchmarks/features.py [--seeds 5] [--data cifar10-lt cifar100-lt] [--finetune] [--output FILE]

For every seed, which draws subset and training, the recipes `RECIPES`, and post-hoc logit adjustment with the tau that
a head trained without a fifth of the images has least balanced error with on that fifth. Every run adds a row to the
output (data/results/features.csv, the columns of `results.result_row`). A second call continues from there.

With --reduce FILE it only writes the features that the course shows, data/features/cifar10-lt-100.npz.

With --finetune the last block of the network trains too, on a tenth of the images: the maps before it, 192 x 3 x 3, are
the frozen features, and block, last convolution and classifier are the model, at rates from a light to a heavy one.

Expected, on one thread with AVX-512 bfloat16: 300 images a second once, then 2 s a head, 3 s of 100 classes.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltlab import results
from ltlab.classifiers import choose_tau, logit_adjusted
from ltlab.data import Backbone, LongTailedData, backbone_of, features, load, long_tail_subset
from ltlab.losses import BalancedSoftmaxLoss, CostSensitiveLoss
from ltlab.recipes import FEATURES, Recipe, Stage, get
from ltlab.recipes.families import CLASS_BALANCED
from ltlab.results import append_row, fingerprint, result_row
from ltlab.results.rows import runs_in
from ltlab.train import fit

OUTPUT = Path(__file__).parents[1] / "data" / "results" / "features.csv"
BACKBONE, SIZE = "efficientnet_lite0", 96
RECIPES = (
    "ce", "cs_ce", "cb_ce", "balanced_softmax", "label_aware_smoothing", "class_balanced", "drw_cs_ce",
    "crt", "tau_norm", "nearest_class_mean", "logit_adjusted_post_hoc", "disalign", "ce_cosine", "ldam", "mixup",
)  # fmt: skip
MORE = (
    Recipe(Stage(sampler=CLASS_BALANCED, loss=CostSensitiveLoss), name="weights_and_sampler"),
    Recipe(Stage(loss=BalancedSoftmaxLoss), name="balanced_softmax_cosine", classifier="cosine"),
)
LIGHT_TO_HEAVY = (0.0, 0.1, 1.0, 10.0)  # factors of the last block's learning rate; the classifier's is 1
Run = tuple[Recipe, LongTailedData, nn.Module | None]  # the model is None for a head


def chosen(tailed: LongTailedData, seed: int) -> Recipe:
    """Post-hoc logit adjustment with the tau chosen on held-out training images."""
    part = results.hold_out(tailed, seed=seed)
    head = fit("ce", part, seed=seed, progress=False, evaluate_every=1000)
    tau = choose_tau(head.logits, part.test.labels, part.class_counts)
    after = Stage(epochs=0, classifier=partial(logit_adjusted, tau=tau))
    return Recipe(Stage(), after, name="logit_adjusted_post_hoc_chosen")


def few_images(data: LongTailedData, seed: int) -> LongTailedData:
    """A tenth of every class, and 250 test images of each."""
    kept = long_tail_subset(data.train.labels, (data.class_counts / 10).round().long(), seed)
    shown = long_tail_subset(data.test.labels, [250] * len(data.class_names), seed)
    options = data.options | {"images": "a tenth"}
    return replace(data, train=data.train.take(kept), test=data.test.take(shown), options=options)


class LastBlock(nn.Module):
    """The end of EfficientNet-Lite0 on the maps before it, kept as features: (n, 192 * 3 * 3, 1, 1) -> logits."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        network = backbone_of(BACKBONE).network
        self.block, self.conv, self.norm = network._blocks[-1], network._conv_head, network._bn1
        self.classifier = nn.Linear(1280, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = x.reshape(len(x), 192, 3, 3).contiguous(memory_format=torch.channels_last)
        pooled = F.relu6(self.norm(self.conv(self.block(maps)))).mean((2, 3))
        return self.classifier(pooled)


class Before(nn.Module):
    """EfficientNet-Lite0 up to its last block: images -> flattened maps."""

    def __init__(self) -> None:
        super().__init__()
        network = backbone_of(BACKBONE).network
        self.stem, self.norm, self.blocks = network._conv_stem, network._bn0, network._blocks[:-1]

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks(F.relu6(self.norm(self.stem(x)))).flatten(1)


def reduced(data: LongTailedData, cache: Path | None, width: int = 96) -> dict[str, np.ndarray]:
    """What the course shows: the first principal components of features, of all training and 2,500 test images."""
    tailed = features(data, BACKBONE, size=SIZE, precision="bfloat16", cache=cache)
    shown = tailed.test.take(long_tail_subset(tailed.test.labels, [250] * len(data.class_names), 0))
    x = tailed.train.images.flatten(1).double()
    _, vectors = torch.linalg.eigh(torch.cov(x.T))  # the largest eigenvalue last
    components = vectors.flip(1)[:, :width]
    arrays = {"classes": np.array(data.class_names)}
    for part, split in (("train", tailed.train), ("test", shown)):
        arrays[f"x_{part}"] = (split.images.flatten(1).double() @ components).half().numpy()
        arrays[f"y_{part}"] = split.labels.byte().numpy()
    return arrays


def runs(name: str, seed: int, finetune: bool, cache: Path | None) -> Iterator[Run]:
    """All runs of a data set with a seed."""
    data = load(name, seed=seed)
    if not finetune:
        tailed = features(data, BACKBONE, size=SIZE, precision="bfloat16", cache=cache)
        for recipe in (*map(get, RECIPES), *MORE, chosen(tailed, seed)):
            yield recipe, tailed, None
        return
    before = Backbone(f"{BACKBONE} before its last block", Before(), backbone_of(BACKBONE, SIZE).prepare, True)
    maps = features(few_images(data, seed), before, cache=cache)
    for rate in LIGHT_TO_HEAVY:
        rates = dict.fromkeys(("block", "conv", "norm"), rate)
        stage = Stage(loss=BalancedSoftmaxLoss, rates=rates, batch_norm="eval", weight_decay=5e-4)
        recipe = Recipe(stage, name=f"balanced_softmax_last_block_{rate:g}")
        yield recipe, maps, LastBlock(len(maps.class_names))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data", nargs="+", default=["cifar10-lt", "cifar100-lt"])
    parser.add_argument("--finetune", action="store_true", help="train the last block of the network too")
    parser.add_argument("--reduce", type=Path, help="only write the course's features of seed 0 to this .npz")
    parser.add_argument("--cache", type=Path, help="folder of the kept features, see ltlab.data.features")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    arguments = parser.parse_args()
    if arguments.reduce:
        np.savez_compressed(arguments.reduce, **reduced(load("cifar10-lt"), arguments.cache))
        return
    for seed, name in product(range(arguments.seeds), arguments.data):
        for recipe, tailed, model in runs(name, seed, arguments.finetune, arguments.cache):
            plan = recipe.resolve(FEATURES)
            network = None if model is None else type(model).__name__
            if (plan.name, seed, fingerprint(plan, tailed, network)) in runs_in(arguments.output):
                continue
            precision = "bfloat16" if model else "float32"
            result = fit(
                plan, tailed, model, seed=seed, precision=precision, progress=False, evaluate_every=plan.epochs
            )
            append_row(arguments.output, result_row(result, tailed, seed))
            error = 100 * result.metrics["top1_error"]
            print(f"{name} {recipe.name} seed {seed}: {error:.1f} %, {result.seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()
