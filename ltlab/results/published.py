"""What others measured: the error rates in data/published, and the recipe that each belongs to."""

import pandas as pd

from ..data.places import tables_folder
from .shown import SHOWN

CAO, CUI, PAPER = "authors-rerun-cao", "authors-rerun-cui", "paper-comparison"
SOURCES = {  # the nearest to what ltlab trains first
    CAO: "re-run by the paper's authors on the subsets of Cao et al. (2019), the rule of ltlab's subsets",
    CUI: "re-run by the paper's authors on the subsets of Cui et al. (2019), which hold other images",
    PAPER: "the paper's own comparison with other methods",
}
DATASET_OF = {"cifar10-lt": "cifar10", "cifar100-lt": "cifar100", "imagenet-lt": "imagenet_lt", "inat18": "inat18"}
PUBLISHED_AS = {  # recipe: family, method by source
    line.recipe: (
        line.published_family,
        {source: name for source, name in {CAO: line.cao, CUI: line.cui}.items() if name},
    )
    for line in SHOWN.values()
    if line.published_family
}
# what the paper itself publishes of the same recipe
IN_THE_PAPER = {"bag_of_tricks": ("Final", {PAPER: "Bag of tricks (paper)"})}
OF_LARGE_SETS = {  # there the methods carry their networks in their names
    "imagenet-lt": {
        (CAO, "Baseline", "CE, ResNet-10"): "ce",
        (CAO, "Final", "Bag of tricks, ResNet-10"): "bag_of_tricks_imagenet_lt",
        (PAPER, "Final", "Bag of tricks (paper), ResNet-10"): "bag_of_tricks_imagenet_lt",
    },
    "inat18": {
        (CAO, "Baseline", "CE, ResNet-50"): "ce",
        (PAPER, "Final", "Bag of tricks (paper), ResNet-50"): "bag_of_tricks_inat18",
    },
}
# entries whose label in the source is wrong, see data/published
MISNAMED = {("cifar10-lt", 100, CAO, "Re-weight", "CS_CE sqrt")}


def published(data: str, imbalance: float) -> pd.DataFrame:
    """Published top-1 errors on a data set at an imbalance, each with the recipe of the same method.

    Args:
        data: "cifar10-lt", "cifar100-lt", "imagenet-lt", "inat18"; nothing is published on any other.
        imbalance: largest over smallest class count: 100 or 50 for CIFAR, 256 for imagenet-lt, 500 for inat18.

    Returns:
        A row per published error, the sources in the order of `SOURCES`: the columns of the table, see data/published,
        with top1_error_percent of a single run; and recipe, None where ltlab has none of the same setting. No rows
        where nothing is published.

    Raises:
        FileNotFoundError: the table is not where ltlab keeps it.
    """
    errors = pd.read_csv(tables_folder("published") / "published_errors.csv")
    errors = errors[(errors["dataset"] == DATASET_OF.get(data)) & (errors["imbalance"] == imbalance)]
    recipe_of = {
        (source, family, method): recipe
        for recipe, (family, methods) in (*PUBLISHED_AS.items(), *IN_THE_PAPER.items())
        for source, method in methods.items()
        if SHOWN[recipe].only_on in ("", data) and (data, imbalance, source, family, method) not in MISNAMED
    } | OF_LARGE_SETS.get(data, {})
    names = map(recipe_of.get, zip(errors["source"], errors["family"], errors["method"], strict=True))
    errors = errors.assign(recipe=pd.Series(list(names), index=errors.index, dtype=object))
    return errors.sort_values("source", key=lambda s: s.map(list(SOURCES).index), kind="stable", ignore_index=True)
