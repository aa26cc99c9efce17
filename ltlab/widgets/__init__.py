"""Sliders over plots: one explorer for each idea of the course.

explorer              what all of them are: controls, one figure, one line of text
sliders, panels       their controls, and what they draw with: axes in pixels, classes by frequency, moving bars
pixels                small images that can move
explore_imbalance     what the tail costs plain training
explore_long_tail     what imbalance does to a data set; real benchmarks
explore_reweighting   effective numbers, focal loss, and the gradients of all losses
explore_resampling    class probabilities, repeats, and a batch of the sampler
explore_mixup         between two images, and inside the network
explore_lambda        how strongly mixup mixes, and whose label a mixed picture gets
explore_timeline      which trick is on when
explore_post_hoc      corrections after training
explore_foreground    what a model takes for the object, and the object moved
explore_reliability   confidence against accuracy, at any temperature
explore_smoothing     label-aware smoothing, and the logit gap that is best under it
explore_noise_floor   the calibration error of a perfectly calibrated network
explore_alignment     scale, shift and gate of a trained classifier
explore_cosine        temperature, prior and shrunk means of a cosine head on kept features
explore_prior         which recipe is best for which test set
explore_gradients     gradient ratios while a detector trains, and the weights of EQL v2
explore_suppression   which classes ACSL spares in a batch of regions
explore_detections    scenes with the boxes of two detectors; AP under a cap
explore_repeats       repeat factors, and the boxes of an epoch
explore_bag           an option for every slot, and what was measured nearest to the recipe they make
prediction            a guess before the result, and the result next to the guess
quiz                  questions with buttons, and why an answer is right or not
"""

from .. import require_extra

require_extra("course")

from .explore_alignment import alignment_explorer
from .explore_bag import bag_explorer
from .explore_cosine import cosine_explorer
from .explore_detections import detection_cap_explorer, scene_explorer
from .explore_foreground import foreground_explorer
from .explore_gradients import equalization_explorer, gradient_ratio_explorer
from .explore_imbalance import imbalance_explorer
from .explore_lambda import beta_explorer, remix_explorer
from .explore_long_tail import IMBALANCES, long_tail_explorer, real_distributions_explorer
from .explore_mixup import manifold_explorer, mixup_explorer
from .explore_noise_floor import noise_floor_explorer
from .explore_post_hoc import post_hoc_explorer
from .explore_prior import prior_explorer
from .explore_reliability import reliability_explorer
from .explore_repeats import repeat_factor_explorer
from .explore_resampling import sampling_explorer
from .explore_reweighting import effective_number_explorer, focal_explorer, gradient_explorer, pulls
from .explore_smoothing import smoothing_explorer
from .explore_suppression import suppression_explorer
from .explore_timeline import timeline_explorer
from .explorer import Explorer, blank_figure
from .prediction import Prediction, Resolution
from .quiz import Choice, Question, Quiz
from .sliders import choice

__all__ = [
    "IMBALANCES", "Choice", "Explorer", "Prediction", "Question", "Quiz", "Resolution", "alignment_explorer",
    "bag_explorer", "beta_explorer", "blank_figure", "choice", "cosine_explorer", "detection_cap_explorer",
    "effective_number_explorer", "equalization_explorer", "focal_explorer", "foreground_explorer", "gradient_explorer",
    "gradient_ratio_explorer", "imbalance_explorer", "long_tail_explorer", "manifold_explorer", "mixup_explorer",
    "noise_floor_explorer", "post_hoc_explorer", "prior_explorer", "pulls", "real_distributions_explorer",
    "reliability_explorer", "remix_explorer", "repeat_factor_explorer", "sampling_explorer", "scene_explorer",
    "smoothing_explorer", "suppression_explorer", "timeline_explorer",
]  # fmt: skip
