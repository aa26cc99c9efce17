"""Scale, shift and gate of a classifier: what each does to error and confidence, and which shift a loss wants."""

from typing import Any

import torch
from torch import Tensor

from .explorer import Explorer, blank_figure
from .panels import REFERENCE, TITLE, ByGroup, GroupBars, OverTau
from .sliders import slider, stops

TAUS = torch.linspace(0, 2, 21)
LEARNT = "learnt"


def alignment_explorer(logits: Tensor, labels: Tensor, class_counts: Any, gate: Tensor | None = None) -> Explorer:
    """The parts of DisAlign by hand: error and confidence of a trained model whose logits are scaled and shifted.

        z + s ((a - 1) z + b),   b_c = -tau log pi_c,   a_c = (n_c / g)^-tilt,   g the geometric mean of the counts

    Controls: s, the gate, from 0 (as trained) to 1 (for all images), or what was learnt for each image; tau of the
    margin b; tilt of the magnitude a; rho of the loss in the right panel. Outlines: as trained.

    Right, `losses.GeneralizedReweightLoss(rho)` over tau: the tau where it is least is the margin that the loss asks
    for, rho itself where the logits are calibrated. The loss is that of these images, weighted to the training prior.

    Args:
        logits: of test images, (N, C), from plain training.
        labels: (N,) int64, of every class.
        class_counts: (C,) training images per class, above zero.
        gate: (N,) or (N, 1), the gate that was learnt, in [0, 1]; None leaves that choice out.

    Raises:
        ValueError: bad counts, a class without images, a gate outside [0, 1], or shapes that do not fit.
    """
    aligned = _Aligned(logits, labels, class_counts, gate)
    before = aligned.logits(0.0, 0.0, 0.0)
    error, gap = aligned.errors(before), aligned.gaps(before)
    figure = blank_figure(1000, 360)
    errors = GroupBars(figure, 62, 250, error, "top-1 error (%)")
    gaps = GroupBars(figure, 392, 250, gap, "confidence − accuracy (points)", ylim=(-60, 100))
    gaps.ax.axhline(0, **REFERENCE)
    errors.ax.set_title("outlines: as trained", **TITLE)
    loss = OverTau(figure, TAUS, (0.9, 3), xlabel="tau of the margin", ylabel="GRW, least = 1")

    def update(gate: float | str, tau: float, tilt: float, rho: float) -> str:
        now = aligned.logits(gate, tau, tilt)
        error_now, gap_now = aligned.errors(now), aligned.gaps(now)
        errors.show(error_now.values())
        gaps.show(gap_now.values(), "+.0f")
        values = aligned.losses(gate, tilt, rho)
        best = loss.show(values / values.min(), tau)
        shown = ", ".join(f"{name} {value:.1f} %" for name, value in error_now.items())
        confident = ", ".join(f"{name} {value:+.0f}" for name, value in gap_now.items())
        return (
            f"gate {gate}, tau {tau:.1f}, tilt {tilt:+.1f}: error of {shown}; confidence minus accuracy {confident} "
            f"points; GRW with rho {rho:.1f} is least at tau {best:.1f}"
        )

    fixed = [(f"{s / 10:g}", s / 10) for s in range(11)]
    learnt = [] if gate is None else [(LEARNT, LEARNT)]
    controls: dict[str, Any] = {
        "gate": stops("gate", 1.0, [*fixed, *learnt], description="gate s"),
        "tau": slider("tau", 0.0, 0, 2, 0.1, description="tau of the margin"),
        "tilt": slider("tilt", 0.0, -0.5, 0.5, 0.1, description="tilt of the magnitude"),
        "rho": slider("rho", 1.2, 0, 2, 0.1, description="rho of the loss"),
    }
    label = "Error and confidence by group after scaling and shifting logits behind a gate"
    return Explorer(controls, figure, update, moving=[errors, gaps, loss], label=label)


class _Aligned(ByGroup):
    """What the explorer shows of logits, in percent by group and as a loss; nothing of it runs a network."""

    def __init__(self, logits: Tensor, labels: Tensor, class_counts: Any, gate: Tensor | None) -> None:
        super().__init__(labels, class_counts)
        self.z = logits.detach().cpu().float()  # (N, C)
        self.gate = None if gate is None else _checked(gate, len(self.z))  # (N, 1)
        self.margin = -(self.counts / self.counts.sum()).log().float()  # (C,), at tau 1
        self.relative = (self.counts.log() - self.counts.log().mean()).float()  # (C,), log n_c / g
        self.frequency = (self.counts / self.counts.sum() / self.images)[self.labels].float()  # (N,), sum 1

    def logits(self, gate: float | str, tau: float, tilt: float) -> Tensor:
        scaled, s = self._parts(gate, tilt)
        return self.z + s * (scaled + tau * self.margin)

    def _parts(self, gate: float | str, tilt: float) -> tuple[Tensor, Tensor | float]:
        """(a - 1) z, (N, C), and s."""
        s = self.gate if isinstance(gate, str) and self.gate is not None else float(gate)
        return ((-tilt * self.relative).exp() - 1) * self.z, s

    def losses(self, gate: float | str, tilt: float, rho: float) -> Tensor:
        """GRW at each of `TAUS`."""
        scaled, s = self._parts(gate, tilt)
        weight = self.frequency * self.counts[self.labels].float() ** -rho
        weight = weight / weight.sum()
        start, step = self.z + s * scaled, s * self.margin  # logits are start + tau step
        logits = start + TAUS[:, None, None] * step  # (T, N, C)
        own = logits.gather(2, self.labels.expand(len(TAUS), -1)[..., None])[..., 0]
        return ((logits.logsumexp(2) - own) * weight).sum(1)  # (T,)


def _checked(gate: Tensor, images: int) -> Tensor:
    s = gate.detach().cpu().float().reshape(-1, 1)
    if len(s) != images or not ((s >= 0) & (s <= 1)).all():
        raise ValueError(f"gate must be {images} numbers in [0, 1], one per image, got {tuple(gate.shape)}")
    return s
