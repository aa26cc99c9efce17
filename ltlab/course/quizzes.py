"""The questions at the end of each notebook: text in `questions/`, one file for each.

The widgets are imported where they are needed: a check does without them, and so do the solutions.
"""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

from ..names import look_up

if TYPE_CHECKING:
    from ..widgets import Question, Quiz

QUIZZES = {path.name[:2]: path for path in sorted((Path(__file__).parent / "questions").glob("*.toml"))}


def questions(notebook: str) -> "tuple[Question, ...]":
    """The questions of a notebook, by its number; ValueError if there are none."""
    from ..widgets import Choice, Question

    text = look_up("quiz", notebook, QUIZZES).read_text(encoding="utf-8")
    return tuple(
        Question(question["text"], tuple(Choice(**choice) for choice in question["choice"]))
        for question in tomllib.loads(text)["question"]
    )


def quiz(notebook: str) -> "Quiz":
    """The quiz of a notebook, by its number: `quiz("02")`. As the last value of a cell it shows itself."""
    from ..widgets import Quiz

    return Quiz(questions(notebook))
