"""Which recipes are shown where, and under which label: the table shown.csv."""

from pathlib import Path

import pandas as pd

# A line per recipe, in the order of the course; "" where a column does not apply.
#   slot, option       what the explorers call it
#   bag, gradients     "yes" where the bag explorer or the gradient explorer has it
#   readme             "yes" where README's table and figures have it
#   published_family, and a column per source     what the published tables call it
#   only_on            the only data set on which these have the recipe's setting
SHOWN = pd.read_csv(Path(__file__).with_name("shown.csv"), index_col="recipe", dtype=str, keep_default_na=False)


def shown_in(place: str) -> pd.DataFrame:
    """The lines of a place: "bag", "gradients" or "readme"."""
    return SHOWN[SHOWN[place] == "yes"]
