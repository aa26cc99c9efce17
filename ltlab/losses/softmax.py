"""What the losses are built from: the cross-entropy of adjusted logits, and the log-odds of each class.

The functions of one loss per sample take logits z, (N, C) float32 or float64, and targets, (N,) int64 or (N, C)
floating point, t, which cost sum_c t_c loss(c). They return (N,) losses.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def softmax_cross_entropy(
    logits: Tensor, targets: Tensor, *, scale: Tensor | float | None = None, smoothing: Tensor | float | None = None
) -> Tensor:
    """Cross-entropy of scaled logits with smoothed labels, one loss per sample.

        loss(c) = -(1 - s_c) log p_c - s_c mean_k log p_k,   p = softmax(scale * z),   s = smoothing

    Without scale and smoothing it is `F.cross_entropy(logits, targets, reduction="none")`.

    Args:
        scale: () or (C,).
        smoothing: () or (C,), in [0, 1).
    """
    if scale is not None:
        logits = logits * scale  # (N, C)
    if smoothing is None:
        return F.cross_entropy(logits, targets, reduction="none")
    if isinstance(smoothing, Tensor):
        smoothing = smoothing.to(logits.dtype)  # (C,)
    if targets.is_floating_point():
        smoothed = targets * smoothing  # (N, C), t_c s_c
        targets = targets - smoothed + smoothed.mean(1, keepdim=True)  # (N, C)
        return F.cross_entropy(logits, targets, reduction="none")
    s = smoothing[targets] if isinstance(smoothing, Tensor) else smoothing  # (N,) or ()
    log_p = logits.log_softmax(1)  # (N, C)
    return (1 - s) * F.nll_loss(log_p, targets, reduction="none") - s * log_p.mean(1)


def margin_cross_entropy(logits: Tensor, targets: Tensor, *, scale: float, margin: Tensor) -> Tensor:
    """Cross-entropy with a margin that the label's logit has to make up for, one loss per sample.

        loss(c) = -log softmax(scale * (z - margin_c e_c))_c = -log sigmoid(u_c - scale * margin_c)

    with u the log-odds of scale * z: the second form gives all C losses of a sample at once, for mixed labels.

    Args:
        scale: () factor of the logits and the margins.
        margin: (C,).
    """
    margin = (scale * margin).to(logits.dtype)  # (C,)
    logits = logits * scale  # (N, C)
    if targets.is_floating_point():
        return -(targets * F.logsigmoid(log_odds(logits) - margin)).sum(1)
    logits = logits.scatter_add_(1, targets[:, None], -margin[targets, None])
    return F.cross_entropy(logits, targets, reduction="none")


def log_odds(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Log-odds of each class against all others, u_c = log (p_c / (1 - p_c)) = z_c - log sum_{k != c} e^{z_k}.

    p_c = sigmoid(u_c) and 1 - p_c = sigmoid(-u_c), both to full relative accuracy.

    Args:
        logits: (N, C) floating point with C >= 2, z.
        targets: (N,) int64 for the log-odds of one class per sample; None for all C, in O(N C) operations.

    Returns:
        (N,) or (N, C).
    """
    if targets is not None:
        target = targets[:, None]  # (N, 1)
        rest = logits.scatter(1, target, -torch.inf).logsumexp(1)  # (N,)
        return logits.gather(1, target)[:, 0] - rest
    # log p - log(1 - p) loses digits only where p > 1/2: in at most the most likely class, which is computed apart.
    top = logits.argmax(1)  # (N,)
    log_p = logits.log_softmax(1)  # (N, C)
    p = log_p.exp().scatter(1, top[:, None], 0.0)  # (N, C)
    return (log_p - torch.log1p(-p)).scatter(1, top[:, None], log_odds(logits, top)[:, None])
