"""Re-sampling: how likely each class is, how often each image comes back, and a batch of the sampler."""

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..data import LongTailedData, load
from ..samplers import PowerSampler, ProgressivelyBalancedSampler, ReversedSampler
from .explorer import Explorer, blank_figure
from .panels import TITLE, Bars, ByFrequency, axes_at, check_bars, plot_at
from .pixels import Pixels, show_pixels
from .sliders import choice, slider

BATCH_COLUMNS, BATCH_ROWS = 8, 6  # images of a batch


def sampling_explorer(
    data: LongTailedData | None = None, *, q: float = 1.0, epochs: int = 30, seed: int = 0
) -> Explorer:
    """What a sampler does to the classes, to the images of a class, and to a batch.

    Controls: sampler, q (of the power sampler) and epoch.

    Top left, the probability of each class; below, how often an epoch of N draws shows one image of it on average,
    N p_j / n_j. Lines: instance-balanced, every image once. Right, the first 48 draws of the epoch, sorted by class,
    framed in the colours of their groups.

    Args:
        data: the training set; shapes-lt if None.
        q: where the slider starts, from 0 to 1.
        epochs: of the training, over which the progressive sampler moves from one end to the other; at least 2.
        seed: of the sampler.

    Raises:
        ValueError: `q` lies outside [0, 1]; `epochs` is less than 2; `data` has a class without training images, or
            more than 200 classes.
    """
    if epochs < 2:
        raise ValueError(f"epochs={epochs}: a progressive sampler needs 2 epochs or more")
    data = data or load("shapes-lt", test_count=1)
    check_bars(len(data.class_names))
    labels, classes = data.train.labels.cpu(), ByFrequency(data.class_counts, data.class_names)
    names = classes.names
    progressive, backwards = ProgressivelyBalancedSampler(labels, epochs, seed=seed), ReversedSampler(labels, seed=seed)
    samplers = {"progressive": progressive, "reversed": backwards}
    figure = blank_figure(1000, 460)
    bars = _ClassBars(figure, classes, highest=backwards.probabilities().max().item())
    picture = _empty_batch(figure)
    frames = np.round([[255 * part for part in to_rgb(c)] for c in classes.colours]).astype(np.uint8)

    def update(sampler: str, q: float, epoch: int) -> str:
        controls["q"].disabled = sampler != "power"
        chosen = PowerSampler(labels, q, seed=seed) if sampler == "power" else samplers[sampler]
        chosen.set_epoch(epoch)
        p = chosen.probabilities()[classes.order]
        times = len(labels) * p / classes.counts
        bars.show(p, times)
        batch = chosen.epoch_indices()[: BATCH_COLUMNS * BATCH_ROWS]
        ranks, first = classes.rank[labels[batch]].sort(stable=True)
        picture.set_data(_framed(data.train.images[batch[first]].cpu(), frames[ranks]))
        title, tail = f"power, q = {q:g}" if sampler == "power" else sampler, (ranks >= len(classes) - 3).sum()
        return (
            f"{title}, epoch {epoch} of 0 to {epochs - 1}: {names[0]} is {p[0]:.1%} of the draws and each of its "
            f"images is drawn {times[0]:.2g} times, {names[-1]} is {p[-1]:.1%} and each {times[-1]:.3g} times; "
            f"{tail} of the {len(batch)} images shown are of the 3 least frequent classes"
        )

    controls = {
        "sampler": choice("sampler", ("power", *samplers)),
        "q": slider("q", q, 0, 1, 0.05),
        "epoch": slider("epoch", 0, 0, epochs - 1, 1),
    }
    label = "Class probabilities, repeats of an image, and a drawn batch"
    return Explorer(controls, figure, update, moving=[bars, picture], label=label)


class _ClassBars:
    """The probability of each class, and how often an epoch shows one image of it, most frequent class first."""

    def __init__(self, figure: Figure, classes: ByFrequency, highest: float) -> None:
        counts, n = classes.counts, len(classes)
        above = plot_at(figure, 85, 18, 400, 166, ylabel="probability")
        below = plot_at(figure, 85, 214, 400, 166, ylabel="times per epoch")
        plain = counts / counts.sum()
        self.fractions = _bars(above, plain, classes.colours)
        self.repeats = _bars(below, torch.ones(n), classes.colours, bottom=1)  # up from once per epoch, or down
        above.set(ylim=(0, 1.1 * max(plain[0].item(), highest)), xticks=range(n), xticklabels=[])
        imbalance, most = (counts[0] / counts[-1]).item(), counts.sum().item() * highest / counts[-1].item()
        below.set(yscale="log", ylim=(0.5 * most / imbalance**2, 2 * most))
        below.yaxis.set_major_formatter("{x:g}")
        plots.name_ticks(below, classes.names, angle=35)
        self.artists = self.fractions.artists + self.repeats.artists

    def show(self, p: Tensor, times: Tensor) -> None:
        self.fractions.show(p)
        self.repeats.show(times - 1)


def _bars(ax: Axes, plain: Tensor, colours: list[str], bottom: int = 0) -> Bars:
    """Coloured bars before the outlines of the instance-balanced ones."""
    bars = Bars(ax, plain - bottom, bottom=bottom, color=colours)
    ax.step(range(-1, len(plain) + 1), [plain[0].item(), *plain.tolist(), plain[-1].item()], where="mid", color="0.3")
    ax.set_xlim(-0.6, len(plain) - 0.4)
    return bars


def _empty_batch(figure: Figure) -> Pixels:
    ax = axes_at(figure, 530, 37, 465, 400)
    ax.set_title(f"the epoch's first {BATCH_COLUMNS * BATCH_ROWS} draws, by class", **TITLE)
    ax.set_axis_off()
    return show_pixels(ax, [[0]], extent=(0, BATCH_COLUMNS, BATCH_ROWS, 0))


def _framed(images: Tensor, frames: np.ndarray) -> np.ndarray:
    """uint8 images (N, 3, H, W), N at most 48, in rows, each in a frame of its colour, (N, 3) -> (R, S, 3)."""
    n, _, h, w = images.shape
    edge = -(-w // 16)
    cells = np.full((n, h + 4 * edge, w + 4 * edge, 3), 255, dtype=np.uint8)
    cells[:, edge:-edge, edge:-edge] = frames[:, None, None]
    cells[:, 2 * edge : -2 * edge, 2 * edge : -2 * edge] = images.permute(0, 2, 3, 1)
    return plots.mosaic(cells, BATCH_ROWS, BATCH_COLUMNS)
