"""
benchmarks/losses.py
What a loss costs: forward and backward time of every loss, as a multiple of F.cross_entropy.

    python benchmarks/losses.py                                    # (512, 8142): the classes of iNaturalist 2018
    python benchmarks/losses.py --batch 128 --classes 100 --repeats 300

Expected at (512, 8142) on one thread of a busy AMD EPYC, torch 2.15, medians of 30 repeats:
    CE, CS_CE, CB_CE                             0.9 to 1.05
    balanced softmax, logit-adjusted             1.3 to 1.4
    LDAM, label smoothing, CDT                   1.4 to 1.8
    focal softmax, equalisation, focal sigmoid   2.5, 4, 12
At (128, 100), where F.cross_entropy takes 0.07 ms, checking the batch counts: 2 to 2.5 for the cross-entropies, 3 to
3.5 for LDAM and label smoothing, 4.5 to 5.5 for the rest.

Every repeat times all losses once, in a new random order, so that other load affects all alike. On a busy machine set
OMP_NUM_THREADS=1: a thread that waits for a core makes both columns useless.
"""

import argparse
import platform
import statistics
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from turns import by_turns

from ltlab import losses

Cost = Callable[[Tensor, Tensor], Tensor]


def contestants(class_counts: Tensor) -> dict[str, Cost]:
    return {
        "F.cross_entropy": F.cross_entropy,
        "CrossEntropyLoss": losses.CrossEntropyLoss(),
        "CostSensitiveLoss": losses.CostSensitiveLoss(class_counts),
        "ClassBalancedLoss": losses.ClassBalancedLoss(class_counts),
        "BalancedSoftmaxLoss": losses.BalancedSoftmaxLoss(class_counts),
        "LogitAdjustedLoss": losses.LogitAdjustedLoss(class_counts),
        "LDAMLoss": losses.LDAMLoss(class_counts),
        "LabelSmoothingLoss": losses.LabelSmoothingLoss(),
        "LabelAwareSmoothingLoss": losses.LabelAwareSmoothingLoss(class_counts),
        "CDTLoss": losses.CDTLoss(class_counts),
        "EqualizationLoss": losses.EqualizationLoss(class_counts),
        "FocalLoss, sigmoid": losses.FocalLoss(),
        "FocalLoss, softmax": losses.FocalLoss(form="softmax"),
    }


def forward_and_backward(cost: Cost, logits: Tensor, targets: Tensor) -> None:
    torch.autograd.grad(cost(logits, targets), logits)
    if logits.is_cuda:
        torch.cuda.synchronize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--classes", type=int, default=8142)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()

    generator = torch.Generator().manual_seed(0)
    class_counts = torch.logspace(3, 0.3, args.classes).round()
    cosines = 2 * torch.rand(args.batch, args.classes, generator=generator) - 1  # as LDAM expects; the rest take any
    logits = cosines.to(args.device).requires_grad_()
    targets = torch.randint(args.classes, (args.batch,), generator=generator).to(args.device)
    costs = contestants(class_counts)
    for cost in costs.values():
        if isinstance(cost, torch.nn.Module):
            cost.to(args.device)

    ways = {name: partial(forward_and_backward, cost, logits, targets) for name, cost in costs.items()}
    times = by_turns(ways, args.repeats, warm_up=3)
    base = times["F.cross_entropy"]
    where = torch.cuda.get_device_name() if logits.is_cuda else f"{platform.processor() or platform.machine()} CPU"
    print(f"({args.batch}, {args.classes}) float32, forward + backward, {where}, {torch.get_num_threads()} threads")
    print(f"{'loss':26s}{'median ms':>10s}{'fastest ms':>12s}{'ratio':>8s}{'of fastest':>12s}")
    for name, elapsed in times.items():
        median, fastest = statistics.median(elapsed), min(elapsed)
        print(
            f"{name:26s}{1e3 * median:10.2f}{1e3 * fastest:12.2f}"
            f"{median / statistics.median(base):8.2f}{fastest / min(base):12.2f}"
        )


if __name__ == "__main__":
    main()
