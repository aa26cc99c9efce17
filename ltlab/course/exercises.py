"""Every exercise of the course by name, and the function that checks an answer to it."""

import sysconfig
import traceback
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import shorten
from typing import Any

from ..names import look_up
from . import (
    check_alignment,
    check_bag_of_tricks,
    check_calibration,
    check_detection,
    check_foreground,
    check_frozen,
    check_long_tail,
    check_mixing,
    check_resampling,
    check_reweighting,
    check_start_here,
    check_two_stage,
)
from .answers import NotYet, Unsolved, Verdict, check_given

NOT_YOURS = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"))

ROOMS = (
    check_start_here, check_long_tail, check_reweighting, check_resampling,
    check_mixing, check_two_stage, check_foreground, check_bag_of_tricks,
    check_calibration, check_alignment, check_detection, check_frozen,
)  # fmt: skip
CHECKS = {f"{number:02}.{kind}": verify for number, room in enumerate(ROOMS) for kind, verify in room.EXERCISES.items()}


def check(name: str, answer: Any) -> Verdict:
    """Check an answer to an exercise against ltlab; the result is displayed as one line.

        check("02.implement", my_balanced_softmax)

    A wrong answer, a missing one (None or ...) and one that stops with an error all get a hint, never a traceback.

    Args:
        name: number of the notebook and kind of exercise, a key of `CHECKS`.
        answer: what the exercise asks for: a function (without parentheses), a class, a recipe, a number.

    Returns:
        A `Verdict`, true if the answer is right.

    Raises:
        ValueError: there is no exercise of this name.
    """
    verify, printed = look_up("exercise", name, CHECKS), StringIO()
    try:
        with redirect_stdout(printed):
            return Verdict(name, True, verify(check_given(answer)))
    except NotYet as hint:
        found, text = hint.hint, str(hint)
        if isinstance(hint, Unsolved) and printed.getvalue():
            found, text = "printed", "it prints a result and returns None: write return instead of print"
    except Exception as error:  # in the answer's own code: any exception is a learner's mistake, and gets a hint
        found = "error"
        told = shorten(str(error), 200, placeholder=" …")
        text = f"your code stops{_place(error)} with {type(error).__name__}: {told}"
    finally:
        print(printed.getvalue(), end="")
    return Verdict(name, False, " ".join(text.split()), found)


def _place(error: Exception) -> str:
    """Where in the answer's own code an error came up; empty if it came up elsewhere."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith(NOT_YOURS)]
    inside = [frame for frame in own if frame.filename == own[0].filename]
    return f" in line {inside[-1].lineno} ({shorten(inside[-1].line or '', 80)})" if inside else ""
