"""Sliders over plots: one explorer for each idea of the course.

explorer     what all of them share: controls, one figure, one line of text
long_tail    what imbalance does to a data set; real benchmarks
reweighting  effective numbers, focal loss, and the gradients of all losses
resampling   class probabilities, repeats, and a batch as it is drawn
mixup        between two images
beta         how strongly mixup mixes
manifold     mixing inside the network
remix        whose label a mixed picture gets
timeline     which trick is on when
post_hoc     corrections after training
foreground   what a model takes for the object, and the object moved
bag          an option for every slot, and what was measured nearest to the recipe they make
quiz         questions with buttons, and why an answer is right or not
"""

from .. import require_extra

require_extra("course")

from .bag import bag_explorer
from .beta import beta_explorer
from .explorer import Explorer, blank_figure, choice
from .foreground import foreground_explorer
from .long_tail import IMBALANCES, long_tail_explorer, real_distributions_explorer
from .manifold import manifold_explorer
from .mixup import mixup_explorer
from .post_hoc import post_hoc_explorer
from .quiz import Choice, Question, Quiz
from .remix import remix_explorer
from .resampling import sampling_explorer
from .reweighting import effective_number_explorer, focal_explorer, gradient_explorer
from .timeline import timeline_explorer

__all__ = [
    "IMBALANCES",
    "Choice",
    "Explorer",
    "Question",
    "Quiz",
    "bag_explorer",
    "beta_explorer",
    "blank_figure",
    "choice",
    "effective_number_explorer",
    "focal_explorer",
    "foreground_explorer",
    "gradient_explorer",
    "long_tail_explorer",
    "manifold_explorer",
    "mixup_explorer",
    "post_hoc_explorer",
    "real_distributions_explorer",
    "remix_explorer",
    "sampling_explorer",
    "timeline_explorer",
]
