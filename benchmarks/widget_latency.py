"""From a key press to new pixels: every explorer in a real JupyterLab, next to the same figure by `interact`.

    python benchmarks/widget_latency.py             # all, about fifteen minutes on two CPU cores
    python benchmarks/widget_latency.py focal remix # some

Chromium presses 30 keys on a control, each after the frame of the one before, and notes for each the time until the new
picture is painted. The ordinary way is the same figure with the same update of its artists, in `ipywidgets.interact`,
drawn as a whole and shown as a cell's output, as the inline backend does; once with as many pixels as the explorer
(2:1, for dense screens) and once with a quarter of them (1:1). All in one JupyterLab, one after the other; networks
are untrained, which takes as long to draw.

Prints median and 95th percentile in milliseconds, and how many times the explorer's median the others are. Needs
Chromium, see tests/browser.py.

Measured on two cores, hardly used otherwise: medians of 58 to 110 ms, against 100 to 281 ms with as many pixels. Ten of
the fifteen take half of that or less (long_tail 3.6 times, remix 3.4, effective_number 3.3, sampling 3.2, focal 2.8);
one_cycle (1.4), real_distributions (1.3), post_hoc (1.6), manifold and foreground (1.7) do not. The kernel is at work
for 13 to 33 ms of them, half of that for the PNG (62 ms where the log scale is switched, which redraws everything); the
rest, about 50 ms, is the way there and back, which both go.
"""

import argparse
import re
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from browser import ExplorerView, JupyterLab, find_chromium, write_notebook
from explorers import EXPLORER, explorer_cells, notebooks, setup

TO_AND_FRO = ["ArrowLeft", "ArrowRight"] * 15  # so that no slider is at its end
SWITCH = ["Space"] * 30
CONTROLS = {  # what is moved, and by which keys
    "Explorer": ("peak", TO_AND_FRO),
    "imbalance_explorer": ("imbalance", ["ArrowRight", "ArrowLeft"] * 15),
    "long_tail_explorer": ("imbalance", TO_AND_FRO),
    "real_distributions_explorer": ("log scale", SWITCH),
    "effective_number_explorer": ("beta", TO_AND_FRO),
    "focal_explorer": ("gamma", TO_AND_FRO),
    "gradient_explorer": ("loss", ["ArrowRight", "ArrowLeft"] * 15),
    "sampling_explorer": ("q", ["ArrowRight", "ArrowLeft"] * 15),
    "beta_explorer": ("alpha", TO_AND_FRO),
    "mixup_explorer": ("lambda", TO_AND_FRO),
    "manifold_explorer": ("lambda", TO_AND_FRO),
    "remix_explorer": ("tau", TO_AND_FRO),
    "timeline_explorer": ("stage 2 from", TO_AND_FRO),
    "post_hoc_explorer": ("tau of logit adjustment", TO_AND_FRO),
    "foreground_explorer": ("angle", TO_AND_FRO),
    "reliability_explorer": ("temperature", TO_AND_FRO),
    "noise_floor_explorer": ("test set", TO_AND_FRO),
    "smoothing_explorer": ("head", TO_AND_FRO),
    "alignment_explorer": ("tau of the margin", TO_AND_FRO),
    "prior_explorer": ("test prior: 0 training, 0.5 uniform, 1 reversed", TO_AND_FRO),
    "gradient_ratio_explorer": ("step", TO_AND_FRO),
    "equalization_explorer": ("gamma: slope", TO_AND_FRO),
    "suppression_explorer": ("xi", TO_AND_FRO),
    "scene_explorer": ("score threshold", TO_AND_FRO),
    "detection_cap_explorer": ("detections per image", TO_AND_FRO),
    "repeat_factor_explorer": ("threshold t", TO_AND_FRO),
    "bag_explorer": ("loss", ["Space ArrowDown Enter", "Space ArrowUp Enter"] * 15),
}
ORDINARY = """
import io
import ipywidgets
from IPython.display import Image, display

for artist in explorer._moving:
    artist.set_animated(False)
controls = {{name: type(control)(**{{key: getattr(control, key) for key in
            ("value", "min", "max", "step", "options", "description") if hasattr(control, key)}})
            for name, control in explorer.controls.items()}}

def show(**values):
    explorer._update(**values)
    picture = io.BytesIO()
    explorer.figure.savefig(picture, dpi={density} * 96)
    display(Image(picture.getvalue(), width=explorer.figure.bbox.width / 2))

ipywidgets.interact(show, **controls);
"""


def cells() -> dict[str, tuple[str, str]]:
    """Of every explorer, by name: what has to run before its cell, and the cell."""
    found = {}
    for notebook in notebooks():
        for cell in explorer_cells(notebook):
            maker = EXPLORER.search(cell)[1]
            found.setdefault("one_cycle" if maker == "Explorer" else maker.removesuffix("_explorer"), (notebook, cell))
    return {name: (setup(notebook), cell) for name, (notebook, cell) in found.items()}


def ours(lab: JupyterLab, before: str, cell: str) -> list[float]:
    """Milliseconds from each key to its frame, in an explorer."""
    write_notebook(lab.folder / "ours.ipynb", before, cell)
    lab.open("ours.ipynb")
    lab.run_all()
    return lab.explorer().latencies(*CONTROLS[EXPLORER.search(cell)[1]])


def ordinary(lab: JupyterLab, before: str, cell: str, density: int) -> list[float]:
    """The same by `interact`, with so many drawn pixels per CSS pixel."""
    explorer = re.search(r"(\w+) = [\w.]*[eE]xplorer\(", cell)[1]
    write_notebook(
        lab.folder / "ordinary.ipynb", before, cell, f"explorer = {explorer}", ORDINARY.format(density=density)
    )
    lab.open("ordinary.ipynb")
    lab.run_all()
    view = ExplorerView(lab.page.locator(".widget-interact"))
    view.picture.wait_for()
    return view.latencies(*CONTROLS[EXPLORER.search(cell)[1]])


def median_and_slow(times: list[float]) -> tuple[float, float]:
    """Median and 95th percentile."""
    return statistics.median(times), sorted(times)[round(0.95 * (len(times) - 1))]


def main() -> None:
    found = cells()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("explorers", nargs="*", choices=[*found, []], help="all when left out")
    names = parser.parse_args().explorers or list(found)
    chromium = find_chromium()
    if chromium is None:
        sys.exit("there is no Chromium: install it, or name it in PLAYWRIGHT_CHROMIUM")
    print(
        "| explorer | ltlab, ms | 95 % | interact, as many pixels | 95 % | times | a quarter of them | 95 % | times |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as home,
        JupyterLab(Path(folder), chromium, Path(home)) as lab,
    ):
        for name in names:
            median, slow = median_and_slow(ours(lab, *found[name]))
            row = f"| {name} | {median:.0f} | {slow:.0f} |"
            for density in (2, 1):
                theirs, slow = median_and_slow(ordinary(lab, *found[name], density))
                row += f" {theirs:.0f} | {slow:.0f} | {theirs / median:.1f} |"
            print(row, flush=True)
        lab.close()


if __name__ == "__main__":
    main()
