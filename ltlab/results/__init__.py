"""Results: from finished runs to the tables of the course.

rows.py          one row per run, with everything needed to know where a number comes from
comparison.py    recipes times seeds, trained once and kept
tables.py        mean and standard deviation over seeds; every table in notebooks, README and command line
published.py     what others measured
"""

from .comparison import compare
from .published import PUBLISHED_AS, SOURCES, published
from .rows import append_row, fingerprint, measured, provenance, read_rows, result_row
from .tables import caption, formatted, summary, table

__all__ = [
    "PUBLISHED_AS",
    "SOURCES",
    "append_row",
    "caption",
    "compare",
    "fingerprint",
    "formatted",
    "measured",
    "provenance",
    "published",
    "read_rows",
    "result_row",
    "summary",
    "table",
]
