"""Explorers in a real JupyterLab: keys move controls, picture and summary follow, nothing reports an error."""

from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from browser import RUN_ALL, SECOND, ExplorerView, JupyterLab, write_notebook
from explorers import EXPLORER, explorer_cells, notebooks, setup
from playwright.sync_api import expect

from ltlab import widgets

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parent / "screenshots"

LONG_TAIL = "from ltlab.widgets import long_tail_explorer\nlong_tail_explorer(imbalance=60)"
TIMELINE = "from ltlab.widgets import timeline_explorer\ntimeline_explorer()"
FOREGROUND = """
from ltlab import data, models
from ltlab.widgets import foreground_explorer

shapes = data.load("shapes-lt", test_count=1)
nets = {name: models.build("small_net", 10, shapes.train.images) for name in ("early", "late")}
foreground_explorer(shapes, nets)
"""
BAG = """
from ltlab import results
from ltlab.recipes import RECIPES
from ltlab.widgets import bag_explorer

bag_explorer(results.table(results.measured(RECIPES)), results.published("cifar10-lt", 100))
"""
WHILE_RUNNING = LONG_TAIL, "import time\nend = time.time() + 30\nwhile time.time() < end:\n    sum(range(1000))"
ROWS = "root => getComputedStyle(root.querySelector('.ltlab-controls')).gridTemplateRows.split(' ').length"
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


# What has to be moved before a control changes the picture, and the keys that change it where an arrow is too little.
BEFORE = {
    ("focal_explorer", "form"): ("alpha", "ArrowRight"),
    ("foreground_explorer", "shift right"): ("scale", "Home"),  # and there is room
    ("bag_explorer", "when"): ("foreground", "none"),
}
KEYS = {("remix_explorer", "kappa"): ("PageUp", "PageDown")}


def test_every_explorer_of_the_package_is_in_a_notebook() -> None:
    """And the other way round: what the notebooks call is what the package gives out."""
    shown = {maker for notebook in notebooks() for cell in explorer_cells(notebook) for maker in EXPLORER.findall(cell)}
    assert shown - {"Explorer"} == {name for name in widgets.__all__ if name.endswith("_explorer")}


@pytest.mark.parametrize("notebook", notebooks())
def test_every_control_of_a_notebook(lab: JupyterLab, notebook: str) -> None:
    """By the keyboard: a control changes summary and picture, and back again; nothing flickers, fails or is cut off."""
    cells = explorer_cells(notebook)
    write_notebook(lab.folder / f"{notebook}.ipynb", setup(notebook), *cells)
    lab.open(f"{notebook}.ipynb", density=1)
    lab.run_all()
    lab.check()
    assert lab.page.locator(".ltlab-explorer").count() == len(cells)
    for number, (cell, maker) in enumerate((cell, EXPLORER.search(cell)[1]) for cell in cells):
        explorer = lab.explorer(number)
        labels = explorer.labels()
        assert labels and explorer.picture.get_attribute("title"), cell
        for label in labels:
            if first := BEFORE.get((maker, label)):
                explorer.move(*first)
            assert_moves(explorer, label, KEYS.get((maker, label)) or explorer.there_and_back(label))
        (there, back), pixels = explorer.there_and_back(labels[0]), explorer.pixels()
        explorer.move(labels[0], there)
        assert explorer.pixels() != pixels  # the screen shows what the page has got
        explorer.move(labels[0], back)
    SCREENSHOTS.mkdir(exist_ok=True)
    for width in (1300, 1002, 800):
        lab.resize(width, 900)
        for number in range(len(cells)):
            explorer = lab.explorer(number)
            explorer.root.screenshot(path=SCREENSHOTS / f"{notebook[:2]}_{number}_{width}.png")
            assert_nothing_is_cut(lab, explorer)
    lab.check()


def assert_moves(explorer: ExplorerView, label: str, there_and_back: tuple[str, str]) -> None:
    size, summary, drawn = explorer.size(), explorer.summary(), explorer.drawn()
    there, back = there_and_back
    explorer.move(label, there)
    assert explorer.size() == size and explorer.drawn() != drawn, f"{label}: {explorer.summary()}"
    explorer.move(label, back)
    assert (explorer.size(), explorer.summary(), explorer.drawn()) == (size, summary, drawn), label


def assert_nothing_is_cut(lab: JupyterLab, explorer: ExplorerView) -> None:
    notebook, root = lab.page.locator(".jp-Notebook").bounding_box(), explorer.root.bounding_box()
    assert root["x"] + root["width"] <= notebook["x"] + notebook["width"]
    assert explorer.root.evaluate("root => root.scrollWidth <= root.clientWidth")
    rows = explorer.root.evaluate(ROWS)
    assert rows <= 2 or root["width"] < 570, f"{rows} rows of controls"
    width, height = explorer.picture.evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")
    assert explorer.size()[1] / explorer.size()[0] == pytest.approx(height / width, rel=0.01)


def test_every_key_gets_its_frame(lab: JupyterLab, record_property: Callable[[str, object], None]) -> None:
    """30 keys, first each after the frame of the one before, then at fixed intervals. The times are only reported."""
    explorer = show(lab, "keys", LONG_TAIL)
    keys, before = ["ArrowLeft"] * 15 + ["ArrowRight"] * 15, explorer.summary()
    latencies = explorer.latencies("imbalance", keys)
    counts = {ms: explorer.frames("imbalance", keys, ms / 1000) for ms in (200, 100, 50)}
    record_property("from key to pixels", f"{median(latencies):.0f} ms (median)")
    record_property("frames for 30 keys", ", ".join(f"{frames} at one in {ms} ms" for ms, frames in counts.items()))
    assert len(latencies) == 30
    assert explorer.summary() == before  # whatever frames are left out, the last is the right one
    lab.check()


def test_the_first_key_is_answered_while_cells_still_run(lab: JupyterLab) -> None:
    write_notebook(lab.folder / "running.ipynb", *WHILE_RUNNING)
    lab.open("running.ipynb")
    lab.page.evaluate(RUN_ALL)
    lab.explorer().move("imbalance", "ArrowLeft")
    assert not lab.page.evaluate("() => window.ran")
    lab.page.wait_for_function("() => window.ran", timeout=60 * SECOND)
    lab.check()


def test_foreground_keys(lab: JupyterLab, record_property: Callable[[str, object], None]) -> None:
    """30 keys on the angle, each after the frame of the one before; the times are only reported."""
    explorer = show(lab, "foreground_keys", FOREGROUND)
    before = explorer.summary()
    latencies = explorer.latencies("angle", ["ArrowLeft"] * 15 + ["ArrowRight"] * 15)
    record_property("foreground, from key to pixels", f"{median(latencies):.0f} ms (median of {len(latencies)})")
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
