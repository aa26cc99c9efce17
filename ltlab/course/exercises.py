"""Every exercise of the course by name, and the function that holds an answer against it."""

from textwrap import shorten
from typing import Any

from ..names import look_up
from . import bag_of_tricks, foreground, long_tail, mixing, resampling, reweighting, start_here, two_stage
from .answers import NotYet, Unsolved, Verdict

CHECKS = {
    f"{number}.{kind}": verify
    for number, room in {
        "00": start_here, "01": long_tail, "02": reweighting, "03": resampling, "04": mixing, "05": two_stage,
        "06": foreground, "07": bag_of_tricks,
    }.items()
    for kind, verify in room.EXERCISES.items()
}  # fmt: skip


def check(name: str, answer: Any) -> Verdict:
    """Hold an answer to an exercise against ltlab; what comes back shows as one line.

        check("02.implement", my_balanced_softmax)

    A wrong answer, a missing one (None or ...) and one that stops with an error all get a hint, never a traceback.

    Args:
        name: number of the notebook and kind of exercise, a key of `CHECKS`.
        answer: what the exercise asks for: a function (without brackets), a class, a recipe, a number.

    Returns:
        A `Verdict`, true if the answer is right.

    Raises:
        ValueError: there is no exercise of this name.
    """
    verify = look_up("exercise", name, CHECKS)
    try:
        if answer is None or answer is ...:
            raise Unsolved
        return Verdict(name, True, verify(answer))
    except NotYet as hint:
        text = str(hint)
    except Exception as error:  # of the answer's own code: a learner's mistake is a hint, whatever it raises
        text = f"your code stops with {type(error).__name__}: {shorten(str(error), 200, placeholder=' …')}"
    return Verdict(name, False, " ".join(text.split()))
