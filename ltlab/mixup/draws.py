"""What is drawn for each batch: how much of each image, and which partner."""

import math

import torch
from torch import Generator, Tensor

from ..counts import comparable


def draw_lambda(alpha: float, generator: Generator | None = None, size: tuple[int, ...] = ()) -> Tensor:
    """Mixing coefficients from the symmetric Beta distribution, exactly and without rejection.

        lam ~ Beta(alpha, alpha):   lam = (1 + sin(atan t)) / 2,   t = sqrt(U^(-1/alpha) - 1) cos(2 pi V)

    with U, V uniform on [0, 1]; t sqrt(2 alpha) follows Student's t with 2 alpha degrees of freedom. torch's own Beta
    takes no generator.

    alpha -> 0: lam is 0 or 1, nothing is mixed; alpha = 1: uniform; alpha -> infinity: lam -> 1/2.
    The mean is 1/2 and the variance 1 / (4 (2 alpha + 1)).

    Args:
        alpha: above zero, finite; otherwise a ValueError.
        generator: source of the draw; the result is on its device. None is torch's default for the CPU.
        size: shape of the result, float32; () for one number.

    Source: Zhang et al., "mixup: Beyond Empirical Risk Minimization", ICLR 2018, section 2 (lam); Bailey, "Polar
    Generation of Random Variates with the t-Distribution", Mathematics of Computation 62, 1994 (t).
    """
    check_alpha(alpha)
    device = generator.device if generator else "cpu"
    u, v = torch.rand(2, *size, generator=generator, device=device, dtype=torch.float32)
    t = torch.expm1(-u.log() / alpha).sqrt() * torch.cos(2 * math.pi * v)
    return (1 + torch.sin(torch.atan(t))) / 2


def draw_partner(n: int, generator: Generator | None = None) -> Tensor:
    """The partner of each of n samples: a random permutation, in which a sample may be its own partner. -> (n,) int64

    The generator is as in `draw_lambda`.

    Source: Zhang et al., ICLR 2018, figure 1a.
    """
    return torch.randperm(n, generator=generator, device=generator.device if generator else "cpu")


def draw(alpha: float, images: Tensor, targets: Tensor, generator: Generator | None) -> tuple[Tensor, Tensor]:
    """lam and partner of one batch, on its device."""
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, got {images.dtype}; for uint8 use .float() / 255")
    if len(images) != len(targets):
        raise ValueError(f"targets must be one per image, got {len(images)} images and {len(targets)} targets")
    lam, partner = draw_lambda(alpha, generator), draw_partner(len(images), generator)
    return lam.to(images.device), partner.to(images.device)


def check_alpha(alpha: float) -> None:
    """A ValueError unless alpha is a finite number above zero."""
    if not 0 < comparable(alpha) < math.inf:  # also true for NaN
        raise ValueError(f"alpha={alpha!r} must be a finite number above zero; for no mixup leave the slot empty")
