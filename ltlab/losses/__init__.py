r"""What a mistake costs: the losses of long-tailed recognition.

With logits z (N, C), softmax p, the label y of a sample, the number of training images n_c of class c and
the prior pi_c = n_c / sum_k n_k, the loss of one sample is

| loss                       | formula                                                                        |
|----------------------------|--------------------------------------------------------------------------------|
| `CrossEntropyLoss`         | -log p_y, the baseline                                                         |
| `CostSensitiveLoss`        | -w_y log p_y,  w_c = (n_min / n_c)^gamma                                       |
| `GeneralizedReweightLoss`  | -w_y log p_y,  w_c = n_c^-rho, normalised to sum C                             |
| `ClassBalancedLoss`        | -w_y log p_y,  w_c = (1 - beta) / (1 - beta^n_c), normalised to sum C          |
| `FocalLoss`, sigmoid       | -sum_k (1 - q_k)^gamma log q_k,  q_y = sigmoid(z_y), else q_k = sigmoid(-z_k)  |
| `FocalLoss`, softmax       | -(1 - p_y)^gamma log p_y                                                       |
| `ClassBalancedFocalLoss`   | w_y times the focal loss, w as in `ClassBalancedLoss`                          |
| `BalancedSoftmaxLoss`      | -log softmax(z + log n)_y                                                      |
| `LogitAdjustedLoss`        | -log softmax(z + tau log pi)_y                                                 |
| `LDAMLoss`                 | -log softmax(s (z - m_y e_y))_y,  m_c = max_margin (n_min / n_c)^(1/4)         |
| `CDTLoss`                  | -log softmax(z / a)_y,  a_c = (n_max / n_c)^gamma                              |
| `LabelSmoothingLoss`       | -(1 - s) log p_y - s mean_k log p_k                                            |
| `LabelAwareSmoothingLoss`  | the same with s_y, rising from `tail` at n_min to `head` at n_max              |
| `EqualizationLoss`         | -log (e^{z_y} / sum_k w_k e^{z_k}),  w_k = 0 for randomly dropped rare k != y  |

The losses of long-tailed detection, in `sigmoid`, `federated`, `seesaw` and `grouped`, are losses of classification
too. With `background=` they have a column more, for regions without an object, and `scores(logits)` for a detector.

| loss                       | formula                                                                        |
|----------------------------|--------------------------------------------------------------------------------|
| `BinaryCrossEntropyLoss`   | -sum_k log q_k,  q as in `FocalLoss`, sigmoid                                  |
| `SigmoidEqualizationLoss`  | the same without rare k != y                                                   |
| `FederatedLoss`            | the same without most k that no sample of the batch has                        |
| `EqualizationV2Loss`       | the same, weighted by each class's gradients so far                            |
| `ACSLLoss`                 | the same without k != y of low probability                                     |
| `SeesawLoss`               | -log (e^{z_y} / sum_k s_yk e^{z_k}),  s_yk by counts so far and probabilities  |
| `BalancedGroupSoftmaxLoss` | a softmax per group of classes with about as many instances                    |

Every loss is an `nn.Module`: `loss(logits, targets)` with targets (N,) int64, or (N, C) probabilities as
mixup makes them; see `Loss` for the targets, the reductions and the errors. Counts and settings live in
non-persistent buffers: they move with `.to()` but are settings, not learnt, so a checkpoint of a model does
not depend on the loss it was trained with. What `EqualizationV2Loss` and `SeesawLoss` have summed is persistent.
"""

from .base import Loss
from .cross_entropy import ClassBalancedLoss, CostSensitiveLoss, CrossEntropyLoss, GeneralizedReweightLoss
from .equalization import EqualizationLoss, equalized_cross_entropy
from .federated import FederatedLoss
from .focal import ClassBalancedFocalLoss, FocalLoss, sigmoid_focal, softmax_focal
from .grouped import BalancedGroupSoftmaxLoss
from .logits import (
    BalancedSoftmaxLoss,
    CDTLoss,
    LogitAdjustedLoss,
    adjust_logits,
    class_dependent_temperatures,
    log_prior,
)
from .margin import LDAMLoss, ldam_margins
from .seesaw import SeesawLoss
from .sigmoid import (
    ACSLLoss,
    BinaryCrossEntropyLoss,
    EqualizationV2Loss,
    SigmoidEqualizationLoss,
    equalization_weights,
    gradient_ratio,
)
from .smoothing import LabelAwareSmoothingLoss, LabelSmoothingLoss, label_aware_smoothing
from .softmax import log_odds, margin_cross_entropy, softmax_cross_entropy
from .weights import class_balanced_weights, cost_sensitive_weights, effective_numbers

__all__ = [
    "ACSLLoss",
    "BalancedGroupSoftmaxLoss",
    "BalancedSoftmaxLoss",
    "BinaryCrossEntropyLoss",
    "CDTLoss",
    "ClassBalancedFocalLoss",
    "ClassBalancedLoss",
    "CostSensitiveLoss",
    "CrossEntropyLoss",
    "EqualizationLoss",
    "EqualizationV2Loss",
    "FederatedLoss",
    "FocalLoss",
    "GeneralizedReweightLoss",
    "LDAMLoss",
    "LabelAwareSmoothingLoss",
    "LabelSmoothingLoss",
    "LogitAdjustedLoss",
    "Loss",
    "SeesawLoss",
    "SigmoidEqualizationLoss",
    "adjust_logits",
    "class_balanced_weights",
    "class_dependent_temperatures",
    "cost_sensitive_weights",
    "effective_numbers",
    "equalization_weights",
    "equalized_cross_entropy",
    "gradient_ratio",
    "label_aware_smoothing",
    "ldam_margins",
    "log_odds",
    "log_prior",
    "margin_cross_entropy",
    "sigmoid_focal",
    "softmax_cross_entropy",
    "softmax_focal",
]
