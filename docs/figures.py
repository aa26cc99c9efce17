"""The README's figures and its table of results, from the measured rows in data/results and the published ones.

uv run python docs/figures.py            # draws docs/figures/*.png and rewrites the table in README.md
"""

from pathlib import Path

import matplotlib
import pandas as pd
from marked import rewrite
from matplotlib import pyplot as plt

from ltlab import plots, results, widgets
from ltlab.data import load
from ltlab.recipes import RECIPES
from ltlab.results.shown import LABELS, shown_in
from ltlab.train import fit

ROOT = Path(__file__).parents[1]
FIGURES = ROOT / "docs" / "figures"
SOURCE = "authors-rerun-cui"  # one source, so that its rows compare; this one has the combinations too
BEGIN, END = "<!-- results: uv run python docs/figures.py -->", "<!-- end of results -->"
TRICKS = tuple(line.recipe for line in shown_in("readme"))


def measured() -> pd.DataFrame:
    """The rows of the shown recipes and of their controls, on shapes-lt."""
    return results.measured(dict.fromkeys((*results.CONTROLS, *TRICKS)))


def ours() -> pd.DataFrame:
    return results.table(measured()).loc[list(TRICKS)]


def on_photographs() -> pd.DataFrame:
    """The same small network and as many epochs, on CIFAR-10-LT with imbalance 100."""
    return results.summary(results.measured(TRICKS, "cifar10-lt-100_small_net"))


def theirs() -> pd.DataFrame:
    """The published errors on CIFAR-10-LT with imbalance 100."""
    errors = results.published("cifar10-lt", 100)
    errors = errors[(errors["source"] == SOURCE) & errors["recipe"].isin(TRICKS)].set_index("recipe")
    return errors.rename(columns={"top1_error_percent": "error"}).assign(error_std=float("nan"))


def on_cifar() -> pd.DataFrame | None:
    """Our own rows in the paper's settings, once there are any."""
    try:
        rows = results.measured(RECIPES.values(), file="cifar10-lt-100")
    except FileNotFoundError:
        return None
    return results.summary(rows)


def table() -> str:
    """The README's table: measured next to published, in Markdown."""
    shapes, photographs, published, cifar = ours(), on_photographs(), theirs(), on_cifar()
    head = ["recipe", "epochs", "shapes-lt, error (%)", "many / medium / few", "CIFAR-10-LT-100, small net (%)",
            "CIFAR-10-LT-100 of Cui et al., published (%)"]  # fmt: skip
    lines = []
    for recipe in TRICKS:
        line = shapes.loc[recipe]
        groups = " / ".join(f"{line[f'{group}_error']:.0f}" for group in ("many", "medium", "few"))
        other = f"{published.loc[recipe, 'error']:.2f}" if recipe in published.index else "–"
        cells = [f"{LABELS[recipe]} `{recipe}`", str(line["epochs"]), with_spread(line), groups]
        cells += [with_spread(of(photographs, recipe)), other]
        if cifar is not None:
            cells.append(with_spread(of(cifar, recipe)))
        lines.append(cells)
    if cifar is not None:
        head.append("CIFAR-10-LT-100, ResNet-32 (%)")
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def of(table: pd.DataFrame, recipe: str) -> pd.Series | None:
    return table.loc[recipe] if recipe in table.index else None


def with_spread(line: pd.Series | None) -> str:
    return "–" if line is None else results.mean_std(line["error"], line["error_std"], digits=1)


def draw(folder: Path) -> None:
    """The two figures, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    plots.gains(results.gains(measured()).rename(index=LABELS))
    plt.savefig(folder / "gain_per_trick.png", dpi=110)
    shapes, photographs = ours(), on_photographs()
    places = {
        f"shapes-lt, small net\nmeasured, {shapes['seeds'].min()} seeds": shapes,
        f"CIFAR-10-LT, small net\nmeasured, {photographs['seeds'].min()} seeds": photographs,
        "CIFAR-10-LT, ResNet-32\npublished, single runs": theirs(),
    }
    named = {place: table.rename(index=LABELS) for place, table in results.with_controls(places).items()}
    plots.beside(named, baseline=LABELS["ce"], longer=LABELS["ce_long"])
    plt.savefig(folder / "beside_published.png", dpi=110)


def draw_explorer(path: Path) -> None:
    """The foreground explorer with the network of plain training, an arrow turned by 40 degrees; trains it first."""
    shapes = load("shapes-lt")
    explorer = widgets.foreground_explorer(shapes, {"plain": fit("ce", shapes).model}, label=3, number=2)
    explorer.controls["angle"].value = 40.0
    picture = explorer.picture()
    picture.resize((picture.width // 2, picture.height // 2)).save(path)


if __name__ == "__main__":
    matplotlib.use("agg")
    draw(FIGURES)
    draw_explorer(FIGURES / "cam_explorer.png")
    rewrite(ROOT / "README.md", BEGIN, END, table())
