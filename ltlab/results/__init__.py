"""Results: from finished runs to the tables of the course.

rows.py          one row per run, with everything needed to know where a number comes from
comparison.py    recipes times seeds, trained once and kept
tables.py        mean and standard deviation over seeds; every table in notebooks, README and command line
published.py     what others measured
search.py        a recipe of one's own: greedily, by images held out of the training set
code.py          a recipe as Python code to paste
"""

from .code import to_code
from .comparison import compare, measure
from .published import PUBLISHED_AS, SOURCES, published
from .rows import append_row, fingerprint, measured, provenance, read_rows, result_row
from .search import Search, balanced_error, combined, hold_out, search, trick_families
from .tables import CONTROLS, caption, formatted, gains, summary, table

__all__ = [
    "CONTROLS",
    "PUBLISHED_AS",
    "SOURCES",
    "Search",
    "append_row",
    "balanced_error",
    "caption",
    "combined",
    "compare",
    "fingerprint",
    "formatted",
    "gains",
    "hold_out",
    "measure",
    "measured",
    "provenance",
    "published",
    "read_rows",
    "result_row",
    "search",
    "summary",
    "table",
    "to_code",
    "trick_families",
]
