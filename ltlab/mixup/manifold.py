"""Mixup of the output of a layer inside the model."""

from dataclasses import dataclass

from torch import Generator, Tensor, nn

from ..counts import ClassCounts
from .draws import check_alpha, draw
from .mixing import mix, mix_targets


@dataclass(frozen=True)
class ManifoldMixup:
    """Mixup of the output of a layer inside the model; labels as in `InputMixup`.

        h~ = lam h(x_i) + (1 - lam) h(x_j),   h = everything up to and including `layer`

    layer="input" is `InputMixup`, bit for bit from the same generator. alpha -> 0 is training without mixup.

    Called like `InputMixup`, with any model. Up to `layer`, including batch norm, the network sees unmixed images.

    Args:
        alpha: as in `InputMixup`.
        layer: "input"; the name of a layer as in `model.get_submodule` ("layer3", "pool", "layer1.0"), whose output is
            mixed; or "classifier", whose input is mixed.

    Source: Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", ICML 2019, with one
    fixed layer; Zhang et al., AAAI 2021, mixup.
    """

    alpha: float
    layer: str

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        if not isinstance(self.layer, str) or not self.layer:
            raise ValueError(f"layer={self.layer!r} must be the name of a layer, such as 'pool', or 'input'")

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *,
        class_counts: ClassCounts | None = None, generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        lam, partner = draw(self.alpha, images, targets, generator)
        logits = forward_mixed(model, images, partner, lam, self.layer)  # (N, C)
        return logits, mix_targets(targets, partner, lam, logits.shape[1])

    def check(self, model: nn.Module) -> None:
        """Refuse a model without that layer, before training starts."""
        if self.layer != "input":
            _part(model, self.layer)


def forward_mixed(
    model: nn.Module, images: Tensor, partner: Tensor, lam: float | Tensor, layer: str = "input"
) -> Tensor:
    """Logits of a batch that is mixed at a layer.

    lam = 1 returns `model(images)`, and layer="input" is `model(mix(images, partner, lam))`.

    The model is left unchanged, also after an error.

    Args:
        model, images: from (N, 3, H, W) floating point to logits (N, C).
        partner, lam: as in `mix`.
        layer: as in `ManifoldMixup`.

    Raises:
        ValueError: a layer that the model does not have, that did not run exactly once, or whose output is not one
            floating-point tensor with the batch first; otherwise as `mix`.

    Source: Verma et al., ICML 2019, section 2.
    """
    if layer == "input":
        return model(mix(images, partner, lam))
    module = _part(model, layer)
    runs = 0

    def mixed(values: object) -> Tensor:
        nonlocal runs
        runs += 1
        if not isinstance(values, Tensor) or values.shape[:1] != images.shape[:1] or not values.is_floating_point():
            what = f"{values.dtype} {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"layer={layer!r}: the output must be one floating-point tensor with the batch of {len(images)} first, "
                f"got {what}; {_names(model)}"
            )
        return mix(values, partner, lam)

    if layer == "classifier":
        hook = module.register_forward_pre_hook(lambda _, inputs: (mixed(next(iter(inputs), None)), *inputs[1:]))
    else:
        hook = module.register_forward_hook(lambda _, inputs, output: mixed(output))
    with hook:
        logits = model(images)
    if runs != 1:
        raise ValueError(
            f"layer={layer!r} must run exactly once in a forward pass of the model, ran {runs} times; {_names(model)}"
        )
    return logits


def _part(model: nn.Module, layer: str) -> nn.Module:
    try:
        return model.get_submodule(layer)
    except AttributeError as error:
        raise ValueError(f"layer={layer!r} is not a layer of the model; {_names(model)}") from error


def _names(model: nn.Module) -> str:
    children = ", ".join(name for name, _ in model.named_children())
    return f"the layers are input, {children}, and with dotted names the layers inside them"
