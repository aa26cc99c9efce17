"""Figures of training: the step with its four slots, and the curves of a run."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import MaxNLocator

from .style import BLUE, FONT_SIZE, dress, new_axes

SLOT_QUESTIONS = {  # of each slot, in order: what it decides
    "sampler": "which image next",
    "foreground": "where the object is",
    "mix": "between images",
    "loss": "what a mistake costs",
}
PARTS = {  # of a step, and the widths of their boxes, by the longest words
    "labels": 1.05, "sampler": 1.65, "images": 1.05, "foreground": 2.1, "augment": 1.25, "mix": 1.65, "model": 1.05,
    "loss": 1.65, "step": 1.05,
}  # fmt: skip


def training_step(lit: str | None = None, *, ax: Axes | None = None) -> Axes:
    """The picture of the course: one training step with its four slots.

    Args:
        lit: the slot, or "labels", that is filled with colour; None fills all four slots.

    Raises:
        ValueError: `lit` is none of these.
    """
    if lit not in (None, "labels", *SLOT_QUESTIONS):
        raise ValueError(f"lit={lit!r} is not a slot: choose one of {', '.join(SLOT_QUESTIONS)}, or labels")
    ax = ax or new_axes(12, 2)
    text, left = {"ha": "center", "va": "center", "fontsize": FONT_SIZE}, 0.0
    for part, width in PARTS.items():
        slot = part in SLOT_QUESTIONS
        on = part == lit or (lit is None and slot)
        look = {"fc": BLUE if on else "white", "ec": BLUE if on or slot else "0.75", "lw": 2}
        ax.add_patch(FancyBboxPatch((left, -0.35), width, 0.7, boxstyle="round,pad=0,rounding_size=0.12", **look))
        ax.text(left + width / 2, 0, part.upper() if slot else part, color="white" if on else "0.15",
                weight="bold" if slot else "normal", **text)  # fmt: skip
        ax.text(left + width / 2, -0.62, SLOT_QUESTIONS.get(part, ""), color="0.3", **text)
        left += width + 0.32
        if part != "step":
            ax.annotate("", (left - 0.02, 0), (left - 0.3, 0), arrowprops={"arrowstyle": "->", "lw": 1.5})
    ax.set(xlim=(-0.1, left - 0.2), ylim=(-0.85, 0.45))
    ax.axis("off")
    return ax


def training_curves(history: pd.DataFrame, *, axes: Sequence[Axes] | None = None) -> np.ndarray:
    """Training loss and test error by epoch, side by side, with a line where a stage begins.

    Args:
        history: one row per epoch with the columns epoch, stage, train_loss and test_error (a fraction; NaN where
            the test set was not evaluated).
        axes: two axes to draw on, for the loss and for the error.

    Returns:
        (2,) array of axes.

    Raises:
        ValueError: a column is missing, or `history` has no rows.
    """
    missing = {"epoch", "stage", "train_loss", "test_error"} - set(history.columns)
    if missing or history.empty:
        raise ValueError(f"history has {len(history)} rows and lacks the columns {sorted(missing)}: pass fit's history")
    pair = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")[1] if axes is None else np.asarray(axes)
    error = history[["epoch", "test_error"]].dropna()
    line = {"color": BLUE, "linewidth": 2}
    marker = "o" if len(error) <= 40 else None
    pair[0].plot(history["epoch"], history["train_loss"], **line)
    pair[1].plot(error["epoch"], 100 * error["test_error"], marker=marker, markersize=5, **line)

    begins = history[history["stage"] != history["stage"].shift()]
    for ax in pair:
        for epoch, stage in zip(begins["epoch"], begins["stage"], strict=True):
            ax.axvline(epoch - 0.5, color="0.4", linewidth=1, linestyle=":")
            label = stage if isinstance(stage, str) else f"stage {stage}"
            ax.annotate(
                label, (epoch - 0.5, 1), xycoords=("data", "axes fraction"), xytext=(3, 3),
                textcoords="offset points", fontsize=FONT_SIZE, color="0.3",
            )  # fmt: skip
        ax.set_xlim(history["epoch"].to_numpy().min() - 0.5, history["epoch"].to_numpy().max() + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.set_ylim(bottom=0)
    dress(pair[0], xlabel="epoch", ylabel="training loss")
    dress(pair[1], xlabel="epoch", ylabel="top-1 test error (%)")
    return pair
