"""The processes of a run: one per device, on one machine or several, all with the same weights.

`torchrun` starts them, or `fabric run`, which calls it; DistributedDataParallel averages their gradients while they are
computed. With one process nothing of it happens.
"""

import atexit
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from ..losses import Loss
from ..names import look_up


class OneProcess:
    """One process of a run, and what it does together with the others; alone, nothing."""

    def __init__(self, device: torch.device, size: int = 1, rank: int = 0) -> None:
        self.device, self.size, self.rank = device, size, rank

    def share(self, indices: Tensor) -> Tensor:
        """indices[rank :: size], as samplers share a sequence; of fewer indices than processes, all of them.

        So no share is empty, and of a batch with weights that are equal everywhere the mean is right either way.
        """
        return indices[self.rank :: self.size] if len(indices) >= self.size else indices

    def connected(self, model: nn.Module) -> nn.Module:
        """The model that a step calls, so that backward averages gradients over the processes."""
        if self.size == 1:
            return model
        devices = [self.device] if self.device.type == "cuda" else None
        with warnings.catch_warnings():  # running statistics are averaged once an epoch, see `average_statistics`
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated")  # for what old versions do not have
            return Connected(model, device_ids=devices, broadcast_buffers=False)

    def part_of_mean(self, loss: Tensor, criterion: nn.Module, targets: Tensor) -> Tensor:
        """This process's loss scaled so that its mean over the processes is the loss of the whole batch.

        W L_r w_r / sum_r w_r,   the loss L_r of process r being a mean with weights that sum to w_r

        Args:
            loss: what the criterion gave for this process's images, a number.
            criterion, targets: of which the weights are, see `weight_of`.
        """
        if self.size == 1:
            return loss
        weight = torch.as_tensor(weight_of(criterion, targets), dtype=torch.float32, device=loss.device)
        return loss * (weight / self.mean(weight))

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        if self.size == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.size

    def gathered(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all `count` indices in their order, each process having those of its share."""
        if count < self.size or self.size == 1:
            return rows
        longest = -(-count // self.size)
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        return self.of_all(padded).transpose(0, 1).flatten(0, 1)[:count]  # (longest * size, ...), cut

    def of_all(self, value: Tensor) -> Tensor:
        """A tensor of one shape in every process, of all of them: (...) -> (size, ...)."""
        values = [torch.empty_like(value) for _ in range(self.size)]
        dist.all_gather(values, value.contiguous())
        return torch.stack(values)

    def kept(self, state: Tensor) -> Tensor:
        """A generator's state on the CPU; of many processes all states, (size, ...)."""
        return state.cpu() if self.size == 1 else self.of_all(state.to(self.device)).cpu()

    def own(self, kept: Tensor) -> Tensor:
        """This process's state of those that `kept` has given."""
        return kept.cpu() if self.size == 1 else kept[self.rank].cpu().clone()  # set_state crashes on a row

    def together(self, entries: dict[str, str]) -> dict[str, str]:
        """The entries of all processes."""
        if self.size == 1:
            return entries
        parts: list[dict[str, str]] = [{}] * self.size
        dist.all_gather_object(parts, entries)
        return {key: value for part in parts for key, value in part.items()}

    def wait(self) -> None:
        """Until every process is here."""
        if self.size > 1:
            dist.barrier()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn the loss of another process into a ConnectionError that says what to do."""
        try:
            yield
        except RuntimeError as error:
            if self.size == 1 or not (isinstance(error, dist.DistError) or "gloo" in str(error)):
                raise
            raise ConnectionError(
                f"process {self.rank} of {self.size} stops because another one has stopped or does not answer: resume "
                f"the run, which continues from its last checkpoint ({str(error).splitlines()[0]})"
            ) from error


ALONE = OneProcess(torch.device("cpu"))


class Connected(DistributedDataParallel):
    """A model whose backward averages gradients over the processes; its parts are those of the model."""

    def __getattr__(self, name: str) -> object:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.module, name)


def weight_of(loss: nn.Module, targets: Tensor) -> float | Tensor:
    """What a loss that is a mean over a batch has divided by: its images, or the sum of their weights."""
    weight = getattr(loss, "weight", None)
    if weight is None or (isinstance(loss, Loss) and loss.reduction != "weighted_mean"):
        return float(len(targets))
    return (targets @ weight if targets.is_floating_point() else weight[targets]).sum()


def join(device: torch.device) -> OneProcess:
    """The processes that torchrun or `fabric run` has started, or this one alone.

    Raises:
        ValueError: more processes on this machine than it has devices of the kind.
        RuntimeError: not all processes have joined within half an hour.
    """
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if size == 1:
        return OneProcess(device)
    started, there = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
    if device.type == "cuda":
        if started > there:
            raise ValueError(
                f"{started} processes were started, this machine has {there} devices: start at most {there}"
            )
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        atexit.register(dist.destroy_process_group)
    return OneProcess(device, size, rank)


def is_first() -> bool:
    """Whether this process is the first of its run, the one that writes and prints."""
    return os.environ.get("RANK", "0") == "0"


def across_processes(model: nn.Module, batch_norm: str, processes: OneProcess) -> nn.Module:
    """The model with batch norms as asked for: "local" statistics of a process's images, or "sync", of all images.

    Raises:
        ValueError: an unknown choice; "sync" on the CPU, where torch does not have it.
    """
    sync = look_up("batch_norm", batch_norm, {"local": False, "sync": True})
    if not sync or processes.size == 1:
        return model
    if processes.device.type != "cuda":
        raise ValueError("batch_norm='sync' is for CUDA devices; on the CPU torch has batch_norm='local' alone")
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


def average_statistics(batch_norms: list[_BatchNorm], processes: OneProcess) -> None:
    """Give all processes the mean of their running statistics."""
    for module in batch_norms if processes.size > 1 else ():
        for statistic in (module.running_mean, module.running_var):
            if statistic is not None:
                statistic.copy_(processes.mean(statistic))
