"""The quizzes for learning platforms: Moodle's XML, and GIFT, which Moodle, Canvas tools and others read.

Both put the questions of a notebook into a category of its own, with the answers' explanations as feedback.
Formats: https://docs.moodle.org/en/Moodle_XML_format and https://docs.moodle.org/en/GIFT_format.
"""

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from ..names import look_up
from .quizzes import QUIZZES, questions

if TYPE_CHECKING:
    from ..widgets import Question

SPECIAL = re.compile(r"([\\~=#{}:])")  # what GIFT gives a meaning


def export(kind: str, notebooks: Sequence[str] = ()) -> str:
    """The quizzes of the notebooks, by their numbers, as one text; all of them by default.

    Args:
        kind: "moodle" or "gift".
        notebooks: such as ["02", "05"].

    Raises:
        ValueError: an unknown format or notebook.
    """
    write = look_up("format", kind, FORMATS)
    return write({number: questions(number) for number in notebooks or QUIZZES})


def moodle(quizzes: "dict[str, tuple[Question, ...]]") -> str:
    """Moodle XML: a `category` for each notebook, then its questions, of type `multichoice` with one right answer."""
    root = ET.Element("quiz")
    for number, asked in quizzes.items():
        category = ET.SubElement(root, "question", type="category")
        _text(category, "category", _category(number))
        for position, question in enumerate(asked, start=1):
            element = ET.SubElement(root, "question", type="multichoice")
            _text(element, "name", f"{number}.{position}")
            _text(element, "questiontext", as_html(question.text), format="html")
            settings = {"defaultgrade": "1", "penalty": "0.5", "single": "true", "shuffleanswers": "true"}
            for name, value in (settings | {"answernumbering": "abc"}).items():
                ET.SubElement(element, name).text = value
            for choice in question.choices:
                fraction = "100" if choice.right else "0"
                answer = ET.SubElement(element, "answer", fraction=fraction, format="html")
                ET.SubElement(answer, "text").text = as_html(choice.text)
                _text(answer, "feedback", as_html(choice.why), format="html")
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def gift(quizzes: "dict[str, tuple[Question, ...]]") -> str:
    """GIFT: `::name::[html]question{` and an answer a line, `=` right or `~` wrong, `#` before its explanation."""
    blocks = []
    for number, asked in quizzes.items():
        blocks.append(f"$CATEGORY: {_category(number)}")
        for position, question in enumerate(asked, start=1):
            lines = [
                f"\t{'=' if choice.right else '~'}{escaped(choice.text)}#{escaped(choice.why)}"
                for choice in question.choices
            ]
            blocks.append("\n".join([f"::{number}.{position}::[html]{escaped(question.text)}{{", *lines, "}"]))
    return "\n\n".join(blocks) + "\n"


FORMATS = {"moodle": moodle, "gift": gift}
ENDINGS = {"moodle": ".xml", "gift": ".gift"}


def as_html(text: str) -> str:
    r"""Text as HTML: code between backquotes, and $formulas$ as \(formulas\), which Moodle's MathJax filter draws."""
    from ..widgets.quiz import marked_up

    parts = re.compile(r"(<code>.*?</code>)|\$([^$]+)\$")
    return parts.sub(lambda part: part[1] or rf"\({part[2]}\)", marked_up(text))


def escaped(text: str) -> str:
    r"""Text as HTML on one line, with a backslash before each of \ ~ = # { } :

    A % at the beginning of an answer would be read as its weight, so it becomes an entity.
    """
    line = " ".join(as_html(text).split())
    return SPECIAL.sub(r"\\\1", re.sub("^%", "&#37;", line))


def _category(number: str) -> str:
    return f"$course$/top/ltlab/{QUIZZES[number].stem.replace('_', ' ')}"


def _text(parent: ET.Element, tag: str, text: str, **attributes: str) -> None:
    """Moodle wraps every text in an element `text`."""
    ET.SubElement(ET.SubElement(parent, tag, attributes), "text").text = text
