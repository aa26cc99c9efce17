"""Conformance checks for custom losses, samplers, mixes, networks and classifiers; run them once, in a test.

    check_loss(MyLoss)                     as it stands in Stage(loss=MyLoss)
    check_sampler(partial(MySampler, q=0.5))
    check_mix(MyMix(alpha=1.0))
    check_model(my_network, num_classes=10, images=torch.rand(8, 3, 32, 32))
    check_classifier(my_change)

Each raises an AssertionError that says what does not hold and why it matters in training. Before its first step,
training asks the same of every stage with a few images, by `logits_of`, `mixture_of` and `loss_of`.
"""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .classifiers import CLASSIFIERS, declared
from .counts import in_class_order
from .defaults import usual_defaults
from .models import small_net
from .recipes import describe
from .recipes.recipe import takes_epochs
from .samplers import generator_seed

COUNTS = (40, 12, 5, 2)  # images of each class, where nothing else is given


@contextmanager
def own_draws(what: str) -> Iterator[None]:
    """AssertionError if torch's global generator has been drawn from."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(before, torch.get_rng_state()), (
        f"{what} draws from torch's global generator: draw from the one it is given, or runs cannot be repeated"
    )


def asked(make: Callable[..., Any]) -> dict[str, int]:
    """The epochs of its stage, for what asks for them."""
    return {"epochs": 10} if takes_epochs(make) else {}


class NotConforming(ValueError, AssertionError):
    """A custom part gives something that training cannot use; as an AssertionError it fails a test."""


@contextmanager
def calling(part: str, way: str = "see `recipes.Stage`") -> Iterator[None]:
    """Name the part that raises an error, and the way in which it is called."""
    try:
        yield
    except NotConforming as error:
        raise NotConforming(f"{part}: {error}") from error
    except Exception as error:
        raise NotConforming(f"{part} fails: {error!r:.400}; {way}") from error


def shown_as(value: object) -> str:
    """A tensor by its dtype and shape, anything else by its class."""
    return f"{value.dtype} {tuple(value.shape)}" if isinstance(value, Tensor) else f"a {type(value).__name__}"


def is_float(value: object, shape: tuple[int, ...]) -> bool:
    """Whether it is a floating-point tensor of this shape."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.shape == shape


def logits_of(model: nn.Module, images: Tensor, num_classes: int) -> Tensor:
    """The network's logits, if there is a finite one for every image and class; in training mode with a gradient."""
    name, expected = f"model: {type(model).__name__}", (len(images), num_classes)
    with calling(name, f"it is called with float32 images {tuple(images.shape)} in [0, 1]"):
        logits = model(images)
    mode = "training" if model.training else "evaluation"
    if not is_float(logits, expected):
        raise NotConforming(
            f"{name} gives {shown_as(logits)} for {len(images)} images in {mode} mode, it must give logits, floating "
            f"point {expected}: one for each of the {num_classes} classes"
        )
    if not logits.isfinite().all():
        raise NotConforming(f"{name} gives logits that are NaN or not finite: check its weights")
    if model.training and not logits.requires_grad:
        raise NotConforming(f"{name} gives logits without a gradient: forward must use neither detach nor no_grad")
    return logits


def mixture_of(
    mix: Callable[..., Any], model: nn.Module, images: Tensor, labels: Tensor, class_counts: Tensor,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """A mix's logits and targets, if there is a row of each for every image."""
    name, expected = f"the mix {describe(mix)}", (len(images), len(class_counts))
    way = "it is called as mix(model, images, targets, class_counts=..., generator=...), for logits and targets"
    with calling(name, way):
        logits, targets = mix(model, images, labels, class_counts=class_counts, generator=generator)
    hard = isinstance(targets, Tensor) and targets.dtype == torch.int64 and targets.shape == expected[:1]
    if not is_float(logits, expected) or not (hard or is_float(targets, expected)):
        raise NotConforming(
            f"{name} gives {shown_as(logits)} and {shown_as(targets)} for {len(images)} images: logits must be "
            f"{expected}, and targets must be labels, int64 {expected[:1]}, or probabilities {expected}"
        )
    return logits, targets


def loss_of(loss: nn.Module, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """A loss and its gradient by the logits (N, C), if it is one number that has one."""
    name, gradient = f"the loss {type(loss).__name__}", None
    with calling(name, f"it is called as loss(logits, targets), {shown_as(logits)} and {shown_as(targets)}"):
        value = loss(logits, targets)
    if not isinstance(value, Tensor) or value.numel() != 1 or not value.is_floating_point():
        raise NotConforming(f"{name} gives {shown_as(value)}: it must give one number, such as the mean of the images")
    if value.isnan():
        raise NotConforming(f"{name} is NaN for finite logits: check logarithms of 0 and divisions by 0")
    if value.requires_grad:
        with calling(name, "in its backward pass"):
            (gradient,) = torch.autograd.grad(value.sum(), logits, retain_graph=True, allow_unused=True)
    if gradient is None:
        raise NotConforming(
            f"{name} gives a number without a gradient: compute it from the logits, without detach, item or argmax"
        )
    return value, gradient


@usual_defaults()
def check_loss(loss: nn.Module | Callable[..., nn.Module], class_counts: Any = COUNTS, *, soft: bool = True) -> None:
    """A loss, or what makes one from the class counts, as a stage takes it.

    It gives one finite number with a gradient for every batch size, leaves its arguments unchanged, keeps its tensors
    in buffers, and, with `soft`, is linear in targets that a mix has made: one-hot probabilities are the labels.
    """
    counts = in_class_order(class_counts).cpu()
    made: Any = loss if isinstance(loss, nn.Module) else loss(counts, **asked(loss))
    name = type(made).__name__
    assert isinstance(made, nn.Module), f"{loss!r} gives {made!r:.80} for class counts: it must give an nn.Module"
    held = [key for key, value in vars(made).items() if isinstance(value, Tensor)]
    assert not held, f"{name} holds tensors as attributes, {held}: register them as buffers, which move to the device"
    generator = torch.Generator("cpu").manual_seed(0)
    for n in (1, 2, 33):
        logits = torch.randn(n, len(counts), generator=generator).requires_grad_()
        targets = torch.randint(len(counts), (n,), generator=generator)
        given = logits.detach().clone(), targets.clone()
        before = copy.deepcopy(made)
        value, gradient = loss_of(made, logits, targets)
        assert value.isfinite(), f"{name} gives {value.item()} for {n} images: it must give one finite number"
        assert gradient.isfinite().all() and gradient.any(), f"the gradient of {name} is not finite, or zero everywhere"
        assert torch.equal(logits, given[0]) and torch.equal(targets, given[1]), f"{name} changes its arguments"
        if soft:
            mixed = before(logits.detach(), F.one_hot(targets, len(counts)).float())
            torch.testing.assert_close(mixed, value.detach(), msg=f"{name} of one-hot targets is not that of labels")


@usual_defaults()
def check_sampler(make: Callable[..., Any], labels: Any = None) -> None:
    """What makes a sampler from labels and a seed, as a stage takes it.

    An epoch is a function of seed and epoch, its indices are those of images, and `len` is their number. If it takes
    `num_replicas` and `rank`, the processes' parts together are the sequence of one process.
    """
    y = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS)) if labels is None else labels

    def epoch_of(number: int, **options: Any) -> Tensor:
        sampler = make(y, seed=options.pop("seed", 0), **asked(make), **options)
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(number)
        indices = torch.tensor([int(index) for index in sampler])
        assert len(indices) == len(sampler) > 0, f"len is {len(sampler)}, an epoch has {len(indices)} indices"
        return indices

    with own_draws("the sampler"):
        first = epoch_of(0)
        assert first.min() >= 0 and first.max() < len(y), f"indices must be from 0 to {len(y) - 1}"
        assert torch.equal(first, epoch_of(0)), "the same seed and epoch must give the same indices"
        assert not torch.equal(first, epoch_of(0, seed=1)), "another seed must give other indices"
        assert not hasattr(make(y, seed=0, **asked(make)), "set_epoch") or not torch.equal(first, epoch_of(1)), (
            "another epoch must give other indices: use the epoch of set_epoch in the draw"
        )
        try:
            parts = [epoch_of(0, num_replicas=2, rank=rank) for rank in range(2)]
        except TypeError:
            return  # for one process
    length = min(map(len, parts))
    assert max(map(len, parts)) == length, "the parts of the processes must be equally long, or one waits for ever"
    assert torch.equal(torch.stack(parts, 1).flatten(), first[: 2 * length]), "the parts must add up to the sequence"


@usual_defaults()
def check_mix(mix: Callable[..., Any], model: nn.Module | None = None, images: Tensor | None = None) -> None:
    """A mix as a stage takes it: one logit per class and image, targets that sum to one, draws from its generator."""
    counts = torch.tensor(COUNTS)
    x = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0)) if images is None else images
    y = torch.arange(len(x)) % len(counts)
    with torch.random.fork_rng(devices=[]):
        net = small_net(len(counts)) if model is None else model
    given = x.clone()

    def drawn(seed: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(generator_seed(seed, 0))
        with torch.no_grad():
            return mixture_of(mix, net, x, y, counts, generator)

    with own_draws("the mix"):
        logits, targets = drawn(0)
        again = drawn(0)
    if targets.is_floating_point():
        torch.testing.assert_close(targets.sum(1), torch.ones(len(x)), msg="targets (N, C) must sum to one per image")
        assert (targets >= 0).all(), "targets must not be negative"
    assert all(map(torch.equal, again, (logits, targets))), "the same generator must give the same mixture"
    assert torch.equal(x, given), "the mix changes the images that it is given"


@usual_defaults()
def check_model(model: nn.Module, num_classes: int, images: Tensor) -> None:
    """A network as `fit` takes it: logits (N, C) in both modes, and gradients for what is to be trained.

    Args:
        images: a batch, (N, 3, H, W) float in [0, 1], N >= 2.
    """
    name, model = type(model).__name__, copy.deepcopy(model)
    for mode in (True, False):
        logits_of(model.train(mode), images, num_classes)
    model.train()(images).logsumexp(1).sum().backward()
    missing = [key for key, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not missing, f"{name} has parameters that the logits do not depend on: {', '.join(missing)}"


@usual_defaults()
def check_classifier(change: Callable[..., nn.Module], model: Any = None, images: Tensor | None = None) -> None:
    """A change of the classifier as a stage takes it: a module from features to logits, the model left as it was."""
    with torch.random.fork_rng(devices=[]):
        net: Any = small_net(len(COUNTS)) if model is None else model
    y = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    x = torch.randint(256, (len(y), 3, 16, 16), dtype=torch.uint8) if images is None else images
    before = copy.deepcopy(net.state_dict())
    classifier = change(net, x, y[: len(x)], torch.tensor(COUNTS))
    assert isinstance(classifier, nn.Module), f"it gives {classifier!r:.80}: it must give what replaces the classifier"
    assert all(torch.equal(before[key], value) for key, value in net.state_dict().items()), "it changes the model"
    width = net.classifier.in_features if hasattr(net.classifier, "in_features") else net.classifier.weight.shape[1]
    logits = classifier(torch.rand(3, width))
    assert logits.shape == (3, len(COUNTS)), f"logits must be (3, {len(COUNTS)}), got {tuple(logits.shape)}"
    leaves = getattr(declared(change), "leaves", None)
    if leaves is not None:
        kind = CLASSIFIERS[leaves].type
        assert isinstance(classifier, kind), f"it declares {leaves!r} and leaves a {type(classifier).__name__}"
