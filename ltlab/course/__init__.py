"""The course's exercises and questions: answers are checked against ltlab, and a hint names the mistake in one line.

answers      what a check says, and how a result is compared with another
exercises    every exercise by name, `check`
predictions  `predict` asks for a guess, `resolve` shows the result next to it
quizzes      the questions at the end of each notebook, `quiz`; their text is in `questions/`
exports      the quizzes for learning platforms: Moodle XML and GIFT
drawn        exercises checked again with arguments that a seed draws
assignments  the exercises as nbgrader assignments

The other files, check_start_here to check_frozen, are the exercises of the notebooks: what is right, and the known
mistakes, each with an id and a hint.
"""

from .. import require_extra

require_extra("course")

from .answers import Matches, NotYet, Verdict, difference
from .exercises import CHECKS, check
from .predictions import predict, resolve
from .quizzes import QUIZZES, questions, quiz

__all__ = [
    "CHECKS", "QUIZZES", "Matches", "NotYet", "Verdict", "check", "difference", "predict", "questions", "quiz",
    "resolve",
]  # fmt: skip
