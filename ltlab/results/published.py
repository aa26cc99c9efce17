"""What others measured: the error rates in data/published, and which recipe each belongs to."""

import pandas as pd

from ..data.places import tables_folder

CAO, CUI, PAPER = "authors-rerun-cao", "authors-rerun-cui", "paper-comparison"
SOURCES = {  # the nearest to what ltlab trains first
    CAO: "re-run by the paper's authors on the subsets of Cao et al. (2019), the rule of ltlab's subsets",
    CUI: "re-run by the paper's authors on the subsets of Cui et al. (2019), which hold other images",
    PAPER: "the paper's own comparison with other methods",
}
DATA_SETS = {"cifar10-lt": "cifar10", "cifar100-lt": "cifar100", "imagenet-lt": "imagenet_lt", "inat18": "inat18"}
PUBLISHED_AS = {  # recipe: family, method by source
    "ce": ("Baseline", {CAO: "CE", CUI: "CE"}),
    "cs_ce": ("Re-weight", {CAO: "CS_CE", CUI: "CS_CE (N_min/N_c)"}),
    "cs_ce_smooth": ("Re-weight", {CAO: "CS_CE sqrt", CUI: "CS_CE gamma=.5"}),
    "focal": ("Re-weight", {CAO: "Focal", CUI: "Focal"}),
    "cb_ce": ("Re-weight", {CAO: "CB-CE", CUI: "CB-CE"}),
    "cb_ce_mild": ("Re-weight", {CAO: "CB-CE", CUI: "CB-CE"}),
    "cb_focal": ("Re-weight", {CAO: "CB-Focal", CUI: "CB-Focal"}),
    "balanced_softmax": ("Re-weight", {CAO: "Balanced softmax", CUI: "Balanced softmax"}),
    "ldam": ("Re-weight", {CAO: "LDAM", CUI: "LDAM"}),
    "label_smoothing": ("Re-weight", {CAO: "LS", CUI: "Label smoothing"}),
    "label_aware_smoothing": ("Re-weight", {CAO: "LAS", CUI: "Label-aware smoothing"}),
    "cdt": ("Re-weight", {CAO: "CDT", CUI: "CDT"}),
    "seql": ("Re-weight", {CAO: "SEQL"}),
    "square_root": ("Re-sample", {CAO: "sqrt", CUI: "square-root"}),
    "class_balanced": ("Re-sample", {CAO: "CB", CUI: "class-balanced"}),
    "progressive": ("Re-sample", {CAO: "PB", CUI: "progressively-balanced"}),
    "bilateral": ("Re-sample", {CUI: "BBN-style (uniform + reverse)"}),
    "ce_long": ("Mixup", {CUI: "CE, 400 ep (control)"}),
    "input_mixup": ("Mixup", {CAO: "input", CUI: "input mixup"}),
    "manifold_mixup": ("Mixup", {CAO: "manifold", CUI: "manifold mixup (pool)"}),
    "remix": ("Mixup", {CAO: "Remix", CUI: "Remix"}),
    "drw_cs_ce": ("DRW", {CAO: "CS_CE", CUI: "CS_CE"}),
    "drw_cs_ce_smooth": ("DRW", {CUI: "CS_CE sqrt"}),
    "drw_focal": ("DRW", {CAO: "Focal", CUI: "Focal"}),
    "drw_cb_ce": ("DRW", {CAO: "CB-CE", CUI: "CB-CE"}),
    "drw_cb_ce_mild": ("DRW", {CAO: "CB-CE", CUI: "CB-CE"}),
    "drw_cb_focal": ("DRW", {CAO: "CB-Focal", CUI: "CB-Focal"}),
    "drw_balanced_softmax": ("DRW", {CAO: "BSCE", CUI: "Balanced softmax"}),
    "drw_label_smoothing": ("DRW", {CAO: "LS"}),
    "drw_label_aware_smoothing": ("DRW", {CAO: "LAS"}),
    "drw_cdt": ("DRW", {CAO: "CDT", CUI: "CDT"}),
    "drw_ldam": ("DRW", {CAO: "LDAM", CUI: "LDAM"}),
    "drs_square_root": ("DRS", {CAO: "sqrt", CUI: "square-root"}),
    "drs_class_balanced": ("DRS", {CAO: "CB", CUI: "class-balanced"}),
    "tau_norm": ("Classifier", {CAO: "tau", CUI: "tau-norm"}),
    "crt": ("Classifier", {CAO: "cRT", CUI: "cRT"}),
    "lws": ("Classifier", {CAO: "LWS", CUI: "LWS"}),
    "cam_drs": ("DRS", {CAO: "CAM-balance", CUI: "CAM + balance (paper)"}),
    "cam_drs_square_root": ("DRS", {CAO: "CAM-sqrt", CUI: "CAM + square-root"}),
    "cam_drs_progressive": ("DRS", {CAO: "CAM-prog", CUI: "CAM + progressive"}),
    **{
        f"{mix}_{trick}": ("Combination", {CUI: f"{short} + {method}"})
        for mix, short in {"input_mixup": "IM", "manifold_mixup": "MM", "remix": "Remix"}.items()
        for trick, method in {
            "cs_ce": "CS_CE", "balanced_softmax": "balanced softmax", "class_balanced": "CBS", "progressive": "PBS",
        }.items()
    },
    "input_mixup_bilateral": ("Combination", {CUI: "IM + BBN-style"}),
    "input_mixup_drw_balanced_softmax": ("Combination", {CUI: "IM + DRW(balanced softmax)"}),
    "input_mixup_cam_drs": ("Combination", {CUI: "Bag of tricks stage 2: IM + DRS(CAM-BS)"}),
    "bag_of_tricks": ("Combination", {CUI: "Bag of tricks full: + fine-tune without mixup"}),
}  # fmt: skip
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
# figures that are not of what their names say, see data/published
MISNAMED = {("cifar10-lt", 100, CAO, "Re-weight", "CS_CE sqrt")}
# the class-balanced losses were run with beta = 0.9999 on CIFAR-10 and 0.9 on CIFAR-100
ONLY_ON = {
    "cb_ce": "cifar10-lt", "cb_ce_mild": "cifar100-lt", "cb_focal": "cifar10-lt",
    "drw_cb_ce": "cifar10-lt", "drw_cb_ce_mild": "cifar100-lt", "drw_cb_focal": "cifar10-lt",
}  # fmt: skip


def published(data: str, imbalance: float) -> pd.DataFrame:
    """Published top-1 errors on a data set at an imbalance, each with the recipe that stands for the same method.

    Args:
        data: "cifar10-lt", "cifar100-lt", "imagenet-lt", "inat18"; nothing is published on any other.
        imbalance: largest over smallest class count: 100 or 50 for CIFAR, 256 for imagenet-lt, 500 for inat18.

    Returns:
        A row per figure, the sources in the order of `SOURCES`: the columns of the table, see data/published, with
        top1_error_percent of a single run; and recipe, None where ltlab has none of the same setting. No rows where
        nothing is published.

    Raises:
        FileNotFoundError: the table is not where ltlab keeps it.
    """
    figures = pd.read_csv(tables_folder("published") / "published_errors.csv")
    figures = figures[(figures["dataset"] == DATA_SETS.get(data)) & (figures["imbalance"] == imbalance)]
    recipe_of = {
        (source, family, method): recipe
        for recipe, (family, methods) in (*PUBLISHED_AS.items(), *IN_THE_PAPER.items())
        for source, method in methods.items()
        if ONLY_ON.get(recipe, data) == data and (data, imbalance, source, family, method) not in MISNAMED
    } | OF_LARGE_SETS.get(data, {})
    names = [recipe_of.get(row) for row in figures[["source", "family", "method"]].itertuples(index=False, name=None)]
    figures = figures.assign(recipe=pd.Series(names, index=figures.index, dtype=object))
    return figures.sort_values("source", key=lambda s: s.map(list(SOURCES).index), kind="stable", ignore_index=True)
