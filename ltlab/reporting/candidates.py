"""What a report compares: plain training first, then recipes that tell something, the simpler ones before."""

from dataclasses import dataclass

from ..recipes import RECIPES, Recipe, Stage

CHOSEN = "chosen"  # tau, on held-out images


@dataclass(frozen=True)
class Candidate:
    """A recipe, and what happens to its logits.

    tau: of `losses.adjust_logits` after training; None for no correction, `CHOSEN` for the best on held-out images.
    """

    label: str
    recipe: Recipe
    tau: float | str | None = None

    @property
    def name(self) -> str:
        return self.recipe.name + {None: "", CHOSEN: "+post_hoc_chosen"}.get(self.tau, f"+post_hoc_{self.tau}")


def _named(label: str, name: str, tau: float | str | None = None) -> Candidate:
    return Candidate(label, RECIPES[name], tau)


_BOTH = Stage(loss=RECIPES["cs_ce_smooth"].stages[0].loss, sampler=RECIPES["square_root"].stages[0].sampler)

PLAIN = _named("plain training", "ce")
ALWAYS = (
    PLAIN,
    _named("post-hoc logit adjustment", "ce", 1.0),
    _named("post-hoc logit adjustment, tau chosen", "ce", CHOSEN),
    _named("balanced softmax", "balanced_softmax"),
    _named("inverse-frequency weights", "cs_ce"),
    _named("square-root weights", "cs_ce_smooth"),
    _named("class-balanced loss", "cb_ce"),
    _named("class-balanced sampling", "class_balanced"),
    _named("square-root sampling", "square_root"),
    Candidate("square-root weights and sampling", Recipe(_BOTH, name="square_root_both")),
    _named("deferred re-weighting", "drw_cs_ce"),
    _named("LDAM with deferred re-weighting", "drw_ldam"),
    _named("tau-normalised classifier", "tau_norm"),
    _named("nearest class mean", "nearest_class_mean"),
)
IF_TIME = (
    _named("cosine classifier", "ce_cosine"),
    _named("cosine classifier, post-hoc, tau chosen", "ce_cosine", CHOSEN),
    _named("mixup of features", "input_mixup"),
    _named("mixup, post-hoc, tau chosen", "input_mixup", CHOSEN),
    _named("mixup and balanced softmax", "input_mixup_balanced_softmax"),
    _named("deferred class-balanced sampling", "drs_class_balanced"),
    _named("focal loss", "focal_softmax"),
    _named("class-dependent temperatures", "cdt"),
)
