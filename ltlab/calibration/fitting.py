"""What is fitted to logits: a temperature, a scale and a bias per class, the prior of unlabelled images."""

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
    z, labels, w = _held_out(logits, labels, weight)
    z = z - z.gather(1, labels[:, None])  # (N, C), 0 for the label
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


def fit_vector_scaling(logits: Tensor, labels: Labels, weight: ClassCounts | None = None) -> tuple[Tensor, Tensor]:
    """Scale and bias of each class, fitted to held-out images around the best temperature T.

        p = softmax(scale z + bias);   argmin -sum_i w_{y_i} log p_{iy_i} + sum_c ((T scale_c - 1)^2 + bias_c^2) / 200

    with weights of mean one: the most likely values if T scale - 1 and bias are normal, mean 0 and standard deviation
    10, which keeps them finite where a class is separated from the others. A temperature is one scale and no bias; it
    cannot mend a gap that is opposite in head and tail. Convex; logits times three give scales divided by three, and
    biases sum to zero. Two numbers are fitted per class: with few images of each, a temperature is better.

    Args:
        logits, weight: as for `fit_temperature`.
        labels: of held-out images, with every class among them.

    Returns:
        scale, bias: (C,) float64 each, on the device of the logits.

    Raises:
        ValueError: a class without an image or of weight 0; otherwise as `fit_temperature`.

    Source: Guo et al., "On Calibration of Modern Neural Networks", ICML 2017, section 4.2; for priors, Alexandari,
    Kundaje and Shrikumar, "Maximum Likelihood with Bias-Corrected Calibration is Hard-To-Beat at Label Shift
    Adaptation", ICML 2020. The penalty is ours.
    """
    z, labels, w = _held_out(logits, labels, weight)
    of_class = z.new_zeros(z.shape[1]).index_add_(0, labels, w)
    if not (of_class > 0).all():
        raise ValueError(
            f"labels must have every class, with a weight above 0, class {int(of_class.argmin())} has none"
        )
    z = z / (temperature := fit_temperature(logits, labels, weight))
    scale, bias = z.new_ones(z.shape[1], requires_grad=True), z.new_zeros(z.shape[1], requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [scale, bias], max_iter=1000, tolerance_grad=1e-9, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimizer.zero_grad()
        log_p = (scale * z + bias).log_softmax(1).gather(1, labels[:, None])[:, 0]
        value = ((scale - 1).square().sum() + bias.square().sum()) / (200 * len(z)) - (w * log_p).sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    return scale.detach() / temperature, bias.detach()


def _held_out(logits: Tensor, labels: Labels, weight: ClassCounts | None) -> tuple[Tensor, Tensor, Tensor]:
    """Checked logits (N, C) in float64, labels (N,), and the weight (N,) of every image, sum 1."""
    labels = as_labels_of(logits, labels)
    if len(labels) < 2 or not logits.isfinite().all():
        raise ValueError(f"logits must be finite and of at least two images, got {tuple(logits.shape)}")
    return logits.detach().double(), labels, _image_weights(weight, labels, logits.shape[1])


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
    calibrated under the training prior, class by class: `fit_vector_scaling` makes them so. Correct the logits by it
    with `ltlab.losses.adjust_logits(target=...)`.

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
