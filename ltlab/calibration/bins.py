"""Confidence against accuracy, bin by bin of the confidence."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from ..counts import Labels, as_labels_of, as_tensor, check_integer, check_seed
from ..names import one_of

Bins = Literal["width", "mass"]


class Reliability(NamedTuple):
    """The bins of a reliability diagram; `reliability` says what each part is."""

    edges: Tensor  # (M + 1,)
    counts: Tensor  # (M,)
    accuracy: Tensor  # (M,)
    confidence: Tensor  # (M,)

    def gaps(self) -> Tensor:
        """How far accuracy and confidence of every bin are apart, (M,), at least 0; NaN where it is empty."""
        return (self.accuracy - self.confidence).abs()


def reliability(logits: Tensor, labels: Labels, bins: int = 15, equal: Bins = "width") -> Reliability:
    """Accuracy and mean confidence of the images in each bin of the confidence, the largest softmax probability.

    Bin m holds the confidences in (edges[m], edges[m + 1]], the first one also 0. The edges run from 0 to 1: with
    "width" in equal steps, with "mass" so that every bin holds N / M images, as nearly as integers and ties allow.

    Args:
        bins: M, at least 1.
        equal: "width" or "mass".

    Returns:
        edges (M + 1,), counts (M,) int64, accuracy (M,) and confidence (M,), float64 and NaN where a bin is empty.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 2; equal mass: Nixon et al.,
    "Measuring Calibration in Deep Learning", CVPR workshops 2019.
    """
    labels = as_labels_of(logits, labels)
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)  # (N,), (N,)
    return _binned(confidence, predicted == labels, bins, equal)


def expected_calibration_error(logits: Tensor, labels: Labels, bins: int = 15, equal: Bins = "width") -> float:
    """Mean gap between confidence and accuracy over the bins of the confidence.

        ECE = sum_m |B_m| / N * |accuracy(B_m) - confidence(B_m)|,   B_m = {i: edge_{m-1} < p_i <= edge_m}

    with p_i the largest softmax probability of image i and the bins of `reliability`. Confidence equal to the accuracy
    in every bin: 0; always wrong and fully confident: 1; one bin: |accuracy - mean confidence|. A perfectly calibrated
    network has more than 0 too, see `noise_floor`.

    Source: Guo et al., ICML 2017, eq. 3.
    """
    return _expected(reliability(logits, labels, bins, equal))


def maximum_calibration_error(logits: Tensor, labels: Labels, bins: int = 15, equal: Bins = "width") -> float:
    """Largest gap between confidence and accuracy over the bins that hold an image; a single image can decide it.

    At least `expected_calibration_error`, and equal to it for one bin.

    Source: Guo et al., ICML 2017, eq. 5.
    """
    return reliability(logits, labels, bins, equal).gaps().nan_to_num(0).max().item()


def classwise_calibration_error(logits: Tensor, labels: Labels, bins: int = 15, equal: Bins = "width") -> float:
    """Mean over the classes of the calibration error of each one's probability.

        1/C * sum_c sum_m |B_cm| / N * |fraction of label c in B_cm - mean p_c in B_cm|

    with bins over p_c of all images. With many classes nearly all of p_c is near 0, and so is the error.

    Source: Kull et al., "Beyond temperature scaling", NeurIPS 2019, eq. 4.
    """
    labels = as_labels_of(logits, labels)
    p = logits.double().softmax(dim=1).T.contiguous()  # (C, N)
    return sum(_expected(_binned(p_c, labels == c, bins, equal)) for c, p_c in enumerate(p)) / len(p)


def noise_floor(
    num_images: int, bins: int = 15, equal: Bins = "width", *, confidence: Tensor | None = None, draws: int = 100,
    seed: int = 0,
) -> float:  # fmt: skip
    """Expected calibration error of a perfectly calibrated predictor on so many images, the mean of `noise_draws`.

    About sqrt(M / N) times a constant below one: a smaller error, or a smaller difference of two, says little.

    >>> round(noise_floor(100), 2), round(noise_floor(10_000), 3)
    (0.12, 0.012)
    """
    return noise_draws(num_images, bins, equal, confidence=confidence, draws=draws, seed=seed).mean().item()


def noise_draws(
    num_images: int, bins: int = 15, equal: Bins = "width", *, confidence: Tensor | None = None, draws: int = 100,
    seed: int = 0,
) -> Tensor:  # fmt: skip
    """Calibration errors of perfectly calibrated predictors: an image of confidence p is right with probability p.

    Args:
        num_images: N, at least 1.
        bins, equal: see `reliability`.
        confidence: any number of confidences in [0, 1], such as a network's, to draw from with replacement; None draws
            uniformly from [0.1, 1].
        draws: the number of test sets, at least 1.

    Returns:
        (draws,) float64.
    """
    shape = check_integer("draws", draws, least=1), check_integer("num_images", num_images, least=1)
    generator = torch.Generator("cpu").manual_seed(check_seed(seed))

    def uniform() -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64, device="cpu")

    if confidence is None:
        p = 0.1 + 0.9 * uniform()  # (draws, N)
    else:
        known = as_tensor(confidence).detach().cpu().double().flatten()
        if not len(known) or not ((known >= 0) & (known <= 1)).all():
            raise ValueError(f"confidence must hold numbers in [0, 1], got {confidence!r:.80}")
        p = known[torch.randint(len(known), shape, generator=generator, device="cpu")]  # (draws, N)
    right = uniform() < p  # (draws, N)
    return torch.tensor([_expected(_binned(*one, bins, equal)) for one in zip(p, right, strict=True)]).double()


def _binned(confidence: Tensor, right: Tensor, bins: int, equal: Bins) -> Reliability:
    """The bins of confidences (N,) and of whether they were right (N,) bool."""
    m, n = check_integer("bins", bins, least=1), len(confidence)
    if one_of("equal", equal, ("width", "mass")) == "width":
        edges = torch.arange(m + 1, device=confidence.device).double() / m  # (M + 1,)
    else:
        ranks = torch.arange(m + 1, device=confidence.device) * n  # (M + 1,) times M
        edges = confidence.sort().values[(ranks + m - 1) // m - 1]
        edges[0], edges[-1] = 0, 1
    bin_of = torch.bucketize(confidence, edges[1:-1])  # (N,) in 0 .. M - 1; an edge belongs to the bin below it
    counts = torch.bincount(bin_of, minlength=m)

    def mean(values: Tensor) -> Tensor:
        return torch.bincount(bin_of, values.double(), minlength=m) / counts  # 0 / 0 is NaN

    return Reliability(edges, counts, mean(right), mean(confidence))


def _expected(bins: Reliability) -> float:
    return (bins.counts * bins.gaps()).nansum().item() / int(bins.counts.sum())
