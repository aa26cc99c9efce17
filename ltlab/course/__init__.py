"""The course's exercises and questions: answers that are held against ltlab, and told apart in one line.

answers      what a check says, and how a result is held against another
exercises    every exercise by name, `check`
quizzes      the questions at the end of each notebook, `quiz`; their text lies in `questions/`

The other files, start_here to bag_of_tricks, are the exercises of notebooks 00 to 07: what is right, and which mistakes
are known.
"""

from .. import require_extra

require_extra("course")

from .answers import Matches, NotYet, Verdict, difference
from .exercises import CHECKS, check
from .quizzes import QUIZZES, questions, quiz

__all__ = ["CHECKS", "QUIZZES", "Matches", "NotYet", "Verdict", "check", "difference", "questions", "quiz"]
