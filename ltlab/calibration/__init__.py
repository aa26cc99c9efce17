"""What a probability is worth: whether a network that says 80 % is right four times in five, and for whom.

With softmax p of the logits, the label y and the confidence p_i = max_c p_ic of image i,

| name                            | formula                                                                       |
|---------------------------------|-------------------------------------------------------------------------------|
| `reliability`                   | accuracy and mean confidence of the images in each bin of the confidence      |
| `expected_calibration_error`    | sum_m N_m / N abs(accuracy_m - confidence_m), N_m images in bin m             |
| `maximum_calibration_error`     | max_m abs(accuracy_m - confidence_m)                                          |
| `classwise_calibration_error`   | mean over the classes c of the same error of p_c                              |
| `noise_floor`                   | the expected error of a predictor that is perfectly calibrated                |
| `signed_gap`                    | mean confidence - accuracy, over the images of each group of classes          |
| `negative_log_likelihood`       | -mean_i log p_iy, a proper score                                              |
| `brier_score`                   | mean_i sum_c (p_ic - [y_i = c])^2, a proper score                             |
| `fit_temperature`               | T with the least negative log-likelihood of z / T on held-out images          |
| `fit_vector_scaling`            | a scale and a bias per class, by the same likelihood of scale z + bias        |
| `estimate_prior`                | the prior of unlabelled images, by expectation-maximisation                   |
| `set_thresholds`                | t_c, so that the label is in {c: p_c >= t_c} as often as asked for            |
| `prediction_sets`               | these sets                                                                    |
| `set_coverage`                  | how often they hold the label, for each group of classes                      |

An error hides the sign and the groups that `signed_gap` shows, and the proper scores decide where errors disagree.

Conventions: `logits` are an (N, C) tensor of scores, finite or -inf, whose scale matters, and not probabilities;
`labels` are N class indices 0 .. C-1; `groups` are {name: (C,) bool}, such as `metrics.class_groups` gives. Everything
is computed in float64. A mean over nothing is NaN, never 0.

Errors: a TypeError for logits that are not a tensor; a ValueError for no images, shapes that do not fit, a label
outside 0 .. C-1, logits that hold NaN, +inf or a row of nothing but -inf, probabilities in place of logits, and an
argument outside the range that its function gives.
"""

from .bins import (
    Reliability,
    classwise_calibration_error,
    expected_calibration_error,
    maximum_calibration_error,
    noise_draws,
    noise_floor,
    reliability,
)
from .conformal import prediction_sets, set_coverage, set_thresholds
from .fitting import estimate_prior, fit_temperature, fit_vector_scaling
from .scores import brier_score, negative_log_likelihood, signed_gap

__all__ = [
    "Reliability",
    "brier_score",
    "classwise_calibration_error",
    "estimate_prior",
    "expected_calibration_error",
    "fit_temperature",
    "fit_vector_scaling",
    "maximum_calibration_error",
    "negative_log_likelihood",
    "noise_draws",
    "noise_floor",
    "prediction_sets",
    "reliability",
    "set_coverage",
    "set_thresholds",
    "signed_gap",
]
