"""Mixup of images."""

from dataclasses import dataclass

from torch import Generator, Tensor, nn

from ..counts import ClassCounts
from .draws import check_alpha, draw
from .mixing import mix, mix_targets


@dataclass(frozen=True)
class InputMixup:
    """Mixup of images: a batch is replaced by convex combinations of its images and of their labels.

        x~ = lam x_i + (1 - lam) x_j,   t~ = lam onehot(y_i) + (1 - lam) onehot(y_j),   lam ~ Beta(alpha, alpha)

    One lam per batch and a random permutation as partners. alpha -> 0 is training without mixup.

    Called as mix(model, images, targets, class_counts=..., generator=...):

        images        (N, 3, H, W) floating point
        targets       (N,) int64, or (N, C) probabilities
        class_counts  not used
        generator     source of lam and of the partners; None is torch's default for the CPU
        ->            logits (N, C) of the mixed images, in the model's dtype, and soft targets (N, C) float32

    Args:
        alpha: of the Beta distribution, above zero and finite; 1 in the paper.

    Raises:
        ValueError: another alpha; in a call, images that are not floating point or targets that do not fit them.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018; Zhang et al., AAAI 2021, mixup.
    """

    alpha: float

    def __post_init__(self) -> None:
        check_alpha(self.alpha)

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *,
        class_counts: ClassCounts | None = None, generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        lam, partner = draw(self.alpha, images, targets, generator)
        logits = model(mix(images, partner, lam))  # (N, C)
        return logits, mix_targets(targets, partner, lam, logits.shape[1])
