"""What a stage may do to the classifier at its start: begin afresh, re-scale it, or compute it.

The features of a network trained on a long tail are better than its classifier: the weight vectors of rare classes
stay short, so their logits stay low (Kang et al., 2020). Each function here looks at the trained model and returns what
takes the place of `model.classifier`; it stands in a stage as `Stage(classifier=fresh, ...)` and is called as

    classifier(model, images, labels, class_counts) -> nn.Module

with the training images, uint8 (N, 3, H, W), whole and in memory or on disk, their labels and the class counts; and
with crop=..., the side of the centre crop that evaluation takes, or None, if it has such a parameter. A stage of 0
epochs does no more than that: post-hoc corrections are such stages.

    fresh                a new one of the same kind         cRT          then trained
    weight_scaling       one learnable factor per class     LWS          then trained
    tau_normalised       w_c / |w_c|^tau                    tau-norm     ready
    nearest_class_mean   cosine to the class's mean         NCM          ready
    logit_adjusted       bias lowered by tau log prior      post hoc     ready

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .counts import comparable
from .images import evaluated
from .losses import adjust_logits


class CosineClassifier(nn.Module):
    """Logits that are cosines between features and class weights (the normalised classifier of LDAM).

        z_c = <x, w_c> / (|x| |w_c|)   in [-1, 1]

    Shapes: x (N, K) -> (N, C); `weight` is (C, K), as a Linear's. The temperature belongs to the loss.
    A feature of zeros gets logits of zeros.

    Source: Cao et al., NeurIPS 2019; Wang et al., "NormFace", ACM MM 2017.
    """

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.weight, -1, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.normalize(x), F.normalize(self.weight))


class WeightScaling(nn.Module):
    """A frozen linear classifier with one learnable factor per class (learnable weight scaling, LWS).

        z_c = f_c (<x, w_c> + b_c),   f_c = 1 at first

    Shapes: x (N, K) -> (N, C); only `factors` (C,) is a parameter. `weight` is f_c w_c, (C, K).

    Source: Kang et al., ICLR 2020, section 4; the bias is scaled as in the authors' code.
    """

    def __init__(self, classifier: nn.Linear) -> None:
        super().__init__()
        self.register_buffer("frozen_weight", classifier.weight.detach().clone())
        self.register_buffer("frozen_bias", None if classifier.bias is None else classifier.bias.detach().clone())
        self.factors = nn.Parameter(torch.ones_like(self.frozen_weight[:, 0]))

    @property
    def weight(self) -> Tensor:
        return self.factors[:, None] * self.frozen_weight

    def forward(self, x: Tensor) -> Tensor:
        return self.factors * F.linear(x, self.frozen_weight, self.frozen_bias)


def fresh(model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor) -> nn.Module:
    """A classifier of the same kind with new random weights (cRT: then only it is trained, class-balanced).

    Drawn from torch's default generator, which a run seeds.
    """
    classifier = copy.deepcopy(model.classifier)
    if not hasattr(classifier, "reset_parameters"):
        raise ValueError(f"{type(classifier).__name__} has no reset_parameters(), which a fresh classifier needs")
    classifier.reset_parameters()
    return classifier


def weight_scaling(model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor) -> WeightScaling:
    """The model's classifier, frozen, with a learnable factor per class; see `WeightScaling`."""
    return WeightScaling(_linear(model, "weight_scaling"))


def tau_normalised(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, tau: float = 1.0
) -> nn.Linear:
    """The model's classifier with the weights of `tau_normalised_weight`, and no bias."""
    weight = tau_normalised_weight(_linear(model, "tau_normalised").weight.detach(), tau)
    return _linear_of(weight, bias=None)


def tau_normalised_weight(weight: Tensor, tau: float = 1.0) -> Tensor:
    """Class weights with their norms evened out, w_c / |w_c|^tau.

    Args:
        weight: (C, K) of a trained linear classifier.
        tau: in [0, 1]; 0 leaves the weights as they are, 1 makes every norm 1.

    Returns:
        (C, K). A weight of zeros stays zeros.

    Raises:
        ValueError: tau outside [0, 1].

    Source: Kang et al., ICLR 2020, section 4.2, tau-normalized classifier. The bias is dropped, as there.
    """
    if not 0 <= comparable(tau) <= 1:
        raise ValueError(f"tau={tau!r}: it lies between 0 (as trained) and 1 (all norms 1)")
    norms = weight.norm(dim=1, keepdim=True)  # (C, 1)
    return weight / torch.where(norms > 0, norms, 1) ** tau


def nearest_class_mean(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, crop: int | None = None
) -> CosineClassifier:
    """The class whose mean training feature is nearest in angle (NCM): cosines to the class means.

    Features are those of the training images as evaluation shows them, see `classifier_inputs`.
    """
    features = classifier_inputs(model, images, crop=crop)  # (N, K)
    classifier = CosineClassifier(features.shape[1], len(class_counts)).to(features.device)
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


def logit_adjusted(
    model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor, *, tau: float = 1.0
) -> nn.Linear:
    """The model's classifier with the bias b_c - tau log pi_c: post-hoc logit adjustment, see `losses.adjust_logits`.

    tau = 0 leaves it as it is. For models trained with cross-entropy; a model trained with balanced softmax or the
    logit-adjusted loss has the correction already.
    """
    classifier = _linear(model, "logit_adjusted")
    bias = torch.zeros_like(classifier.weight[:, 0]) if classifier.bias is None else classifier.bias
    return _linear_of(classifier.weight.detach(), adjust_logits(bias.detach(), class_counts, tau))


def classifier_inputs(model: nn.Module, images: Tensor, *, crop: int | None = None, batch_size: int = 500) -> Tensor:
    """What the classifier receives for un-augmented images in evaluation mode.

    For any model with a `classifier`; taken by a hook on it.

    Args:
        model: from float images in [0, 1] to logits; its classifier takes (n, K).
        images: (N, 3, H, W), uint8, in memory or on disk, or float in [0, 1]; `images.split(n)` gives batches.
        crop: take the centre of every image, so many pixels wide and high; None takes the whole.
        batch_size: images per forward pass.

    Returns:
        (N, K) float32 on the model's device.

    Raises:
        ValueError: images of another shape or smaller than `crop`; on the CPU, floats above 1.
    """
    taken = []

    def inputs_of(batch: Tensor) -> Tensor:
        model(batch)
        return taken.pop()

    with model.classifier.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].float())):
        return evaluated(model, images, inputs_of, crop=crop, batch_size=batch_size)


def _linear(model: nn.Module, wanted_by: str) -> nn.Linear:
    if not isinstance(model.classifier, nn.Linear):
        raise ValueError(f"{wanted_by} needs a linear classifier, the model has a {type(model.classifier).__name__}")
    return model.classifier


def _linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    classifier = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device=weight.device)
    classifier.weight.data = weight.clone()
    if bias is not None:
        classifier.bias.data = bias.clone()
    return classifier
