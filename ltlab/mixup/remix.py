"""Mixup in which the label depends on how rare a class is."""

from dataclasses import dataclass

from torch import Generator, Tensor, nn

from ..counts import ClassCounts, as_counts, as_tensor, comparable, in_class_order
from .draws import check_alpha, draw
from .mixing import check_lambda, mix, soft_targets


@dataclass(frozen=True)
class Remix:
    """Mixup of images in which a much rarer class can receive the whole label, see `remix_lambda`.

    One lam per batch, one lam_y per pair. tau = 0 or kappa = infinity is `InputMixup`, bit for bit from the same
    generator.

    Called like `InputMixup`, with targets (N,) int64 and with class_counts (C,), the training images of each class.

    Args:
        alpha: as in `InputMixup`.
        kappa: at least 1, how many times larger the other class has to be; 3 in the paper.
        tau: in [0, 1], the fraction of the image below which the more frequent class loses its label; 0.5 in the paper.

    Raises:
        ValueError: a setting outside its range; in a call, as `InputMixup`, and for `class_counts` that are missing,
            not C numbers or (on the CPU) not above zero, or targets that are probabilities, which have no class to
            count.

    Source: Chou et al., "Remix: Rebalanced Mixup", ECCV Workshops 2020.
    """

    alpha: float
    kappa: float = 3.0
    tau: float = 0.5

    def __post_init__(self) -> None:
        check_alpha(self.alpha)
        _check_remix(self.kappa, self.tau)

    def __call__(
        self, model: nn.Module, images: Tensor, targets: Tensor, *,
        class_counts: ClassCounts | None = None, generator: Generator | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        if targets.is_floating_point():
            raise ValueError("targets must be (N,) int64 labels for Remix, which compares the counts of two classes")
        lam, partner = draw(self.alpha, images, targets, generator)
        logits = model(mix(images, partner, lam))  # (N, C)
        soft = soft_targets(targets, logits.shape[1])  # (N, C)
        counts = _counts_of(class_counts, logits)[targets]  # (N,)
        lam_y = remix_lambda(lam, counts, counts[partner], self.kappa, self.tau)  # (N,)
        return logits, mix(soft, partner, lam_y)


def remix_lambda(
    lam: float | Tensor, counts_i: Tensor, counts_j: Tensor, kappa: float = 3.0, tau: float = 0.5
) -> Tensor:
    """Weight of the label in Remix: as in mixup, unless one class is much rarer, which can receive all of it.

                | 0     if n_i / n_j >= kappa     and lam < tau        all to j, the rarer
        lam_y = | 1     if n_i / n_j <= 1 / kappa and 1 - lam < tau    all to i, the rarer
                | lam   otherwise

    tau = 0 or kappa = infinity: mixup. Where both conditions hold, which takes kappa = 1 and n_i = n_j, the first wins.

    Args:
        lam: () or (N,), in [0, 1], weight of the image i; lam_y has its dtype (float64 for a number).
        counts_i, counts_j: () or (N,), training images of the class of i, and of its partner's.
        kappa, tau: as in `Remix`.

    Source: Chou et al., "Remix: Rebalanced Mixup", ECCV Workshops 2020, the rule for lambda_y.
    """
    _check_remix(kappa, tau)
    counts_i, counts_j = (n if n.is_floating_point() else n.float() for n in map(as_tensor, (counts_i, counts_j)))
    lam = check_lambda(lam).to(counts_i.device)
    all_to_j = (counts_i >= kappa * counts_j) & (lam < tau)
    all_to_i = (counts_j >= kappa * counts_i) & (1 - lam < tau)
    return lam.where(~all_to_i, 1.0).where(~all_to_j, 0.0)


def _check_remix(kappa: float, tau: float) -> None:
    if not comparable(kappa) >= 1:
        raise ValueError(f"kappa={kappa!r} must be at least 1; infinity is mixup")
    if not 0 <= comparable(tau) <= 1:
        raise ValueError(f"tau={tau!r} must be in [0, 1]; 0 is mixup")


def _counts_of(class_counts: ClassCounts | None, logits: Tensor) -> Tensor:
    """Counts (C,) on the logits' device; their values are checked on the CPU only."""
    if class_counts is None:
        raise ValueError("Remix needs class_counts=, the training images of each class")
    counts = in_class_order(class_counts)
    counts = as_counts(counts).float() if counts.is_cpu else counts
    if counts.shape != logits.shape[1:]:
        raise ValueError(f"class_counts must be ({logits.shape[1]},) like the logits, got shape {tuple(counts.shape)}")
    return counts.to(logits.device)
