"""From a key press to new pixels: every explorer in a real JupyterLab, beside the same figure by `interact`.

    python benchmarks/widget_latency.py            # all, about six minutes on two CPU cores
    python benchmarks/widget_latency.py focal beta # some

Chromium presses 30 keys on a slider, each after the frame of the one before, and notes for each the time until the new
picture is painted. The ordinary way is the same figure with the same update of its artists, in `ipywidgets.interact`,
drawn as a whole and shown as a cell's output, as the inline backend does, with a quarter of the explorer's pixels
(matplotlib's 1:1 instead of 2:1 for dense screens). Both in one JupyterLab, one after the other.

Prints median and 95th percentile in milliseconds. Needs Chromium, see tests/browser.py.
"""

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import test_browser as cells
from browser import JupyterLab, find_chromium, write_notebook

KEYS = ["ArrowLeft", "ArrowRight"] * 15  # to and fro, so that no slider stands at its end
EXPLORERS = {  # name: the cell that shows it, its slider
    "long_tail": (cells.LONG_TAIL, "imbalance"),
    "effective_number": (cells.EFFECTIVE, "beta"),
    "focal": (cells.FOCAL, "gamma"),
    "sampling": (cells.SAMPLING, "q"),
    "mixup": (cells.MIXUP, "lambda"),
    "beta": (cells.BETA, "alpha"),
    "remix": (cells.REMIX, "tau"),
    "timeline": (cells.TIMELINE.replace("()", "(recipes=['drw_cs_ce'])"), "stage 2 from"),
    "foreground": (cells.FOREGROUND, "angle"),
}
ORDINARY = """
import ipywidgets
from IPython.display import Image, display
import io

for artist in explorer._moving:
    artist.set_animated(False)
controls = {name: type(control)(**{key: getattr(control, key) for key in
            ("value", "min", "max", "step", "options", "description") if hasattr(control, key)})
            for name, control in explorer.controls.items()}

def show(**values):
    explorer._update(**values)
    picture = io.BytesIO()
    explorer.figure.savefig(picture, dpi=96)
    display(Image(picture.getvalue()))

ipywidgets.interact(show, **controls);
"""
# the pictures in the output of `interact`, which come anew with every value
LISTEN = """
() => {
    window.pressed = [];
    window.painted = [];
    let last = null;
    document.onkeydown = () => window.pressed.push(performance.now());
    const seen = () => requestAnimationFrame(() => window.painted.push(performance.now()));
    new MutationObserver(changes => {
        for (const change of changes) for (const node of [change.target, ...change.addedNodes]) {
            const picture = node.tagName === 'IMG' ? node : node.querySelector?.('img');
            if (picture && picture.src !== last) {
                last = picture.src;
                picture.decode().then(seen);
            }
        }
    }).observe(document.querySelector('.widget-interact'), {
        childList: true, subtree: true, attributes: true, attributeFilter: ['src'],
    });
}
"""


def ours(lab: JupyterLab, cell: str, label: str) -> list[float]:
    """Milliseconds from each key to its frame, in an explorer."""
    write_notebook(lab.folder / "ours.ipynb", cell)
    lab.open("ours.ipynb")
    lab.run_all()
    return lab.explorer().latencies(label, KEYS)


def ordinary(lab: JupyterLab, cell: str, label: str) -> list[float]:
    """The same by `interact`."""
    *before, last = cell.strip().splitlines()
    write_notebook(lab.folder / "ordinary.ipynb", "\n".join([*before, f"explorer = {last}"]), ORDINARY)
    lab.open("ordinary.ipynb")
    lab.run_all()
    lab.page.locator(".widget-interact img").wait_for()
    lab.page.evaluate(LISTEN)
    slider = lab.page.locator(".widget-interact label", has_text=label).first.locator("..")
    slider.locator("[role=slider]").first.focus()
    latencies = []
    for n, key in enumerate(KEYS, start=1):
        lab.page.keyboard.press(key)
        lab.page.wait_for_function("n => window.painted.length >= n", arg=n, timeout=30_000)
        pressed, painted = lab.page.evaluate("() => [window.pressed.at(-1), window.painted.at(-1)]")
        latencies.append(painted - pressed)
        lab.page.evaluate("n => { window.painted.length = n }", n)
    return latencies


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("explorers", nargs="*", choices=[*EXPLORERS, []], help="all when left out")
    names = parser.parse_args().explorers or list(EXPLORERS)
    chromium = find_chromium()
    if chromium is None:
        sys.exit("there is no Chromium: install it, or name it in PLAYWRIGHT_CHROMIUM")
    print("| explorer | ltlab, ms | 95 % | interact, ms | 95 % | ratio |\n|---|---|---|---|---|---|")
    with (
        tempfile.TemporaryDirectory() as folder,
        tempfile.TemporaryDirectory() as home,
        JupyterLab(Path(folder), chromium, Path(home)) as lab,
    ):
        for name in names:
            figures = []
            for way in (ours, ordinary):
                times = sorted(way(lab, *EXPLORERS[name]))
                figures += [statistics.median(times), times[round(0.95 * (len(times) - 1))]]
            shown = " | ".join(f"{figure:.0f}" for figure in figures)
            print(f"| {name} | {shown} | {figures[2] / figures[0]:.1f} |", flush=True)
        lab.close()


if __name__ == "__main__":
    main()
