"""Counts, labels and whole numbers: every form of the same numbers is read alike, in every room."""

import math
import re

import numpy as np
import pandas as pd
import pytest
import torch

from ltlab import classifiers, losses, samplers
from ltlab.cam import ForegroundTransform, WholeImageTransform, new_image_counts
from ltlab.counts import as_labels, as_tensor, check_seed, check_whole_number
from ltlab.data import load, long_tail_subset
from ltlab.metrics import class_groups, top1_error
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


@every_form
def test_counts_of_every_form_are_read_alike_in_every_room(form):
    counts = form(COUNTS)
    assert torch.equal(losses.cost_sensitive_weights(counts), losses.cost_sensitive_weights(COUNTS))
    assert torch.equal(samplers.class_probabilities(counts, 0.5), samplers.class_probabilities(COUNTS, 0.5))
    assert {name: group.tolist() for name, group in class_groups(counts).items()} == {
        "many": [True, False, False], "medium": [False, True, False], "few": [False, False, True],
    }  # fmt: skip
    assert new_image_counts(counts).tolist() == [5, 265, 300]
    model, images, targets = torch.nn.Flatten(), torch.rand(5, 3, 1, 1), torch.tensor(LABELS)
    mixed = [Remix(1.0)(model, images, targets, class_counts=n, generator=torch.Generator().manual_seed(0))[1]
             for n in (counts, COUNTS)]  # fmt: skip
    assert torch.equal(*mixed)


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
def test_what_is_no_number_in_its_range_is_named_in_every_room(name, make, value):
    with pytest.raises(ValueError, match=rf"{name}\b.*{re.escape(repr(value))}"):
        make(value)


def test_numbers_of_numpy_and_torch_are_numbers():
    for half in (0.5, np.float32(0.5), torch.tensor(0.5)):
        torch.testing.assert_close(
            samplers.class_probabilities(COUNTS, half), samplers.class_probabilities(COUNTS, 0.5)
        )
        assert losses.CostSensitiveLoss(COUNTS, gamma=half).gamma == 0.5


@pytest.mark.parametrize("value", [1.0, np.float64(1), "1", True, None, 0, np.int64(0), torch.tensor([1, 2]), math.nan])
def test_what_is_no_whole_number_is_named(value):
    with pytest.raises(ValueError, match=r"size=.* must be an integer of at least 1"):
        check_whole_number("size", value, least=1)


def test_whole_numbers_of_any_kind_are_plain_ints_within_bounds():
    for value in (3, np.uint8(3), torch.tensor(3)):
        number = check_whole_number("epoch", value, least=3, most=3)
        assert number == 3 and type(number) is int
    with pytest.raises(ValueError, match="epoch=4 must be an integer from 0 to 3"):
        check_whole_number("epoch", 4, least=0, most=3)
    assert check_seed(2**32 - 1) == 2**32 - 1
    for seed in (-1, 2**32, True, 0.5):
        with pytest.raises(ValueError, match=f"seed={seed} must be an integer from 0 to 4294967295"):
            check_seed(seed)
