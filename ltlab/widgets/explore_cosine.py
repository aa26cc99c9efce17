"""A cosine head on kept features: what its temperature, a correction for the prior and shrunk class means do."""

from typing import Any

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor

from .. import calibration, plots
from ..classifiers import SCALE, class_means
from ..counts import as_counts
from ..losses import adjust_logits
from ..metrics import class_groups, group_accuracy, top1_error
from .explorer import Explorer, blank_figure
from .panels import REFERENCE, TITLE, GroupBars, plot_at
from .sliders import choice, slider, stops

SCALES = (1, 2, 5, 10, 20, 30, 50, 100)
IMAGES = (0, 1, 3, 10, 30, 100, 300, 1000)
TAUS = torch.linspace(0, 2, 21)
MEANS, LEARNT = "class means", "learnt weights"
CURVE = plots.GROUP_COLOURS["many"]


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
    curve = _Curve(figure)

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


class _Head:
    """The head's logits, and what they say in percent by group."""

    def __init__(
        self, train: tuple[Tensor, Tensor], test: tuple[Tensor, Tensor], class_counts: Any, learnt: Tensor | None
    ) -> None:
        (seen, seen_labels), (shown, self.labels) = train, test
        self.counts = as_counts(class_counts).cpu()
        self.means = class_means(seen.detach().cpu().float(), seen_labels.cpu(), len(self.counts))  # (C, K)
        self.x, self.labels = F.normalize(shown.detach().cpu().float()), self.labels.cpu()  # (M, K), (M,)
        if (missing := torch.bincount(self.labels, minlength=len(self.counts)) == 0).any():
            raise ValueError(f"test: class {int(missing.int().argmax())} has no image")
        if learnt is not None and learnt.shape != self.means.shape:
            raise ValueError(f"learnt must be {tuple(self.means.shape)}, a row per class, got {tuple(learnt.shape)}")
        self.learnt = None if learnt is None else learnt.detach().cpu().float()
        self.log_prior = (self.counts / self.counts.sum()).log().float()  # (C,)
        images = torch.bincount(self.labels)
        self.share = 1 / (len(images) * images[self.labels].float())  # (M,), every class alike
        groups = {name: mask for name, mask in class_groups(self.counts).items() if mask.any()}
        self.groups = {"all": torch.ones_like(self.counts, dtype=torch.bool)} | groups

    def cosines(self, weights: str, images: int) -> Tensor:
        """(M, C)"""
        n = self.counts[:, None].float()
        w = (n * self.means + images * self.means.mean(0)) / (n + images)
        return self.x @ F.normalize(w if weights == MEANS or self.learnt is None else self.learnt).T

    def logits(self, weights: str, scale: float, tau: float, images: int) -> Tensor:
        return adjust_logits(scale * self.cosines(weights, images), self.counts, tau)

    def over_tau(self, weights: str, scale: float, images: int) -> list[float]:
        """The balanced error in percent at each of `TAUS`."""
        plain = scale * self.cosines(weights, images)
        predicted = (plain - TAUS[:, None, None] * self.log_prior).argmax(2)  # (T, M)
        wrong = (predicted != self.labels).float()
        return (100 * wrong @ self.share).tolist()

    def errors(self, logits: Tensor) -> dict[str, float]:
        accuracy = group_accuracy(logits, self.labels, self.counts)
        return {"all": 100 * top1_error(logits, self.labels)} | {
            name: 100 * (1 - accuracy[name]) for name in self.groups if name != "all"
        }

    def gaps(self, logits: Tensor) -> dict[str, float]:
        return {name: 100 * gap for name, gap in calibration.signed_gap(logits, self.labels, self.groups).items()}


class _Curve:
    """The balanced error over tau, its least value, and where the slider stands."""

    def __init__(self, figure: Figure) -> None:
        self.ax = plot_at(figure, 722, 38, 256, 266, xlabel="tau", ylabel="balanced error (%)")
        self.ax.set(xlim=(0, 2), ylim=(0, 100), xticks=[0, 0.5, 1, 1.5, 2])
        self.ax.set_title("line: least; dot: the slider", **TITLE)
        (self.curve,) = self.ax.plot([], [], color=CURVE)
        (self.least,) = self.ax.plot([], [], **REFERENCE, linestyle="--")
        (self.here,) = self.ax.plot([], [], color=CURVE, marker="o", markersize=8, linestyle="")
        self.artists = [self.curve, self.least, self.here]

    def show(self, errors: list[float], tau: float) -> float:
        """Draw the curve; the tau of its least value."""
        best = TAUS[int(torch.tensor(errors).argmin())].item()
        self.curve.set_data(TAUS.tolist(), errors)
        self.least.set_data([best, best], [0, 100])
        self.here.set_data([tau], [errors[int((TAUS - tau).abs().argmin())]])
        return best
