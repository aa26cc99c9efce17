"""Guesses that a notebook asks for, and their results.

The kernel keeps each guess under its name until it stops.
"""

from collections.abc import Sequence
from operator import index
from typing import TYPE_CHECKING

from ..names import look_up, one_of

if TYPE_CHECKING:
    from ..widgets import Prediction, Resolution

_ASKED: "dict[str, Prediction]" = {}


def predict(name: str, question: str, options: Sequence[str]) -> "Prediction":
    """Ask for a guess; as the last value of a cell it shows itself. The same question again keeps the guess.

        predict("06.1", "Which error is larger?", ["with moved foregrounds", "without"])

    Args:
        name: number of the notebook and of its question; `resolve` uses it.
        question: one sentence, text between `backquotes` is code.
        options: two or more different answers.

    Raises:
        ValueError: fewer than two options, the same option twice, or an empty text.
    """
    from ..widgets import Prediction

    asked = _ASKED.get(name)
    if not asked or (asked.question, asked.options) != (question, tuple(options)):
        _ASKED[name] = asked = Prediction(question, options)
    return asked


def resolve(name: str, answer: str | int, detail: str = "") -> "Resolution":
    """Show the answer to `predict(name, ...)` next to the guess, if there is one.

        resolve("06.1", "without", f"{moved:.1f} % with, {still:.1f} % without.")
        resolve("00.1", bisect([10, 30, 50], error), f"It is {error:.1f} %.")

    Args:
        name: the prediction's.
        answer: the right option, or its index.
        detail: added to the answer, such as the number behind it.

    Raises:
        ValueError: no prediction of this name was asked for, or `answer` is not one of its options.
    """
    from ..widgets import Resolution

    asked = look_up("prediction", name, _ASKED)
    if isinstance(answer, str):
        answer = asked.options.index(one_of("answer", answer, asked.options))
    elif not 0 <= index(answer) < len(asked.options):
        raise ValueError(f"answer={answer}: prediction {name} has {len(asked.options)} options, counted from 0")
    return Resolution(asked, index(answer), detail)
