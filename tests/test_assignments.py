"""The exercises as assignments: what is solved gets all points, what a learner starts from none."""

import os
import re
from collections import Counter

import nbformat
import pytest
import torch

from ltlab import cli
from ltlab.course import CHECKS, QUIZZES, NotYet
from ltlab.course.assignments import write_assignments
from ltlab.course.drawn import DRAWN, check_drawn

SOLUTION = re.compile(r"### BEGIN SOLUTION.*?### END SOLUTION\n?", re.DOTALL)
# all of them with nbgrader itself: LTLAB_NBGRADER=all, some minutes
GRADED = list(QUIZZES) if os.environ.get("LTLAB_NBGRADER") == "all" else ["03"]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    folder = tmp_path_factory.mktemp("course")
    write_assignments(folder, seed=5)
    return folder


def sources(course) -> dict:
    return {path.stem: nbformat.read(path, as_version=4) for path in sorted(course.glob("source/*/*.ipynb"))}


def points(notebook, *, solved: bool) -> dict[str, float]:
    """What nbgrader would give: a test has all of its points, or none if it raises an error."""
    names, given = {}, {}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        try:
            exec(cell.source if solved else SOLUTION.sub("", cell.source), names)
            raised = 0
        except Exception:
            raised = 1
        if cell.metadata.nbgrader.grade:
            given[cell.id] = (1 - raised) * cell.metadata.nbgrader.points
        else:
            assert not raised, f"{cell.id} has to run, solved or not"
    return given


def test_a_source_has_three_exercises_of_three_points_and_marks_that_nbgrader_knows(course):
    assert list(sources(course)) == [path.stem for path in QUIZZES.values()]
    for notebook in sources(course).values():
        nbformat.validate(notebook)
        marks = [cell.metadata.nbgrader for cell in notebook.cells]
        assert len({mark.grade_id for mark in marks}) == len(marks)
        total = Counter()
        for mark in marks:
            total[mark.grade_id[:-6]] += mark.get("points", 0)
            assert mark.locked != mark.solution and (mark.grade == ("points" in mark))
        assert sum(total.values()) == 9
        text = "\n".join(cell.source for cell in notebook.cells)
        assert text.count("### BEGIN SOLUTION") == 3 and text.count("### BEGIN HIDDEN TESTS") == sum(
            mark.grade_id.endswith("-drawn") for mark in marks
        )


@pytest.mark.parametrize("name", [path.stem for path in QUIZZES.values()])
def test_solutions_get_all_points_and_starters_none(course, name):
    notebook = sources(course)[name]
    with torch.random.fork_rng():
        assert sum(points(notebook, solved=True).values()) == 9
        assert sum(points(notebook, solved=False).values()) == 0


def test_drawn_cases_are_of_a_seed_and_there_are_some_for_every_function():
    assert set(DRAWN) <= set(CHECKS)
    assert {name for name in CHECKS if name < "10" and not name.endswith("tweak")} <= set(DRAWN)
    for name, how in DRAWN.items():
        first, again, other = (repr(how.draw(torch.Generator().manual_seed(seed))) for seed in (1, 1, 2))
        assert first == again or "Sequential" in first, name
        assert first != other or "Sequential" in first, name


def test_an_answer_that_knows_the_checks_cases_is_found_out():
    known = CHECKS["00.implement"]
    by_heart = {repr(case): known.oracle(*case) for case in known.cases.values()}
    learnt = lambda *case: by_heart.get(repr(case), 0.5)  # noqa: E731
    assert known(learnt)
    with pytest.raises(NotYet, match="seed 1"):
        check_drawn("00.implement", learnt, seed=1)


def test_another_seed_draws_other_tests_and_settings_are_kept(course, tmp_path):
    assert cli.run(["assignments", str(tmp_path), "02", "--seed", "6"]) == 0
    (path,) = tmp_path.glob("source/*/*.ipynb")
    mine, theirs = (nbformat.read(p, 4) for p in (path, course / "source" / path.stem / path.name))
    different = {a.id for a, b in zip(mine.cells, theirs.cells, strict=True) if a.source != b.source}
    assert different == {"02-implement-drawn", "02-bug-drawn"}
    (tmp_path / "nbgrader_config.py").write_text("# mine", encoding="utf-8")
    write_assignments(tmp_path, notebooks=["03"])
    assert (tmp_path / "nbgrader_config.py").read_text(encoding="utf-8") == "# mine"
    with pytest.raises(ValueError, match="'99'"):
        write_assignments(tmp_path, notebooks=["99"])


@pytest.mark.slow
@pytest.mark.parametrize("number", GRADED)
def test_nbgrader_gives_the_solution_all_points_and_the_release_none(course, number, monkeypatch):
    pytest.importorskip("nbgrader")
    from nbgrader.api import Gradebook
    from nbgrader.apps import NbGraderAPI
    from traitlets.config.loader import PyFileConfigLoader

    name = QUIZZES[number].stem
    monkeypatch.chdir(course)
    config = PyFileConfigLoader("nbgrader_config.py", path=str(course)).load_config()
    config.CourseDirectory.root = str(course)
    api = NbGraderAPI(config=config)
    assert api.generate_assignment(name)["success"]
    for student, folder in (("solved", "source"), ("untouched", "release")):
        handed_in = course / "submitted" / student / name
        handed_in.mkdir(parents=True)
        (handed_in / f"{name}.ipynb").write_bytes((course / folder / name / f"{name}.ipynb").read_bytes())
        done = api.autograde(name, student, create=True)
        assert done["success"], done["log"]
    released = (course / "release" / name / f"{name}.ipynb").read_text(encoding="utf-8")
    assert "SOLUTION" not in released and "HIDDEN" not in released
    with Gradebook(f"sqlite:///{course}/gradebook.db") as book:
        scores = {s: book.find_submission(name, s).score for s in ("solved", "untouched")}
        assert (scores, book.find_assignment(name).max_score) == ({"solved": 9, "untouched": 0}, 9)
