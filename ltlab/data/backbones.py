"""Frozen networks by name, and what they are given: every `Backbone` maps uint8 images to one row of features each."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

from ..counts import check_integer
from ..images import to_float
from ..names import one_of
from . import lite0


@dataclass(frozen=True)
class Preparation:
    """Resize the shorter side, crop the centre, scale to [0, 1] and normalise: uint8 (n, 3, H, W) -> float32.

    None leaves a step out. The order and the antialiased interpolation are torchvision's.
    """

    resize: int | None = None
    crop: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    interpolation: str = "bilinear"

    def __call__(self, images: Tensor) -> Tensor:
        # here, because importing torchvision takes as long as importing torch
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms.v2 import functional as F

        if self.resize is not None and min(images.shape[2:]) != self.resize:
            mode = InterpolationMode(self.interpolation)
            images = F.resize(images, [self.resize], interpolation=mode, antialias=True)
        if self.crop is not None:
            images = F.center_crop(images, [self.crop, self.crop])
        images = to_float(images)
        return images if self.mean is None or self.std is None else F.normalize(images, [*self.mean], [*self.std])

    def sized(self, size: int | None) -> "Preparation":
        """The same for a square of `size` pixels: the shorter side becomes it, and the centre is taken."""
        if size is None:
            return self
        size = check_integer("size", size, least=1)
        return Preparation(size, size, self.mean, self.std, self.interpolation)


@dataclass(frozen=True, eq=False)
class Backbone:
    """A frozen network with its preparation: uint8 images (n, 3, H, W) -> float32 features (n, K), on its device.

    If the network's output is that of its last `nn.Linear`, that is its logits layer, and what this layer receives are
    the features; otherwise the output is.

    Raises:
        ValueError: in a call, features that are not (n, K), or not finite.
    """

    name: str
    network: nn.Module
    prepare: Preparation
    bfloat16: bool = False

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters(), torch.empty(0, device="cpu")).device

    def __call__(self, images: Tensor) -> Tensor:
        seen: list[tuple[Any, Any]] = []  # what the last linear layer receives and gives
        device = self.device
        prepared = self.prepare(images.to(device))
        linear = [part for part in self.network.modules() if type(part) is nn.Linear][-1:]
        hooks = [part.register_forward_hook(lambda _, x, y: seen.append((x[0], y))) for part in linear]
        try:
            with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
                output: Any = self.network(prepared)
        finally:
            for hook in hooks:
                hook.remove()
        if seen and seen[-1][1] is output:
            output = seen[-1][0]
        self._check(output, len(images))
        return output.float()

    def _check(self, output: object, images: int) -> None:
        if not isinstance(output, Tensor):
            raise ValueError(
                f"backbone {self.name} gives a {type(output).__name__}: it must give features (N, K); wrap it in a "
                "module that returns them"
            )
        if output.ndim != 2 or len(output) != images:
            raise ValueError(
                f"backbone {self.name} gives {tuple(output.shape)} for {images} images, which is not pooled to (N, K): "
                "pass nn.Sequential(network, nn.AdaptiveAvgPool2d(1), nn.Flatten()) of a network that ends in maps"
            )
        if not output.isfinite().all():
            raise ValueError(f"backbone {self.name} gives features that are NaN or infinite: check its weights")

    def digest(self) -> str:
        """16 hex digits of weights, structure, preparation and precision."""
        digest = hashlib.sha256(f"{self.network!r} {self.prepare!r} {self.bfloat16}".encode())
        for name, value in self.network.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()[:16]


def backbone_of(backbone: str | nn.Module | Backbone, size: int | None = None, *, bfloat16: bool = False) -> Backbone:
    """A `Backbone` by name, or of a custom network, which is left unchanged.

        name                           weights                                       preparation
        "efficientnet_lite0"           ImageNet's, from a package, see `lite0`       224 pixels
        of torchvision's classifiers   torchvision's best, downloaded once           that of the weights
        of timm, or "timm/NAME"        timm's, downloaded once                       that of the weights

    A network takes float images in [0, 1], as in `fit`, and normalises them itself; it stays on its device. A named one
    runs on CUDA if there is one.

    Args:
        size: pixels of the square that the network sees, see `Preparation.sized`; None is what the weights were made
            for, and for a custom network the images unchanged.
        bfloat16: compute by autocast.

    Raises:
        TypeError: something else than a name or a network.
        ValueError: an unknown name; the nearest known one is named.
        ImportError: the package with the weights, or timm, is not installed.
        ConnectionError: the weights could not be downloaded.
    """
    if isinstance(backbone, Backbone):
        return backbone
    if isinstance(backbone, nn.Module):
        return Backbone(type(backbone).__name__, backbone, Preparation().sized(size), bfloat16)
    if not isinstance(backbone, str):
        raise TypeError(
            f"backbone={backbone!r:.80}: pass a name such as 'efficientnet_lite0', or a network that is made; of an "
            "ltlab checkpoint, ltlab.train.load_model(path)"
        )
    network, prepare = _maker(backbone)()
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue] (torch has not typed it)
    return Backbone(backbone, network.eval(), prepare.sized(size), bfloat16)


def _maker(name: str) -> Callable[[], tuple[nn.Module, Preparation]]:
    """What makes the network of a name; nothing is downloaded before it is called."""
    if name == "efficientnet_lite0":
        return lambda: (lite0.efficientnet_lite0(), Preparation(256, 224, lite0.MEAN, lite0.STD))
    from torchvision import models

    known = models.list_models(module=models)
    if name in known:
        return partial(_of_torchvision, name)
    if name.startswith("timm/") and not find_spec("timm"):
        raise ImportError(f"backbone={name!r}: timm is not installed, pip install timm")
    if find_spec("timm"):
        import timm  # pyright: ignore[reportMissingImports] (optional)

        of_timm = name.removeprefix("timm/")
        if of_timm.partition(".")[0] in timm.list_models():
            return partial(_of_timm, of_timm)
        known = [*known, *timm.list_models()]
    if name.endswith(".pt"):
        raise ValueError(f"backbone={name!r}: load an ltlab checkpoint first, ltlab.train.load_model({name!r})")
    one_of("backbone", name, ["efficientnet_lite0", *known])
    raise AssertionError(name)  # all known names were handled


def _of_torchvision(name: str) -> tuple[nn.Module, Preparation]:
    from torchvision import models

    weights: Any = models.get_model_weights(name).DEFAULT  # pyright: ignore[reportAttributeAccessIssue]
    try:
        network = models.get_model(name, weights=weights)
    except OSError as error:
        raise ConnectionError(
            f"the weights of {name} could not be downloaded ({error}): put the file {weights.url} into "
            f"{torch.hub.get_dir()}/checkpoints; or take backbone='efficientnet_lite0', whose weights are a package"
        ) from error
    own = weights.transforms()
    prepare = Preparation(own.resize_size[0], own.crop_size[0], (*own.mean,), (*own.std,), own.interpolation.value)
    return network, prepare


def _of_timm(name: str) -> tuple[nn.Module, Preparation]:
    import timm  # pyright: ignore[reportMissingImports]
    from timm.data.config import resolve_model_data_config  # pyright: ignore[reportMissingImports]

    try:
        network = timm.create_model(name, pretrained=True, num_classes=0)
    except Exception as error:  # of many kinds, from two hubs
        raise ConnectionError(
            f"timm could not load the weights of {name} ({error}): download them where there is a network and set "
            "HF_HOME to their folder; or take backbone='efficientnet_lite0', whose weights are a package"
        ) from error
    own = resolve_model_data_config(network)
    crop = own["input_size"][-1]
    return network, Preparation(round(crop / own["crop_pct"]), crop, own["mean"], own["std"], own["interpolation"])
