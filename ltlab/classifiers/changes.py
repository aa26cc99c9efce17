"""What a stage may do to the classifier, see the room; and tau of post-hoc adjustment, chosen on held-out images."""

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..counts import ClassCounts, Labels, comparable
from ..images import evaluated
from ..losses import adjust_logits
from ..metrics import error_under
from .kinds import Change
from .layers import SCALE, AlignedClassifier, CosineClassifier, ScaledLinear, WeightScaling, linear_of


@Change(needs=("linear", "cosine", "cosine_learnt"))
def fresh(model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor) -> nn.Module:
    """A classifier of the same kind with new random weights (cRT then trains it alone, class-balanced).

    They are drawn from torch's default generator, which a run seeds.
    """
    classifier = copy.deepcopy(model.get_submodule("classifier"))
    reset = getattr(classifier, "reset_parameters", None)
    if reset is None:
        raise ValueError(f"{type(classifier).__name__} has no reset_parameters(), which a fresh classifier needs")
    reset()
    return classifier


@Change(needs=("linear",))
def with_prior(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, prior: float = 0.01
) -> nn.Linear:
    """A new linear classifier whose sigmoids are near `prior` at first: W ~ N(0, 0.01^2), b = log(prior / (1 - prior)).

    With sigmoids most answers are no; a low start keeps the many negatives from filling the first steps. The weights
    are drawn from torch's default generator, which a run seeds.

    Raises:
        ValueError: a prior outside (0, 1).

    Source: Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, section 3.3.
    """
    if not 0 < comparable(prior) < 1:
        raise ValueError(f"prior={prior!r} must be a probability between 0 and 1")
    classifier = copy.deepcopy(_linear(model, "with_prior"))
    nn.init.normal_(classifier.weight, std=0.01)
    nn.init.constant_(classifier.bias, math.log(prior / (1 - prior)))
    return classifier


@Change(needs=("linear",), leaves="cosine")
def cosine(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, scale: float = 20.0
) -> CosineClassifier:
    """A new `CosineClassifier` with this scale, above 0 and not 1, in the place of a linear one."""
    weight = _linear(model, "cosine").weight
    return CosineClassifier(weight.shape[1], weight.shape[0], scale)


@Change(needs=("linear",), leaves="scaled")
def weight_scaling(model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor) -> WeightScaling:
    """The model's classifier, frozen, with a learnable factor per class; see `WeightScaling`."""
    return WeightScaling(_linear(model, "weight_scaling"))


@Change(needs=("linear",))
def tau_normalised(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, tau: float = 1.0
) -> nn.Linear:
    """The model's classifier with the weights of `tau_normalised_weight`, and no bias."""
    weight = tau_normalised_weight(_linear(model, "tau_normalised").weight.detach(), tau)
    return linear_of(weight, bias=None)


def tau_normalised_weight(weight: Tensor, tau: float = 1.0) -> Tensor:
    """Class weights with their norms evened out, w_c / |w_c|^tau.

    Args:
        weight: (C, K) of a trained linear classifier.
        tau: in [0, 1]; 0 leaves the weights unchanged, 1 makes every norm 1.

    Returns:
        (C, K). A weight of zeros stays zeros.

    Raises:
        ValueError: tau outside [0, 1].

    Source: Kang et al., ICLR 2020, section 4.2, tau-normalized classifier. The bias is dropped, as there.
    """
    if not 0 <= comparable(tau) <= 1:
        raise ValueError(f"tau={tau!r}: it must be from 0 (as trained) to 1 (all norms 1)")
    norms = weight.norm(dim=1, keepdim=True)  # (C, 1)
    return weight / torch.where(norms > 0, norms, 1) ** tau


@Change(leaves="cosine")
def nearest_class_mean(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, crop: int | None = None
) -> CosineClassifier:
    """Scaled cosines to the mean training feature of every class, so that the nearest in angle is predicted (NCM).

    Features are those of the training images as evaluation shows them, see `classifier_inputs`.
    """
    features = classifier_inputs(model, images, crop=crop)  # (N, K)
    classifier = CosineClassifier(features.shape[1], len(class_counts), SCALE).to(features.device)
    classifier.weight.data = class_means(features, labels, len(class_counts))
    return classifier


def class_means(features: Tensor, labels: Tensor, num_classes: int) -> Tensor:
    """Mean feature of every class, (N, K) and (N,) -> (C, K).

    Raises:
        ValueError: a class without an image.
    """
    counts = torch.bincount(labels, minlength=num_classes)
    if (counts == 0).any():
        raise ValueError(f"labels: class {int(counts.argmin())} has no image, so it has no mean")
    wide = torch.float32 if features.device.type == "mps" else torch.float64  # which MPS does not have
    sums = torch.zeros(num_classes, features.shape[1], dtype=wide, device=features.device)
    sums.index_add_(0, labels, features.to(wide))
    return (sums / counts[:, None]).to(features.dtype)


@Change(needs=("linear",), adjusts_prior=True)
def logit_adjusted(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, tau: float = 1.0
) -> nn.Linear:
    """The model's classifier with the bias b_c - tau log pi_c: post-hoc logit adjustment, see `losses.adjust_logits`.

    tau = 0 leaves the logits unchanged. For models trained with cross-entropy; balanced softmax and the logit-adjusted
    loss have the correction already.
    """
    classifier = _linear(model, "logit_adjusted")
    bias = torch.zeros_like(classifier.weight[:, 0]) if classifier.bias is None else classifier.bias
    return linear_of(classifier.weight.detach(), adjust_logits(bias.detach(), class_counts, tau))


def classifier_inputs(model: nn.Module, images: Tensor, *, crop: int | None = None, batch_size: int = 500) -> Tensor:
    """What the classifier receives for un-augmented images in evaluation mode, recorded by a hook on it.

    Args:
        model: from float images in [0, 1] to logits; its classifier takes (n, K).
        images: (N, 3, H, W), uint8, in memory or on disk, or float in [0, 1].
        crop: take the centre of every image, so many pixels wide and high; None takes the whole.
        batch_size: images per forward pass.

    Returns:
        (N, K) float32 on the model's device.

    Raises:
        ValueError: images that are something else, or smaller than `crop`, see `images.as_evaluated`.
    """
    taken = []

    def inputs_of(batch: Tensor) -> Tensor:
        model(batch)
        return taken.pop()

    classifier = model.get_submodule("classifier")
    with classifier.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].float())):
        return evaluated(model, images, inputs_of, crop=crop, batch_size=batch_size)


@Change(needs=("linear",), leaves="scaled_linear")
def scaled_linear(model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor) -> ScaledLinear:
    """The model's classifier with a learnable factor per class on top; see `ScaledLinear`."""
    return ScaledLinear(_linear(model, "scaled_linear"))


@Change(needs=("linear", "scaled_linear", "cosine", "cosine_learnt"), leaves="aligned")
def aligned(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, form: str = "interpolate"
) -> AlignedClassifier:
    """The model's classifier, frozen, with learnable scales and shifts behind a gate; see `AlignedClassifier`."""
    classifier = model.get_submodule("classifier")
    known = isinstance(classifier, (ScaledLinear, CosineClassifier))
    return AlignedClassifier(classifier if known else _linear(model, "aligned"), form)


TAUS = tuple(k / 10 for k in range(31))  # of post-hoc logit adjustment, to choose from


def choose_tau(
    logits: Tensor, labels: Labels, class_counts: ClassCounts, *, prior: ClassCounts | None = None,
    taus: Sequence[float] = TAUS,
) -> float:  # fmt: skip
    """The tau of `losses.adjust_logits` with the least error on held-out images, re-weighted to the test set's prior.

        argmin_tau error_under(adjust_logits(z, n, tau, target=prior), y, prior)

    Args:
        logits: (N, C) of held-out images, of every class that the prior has.
        labels: (N,) class indices 0 .. C-1.
        class_counts: (C,) of the training set.
        prior: (C,) of the test set, fractions that sum to one; None is uniform.
        taus: to choose from, each at least 0; of several that are best the first is taken.

    Raises:
        ValueError: nothing to choose from; otherwise as `adjust_logits` and `metrics.error_under`.
    """
    if not len(taus):
        raise ValueError("taus must hold at least one number, such as 1.0")
    target = torch.full(logits.shape[1:], 1 / logits.shape[1], dtype=torch.float64) if prior is None else prior
    return min(taus, key=lambda tau: error_under(adjust_logits(logits, class_counts, tau, prior), labels, target))


def _linear(model: nn.Module, wanted_by: str) -> nn.Linear:
    if not isinstance(model.classifier, nn.Linear):
        raise ValueError(f"{wanted_by} needs a linear classifier, the model has a {type(model.classifier).__name__}")
    return model.classifier
