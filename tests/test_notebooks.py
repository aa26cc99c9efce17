"""The form of the notebooks; pytest runs their cells by nbval, this file reads them."""

import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
SOLUTIONS = sorted((FOLDER / "solutions").glob("*.ipynb"))
PLACE = re.compile(r"(?<![\w./:])/(?:[\w.-]+/)+")  # a folder of the machine that executed the notebook
WIDGET = "application/vnd.jupyter.widget-view+json"
EXERCISES = "exercises"  # tag of the cell with which the exercises begin
QUOTED = re.compile(r"```.*?```|\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|^\|.*?$", re.S | re.M)  # code, formulas, tables
MEASURED = re.compile(r"\d\.\d+ ?%|\d ?points?\b|±\s?\d")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code(notebook) -> list:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_small_and_short(notebook):
    path, cells = notebook[0], notebook[1].cells
    lesson = [EXERCISES in cell.metadata.get("tags", []) for cell in cells].index(True)
    assert path.stat().st_size < 1_000_000 and lesson <= 45
    for cell in code(notebook[1]):
        assert len(cell.source.splitlines()) <= 15, cell.source


@pytest.mark.parametrize("path", NOTEBOOKS + SOLUTIONS, ids=lambda path: str(path.relative_to(FOLDER)))
def test_committed_executed_without_errors_and_without_widget_state(path):
    notebook = nbformat.read(path, as_version=4)
    assert "widgets" not in notebook.metadata
    for number, cell in enumerate(code(notebook), start=1):
        assert cell.execution_count == number, "execute it with: uv run python notebooks/execute.py"
        for output in cell.outputs:
            assert output.output_type != "error" and WIDGET not in output.get("data", {})
            assert output.get("name") != "stderr", output.text
            text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            assert not PLACE.search(text), f"{text}\nexecute it where the data are, or print no path"


def test_the_parts_of_a_lesson_in_their_order(notebook):
    text = "\n".join(cell.source for cell in notebook[1].cells if cell.cell_type == "markdown")
    places = [text.find(f"\n## {part}") for part in
              ("Predict", "Derive", "Play", "Check", "Train", "Summary", "Exercises")]  # fmt: skip
    assert -1 not in places
    assert places[0] == min(places) and places[-2:] == sorted(places)[-2:]
    for word in ("After this you can", "Time:", "Paper:", "colab"):
        assert word in text


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_lessons_end_with_exercises_that_check_themselves_and_a_quiz(path):
    notebook = nbformat.read(FOLDER / path.name, as_version=4)
    head, *exercises, last = notebook.cells[-8:]
    assert head.metadata["tags"] == [EXERCISES] and f"solutions/{path.name}" in head.source
    for statement, code in zip(exercises[::2], exercises[1::2], strict=True):
        assert statement.cell_type == "markdown" and statement.metadata["tags"] == code.metadata["tags"] == ["exercise"]
        (output,) = code.outputs
        assert output.data["text/plain"].startswith("✗ "), "an exercise is committed unsolved"
    assert last.source == f'quiz("{path.stem[:2]}")'
    assert "<details>" in last.outputs[0].data["text/html"], "the answers are there to read, but folded"


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_are_executed_and_accepted(path):
    solved = [cell for cell in code(nbformat.read(path, as_version=4)) if "exercise" in cell.metadata.get("tags", [])]
    assert len(solved) >= 3
    for cell in solved:
        assert "nbval-check-output" in cell.metadata["tags"], "else a rejected solution would go unnoticed"
        assert cell.outputs[0].data["text/plain"].startswith("✓ ")


def test_no_measured_number_is_typed(notebook):
    """A cell computes it: then text and screen agree, whatever is measured next."""
    texts = [cell.source for cell in notebook[1].cells if cell.cell_type == "markdown"]
    typed = [text for text in texts if MEASURED.search(QUOTED.sub("", text))]
    assert not typed, "print these numbers from a cell"


def test_explorers_show_a_picture_where_no_kernel_runs(notebook):
    explorers = [cell for cell in code(notebook[1]) if cell.source.rstrip().endswith("explorer")]
    assert explorers
    for cell in explorers:
        assert any("image/png" in output.get("data", {}) for output in cell.outputs)


def test_real_asserts_inside(notebook):
    sources = "\n".join(cell.source for cell in code(notebook[1]))
    assert "assert_close" in sources and "assert " in sources
