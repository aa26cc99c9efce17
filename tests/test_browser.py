"""Explorers in a real JupyterLab: keys move sliders, picture and summary follow, nothing reports an error."""

from itertools import pairwise
from pathlib import Path
from statistics import median

import pytest
from browser import ExplorerView, JupyterLab, write_notebook

pytestmark = pytest.mark.browser

SCREENSHOTS = Path(__file__).parent / "screenshots"

EXPLORERS = {  # name -> cell source, a slider's label
    "long_tail": ("from ltlab.widgets import long_tail_explorer\nlong_tail_explorer(imbalance=60)", "imbalance"),
}

FAILING = """
from ipywidgets import IntSlider
from ltlab.widgets import Explorer, blank_figure

def update(n):
    if n == 3:
        raise ValueError("n=3 is too much")
    return f"n is {n}"

explorer = Explorer({"n": IntSlider(value=1, description="n", max=5)}, blank_figure(200, 100), update, label="nothing")
explorer
"""


def show(lab: JupyterLab, name: str, *cells: str, width: int = 1300) -> ExplorerView:
    write_notebook(lab.folder / f"{name}.ipynb", *cells)
    lab.open(f"{name}.ipynb", width=width)
    lab.run_all()
    lab.check()
    return lab.explorer()


@pytest.mark.parametrize("name", EXPLORERS)
def test_keys_move_picture_and_summary(lab: JupyterLab, name: str) -> None:
    cell, label = EXPLORERS[name]
    explorer = show(lab, name, cell)
    slider, size = explorer.slider(label), explorer.size()
    seen = [(explorer.summary(), explorer.pixels())]
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"):
        explorer.press(slider, key)
        seen.append((explorer.summary(), explorer.pixels()))
        assert explorer.size() == size

    for (summary, pixels), (next_summary, next_pixels) in pairwise(seen):
        assert next_summary != summary
        assert next_pixels != pixels
    assert seen[5] == seen[1]  # three to the right and two back
    lab.check()


@pytest.mark.parametrize("name", EXPLORERS)
@pytest.mark.parametrize("width", [1300, 800])
def test_nothing_is_cut(lab: JupyterLab, name: str, width: int) -> None:
    SCREENSHOTS.mkdir(exist_ok=True)
    explorer = show(lab, name, EXPLORERS[name][0], width=width)
    lab.page.screenshot(path=SCREENSHOTS / f"{name}_{width}.png")
    right = lab.page.locator(".jp-Notebook").bounding_box()
    for part in (explorer.root, explorer.picture, explorer.slider(EXPLORERS[name][1])):
        box = part.bounding_box()
        assert box["x"] + box["width"] <= right["x"] + right["width"]
    assert explorer.root.evaluate("root => root.scrollWidth <= root.clientWidth")
    assert explorer.picture.get_attribute("title")
    natural = explorer.picture.evaluate("picture => [picture.naturalWidth, picture.naturalHeight]")
    assert explorer.size()[1] / explorer.size()[0] == pytest.approx(natural[1] / natural[0], rel=0.01)
    lab.check()


@pytest.mark.parametrize("interval", [0.2, 0.1, 0.05])
def test_every_key_gets_its_frame(lab: JupyterLab, interval: float, capsys: pytest.CaptureFixture) -> None:
    cell, label = EXPLORERS["long_tail"]
    explorer = show(lab, "latency", cell)
    before = explorer.summary()
    keys, painted = explorer.times(explorer.slider(label), ["ArrowLeft"] * 15 + ["ArrowRight"] * 15, interval)
    latencies = [min(frame - key for frame in painted if frame > key) for key in keys]
    with capsys.disabled():
        print(f"\n{len(painted)} frames for {len(keys)} keys every {1000 * interval:.0f} ms, "
              f"median {median(latencies):.0f} ms from key to pixels")  # fmt: skip
    assert len(keys) == 30
    assert explorer.summary() == before  # whatever frames were left out, the last one is the right one
    lab.check()


def test_a_failing_update_is_seen(lab: JupyterLab) -> None:
    """The other tests' checks would notice: a callback's error reaches the summary and the kernel's messages."""
    explorer = show(lab, "failing", FAILING)
    slider = explorer.slider("n")
    explorer.press(slider, "ArrowRight")
    assert explorer.summary() == "n is 2"
    explorer.press(slider, "ArrowRight")
    assert explorer.summary() == "ValueError: n=3 is too much"
    assert "n=3 is too much" in lab.kernel_errors()[0]
    with pytest.raises(AssertionError, match="n=3 is too much"):
        lab.check()
    explorer.press(slider, "ArrowRight")
    assert explorer.summary() == "n is 4"
