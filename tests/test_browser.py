"""Explorers in a real JupyterLab: keys move controls, picture and summary follow, nothing reports an error."""

from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from browser import ExplorerView, JupyterLab, write_notebook
from playwright.sync_api import expect

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parent / "screenshots"

LONG_TAIL = "from ltlab.widgets import long_tail_explorer\nlong_tail_explorer(imbalance=60)"
REAL = "from ltlab.widgets import real_distributions_explorer\nreal_distributions_explorer()"
EFFECTIVE = "from ltlab.widgets import effective_number_explorer\neffective_number_explorer(beta=0.99)"
FOCAL = "from ltlab.widgets import focal_explorer\nfocal_explorer(gamma=1)"
SAMPLING = "from ltlab.widgets import sampling_explorer\nsampling_explorer()"
GRADIENT = """
import torch
from ltlab.widgets import gradient_explorer

logits = torch.tensor([[2.0, 1, 0], [1, 0.5, 0], [2, 1, 1]])
gradient_explorer(logits, torch.arange(3), [100, 20, 5], names=["cat", "dog", "owl"])
"""
NET = """
from ltlab import data, models
from ltlab.widgets import manifold_explorer, mixup_explorer

shapes = data.load("shapes-lt", test_count=1)
net = models.build("small_net", 10, shapes.train.images)
"""
MIXUP, MANIFOLD = NET + "mixup_explorer(shapes, net)", NET + "manifold_explorer(shapes, net)"
BETA = "from ltlab.widgets import beta_explorer\nbeta_explorer()"
REMIX = "from ltlab.widgets import remix_explorer\nremix_explorer([320, 90, 30, 9, 3])"
FOREGROUND = """
from ltlab import data, models
from ltlab.widgets import foreground_explorer

shapes = data.load("shapes-lt", test_count=1)
nets = {name: models.build("small_net", 10, shapes.train.images) for name in ("early", "late")}
foreground_explorer(shapes, nets)
"""
TIMELINE = "from ltlab.widgets import timeline_explorer\ntimeline_explorer()"
POST_HOC = """
import torch
from ltlab.widgets import post_hoc_explorer

generator = torch.Generator().manual_seed(0)
labels, weight = torch.arange(3).repeat(100), torch.eye(3)
features = weight[labels] + torch.randn(300, 3, generator=generator) + torch.tensor([1.0, 0.5, 0])
post_hoc_explorer(features, labels, [500, 50, 5], features, weight, names=["cat", "dog", "owl"])
"""
BAG = """
from ltlab import results
from ltlab.recipes import RECIPES
from ltlab.widgets import bag_explorer

bag_explorer(results.table(results.measured(RECIPES)), results.published("cifar10-lt", 100))
"""
FAILING = """
from ipywidgets import IntSlider
from ltlab.widgets import Explorer, blank_figure

def update(n):
    if n == 3:
        raise ValueError("n=3 is too much")
    return f"n is {n}"

Explorer({"n": IntSlider(value=1, description="n", max=5)}, blank_figure(200, 100), update, label="nothing")
"""


def show(lab: JupyterLab, name: str, cell: str) -> ExplorerView:
    write_notebook(lab.folder / f"{name}.ipynb", cell)
    lab.open(f"{name}.ipynb")
    lab.run_all()
    lab.check()
    return lab.explorer()


@pytest.mark.parametrize(
    ("name", "cell", "label", "moves"),  # after the five moves the explorer stands where it stood after the first
    [
        ("long_tail", LONG_TAIL, "imbalance", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        (
            "real_distributions",
            REAL,
            "data set",
            ["Places-LT", "CIFAR-100-LT", "ImageNet-LT", "CIFAR-100-LT", "Places-LT"],
        ),
        ("effective_number", EFFECTIVE, "beta", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        ("focal", FOCAL, "gamma", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        ("gradient", GRADIENT, "loss", ["CS_CE", "focal", "LDAM", "CDT", "CS_CE"]),
        ("sampling", SAMPLING, "q", ["ArrowLeft"] * 3 + ["ArrowRight"] * 2),
        ("mixup", MIXUP, "lambda", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        ("manifold", MANIFOLD, "layer", ["stem", "layer2", "pool", "layer2", "stem"]),
        ("beta", BETA, "alpha", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        ("remix", REMIX, "tau", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        ("foreground", FOREGROUND, "threshold", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        ("timeline", TIMELINE, "recipe", ["drw_cs_ce", "crt", "cam_drs", "ce", "drw_cs_ce"]),
        ("post_hoc", POST_HOC, "tau of logit adjustment", ["ArrowRight"] * 3 + ["ArrowLeft"] * 2),
        ("bag", BAG, "mix", ["input", "Remix", "manifold", "Remix", "input"]),
    ],
    ids=[
        "long_tail",
        "real_distributions",
        "effective_number",
        "focal",
        "gradient",
        "sampling",
        "mixup",
        "manifold",
        "beta",
        "remix",
        "foreground",
        "timeline",
        "post_hoc",
        "bag",
    ],
)
def test_explorer(lab: JupyterLab, name: str, cell: str, label: str, moves: list[str]) -> None:
    """Controls change picture and summary; the picture's box keeps its size; nothing is cut at 1300 and 800 pixels."""
    explorer = show(lab, name, cell)
    size = explorer.size()
    seen = [(explorer.summary(), explorer.pixels())]
    for to in moves:
        explorer.move(label, to)
        assert explorer.size() == size
        seen.append((explorer.summary(), explorer.pixels()))
    for (summary, pixels), (next_summary, next_pixels) in pairwise(seen):
        assert next_summary != summary
        assert next_pixels != pixels
    assert seen[5] == seen[1]

    SCREENSHOTS.mkdir(exist_ok=True)
    for width in (1300, 800):
        lab.resize(width, 900)
        lab.page.screenshot(path=SCREENSHOTS / f"{name}_{width}.png")
        assert_nothing_is_cut(lab, explorer)
    assert explorer.picture.get_attribute("title")
    lab.check()


def assert_nothing_is_cut(lab: JupyterLab, explorer: ExplorerView) -> None:
    notebook, root = lab.page.locator(".jp-Notebook").bounding_box(), explorer.root.bounding_box()
    assert root["x"] + root["width"] <= notebook["x"] + notebook["width"]
    assert explorer.root.evaluate("root => root.scrollWidth <= root.clientWidth")
    width, height = explorer.picture.evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")
    assert explorer.size()[1] / explorer.size()[0] == pytest.approx(height / width, rel=0.01)


def test_every_key_gets_its_frame(lab: JupyterLab, capsys: pytest.CaptureFixture) -> None:
    """30 keys, first each after the frame of the one before, then at fixed intervals. The times are only reported."""
    explorer = show(lab, "keys", LONG_TAIL)
    keys, before = ["ArrowLeft"] * 15 + ["ArrowRight"] * 15, explorer.summary()
    latencies = explorer.latencies("imbalance", keys)
    counts = {ms: explorer.frames("imbalance", keys, ms / 1000) for ms in (200, 100, 50)}
    with capsys.disabled():
        print(f"\nfrom key to pixels {median(latencies):.0f} ms (median); frames for 30 keys: "
              + ", ".join(f"{frames} at one key in {ms} ms" for ms, frames in counts.items()))  # fmt: skip
    assert len(latencies) == 30
    assert explorer.summary() == before  # whatever frames are left out, the last is the right one
    lab.check()


def test_foreground_keys(lab: JupyterLab, capsys: pytest.CaptureFixture) -> None:
    """30 keys on the angle, each after the frame of the one before; the times are only reported."""
    explorer = show(lab, "foreground_keys", FOREGROUND)
    before = explorer.summary()
    latencies = explorer.latencies("angle", ["ArrowLeft"] * 15 + ["ArrowRight"] * 15)
    with capsys.disabled():
        print(f"\nforeground: from key to pixels {median(latencies):.0f} ms (median of {len(latencies)})")
    assert len(latencies) == 30
    expect(explorer.root.get_by_role("status")).to_have_text(before)  # it follows the picture
    for label in ("flip", "fill"):  # checkboxes take the space bar
        explorer.move(label, "Space")
    explorer.move("model", "late")
    assert "flipped" in explorer.summary() and "(late)" in explorer.summary()
    lab.check()


def test_timeline_keys(lab: JupyterLab) -> None:
    """Choosing a recipe sets the slider to the recipe's own start, and a key moves it from there."""
    explorer = show(lab, "timeline_keys", TIMELINE)
    explorer.move("recipe", "crt")
    assert "epochs 201 to 230" in explorer.summary()
    explorer.move("stage 2 from", "ArrowLeft")
    assert "epochs 199 to 230" in explorer.summary()
    lab.check()


def test_choices_without_sense_give_the_reason_and_no_error(lab: JupyterLab) -> None:
    explorer = show(lab, "bag_keys", BAG)
    before = explorer.pixels()
    explorer.move("foreground", "CAM")
    assert explorer.summary().startswith("no recipe: a foreground needs the model of a stage before its own")
    assert explorer.pixels() == before
    explorer.move("when", "deferred (last fifth)")
    assert explorer.pixels() != before and "foreground CAM, deferred" in explorer.summary()
    lab.check()


def test_a_quiz_is_answered_by_keyboard(lab: JupyterLab) -> None:
    write_notebook(lab.folder / "quiz.ipynb", "from ltlab.course import quiz\nquiz('02')")
    lab.open("quiz.ipynb")
    lab.run_all()
    quiz = lab.page.locator(".ltlab-quiz")
    quiz.wait_for()
    quiz.locator("button").first.focus()
    for key in ("Enter", "Tab", "Space"):
        lab.page.keyboard.press(key)
    status = quiz.locator("[role=status]").first
    status.wait_for()
    marks = quiz.locator("button", has_text="✓").or_(quiz.locator("button", has_text="✗"))
    marks.nth(1).wait_for()
    assert marks.count() == 2 and status.inner_text()[0] in "✓✗"
    for width in (1300, 800):
        lab.resize(width, 900)
        lab.page.screenshot(path=SCREENSHOTS / f"quiz_{width}.png")
        assert quiz.evaluate("root => root.scrollWidth <= root.clientWidth")
    lab.check()


def test_a_failing_update_is_seen(lab: JupyterLab) -> None:
    """The other tests' checks would notice: a callback's error reaches the summary and the kernel's messages."""
    explorer = show(lab, "failing", FAILING)
    for expected in ("n is 2", "ValueError: n=3 is too much"):
        explorer.move("n", "ArrowRight")
        assert explorer.summary() == expected
    with pytest.raises(AssertionError, match="n=3 is too much"):
        lab.check()
    explorer.move("n", "ArrowRight")
    assert explorer.summary() == "n is 4"
