"""A guess, asked for before the result is shown, and the result next to the guess."""

from collections.abc import Sequence
from functools import partial
from string import ascii_lowercase
from typing import Any

import ipywidgets
import traitlets

from .quiz import answer_at_once, marked_up, option, paragraph


class Prediction(ipywidgets.VBox):
    """A question with a button for every option; the guess may be changed at any time.

    "vote" shows a number box for every option, for the hands that a class raises.

    Attributes:
        guess: index of the chosen option, or None.
        votes: the number of votes for each option.

    Raises:
        ValueError: fewer than two options, the same option twice, or an empty text.
    """

    guess = traitlets.Int(None, allow_none=True)
    votes = traitlets.Tuple()

    def __init__(self, question: str, options: Sequence[str]) -> None:
        if len(options) < 2 or len({*options}) < len(options) or not all((question, *options)):
            raise ValueError(f"options of {question!r} must be two or more different texts, got {list(options)}")
        self.question, self.options = question, tuple(options)
        self.buttons: list[ipywidgets.Button] = []
        self.hands: list[ipywidgets.BoundedIntText] = []
        self.voting = ipywidgets.ToggleButton(description="vote", tooltip="count the votes of a class")
        self.voting.layout.width = "56px"
        self.voting.observe(self._show_hands, "value")
        rows = [self._row(index, text) for index, text in enumerate(self.options)]
        head = paragraph(question, "font-weight: bold;")
        super().__init__([head, *rows, self.voting], layout={"max_width": "860px", "margin": "0 0 14px 0"})
        self.add_class("ltlab-prediction")

    def _row(self, index: int, text: str) -> ipywidgets.HBox:
        letter = ascii_lowercase[index]
        button, row = option(letter, f"guess {letter}: {text}", text)
        button.on_click(partial(self._press, index))
        hands = ipywidgets.BoundedIntText(0, max=9999, tooltip=f"votes for {letter}: {text}")
        hands.layout.width, hands.layout.display = "70px", "none"
        hands.observe(self._count, "value")
        self.buttons.append(button)
        self.hands.append(hands)
        row.children = (button, hands, *row.children[1:])
        return row

    def _press(self, index: int, _button: ipywidgets.Button) -> None:
        for place, (letter, button) in enumerate(zip(ascii_lowercase, self.buttons, strict=False)):
            button.description = f"{letter} ●" if place == index else letter
            button.button_style = "info" if place == index else ""
        self.guess = index

    def _count(self, _change: Any) -> None:
        self.votes = tuple(hands.value for hands in self.hands)

    def _show_hands(self, change: Any) -> None:
        for hands in self.hands:
            hands.layout.display = "" if change["new"] else "none"

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live widget; where there is no kernel, the question and its options as text."""
        items = "".join(f"<li>{marked_up(text)}</li>" for text in self.options)
        lettered = [f"   {letter}) {text}" for letter, text in zip(ascii_lowercase, self.options, strict=False)]
        live = super()._repr_mimebundle_(**kwargs) or {}
        answer_at_once([*self.buttons, *self.hands, self.voting])
        return {
            **live,
            "text/html": f'<p><b>{marked_up(self.question)}</b></p><ol type="a">{items}</ol>',
            "text/plain": "\n".join([self.question, *lettered]),
        }


class Resolution(ipywidgets.VBox):
    """The question of a prediction again, its answer, and what was guessed. It follows a guess that comes later.

    Args:
        prediction: what was asked.
        answer: index of the right option.
        detail: what else the result says, such as the number behind the answer.
    """

    def __init__(self, prediction: Prediction, answer: int, detail: str = "") -> None:
        self.prediction, self.answer, self.detail = prediction, answer, detail
        self.line = paragraph(self.text)
        prediction.observe(self._update, ["guess", "votes"])
        super().__init__([paragraph(prediction.question, "font-weight: bold;"), self.line])

    @property
    def text(self) -> str:
        """The line below the question."""
        guess, options, votes = self.prediction.guess, self.prediction.options, self.prediction.votes
        guessed = "" if guess is None else f"{'✓' if guess == self.answer else '✗'} You guessed: {options[guess]}. "
        voted = f" It got {votes[self.answer]} of {sum(votes)} votes." if any(votes) else ""
        return f"{guessed}Answer: {options[self.answer]}.{voted} {self.detail}".rstrip()

    def _update(self, _change: Any) -> None:
        self.line.value = paragraph(self.text).value

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        return {
            **(super()._repr_mimebundle_(**kwargs) or {}),
            "text/html": "".join(child.value for child in self.children),
            "text/plain": f"{self.prediction.question}\n{self.text}",
        }
