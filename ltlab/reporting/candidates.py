"""What a report compares: plain training first, then recipes that tell something, the simpler ones before."""

from dataclasses import dataclass

from ..recipes import RECIPES, Recipe, Stage
from ..results import LABELS

CHOSEN = "chosen"  # tau, on held-out images


@dataclass(frozen=True)
class Candidate:
    """A recipe, and what happens to its logits.

    tau: of `losses.adjust_logits` after training; None for no correction, `CHOSEN` for the best on held-out images.
    """

    recipe: Recipe
    tau: float | str | None = None

    @property
    def name(self) -> str:
        """Recipe and correction as one code."""
        return self.recipe.name + {None: "", CHOSEN: "+post_hoc_chosen"}.get(self.tau, f"+post_hoc_{self.tau}")

    @property
    def label(self) -> str:
        """Recipe and correction as people call them."""
        if self.tau is None:
            return _called(self.recipe)
        correction = LABELS["logit_adjusted_post_hoc"] + (", tau chosen" if self.tau == CHOSEN else "")
        return correction if self.recipe == PLAIN.recipe else f"{_called(self.recipe)}, {correction}"


def _called(recipe: Recipe) -> str:
    own = {"ce": "plain training", "square_root_both": "cost-sensitive CE, γ = 0.5, and square-root sampling"}
    return own.get(recipe.name) or LABELS[recipe.name]


def _named(name: str, tau: float | str | None = None) -> Candidate:
    return Candidate(RECIPES[name], tau)


_BOTH = Stage(loss=RECIPES["cs_ce_smooth"].stages[0].loss, sampler=RECIPES["square_root"].stages[0].sampler)

PLAIN = _named("ce")
ALWAYS = (
    PLAIN,
    *(_named("ce", tau) for tau in (1.0, CHOSEN)),
    *map(_named, ("balanced_softmax", "cs_ce", "cs_ce_smooth", "cb_ce", "class_balanced", "square_root")),
    Candidate(Recipe(_BOTH, name="square_root_both")),
    *map(_named, ("drw_cs_ce", "drw_ldam", "tau_norm", "nearest_class_mean")),
)
IF_TIME = (
    *(_named("ce_cosine", tau) for tau in (None, CHOSEN)),
    *(_named("input_mixup", tau) for tau in (None, CHOSEN)),
    *map(_named, ("input_mixup_balanced_softmax", "drs_class_balanced", "focal_softmax", "cdt")),
)
