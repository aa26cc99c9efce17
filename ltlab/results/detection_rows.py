"""Rows of detectors: the setting of every recipe that held-out scenes choose, and differences paired by seed."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from ..data.places import tables_folder

GROUPED_AP = ("ap", "ap_rare", "ap_common", "ap_frequent")
DETECTION_LABELS = {
    "det_ce": "CE", "det_ce_long": "CE, last layer on", "det_acsl": "CE, then ACSL", "det_bags": "CE, then BAGS",
    "det_bce": "BCE", "det_eqlv2": "EQL v2", "det_eql": "EQL", "det_federated": "federated loss",
    "det_seesaw": "Seesaw", "det_rfs": "CE + RFS", "det_eqlv2_rfs": "EQL v2 + RFS",
}  # fmt: skip


def detection_rows(file: str | Path | None = None, *, chosen: bool = True) -> pd.DataFrame:
    """Rows of detectors on scenes-lt, AP in percent, recipes by their labels.

    With `chosen`, of each recipe only the value of its setting with the highest mean held-out AP over the seeds that
    tried all of its values.

    Args:
        file: as `benchmarks/detection.py` writes it; None is the one that comes with ltlab.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it has no row.
    """
    rows: pd.DataFrame = pd.read_csv(tables_folder("results") / "scenes-lt.csv" if file is None else file)
    if rows.empty:
        raise ValueError(f"{file or 'scenes-lt.csv'} has no row: measure a recipe with benchmarks/detection.py")
    metrics = [name for name in rows.columns if name.removeprefix("held_out_").startswith("ap")]
    rows[metrics] *= 100
    rows["recipe"] = rows["recipe"].map(lambda name: DETECTION_LABELS.get(name, name))
    return pd.concat([_best(part) for part in _by_recipe(rows)]) if chosen else rows


def _by_recipe(rows: pd.DataFrame) -> Iterable[pd.DataFrame]:
    return (part for _, part in rows.groupby("recipe", sort=False))


def _best(part: pd.DataFrame) -> pd.DataFrame:
    """The rows of one recipe with its best setting."""
    setting = part["value"].fillna(0.0)
    tried = part.assign(value=setting).pivot_table("held_out_ap", "seed", "value")
    complete = tried.dropna()
    return part.loc[setting == (complete if len(complete) else tried).mean().idxmax()]


def paired_ap(
    rows: pd.DataFrame, pairs: Iterable[tuple[str, str]], columns: Iterable[str] = GROUPED_AP
) -> pd.DataFrame:
    """AP of one recipe minus AP of another by the same seed, a row for each pair and seed that both have.

    Args:
        rows: with one setting of each recipe, see `detection_rows`.
        pairs: of labels; those of which one is missing are left out.
        columns: of the rows.

    Returns:
        Indexed by "one − other" and seed.

    Raises:
        ValueError: a recipe with two rows of one seed.
    """
    by_seed = rows.pivot(index="seed", columns="recipe", values=[*columns])
    known = [pair for pair in pairs if set(pair) <= set(rows["recipe"])]
    made = {
        f"{one} − {other}": pd.DataFrame({c: by_seed[c, one] - by_seed[c, other] for c in columns}).dropna()
        for one, other in known
    }
    return pd.concat(made, names=["pair"]) if made else pd.DataFrame(columns=[*columns])
