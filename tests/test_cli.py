"""The command line as a user meets it: what it prints, what it writes, how it ends."""

import contextlib
import io
import os
import pickle
import re
import subprocess
import sys
from multiprocessing.spawn import get_preparation_data
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from ltlab import cli, plots, recipes
from ltlab.cli import teaching
from ltlab.recipes import Recipe, Stage
from ltlab.train import checkpoint

TINY = ["-o", "max_count=20", "-o", "test_count=5", "--imbalance", "10"]
DATA, TRAINING, COMPUTE = (
    "imbalance kind option root",
    "epochs settings batch-size lr",
    "device precision capture threads",
)
OPTIONS = {
    "lab": "",
    "train": f"data {DATA} {TRAINING} {COMPUTE} recipe seed output resume start-from evaluate-every results "
    "tensorboard batch-norm",
    "compare": f"data {DATA} {TRAINING} {COMPUTE} family seeds processes prior output",
    "search": f"data {DATA} {TRAINING} {COMPUTE} seeds budget-minutes validation output",
    "report": "prior budget-minutes folds seed output device threads test root size backbone cache",
    "detect": "",
    "recipes": "data code",
    "data": f"{DATA} seed sheet cam",
    "book": "output",
    "slides": "output",
    "quizzes": "format output",
    "assignments": "seed",
}


def ltlab(*arguments: str, cwd: Path) -> SimpleNamespace:
    """Run the command in this process, which spares the start of an interpreter with torch for every case."""
    out, err, here = io.StringIO(), io.StringIO(), Path.cwd()
    os.chdir(cwd)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), patch.dict(os.environ, COLUMNS="80"):
            status = cli.run(arguments)
    except SystemExit as stop:
        status = stop.code or 0
    finally:
        os.chdir(here)
    return SimpleNamespace(returncode=status, stdout=out.getvalue(), stderr=err.getvalue())


@pytest.mark.parametrize("command", OPTIONS)
def test_help_fits_80_columns_and_has_every_option(command, tmp_path):
    done = ltlab(command, "--help", cwd=tmp_path)
    assert done.returncode == 0 and max(map(len, done.stdout.splitlines())) <= 80
    assert set(re.findall(r"^│ --([a-z-]+)", done.stdout, re.MULTILINE)) == set(OPTIONS[command].split())
    assert ("-o STR" in done.stdout) == ("option" in OPTIONS[command]) and "None]" not in done.stdout


def test_the_overview_has_every_command(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cyclopts", None)  # which takes longer to import than all that this needs
    overview, nothing = ltlab("--help", cwd=tmp_path), ltlab(cwd=tmp_path)
    assert overview.returncode == 0 and max(map(len, overview.stdout.splitlines())) <= 80
    assert re.findall(r"^  (\w+)", overview.stdout, re.MULTILINE) == list(OPTIONS)
    assert (nothing.returncode, nothing.stdout) == (2, overview.stdout)
    missing = ltlab("recipes", cwd=tmp_path)
    assert missing.returncode == 2 and "cyclopts" in missing.stderr and missing.stderr.count("\n") == 1


def test_python_m_ltlab_ends_quietly_when_its_reader_does():
    with subprocess.Popen([sys.executable, "-m", "ltlab", "-h"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.close()
        assert (run.stderr.read(), run.wait(timeout=60)) == (b"", 1)


def test_completion_is_installed_for_the_shell(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    done = ltlab("--install-completion", cwd=tmp_path)
    scripts = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("*/ltlab")]
    assert done.returncode == 0 and "--evaluate-every" in "".join(scripts), done.stderr


@pytest.mark.parametrize(
    ("arguments", "lr", "seed", "options"),
    [
        ("", None, 0, ()),
        ("--lr -1 -o a=1 -o b=2", -1.0, 0, ("a=1", "b=2")),
        ("--lr=0.5 -oa=1 --option b=2 --seed 3", 0.5, 3, ("a=1", "b=2")),
        ("--seed 1 --seed 2", None, 2, ()),  # the last one counts
    ],
)
def test_options_are_read_in_every_form(arguments, lr, seed, options, tmp_path, monkeypatch):
    def read(*, seed: int = 0, data: cli.Data = cli.Data(), training: cli.Training = cli.Training()):  # noqa: B008
        print(training.lr, seed, data.option)

    monkeypatch.setitem(cli.COMMANDS, "train", read)
    assert ltlab("train", *arguments.split(), cwd=tmp_path).stdout == f"{lr} {seed} {options}\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    done = ltlab("train", "--epochs", "2", "--results", "all.csv", *TINY, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder, done


def test_train_prints_the_recipe_and_the_metrics_and_no_progress_bar_into_a_log(trained):
    _, done = trained
    for text in ("LongTailedData('shapes-lt'", "CrossEntropyLoss()", "top1 error", "few accuracy", "written to"):
        assert text in done.stdout
    classes = re.findall(r"^ *(\S.*?) +(\d+) +([\d.]+)% ?$", done.stdout, re.MULTILINE)
    top1 = float(re.search(r"top1 error +([\d.]+)%", done.stdout)[1])
    assert len(classes) == 10 and classes[0][:2] == ("circle", "20")
    assert sum(float(accuracy) for *_, accuracy in classes) / 10 == pytest.approx(100 - top1, abs=0.1)
    assert not done.stderr


def test_train_writes_checkpoint_history_and_a_row_that_says_where_it_comes_from(trained):
    folder, _ = trained
    run = next((folder / "runs").glob("*/ce-2/seed0"))
    assert sorted(p.name for p in run.iterdir()) == [
        "checkpoint.csv", "checkpoint.pt", "classes.csv", "result.csv", "result.png",
    ]  # fmt: skip
    classes = pd.read_csv(run / "classes.csv")
    assert classes["class"][0] == "circle" and classes["training images"].iloc[[0, -1]].tolist() == [20, 2]
    row = pd.read_csv(run / "result.csv").iloc[0]
    assert (row["data"], row["recipe"], row["seed"], row["epochs"], row["imbalance"]) == ("shapes-lt", "ce", 0, 2, 10)
    assert "max_count=20" in row["options"] and row["torch"] and row["device"]
    assert row["top1_error"] == pytest.approx(pd.read_csv(run / "checkpoint.csv")["test_error"].iloc[-1], abs=1e-6)
    pd.testing.assert_series_equal(pd.read_csv(folder / "all.csv").iloc[0], row)


def test_the_test_set_is_evaluated_as_often_as_asked(tmp_path):
    done = ltlab("train", "--epochs", "5", "--evaluate-every", "2", "--output", "run", *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    errors = pd.read_csv(tmp_path / "run" / "checkpoint.csv")["test_error"]
    assert errors.notna().tolist() == [False, True, False, True, True]


def test_train_again_refuses_and_resume_continues(trained):
    folder, _ = trained
    again = ltlab("train", "--epochs", "2", *TINY, cwd=folder)
    assert again.returncode == 2 and "checkpoint.pt exists" in again.stderr and again.stderr.count("\n") == 1
    resumed = ltlab("train", "--epochs", "2", "--resume", *TINY, cwd=folder)
    assert resumed.returncode == 0 and "top1 error" in resumed.stdout


@pytest.mark.parametrize(("error", "status"), [(OSError, 2), (TypeError, 2), (FloatingPointError, 1)])
def test_what_fails_in_training_is_one_line_too(tmp_path, monkeypatch, error, status):
    def failing(*_, **__):
        raise error("it is gone:\n  start again")

    monkeypatch.setattr("ltlab.train.fit", failing)
    done = ltlab("train", "--epochs", "1", *TINY, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (status, "ltlab: it is gone: start again\n")


def test_a_run_that_is_stopped_says_how_to_continue(tmp_path, monkeypatch):
    saved, save = [], checkpoint.save

    def stopping(path, state):
        save(path, state)
        saved.append(path)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "save", stopping)
    stopped = ltlab("train", "--epochs", "2", *TINY, cwd=tmp_path)
    assert stopped.returncode == 130 and "Traceback" not in stopped.stderr
    assert "--resume" in stopped.stderr and str(saved[0].relative_to(tmp_path)) in stopped.stderr


def test_a_row_that_is_there_is_not_written_again(trained, tmp_path):
    folder, _ = trained
    before = (folder / "all.csv").read_bytes()
    done = ltlab("train", "--epochs", "2", "--resume", "--results", "all.csv", *TINY, cwd=folder)
    assert done.returncode == 0 and (folder / "all.csv").read_bytes() == before, done.stderr


def test_rows_that_could_not_be_written_are_refused_before_anything_is_trained(trained, tmp_path):
    (tmp_path / "cut.csv").write_bytes((trained[0] / "all.csv").read_bytes()[:-1])
    for place in ("cut.csv", "cut.csv/deep/all.csv"):
        refused = ltlab("train", "--epochs", "2", "--results", place, *TINY, cwd=tmp_path)
        assert refused.returncode == 2 and str(Path(place)) in refused.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["cut.csv"]


@pytest.fixture
def damaged(tmp_path):
    """A folder of two classes of images, with a training image and two test images that cannot be read."""
    for part, counts in (("train", (8, 4)), ("test", (3, 3))):
        for name, count in zip(("duck", "owl"), counts, strict=True):
            (tmp_path / "birds" / part / name).mkdir(parents=True)
            for i in range(count):
                image = np.random.default_rng(i).integers(256, size=(16, 16, 3), dtype=np.uint8)
                Image.fromarray(image).save(tmp_path / "birds" / part / name / f"{i}.png")
    for name in ("train/duck/1.png", "test/duck/0.png", "test/owl/2.png"):
        (tmp_path / "birds" / name).write_bytes(b"\x89PNG")
    return tmp_path


OWN = ["--data", "birds", "--imbalance", "none", "-o", "stream=True", "-o", "size=16", "-o", "workers=0",
       "--settings", "shapes", "--batch-size", "4", "--device", "cpu", "--epochs", "1"]  # fmt: skip


def test_images_that_were_skipped_are_counted_and_a_run_is_found_again_however_they_are_read(damaged):
    counted, skip = "1 training and 2 test images could not be read", ["-o", "on_error=skip"]
    done = ltlab("train", *OWN, *skip, cwd=damaged)
    assert done.returncode == 0 and counted in done.stdout, done.stderr
    run = damaged / "runs" / "birds-none-size=16" / "ce-1-shapes-batch4" / "seed0"
    options = pd.read_csv(run / "result.csv")["options"][0]
    assert options == "kind=exp size=16 on_error=skip skipped_test=2"
    again = ltlab("train", *OWN, "-o", "workers=1", *skip, "--resume", cwd=damaged)
    assert counted in again.stdout, again.stderr  # of the whole run, though nothing was left to train
    refused = ltlab("train", *OWN, "--output", "other", cwd=damaged)
    assert refused.returncode == 2 and "on_error=" in refused.stderr


@pytest.mark.parametrize(
    ("data", "option", "name"),
    [
        ("shapes-lt", [], "shapes-lt-100"),
        ("sets/mine.npz", [], "mine-none"),
        ("sets/data.v1/", ["stream=True", "workers=2", "on_error=skip", "size=64"], "data.v1-none-size=64"),
        ("shapes-lt", ["context=1/2"], "shapes-lt-100-context=1_2"),
        (".", [], f"{Path().resolve().name}-none"),
    ],
)
def test_a_run_s_folder_is_named_by_what_tells_its_data_apart(data, option, name):
    option = tuple(option)
    assert cli.Subset(option=option).folder_name(data) == name
    step = cli.Subset(option=option, kind="step", imbalance="50").folder_name(data)
    assert step == re.sub("-(100|none)", "-50-step", name)


def test_train_by_another_settings_batch_and_learning_rate(tmp_path):
    options = ["--epochs", "1", "--settings", "shapes", "--batch-size", "16", "--lr", "0.025"]
    done = ltlab("train", *options, *TINY, cwd=tmp_path)
    assert done.returncode == 0 and "OneCycle(lr=0.025" in done.stdout, done.stderr
    row = pd.read_csv(next(tmp_path.glob("runs/*/ce-1-shapes-batch16-lr0.025/seed0/result.csv"))).iloc[0]
    assert (row["batch_size"], row["model"]) == (16, "small_net")
    score = float(re.search(r"negative log likelihood +([0-9.]+)\n", done.stdout)[1])  # in nats, no percentage
    assert score == pytest.approx(row["negative_log_likelihood"], abs=6e-4)


def test_compare_by_another_settings(tmp_path):
    options = ["--seeds", "1", "--epochs", "1", "--settings", "shapes", "--batch-size", "16", "--output", "rows"]
    done = ltlab("compare", "ce", "class_balanced", *options, *TINY, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(tmp_path / "rows" / "runs.csv")
    assert rows["recipe"].tolist() == ["ce", "class_balanced"] and (rows["batch_size"] == 16).all()
    ltlab("compare", "ce", *options[:4], "--output", "rows", *TINY, cwd=tmp_path)
    rows = pd.read_csv(tmp_path / "rows" / "runs.csv")
    assert rows["batch_size"].tolist() == [16, 16, 32] and rows["fingerprint"].nunique() == 3
    (tmp_path / "prior.txt").write_text("1 0 0 0 0 0 0 0 0 0")
    (tmp_path / "short.txt").write_text("1, 2")
    for prior, error in (("uniform", rows["balanced_error"][2]), ("prior.txt", 1 - _first(rows)[2])):
        done = ltlab("compare", "ce", *options[:4], "--output", "rows", "--prior", prior, *TINY, cwd=tmp_path)
        assert done.returncode == 0 and "under prior (%)" in done.stdout, done.stderr
        table = pd.read_csv(tmp_path / "rows" / "table.csv")
        assert table["error_under_prior"].item() == pytest.approx(100 * error)
    for prior in ("tail", "short.txt"):
        refused = ltlab("compare", "ce", "--output", "new", "--prior", prior, *TINY, cwd=tmp_path)
        assert refused.returncode == 2 and f"prior={prior}" in refused.stderr and not (tmp_path / "new").exists()


def _first(rows: pd.DataFrame) -> list[float]:
    """The accuracy of the first class, run by run."""
    return [float(text.split()[0]) for text in rows["per_class_accuracy"]]


@pytest.mark.parametrize(
    ("command", "option"), [("train --recipe own", "--lr 0.1"), ("compare own", "--batch-size 16")]
)
def test_a_recipe_with_its_own_settings_takes_no_other(command, option, tmp_path, monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "own", Recipe(Stage(), name="own", settings=recipes.SHAPES))
    refused = ltlab(*command.split(), *option.split(), *TINY, cwd=tmp_path)
    assert refused.returncode == 2 and not list(tmp_path.iterdir())
    assert "recipe 'own'" in refused.stderr and option.split()[0] in refused.stderr


MINE = """
from torch import nn
from torch.nn import functional as F

from ltlab.recipes import Recipe, Stage


class Tempered(nn.Module):
    def forward(self, logits, targets):
        return F.cross_entropy(2 * logits, targets)


first = Recipe(Stage(loss=Tempered()), name="tempered: 1/2")
second = Recipe(Stage(loss=Tempered()), Stage(schedule="finetune"), name="second")
unnamed, again = Recipe(Stage()), Recipe(Stage())
number = 3
"""


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A folder with recipes in mine.py, imported anew in every test."""
    monkeypatch.setattr(sys, "path", sys.path[:])
    for module in ("mine", "wrong", "cut"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    (tmp_path / "mine.py").write_text(MINE, encoding="utf-8")
    (tmp_path / "wrong.py").write_text("from ltlab.recipes import Stage\n\nStage(share=-1)\n", encoding="utf-8")
    (tmp_path / "cut.py").write_text("recipe = Recipe(\n", encoding="utf-8")
    return tmp_path


def test_train_takes_a_recipe_from_a_file(mine, tmp_path):
    done = ltlab("train", "--recipe", "mine.py:first", "--epochs", "1", *TINY, cwd=mine)
    assert done.returncode == 0 and "Tempered()" in done.stdout, done.stderr
    row = pd.read_csv(next(mine.glob("runs/*/tempered_ 1_2-1/seed0/result.csv"))).iloc[0]
    assert (row["recipe"], row["epochs"]) == ("tempered: 1/2", 1)


def test_compare_takes_recipes_from_files_and_modules(mine):
    options = ["--seeds", "1", "--epochs", "2", "--batch-size", "16", "--output", "rows", *TINY]
    done = ltlab("compare", "ce", f"{mine / 'mine.py'}:first", "mine:second", "mine.py:first", *options, cwd=mine)
    assert done.returncode == 0, done.stderr
    rows = pd.read_csv(mine / "rows" / "runs.csv")
    assert rows["recipe"].tolist() == ["ce", "tempered: 1/2", "second"] and (rows["batch_size"] == 16).all()
    refused = ltlab("compare", "mine.py:unnamed", "mine.py:again", *options, cwd=mine)
    assert refused.returncode == 2 and "['custom', 'custom']" in refused.stderr


def test_a_recipe_from_a_file_can_be_handed_to_the_processes_of_compare(mine, monkeypatch):
    monkeypatch.chdir(mine)
    pickled = pickle.dumps(recipes.load("mine.py:first"))
    monkeypatch.setattr(sys, "path", get_preparation_data("child")["sys_path"])  # as spawned processes get it
    monkeypatch.chdir(mine.parent)
    del sys.modules["mine"]
    assert pickle.loads(pickled).name == "tempered: 1/2"


def test_recipes_shows_a_recipe_from_a_file(mine):
    done = ltlab("recipes", "mine.py:second", "--data", "shapes-lt", cwd=mine)
    assert "recipe 'second'" in done.stdout and "OneCycle(lr=0.005" in done.stdout, done.stderr
    code = ltlab("recipes", "mine.py:unnamed", "--code", cwd=mine).stdout
    (mine / "wrong.py").write_text(code, encoding="utf-8")  # code that was printed is a file to name
    assert ltlab("recipes", "wrong.py:recipe", cwd=mine).stdout == ltlab("recipes", "mine:again", cwd=mine).stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mine.py:frist", "unknown recipe in mine.py 'frist'; did you mean 'first'? Known: first, second, "),
        ("mine.py:number", "mine.py:number is of type int, not Recipe"),
        ("nosuch.py:first", "there is no file "),
        ("wrong.py:recipe", "wrong.py cannot be imported, ValueError in line 3: share=-1"),
        ("cut.py:recipe", "cut.py cannot be imported, SyntaxError: '(' was never closed (cut.py, line 1)"),
        ("random.py:recipe", "random.py has the name of another module"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_of_recipes_is_one_line(mine, name, message):
    (mine / "random.py").write_text("recipe = 3\n", encoding="utf-8")
    refused = ltlab("compare", "ce", name, cwd=mine)
    assert refused.returncode == 2 and refused.stderr.startswith("ltlab: ") and refused.stderr.count("\n") == 1
    assert message in refused.stderr and not refused.stdout


def test_what_custom_code_raises_is_one_line_with_its_place(mine):
    (mine / "wrong.py").write_text(MINE.replace("F.cross_entropy", "{}['cost']") + "\n", encoding="utf-8")
    failed = ltlab("train", "--recipe", "wrong.py:first", "--epochs", "1", *TINY, cwd=mine)
    assert failed.returncode == 2 and failed.stderr.startswith("ltlab: ") and failed.stderr.count("\n") == 1
    assert "wrong.py, line 10: KeyError: 'cost'" in failed.stderr


def test_train_writes_curves_for_tensorboard(trained):
    pytest.importorskip("tensorboard")
    folder, _ = trained
    done = ltlab("train", "--epochs", "2", "--resume", "--tensorboard", "board", *TINY, cwd=folder)
    assert done.returncode == 0 and next((folder / "board").glob("events*")), done.stderr


def test_a_second_stage_starts_from_a_finished_run(trained):
    folder, _ = trained
    checkpoint = next(folder.glob("runs/*/ce-2/seed0/checkpoint.pt"))
    arguments = ["train", "--recipe", "tau_norm", "--epochs", "2", *TINY]
    done = ltlab(*arguments, "--start-from", str(checkpoint), cwd=folder)
    assert done.returncode == 0, done.stderr
    alone = ltlab(*arguments, "--output", "alone", cwd=folder)
    assert [line for line in done.stdout.splitlines() if "error" in line] == [
        line for line in alone.stdout.splitlines() if "error" in line
    ]


def test_data_draws_the_images_that_cam_based_resampling_makes(trained):
    folder, _ = trained
    checkpoint = next(folder.glob("runs/*/ce-2/seed0/checkpoint.pt"))
    done = ltlab("data", "shapes-lt", *TINY, "--sheet", "new.png", "--cam", str(checkpoint), cwd=folder)
    assert "new images" in done.stdout and (folder / "new.png").read_bytes().startswith(b"\x89PNG"), done.stderr
    other = ltlab("data", "shapes-lt", *TINY, "--seed", "1", "--sheet", "o.png", "--cam", str(checkpoint), cwd=folder)
    assert other.returncode == 2 and "data fingerprint is" in other.stderr


def test_recipes_is_one_line_a_recipe_and_fills_in_what_is_open(tmp_path):
    lines = ltlab("recipes", cwd=tmp_path).stdout.splitlines()
    assert [line.split()[0] for line in lines if line[0] == " "] == list(recipes.RECIPES)
    assert [line.removesuffix(":") for line in lines if line[0] != " "] == list(recipes.FAMILIES)
    (line,) = (line for line in lines if line.startswith("  cam_drs "))
    assert line.split(maxsplit=1)[1] == (
        "80% CrossEntropyLoss() →  20% PowerSampler(q=0.0), ForegroundTransform(), CrossEntropyLoss()"
    )
    filled = ltlab("recipes", "ce", "--data", "cifar10-lt", cwd=tmp_path)
    assert "200" in filled.stdout and "milestones=(0.8, 0.9)" in filled.stdout
    assert re.search(r"ce +30 CrossEntropyLoss\(\)\n", ltlab("recipes", "--data", "shapes-lt", cwd=tmp_path).stdout)


def test_data_lists_and_weighs_and_draws(tmp_path):
    assert "cifar100-lt" in ltlab("data", cwd=tmp_path).stdout
    done = ltlab("data", "shapes-lt", *TINY, "--sheet", "deep/name", cwd=tmp_path)
    assert "MiB in memory" in done.stdout and "20 circle" in done.stdout, done.stderr
    assert f"written to {Path('deep', 'name.png')}" in done.stdout
    assert (tmp_path / "deep" / "name.png").read_bytes().startswith(b"\x89PNG")
    refused = ltlab("data", "shapes-lt", *TINY, "--sheet", "name.doc", cwd=tmp_path)
    assert refused.returncode == 2 and not refused.stdout and "'doc'" in refused.stderr


def test_a_contact_sheet_has_a_row_for_every_class_and_white_cells_where_images_lack():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 3, 8, 8), dtype=np.uint8)
    sheet = plots.contact_sheet(images, [1, 0, 0, 1, 0], rows=2, columns=4).images[0].get_array()
    assert sheet[4::9, 4::9, 0].tolist() == [[1, 2, 4, 255], [0, 3, 255, 255]]  # 8 pixels and a gap of 1


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("train --data shapeslt", "did you mean 'shapes-lt'"),
        ("train --data ~nosuchuser/x", "~nosuchuser/x"),
        ("data cifar10-lt --root ~nosuchuser", "~nosuchuser"),
        ("train --recipe cee", "did you mean 'ce'"),
        ("train --device gpu", "'gpu'"),
        ("train --imbalance much", "imbalance='much'"),
        ("train --imbalance none", "imbalance"),
        ("train -o context", "'context'"),
        ("train -o contxt=1", "did you mean 'context'"),
        ("train -o seed=5", "--seed 5"),
        ("search -o name=x", "--data x"),
        ("train -o context=abc", "context='abc'"),
        ("train --seed 2021", "seed=2021"),
        ("train --epochs 0", "epochs=0"),
        ("train --settings imagnet-lt", "did you mean 'imagenet-lt'?"),
        ("compare", "ltlab compare ce balanced_softmax"),
        ("compare ce --threads 0", "threads=0"),
        ("train --resume --epochs 3", "no checkpoint at"),
        ("data shapes-lt --cam checkpoint.pt", "--sheet"),
        ("train --seed one", "--seed one"),
        ("train --epochs 1.5", "--epochs 1.5"),
        ("train --epochs", "--epochs"),
        ("train --lrr 0.1", "--lr?"),
        ("recipes ce focal", "focal"),
        ("recipes ce --data shapeslt", "did you mean 'shapes-lt'"),
        ("trian", '"train"'),
    ],
)
def test_a_mistake_is_one_line_and_status_2(tmp_path, arguments, named):
    size = [] if re.search("-o |data |recipes|--imbalance|trian", arguments) else TINY
    done = ltlab(*arguments.split(), *size, cwd=tmp_path)
    assert done.returncode == 2 and not done.stdout.startswith("Traceback")
    assert done.stderr.startswith("ltlab: ") and done.stderr.count("\n") == 1 and named in done.stderr


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """The package in a clone with two notebooks, and what JupyterLab is called with."""
    labapp = pytest.importorskip("jupyterlab.labapp")
    (tmp_path / "notebooks" / "solutions").mkdir(parents=True)
    for name in ("00_start_here.ipynb", "solutions/00_start_here.ipynb", "notation.md", "execute.py"):
        (tmp_path / "notebooks" / name).write_text("new", encoding="utf-8")
    given = []
    monkeypatch.setattr(teaching, "__file__", str(tmp_path / "ltlab" / "cli" / "teaching.py"))
    monkeypatch.setattr(labapp.LabApp, "launch_instance", lambda argv: given.append((argv, os.environ.copy())))
    monkeypatch.setattr(sys, "argv", sys.argv)
    return tmp_path, given


def test_lab_opens_the_learner_s_copies_of_the_notebooks_on_one_thread(clone, monkeypatch):
    folder, given = clone
    for name in ("OMP_NUM_THREADS", "TQDM_DISABLE"):
        monkeypatch.delenv(name, raising=False)
    done = ltlab("lab", "--version", "--port", "8890", cwd=folder)
    ((argv, environment),) = given
    mine = folder / "my_notebooks"
    assert done.returncode == 0 and argv[-3:] == ["--version", "--port", "8890"], done.stderr
    assert argv[:2] == [f"--ServerApp.root_dir={mine}", "--LabApp.default_url=/lab/tree/00_start_here.ipynb"]
    assert environment["JUPYTER_CONFIG_PATH"] and environment["OMP_NUM_THREADS"] == "1"
    assert "TQDM_DISABLE" not in environment  # the notebooks have bars
    assert {p.relative_to(mine).as_posix() for p in mine.rglob("*.*")} == {
        "00_start_here.ipynb", "solutions/00_start_here.ipynb", "notation.md",
    }  # fmt: skip
    (mine / "00_start_here.ipynb").write_text("mine", encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    ltlab("lab", cwd=folder)
    assert (mine / "00_start_here.ipynb").read_text(encoding="utf-8") == "mine"
    assert given[1][1]["OMP_NUM_THREADS"] == "3"


def test_lab_says_how_root_starts_it(clone, monkeypatch):
    labapp = sys.modules["jupyterlab.labapp"]
    monkeypatch.setattr(labapp.LabApp, "launch_instance", lambda argv: sys.exit(1))
    monkeypatch.setattr(os, "geteuid", lambda: 0, raising=False)
    refused = ltlab("lab", cwd=clone[0])
    assert refused.returncode == 2 and "ltlab lab --allow-root" in refused.stderr
    assert ltlab("lab", "--allow-root", cwd=clone[0]).stderr == ""


@pytest.mark.parametrize(
    ("arguments", "environment", "threads"),
    [
        ("", {}, 1),
        ("--settings cifar", {}, 5),
        ("", {"OMP_NUM_THREADS": "2"}, 5),  # torch has read it
        ("--threads 2", {"OMP_NUM_THREADS": "3"}, 2),
    ],
)
def test_small_nets_train_on_one_thread_unless_somebody_says_otherwise(tmp_path, monkeypatch, arguments, environment,
                                                                       threads):  # fmt: skip
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    used = []

    def stopping(*_, **__):
        used.append(torch.get_num_threads())
        raise ValueError("that is all")

    monkeypatch.setattr("ltlab.train.fit", stopping)
    before = torch.get_num_threads()
    torch.set_num_threads(5)
    try:
        ltlab("train", *arguments.split(), *TINY, cwd=tmp_path)
    finally:
        torch.set_num_threads(before)
    assert used == [threads]
