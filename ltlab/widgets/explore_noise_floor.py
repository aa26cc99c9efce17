"""The calibration error of a network that has none: what few images and many bins make of it."""

from functools import cache

import torch
from torch import Tensor

from .. import plots
from ..calibration import Reliability, expected_calibration_error, noise_draws, reliability
from .explorer import Explorer, blank_figure
from .panels import REFERENCE, SIGNS, TITLE, Bars, plot_at
from .sliders import slider, stops

IMAGES, BINS = (50, 100, 200, 500, 1000, 2000, 5000, 10_000), (1, 2, 5, 10, 15, 20, 50, 100)
DRAWS = 200  # test sets in the histogram
CLASSES = 10  # of the perfectly calibrated predictor: no confidence is below 1 / CLASSES


def noise_floor_explorer(*, num_images: int = 2000, bins: int = 15) -> Explorer:
    """A perfectly calibrated predictor on test sets drawn again and again: its calibration error is never 0.

    Controls: images in a test set, bins of equal width, and the test set, of which each is another draw. Left, the
    reliability diagram of one test set; right, the calibration errors of 200 others, and their mean, the noise floor.

    The confidences are uniform on [0.1, 1], as in `calibration.noise_floor`.

    Args:
        num_images, bins: where the sliders start.

    Raises:
        ValueError: a start that is not on its slider.
    """
    figure = blank_figure(1000, 464)
    above = plot_at(figure, 70, 58, 410, 250)
    diagram = plots.ReliabilityBars(above, plot_at(figure, 70, 340, 410, 65))
    above.set_title("one test set", pad=26, **TITLE)
    above.legend(handles=plots.gap_signs(), **SIGNS)
    edges = torch.logspace(-1, 2, 46, dtype=torch.float64)  # percent
    ax = plot_at(figure, 560, 58, 415, 347, xlabel="expected calibration error (%)", ylabel=f"of {DRAWS} test sets")
    ax.set(xscale="log", xlim=(0.1, 100), ylim=(0, DRAWS))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.set_title("errors of a perfect predictor; dashed: their mean", **TITLE)
    histogram = Bars(ax, [0] * 45, x=edges[:-1], width=edges.diff(), align="edge", color="0.6", edgecolor="white")
    floor, here = ax.axvline(0, **REFERENCE, linestyle="--"), ax.axvline(0, color=plots.GROUP_COLOURS["few"])

    @cache
    def errors(num_images: int, bins: int) -> Tensor:
        return noise_draws(num_images, bins, draws=DRAWS)

    def update(num_images: int, bins: int, test_set: int) -> str:
        drawn, error = _perfect(num_images, bins, test_set)
        many = errors(num_images, bins)
        diagram.show(drawn)
        histogram.show(torch.histogram(100 * many, edges).hist)
        mean, low, high = (100 * x.item() for x in (many.mean(), many.quantile(0.025), many.quantile(0.975)))
        floor.set_xdata([mean] * 2)
        here.set_xdata([100 * error] * 2)
        return (
            f"{num_images:,} images, {bins} bins: a perfectly calibrated predictor has an error of {100 * error:.1f} % "
            f"on test set {test_set} (red line), {mean:.1f} % on average, 95 % of them {low:.1f} to {high:.1f} %"
        )

    controls = {
        "num_images": stops("num_images", num_images, [(f"{n:,}", n) for n in IMAGES], description="test images"),
        "bins": stops("bins", bins, BINS),
        "test_set": slider("test_set", 3, 1, 30, 1, description="test set"),
    }
    label = "Calibration errors of a perfectly calibrated predictor"
    return Explorer(controls, figure, update, moving=[diagram, histogram, floor, here], label=label)


def _perfect(num_images: int, bins: int, seed: int) -> tuple[Reliability, float]:
    """Bins and calibration error of one test set of which an image of confidence p is right with probability p."""
    generator = torch.Generator("cpu").manual_seed(seed)
    u = torch.rand(2, num_images, generator=generator, dtype=torch.float64, device="cpu")
    p = 1 / CLASSES + (1 - 1 / CLASSES) * u[0]
    rest = ((1 - p) / (CLASSES - 1))[:, None].expand(num_images, CLASSES - 1)
    logits = torch.cat([p[:, None], rest], 1).log()
    labels = (u[1] >= p).long()  # class 0 is predicted; any other is wrong
    return reliability(logits, labels, bins), expected_calibration_error(logits, labels, bins)
