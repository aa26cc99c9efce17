"""The reproduction of the paper's settings, in its tiny version: rows, logits, budget, interruption, processes."""

import contextlib
import io
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from ltlab import recipes, results
from ltlab.data import load
from ltlab.train import evaluate, fit

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
try:
    import reproduce as script
finally:
    del sys.path[0]


def reproduce(*arguments: object) -> SimpleNamespace:
    """Run the script in this process, which spares the start of an interpreter with torch for every case."""
    out, argv, threads = io.StringIO(), sys.argv, torch.get_num_threads()
    sys.argv = ["reproduce.py", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out):
            status = script.main()
    finally:
        sys.argv = argv
        torch.set_num_threads(threads)
        script.load_subset.cache_clear()
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


RECIPES = ("ce", "drs_class_balanced", "cam_drs", "crt", "tau_norm", "input_mixup", "bag_of_tricks")
MEASURED = ["recipe", "seed", "fingerprint", "top1_error", "few_accuracy", "expected_calibration_error"]


def quick(arrays: Path, folder: Path, *names: str, seeds: int = 1, **options: object) -> SimpleNamespace:
    """The tiny version in float32, with its checkpoints and results under a folder."""
    more = [part for name, value in options.items() for part in (f"--{name.replace('_', '-')}", value)]
    return reproduce(*names, "--device", "cpu", "--quick", "--precision", "float32", "--arrays", arrays,
                     "--seeds", seeds, "--runs", folder, *more)  # fmt: skip


def command_line(arrays: Path, folder: Path) -> list[object]:
    """The same in a process of its own."""
    return [sys.executable, script.__file__, *RECIPES, "--device", "cpu", "--quick", "--precision", "float32",
            "--arrays", arrays, "--seeds", "1", "--runs", folder]  # fmt: skip


def rows_in(folder: Path) -> pd.DataFrame:
    return results.read_rows(folder / "quick" / "results" / "cifar10-lt-100.csv")


def kept_in(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """What every run has left: its logits and its curve."""
    files = (folder / "quick" / "logits").rglob("*.npz")
    return {file.stem: dict(np.load(file)) for file in files}


def same(a: Path, b: Path) -> None:
    """The same runs, bit for bit, whatever their order."""
    a_rows, b_rows = (rows_in(folder)[MEASURED].sort_values(["recipe", "seed"], ignore_index=True) for folder in (a, b))
    pd.testing.assert_frame_equal(a_rows, b_rows, check_exact=True)
    a_kept, b_kept = kept_in(a), kept_in(b)
    assert a_kept.keys() == b_kept.keys() and len(a_kept) == len(a_rows)
    for run, arrays in a_kept.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, b_kept[run][name], err_msg=f"{run}: {name}")


@pytest.fixture(scope="module")
def whole(arrays, tmp_path_factory) -> Path:
    """The folder of an uninterrupted reproduction of a few recipes."""
    folder = tmp_path_factory.mktemp("whole")
    said = quick(arrays, folder, *RECIPES)
    assert said.returncode == 0 and "nothing is left to run" in said.stdout and "to published" in said.stdout
    return folder


def test_without_a_cuda_device_it_says_so(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    said = reproduce()
    assert said.returncode == 2 and "no device 'cuda' here" in said.stdout and "--device cpu --quick" in said.stdout


def test_what_recipes_begin_with_is_trained_once():
    jobs = {str(job).partition(",")[0]: job for job in script.jobs_for(list(script.ORDER), 1, [100.0], recipes.CIFAR)}
    origins = {name: [origin.recipe.name for origin in job.origins] for name, job in jobs.items()}
    for name in ("ce", "drs_class_balanced", "cam_drs", "cam_drs_shuffled", "transform_drs", "drw_cs_ce", "ce_long"):
        assert origins[name] == ["first_stage"], name
    for name in ("crt", "lws", "tau_norm", "nearest_class_mean", "logit_adjusted_post_hoc"):
        assert origins[name] == ["ce", "first_stage"], name
    assert origins["ldam"] == origins["drw_ldam"] == ["ldam_first_stage"]
    assert origins["input_mixup"] == origins["bag_of_tricks_without_cam"] == ["mixup_first_stage"]
    assert origins["bag_of_tricks"] == ["input_mixup_cam_drs", "mixup_first_stage"]
    assert origins["balanced_softmax"] == origins["progressive"] == origins["input_mixup_balanced_softmax"] == []
    order = list(jobs)
    assert all(order.index(origin) < order.index(name) for name in order for origin in origins[name])
    assert order[:2] == ["first_stage", "ce"]


@pytest.mark.slow
def test_shared_first_stages_give_the_bits_of_whole_runs(arrays, whole):
    data = script.load_subset("cifar10-lt", 100.0, arrays, thin=True)
    rows = rows_in(whole).set_index("recipe")
    assert list(rows.index) == list(RECIPES)
    for name in ("ce", "cam_drs", "bag_of_tricks"):
        recipe = recipes.get(name).resolve(replace(recipes.CIFAR, epochs=5))
        run = fit(recipe, data, seed=0, device="cpu", progress=False)
        kept = kept_in(whole)[f"{name}-0"]
        np.testing.assert_array_equal(run.logits.half().numpy(), kept["logits"])
        np.testing.assert_array_equal(run.history["train_loss"].to_numpy(np.float32), kept["train_loss"])
        assert rows.loc[name, "fingerprint"] == results.fingerprint(recipe, data)
        weights = torch.load(whole / "quick" / "weights" / "cifar10-lt-100" / f"{name}-0.pt", weights_only=True)
        assert all(torch.equal(weights[key], value) for key, value in run.model.half().state_dict().items())


@pytest.mark.slow
def test_the_kept_logits_recompute_every_row_and_no_checkpoint_is_left(arrays, whole):
    data = script.load_subset("cifar10-lt", 100.0, arrays, thin=True)
    for row in rows_in(whole).to_dict("records"):
        logits = torch.from_numpy(kept_in(whole)[f"{row['recipe']}-{row['seed']}"]["logits"]).float()
        for name, value in evaluate(logits, data.test.labels, data.class_counts).items():
            np.testing.assert_equal(row[name], round(value, 6))
        assert row["precision"] == "float32" and row["threads"] == 1
    assert [file for file in (whole / "quick" / "cifar10-lt-100").iterdir() if file.suffix != ".lock"] == []


@pytest.mark.slow
def test_two_processes_give_the_rows_of_one(arrays, whole, tmp_path):
    subprocess.run([*command_line(arrays, tmp_path), "--processes", "2"], check=True, stdout=subprocess.DEVNULL)
    same(tmp_path, whole)


@pytest.mark.slow
def test_killed_three_times_it_gives_the_bits_of_an_uninterrupted_run(arrays, whole, tmp_path):

    def written() -> set[tuple[str, int]]:
        return {(file.name, file.stat().st_mtime_ns) for file in tmp_path.rglob("*.pt") if file.exists()}

    for epochs in (2, 3, 1):  # until so many checkpoints are written anew
        before, seen = written(), set()
        with subprocess.Popen(
            command_line(arrays, tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            while len(seen) < epochs and process.poll() is None:
                with contextlib.suppress(FileNotFoundError):
                    seen |= written() - before
                time.sleep(0.001)
            assert process.poll() is None, "it ended before it was killed"
            process.kill()
    assert quick(arrays, tmp_path, *RECIPES).returncode == 0
    same(tmp_path, whole)


@pytest.mark.slow
def test_a_spent_budget_ends_the_call_and_the_next_one_continues(arrays, tmp_path):
    first = quick(arrays, tmp_path, "ce", "tau_norm", "crt", budget_minutes=0)
    assert first.returncode == 0 and "the budget is spent; next comes ce, seed 0" in first.stdout
    assert "nothing is left" not in first.stdout
    status = quick(arrays, tmp_path, "ce", "tau_norm", "crt").stdout
    assert "nothing is left to run" in status and rows_in(tmp_path)["recipe"].tolist() == ["ce", "tau_norm", "crt"]
    rows = rows_in(tmp_path)
    rows[rows["recipe"] != "crt"].to_csv(tmp_path / "quick" / "results" / "cifar10-lt-100.csv", index=False)
    assert "crt, seed 0" in quick(arrays, tmp_path, "ce", "tau_norm", "crt").stdout  # whole, as the origins are gone
    pd.testing.assert_series_equal(rows[MEASURED].iloc[-1], rows_in(tmp_path)[MEASURED].iloc[-1])


def test_the_outlook_counts_what_is_left_for_every_process(arrays, tmp_path, monkeypatch):
    argv = ["", "ce", "cam_drs", "crt", "--device", "cpu", "--quick", "--seeds", "2", "--processes", "2"]
    monkeypatch.setattr(sys, "argv", [*argv, "--arrays", str(arrays), "--runs", str(tmp_path)])
    outlook = script.Reproduction(script.parsed()).outlook(pace=3600.0).set_index(["run", "seed"])["hours until done"]
    assert outlook["first_stage", 0] == outlook["first_stage", 1] == 4
    assert outlook["ce", 0] == 5 and outlook["cam_drs", 0] == 5  # side by side
    assert outlook["crt", 0] == outlook["ce", 1] == 6 and outlook["cam_drs", 1] == outlook["crt", 1] == 7


def test_another_precision_than_the_folder_has_is_refused(arrays, tmp_path):
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick" / "precision.txt").write_text("bfloat16", encoding="utf-8")
    with pytest.raises(ValueError, match=r"precision=float32: .* are in bfloat16"):
        quick(arrays, tmp_path, "ce")


def test_another_imbalance_than_the_arrays_have_is_refused(arrays, tmp_path):
    with pytest.raises(ValueError, match="100 to 1 images per class, not imbalance 50"):
        reproduce("--device", "cpu", "--quick", "--arrays", arrays, "--imbalance", 50, "--runs", tmp_path)


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
