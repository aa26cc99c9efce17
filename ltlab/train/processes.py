"""The processes of a run: one per device, on one machine or several, all with the same weights.

Lightning Fabric starts them, or finds those that torchrun, `fabric run` or a cluster has started, and averages their
gradients while they are computed. With one process nothing of it is imported.
"""

import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from ..data.streaming import KILLED, tells_of_a_killed_worker
from ..losses import Loss
from ..names import look_up

if TYPE_CHECKING:
    from lightning_fabric import Fabric

START = 1800.0  # seconds until every process has imported what it needs, loaded its data and joined, as torch gives


class OneProcess:
    """What the processes of a run do together when there is one: nothing."""

    size, rank = 1, 0

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def share(self, indices: Tensor) -> Tensor:
        """This process's part of indices that all processes have."""
        return indices

    def connected(self, model: nn.Module) -> nn.Module:
        """The model that a step calls, so that backward averages gradients over the processes."""
        return model

    def part_of_mean(self, loss: Tensor, criterion: nn.Module, targets: Tensor) -> Tensor:
        """This process's loss scaled so that its mean over the processes is the loss of the whole batch.

        W L_r w_r / sum_r w_r,   the loss L_r of process r being a mean with weights that sum to w_r

        Args:
            loss: what the criterion gave for this process's images, a number.
            criterion, targets: of which the weights are, see `weight_of`.
        """
        return loss

    def mean(self, value: Tensor) -> Tensor:
        """The mean of a tensor over the processes."""
        return value

    def gathered(self, rows: Tensor, count: int) -> Tensor:
        """The rows of all `count` indices in their order, each process having those of its share."""
        return rows

    def kept(self, state: Tensor) -> Tensor:
        """A generator's state on the CPU; of many processes all states, (size, ...)."""
        return state.cpu()

    def own(self, kept: Tensor) -> Tensor:
        """This process's state of those that `kept` has given."""
        return kept.cpu()

    def together(self, entries: dict[str, str]) -> dict[str, str]:
        """The entries of all processes."""
        return entries

    def wait(self) -> None:
        """Until every process is here."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Turn the loss of another process into a ConnectionError, or a ChildProcessError, that says what to do."""
        try:
            yield
        except RuntimeError as error:
            if (lost := self.lost(error)) is None:
                raise
            raise lost from error

    def lost(self, error: RuntimeError) -> OSError | None:
        """What to raise instead if an error means that another process is gone: here, one that reads images."""
        return ChildProcessError(KILLED) if tells_of_a_killed_worker(error) else None


ALONE = OneProcess(torch.device("cpu"))


class ManyProcesses(OneProcess):
    """The processes that Fabric knows, and this one among them."""

    def __init__(self, fabric: "Fabric") -> None:
        super().__init__(fabric.device)
        self.fabric, self.size, self.rank = fabric, fabric.world_size, fabric.global_rank

    def share(self, indices: Tensor) -> Tensor:
        """indices[rank :: size], as samplers share a sequence; of fewer indices than processes, all of them.

        So no share is empty, and of a batch with weights that are equal everywhere the mean is right either way.
        """
        return indices[self.rank :: self.size] if len(indices) >= self.size else indices

    def connected(self, model: nn.Module) -> nn.Module:
        with _without_deprecations():
            return self.fabric.setup_module(model, move_to_device=False)

    def part_of_mean(self, loss: Tensor, criterion: nn.Module, targets: Tensor) -> Tensor:
        weight = torch.as_tensor(weight_of(criterion, targets), dtype=torch.float32, device=loss.device)
        return loss * (weight / self.mean(weight))

    def mean(self, value: Tensor) -> Tensor:
        return self.fabric.all_reduce(value.clone(), reduce_op="mean")

    def gathered(self, rows: Tensor, count: int) -> Tensor:
        if count < self.size:
            return rows
        longest = -(-count // self.size)
        padded = torch.cat([rows, rows.new_zeros(longest - len(rows), *rows.shape[1:])])
        return self.of_all(padded).transpose(0, 1).flatten(0, 1)[:count]  # (longest * size, ...), cut

    def kept(self, state: Tensor) -> Tensor:
        return self.of_all(state.to(self.device)).cpu()

    def of_all(self, value: Tensor) -> Tensor:
        """A tensor of one shape in every process, of all of them: (...) -> (size, ...)."""
        with _without_deprecations():
            return self.fabric.all_gather(value)

    def own(self, kept: Tensor) -> Tensor:
        return kept[self.rank].cpu().clone()  # set_state crashes on a row of a larger tensor

    def together(self, entries: dict[str, str]) -> dict[str, str]:
        parts: list[dict[str, str]] = [{}] * self.size
        torch.distributed.all_gather_object(parts, entries)
        return {key: value for part in parts for key, value in part.items()}

    def wait(self) -> None:
        self.fabric.barrier()

    def lost(self, error: RuntimeError) -> OSError | None:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            return super().lost(error)
        return ConnectionError(
            f"process {self.rank} of {self.size} stops because another one has stopped or does not answer: start the "
            f"run again with resume=True, which goes on from its last checkpoint ({reason(error)})"
        )


def reason(error: RuntimeError) -> str:
    """The first clause of what a library says, without the place in its source."""
    return re.sub(r"^\[\S+\] ", "", str(error).strip()).splitlines()[0].partition(". ")[0]


@contextmanager
def _without_deprecations() -> Iterator[None]:
    """Keep back what Fabric is told, in every process, about its own calls of torch."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r".*(broadcast_buffers|nn\.functional\.all_gather).* is deprecated")
        yield


def weight_of(loss: nn.Module, targets: Tensor) -> float | Tensor:
    """What a loss that is a mean over a batch has divided by: its images, or the sum of their weights."""
    weight = getattr(loss, "weight", None)
    if weight is None or (isinstance(loss, Loss) and loss.reduction != "weighted_mean"):
        return float(len(targets))
    return (targets @ weight if targets.is_floating_point() else weight[targets]).sum()


def join(device: torch.device, devices: int, num_nodes: int, timeout: float) -> OneProcess:
    """The processes of a run on `devices` devices of the kind of `device` on each of `num_nodes` machines.

    Where torchrun, `fabric run` or a cluster has started them already, this process joins. Else Fabric starts the
    script again for every other device of this machine.

    Raises:
        ValueError: a number below 1, more devices than this machine has, or another number than was started.
        ConnectionError: not all processes have joined.
        ImportError: more than one process, and Lightning Fabric is not installed.
    """
    if devices < 1 or num_nodes < 1 or not timeout > 0:
        raise ValueError(
            f"devices={devices}, num_nodes={num_nodes}, timeout={timeout}: they must be at least 1, seconds above 0"
        )
    started = int(os.environ["LOCAL_WORLD_SIZE"]) if "LOCAL_WORLD_SIZE" in os.environ else None
    if started is not None:
        if devices not in (1, started):
            raise ValueError(f"devices={devices}, but {started} processes were started on this machine: leave it out")
        devices, num_nodes = started, int(os.environ["WORLD_SIZE"]) // started
    if devices * num_nodes == 1:
        return OneProcess(device)
    there = {"cpu": devices, "cuda": torch.cuda.device_count()}.get(device.type, 1)
    if devices > there:
        raise ValueError(f"devices={devices}, but this machine has {there} of the kind {device.type!r}")
    fabric = _fabric(device, devices, num_nodes, max(timeout, START))
    if "LT_CLI_USED" not in os.environ:  # `fabric run`, whose processes are connected already
        _launch(fabric, timeout)
    return ManyProcesses(fabric)


def _launch(fabric: "Fabric", timeout: float) -> None:
    """Start or join the processes, which have `START` seconds for it, and from then on `timeout` to answer.

    Raises:
        ConnectionError: not all have joined; those that were started here are ended.
    """
    lightning = logging.getLogger("lightning_fabric.utilities")
    level, joined = lightning.level, False
    lightning.setLevel(logging.WARNING)
    try:
        fabric.launch()
        joined = True
    except RuntimeError as error:
        raise ConnectionError(
            f"not all {fabric.world_size} processes have joined within {max(timeout, START):g} s, in which they import "
            f"and load their data too ({reason(error)}): see what the others say, and start the run again"
        ) from error
    finally:
        lightning.setLevel(level)
        children = [] if joined else getattr(fabric.strategy.launcher, "procs", [])
        while children:  # a list that Fabric watches, to end this process when one of them has failed
            child = children.pop()
            child.kill()
            child.wait()
    c10d = torch.distributed.distributed_c10d
    set_timeout = getattr(c10d, "set_timeout", None) or c10d._set_pg_timeout  # its name in earlier versions
    set_timeout(timedelta(seconds=timeout))


def _fabric(device: torch.device, devices: int, num_nodes: int, timeout: float) -> "Fabric":
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError:
        try:
            from lightning.fabric import Fabric
            from lightning.fabric.strategies import DDPStrategy
        except ImportError as error:
            raise ImportError("more than one device needs Lightning Fabric: pip install lightning-fabric") from error
    # running statistics are averaged once an epoch, see `average_statistics`, not copied in every step
    strategy = DDPStrategy(timeout=timedelta(seconds=timeout), broadcast_buffers=False)
    accelerator = "cuda" if device.type == "cuda" else "cpu"
    return Fabric(accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy)


def is_first() -> bool:
    """Whether this process is the first of its run, the one that writes and prints."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    if "RANK" in os.environ:
        return os.environ["RANK"] == "0"
    return all(os.environ.get(name, "0") == "0" for name in ("LOCAL_RANK", "NODE_RANK"))


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


def average_statistics(batch_norms: list[nn.Module], processes: OneProcess) -> None:
    """Give all processes the mean of their running statistics."""
    for module in batch_norms if processes.size > 1 else ():
        for statistic in (module.running_mean, module.running_var):
            if statistic is not None:
                statistic.copy_(processes.mean(statistic))
