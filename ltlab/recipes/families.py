"""The recipes by name, family by family."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from torch import nn

from ..cam import ForegroundTransform, ShuffledForegroundTransform, WholeImageTransform
from ..classifiers import (
    aligned,
    fresh,
    logit_adjusted,
    nearest_class_mean,
    scaled_linear,
    tau_normalised,
    weight_scaling,
)
from ..losses import (
    BalancedSoftmaxLoss,
    CDTLoss,
    ClassBalancedFocalLoss,
    ClassBalancedLoss,
    CostSensitiveLoss,
    EqualizationLoss,
    FocalLoss,
    GeneralizedReweightLoss,
    LabelAwareSmoothingLoss,
    LabelSmoothingLoss,
    LDAMLoss,
    LogitAdjustedLoss,
)
from ..mixup import InputMixup, ManifoldMixup, Remix
from ..names import look_up
from ..samplers import (
    BilateralSampler,
    PowerSampler,
    ProgressivelyBalancedSampler,
    RandomOverSampler,
    RandomUnderSampler,
    ReversedSampler,
)
from .recipe import Recipe, Stage

CLASS_BALANCED = partial(PowerSampler, q=0.0)

# what a mistake costs, from the first epoch on; or deferred (DRW), in the last fifth
LOSSES: dict[str, nn.Module | Callable] = {
    "cs_ce": CostSensitiveLoss,
    "cs_ce_smooth": partial(CostSensitiveLoss, gamma=0.5),
    "focal": FocalLoss(gamma=2.0),
    "focal_softmax": FocalLoss(gamma=2.0, form="softmax"),
    "cb_ce": partial(ClassBalancedLoss, beta=0.9999),
    "cb_ce_mild": partial(ClassBalancedLoss, beta=0.9),
    "cb_focal": partial(ClassBalancedFocalLoss, beta=0.9999, gamma=1.0),
    "balanced_softmax": BalancedSoftmaxLoss,
    "logit_adjusted": partial(LogitAdjustedLoss, tau=1.0),
    "label_smoothing": LabelSmoothingLoss(smoothing=0.1),
    "label_aware_smoothing": LabelAwareSmoothingLoss,
    "cdt": partial(CDTLoss, gamma=0.2),
    "seql": EqualizationLoss,
}
WITHOUT_MARGINS = partial(LDAMLoss, max_margin=0.0)  # cross-entropy on scaled cosines
# which image next, from the first epoch on; or deferred (DRS), in the last fifth
SAMPLERS: dict[str, Callable] = {
    "over_sampling": RandomOverSampler,
    "under_sampling": RandomUnderSampler,
    "instance_balanced": partial(PowerSampler, q=1.0),
    "square_root": partial(PowerSampler, q=0.5),
    "class_balanced": CLASS_BALANCED,
    "progressive": ProgressivelyBalancedSampler,
    "reversed": ReversedSampler,
    "bilateral": BilateralSampler,
}
# between images, for twice the epochs; the plain name has the paper's alpha
MIXES: dict[str, InputMixup | ManifoldMixup | Remix] = {
    "input_mixup": InputMixup(alpha=1.0),
    "manifold_mixup": ManifoldMixup(alpha=1.0, layer="pool"),
    **{f"manifold_mixup_{layer}": ManifoldMixup(alpha=1.0, layer=layer) for layer in ("layer1", "layer2", "layer3")},
    "remix": Remix(alpha=1.0),
}
ALPHAS = (0.2, 4.0)  # the rest of the grid over alpha
# which images the second stage of CAM-based re-sampling draws
CAM_SAMPLERS = {
    "": CLASS_BALANCED,
    "_square_root": SAMPLERS["square_root"],
    "_progressive": ProgressivelyBalancedSampler,
    "_over": RandomOverSampler,
    "_under": RandomUnderSampler,
}


def _deferred(name: str, **slot: Any) -> Recipe:
    """Plain training, and the trick in the last fifth of the epochs, where the learning rate is low."""
    return Recipe(Stage(share=0.8), Stage(share=0.2, **slot), name=name)


def _two_stages(name: str, **slots: Any) -> Recipe:
    """Plain training, then a second stage with a schedule of its own, as the authors train CAM-based re-sampling."""
    return Recipe(Stage(share=0.8, schedule="first"), Stage(share=0.2, schedule="second", **slots), name=name)


RETRAINED = Stage(
    share=0.15, schedule="retrain", weight_decay=5e-4, sampler=CLASS_BALANCED, trains="classifier", batch_norm="eval"
)


def _retrained(name: str, classifier: Callable, mix: Any = None, **slots: Any) -> Recipe:
    """Plain training, or mixup, then only the new classifier, class-balanced, on features frozen to the bit."""
    return Recipe(Stage(mix=mix), replace(RETRAINED, classifier=classifier, **slots), name=name)


def _scaled(name: str, *, mix: Any = None, **slots: Any) -> Recipe:
    """Mixup, or plain training, then the trained classifier with factors, class-balanced, as in MiSLAS.

    Head and tail of the smoothing and the rate of weight and bias are the authors' for CIFAR-10-LT-100. They train the
    classifier for a twentieth of the epochs; here it takes as long as in cRT and LWS, so that only the method differs.
    """
    second = replace(RETRAINED, schedule="refit", weight_decay=None, classifier=scaled_linear)
    rates = {"classifier.weight": 0.5, "classifier.bias": 0.5}
    return Recipe(Stage(mix=mix), replace(second, rates=rates, **slots), name=name)


def _aligned(
    name: str, *, form: str = "interpolate", rho: float = 1.2, classifier: str = "linear", **slots: Any
) -> Recipe:
    """Plain training, then the aligned classifier on images as they come, re-weighted by GRW, as in DisAlign."""
    second = Stage(
        share=0.15, schedule="refit", loss=partial(GeneralizedReweightLoss, rho=rho),
        classifier=partial(aligned, form=form), trains="classifier", batch_norm="eval",
    )  # fmt: skip
    return Recipe(Stage(), replace(second, **slots), name=name, classifier=classifier)


def _long(name: str, **slot: Any) -> Recipe:
    """Twice the epochs, which mixup needs."""
    return Recipe(Stage(share=2.0, **slot), name=name)


def _finetuned(name: str, **slot: Any) -> Recipe:
    """Twice the epochs, then some without the slot at a low learning rate."""
    return Recipe(Stage(share=2.0, **slot), Stage(share=0.1, schedule="finetune"), name=name)


MIX_GRID = {
    f"{name}_alpha{alpha:g}": replace(mix, alpha=alpha)
    for name, mix in MIXES.items()
    if name != "remix"
    for alpha in ALPHAS
}

# what goes together with every mix: for all epochs, or with the mix in all and the trick in the last fifth
WITH_MIX: dict[str, dict[str, Any]] = {
    **{name: {"loss": LOSSES[name]} for name in ("cs_ce", "balanced_softmax")},
    **{name: {"sampler": SAMPLERS[name]} for name in ("class_balanced", "progressive", "bilateral")},
}
WITH_MIX_DEFERRED: dict[str, dict[str, Any]] = {
    **{f"drw_{name}": {"loss": LOSSES[name]} for name in ("cs_ce", "balanced_softmax")},
    "drs_class_balanced": {"sampler": CLASS_BALANCED},
}
POST_HOC = Stage(epochs=0, classifier=partial(logit_adjusted, tau=1.0))  # the prior taken out of a trained network
SMOOTHED: dict[str, Any] = {"loss": partial(LabelAwareSmoothingLoss, head=0.3, tail=0.0)}
SHIFTED: dict[str, Any] = {"batch_norm": "shift"}
CAM_BALANCED = {"sampler": CLASS_BALANCED, "foreground": ForegroundTransform()}
FINETUNED_BALANCED = Stage(share=0.1, schedule="finetune", sampler=CLASS_BALANCED)


def _mixed_deferred(name: str, mix: Any, **slot: Any) -> Recipe:
    """Mixup for twice the epochs, together with another trick in their last fifth, where the learning rate is low."""
    return Recipe(Stage(share=1.6, mix=mix), Stage(share=0.4, mix=mix, **slot), name=name)


def _bag(name: str, *last: Stage, mix: Any = MIXES["input_mixup"], **second: Any) -> Recipe:
    """Mixup; then, in a stage of its own, mixup and the second stage's slots; then the last stage, if any."""
    first = Stage(share=1.6, schedule="first", mix=mix)
    return Recipe(first, Stage(share=0.4, schedule="second", mix=mix, **second), *last, name=name)


COMBINATIONS = (
    _long("balanced_softmax_long", loss=BalancedSoftmaxLoss),
    Recipe(Stage(share=2.0), POST_HOC, name="logit_adjusted_post_hoc_long"),
    *(
        _long(f"{mix}_{name}", mix=MIXES[mix], **slot)
        for mix in ("input_mixup", "manifold_mixup", "remix")
        for name, slot in WITH_MIX.items()
    ),
    *(
        _mixed_deferred(f"{mix}_{name}", MIXES[mix], **slot)
        for mix in ("input_mixup", "manifold_mixup", "remix")
        for name, slot in WITH_MIX_DEFERRED.items()
    ),
    _bag("input_mixup_cam_drs", **CAM_BALANCED),
    # the paper's final recipe as its authors' code trains it, and the same without one of its tricks
    _bag("bag_of_tricks", FINETUNED_BALANCED, **CAM_BALANCED),
    _bag("bag_of_tricks_without_cam", FINETUNED_BALANCED, sampler=CLASS_BALANCED),
    _bag("bag_of_tricks_without_mixup", FINETUNED_BALANCED, mix=None, **CAM_BALANCED),
    # the same as often summarised: mixup and fine-tuning first, then the classifier alone on the CAM-based set
    Recipe(
        Stage(share=1.6, mix=MIXES["input_mixup"]),
        Stage(share=0.1, schedule="finetune"),
        Stage(share=0.4, schedule="second", trains="classifier", batch_norm="eval", **CAM_BALANCED),
        name="bag_of_tricks_classifier",
    ),
)  # fmt: skip

# the final recipe on large images: longer fine-tuning, and only rare classes move (below=, as in the paper)
LARGE = tuple(
    Recipe(
        Stage(share=1.6, schedule="first", mix=MIXES["input_mixup"]),
        Stage(
            share=0.4, schedule="second", mix=MIXES["input_mixup"],
            sampler=CLASS_BALANCED, foreground=ForegroundTransform(below=below),
        ),
        replace(FINETUNED_BALANCED, share=0.2),
        name=f"bag_of_tricks_{name}",
    )
    for name, below in {"imagenet_lt": 100, "inat18": 50}.items()
)  # fmt: skip

FAMILIES: dict[str, tuple[Recipe, ...]] = {  # what belongs in one comparison, see `family`
    "baseline": (Recipe(Stage(), name="ce"),),
    "re-weighting": (
        *(Recipe(Stage(loss=loss), name=name) for name, loss in LOSSES.items()),
        Recipe(Stage(loss=LDAMLoss), name="ldam", classifier="cosine"),
        Recipe(Stage(loss=WITHOUT_MARGINS), name="ce_cosine", classifier="cosine"),  # LDAM's control
    ),
    "re-sampling": tuple(Recipe(Stage(sampler=sampler), name=name) for name, sampler in SAMPLERS.items()),
    "mixup": (
        _long("ce_long"),
        _finetuned("ce_long_finetune"),
        *(_long(name, mix=mix) for name, mix in MIXES.items()),
        *(_finetuned(f"{name}_finetune", mix=MIXES[name]) for name in ("input_mixup", "manifold_mixup", "remix")),
        *(_long(name, mix=mix) for name, mix in MIX_GRID.items()),
    ),
    "two-stage": (
        *(_deferred(f"drw_{name}", loss=loss) for name, loss in LOSSES.items()),
        Recipe(
            Stage(share=0.8, loss=LDAMLoss),
            Stage(share=0.2, loss=partial(LDAMLoss, beta=0.9999)),
            name="drw_ldam", classifier="cosine",
        ),
        Recipe(
            Stage(share=0.8, loss=WITHOUT_MARGINS),
            Stage(share=0.2, loss=partial(WITHOUT_MARGINS, beta=0.9999)),
            name="drw_ce_cosine", classifier="cosine",
        ),
        *(_deferred(f"drs_{name}", sampler=sampler) for name, sampler in SAMPLERS.items()),
        _two_stages("drs_classifier", sampler=CLASS_BALANCED, trains="classifier", batch_norm="eval"),
        _two_stages("drs_classifier_shift", sampler=CLASS_BALANCED, trains="classifier", batch_norm="shift"),
        _retrained("crt", fresh),
        _retrained("lws", weight_scaling),
        Recipe(Stage(), Stage(epochs=0, classifier=partial(tau_normalised, tau=1.0)), name="tau_norm"),
        Recipe(Stage(), Stage(epochs=0, classifier=nearest_class_mean), name="nearest_class_mean"),
        Recipe(Stage(), POST_HOC, name="logit_adjusted_post_hoc"),
    ),
    "cam": (
        *(
            _two_stages(f"cam_drs{name}", sampler=sampler, foreground=ForegroundTransform())
            for name, sampler in CAM_SAMPLERS.items()
        ),
        _two_stages("cam_drs_fill", sampler=CLASS_BALANCED, foreground=ForegroundTransform(fill=True)),
        _two_stages("cam_drs_shuffled", sampler=CLASS_BALANCED, foreground=ShuffledForegroundTransform()),
        _two_stages("transform_drs", sampler=CLASS_BALANCED, foreground=WholeImageTransform()),
    ),
    "calibration": (
        _scaled("scaled_classifier"),
        _scaled("mixup_scaled_classifier", mix=MIXES["input_mixup"]),
        _scaled("mislas", mix=MIXES["input_mixup"], **SMOOTHED, **SHIFTED),
        _scaled("mislas_without_mixup", **SMOOTHED, **SHIFTED),
        _scaled("mislas_without_shift", mix=MIXES["input_mixup"], **SMOOTHED),
        _scaled("mislas_without_smoothing", mix=MIXES["input_mixup"], **SHIFTED),
        Recipe(Stage(mix=MIXES["input_mixup"]), name="mixup"),  # their first stage
        _retrained("mixup_crt", fresh, MIXES["input_mixup"]),
        _retrained("mixup_lws", weight_scaling, MIXES["input_mixup"]),
        _retrained("crt_over_smoothed", fresh, sampler=None, loss=LabelSmoothingLoss(smoothing=0.98)),  # LOS
    ),
    "alignment": (
        _aligned("disalign"),
        _aligned("disalign_shift", **SHIFTED),
        _aligned("disalign_cosine", rho=1.5, classifier="cosine"),
        _aligned("disalign_ungated", form="ungated"),
        _aligned("disalign_magnitude", rates={"classifier.margin": 0.0}),
        _aligned("disalign_margin", rates={"classifier.magnitude": 0.0}),
        _aligned("disalign_rho0", rho=0.0),
        _retrained("grw_crt", fresh, sampler=None, loss=partial(GeneralizedReweightLoss, rho=1.2)),
        _aligned("marc", form="marc"),
    ),
    "combinations": COMBINATIONS,
    "large": LARGE,
}  # fmt: skip

RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in FAMILIES.values() for recipe in family}


def family(name: str) -> list[Recipe]:
    """The recipes of a family, the baseline first.

    Raises:
        ValueError: an unknown name; the nearest known one is named.
    """
    members = look_up("family", name, FAMILIES)
    return [*(FAMILIES["baseline"] if name != "baseline" else ()), *members]


def get(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        ValueError: an unknown name; the nearest known one is named.
    """
    return look_up("recipe", name, RECIPES)
