"""Write the exercises of the notebooks from their solutions.

uv run python notebooks/exercises.py                  # all of them
uv run python notebooks/exercises.py 02_reweighting

`solutions/NAME.ipynb` is the source: its cells tagged `exercise` are a task (markdown) and
its solution (code) in turn. The solution is executed first. Then everything in NAME.ipynb
from the heading "Exercises" on is written anew: the tasks, and of every solution the cell
that a learner starts from, in which

    ### BEGIN SOLUTION              ...  # your lines here
    the lines that solve it    ->
    ### END SOLUTION

or, where the learner starts from lines that are there already, such as those with the bug,

    ### BEGIN START
    # those lines, commented out    those lines
    ### BEGIN SOLUTION         ->
    the lines that solve it
    ### END SOLUTION

and, last, the notebook's quiz. A cell that stays as it was keeps its output; execute the
others with execute.py.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
from execute import execute
from nbformat import NotebookNode

FOLDER = Path(__file__).parent
SOLUTIONS = FOLDER / "solutions"
TAG = "exercise"
HEADING = "## Exercises\n"
INTRODUCTION = """
Each cell below says in one line whether your answer is right or what is not right yet, and
runs as often as you like.
Solutions, with a word on each: [solutions/{name}.ipynb](solutions/{name}.ipynb).
"""
PLACEHOLDER = "...  # your lines here"


def starting_code(source: str) -> str:
    """A solution's cell as the learner gets it."""
    return "\n".join(_starting_lines(source.splitlines()))


def _starting_lines(lines: list[str]) -> Iterator[str]:
    part, any_start = "", False
    for line in lines:
        marker = line.strip()
        indent = line[: len(line) - len(line.lstrip())]
        if marker in ("### BEGIN START", "### BEGIN SOLUTION", "### END SOLUTION"):
            if marker == "### BEGIN SOLUTION" and not any_start:
                yield indent + PLACEHOLDER
            any_start = marker == "### BEGIN START"
            part = marker
        elif part == "### BEGIN START":
            yield indent + marker.removeprefix("#").removeprefix(" ")
        elif part != "### BEGIN SOLUTION":
            yield line


def exercises(solution: NotebookNode) -> tuple[str, list[str]]:
    """A solution notebook's tasks, as one text, and the code of the cells to start from.

    Raises:
        ValueError: the cells tagged `exercise` are not a task and its solution in turn.
    """
    cells = [cell for cell in solution.cells if TAG in cell.metadata.get("tags", [])]
    kinds = [cell.cell_type for cell in cells]
    if not cells or kinds != ["markdown", "code"] * (len(cells) // 2):
        in_turn = "a task (markdown) and its solution (code) in turn"
        raise ValueError(f"cells tagged {TAG!r} must be {in_turn}, got {kinds}")
    tasks = "\n\n".join(cell.source for cell in cells[::2])
    return tasks, [starting_code(cell.source) for cell in cells[1::2]]


def write_exercises(notebook: NotebookNode, solution: NotebookNode, name: str) -> None:
    """Replace everything from the heading on in the lesson, in place.

    Raises:
        ValueError: no cell of the lesson, or more than one, has the heading.
    """
    texts = [
        (i, cell) for i, cell in enumerate(notebook.cells) if cell.cell_type == "markdown"
    ]
    places = [i for i, cell in texts if HEADING in cell.source]
    if len(places) != 1:
        found = f"found {len(places)}"
        raise ValueError(
            f"{name}: exactly one markdown cell must hold {HEADING!r}, {found}"
        )
    (place,) = places
    tasks, codes = exercises(solution)
    last = notebook.cells[place]
    before = last.source.partition(HEADING)[0]
    last.source = before + HEADING + INTRODUCTION.format(name=name) + "\n" + tasks
    known = {cell.source: cell for cell in notebook.cells[place + 1 :]}
    number = name[:2]
    new = [
        _code_cell(code, f"{number}-exercise-{n}", TAG) for n, code in enumerate(codes, 1)
    ]
    new.append(_code_cell(f'quiz("{number}")', f"{number}-quiz", "quiz"))
    notebook.cells[place + 1 :] = [known.get(cell.source, cell) for cell in new]


def _code_cell(source: str, identity: str, tag: str) -> NotebookNode:
    cell = nbformat.v4.new_code_cell(source, id=identity)
    cell.metadata["tags"] = [tag]
    return cell


if __name__ == "__main__":
    for name in sys.argv[1:] or sorted(path.stem for path in SOLUTIONS.glob("*.ipynb")):
        execute(SOLUTIONS / f"{name}.ipynb")
        lesson = FOLDER / f"{name}.ipynb"
        notebook = nbformat.read(lesson, as_version=4)
        solution = nbformat.read(SOLUTIONS / f"{name}.ipynb", as_version=4)
        write_exercises(notebook, solution, name)
        nbformat.write(notebook, lesson)
        command = f"uv run python notebooks/execute.py {name}.ipynb"
        print(f"{name}: written; now execute it with: {command}")
