"""Questions with buttons: press one, and read why it is right or not."""

import html
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from string import ascii_lowercase
from typing import Any

import ipywidgets

PARAGRAPH = "margin: 0; font-size: 15px; line-height: 1.4;"


@dataclass(frozen=True)
class Choice:
    """One answer to a question, and why it is right or wrong."""

    text: str
    why: str
    right: bool = False


@dataclass(frozen=True)
class Question:
    """A question with its answers, one of them right. Text between `backquotes` is code.

    Raises:
        ValueError: fewer than two answers, not exactly one right one, the same answer twice, or an empty text.
    """

    text: str
    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        right, texts = sum(choice.right for choice in self.choices), {choice.text for choice in self.choices}
        explained = all((self.text, *texts, *(choice.why for choice in self.choices)))
        if len(texts) < 2 or len(texts) < len(self.choices) or right != 1 or not explained:
            raise ValueError(
                f"question {self.text!r}: it needs two or more different answers, one right, and no empty text; got "
                f"{len(self.choices)} answers, {len(texts)} different, {right} right"
            )


class Quiz(ipywidgets.VBox):
    """Questions, a button for every answer, and below them the explanation of the answer that was pressed.

        Quiz([Question("At q = 0 an arrow comes …", (Choice("once", "…"), Choice("26 times", "…", right=True)))])

    Tab moves from button to button, Enter and the space bar press one. A pressed button keeps a ✓ or a ✗, so that
    nothing is told by colour alone; the explanation is a status text, which screen readers speak. Every answer may be
    tried; the last line counts the questions whose first answer was right.

    Raises:
        ValueError: `questions` is empty.
    """

    def __init__(self, questions: Iterable[Question]) -> None:
        self.questions = tuple(questions)
        if not self.questions:
            raise ValueError("questions is empty: pass at least one Question")
        self.buttons: list[list[ipywidgets.Button]] = []
        self.feedback = [""] * len(self.questions)
        self._status = [ipywidgets.HTML() for _ in self.questions]
        self._first: list[bool | None] = [None] * len(self.questions)  # whether the first answer was right
        self._score = ipywidgets.HTML()
        blocks = [self._block(number, question) for number, question in enumerate(self.questions)]
        super().__init__([*blocks, self._score], layout={"max_width": "860px"})
        self.add_class("ltlab-quiz")
        self._count()

    def _block(self, number: int, question: Question) -> ipywidgets.VBox:
        rows = [
            option(letter, f"question {number + 1}, answer {letter}: {choice.text}", choice.text)
            for letter, choice in zip(ascii_lowercase, question.choices, strict=False)
        ]
        self.buttons.append([button for button, _ in rows])
        for position, (button, _) in enumerate(rows):
            button.on_click(partial(self._press, number, position))
        head = paragraph(f"{number + 1}. {question.text}", "font-weight: bold;")
        children = [head, *(row for _, row in rows), self._status[number]]
        return ipywidgets.VBox(children, layout={"margin": "0 0 14px 0"})

    def _press(self, number: int, position: int, button: ipywidgets.Button) -> None:
        choice = self.questions[number].choices[position]
        button.description = f"{ascii_lowercase[position]} {'✓' if choice.right else '✗'}"
        button.button_style = "success" if choice.right else "danger"
        if self._first[number] is None:
            self._first[number] = choice.right
        self.feedback[number] = said = f"{'✓ Right' if choice.right else '✗ Not this one'}. {choice.why}"
        self._status[number].value = paragraph(said, "margin: 4px 0;", role="status").value
        self._count()

    def _count(self) -> None:
        self.score = f"{self._first.count(True)} of {len(self.questions)} right at the first answer"
        self._score.value = paragraph(self.score).value

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        """The live widget; where there is no kernel (a saved notebook on a code host), text with folded answers."""
        live = super()._repr_mimebundle_(**kwargs) or {}
        answer_at_once(button for row in self.buttons for button in row)
        return {**live, "text/html": self._as_html(), "text/plain": self._as_text()}

    def _as_html(self) -> str:
        items = []
        for question in self.questions:
            answers = "".join(f"<li>{marked_up(choice.text)}</li>" for choice in question.choices)
            whys = "".join(
                f"<li>{'<b>Right.</b>' if choice.right else 'No.'} {marked_up(choice.why)}</li>"
                for choice in question.choices
            )
            items.append(
                f'<li><p>{marked_up(question.text)}</p><ol type="a">{answers}</ol>'
                f'<details><summary>Answer</summary><ol type="a">{whys}</ol></details></li>'
            )
        return f"<ol>{''.join(items)}</ol>"

    def _as_text(self) -> str:
        lines, right = [], []
        for number, question in enumerate(self.questions, start=1):
            lines.append(f"{number}. {question.text}")
            for letter, choice in zip(ascii_lowercase, question.choices, strict=False):
                lines.append(f"   {letter}) {choice.text}")
                right += [f"{number}{letter}"] if choice.right else []
        return "\n".join([*lines, f"Right: {', '.join(right)}"])


def answer_at_once(controls: Iterable[Any]) -> None:
    """Keep ipykernel 7.4 from queueing the messages of `controls` behind the cells to be run."""
    for control in controls:
        getattr(control.comm, "__dict__", {}).pop("_reply_subshell_id", None)


def option(letter: str, tooltip: str, text: str) -> tuple[ipywidgets.Button, ipywidgets.HBox]:
    """A button for one answer, and the row that shows the button and the answer."""
    layout = {"width": "56px", "min_width": "56px", "margin": "2px 10px 2px 0"}
    button = ipywidgets.Button(description=letter, tooltip=tooltip, layout=layout)
    answer = paragraph(text)
    answer.layout.flex = "1 1 0%"
    return button, ipywidgets.HBox([button, answer], layout={"align_items": "center"})


def paragraph(text: str, style: str = "", *, role: str = "") -> ipywidgets.HTML:
    """One paragraph of 15 px; role "status" lets screen readers speak it when it changes."""
    role = f' role="{role}"' if role else ""
    return ipywidgets.HTML(f'<p{role} style="{PARAGRAPH} {style}">{marked_up(text)}</p>')


def marked_up(text: str) -> str:
    """Text as HTML, with code for what is between backquotes."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
