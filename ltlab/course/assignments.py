"""The exercises as nbgrader assignments: what `ltlab assignments` writes.

A source notebook has, for each exercise, its statement, a cell with the code that a learner starts from and, between
nbgrader's marks, the solution, and locked tests. `nbgrader generate_assignment` removes solutions and hidden tests.
Format: https://nbgrader.readthedocs.io, metadata of version 3.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nbformat
import torch
from nbformat import NotebookNode
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from ..names import look_up
from .drawn import DRAWN
from .quizzes import QUIZZES

CHECK_LINE = re.compile(r'\n+check\("(\d\d\.\w+)", (\w+)\)\s*$')  # with which the code of an exercise ends
CONFIG = '''"""Settings of nbgrader; `ltlab assignments` wrote them."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "ltlab"
c.ClearSolutions.code_stub = {"python": "# change the lines above"}
c.Execute.timeout = 300
c.Execute.iopub_timeout = 60  # the default of four seconds is short on a busy machine
'''
POINTS = {"check": 1, "check, alone": 3, "drawn": 2}


def write_assignments(folder: Path, seed: int = 0, notebooks: Sequence[str] = ()) -> list[Path]:
    """Write an assignment for each notebook: `folder`/source/NAME/NAME.ipynb, and nbgrader's settings next to source.

    Args:
        folder: nbgrader's course folder; made if it is not there. Its settings are kept.
        seed: draws the seeds of the tests. Keep yours to yourself: the hidden tests follow from it.
        notebooks: their numbers; all by default.

    Raises:
        FileNotFoundError: the notebooks are not here: ltlab runs from an installed wheel.
        ValueError: an unknown notebook.
    """
    lessons = Path(__file__).parents[2] / "notebooks"
    if not lessons.is_dir():
        raise FileNotFoundError(
            f"{lessons} does not exist: clone the repository and run `uv run ltlab assignments` in it"
        )
    written = []
    for number in notebooks or QUIZZES:
        name = look_up("notebook", number, QUIZZES).stem
        lesson, solution = (nbformat.read(f / f"{name}.ipynb", 4) for f in (lessons, lessons / "solutions"))
        path = folder / "source" / name / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(assignment(lesson, solution, torch.Generator().manual_seed(1000 * seed + int(number))), path)
        written.append(path)
    settings = folder / "nbgrader_config.py"
    if not settings.exists():
        settings.write_text(CONFIG, encoding="utf-8")
    return written


def assignment(lesson: NotebookNode, solution: NotebookNode, generator: torch.Generator) -> NotebookNode:
    """The source notebook of a lesson's exercises; the generator draws the seeds of its tests."""
    title = lesson.cells[0].source.partition("\n")[0]
    needed = [c.source for c in solution.cells if c.cell_type == "code" and not _tagged(c) and "%pip" not in c.source]
    cells = [
        _locked(
            new_markdown_cell(
                f"{title}\n\nThe exercises of the notebook, to be graded. Run a test as often as you like."
            ),
            "title",
        ),
        _locked(new_code_cell("\n\n".join(needed)), "setup"),
    ]
    starts = [c.source for c in lesson.cells if c.cell_type == "code" and _tagged(c)]
    solved = [c.source for c in solution.cells if c.cell_type == "code" and _tagged(c)]
    statements = [c.source for c in lesson.cells if c.cell_type == "markdown" and _tagged(c)]
    for statement, start, end in zip(statements, starts, solved, strict=True):
        cells += exercise(statement, start, end, generator)
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return new_notebook(cells=cells, metadata=metadata)


def exercise(statement: str, start: str, solved: str, generator: torch.Generator) -> list[NotebookNode]:
    """The cells of one exercise: statement, answer, and one or two tests.

    Args:
        statement: Markdown.
        start: the learner's code, with its last line, `check("02.bug", answer)`.
        solved: the same, solved.
        generator: draws the seeds of the tests.
    """
    name, answer = _checked(start)
    lines = [CHECK_LINE.sub("", start), "### BEGIN SOLUTION", CHECK_LINE.sub("", solved), "### END SOLUTION"]
    call = f'check("{name}", {answer})'
    test = f"from ltlab.course import check\n\nverdict = {call}\nprint(verdict)\nassert verdict, verdict.text"
    id_ = name.replace(".", "-")
    points = POINTS["check" if name in DRAWN else "check, alone"]
    cells = [
        _locked(new_markdown_cell(statement), f"{id_}-statement"),
        _marked(new_code_cell("\n".join(lines)), f"{id_}-answer", solution=True),
        _locked(new_code_cell(test), f"{id_}-check", points),
    ]
    if name in DRAWN:
        seen, hidden = torch.randint(10**6, (2,), generator=generator).tolist()
        drawn = f'from ltlab.course.drawn import check_drawn\n\ncheck_drawn("{name}", {answer}, seed={seen})'
        hidden = f'### BEGIN HIDDEN TESTS\ncheck_drawn("{name}", {answer}, seed={hidden})\n### END HIDDEN TESTS'
        cells.append(_locked(new_code_cell(f"{drawn}\n{hidden}"), f"{id_}-drawn", POINTS["drawn"]))
    return cells


def _checked(code: str) -> tuple[str, str]:
    """Name of the exercise and of the variable that is checked, from the last line of its code."""
    found = CHECK_LINE.search(code)
    if not found:
        raise ValueError(f'an exercise ends with check("NAME", answer), this one with {code.splitlines()[-1]!r}')
    return found[1], found[2]


def _tagged(cell: NotebookNode) -> bool:
    return "exercise" in cell.metadata.get("tags", [])


def _locked(cell: NotebookNode, id_: str, points: int = 0) -> NotebookNode:
    """A cell that learners cannot change; with points, a test."""
    return _marked(cell, id_, locked=True) if not points else _marked(cell, id_, locked=True, grade=True, points=points)


def _marked(cell: NotebookNode, id_: str, **changed: Any) -> NotebookNode:
    plain = {"schema_version": 3, "grade": False, "locked": False, "solution": False, "task": False}
    cell.id = id_
    cell.metadata["nbgrader"] = plain | {"grade_id": id_, "cell_type": cell.cell_type} | changed
    return cell
