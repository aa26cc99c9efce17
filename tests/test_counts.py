"""Counts, labels and integers: every form of the same numbers is read alike, in every room."""

import inspect
import math
import re
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ltlab import cam, classifiers, images, losses, metrics, mixup, models, samplers
from ltlab.cam import ForegroundTransform, WholeImageTransform, new_image_counts
from ltlab.counts import as_counts, as_labels, as_tensor, check_integer, check_seed
from ltlab.data import load, long_tail_subset
from ltlab.metrics import top1_error
from ltlab.mixup import InputMixup, Remix
from ltlab.recipes import OneCycle, Stage, Steps

COUNTS = [300, 40, 5]
LABELS = [0, 2, 1, 0, 2]
FORMS = {
    "tuple": tuple, "tensor": torch.tensor, "uint16": lambda n: np.array(n, np.uint16),
    "big-endian": lambda n: np.array(n, ">i4"), "read-only": lambda n: np.frombuffer(np.array(n).tobytes(), np.int64),
    "Series": lambda n: pd.Series(n, index=list("abcde")[: len(n)]), "nullable": lambda n: pd.Series(n, dtype="Int64"),
    "objects": lambda n: np.array(n, object),
}  # fmt: skip
every_form = pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)


# --- counts, in every function that takes them -----------------------------------------------------------------------

C, N = 4, 6
Z = torch.randn(N, C, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 3, 1, 2, 2, 0])


def draws(seed: int = 0) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(seed)


MODEL, IMAGES = torch.nn.Flatten(), torch.rand(N, C, 1, 1, generator=draws())


def remixed(counts):
    return torch.stack([Remix(1.0)(MODEL, IMAGES, Y, class_counts=counts, generator=draws(s))[1] for s in range(4)])


LOSSES = {name: loss for name, loss in vars(losses).items()
          if isinstance(loss, type) and "class_counts" in inspect.signature(loss).parameters}  # fmt: skip
READERS = {
    **{name: lambda n, loss=loss: loss(n)(Z, Y) for name, loss in LOSSES.items()},
    "EqualizationLoss": lambda n: losses.EqualizationLoss(n, threshold=0.3, generator=draws())(Z, Y),
    **{name: getattr(losses, name) for name in ("cost_sensitive_weights", "ldam_margins", "log_prior")},
    "effective_numbers": lambda n: losses.effective_numbers(n, 0.9),
    "class_balanced_weights": lambda n: losses.class_balanced_weights(n, 0.9),
    "class_dependent_temperatures": lambda n: losses.class_dependent_temperatures(n, 0.5),
    "label_aware_smoothing": lambda n: losses.label_aware_smoothing(n, 0.4, 0.1),
    "adjust_logits": lambda n: losses.adjust_logits(Z, n),
    "class_probabilities": lambda n: samplers.class_probabilities(n, 0.5),
    "progressive_probabilities": lambda n: samplers.progressive_probabilities(n, 0.25),
    **{name: getattr(samplers, name) for name in ("reversed_probabilities", "bilateral_probabilities")},
    "Remix": remixed,
    "class_groups": lambda n: torch.stack(list(metrics.class_groups(n).values())),
    "group_accuracy": lambda n: as_tensor(list(metrics.group_accuracy(Z, Y, n).values())),
}  # fmt: skip
every_reader = pytest.mark.parametrize("read", READERS.values(), ids=READERS)


def test_every_function_that_takes_counts_is_read_here():
    takes = {name for room in (losses, samplers, metrics) for name, f in vars(room).items()
             if callable(f) and f.__module__.startswith(room.__name__) and "class_counts" in
             inspect.signature(f).parameters}  # fmt: skip
    assert takes <= READERS.keys()


def value_counts(counts, index):
    """A Series with the count of class c at index c, in the order of `index`."""
    return pd.Series([counts[c] for c in index], index=index)


def labels_of(counts):
    return pd.Series(np.repeat(range(C), counts))


@pytest.mark.parametrize(
    "read", [new_image_counts, lambda n: long_tail_subset(np.repeat(range(C), 50), n, seed=0)], ids=["new", "subset"]
)
def test_counts_of_images_to_make_or_choose_are_read_by_class(read):
    counts = [7, 0, 30, 2]
    for form in (value_counts(counts, [3, 0, 2, 1]), Counter(dict(enumerate(counts)))):
        assert torch.equal(read(form), read(counts))


KEYED = {
    "any order": value_counts,
    "nullable": lambda counts, order: value_counts(counts, order).astype("Int64"),
    "float index": lambda counts, order: value_counts(counts, order).rename(float),
    "object index": lambda counts, order: value_counts(counts, order).set_axis(pd.Index(order, dtype=object)),
    "value_counts": lambda counts, order: labels_of(counts).value_counts(),
    "categories": lambda counts, order: labels_of(counts).astype("category").value_counts(),
    "frame": lambda counts, order: labels_of(counts).to_frame().value_counts(),
    "dict": lambda counts, order: {c: counts[c] for c in order},
    "Counter": lambda counts, order: Counter(labels_of(counts)),
}


@every_reader
@settings(max_examples=10, deadline=None)
@given(
    counts=st.lists(st.integers(1, 500), min_size=C, max_size=C),
    order=st.permutations(range(C)),
    keyed=st.sampled_from(list(KEYED)),
)
def test_counts_with_keys_are_read_by_class(read, counts, order, keyed):
    expected = read(counts)
    assert torch.equal(read(KEYED[keyed](counts, order)).nan_to_num(-1), expected.nan_to_num(-1))
    named = pd.Series(counts, index=[f"class {c}" for c in order])
    for positional in (named, pd.Series(counts, index=range(1, C + 1)), pd.Series(counts, index=[0, 2, 5, 9])):
        assert torch.equal(read(positional).nan_to_num(-1), expected.nan_to_num(-1))


def test_counts_of_yes_and_no_are_read_by_class():
    answers = pd.Series([True] * 5 + [False] * 2)
    assert as_counts(answers.value_counts()).tolist() == as_counts(Counter(answers)).tolist() == [2, 5]


@every_reader
@pytest.mark.parametrize(
    "bad",
    [pd.Series([5, 3, 2, 1], index=index) for index in ([0, 0, 1, 2], [3, 2, 1, -1], [-1, 0, 1, 2], [4, 3, 2, 1],
                                                        [0, 1, 2, 0.5], [0, 1, 2, math.nan], [2, 1, 0, "none"])]
    + [pd.DataFrame({"count": [5, 3, 2, 1]}), pd.DataFrame([[5, 3, 2, 1]]), {"a": 5, "b": 3, "c": 2, "d": 1},
       Counter({0: 5, 1: 3, 2: 2, 4: 1}), {}, pd.Series([5, 3, 2, None], dtype="Int64"), [], [[5, 3, 2, 1]], 3,
       ["a", "b", "c", "d"], [5, 3, 2, -1], [5, 3, 2, math.nan], pd.Series([], dtype=float), np.array([1, 2, 3, 4j])],
    ids=lambda bad: re.sub(r"\s+", " ", repr(bad))[:60],
)  # fmt: skip
def test_counts_that_are_not_one_per_class_are_refused(read, bad):
    with pytest.raises(ValueError, match=r"class_counts\b"):
        read(bad)


def equal_split(make):
    return lambda: make(Y.tolist(), seed=3, num_replicas=2, rank=1).epoch_indices()


RARE = [300, 40, 20, 5]
NETWORK = models.small_net(C)
PIXELS = torch.randint(256, (N, 3, 12, 10), dtype=torch.uint8, generator=draws())
MASKS = torch.rand(N, 12, 10, generator=draws()) < 0.4
MAPS = torch.rand(N, 12, 10, generator=draws())
MOVES = {"flip": [True, False] * 3, "translate": [[0.3, -2.7]] * N, "rotate": [20.1] * N, "scale": [1.1] * N}


def moved(slot):
    return slot(PIXELS, slot.prepare(NETWORK, PIXELS, Y), generator=draws())


COMPUTED = {
    **{name: lambda read=read: read([float(n) for n in RARE]) for name, read in READERS.items()},
    **{repr(loss): lambda loss=loss: loss(Z, Y) for loss in
       (losses.CrossEntropyLoss(), losses.FocalLoss(), losses.LabelSmoothingLoss())},
    "alphas": lambda: losses.FocalLoss(alpha=[0.1, 0.2, 0.3, 0.4])(Z, Y),
    "weight": lambda: losses.ClassBalancedLoss(RARE).weight,
    **{name: equal_split(getattr(samplers, name)) for name in
       ("ShuffledSampler", "ReversedSampler", "BilateralSampler", "RandomOverSampler", "RandomUnderSampler")},
    "PowerSampler": equal_split(partial(samplers.PowerSampler, q=0.5)),
    "ProgressivelyBalancedSampler": equal_split(partial(samplers.ProgressivelyBalancedSampler, epochs=3)),
    "draw_lambda": lambda: mixup.draw_lambda(0.7, draws(), (5,)),
    "draw_partner": lambda: mixup.draw_partner(5, draws()),
    "mix": lambda: mixup.mix(IMAGES, Y.argsort(), 0.3),
    "mix_targets": lambda: mixup.mix_targets(Y, Y.argsort(), 0.3, C),
    "remix_lambda": lambda: mixup.remix_lambda(0.3, torch.tensor(70_000, device="cpu"),
                                               torch.tensor(20_000, device="cpu")),
    "InputMixup": lambda: torch.stack(InputMixup(0.7)(MODEL, IMAGES, Y, generator=draws())),
    "ManifoldMixup": lambda: torch.stack(mixup.ManifoldMixup(0.7, "0")(torch.nn.Sequential(MODEL), IMAGES, Y,
                                                                       generator=draws())),
    "per_class_accuracy": lambda: metrics.per_class_accuracy(Z, Y.tolist()),
    "confusion_matrix": lambda: metrics.confusion_matrix(Z, Y.tolist()),
    **{name: lambda name=name: getattr(metrics, name)(Z, Y.tolist()) for name in
       ("top1_error", "balanced_error", "expected_calibration_error")},
    "maps_of": lambda: cam.maps_of(NETWORK, PIXELS, Y),
    "class_activation_maps": lambda: cam.class_activation_maps(IMAGES.expand(N, C, 5, 5) * MAPS[:, None, :5, :5],
                                                               Z[:C], Y, 9),
    "foreground_masks": lambda: cam.foreground_masks(MAPS, 0.9),
    "otsu": lambda: cam.foreground_masks(MAPS, "otsu"),
    "intersection_over_union": lambda: cam.intersection_over_union(MASKS, MASKS.flip(0)),
    "unpack_masks": lambda: cam.unpack_masks(cam.pack_masks(MASKS), (12, 10)),
    "transform_foreground": lambda: cam.transform_foreground(PIXELS, MASKS, **MOVES, fill=True),
    "transform_images": lambda: cam.transform_images(PIXELS, **MOVES),
    "ForegroundTransform": lambda: moved(ForegroundTransform(kinds=("flip+translate+rotate+scale",))),
    "ShuffledForegroundTransform": lambda: moved(cam.ShuffledForegroundTransform(masks=MASKS)),
    "WholeImageTransform": lambda: moved(WholeImageTransform()),
    "materialise": lambda: cam.materialise(WholeImageTransform(), None, PIXELS, Y, generator=draws())[0],
    "evaluated": lambda: images.evaluated(NETWORK, PIXELS, NETWORK, crop=8),
    "as_tensor": lambda: as_tensor([0.1, 2]),
    "to_float": lambda: images.to_float((255 * IMAGES).byte()),
}  # fmt: skip


@contextmanager
def default_of_torch(default):
    before = torch.get_default_dtype()
    try:
        if isinstance(default, torch.dtype):
            torch.set_default_dtype(default)
        else:
            torch.set_default_device(default)
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


@pytest.mark.parametrize("compute", COMPUTED.values(), ids=COMPUTED)
@pytest.mark.parametrize("default", [torch.float64, torch.float16, torch.bfloat16, "meta"], ids=str)
def test_the_defaults_of_torch_change_nothing(compute, default):
    expected = compute()
    with default_of_torch(default):
        actual = compute()
    assert type(actual) is type(expected)
    if isinstance(actual, torch.Tensor):
        assert actual.dtype == expected.dtype and actual.device == expected.device
        assert torch.equal(actual.nan_to_num(-1), expected.nan_to_num(-1))
    else:
        assert actual == expected


def test_reading_counts_does_not_import_pandas():
    rooms = "ltlab.counts, ltlab.losses, ltlab.samplers, ltlab.mixup, ltlab.metrics"
    code = f"import sys, {rooms}; sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@every_form
def test_counts_of_every_form_are_read_alike_in_every_room(form):
    for name, read in READERS.items():
        assert torch.equal(read(form(RARE)).nan_to_num(-1), read(RARE).nan_to_num(-1)), name
    assert new_image_counts(form(COUNTS)).tolist() == [5, 265, 300]


# --- images of a network ---------------------------------------------------------------------------------------------

BAD_IMAGES = {
    "below 0": lambda x: x - 0.5,
    "bytes as floats": lambda x: 255 * x,
    "normalised": lambda x: (x - 0.5) / 0.25,
    "NaN": lambda x: x * math.nan,
    "uint16": lambda x: (65535 * x).to(torch.uint16),
    "int64": lambda x: (255 * x).long(),
    "yes and no": lambda x: x > 0.5,
    "one image": lambda x: x[0],
    "channels last": lambda x: x.movedim(1, 3),
    "a list": list,
    "nothing": lambda x: None,
}


@pytest.mark.parametrize("kind", BAD_IMAGES)
def test_what_are_not_images_is_refused_by_name(kind):
    with pytest.raises((ValueError, TypeError), match="images must be"):
        images.evaluated(NETWORK, BAD_IMAGES[kind](PIXELS / 255), NETWORK)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.uint8])
def test_images_of_every_dtype_are_read_alike(dtype):
    given = PIXELS if dtype == torch.uint8 else (PIXELS / 255).to(dtype)
    logits = images.evaluated(NETWORK, given, NETWORK)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, images.evaluated(NETWORK, PIXELS, NETWORK), rtol=0.02, atol=0.02)


# --- labels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bad", [{0: 1}, [0, None], pd.DataFrame({"y": [0, 1]}), 3, "01", pd.Series([0, None])], ids=repr
)
def test_labels_that_are_not_class_indices_are_refused(bad):
    with pytest.raises(ValueError, match=r"labels must .* 0 .*pandas"):
        as_labels(bad)


def test_labels_keep_their_own_order():
    shuffled = pd.Series([2, 0, 1], index=[2, 0, 1])  # rows of a shuffled table
    assert as_labels(shuffled).tolist() == [2, 0, 1]


@every_form
def test_labels_of_every_form_are_read_alike_in_every_room(form):
    labels = form(LABELS)
    assert as_labels(labels).tolist() == LABELS and as_labels(labels).dtype == torch.int64
    assert list(samplers.PowerSampler(labels, 0)) == list(samplers.PowerSampler(LABELS, 0))
    assert top1_error(torch.eye(3)[LABELS], labels) == 0
    assert torch.equal(long_tail_subset(labels, [2, 1, 1], seed=0), long_tail_subset(LABELS, [2, 1, 1], seed=0))


def test_what_is_read_is_a_copy_of_an_array_and_a_tensor_itself():
    array, tensor = np.array(COUNTS), torch.tensor(COUNTS)
    assert as_tensor(array).data_ptr() != array.ctypes.data and as_tensor(tensor) is tensor
    assert as_tensor(np.array([0.1, 1e300])).dtype == torch.float64


@pytest.mark.parametrize("value", ["1", None, [1.0], math.nan], ids=repr)
@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("gamma", lambda v: losses.CostSensitiveLoss(COUNTS, gamma=v)),
        ("beta", lambda v: losses.ClassBalancedLoss(COUNTS, beta=v)),
        ("gamma", lambda v: losses.EqualizationLoss(COUNTS, gamma=v)),
        ("q", lambda v: samplers.PowerSampler(LABELS, q=v)),
        ("progress", lambda v: samplers.progressive_probabilities(COUNTS, v)),
        ("alpha", lambda v: InputMixup(alpha=v)), ("kappa", lambda v: Remix(1.0, kappa=v)),
        ("max_angle", lambda v: ForegroundTransform(max_angle=v)),
        ("threshold", lambda v: ForegroundTransform(threshold=v)),
        ("max_shift", lambda v: WholeImageTransform(max_shift=v)),
        ("tau", lambda v: classifiers.tau_normalised_weight(torch.eye(2), v)),
        ("share", lambda v: Stage(share=v)), ("lr", lambda v: Steps(lr=v)), ("rise", lambda v: OneCycle(0.1, rise=v)),
        ("context", lambda v: load("shapes-lt", context=v)), ("imbalance", lambda v: load("shapes-lt", imbalance=v)),
    ],
)  # fmt: skip
def test_what_is_not_a_number_in_its_range_is_named_in_every_room(name, make, value):
    with pytest.raises(ValueError, match=rf"{name}\b.*{re.escape(repr(value))}"):
        make(value)


def test_numbers_of_numpy_and_torch_are_numbers():
    for half in (0.5, np.float32(0.5), torch.tensor(0.5)):
        torch.testing.assert_close(
            samplers.class_probabilities(COUNTS, half), samplers.class_probabilities(COUNTS, 0.5)
        )
        assert losses.CostSensitiveLoss(COUNTS, gamma=half).gamma == 0.5


@pytest.mark.parametrize("value", [1.0, np.float64(1), "1", True, None, 0, np.int64(0), torch.tensor([1, 2]), math.nan])
def test_what_is_not_an_integer_is_named(value):
    with pytest.raises(ValueError, match=r"size=.* must be an integer of at least 1"):
        check_integer("size", value, least=1)


def test_integers_of_any_kind_are_plain_ints_within_bounds():
    for value in (3, np.uint8(3), torch.tensor(3)):
        number = check_integer("epoch", value, least=3, most=3)
        assert number == 3 and type(number) is int
    with pytest.raises(ValueError, match=r"epoch=4 must be .* 0 to 3"):
        check_integer("epoch", 4, least=0, most=3)
    assert check_seed(2**32 - 1) == 2**32 - 1
    for seed in (-1, 2**32, True, 0.5):
        with pytest.raises(ValueError, match=f"seed={seed} must be .* 0 to 4294967295"):
            check_seed(seed)
