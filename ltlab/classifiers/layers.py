"""The classifiers: layers from features (N, K) to logits (N, C)."""

import copy
import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..losses import LDAMLoss
from ..losses.base import at_least_float32
from ..names import one_of

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

    With any loss its logits are then those of its probabilities.
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
        self.gate = linear_of(torch.zeros_like(self.weight[:1]), torch.zeros_like(rows[:1])) if gated else None

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


def linear_of(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A linear classifier with copies of these weights (C, K) and biases (C,)."""
    c, k = weight.shape
    empty = nn.Linear(k, c, bias=bias is not None, device="meta", dtype=weight.dtype)  # which draws nothing
    classifier = empty.to_empty(device=weight.device)
    classifier.weight.data = weight.clone()
    if bias is not None:
        classifier.bias.data = bias.clone()
    return classifier
