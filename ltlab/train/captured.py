"""The training step without Python: recorded once as a CUDA graph, then replayed.

A batch of 128 small images keeps a large GPU busy for a fraction of the time that Python and the driver need to hand
it the step's several hundred kernels. A CUDA graph hands them over in one call.
"""

from collections.abc import Callable

import torch
from torch import Tensor

WARM_UP = 3  # steps that are taken eagerly before a recording: they make the buffers and choose the algorithms


class CapturedStep:
    """A training step that is recorded per batch size and replayed: the same arithmetic in the same order.

        step = TrainingStep(...)             # readable, one kernel after another
        take = CapturedStep(step, generator)
        train_epoch(step, learning_rate, take)

    The first `WARM_UP` steps of every batch size are real ones, taken as they are written. What a recording reads must
    stay where it is in memory: images, model, optimiser state, masks; a new stage needs a new `CapturedStep`, and the
    optimiser a learning rate that is a tensor, and `fused=True`, else the rate of the recording stays for good. The
    generator goes on from replay to replay.

    On the CPU there is nothing to record: every step is taken as it is written, from the same buffer.

    Args:
        step: called with indices (n,) int64 on the generator's device, returns the loss; nothing in it may wait for
            the device.
        generator: of the step's draws.

    Source: NVIDIA, "CUDA C++ Programming Guide", CUDA graphs; torch.cuda.CUDAGraph.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], generator: torch.Generator) -> None:
        self.step, self.generator, self.device = step, generator, generator.device
        self.indices: dict[int, Tensor] = {}  # batch size -> the buffer that its recording reads
        self.taken: dict[int, int] = {}
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, Tensor]] = {}
        self.pool = None  # of memory, shared by the recordings, of which one runs at a time

    def __call__(self, indices: Tensor) -> Tensor:
        """Train on the images at `indices`; the loss is overwritten by the next call."""
        n = len(indices)
        buffer = self.indices.setdefault(n, torch.empty_like(indices)).copy_(indices)
        self.taken[n] = self.taken.get(n, 0) + 1
        if self.device.type != "cuda":
            return self.step(buffer)
        if self.taken[n] <= WARM_UP:
            return self._on_a_side_stream(buffer)
        if n not in self.recorded:
            self.recorded[n] = self._record(buffer)
        graph, loss = self.recorded[n]
        graph.replay()
        return loss

    def _on_a_side_stream(self, indices: Tensor) -> Tensor:
        """One real step; off the default stream, to which autograd's accumulators would stay bound."""
        side, main = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            loss = self.step(indices)
        main.wait_stream(side)
        return loss

    def _record(self, indices: Tensor) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """Record a step without taking it."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, pool=self.pool):
            loss = self.step(indices)
        self.pool = graph.pool()
        return graph, loss
