"""The questions at the end of each notebook: text in `questions/`, one file for each.

The widgets are imported where they are needed: a check does without them, and so do the solutions.
"""

import tomllib
from importlib.resources import files
from typing import TYPE_CHECKING

from ..names import look_up

if TYPE_CHECKING:
    from ..widgets import Question, Quiz

QUIZZES = {
    path.name[:2]: path
    for path in sorted(files(__package__ or __name__).joinpath("questions").iterdir(), key=lambda path: path.name)
    if path.name.endswith(".toml")
}


def questions(notebook: str) -> "tuple[Question, ...]":
    """The questions of a notebook, by its number.

    Raises:
        ValueError: there are none for this notebook.
    """
    from ..widgets import Choice, Question

    text = look_up("quiz", notebook, QUIZZES).read_text(encoding="utf-8")
    return tuple(
        Question(question["text"], tuple(Choice(**choice) for choice in question["choice"]))
        for question in tomllib.loads(text)["question"]
    )


def quiz(notebook: str) -> "Quiz":
    """The quiz of a notebook, by its number: `quiz("02")`. As the last value of a cell it shows itself.

    Raises:
        ValueError: there is none for this notebook.
    """
    from ..widgets import Quiz

    return Quiz(questions(notebook))
