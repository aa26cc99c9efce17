"""Results: from finished runs to the tables of the course.

rows.py          one row per run, with everything needed to know where a number comes from
comparison.py    recipes times seeds, trained once and kept
controls.py      which plain training a recipe is compared with
tables.py        mean and standard deviation over seeds; every table in notebooks, README and command line
published.py     what others measured
priors.py        the errors of finished runs under another prior of the test set
shown.py         which recipes are shown where, and under which label
tricks.py        what a custom recipe is put together from
bags.py          the same, by an option for every slot
held_out.py      training images to choose by
search.py        the greedy search for it
code.py          a recipe as Python code to paste
"""

from .. import require_extra

require_extra("train")

from .code import to_code
from .comparison import compare, measure
from .controls import CONTROLS, control_of, with_controls
from .detection_rows import detection_rows, paired_ap
from .held_out import hold_out
from .priors import errors_by_prior, errors_under, prior_named, prior_path
from .published import PUBLISHED_AS, SOURCES, published
from .rows import append_row, fingerprint, measured, provenance, read_rows, result_row
from .search import Search, search
from .shown import LABELS
from .tables import caption, formatted, gains, mean_std, summary, table
from .tricks import combined, trick_families

__all__ = [
    "CONTROLS", "LABELS", "PUBLISHED_AS", "SOURCES", "Search", "append_row", "caption", "combined", "compare",
    "control_of", "detection_rows", "errors_by_prior", "errors_under", "fingerprint", "formatted", "gains", "hold_out",
    "mean_std", "measure", "measured", "paired_ap", "prior_named", "prior_path", "provenance", "published", "read_rows",
    "result_row", "search", "summary", "table", "to_code", "trick_families", "with_controls",
]  # fmt: skip
