"""What a check says of an answer, and how a result is compared with the one that it should be.

Every hint has an id, by which tests and translations know it; its text may be reworded.
"""

import copy
import html
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

import torch
from torch import Tensor

RTOL, ATOL = 1e-4, 1e-6  # float32 work passes, a wrong formula does not
Mistakes = Mapping[str, tuple[str, Any]]  # id -> the hint, and a function or settings that make the mistake


class NotYet(Exception):
    """An answer that is not right yet: the id of the hint, and the hint."""

    def __init__(self, hint: str, text: str) -> None:
        super().__init__(text)
        self.hint = hint


class Unsolved(NotYet):
    """There is no answer yet."""

    def __init__(self) -> None:
        super().__init__("unsolved", "not solved yet: replace the ... with your lines, and return the result")


@dataclass(frozen=True)
class Verdict:
    """Whether an answer is right, and one line that says so or gives a hint; `hint` is the hint's id, if there is one.

    It is true where the answer is right, and the last value of a cell shows the line.
    """

    name: str
    right: bool
    text: str
    hint: str = ""

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{'✓' if self.right else '✗'} {self.name}: {self.text}"

    def _repr_html_(self) -> str:
        """The line in HTML: larger, broken between words, green or red at its left edge."""
        style = "margin: 0; padding: 4px 12px; font-size: 15px; line-height: 1.4; border-left: 6px solid"
        return f'<p style="{style} {"#2a8f3c" if self.right else "#d03030"};">{html.escape(repr(self))}</p>'


@dataclass(frozen=True)
class Matches:
    """The check of a function: in every case it has to return what the oracle returns.

    Otherwise the hint names the first such case, the difference and, if one of the known mistakes gives the same
    result, that mistake. Arguments are copied for every call, so an answer may change them.

    Args:
        oracle: the function as it should be.
        cases: description -> arguments; the first ones small enough to follow by hand.
        mistakes: id -> (hint, function that makes the mistake).
        right: what is said of a right answer.
    """

    oracle: Callable
    cases: Mapping[str, tuple]
    mistakes: Mistakes
    right: str

    def __call__(self, answer: Any) -> str:
        """`right`, or `NotYet`."""
        check_callable(answer)
        for case, arguments in self.cases.items():
            expected = self.oracle(*copy.deepcopy(arguments))
            given = answer(*copy.deepcopy(arguments))
            if found := difference(given, expected):
                raise_hint(
                    f"{case}: {found}", self.mistakes,
                    lambda wrong: not difference(given, wrong(*copy.deepcopy(arguments))),  # noqa: B023
                )  # fmt: skip
        return self.right


def raise_hint(text: str, mistakes: Mistakes, made: Callable[[Any], bool]) -> NoReturn:
    """`NotYet` with a text and the hint of the first mistake that was `made`; its id is "different" if none was."""
    found = ((name, f"{text}. {hint}") for name, (hint, wrong) in mistakes.items() if made(wrong))
    raise NotYet(*next(found, ("different", text)))


def check_given(answer: Any) -> Any:
    """The answer; `Unsolved` if there is none."""
    if answer is None or answer is ...:
        raise Unsolved
    return answer


def check_kind(answer: Any, wanted: type | tuple[type, ...], words: str) -> None:
    """`NotYet` for an answer of another type; `words` name the wanted one."""
    if not isinstance(answer, wanted):
        raise NotYet("kind", f"expected {words}, got {kind(answer)}")


def check_callable(answer: Any) -> None:
    """`NotYet` for what cannot be called."""
    if not callable(answer):
        raise NotYet("kind", f"expected the function itself, without parentheses after its name; got {kind(answer)}")


def difference(given: Any, expected: Any) -> str:
    """How a result differs from the expected one, in a few words; empty if it does not.

    Compared are numbers, tensors (any floating-point precision; NaN equals NaN) and dictionaries of them. `Unsolved` if
    nothing is given.
    """
    return _difference(check_given(given), expected)


def _difference(given: Any, expected: Any) -> str:
    """`difference`, also for the values of a dictionary: there None is a wrong value, not a missing answer."""
    if given is None or expected is None:
        return "" if given is expected else f"expected {kind(expected)}, got {kind(given)}"
    if isinstance(expected, Mapping):
        if not isinstance(given, Mapping) or set(given) != set(expected):
            got = f"a dictionary of {sorted(map(str, given))}" if isinstance(given, Mapping) else kind(given)
            return f"expected a dictionary of {sorted(expected)}, got {got}"
        found = {name: _difference(given[name], value) for name, value in expected.items()}
        return next((f"{name}: {text}" for name, text in found.items() if text), "")
    expected = torch.as_tensor(expected).detach().double()
    try:
        values = torch.as_tensor(given).detach().double()
    except (TypeError, ValueError, RuntimeError):
        return f"expected {kind(expected)}, got {kind(given)}"
    if values.shape != expected.shape:
        return f"expected {kind(expected)}, got {kind(values)}"
    wrong = (~torch.isclose(values, expected, rtol=RTOL, atol=ATOL, equal_nan=True)).nonzero()
    if not len(wrong):
        return ""
    place = tuple(wrong[0].tolist())
    where = f" at {list(place)}" if place else ""
    return f"expected {expected[place].item():.4g}, got {values[place].item():.4g}{where}"


def kind(value: Any) -> str:
    """The kind of a value, in words."""
    if isinstance(value, Tensor):
        return "one number" if value.ndim == 0 else f"a tensor of shape {tuple(value.shape)}"
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
