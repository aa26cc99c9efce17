"""The command line: a command is a function whose signature gives the options and whose docstring gives their help.

    options       the groups of options that commands share, as dataclasses
    experiments   train, compare, search, report
    listing       recipes, data
    teaching      lab, book, slides, quizzes, assignments
    line          from the arguments to a command and an exit status

cyclopts reads signatures and dataclasses; it is imported when a command runs, so that `ltlab --help` is quick.
"""

from .line import COMMANDS, main, run
from .options import Data, Subset, Training
from .teaching import book

__all__ = ["COMMANDS", "Data", "Subset", "Training", "book", "main", "run"]
