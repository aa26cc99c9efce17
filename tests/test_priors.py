"""Errors under any prior, from rows: equal to those of the logits that the rows came from."""

import pandas as pd
import pytest
import torch

from ltlab import metrics, results

COUNTS = [320, 107, 36, 12, 4]
LABELS = torch.arange(200) % 5
LOGITS = torch.randn(200, 5, generator=torch.Generator().manual_seed(0))


def rows(*logits: torch.Tensor) -> pd.DataFrame:
    texts = [" ".join(map(str, metrics.per_class_accuracy(z, LABELS[: len(z)], 5).tolist())) for z in logits]
    return pd.DataFrame(
        {"recipe": "ce", "seed": range(len(texts)), "per_class_accuracy": texts}, index=range(7, 7 + len(texts))
    )


def test_the_path_runs_from_the_training_prior_over_uniform_to_its_reverse():
    train = torch.tensor(COUNTS, dtype=torch.float64) / sum(COUNTS)
    torch.testing.assert_close(results.prior_path(COUNTS, 0), train)
    torch.testing.assert_close(results.prior_path(COUNTS, 0.5), torch.full_like(train, 0.2))
    exponential = [3**k for k in range(5)]
    for t in (0, 0.1, 0.3, 0.5):
        torch.testing.assert_close(results.prior_path(exponential, 1 - t), results.prior_path(exponential, t).flip(0))
    few = [results.prior_path(COUNTS, t / 10)[-1].item() for t in range(11)]
    assert few == sorted(few)


@pytest.mark.parametrize("t", [0, 0.2, 0.5, 1])
def test_errors_are_those_of_the_logits(t):
    prior = results.prior_path(COUNTS, t)
    found = results.errors_under(rows(LOGITS, 3 * LOGITS.flip(0)), prior)
    assert found.index.tolist() == [7, 8]
    expected = [metrics.error_under(z, LABELS, prior) for z in (LOGITS, 3 * LOGITS.flip(0))]
    assert found.tolist() == pytest.approx(expected, abs=1e-12)
    assert results.errors_under(rows(LOGITS), [0.2] * 5).item() == metrics.balanced_error(LOGITS, LABELS)
    assert len(results.errors_under(rows(), prior)) == 0


def test_the_table_has_the_mean_over_seeds_under_each_prior():
    both = pd.concat([rows(LOGITS, 3 * LOGITS.flip(0)), rows(LOGITS.roll(1, 1)).assign(recipe="lws")])
    table = results.errors_by_prior(both, COUNTS)
    assert table.index.tolist() == ["ce", "lws"] and table.columns.tolist() == [k / 10 for k in range(11)]
    for t in (0, 0.3, 1):
        prior = results.prior_path(COUNTS, t)
        errors = [100 * metrics.error_under(z, LABELS, prior) for z in (LOGITS, 3 * LOGITS.flip(0), LOGITS.roll(1, 1))]
        assert table[t].tolist() == pytest.approx([sum(errors[:2]) / 2, errors[2]])
    balanced = [100 * metrics.balanced_error(z, LABELS) for z in (LOGITS, 3 * LOGITS.flip(0))]
    assert results.errors_by_prior(both, COUNTS, [0.5]).loc["ce", 0.5] == pytest.approx(sum(balanced) / 2, abs=1e-9)


def test_a_class_without_test_images_may_have_none_of_the_prior():
    one = rows(LOGITS[:4])  # no image of class 4
    expected = metrics.error_under(LOGITS[:4], LABELS[:4], [0.25] * 4 + [0])
    assert results.errors_under(one, [0.25] * 4 + [0]).item() == expected
    with pytest.raises(ValueError, match="class 4, and prior is"):
        results.errors_under(one, [0.2] * 5)


def test_a_prior_by_its_name_or_from_a_file(tmp_path):
    for name, t in (("train", 0), ("uniform", 0.5), ("reversed", 1)):
        assert torch.equal(results.prior_named(name, COUNTS), results.prior_path(COUNTS, t))
    (tmp_path / "counts.csv").write_text("10,0,5\n5,20\n")
    assert results.prior_named(str(tmp_path / "counts.csv"), COUNTS).tolist() == pytest.approx(
        [0.25, 0, 0.125, 0.125, 0.5]
    )
    for text in ("1 2", "1 2 3 4 five", "0 0 0 0 0", "1 1 1 1 -1"):
        (tmp_path / "wrong").write_text(text)
        with pytest.raises(ValueError, match=r"prior=.*wrong"):
            results.prior_named(str(tmp_path / "wrong"), COUNTS)
    with pytest.raises(ValueError, match=r"prior=trian.*train"):
        results.prior_named("trian", COUNTS)


def test_what_is_refused():
    for t in (-0.1, 1.1, float("nan"), "train"):
        with pytest.raises(ValueError, match="t="):
            results.prior_path(COUNTS, t)
    with pytest.raises(ValueError, match="class_counts"):
        results.prior_path([3, 0], 0.5)
    for prior in ([0.5] * 5, [0.5, 0.5], [1.2, -0.2, 0, 0, 0]):
        with pytest.raises(ValueError, match="prior must be 5"):
            results.errors_under(rows(LOGITS), prior)
    for without in (rows(LOGITS).drop(columns="per_class_accuracy"), rows(LOGITS).assign(per_class_accuracy="")):
        with pytest.raises(ValueError, match="per_class_accuracy"):
            results.errors_under(without, [0.2] * 5)
