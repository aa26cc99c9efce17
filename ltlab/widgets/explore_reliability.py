"""How sure a network is and how often it is right, at any temperature, for all images or for one group."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .. import plots
from ..calibration import (
    brier_score,
    expected_calibration_error,
    maximum_calibration_error,
    negative_log_likelihood,
    noise_floor,
    reliability,
    signed_gap,
)
from ..counts import Labels, as_labels_of, in_class_order
from ..metrics import class_groups
from .explorer import Explorer, blank_figure
from .panels import SIGNS, TITLE, plot_at
from .sliders import choice, slider, stops

BINS = (1, 2, 5, 10, 15, 20, 30, 50, 100)
EQUAL = (("equal width", "width"), ("equal mass", "mass"))
NOISE_DRAWS = 10  # of the noise floor: its mean is then known to a tenth or so, within a frame


def reliability_explorer(
    logits: Mapping[str, Tensor], labels: Labels, class_counts: Any, *, temperature: float = 1.0, bins: int = 15
) -> Explorer:
    """Reliability diagrams of one or two trained networks, with the logits divided by a temperature.

    Controls: temperature (0.25 to 4), bins, equal width or mass, and the group of the images' true classes.

    Orange is over-confident, blue under-confident; black lines are where a perfectly calibrated network's bins lie. The
    text adds the metrics of each network and the noise floor, its calibration error if it were perfectly calibrated.

    Args:
        logits: network's name -> (N, C) logits of the same test images.
        labels: (N,) class indices.
        class_counts: (C,) training images per class.
        temperature, bins: where the sliders start.

    Raises:
        ValueError: other than one or two networks, shapes that do not fit, probabilities in place of logits, or a
            start that is not on its slider.
    """
    if not 1 <= len(logits) <= 2:
        raise ValueError(f"logits must hold one or two networks, {{name: (N, C)}}, got {len(logits)}")
    scores = {name: z.detach().cpu().double() for name, z in logits.items()}
    y = next(as_labels_of(z, labels) for z in scores.values())
    counts = in_class_order(class_counts).cpu()
    if any(z.shape != (len(y), len(counts)) for z in scores.values()):
        shapes = ", ".join(str(tuple(z.shape)) for z in scores.values())
        raise ValueError(f"logits must be ({len(y)}, {len(counts)}) for these labels and class_counts, got {shapes}")
    members = {"all": torch.ones(len(y), dtype=torch.bool)}
    members |= {name: mask[y] for name, mask in class_groups(counts).items() if mask[y].any()}
    figure = blank_figure(1000, 464)
    width = 905 if len(scores) == 1 else 410
    diagrams = []
    for place, name in enumerate(scores):
        above = plot_at(figure, 70 + 495 * place, 58, width, 250)
        below = plot_at(figure, 70 + 495 * place, 340, width, 65)
        above.set_title(name, pad=26, **TITLE)
        above.legend(handles=plots.gap_signs(), **SIGNS)
        diagrams.append(plots.ReliabilityBars(above, below))

    def update(temperature: float, bins: int, equal: Any, group: str) -> str:
        chosen, said = members[group], []
        for (name, z), diagram in zip(scores.items(), diagrams, strict=True):
            scaled = z[chosen] / temperature
            diagram.show(reliability(scaled, y[chosen], bins, equal))
            said.append(f"{name}: {_metrics(scaled, y[chosen], bins, equal)}")
        return (
            f"T = {temperature:.2f}, {bins} bins, images of {group} classes ({int(chosen.sum()):,}). {'; '.join(said)}"
        )

    controls = {
        "temperature": slider("temperature", temperature, 0.25, 4, 0.05, readout_format=".2f"),
        "bins": stops("bins", bins, BINS),
        "equal": choice("bins of", EQUAL),
        "group": choice("group", members),
    }
    label = "Accuracy against confidence, and images per bin of the confidence"
    return Explorer(controls, figure, update, moving=diagrams, label=label)


def _metrics(logits: Tensor, labels: Tensor, bins: int, equal: Any) -> str:
    """The metrics of logits in one line."""
    confidence = logits.softmax(1).amax(1)
    everything = {"all": torch.ones(logits.shape[1], dtype=torch.bool)}
    gap, nll = signed_gap(logits, labels, everything)["all"], negative_log_likelihood(logits, labels)
    ece = expected_calibration_error(logits, labels, bins, equal)
    floor = noise_floor(len(labels), bins, equal, confidence=confidence, draws=NOISE_DRAWS)
    highest = maximum_calibration_error(logits, labels, bins, equal)
    return (
        f"ECE {100 * ece:.1f} % (noise {100 * floor:.1f}), MCE {100 * highest:.0f} %, confidence minus accuracy "
        f"{100 * gap:+.1f}, NLL {nll:.2f}, Brier {brier_score(logits, labels):.2f}"
    )
