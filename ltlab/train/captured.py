"""The training step without Python: recorded once as a CUDA graph, then replayed.

A batch of 128 small images keeps a large GPU busy for a fraction of the time that Python and the driver need to hand
it the step's several hundred kernels. A CUDA graph hands them over in one call.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

WARM_UP = 3  # steps that are taken eagerly before a recording: they make the buffers and choose the algorithms


class CapturedStep:
    """A training step that is recorded per batch size and replayed: the same arithmetic in the same order.

        step = TrainingStep(...)             # readable, one kernel after another
        take = CapturedStep(step, generator)
        train_epoch(step, split, learning_rate, take)

    The first `WARM_UP` steps of every batch size are real ones, taken as they are written. A batch is copied to where
    the recording reads it. What else it reads must stay where it is: model, optimiser state, masks; a new stage needs
    a new `CapturedStep`, and the optimiser a learning rate that is a tensor, and `fused=True`, else the rate of the
    recording stays for good. The generator advances from replay to replay.

    On the CPU there is nothing to record: every step is taken as it is written, from the same buffers.

    Args:
        step: called with the tensors of a batch, on the generator's device and each with a row per image; returns the
            loss. Nothing in it may wait for the device.
        generator: of the step's draws.

    Source: NVIDIA, "CUDA C++ Programming Guide", CUDA graphs; torch.cuda.CUDAGraph.
    """

    def __init__(self, step: Callable[..., Tensor], generator: torch.Generator) -> None:
        self.step, self.generator, self.device = step, generator, generator.device
        self.sizes: dict[int, _Recording] = {}
        self.pool = None  # of memory, shared by the recordings, of which one runs at a time

    def __call__(self, *batch: Tensor) -> Tensor:
        """Train on a batch; the loss is overwritten by the next call."""
        n = len(batch[0])
        if n not in self.sizes:
            self.sizes[n] = _Recording(tuple(map(torch.empty_like, batch)))
        recording = self.sizes[n]
        for buffer, values in zip(recording.batch, batch, strict=True):
            buffer.copy_(values)
        recording.taken += 1
        if self.device.type != "cuda":
            return self.step(*recording.batch)
        if recording.taken <= WARM_UP:
            return self._on_a_side_stream(recording)
        if recording.graph is None or recording.loss is None:
            recording.graph, recording.loss = self._recorded(recording.batch)
        recording.graph.replay()
        return recording.loss

    def _on_a_side_stream(self, recording: "_Recording") -> Tensor:
        """One real step; off the default stream, to which autograd's accumulators would stay bound."""
        side, main = torch.cuda.Stream(self.device), torch.cuda.current_stream(self.device)
        side.wait_stream(main)
        with torch.cuda.stream(side):
            loss = self.step(*recording.batch)
        main.wait_stream(side)
        return loss

    def _recorded(self, batch: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, Tensor]:
        """A recording of a step, which is not taken, and where its replays write the loss."""
        graph = torch.cuda.CUDAGraph()
        graph.register_generator_state(self.generator)
        with torch.cuda.graph(graph, pool=self.pool):
            loss = self.step(*batch)
        self.pool = graph.pool()
        return graph, loss


@dataclass
class _Recording:
    """A step of one batch size: the buffers that it reads, how often it was taken, and what was recorded."""

    batch: tuple[Tensor, ...]
    taken: int = 0
    graph: torch.cuda.CUDAGraph | None = None
    loss: Tensor | None = None
