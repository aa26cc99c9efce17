"""Arrays to matplotlib axes.

Every function takes what `np.asarray` takes, draws on `ax` (or on a new figure of a fitting size) and returns the axes;
none calls `plt.show`. Classes stand in the order of their training images, the most frequent first, and the groups
many, medium and few have the same colours in every figure.
"""

from .. import require_extra

require_extra("course")

from .classes import class_counts, confusion_matrix, count_axis, per_class_error
from .images import contact_sheet, image_grid, mask_outline
from .results import beside, comparison, gains, trade_off
from .style import (
    BARS_UP_TO,
    FAMILY_COLOURS,
    FAMILY_MARKERS,
    FONT_SIZE,
    GROUP_COLOURS,
    NAMES_UP_TO,
    NUMBERS_UP_TO,
    family_colours,
)
from .training import SLOTS, training_curves, training_step

__all__ = [
    "BARS_UP_TO",
    "FAMILY_COLOURS",
    "FAMILY_MARKERS",
    "FONT_SIZE",
    "GROUP_COLOURS",
    "NAMES_UP_TO",
    "NUMBERS_UP_TO",
    "SLOTS",
    "beside",
    "class_counts",
    "comparison",
    "confusion_matrix",
    "contact_sheet",
    "count_axis",
    "family_colours",
    "gains",
    "image_grid",
    "mask_outline",
    "per_class_error",
    "trade_off",
    "training_curves",
    "training_step",
]
