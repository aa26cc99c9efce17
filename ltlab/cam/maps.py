"""Class activation maps: which places of an image are evidence for a class."""

from operator import attrgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..images import evaluated

TRIED = 4  # images of every call whose way from the features to the logits is checked
LEAST_COSINE = 0.9999  # between what a classifier receives and the mean of the features: bfloat16 and TF32 keep it


def class_activation_maps(features: Tensor, weight: Tensor, labels: Tensor, size: int | tuple[int, int]) -> Tensor:
    """How much each place of the last feature map contributes to the logit of a class, scaled to [0, 1].

        m(x, y) = sum_k w_{label, k} f_k(x, y),   CAM = (m - min m) / (max m - min m)

    m is first up-sampled bilinearly to `size` (pixels as squares, align_corners=False), then scaled, so that every
    map attains 0 and 1. With a linear classifier after global average pooling the logit is the mean of m plus the
    bias. Scaling cancels every positive factor, so the weight of a cosine classifier gives the same map whether it is
    normalised or not.

    A map that is constant up to rounding is all 0.

    Args:
        features: (N, K, h, w), the last feature map; float16 and bfloat16 are computed in float32.
        weight: (C, K) of the classifier.
        labels: (N,) int64, the class of each map: the true class in CAM-based sampling.
        size: (H, W) of the maps, or one integer for both.

    Returns:
        (N, H, W), float32, or float64 if the features are.

    Raises:
        ValueError: shapes or dtypes that do not fit; a size that is not positive; on the CPU also a label without a row
            in `weight`, and features or weights that are not finite.

    Source: Zhou et al., "Learning Deep Features for Discriminative Localization", CVPR 2016, eq. 2.
    """
    h, w = _check(features, weight, labels, size)
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    w_label = weight.to(features.dtype)[labels]  # (N, K)
    maps = torch.einsum("nkhw,nk->nhw", features, w_label)
    maps = F.interpolate(maps[:, None], (h, w), mode="bilinear", align_corners=False)[:, 0]  # (N, H, W)
    if maps.is_cpu and not maps.isfinite().all():
        raise ValueError("features and weight must be finite: the model has diverged, or was given NaN images")
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    largest_sum = (w_label.abs() * features.abs().amax((2, 3))).sum(1)[:, None, None]  # bounds sum_k |w_k f_k|
    finfo = torch.finfo(maps.dtype)
    differs = high - low > 16 * finfo.eps * largest_sum + finfo.tiny
    return torch.where(differs, (maps - low) / (high - low), 0)


def maps_of(
    model: nn.Module, images: Tensor, labels: Tensor, *, size: int | tuple[int, int] | None = None,
    batch_size: int = 128,
) -> Tensor:  # fmt: skip
    """Class activation maps of un-augmented images, computed in batches, in evaluation mode and without gradients.

    A map distributes a logit over the image only if the classifier receives the mean of `features` over the image, or
    a positive multiple of it. Whether it does is checked with the first images. A network that applies a ReLU or
    another pooling after `features`, such as torchvision's DenseNets, does not: a wrapper whose `features` ends right
    before a mean fixes it.

    Args:
        model: has `features(images)`, from float images in [0, 1] to (N, K, h, w), and `classifier.weight` (C, K).
        images, batch_size: as in `ltlab.images.evaluated`.
        labels: (N,) int64, the class of each map.
        size: of the maps; None is the images' (H, W).

    Returns:
        (N, H, W) float32, on the images' device.

    Raises:
        ValueError: labels that do not fit; a classifier that does not receive the mean of the features; what
            `evaluated` and `class_activation_maps` raise.
        AttributeError: the model has no `features` or no `classifier.weight`.
    """
    if labels.shape != images.shape[:1]:
        raise ValueError(f"labels must be one per image, ({len(images)},), got shape {tuple(labels.shape)}")
    try:
        features_of, classifier, weight = attrgetter("features", "classifier", "classifier.weight")(model)
    except AttributeError as error:
        raise AttributeError(f"{error}: a CAM needs model.features(images) and model.classifier.weight") from error
    h, w = images.shape[2:] if size is None else _as_pair(size)
    numbered = enumerate(labels.split(max(1, batch_size)))

    def maps(batch: Tensor) -> Tensor:
        features, (number, batch_labels) = features_of(batch), next(numbered)
        cams = class_activation_maps(features, weight, batch_labels.to(weight.device), (h, w))
        if number == 0:
            _check_pooling(model, classifier, batch[:TRIED], features[:TRIED])
        return cams.to(images.device, torch.float32)

    return evaluated(model, images, maps, batch_size=batch_size)


def _check_pooling(model: nn.Module, classifier: Any, images: Tensor, features: Tensor) -> None:
    """ValueError unless the classifier receives the mean of the features, or a positive multiple of it.

    Where forward uses the classifier's weight without calling it, the logits must be W mean + b instead.
    """
    received: list[Tensor] = []
    with classifier.register_forward_pre_hook(lambda _, inputs: received.extend(inputs[:1])):
        logits = model(images)
    found, expected = (received[-1] if received else logits).float(), features.float().mean((2, 3))  # (n, K)
    if not received:
        bias = getattr(classifier, "bias", None)
        expected = F.linear(expected, classifier.weight.float(), None if bias is None else bias.float())
    if found.shape == expected.shape:
        turned = F.cosine_similarity(found, expected) < LEAST_COSINE
        if not (turned & (found != expected).any(1)).any():  # equal ones may be 0, which have no direction
            return
    name = type(model).__name__
    raise ValueError(
        f"the classifier of {name} does not receive the mean of {name}.features over the image, so its class "
        "activation maps would not add up to the logits: let features(images) end right before a mean over the image, "
        "with any ReLU that follows included"
    )


def _as_pair(size: int | tuple[int, int]) -> tuple[int, int]:
    h, w = (size, size) if isinstance(size, int) else size
    if h < 1 or w < 1:
        raise ValueError(f"size={size}: a map takes at least 1 x 1 pixel")
    return h, w


def _check(features: Tensor, weight: Tensor, labels: Tensor, size: int | tuple[int, int]) -> tuple[int, int]:
    """ValueError unless everything fits; the size as (H, W)."""
    if features.ndim != 4 or not features.is_floating_point():
        raise ValueError(
            f"features must be floating point (N, K, h, w), got {features.dtype} of shape {tuple(features.shape)}; "
            "a CAM is made of the map before the pooling"
        )
    n, k = features.shape[:2]
    if weight.ndim != 2 or weight.shape[1] != k:
        raise ValueError(f"weight must be (C, K) with K = {k} as the features, got shape {tuple(weight.shape)}")
    if labels.dtype != torch.int64 or labels.shape != (n,):
        raise ValueError(
            f"labels must be int64 of shape ({n},), one per image, got {labels.dtype} of shape {tuple(labels.shape)}"
        )
    if labels.is_cpu and n:
        low, high = (int(extreme) for extreme in labels.aminmax())
        if low < 0 or high >= len(weight):
            raise ValueError(
                f"labels must be in [0, {len(weight) - 1}], the rows of weight, got {low if low < 0 else high}"
            )
    return _as_pair(size)
