"""What a stage may do to the classifier at its start: reset, re-scale or replace it.

The features of a network trained on a long tail are better than its classifier: the weight vectors of rare classes
stay short, so their logits stay low (Kang et al., 2020). Each function here takes the trained model and returns what
replaces `model.classifier`; a stage has it as `Stage(classifier=fresh, ...)` and calls it as

    classifier(model, images, labels, class_counts) -> nn.Module

with the training images, uint8 (N, 3, H, W), uncropped and in memory or on disk, their labels and the class counts;
and with crop=..., the side of the centre crop that evaluation takes, or None, if it has such a parameter. A stage of 0
epochs does nothing else: post-hoc corrections are such stages.

    fresh                a new one of the same kind         cRT          then trained
    weight_scaling       one learnable factor per class     LWS          then trained
    tau_normalised       w_c / |w_c|^tau                    tau-norm     ready
    nearest_class_mean   cosine to the class's mean         NCM          ready
    logit_adjusted       bias lowered by tau log prior      post hoc     ready
    scaled_linear        one learnable factor per class     MiSLAS       then trained, with weight and bias
    aligned              scale and shift behind a gate      DisAlign     then trained
    with_prior           small, every class at a low score  sigmoids     then trained
    cosine               scaled cosines in its place        Seesaw       then trained

A function says by `@Change` which kinds of classifier it needs and which it leaves, so that a recipe refuses stages
that do not go together before anything is trained, and a checkpoint tells what to rebuild. Without it, any classifier
will do, and resuming calls the function again.

Source: Kang et al., "Decoupling Representation and Classifier for Long-Tailed Recognition", ICLR 2020.
"""

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .counts import ClassCounts, Labels, comparable
from .images import evaluated
from .losses import LDAMLoss, adjust_logits
from .losses.base import at_least_float32
from .metrics import error_under
from .names import one_of

Function = TypeVar("Function", bound=Callable)


AUTHORS_WIDTH = 64  # features of the ResNet-32 that LDAM's code trains
SCALE = 30.0  # of cosines, as in LDAM: without it a softmax of them stays almost flat


class CosineClassifier(nn.Module):
    """Logits that are scaled cosines between features and class weights (the normalised classifier of LDAM).

        z_c = s <x, w_c> / (|x| |w_c|)   in [-s, s]

    Shapes: x (N, K) -> (N, C), at least float32; `weight` is (C, K), as a Linear's, and `scale`, (), a buffer. It is
    bare at first, s = 1; a run gives it the scale of its `LDAMLoss`, or `SCALE` for any other loss, see `take_scale`. A
    feature of zeros gets logits of zeros.

    Weights begin in U(-b, b): b = 1 up to 64 features, as in LDAM's code for ResNet-32, and b = sqrt(3 / K), norm 1,
    for more. The gradient of a direction falls with the norm, and long weights would hardly turn.

    Source: Cao et al., NeurIPS 2019; Wang et al., "NormFace", ACM MM 2017.
    """

    scale: Tensor  # ()

    def __init__(self, in_features: int, num_classes: int, scale: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, dtype=torch.float32, device="cpu"))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32, device="cpu"))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        width = self.weight.shape[1]
        bound = 1.0 if width <= AUTHORS_WIDTH else math.sqrt(3 / width)
        nn.init.uniform_(self.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * at_least_float32(F.linear(F.normalize(x), F.normalize(self.weight)))


class LearntCosineClassifier(CosineClassifier):
    """The same with a scale that is trained like the weights, `SCALE` at first."""

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__(in_features, num_classes, SCALE)
        scale = self.scale
        del self.scale
        self.scale = nn.Parameter(scale)


def take_scale(classifier: object, loss: nn.Module) -> None:
    """Move LDAM's scale into a `CosineClassifier`; for any other loss give a bare one `SCALE`.

    Its logits are then those of its probabilities, whatever the loss.
    """
    if not isinstance(classifier, CosineClassifier) or isinstance(classifier.scale, nn.Parameter):
        return
    if isinstance(loss, LDAMLoss):
        classifier.scale.fill_(loss.scale)
        loss.scaled = True
    elif classifier.scale == 1:
        classifier.scale.fill_(SCALE)


class WeightScaling(nn.Module):
    """A frozen linear classifier with one learnable factor per class (learnable weight scaling, LWS).

        z_c = f_c (<x, w_c> + b_c),   f_c = 1 at first

    Shapes: x (N, K) -> (N, C); only `factors` (C,) is a parameter. `weight` is f_c w_c, (C, K).

    Source: Kang et al., ICLR 2020, section 4; the bias is scaled as in the authors' code.
    """

    frozen_weight: Tensor
    frozen_bias: Tensor | None

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


class Kind(NamedTuple):
    """A kind of classifier: its class, and what makes one with the shapes of a `state_dict()` to load into it."""

    type: type[nn.Module]
    from_state: Callable[[Mapping[str, Tensor]], nn.Module]


CLASSIFIERS = {
    "linear": Kind(nn.Linear, lambda state: _linear_of(state["weight"], state.get("bias"))),
    "cosine": Kind(CosineClassifier, lambda state: CosineClassifier(*state["weight"].shape[::-1])),
    "cosine_learnt": Kind(LearntCosineClassifier, lambda state: LearntCosineClassifier(*state["weight"].shape[::-1])),
    "scaled": Kind(
        WeightScaling, lambda state: WeightScaling(_linear_of(state["frozen_weight"], state.get("frozen_bias")))
    ),
}


@dataclass(frozen=True)
class Change:
    """A decorator that declares what a function needs and leaves, of the kinds in `CLASSIFIERS`.

    Args:
        needs: the kinds of classifier that it can change; () is any.
        leaves: the kind that it returns; None is the kind that was there.
        adjusts_prior: whether it corrects the logits for the training set's prior.

    Raises:
        ValueError: a kind that is not in `CLASSIFIERS`.
    """

    needs: tuple[str, ...] = ()
    leaves: str | None = None
    adjusts_prior: bool = False

    def __post_init__(self) -> None:
        if unknown := {*self.needs, self.leaves} - {None, *CLASSIFIERS}:
            raise ValueError(f"{unknown.pop()!r} is not a kind of classifier: add it to CLASSIFIERS, {[*CLASSIFIERS]}")

    def __call__(self, function: Function) -> Function:
        vars(function)["change"] = self
        return function


def declared(function: object) -> Change | None:
    """What a change of the classifier, or a partial of one, declares; None if it does not."""
    declaration = getattr(getattr(function, "func", function), "change", None)
    return declaration if isinstance(declaration, Change) else None


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
    return _linear_of(weight, bias=None)


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
    return _linear_of(classifier.weight.detach(), adjust_logits(bias.detach(), class_counts, tau))


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


def _linear(model: nn.Module, wanted_by: str) -> nn.Linear:
    if not isinstance(model.classifier, nn.Linear):
        raise ValueError(f"{wanted_by} needs a linear classifier, the model has a {type(model.classifier).__name__}")
    return model.classifier


def _linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    c, k = weight.shape
    empty = nn.Linear(k, c, bias=bias is not None, device="meta", dtype=weight.dtype)  # which draws nothing
    classifier = empty.to_empty(device=weight.device)
    classifier.weight.data = weight.clone()
    if bias is not None:
        classifier.bias.data = bias.clone()
    return classifier


class ScaledLinear(nn.Module):
    """A linear classifier with one learnable factor per class, all of which is trained (the second stage of MiSLAS).

        z_c = f_c (<x, w_c> + b_c),   f_c = 1 at first: the linear classifier's logits, to the bit

    `WeightScaling` trains the factors alone. The authors train w and b at a fraction of the rate of f, 0.05 to 0.5.

    Shapes: x (N, K) -> (N, C); parameters `weight` (C, K), `bias` (C,) if the linear one has it, and `scale` (C,), f.

    Source: Zhong et al., "Improving Calibration for Long-Tailed Recognition" (MiSLAS), CVPR 2021, section 3.2.
    """

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().clone())
        self.bias = None if linear.bias is None else nn.Parameter(linear.bias.detach().clone())
        self.scale = nn.Parameter(torch.ones_like(self.weight[:, 0]))

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * F.linear(x, self.weight, self.bias)


class AlignedClassifier(nn.Module):
    """A frozen classifier with learnable scales and shifts, applied as far as a gate opens for an image (DisAlign).

        z = base(x),   s = sigmoid(<v, x> + v_0), one number per image
        interpolate, eq. 5:   s (a_c z_c + b_c) + (1 - s) z_c
        affine, eq. 6:        (1 + s a_c) z_c + s b_c
        ungated:              a_c z_c + b_c                      vector scaling
        marc:                 a_c z_c + b_c |w_c|                MARC

    All are z + s ((a - k) z + b u), where k = 0 for "affine", else 1; s = 1 without a gate; and u_c = |w_c| for "marc",
    else 1. They start at z, to the bit: a = k, b = 0, v = 0, s = 1/2. "interpolate" and "affine" differ in what weight
    decay, which pulls a towards 0, leaves of z: (1 - s) z or z. A gate that is open for all, s = 1, makes "interpolate"
    "ungated"; one that is closed, s = 0, leaves z, and then no gradient opens it again. So v starts at 0 and learns
    only from what a and b have learnt. The authors' classification code is "affine" from a = 1 and v = 0.1, where s is
    near 1 and the gate often closes for good.

    Shapes: x (N, K) -> (N, C); parameters `magnitude` (C,), a, `margin` (C,), b, and `gate`, Linear(K, 1) or None. The
    base's parameters are buffers, so that nothing trains them; `weight` (C, K) is the base's.

    Args:
        base: a classifier with a weight (C, K), whose logits are scaled as softmax needs them; it is copied.
        form: "interpolate", "affine", "ungated" or "marc".

    Raises:
        ValueError: an unknown form.

    Source: Zhang et al., "Distribution Alignment: A Unified Framework for Long-tail Visual Recognition", CVPR 2021;
    "marc": Wang et al., "Margin Calibration for Long-Tailed Visual Recognition", ACML 2022.
    """

    offset: Tensor  # (), k
    unit: Tensor  # (C,), u

    def __init__(self, base: nn.Module, form: str = "interpolate") -> None:
        super().__init__()
        one_of("form", form, FORMS)
        self.base = _frozen(base)
        rows = self.weight[:, 0]  # (C,)
        k = 0.0 if form == "affine" else 1.0
        self.register_buffer("offset", rows.new_tensor(k))
        self.register_buffer("unit", self.weight.norm(dim=1) if form == "marc" else torch.ones_like(rows))
        self.magnitude = nn.Parameter(torch.full_like(rows, k))
        self.margin = nn.Parameter(torch.zeros_like(rows))
        gated = form in ("interpolate", "affine")
        self.gate = _linear_of(torch.zeros_like(self.weight[:1]), torch.zeros_like(rows[:1])) if gated else None

    @property
    def weight(self) -> Tensor:
        return cast(Tensor, self.base.weight)

    def forward(self, x: Tensor) -> Tensor:
        z = self.base(x)  # (N, C)
        change = (self.magnitude - self.offset) * z + self.unit * self.margin
        return z + (change if self.gate is None else self.gate(x).sigmoid() * change)


FORMS = ("interpolate", "affine", "ungated", "marc")


def _frozen(module: nn.Module) -> nn.Module:
    """A copy whose parameters are buffers of the same names."""
    module = copy.deepcopy(module)
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return module


def _aligned_of(state: Mapping[str, Tensor]) -> AlignedClassifier:
    """What makes an `AlignedClassifier` of any base with the shapes of a state, its form as far as it has shapes."""
    base = {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}
    kind = "linear" if "scale" not in base else "scaled_linear" if base["scale"].ndim else "cosine"
    return AlignedClassifier(CLASSIFIERS[kind].from_state(base), "interpolate" if "gate.weight" in state else "ungated")


CLASSIFIERS |= {
    "scaled_linear": Kind(ScaledLinear, lambda state: ScaledLinear(_linear_of(state["weight"], state.get("bias")))),
    "aligned": Kind(AlignedClassifier, _aligned_of),
}


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
