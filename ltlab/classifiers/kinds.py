"""The kinds of classifier, what rebuilds them, and what a change of them declares."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from torch import Tensor, nn

from .layers import AlignedClassifier, CosineClassifier, LearntCosineClassifier, ScaledLinear, WeightScaling, linear_of

Function = TypeVar("Function", bound=Callable)


class Kind(NamedTuple):
    """A kind of classifier: its class, and what makes one with the shapes of a `state_dict()` to load into it."""

    type: type[nn.Module]
    from_state: Callable[[Mapping[str, Tensor]], nn.Module]


def _aligned_of(state: Mapping[str, Tensor]) -> AlignedClassifier:
    """What makes an `AlignedClassifier` of any base with the shapes of a state, its form as far as it has shapes."""
    base = {name.removeprefix("base."): value for name, value in state.items() if name.startswith("base.")}
    kind = "linear" if "scale" not in base else "scaled_linear" if base["scale"].ndim else "cosine"
    return AlignedClassifier(CLASSIFIERS[kind].from_state(base), "interpolate" if "gate.weight" in state else "ungated")


CLASSIFIERS = {
    "linear": Kind(nn.Linear, lambda state: linear_of(state["weight"], state.get("bias"))),
    "cosine": Kind(CosineClassifier, lambda state: CosineClassifier(*state["weight"].shape[::-1])),
    "cosine_learnt": Kind(LearntCosineClassifier, lambda state: LearntCosineClassifier(*state["weight"].shape[::-1])),
    "scaled": Kind(
        WeightScaling, lambda state: WeightScaling(linear_of(state["frozen_weight"], state.get("frozen_bias")))
    ),
    "scaled_linear": Kind(ScaledLinear, lambda state: ScaledLinear(linear_of(state["weight"], state.get("bias")))),
    "aligned": Kind(AlignedClassifier, _aligned_of),
}


@dataclass(frozen=True)
class Change:
    """A decorator that declares what a function needs and leaves, of the kinds in `CLASSIFIERS`.

    Args:
        needs: the kinds of classifier that it can change; () is any.
        leaves: the kind that it returns; None is the kind that was there.
        adjusts_prior: whether it corrects the logits for the training set's prior.

    Raises:
        ValueError: a kind that is not in `CLASSIFIERS`.
    """

    needs: tuple[str, ...] = ()
    leaves: str | None = None
    adjusts_prior: bool = False

    def __post_init__(self) -> None:
        if unknown := {*self.needs, self.leaves} - {None, *CLASSIFIERS}:
            raise ValueError(f"{unknown.pop()!r} is not a kind of classifier: add it to CLASSIFIERS, {[*CLASSIFIERS]}")

    def __call__(self, function: Function) -> Function:
        vars(function)["change"] = self
        return function


def declared(function: object) -> Change | None:
    """What a change of the classifier, or a partial of one, declares; None if it does not."""
    declaration = getattr(getattr(function, "func", function), "change", None)
    return declaration if isinstance(declaration, Change) else None
