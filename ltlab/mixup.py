"""Between images: mixup, the third slot of the training step.

Every image of a batch is mixed with a partner from the same batch, and so are their labels. With lam in [0, 1] drawn
once per batch from Beta(alpha, alpha), and a random permutation j = partner(i):

                    what is mixed                      label's share lam_y
    InputMixup      images                             lam
    ManifoldMixup   what a layer inside gives out      lam
    Remix           images                             lam, or all of it to the rarer class

All are callables `mix(model, images, targets, class_counts=..., generator=...)` that run the model themselves, because
manifold mixup happens inside it, and return its logits with soft targets. Soft targets rather than a sum of two losses,
lam loss(y_i) + (1 - lam) loss(y_j): under a loss that divides by its batch's sum of weights the two are the same only
while the partners are a permutation and all pairs share one lam, which Remix's do not.

Nothing waits for an accelerator while the generator and the class counts live where the images do: lam and partner are
drawn there and stay tensors.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

# --- draws -----------------------------------------------------------------------------------------------------------


def draw_lambda(alpha: float, generator: Generator | None = None, size: tuple[int, ...] = ()) -> Tensor:
    """Mixing coefficients from the symmetric Beta distribution, exactly and without rejection.

        lam ~ Beta(alpha, alpha):   lam = (1 + sin(atan t)) / 2,   t = sqrt(U^(-1/alpha) - 1) cos(2 pi V)

    with U, V uniform on [0, 1]; t sqrt(2 alpha) follows Student's t with 2 alpha degrees of freedom. torch's own Beta
    takes no generator.

    alpha -> 0: lam is 0 or 1, nothing is mixed; alpha = 1: uniform; alpha -> infinity: lam -> 1/2.
    The mean is 1/2 and the variance 1 / (4 (2 alpha + 1)).

    Args:
        alpha: above zero, finite.
        generator: of the draw; the result is on its device. None takes torch's default for the CPU.
        size: shape of the result, () for one number.

    Returns:
        float32 in [0, 1].

    Raises:
        ValueError: alpha is not a finite number above zero.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, section 2 (lam); Bailey, "Polar
    Generation of Random Variates with the t-Distribution", Mathematics of Computation 62, 1994 (t).
    """
    _check_alpha(alpha)
    u, v = torch.rand(2, *size, generator=generator, device=_device(generator), dtype=torch.float32)
    t = torch.expm1(-u.log() / alpha).sqrt() * torch.cos(2 * math.pi * v)
    return (1 + torch.sin(torch.atan(t))) / 2


def draw_partner(n: int, generator: Generator | None = None) -> Tensor:
    """Whom each of n samples is mixed with: a random permutation, in which a sample may be its own partner.

    Args:
        n: samples in the batch.
        generator: as in `draw_lambda`.

    Returns:
        (n,) int64.

    Source: Zhang et al., ICLR 2018, figure 1a.
    """
    return torch.randperm(n, generator=generator, device=_device(generator))


def _device(generator: Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


# --- mixing ----------------------------------------------------------------------------------------------------------


def mix(values: Tensor, partner: Tensor, lam: float | Tensor) -> Tensor:
    """Convex combination of each sample with its partner.

        mixed_i = lam x_i + (1 - lam) x_partner(i)

    lam = 1 gives x back, lam = 0 x[partner], both bit for bit. Half precision is computed in float32 and given back
    as it came, since the labels are mixed by a lam that is not rounded to it.

    Args:
        values: (N, ...) floating point: images, features or probabilities.
        partner: (N,) int64.
        lam: in [0, 1], one for all or (N,).

    Returns:
        (N, ...) in the dtype and memory format of `values`.

    Raises:
        ValueError: `values` are not floating point, shapes that do not fit, or, on the CPU, lam outside [0, 1].

    Source: Zhang et al., ICLR 2018, section 2.
    """
    if not values.is_floating_point():
        raise ValueError(f"values must be floating point, got {values.dtype}; for uint8 images use .float() / 255")
    if partner.shape != values.shape[:1]:
        raise ValueError(f"partner must be ({len(values)},), one per sample, got shape {tuple(partner.shape)}")
    lam = _check_lambda(lam)
    if lam.ndim and lam.shape != partner.shape:
        raise ValueError(f"lam must be one number or ({len(values)},), one per sample, got shape {tuple(lam.shape)}")
    dtype = torch.promote_types(values.dtype, torch.float32)
    lam = lam.to(dtype).to(values.device).reshape(-1, *[1] * (values.ndim - 1))  # (1 or N, 1, ..., 1)
    precise = values.to(dtype)
    return precise.lerp(precise[partner], 1 - lam).to(values.dtype)  # x + (1 - lam) (x[partner] - x)


def soft_targets(targets: Tensor, num_classes: int) -> Tensor:
    """Labels as one-hot rows; probabilities as they are.

    Args:
        targets: (N,) int64 labels, or (N, C) probabilities.
        num_classes: C.

    Returns:
        (N, C) float32.

    Raises:
        ValueError: targets of another dtype or shape, or, on the CPU, a label outside 0 .. C-1.
    """
    if targets.is_floating_point() and targets.ndim == 2 and targets.shape[1] == num_classes:
        return targets.float()
    if targets.dtype != torch.int64 or targets.ndim != 1:
        raise ValueError(
            f"targets must be int64 class indices (N,) or floating-point probabilities (N, C) with C = {num_classes}, "
            f"got {targets.dtype} of shape {tuple(targets.shape)}; use .long() or .float()"
        )
    if targets.is_cpu and len(targets) and not 0 <= targets.min() <= targets.max() < num_classes:
        raise ValueError(
            f"targets must be in [0, {num_classes - 1}], the classes of the logits, got values from "
            f"{targets.min()} to {targets.max()}"
        )
    return F.one_hot(targets, num_classes).float()


def mix_targets(targets: Tensor, partner: Tensor, lam: float | Tensor, num_classes: int) -> Tensor:
    """Soft targets of mixed samples.

        t_i = lam onehot(y_i) + (1 - lam) onehot(y_partner(i))

    lam = 1 gives back `soft_targets(targets, num_classes)`.

    Args:
        targets: (N,) int64 labels, or (N, C) probabilities.
        partner: (N,) int64.
        lam: in [0, 1], one for all or (N,).
        num_classes: C.

    Returns:
        (N, C) float32.

    Raises:
        ValueError: as `soft_targets` and `mix`.

    Source: Zhang et al., ICLR 2018, section 2.
    """
    return mix(soft_targets(targets, num_classes), partner, lam)


def remix_lambda(
    lam: float | Tensor, counts_i: Tensor, counts_j: Tensor, kappa: float = 3.0, tau: float = 0.5
) -> Tensor:
    """The label's share in Remix: as in mixup, unless a much rarer partner can have all of it.

                | 0     if n_i / n_j >= kappa     and lam < tau        all to j, the rarer
        lam_y = | 1     if n_i / n_j <= 1 / kappa and 1 - lam < tau    all to i, the rarer
                | lam   otherwise

    tau = 0 or kappa = infinity: mixup. Where both conditions hold, which takes kappa = 1 and n_i = n_j, the first wins.

    Args:
        lam: share of the image i, in [0, 1].
        counts_i: training images of the class of i.
        counts_j: training images of its partner's class. The three broadcast.
        kappa: how many times larger the other class has to be, at least 1.
        tau: the share of the picture below which the commoner class loses its label, in [0, 1].

    Returns:
        Label shares in [0, 1], of the broadcast shape, in the dtype of lam (float64 for a number).

    Raises:
        ValueError: kappa below 1, tau outside [0, 1], or, on the CPU, lam outside [0, 1].

    Source: Chou et al., "Remix: Rebalanced Mixup", ECCV Workshops 2020, the rule for lambda_y.
    """
    _check_remix(kappa, tau)
    counts_i, counts_j = torch.as_tensor(counts_i), torch.as_tensor(counts_j)
    lam = _check_lambda(lam).to(counts_i.device)
    all_to_j = (counts_i >= kappa * counts_j) & (lam < tau)
    all_to_i = (counts_j >= kappa * counts_i) & (1 - lam < tau)
    return lam.where(~all_to_i, 1.0).where(~all_to_j, 0.0)


# --- the slot --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class InputMixup:
    """Mixup of images: a batch is replaced by convex combinations of its images and of their labels.

        x~ = lam x_i + (1 - lam) x_j,   t~ = lam onehot(y_i) + (1 - lam) onehot(y_j),   lam ~ Beta(alpha, alpha)

    One lam per batch and a random permutation as partners. alpha -> 0 is training without mixup.

    Called as mix(model, images, targets, class_counts=..., generator=...):

        images        (N, 3, H, W) floating point
        targets       (N,) int64, or (N, C) probabilities
        class_counts  not used
        generator     of lam and of the partners; None takes torch's default for the CPU
        ->            logits (N, C) of the mixed images, in the model's dtype, and soft targets (N, C) float32

    Args:
        alpha: of the Beta distribution, above zero; 1 in the paper.

    Raises:
        ValueError: alpha is not a finite number above zero; in a call, images that are not floating point or targets
            that do not fit them.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Zhang et al., AAAI 2021, mixup.
    """

    alpha: float

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *,
        class_counts: Sequence[int] | Tensor | None = None, generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        lam, partner = _draw(self.alpha, images, targets, generator)
        logits = model(mix(images, partner, lam))  # (N, C)
        return logits, mix_targets(targets, partner, lam, logits.shape[1])


@dataclass(frozen=True)
class ManifoldMixup:
    """Mixup of what a layer inside the model gives out; labels as in `InputMixup`.

        h~ = lam h(x_i) + (1 - lam) h(x_j),   h = everything up to and including `layer`

    layer="input" is `InputMixup`, bit for bit from the same generator. alpha -> 0 is training without mixup.

    Called as `InputMixup` is, with any model. Up to `layer`, batch norm included, the network sees unmixed images.

    Args:
        alpha: of the Beta distribution, above zero; 1 in the paper.
        layer: "input", the name of a part of the model as in `model.get_submodule` ("layer3", "pool", "layer1.0"),
            whose output is mixed, or "classifier", whose input is mixed.

    Raises:
        ValueError: alpha is not a finite number above zero; in a call, as `InputMixup` and `forward_mixed`.

    Source: Verma et al., "Manifold Mixup: Better Representations by Interpolating Hidden States", ICML 2019, with one
    fixed layer; Zhang et al., AAAI 2021, mixup.
    """

    alpha: float
    layer: str

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        if not isinstance(self.layer, str) or not self.layer:
            raise ValueError(f"layer={self.layer!r}: give the name of a part of the model, such as 'pool', or 'input'")

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *,
        class_counts: Sequence[int] | Tensor | None = None, generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        lam, partner = _draw(self.alpha, images, targets, generator)
        logits = forward_mixed(model, images, partner, lam, self.layer)  # (N, C)
        return logits, mix_targets(targets, partner, lam, logits.shape[1])

    def check(self, model: nn.Module) -> None:
        """Refuse a model without that layer, before anything is trained."""
        if self.layer != "input":
            _part(model, self.layer)


def forward_mixed(
    model: nn.Module, images: Tensor, partner: Tensor, lam: float | Tensor, layer: str = "input"
) -> Tensor:
    """Logits of a batch that is mixed at a layer.

    lam = 1 gives `model(images)` back, and layer="input" is `model(mix(images, partner, lam))`.

    Args:
        model: from images to logits (N, C).
        images: (N, 3, H, W) floating point.
        partner: (N,) int64.
        lam: in [0, 1], one for all or (N,).
        layer: as in `ManifoldMixup`.

    Returns:
        (N, C) logits. The model is left as it was, whatever happens.

    Raises:
        ValueError: a layer that the model does not have, that did not run exactly once, or that does not give out one
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
                f"layer={layer!r}: mixing takes one floating-point tensor with the batch of {len(images)} first, got "
                f"{what}; {_names(model)}"
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
            f"layer={layer!r} ran {runs} times in one forward pass of the model, mixing takes exactly one; "
            f"{_names(model)}"
        )
    return logits


@dataclass(frozen=True)
class Remix:
    """Mixup of images in which a much rarer class can have the whole label, see `remix_lambda`.

    One lam per batch, one lam_y per pair. tau = 0 or kappa = infinity is `InputMixup`, bit for bit from the same
    generator.

    Called as `InputMixup` is, with targets (N,) int64 and with `class_counts`, the training images of each of the C
    classes of the logits.

    Args:
        alpha: of the Beta distribution, above zero.
        kappa: how many times larger the other class has to be, at least 1; 3 in the paper.
        tau: the share of the picture below which the commoner class loses its label, in [0, 1]; 0.5 in the paper.

    Raises:
        ValueError: alpha is not a finite number above zero, kappa is below 1, tau outside [0, 1]; in a call, as
            `InputMixup`, and for `class_counts` that are missing, not C numbers or (on the CPU) not above zero, or
            targets that are probabilities, which have no class to count.

    Source: Chou et al., "Remix: Rebalanced Mixup", ECCV Workshops 2020.
    """

    alpha: float
    kappa: float = 3.0
    tau: float = 0.5

    def __post_init__(self) -> None:
        _check_alpha(self.alpha)
        _check_remix(self.kappa, self.tau)

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *,
        class_counts: Sequence[int] | Tensor | None = None, generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if targets.is_floating_point():
            raise ValueError("Remix compares the class counts of two labels: give int64 targets (N,), no probabilities")
        lam, partner = _draw(self.alpha, images, targets, generator)
        logits = model(mix(images, partner, lam))  # (N, C)
        soft = soft_targets(targets, logits.shape[1])  # (N, C)
        counts = _check_counts(class_counts, logits)[targets]  # (N,)
        lam_y = remix_lambda(lam, counts, counts[partner], self.kappa, self.tau)  # (N,)
        return logits, mix(soft, partner, lam_y)


def _draw(alpha: float, images: Tensor, targets: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """lam and partner of one batch, on its device."""
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}; for uint8 use .float() / 255")
    if len(images) != len(targets):
        raise ValueError(f"{len(images)} images and {len(targets)} targets: give one target per image")
    lam, partner = draw_lambda(alpha, generator), draw_partner(len(images), generator)
    return lam.to(images.device), partner.to(images.device)


def _part(model: nn.Module, layer: str) -> nn.Module:
    try:
        return model.get_submodule(layer)
    except AttributeError as error:
        raise ValueError(f"layer={layer!r} is no part of the model; {_names(model)}") from error


def _names(model: nn.Module) -> str:
    children = ", ".join(name for name, _ in model.named_children())
    return f"its layers are input, {children}, and with dotted names the layers inside these"


# --- checks ----------------------------------------------------------------------------------------------------------


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < math.inf:  # also true for NaN
        raise ValueError(f"alpha={alpha!r}: it must be a finite number above zero; without mixup leave the slot empty")


def _check_lambda(lam: float | Tensor) -> Tensor:
    lam = lam if isinstance(lam, Tensor) else torch.as_tensor(lam, dtype=torch.float64)
    if lam.is_cpu and not ((lam >= 0) & (lam <= 1)).all():
        raise ValueError(f"lam must be in [0, 1], got {lam.tolist()}")
    return lam


def _check_remix(kappa: float, tau: float) -> None:
    if not kappa >= 1:
        raise ValueError(f"kappa={kappa!r}: a class is at least 1 times as large as another; infinity is mixup")
    if not 0 <= tau <= 1:
        raise ValueError(f"tau={tau!r}: it is a share of the picture, in [0, 1]; 0 is mixup")


def _check_counts(class_counts: Sequence[int] | Tensor | None, logits: Tensor) -> Tensor:
    if class_counts is None:
        raise ValueError("Remix needs class_counts=, the training images of each class")
    counts = torch.as_tensor(class_counts).to(logits.device)
    if counts.shape != logits.shape[1:]:
        raise ValueError(f"class_counts must be ({logits.shape[1]},) as the logits, got shape {tuple(counts.shape)}")
    if counts.is_cpu and not (counts > 0).all():
        raise ValueError(f"class_counts must be above zero, got {counts.min().item():g} for class {counts.argmin()}")
    return counts
