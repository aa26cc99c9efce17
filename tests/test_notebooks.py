"""The form of the notebooks; pytest runs their cells by nbval, this file reads them."""

from pathlib import Path

import nbformat
import pytest

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_small_and_short(notebook):
    path, cells = notebook[0], notebook[1].cells
    assert path.stat().st_size < 1_000_000 and len(cells) <= 45
    for cell in code(notebook[1]):
        assert len(cell.source.splitlines()) <= 15, cell.source


def test_committed_executed_without_errors_and_without_widget_state(notebook):
    assert "widgets" not in notebook[1].metadata
    for number, cell in enumerate(code(notebook[1]), start=1):
        assert cell.execution_count == number, "execute it with: uv run python notebooks/execute.py"
        for output in cell.outputs:
            assert output.output_type != "error" and WIDGET not in output.get("data", {})
            assert output.get("name") != "stderr", output.text


def test_the_parts_of_a_lesson_in_their_order(notebook):
    text = "\n".join(cell.source for cell in notebook[1].cells if cell.cell_type == "markdown")
    places = [text.find(f"\n## {part}") for part in
              ("Predict", "Derive", "Play", "Check", "Train", "Summary", "Exercises")]  # fmt: skip
    assert -1 not in places
    assert places[0] == min(places) and places[-2:] == sorted(places)[-2:]
    for word in ("After this you can", "Time:", "Paper:", "<details>", "colab"):
        assert word in text


def test_explorers_show_a_picture_where_no_kernel_runs(notebook):
    explorers = [cell for cell in code(notebook[1]) if cell.source.rstrip().endswith("explorer")]
    assert explorers
    for cell in explorers:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_real_asserts_inside(notebook):
    sources = "\n".join(cell.source for cell in code(notebook[1]))
    assert "assert_close" in sources and "assert " in sources
