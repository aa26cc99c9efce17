"""What the losses of detection share: the background's column, drawn rows, and sums over processes."""

import torch
import torch.distributed as dist
from torch import Tensor

from ..counts import check_integer


def background_column(background: int | None, num_classes: float) -> int | None:
    """The column as a plain int from 0 to C; ValueError if it is not one. None stays None."""
    return None if background is None else check_integer("background", background, 0, num_classes)


def check_background(background: int | None, logits: Tensor) -> None:
    """ValueError unless the background is one of the columns of the logits."""
    if background is not None and background >= logits.shape[1]:
        raise ValueError(f"background={background} is not a column of logits with {logits.shape[1]}: give its index")


def without_column(values: Tensor, column: int | None) -> Tensor:
    """(N, columns) without one of them."""
    return values if column is None else torch.cat([values[:, :column], values[:, column + 1 :]], dim=1)


def summed_over_processes(values: Tensor) -> None:
    """Replace values by their sum over the processes of a distributed run, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(values)


def drawn_rows(rows: Tensor, number: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draw int(number) of the rows that are True, without replacement, or all that there are. -> (N,) bool"""
    draws = torch.where(rows, uniform(len(rows), generator, rows), 2.0)
    return rows & (draws.argsort().argsort() < number.floor())


def uniform(n: int, generator: torch.Generator | None, like: Tensor) -> Tensor:
    """n draws from [0, 1), float32 on the device of another tensor."""
    device = like.device if generator is None else generator.device
    return torch.rand(n, generator=generator, device=device, dtype=torch.float32).to(like.device)
