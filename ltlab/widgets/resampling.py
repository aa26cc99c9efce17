"""Re-sampling: how likely each class is, how often each image comes back, and a batch as it is drawn."""

from collections.abc import Sequence

import ipywidgets
import torch
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from torch import Tensor

from .. import plots
from ..data import LongTailedData, load
from ..plots.style import dress
from ..samplers import PowerSampler, ProgressivelyBalancedSampler, ReversedSampler
from .bars import Bars
from .explorer import Explorer, blank_figure, choice
from .long_tail import group_colours
from .pixels import Pixels, show_pixels

COLUMNS, ROWS = 8, 6  # images of a batch


def sampling_explorer(
    data: LongTailedData | None = None, *, q: float = 1.0, epochs: int = 30, seed: int = 0
) -> Explorer:
    """What a sampler does to the classes, to the images of a class, and to a batch.

    Controls: sampler, q (of the power sampler) and epoch.

    Left above, the probability of each class; below, how often an epoch of N draws shows one image of it on average,
    N p_j / n_j. Lines: instance-balanced, every image once. Right, the first 48 draws of the epoch, sorted by class,
    framed in the colours of their groups.

    Args:
        data: the training set; shapes-lt if None.
        q: where the slider begins, from 0 to 1.
        epochs: of the training, which the progressive sampler spreads its way over; at least 2.
        seed: of the sampler.

    Raises:
        ValueError: `q` lies outside [0, 1]; `epochs` is less than 2; `data` has a class without training images, or
            more than 200 classes.
    """
    if not 0 <= q <= 1:
        raise ValueError(f"q={q} is not on the slider: choose one from 0 to 1")
    if epochs < 2:
        raise ValueError(f"epochs={epochs}: a progressive sampler takes at least 2 epochs from one end to the other")
    data = data or load("shapes-lt", test_count=1)
    labels, counts = data.train.labels.cpu(), data.class_counts.cpu()
    if len(counts) > plots.BARS_UP_TO:
        raise ValueError(f"data has {len(counts)} classes; the explorer draws a bar each, at most {plots.BARS_UP_TO}")
    order = counts.argsort(descending=True, stable=True)
    counts, names = counts[order], [data.class_names[c] for c in order]
    samplers = {
        "progressive": ProgressivelyBalancedSampler(labels, epochs, seed=seed),
        "reversed": ReversedSampler(labels, seed=seed),
    }
    figure = blank_figure(1000, 460)
    bars = _ClassBars(figure, counts, names, highest=samplers["reversed"].probabilities().max().item())
    picture = _empty_batch(figure.add_axes((0.53, 0.05, 0.465, 0.87)))
    frames = torch.tensor([[round(255 * part) for part in to_rgb(c)] for c in group_colours(counts)], dtype=torch.uint8)

    def update(sampler: str, q: float, epoch: int) -> str:
        controls["q"].disabled = sampler != "power"
        chosen = PowerSampler(labels, q, seed=seed) if sampler == "power" else samplers[sampler]
        chosen.set_epoch(epoch)
        p = chosen.probabilities()[order]
        times = len(labels) * p / counts
        bars.show(p, times)
        batch = chosen.epoch_indices()[: COLUMNS * ROWS]
        ranks, first = order.argsort()[labels[batch]].sort(stable=True)
        picture.set_data(_mosaic(data.train.images[batch[first]].cpu(), frames[ranks]).numpy())
        title = f"power, q = {q:g}" if sampler == "power" else sampler
        rare = (ranks >= len(counts) - 3).sum()
        return (
            f"{title}, epoch {epoch} of 0 to {epochs - 1}: {names[0]} is {p[0]:.1%} of the draws and each of its "
            f"images comes {times[0]:.2g} times, {names[-1]} is {p[-1]:.1%} and each comes {times[-1]:.3g} times; "
            f"{rare} of the {len(batch)} images shown are of the 3 rarest classes"
        )

    controls = {
        "sampler": choice("sampler", ("power", *samplers), width=110),
        "q": ipywidgets.FloatSlider(value=q, max=1, step=0.05, description="q"),
        "epoch": ipywidgets.IntSlider(value=0, max=epochs - 1, description="epoch"),
    }
    label = "Class probabilities, repeats of an image, and a drawn batch"
    return Explorer(controls, figure, update, moving=[*bars.artists, picture], label=label)


class _ClassBars:
    """The probability of each class, and how often an epoch shows one image of it, most frequent class first."""

    def __init__(self, figure: Figure, counts: Tensor, names: Sequence[str], highest: float) -> None:
        above, below = figure.add_axes((0.085, 0.6, 0.4, 0.36)), figure.add_axes((0.085, 0.175, 0.4, 0.36))
        plain, ones, colours = counts / counts.sum(), torch.ones(len(counts)), group_colours(counts)
        self.shares = _bars(above, plain, colours, "probability")
        self.repeats = _bars(below, ones, colours, "times per epoch", bottom=1)  # up from once per epoch, or down
        above.set(ylim=(0, 1.1 * max(plain[0].item(), highest)), xticks=range(len(counts)), xticklabels=[])
        imbalance, most = (counts[0] / counts[-1]).item(), counts.sum().item() * highest / counts[-1].item()
        below.set(yscale="log", ylim=(0.5 * most / imbalance**2, 2 * most))
        below.yaxis.set_major_formatter("{x:g}")
        if len(counts) <= plots.NAMES_UP_TO:
            below.set_xticks(range(len(counts)), names, rotation=35, ha="right", rotation_mode="anchor")
        self.artists = self.shares.artists + self.repeats.artists

    def show(self, p: Tensor, times: Tensor) -> None:
        self.shares.show(p)
        self.repeats.show(times - 1)


def _bars(ax: Axes, plain: Tensor, colours: list[str], ylabel: str, bottom: int = 0) -> Bars:
    """Coloured bars before the outlines of the instance-balanced ones."""
    bars = Bars(ax, range(len(plain)), plain - bottom, bottom=bottom, color=colours)
    ax.step(range(-1, len(plain) + 1), [plain[0].item(), *plain.tolist(), plain[-1].item()], where="mid", color="0.3")
    ax.set_xlim(-0.6, len(plain) - 0.4)
    dress(ax, ylabel=ylabel)
    return bars


def _empty_batch(ax: Axes) -> Pixels:
    picture = show_pixels(ax, [[0]], extent=(0, COLUMNS, ROWS, 0))
    ax.set_title(f"the epoch's first {COLUMNS * ROWS} draws, by class", fontsize=plots.FONT_SIZE, loc="left")
    ax.set_axis_off()
    return picture


def _mosaic(images: Tensor, frames: Tensor) -> Tensor:
    """Images in rows of `COLUMNS`, each in a frame of its colour.

    Shapes: uint8 images (N, 3, H, W), N at most COLUMNS * ROWS, and frames (N, 3) -> (R, S, 3).
    """
    n, _, h, w = images.shape
    edge = -(-w // 16)
    cells = torch.full((COLUMNS * ROWS, h + 4 * edge, w + 4 * edge, 3), 255, dtype=torch.uint8)
    cells[:n, edge:-edge, edge:-edge] = frames[:, None, None]
    cells[:n, 2 * edge : -2 * edge, 2 * edge : -2 * edge] = images.permute(0, 2, 3, 1)
    cells = cells.unflatten(0, (ROWS, COLUMNS)).transpose(1, 2)
    return cells.flatten(2, 3).flatten(0, 1)
