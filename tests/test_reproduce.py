"""The reproduction of the paper's settings, in its tiny version: rows, budget, going on."""

import contextlib
import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from ltlab import recipes, results
from ltlab.data import load

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
try:
    import reproduce as script
finally:
    del sys.path[0]


def reproduce(*arguments: object) -> SimpleNamespace:
    """Run the script in this process, which spares the start of an interpreter with torch for every case."""
    out, argv = io.StringIO(), sys.argv
    sys.argv = ["reproduce.py", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out):
            status = script.main()
    finally:
        sys.argv = argv
    return SimpleNamespace(returncode=status, stdout=out.getvalue())


@pytest.fixture(scope="module")
def arrays(tmp_path_factory) -> Path:
    """An .npz in the form of a subset of CIFAR-10-LT-100, its images random and few."""
    path = tmp_path_factory.mktemp("arrays") / "tiny.npz"
    rng = np.random.default_rng(0)
    counts = [100, 60, 36, 21, 13, 8, 5, 3, 2, 1]
    y_train, y_test = np.repeat(np.arange(10), counts), np.arange(20) % 10
    images = {f"x_{part}": rng.integers(0, 256, (len(y), 32, 32, 3), dtype=np.uint8)
              for part, y in (("train", y_train), ("test", y_test))}  # fmt: skip
    np.savez(path, y_train=y_train, y_test=y_test, classes=np.array([f"class {c}" for c in range(10)]), **images)
    return path


def test_without_a_cuda_device_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = reproduce()
    assert said.returncode == 2 and "no device 'cuda' here" in said.stdout and "--device cpu --quick" in said.stdout


@pytest.mark.slow
def test_the_tiny_version_runs_every_recipe_and_goes_on_where_its_budget_ended(arrays, tmp_path):
    quick = ("--device", "cpu", "--quick", "--arrays", arrays, "--seeds", 1, "--runs", tmp_path)
    first = reproduce(*quick, "--budget-minutes", 0)
    assert first.returncode == 0 and "ce " in first.stdout
    assert "next comes logit_adjusted_post_hoc, seed 0" in first.stdout and len(list(tmp_path.glob("*.pt"))) == 1
    (path,) = tmp_path.rglob("cifar10-lt-100.csv")
    assert path.is_relative_to(tmp_path / "quick")
    (row,) = results.read_rows(path).to_dict("records")
    rest = reproduce(*quick)
    rows = results.read_rows(path)
    assert rest.returncode == 0 and "nothing is left to run" in rest.stdout
    assert rows["recipe"].tolist() == list(script.TELLING_FIRST)
    assert rows["recipe"].is_unique and rows.iloc[0].top1_error == row["top1_error"]
    assert "to published" in rest.stdout and list(tmp_path.glob("*.pt")) == []
    assert "ce " not in reproduce(*quick).stdout.split("error (%)")[0]  # nothing is trained again
    rows[rows["recipe"] != "crt"].to_csv(path, index=False)
    assert "crt " in reproduce(*quick).stdout  # now from its beginning, as the checkpoint of ce is gone
    whole = results.read_rows(path).set_index("recipe").loc["crt"]
    assert whole["top1_error"] == rows.set_index("recipe").loc["crt", "top1_error"]


def test_what_begins_with_the_whole_of_plain_training_starts_where_it_has_ended():
    plain, *others = (recipes.get(name).resolve(recipes.CIFAR) for name in script.TELLING_FIRST)
    going_on = [recipe.name for recipe in others if script.goes_on_from(plain, recipe)]
    assert going_on == ["logit_adjusted_post_hoc", "tau_norm", "crt", "lws"]


def test_another_imbalance_than_the_arrays_have_is_refused(arrays):
    with pytest.raises(ValueError, match="100 to 1 images per class, not imbalance 50"):
        reproduce("--device", "cpu", "--quick", "--arrays", arrays, "--imbalance", 50)


@pytest.mark.cifar
def test_arrays_of_the_subset_are_the_subset(cifar_root, tmp_path):
    """The rows of a machine that has only an .npz of the images are those of the official files."""
    official = load("cifar10-lt", imbalance=100, seed=0, root=cifar_root)
    path = tmp_path / "subset.npz"
    np.savez(
        path,
        x_train=official.train.images.permute(0, 2, 3, 1).numpy(), y_train=official.train.labels.numpy(),
        x_test=official.test.images.permute(0, 2, 3, 1).numpy(), y_test=official.test.labels.numpy(),
        classes=np.array(official.class_names),
    )  # fmt: skip
    theirs = script.load_subset("cifar10-lt", 100.0, path)
    assert theirs.fingerprint == official.fingerprint and theirs.name == official.name
    assert theirs.options["imbalance"] == official.options["imbalance"]
