"""Copy the statements of the exercises from the lessons into their solutions.

uv run python notebooks/exercises.py                  # all of them
uv run python notebooks/exercises.py 02_reweighting

A lesson ends with a cell tagged `exercises`, three statements (Markdown), each directly
above the code that a learner starts from, both tagged `exercise`, and the quiz.
`solutions/NAME.ipynb` has the same statements, each above its solution.
"""

import sys
from pathlib import Path

import nbformat
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
SOLUTIONS = FOLDER / "solutions"
TAG = "exercise"


def tagged(notebook: NotebookNode, kind: str) -> list[NotebookNode]:
    """The statements ("markdown") or the code ("code") of a notebook's exercises."""
    return [
        cell
        for cell in notebook.cells
        if cell.cell_type == kind and TAG in cell.metadata.get("tags", [])
    ]


def copy_statements(lesson: NotebookNode, solution: NotebookNode) -> None:
    """Give a solution notebook its lesson's statements, in place.

    Raises:
        ValueError: the notebooks have different numbers of statements.
    """
    for statement, copy in zip(
        tagged(lesson, "markdown"), tagged(solution, "markdown"), strict=True
    ):
        copy.source = statement.source


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in SOLUTIONS.glob("*.ipynb")):
        lesson = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
        solution = nbformat.read(SOLUTIONS / f"{name}.ipynb", as_version=4)
        copy_statements(lesson, solution)
        nbformat.write(solution, SOLUTIONS / f"{name}.ipynb")
