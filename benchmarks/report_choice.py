"""Whether `ltlab report` recommends the right recipe: five long tails of photographs, and a balanced set.

    LTLAB_DATA=FOLDER python benchmarks/report_choice.py [--cache FOLDER] [--output FILE]

Training images are drawn from CIFAR-10 and CIFAR-100, as features of efficientnet_lite0 at 96 pixels. The report's
candidates are trained and chosen among on held-out images; then all of them are trained three times on all training
images and judged by all test images of their classes. One row per set (data/results/report_choice.csv): the
recommended and the truly best candidate, their errors, and the difference with its standard error, of images and runs.

The features take about five minutes once, a set about two.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import torch
from torch import Tensor

from ltlab.data import LongTailedData, features, load, long_tail_counts
from ltlab.reporting.candidates import ALWAYS
from ltlab.reporting.choice import choose, image_weights, standard_errors
from ltlab.reporting.making import settings_of
from ltlab.reporting.trials import Trials

ROOT = Path(__file__).parents[1]
RUNS = 3  # of every candidate on all training images
SETS = {
    "exponential, 100": ("cifar10-lt", long_tail_counts(10, 600, 100)),
    "step, 10": ("cifar10-lt", [200] * 5 + [20] * 5),
    "exponential, 20": ("cifar10-lt", long_tail_counts(10, 220, 20)),
    "20 classes, exponential, 50": ("cifar100-lt", long_tail_counts(20, 200, 50)),
    "30 classes, exponential, 10": ("cifar100-lt", long_tail_counts(30, 60, 10)),
    "balanced": ("cifar10-lt", [100] * 10),
}


def drawn(whole: LongTailedData, counts: list[int], seed: int) -> LongTailedData:
    """As many classes, and training images of each, drawn at random; all test images of these classes."""
    generator = torch.Generator().manual_seed(seed)
    classes = torch.randperm(len(whole.class_names), generator=generator)[: len(counts)]
    place = torch.full((len(whole.class_names),), -1).index_put((classes,), torch.arange(len(counts)))
    shuffled = torch.randperm(len(whole.train), generator=generator)
    rows = [shuffled[whole.train.labels[shuffled] == c][:n] for c, n in zip(classes, counts, strict=True)]
    train = whole.train.take(torch.cat(rows))
    test = whole.test.take((place[whole.test.labels] >= 0).nonzero()[:, 0])
    parts = [type(part)(part.images, place[part.labels]) for part in (train, test)]
    return LongTailedData(whole.name, *parts, tuple(whole.class_names[c] for c in classes))


def judged(data: LongTailedData, folder: Path) -> dict[str, object]:
    """What is recommended, and what is best."""
    classes = len(data.class_names)
    prior = torch.full((classes,), 1 / classes, dtype=torch.float64)
    options = {"folds": 5, "seed": 0, "deadline": time.monotonic() + 1e6, "device": "cpu"}
    trials = Trials(data, settings_of(len(data.train)), folder, prior, **options)
    held = trials.held_out(ALWAYS, (), progress=True)
    counts = data.class_counts
    chosen = choose(held.wrong, held.labels, prior) if counts.max() > counts.min() else 0  # as `outcome` has it
    labels = data.test.labels
    runs = [trials.test(each, held.taus[each.name], RUNS).argmax(2) != labels for each in held.candidates]
    wrong = torch.stack(runs, 2).double()  # (runs, images, candidates)
    weights = image_weights(labels, prior)
    error = weights @ wrong.mean(0)
    best = int(error.argmin())
    return {
        "recommended": held.candidates[chosen].name, "best": held.candidates[best].name,
        "error": error[chosen].item(), "best_error": error[best].item(), "plain_error": error[0].item(),
        "difference": (error[chosen] - error[best]).item(),
        "standard_error": _standard_error(wrong[..., chosen] - wrong[..., best], weights, labels, prior),
    }  # fmt: skip


def _standard_error(worse: Tensor, weights: Tensor, labels: Tensor, prior: Tensor) -> float:
    """Of a difference of errors, (runs, images): that of the images and that of the runs."""
    of_runs = (worse @ weights).var() / len(worse)
    return (of_runs + standard_errors(worse.mean(0)[:, None], labels, prior)[0] ** 2).sqrt().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, help="folder of the features")
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "report_choice.csv")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows, whole = [], {}
    with TemporaryDirectory() as folder:
        for seed, (name, (source, counts)) in enumerate(SETS.items(), start=1):
            if source not in whole:
                images = load(source, imbalance=1)
                whole[source] = features(images, "efficientnet_lite0", size=96, cache=arguments.cache)
            data = drawn(whole[source], counts, seed)
            rows.append({"set": name, "data": source, "images": len(data.train), **judged(data, Path(folder, name))})
            pd.DataFrame(rows).round(4).to_csv(arguments.output, index=False)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
