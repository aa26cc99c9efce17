"""A cosine head on kept features: what its temperature, a correction for the prior and shrunk class means do."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ..classifiers import SCALE, class_means
from ..losses import adjust_logits
from .explorer import Explorer, blank_figure
from .panels import REFERENCE, TITLE, ByGroup, GroupBars, OverTau
from .sliders import choice, slider, stops

SCALES = (1, 2, 5, 10, 20, 30, 50, 100)
IMAGES = (0, 1, 3, 10, 30, 100, 300, 1000)
TAUS = torch.linspace(0, 2, 21)
MEANS, LEARNT = "class means", "learnt weights"


def cosine_explorer(
    train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], class_counts: Any, learnt: Tensor | None = None
) -> Explorer:
    """Error and confidence of a head of scaled cosines, corrected for the training prior.

        z_c = s cos(x, w_c) - tau log pi_c,   w_c = (n_c m_c + k m) / (n_c + k),   m_c the class means, m their mean

    Controls: the weights, class means or `learnt`; s, one over the temperature; tau; k, the images' worth of the common
    mean that every class mean is mixed with, which the learnt weights do not have. Outlines: class means at s = 30, tau
    and k zero. Right, the balanced error over tau.

    Args:
        train, test: features (N, K) and labels (N,), of every class.
        class_counts: (C,) training images per class, above zero.
        learnt: (C, K) weights of a trained cosine classifier; None leaves that choice out.

    Raises:
        ValueError: bad counts, a class without an image, or weights of another shape.
    """
    head = _Head(train, test, class_counts, learnt)
    before = head.logits(MEANS, SCALE, 0.0, 0)
    figure = blank_figure(1000, 360)
    errors = GroupBars(figure, 62, 250, head.errors(before), "top-1 error (%)")
    gaps = GroupBars(figure, 392, 250, head.gaps(before), "confidence − accuracy (points)", ylim=(-80, 100))
    gaps.ax.axhline(0, **REFERENCE)
    errors.ax.set_title("outlines: plain class means", **TITLE)
    curve = OverTau(figure, TAUS, (0, 100), xlabel="tau", ylabel="balanced error (%)")

    def update(weights: str, scale: float, tau: float, images: int) -> str:
        z = head.logits(weights, scale, tau, images)
        error, gap = head.errors(z), head.gaps(z)
        errors.show(error.values())
        gaps.show(gap.values(), "+.0f")
        best = curve.show(head.over_tau(weights, scale, images), tau)
        shown = ", ".join(f"{name} {value:.1f} %" for name, value in error.items())
        confident = ", ".join(f"{name} {value:+.0f}" for name, value in gap.items())
        return (
            f"{weights}, s {scale:g}, tau {tau:.1f}, k {images}: error of {shown}; confidence minus accuracy "
            f"{confident} points; the balanced error is least at tau {best:.1f}"
        )

    controls: dict[str, Any] = {
        "weights": choice("weights", [MEANS] if learnt is None else [MEANS, LEARNT]),
        "scale": stops("scale", 30, SCALES, description="scale s = 1 / T"),
        "tau": slider("tau", 0.0, 0, 2, 0.1),
        "images": stops("images", 0, IMAGES, description="shrinkage k"),
    }
    label = "Error and confidence by group of a cosine head on kept features"
    return Explorer(controls, figure, update, moving=[errors, gaps, curve], label=label)


class _Head(ByGroup):
    """The head's logits, and what they say in percent by group."""

    def __init__(
        self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], class_counts: Any, learnt: Tensor | None
    ) -> None:
        (seen, seen_labels), (shown, labels) = train, test
        super().__init__(labels, class_counts)
        self.means = class_means(seen.detach().cpu().float(), seen_labels.cpu(), len(self.counts))  # (C, K)
        self.x = F.normalize(shown.detach().cpu().float())  # (M, K)
        if learnt is not None and learnt.shape != self.means.shape:
            raise ValueError(f"learnt must be {tuple(self.means.shape)}, a row per class, got {tuple(learnt.shape)}")
        self.learnt = None if learnt is None else learnt.detach().cpu().float()
        self.log_prior = (self.counts / self.counts.sum()).log().float()  # (C,)
        self.share = 1 / (len(self.images) * self.images[self.labels].float())  # (M,), every class alike

    def cosines(self, weights: str, images: int) -> Tensor:
        """(M, C)"""
        n = self.counts[:, None].float()
        w = (n * self.means + images * self.means.mean(0)) / (n + images)
        return self.x @ F.normalize(w if weights == MEANS or self.learnt is None else self.learnt).T

    def logits(self, weights: str, scale: float, tau: float, images: int) -> Tensor:
        return adjust_logits(scale * self.cosines(weights, images), self.counts, tau)

    def over_tau(self, weights: str, scale: float, images: int) -> Tensor:
        """The balanced error in percent at each of `TAUS`, (T,)."""
        plain = scale * self.cosines(weights, images)
        predicted = (plain - TAUS[:, None, None] * self.log_prior).argmax(2)  # (T, M)
        wrong = (predicted != self.labels).float()
        return 100 * wrong @ self.share
