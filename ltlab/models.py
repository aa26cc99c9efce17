"""Networks with separate features and classifier, because CAM, mixup and two-stage training need both.

Every model here is a `Net`: a chain of named parts, from image to logits,

    normalise -> stem -> layer1 -> layer2 -> ... -> pool -> classifier
    |------------- features(x): (N, K, h, w) -----|        Linear(K, C)

so that `model.features(images)` is the last map, `model.classifier.weight` is (C, K), and manifold mixup mixes at the
part of a given name. A custom model works wherever these two attributes exist. The functions here make networks in
float32 on the CPU, independent of torch's defaults; `.to(device)` moves them.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifiers import CLASSIFIERS
from .defaults import usual_defaults
from .names import look_up, one_of

if TYPE_CHECKING:
    from torchvision.models import ResNet

# of images in [0, 1], as the whole field uses them
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Normalise(nn.Module):
    """Per-channel standardisation (x - mean) / std of images in [0, 1]; uint8 images are scaled to [0, 1] first.

    It is part of the model, so a checkpoint alone is enough to predict. It is affine and so commutes with mixup:
    mixing before or after it is the same.

    Args:
        mean, std: (3,), kept as buffers; None leaves the images unchanged, mean 0 and std 1.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Tensor | None = None, std: Tensor | None = None) -> None:
        super().__init__()
        mean, std = torch.zeros(3) if mean is None else mean, torch.ones(3) if std is None else std
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1).float())
        self.register_buffer("std", std.reshape(1, -1, 1, 1).float())

    def forward(self, images: Tensor) -> Tensor:
        if images.dtype == torch.uint8:
            images = images.float() / 255
        return (images - self.mean) / self.std


class Net(nn.Module):
    """A chain of named layers, then a global average pool and a linear classifier.

    Args:
        layers: the named parts between `normalise` and `pool`, in order; the last has `width` output channels.
        width: K, channels of the last feature map.
        num_classes: C, rows of the classifier.
        mean, std: (3,) statistics of the training images in [0, 1]; None leaves images unchanged.

    Shapes: images (N, 3, H, W), uint8 or float in [0, 1] -> features (N, K, h, w) -> logits (N, C).
    """

    def __init__(
        self, layers: Mapping[str, nn.Module], width: int, num_classes: int,
        mean: Tensor | None = None, std: Tensor | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.normalise = Normalise(mean, std)
        self.feature_layers = tuple(layers)
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.pool: nn.Module = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(width, num_classes)

    def features(self, images: Tensor) -> Tensor:
        x = self.normalise(images)  # (N, 3, H, W)
        for name in self.feature_layers:
            x = getattr(self, name)(x)
        return x  # (N, K, h, w)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.pool(self.features(images)))  # (N, C)


def _conv(in_channels: int, out_channels: int, stride: int = 1, size: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, stride, padding=size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
    )


@usual_defaults()
def small_net(num_classes: int, mean: Tensor | None = None, std: Tensor | None = None) -> Net:
    """Five convolutions for a laptop: 32 x 32 images to an 8 x 8 last map of 64 channels, 0.04 M parameters."""

    def conv(*args: int) -> nn.Sequential:
        return nn.Sequential(*_conv(*args), nn.ReLU(inplace=True))

    layers = {
        "stem": conv(3, 16, 2, 5),
        "layer1": conv(16, 16),
        "layer2": nn.Sequential(conv(16, 32, 2), conv(32, 32)),
        "layer3": conv(32, 64),
    }
    return Net(layers, 64, num_classes, mean, std)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut of option A (He et al., CVPR 2016, section 4.2).

    Where the block halves the map and doubles the channels, the shortcut takes every second pixel and pads the new
    channels with zeros, half before and half after: no parameters.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(in_channels, out_channels, stride)
        self.conv2 = _conv(out_channels, out_channels)
        self.stride, self.new_channels = stride, out_channels - in_channels

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.new_channels:
            half = self.new_channels // 2
            shortcut = F.pad(shortcut, (0, 0, 0, 0, half, self.new_channels - half))
        return F.relu(self.conv2(F.relu(self.conv1(x))) + shortcut)


@usual_defaults()
def resnet32(num_classes: int, mean: Tensor | None = None, std: Tensor | None = None) -> Net:
    """ResNet-32 for CIFAR (He et al., CVPR 2016): 3 x 5 basic blocks of 16, 32, 64 channels, 0.46 M parameters.

    32 x 32 images end in an 8 x 8 map of 64 channels. Convolutions are initialised by He's normal rule.
    """

    def stage(in_channels: int, out_channels: int, stride: int) -> nn.Sequential:
        first = BasicBlock(in_channels, out_channels, stride)
        return nn.Sequential(first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(4)))

    layers = {
        "stem": nn.Sequential(*_conv(3, 16), nn.ReLU(inplace=True)),
        "layer1": stage(16, 16, 1),
        "layer2": stage(16, 32, 2),
        "layer3": stage(32, 64, 2),
    }
    model = Net(layers, 64, num_classes, mean, std)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return model


@usual_defaults()
def resnet10(num_classes: int, mean: Tensor | None = None, std: Tensor | None = None) -> Net:
    """ResNet-10 for large images, the paper's network on ImageNet-LT: one basic block in each of four layers.

    224 x 224 images end in a 7 x 7 map of 512 channels; 4.9 M parameters before the classifier. mean, std: (3,)
    statistics of the images in [0, 1]; None: those of ImageNet.
    """
    # here, because importing torchvision takes as long as importing torch
    from torchvision.models.resnet import BasicBlock, ResNet

    return _large_net(ResNet(BasicBlock, [1, 1, 1, 1]), num_classes, mean, std)


@usual_defaults()
def resnet50(
    num_classes: int, mean: Tensor | None = None, std: Tensor | None = None, *, weights: str | None = None
) -> Net:
    """ResNet-50 (He et al., CVPR 2016) as torchvision builds it.

    224 x 224 images end in a 7 x 7 map of 2,048 channels; 23.5 M parameters before the classifier.

    Args:
        num_classes: C; the classifier is always new.
        mean, std: (3,) statistics of the images in [0, 1]; None: those of ImageNet, which pretrained weights expect.
        weights: None draws new ones; the name of torchvision's, such as "IMAGENET1K_V2", downloads them once.

    Raises:
        ValueError: torchvision does not have weights of that name.
    """
    from torchvision.models import ResNet50_Weights
    from torchvision.models import resnet50 as torchvision_resnet50

    if weights is not None:
        look_up("weights of resnet50", weights, ResNet50_Weights.__members__)
    return _large_net(torchvision_resnet50(weights=weights), num_classes, mean, std)


def _large_net(net: "ResNet", num_classes: int, mean: Tensor | None, std: Tensor | None) -> Net:
    """torchvision's ResNet with a new classifier, as a `Net`."""
    layers = {
        "stem": nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool),
        "layer1": net.layer1, "layer2": net.layer2, "layer3": net.layer3, "layer4": net.layer4,
    }  # fmt: skip
    mean = torch.tensor(IMAGENET_MEAN) if mean is None else mean
    std = torch.tensor(IMAGENET_STD) if std is None else std
    return Net(layers, net.fc.in_features, num_classes, mean, std)


@usual_defaults()
def head(num_classes: int, mean: Tensor, std: Tensor) -> Net:
    """No layers at all: features (N, K, 1, 1), standardised, go to the classifier.

    mean, std: (K,) statistics of the training features.
    """
    model = Net({}, len(mean), num_classes, mean, std)
    model.pool = nn.Flatten()  # which takes no time
    return model


MODELS: dict[str, Callable[..., nn.Module]] = {
    "small_net": small_net, "resnet32": resnet32, "resnet10": resnet10, "resnet50": resnet50,
}  # fmt: skip
NETWORKS: dict[str, Callable[..., nn.Module]] = MODELS | {"head": head}  # also what takes features


@usual_defaults()
def build(
    name: str | Callable[..., nn.Module], num_classes: int, images: Tensor | tuple[Tensor, Tensor] | None = None, *,
    classifier: str = "linear", weights: str | None = None,
) -> nn.Module:  # fmt: skip
    """Build a model by name, normalising by the channel statistics of the training `images` (uint8 (N, 3, H, W)).

    Without images, with images on disk and with pretrained weights the model's default holds: ImageNet's statistics
    for resnet10 and resnet50, none for the others.

    Args:
        name: of a model, or a custom function, called as name(num_classes, mean, std), see `Net`; mean and std are
            None where there are no statistics.
        images: to normalise by, or their `channel_statistics`.
        classifier: "linear"; or "cosine" or "cosine_learnt", which replaces a linear one, see `classifiers`.
        weights: the name of pretrained weights, see `resnet50`; None draws new ones.

    Raises:
        TypeError: a function that takes other arguments, or does not return a module.
        ValueError: an unknown model, classifier or name of weights; the nearest known one is named. Weights for a
            model that has none; a cosine classifier for a model whose classifier is neither linear nor that.
    """
    make = look_up("model", name, NETWORKS) if isinstance(name, str) else name
    kind = CLASSIFIERS[one_of("classifier", classifier, ("linear", "cosine", "cosine_learnt"))].type
    if weights is not None:
        if "weights" not in inspect.signature(make).parameters:
            raise ValueError(f"weights={weights!r}: there are none of {name}; weights=None draws new ones")
        model = make(num_classes, weights=weights)
    else:
        statistics = channel_statistics(images) if isinstance(images, Tensor) else images
        model = make(num_classes, *(statistics if isinstance(statistics, tuple) else (None, None)))
    if not isinstance(model, nn.Module):
        raise TypeError(f"model={name!r} gives {model!r}: it takes num_classes, mean and std and gives a module")
    present = getattr(model, "classifier", None)
    if classifier != "linear" and not isinstance(present, kind):
        if not isinstance(present, nn.Linear):
            raise ValueError(
                f"classifier={classifier!r} takes the place of a linear one, {type(model).__name__}.classifier is a "
                f"{type(present).__name__}: make it a Linear, or a CosineClassifier"
            )
        model.classifier = kind(present.in_features, num_classes)
    return model


def put_classifier(model: nn.Module, name: str, state: Mapping[str, Tensor]) -> None:
    """Give a model a classifier to load a `state_dict()` into, if its class is one of `classifiers.CLASSIFIERS`.

    Args:
        name: of its class, such as "CosineClassifier".
        state: of that classifier, which tells its shape, and whether it has a bias.
    """
    for kind in CLASSIFIERS.values():
        if kind.type.__name__ == name:
            model.classifier = kind.from_state(state)


@usual_defaults()
def channel_statistics(images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation per channel of uint8 images (N, 3, H, W), in units of [0, 1]. -> (3,), (3,)

    Exact: computed from the 256-bin histogram of every channel in float64. A constant channel gets std 1. Of features,
    (N, K, 1, 1) float32, those of every feature, (K,) each.
    """
    if images.is_floating_point():
        std, mean = torch.std_mean(images.flatten(1), 0, correction=0)
        return mean, std.where(std > 0, 1)
    level = torch.arange(256, dtype=torch.float64, device=images.device) / 255
    mean, std = [], []
    for channel in images.unbind(1):
        fraction = torch.bincount(channel.flatten().int(), minlength=256) / channel.numel()  # (256,)
        mean.append((fraction * level).sum())
        std.append((fraction * (level - mean[-1]) ** 2).sum().sqrt())
    std = torch.stack(std)
    return torch.stack(mean), std.where(std > 0, 1)
