"""Arrays to matplotlib axes.

Every function takes what `np.asarray` takes, draws on `ax` (or on a new figure of a suitable size) and returns the
axes; none calls `plt.show`. Classes are in the order of their training images, the most frequent first, and the groups
many, medium and few have the same colours in every figure.
"""

from .. import require_extra

require_extra("course")

from .calibration_figures import ReliabilityBars, gap_signs, reliability_diagram
from .class_figures import class_counts, confusion_matrix, count_axis, group_colours, per_class_error
from .detection_figures import box_grid
from .image_figures import contact_sheet, image_grid, mask_outline, mosaic
from .recipe_figures import beside, comparison, gains, trade_off
from .style import (
    BARS_UP_TO,
    FAMILY_COLOURS,
    FAMILY_MARKERS,
    FONT_SIZE,
    FREQUENCY_COLOURS,
    GROUP_COLOURS,
    NAMES_UP_TO,
    NUMBERS_UP_TO,
    check_names,
    dress,
    family_colours,
    frequency_names,
    name_ticks,
)
from .training_figures import training_curves, training_step

__all__ = [
    "BARS_UP_TO", "FAMILY_COLOURS", "FAMILY_MARKERS", "FONT_SIZE", "FREQUENCY_COLOURS", "GROUP_COLOURS", "NAMES_UP_TO",
    "NUMBERS_UP_TO", "ReliabilityBars", "beside", "box_grid", "check_names", "class_counts", "comparison",
    "confusion_matrix", "contact_sheet", "count_axis", "dress", "family_colours", "frequency_names", "gains",
    "gap_signs", "group_colours", "image_grid", "mask_outline", "mosaic", "name_ticks", "per_class_error",
    "reliability_diagram", "trade_off", "training_curves", "training_step",
]  # fmt: skip
