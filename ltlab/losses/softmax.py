"""What the losses are built from: the cross-entropy of adjusted logits, and the log-odds of each class."""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx


def softmax_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    scale: Tensor | float | None = None,
    smoothing: Tensor | float | None = None,
) -> Tensor:
    """Cross-entropy of scaled logits with smoothed labels, one loss per sample.

        loss(c) = -(1 - s_c) log p_c - s_c mean_k log p_k,   p = softmax(scale * z),   s = smoothing

    Without scale and smoothing it is `F.cross_entropy(logits, targets, reduction="none")`.

    Args:
        logits: z, (N, C) float32 or float64.
        targets: (N,) int64, or t (N, C) floating point for sum_c t_c loss(c).
        scale: one factor, or (C,), one per class.
        smoothing: in [0, 1); one value, or (C,), one per class.

    Returns:
        (N,) losses.
    """
    if isinstance(smoothing, Tensor):
        smoothing = smoothing.to(logits.dtype)  # (C,)
    if not targets.is_floating_point():
        if isinstance(smoothing, Tensor):
            smoothing = smoothing[targets]  # (N,)
        return index_cross_entropy(logits, targets, scale=scale, smoothing=smoothing)
    if scale is not None:
        logits = logits * scale  # (N, C)
    if smoothing is not None:
        smoothed = targets * smoothing  # (N, C), t_c s_c
        targets = targets - smoothed + smoothed.mean(1, keepdim=True)  # (N, C)
    return F.cross_entropy(logits, targets, reduction="none")


def margin_cross_entropy(logits: Tensor, targets: Tensor, *, scale: float, margin: Tensor) -> Tensor:
    """Cross-entropy with a margin that the label's logit has to make up for, one loss per sample.

        loss(c) = -log softmax(scale * (z - margin_c e_c))_c = -log sigmoid(u_c - scale * margin_c)

    with u the log-odds of scale * z: the second form gives all C losses of a sample at once, for mixed labels.

    Args:
        logits: z, (N, C) float32 or float64.
        targets: (N,) int64, or t (N, C) floating point for sum_c t_c loss(c).
        scale: one factor on the logits and the margins.
        margin: (C,), one per class.

    Returns:
        (N,) losses.
    """
    margin = (scale * margin).to(logits.dtype)  # (C,)
    if not targets.is_floating_point():
        return index_cross_entropy(logits, targets, scale=scale, margin=margin[targets])
    return -(targets * F.logsigmoid(log_odds(logits * scale) - margin)).sum(1)


def log_odds(logits: Tensor, targets: Tensor | None = None) -> Tensor:
    """Log-odds of each class against all others, u_c = log (p_c / (1 - p_c)) = z_c - log sum_{k != c} e^{z_k}.

    p_c = sigmoid(u_c) and 1 - p_c = sigmoid(-u_c), both to full relative accuracy.

    Args:
        logits: z, (N, C), C >= 2.
        targets: (N,) int64 for the log-odds of one class per sample; None for all C, in O(N C) operations.

    Returns:
        (N,) or (N, C).
    """
    if targets is not None:
        target = targets[:, None]  # (N, 1)
        rest = logits.scatter(1, target, -torch.inf).logsumexp(1)  # (N,)
        return logits.gather(1, target)[:, 0] - rest
    # log p - log(1 - p) loses digits only where p > 1/2: in the likeliest class at most, which is done apart.
    top = logits.argmax(1)  # (N,)
    log_p = logits.log_softmax(1)  # (N, C)
    p = log_p.exp().scatter(1, top[:, None], 0.0)  # (N, C)
    return (log_p - torch.log1p(-p)).scatter(1, top[:, None], log_odds(logits, top)[:, None])


def index_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    scale: Tensor | float | None = None,
    margin: Tensor | None = None,
    smoothing: Tensor | float | None = None,
) -> Tensor:
    """Cross-entropy for class indices, with the settings already looked up for each sample.

        loss = -(1 - smoothing) log p_y - smoothing mean_k log p_k,   p = softmax(scale * z - margin e_y)

    On the CPU the gradient, scale * (p - smoothed label), is written out: torch would evaluate every
    exponential a second time and fill one more (N, C) array.

    Args:
        logits: z, (N, C) float32 or float64.
        targets: y, (N,) int64.
        scale: one factor, or (C,), one per class.
        margin: (N,), subtracted from the scaled logit of the label.
        smoothing: one value, or (N,).

    Returns:
        (N,) losses.
    """
    target = targets[:, None]  # (N, 1)
    if margin is not None:
        margin = margin[:, None]  # (N, 1)
    if isinstance(smoothing, Tensor):
        smoothing = smoothing[:, None]  # (N, 1)
    if logits.is_cpu:
        return _CrossEntropy.apply(logits, target, scale, margin, smoothing)[:, 0]
    return _by_torch(logits, target, scale, margin, smoothing)[:, 0]


def _adjusted(logits: Tensor, target: Tensor, scale: Tensor | float | None, margin: Tensor | None) -> Tensor:
    """scale * z - margin e_y, (N, C), without a copy where there is nothing to change."""
    if margin is None:
        return logits if scale is None else logits * scale
    return (logits * (1.0 if scale is None else scale)).scatter_add_(1, target, -margin)


def _by_torch(
    logits: Tensor, target: Tensor, scale: Tensor | float | None, margin: Tensor | None,
    smoothing: Tensor | float | None,
) -> Tensor:  # fmt: skip
    """`index_cross_entropy` in torch's own operations; everything per sample is (N, 1)."""
    log_p = _adjusted(logits, target, scale, margin).log_softmax(1)  # (N, C)
    nll = F.nll_loss(log_p, target[:, 0], reduction="none")[:, None]
    return nll if smoothing is None else (1 - smoothing) * nll - smoothing * log_p.mean(1, keepdim=True)


class _CrossEntropy(torch.autograd.Function):
    """`_by_torch` with its gradient written out."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, logits: Tensor, target: Tensor, scale: Tensor | float | None, margin: Tensor | None,
        smoothing: Tensor | float | None,
    ) -> Tensor:  # fmt: skip
        z = _adjusted(logits, target, scale, margin)  # (N, C)
        p = z.softmax(1)  # (N, C)
        z_y, p_y = z.gather(1, target), p.gather(1, target)
        losses = -p_y.log()
        if p_y.amin() < torch.finfo(p.dtype).tiny:  # p_y has lost its digits, while p is at least 1 / C at its top
            losses = (z.amax(1, keepdim=True) - z_y) - p.amax(1, keepdim=True).log()
        if smoothing is not None:
            losses += smoothing * (z_y - z.mean(1, keepdim=True))
        ctx.save_for_backward(logits, target, p)
        ctx.settings = scale, margin, smoothing
        return losses

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        logits, target, p = ctx.saved_tensors
        scale, margin, smoothing = ctx.settings
        if torch.is_grad_enabled():  # under create_graph=True, for a second derivative
            losses = _by_torch(logits, target, scale, margin, smoothing)
            return *torch.autograd.grad(losses, logits, grad, create_graph=True), None, None, None, None
        if isinstance(scale, float):  # one factor for all goes with the (N, 1) gradient, and saves a pass
            grad, scale = scale * grad, None
        if smoothing is None:
            dz = (p * grad).scatter_add_(1, target, -grad)  # (N, C)
        else:
            dz = torch.addcmul(-smoothing / p.shape[1] * grad, p, grad).scatter_add_(1, target, (smoothing - 1) * grad)
        return dz if scale is None else dz.mul_(scale), None, None, None, None
