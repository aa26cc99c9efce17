"""The README's figures and table are those of the rows in data/results."""

import sys
from pathlib import Path

import matplotlib
import PIL.Image
import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import figures
    finally:
        sys.path.pop(0)
    return figures


def test_the_table_in_the_readme_is_made_of_the_rows(figures):
    _, _, rest = README.partition(figures.BEGIN)
    table, end, _ = rest.partition(figures.END)
    assert end and table.strip() == figures.table(), "run: uv run python docs/figures.py"


def test_rewriting_replaces_what_stands_between_the_marks_alone(figures, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- b -->\nafter\n", encoding="utf-8")
    figures.rewrite(page, "<!-- a -->", "<!-- b -->", "new")
    assert page.read_text(encoding="utf-8") == "before\n<!-- a -->\n\nnew\n\n<!-- b -->\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks the marks <!-- a --> and <!-- b -->"):
        figures.rewrite(page, "<!-- a -->", "<!-- b -->", "new")


def test_the_figures_are_drawn_and_of_the_size_of_those_in_the_repository(figures, tmp_path):
    matplotlib.use("agg")
    figures.draw(tmp_path)
    for path in tmp_path.iterdir():
        assert f"docs/figures/{path.name}" in README
        committed = PIL.Image.open(ROOT / "docs" / "figures" / path.name)
        assert PIL.Image.open(path).size == committed.size
    assert len(list(tmp_path.iterdir())) == 2


def test_the_shown_recipes_have_five_seeds_and_the_final_one_is_fifteen_points_better_than_plain_training(figures):
    table = figures.ours()
    assert (table["seeds"] >= 5).all()
    assert table.loc["ce", "error"] - table.loc["bag_of_tricks", "error"] > 15
