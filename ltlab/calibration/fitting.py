"""What is fitted to logits after training: one temperature for all, or the prior of unlabelled images."""

import torch
from torch import Tensor

from ..counts import ClassCounts, Labels, as_labels_of, as_prior, check_scores, in_class_order


def fit_temperature(logits: Tensor, labels: Labels, weight: ClassCounts | None = None) -> float:
    """Temperature with the least negative log-likelihood on held-out images, argmin_T -mean_i w_{y_i} log p_{iy_i}.

        p = softmax(z / T);   T > 1 softens, T < 1 sharpens, and no prediction changes

    Convex in 1 / T: found by Newton's steps within a bracket. Logits times three give T times three. On the training
    images T says nothing, since the network has been fitted to them.

    Args:
        logits: of held-out images, at least two, finite.
        weight: (C,) numbers of at least 0, such as 1 / n_c for a balanced test set where the held-out images are
            long-tailed; None weighs every image alike.

    Raises:
        ValueError: no T is best: every label has the largest logit (T = 0 would be), or labels have on average no
            larger logits than other classes (T infinite would be).

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2.
    """
    labels = as_labels_of(logits, labels)
    if len(labels) < 2 or not logits.isfinite().all():
        raise ValueError(f"logits must be finite and of at least two images, got {tuple(logits.shape)}")
    w = _image_weights(weight, labels, logits.shape[1])  # (N,), sum 1
    z = logits.double() - logits.double().gather(1, labels[:, None])  # (N, C), 0 for the label
    if not (z.amax(1) * w).any():
        raise ValueError("logits separate the classes: every label's is the largest; fit on held-out, harder images")
    if not (z.mean(1) * w).sum() < 0:
        raise ValueError("logits must be larger for the label than for other classes on average; are labels in order?")

    def slopes(beta: float) -> tuple[float, float]:
        """First and second derivative of the loss in beta = 1 / T: mean and variance of the logits under p."""
        p = (beta * z).softmax(1)  # (N, C)
        mean = (p * z).sum(1)  # (N,)
        return (w * mean).sum().item(), (w * ((p * z * z).sum(1) - mean**2)).sum().item()

    low, high = 0.0, 1 / z.abs().max().item()
    while slopes(high)[0] < 0:
        low, high = high, 2 * high
    beta = high
    for _ in range(100):
        slope, curvature = slopes(beta)
        low, high = (beta, high) if slope < 0 else (low, beta)
        newton = beta - slope / curvature if curvature > 0 else low
        last, beta = beta, newton if low < newton < high else (low + high) / 2
        if abs(beta - last) <= 1e-12 * beta:
            break
    return 1 / beta


def _image_weights(weight: ClassCounts | None, labels: Tensor, num_classes: int) -> Tensor:
    """The weight of each image's class (N,) float64, scaled to sum to one."""
    if weight is None:
        return torch.full_like(labels, 1 / len(labels), dtype=torch.float64)
    of_class = in_class_order(weight, "weight").double()
    if len(of_class) != num_classes or not (of_class.isfinite() & (of_class >= 0)).all():
        raise ValueError(
            f"weight must be {num_classes} finite numbers of at least 0, one per class, got {weight!r:.80}"
        )
    weights = of_class.to(labels.device)[labels]
    if not weights.any():
        raise ValueError("weight is 0 for every label: no image counts; give the classes that have images more than 0")
    return weights / weights.sum()


def estimate_prior(logits: Tensor, train_prior: ClassCounts) -> Tensor:
    """Prior of unlabelled images, by expectation-maximisation from the predictions for them.

        p_ic ~ softmax(z_i)_c q_c / pi_c,   q_c <- mean_i p_ic,   starting from q = pi

    The likelihood of q is concave and never falls. What comes out is as good as the probabilities: they must be
    calibrated under the training prior. Correct the logits by it with `ltlab.losses.adjust_logits(target=...)`.

    Args:
        logits: of unlabelled images, from a network trained on the prior pi without a correction for it.
        train_prior: (C,), pi: fractions above 0 that sum to one.

    Returns:
        (C,) float64 that sums to one.

    Source: Saerens, Latinne and Decaestecker, "Adjusting the Outputs of a Classifier to New a Priori Probabilities",
    Neural Computation, 2002, eq. 2.9.
    """
    check_scores(logits)
    prior = positive_prior("train_prior", train_prior, logits)  # (C,)
    ratio = (logits.double() - prior.log()).softmax(1)  # (N, C), softmax(z) / pi, each row scaled
    q = prior
    for _ in range(1000):
        posterior = ratio * q / (ratio @ q)[:, None]  # (N, C)
        last, q = q, posterior.mean(0)
        if (q - last).abs().max() <= 1e-7:
            break
    return q


def positive_prior(name: str, prior: ClassCounts | None, logits: Tensor) -> Tensor:
    """A prior without zeros (C,) on the device of the logits (N, C); see `as_prior` for the errors."""
    if prior is None:
        raise ValueError(f"{name} must be given: the fraction of each class in the training set")
    values = as_prior(name, prior, logits.shape[1]).to(logits.device)
    if not (values > 0).all():
        raise ValueError(f"{name} must be above 0 for every class, got 0 for class {int(values.argmin())}")
    return values
