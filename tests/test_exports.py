"""The quizzes as Moodle XML and GIFT, read by other readers than those that wrote them."""

import html
import re
from xml.etree import ElementTree as ET

import pytest

from ltlab import cli
from ltlab.course import QUIZZES, exports, questions
from ltlab.widgets import Choice, Question

NASTY = (
    Question(
        "Is `a == b` {true}: ~50 % or #1, with $\\frac{a}{b} < c$ and C:\\new?",
        (
            Choice("% of a ~ b = c", "no: {x} # y", right=True),
            Choice("a -> b & c", "`x = {1: 2}`\nand // more"),
            Choice("<b>", "\\(x\\) \\\\ end\\"),
        ),
    ),
)


def plain(text: str) -> str:
    """What a reader sees of the HTML; code keeps its backquotes, a formula its dollars."""
    text = re.sub(r"\\\((.*?)\\\)", r"$\1$", text.replace("<code>", "`").replace("</code>", "`"))
    assert not re.search(r"<[a-zA-Z/]", text), "no other elements"
    return html.unescape(text)


def seen(question: Question) -> tuple:
    """A question on one line for each text, as `plain` gives it; a formula that is marked already has dollars."""
    flat = lambda text: " ".join(re.sub(r"\\\((.*?)\\\)", r"$\1$", text).split())  # noqa: E731
    return flat(question.text), [(c.right, flat(c.text), flat(c.why)) for c in question.choices]


def read_moodle(text: str) -> dict[str, list[tuple]]:
    """Category -> questions, by the documented structure."""
    root, found, here = ET.fromstring(text.encode()), {}, None
    assert root.tag == "quiz"
    for element in root:
        if element.get("type") == "category":
            here = found[element.findtext("category/text")] = []
            continue
        assert element.get("type") == "multichoice" and element.findtext("single") == "true"
        assert element.find("questiontext").get("format") == "html" and element.findtext("name/text")
        answers = [
            (
                a.get("fraction") == "100",
                plain(a.findtext("text")),
                " ".join(plain(a.findtext("feedback/text")).split()),
            )
            for a in element.findall("answer")
        ]
        assert {a.get("fraction") for a in element.findall("answer")} == {"0", "100"}
        here.append((plain(element.findtext("questiontext/text")), answers))
    return found


def read_gift(text: str) -> dict[str, list[tuple]]:
    """Category -> questions, by the rules of GIFT's importer: comments go, escapes are set aside, marks are split."""
    found, here = {}, None
    for block in re.split(r"\n[ \t]*\n", text.strip()):
        block = "\n".join(line for line in block.splitlines() if not line.lstrip().startswith("//"))
        if block.startswith("$CATEGORY:"):
            here = found[block.removeprefix("$CATEGORY:").strip()] = []
            continue
        aside = re.sub(r"\\(.)", lambda mark: chr(0xE000 + ord(mark[1])), block)
        back = lambda part: plain(re.sub("[\ue000-\ue0ff]", lambda m: chr(ord(m[0]) - 0xE000), part).strip())  # noqa: E731
        stem, body = re.fullmatch(r"::[^:{}~=#]+::\[html\]([^:{}~=#]+)\{([^{}]*)\}", aside).groups()
        parts = re.findall(r"([=~])([^=~#]+)#([^=~#]+)", body)
        assert "".join(f"{mark}{a}#{b}" for mark, a, b in parts) == body.lstrip(), "nothing between the answers"
        assert not any(answer.startswith("%") for _, answer, _ in parts), "it would be a weight"
        here.append((back(stem), [(mark == "=", back(answer), back(why)) for mark, answer, why in parts]))
    return found


READERS = {"moodle": read_moodle, "gift": read_gift}


@pytest.mark.parametrize("kind", READERS)
def test_all_quizzes_come_back_as_they_were(kind):
    found = READERS[kind](exports.export(kind))
    assert [category.rsplit("/", 1)[1][:2] for category in found] == list(QUIZZES)
    for number, asked in zip(QUIZZES, found.values(), strict=True):
        assert asked == [seen(question) for question in questions(number)]


@pytest.mark.parametrize("kind", READERS)
def test_every_mark_of_the_formats_in_a_text_is_kept(kind):
    ((asked,),) = READERS[kind](exports.FORMATS[kind]({"02": NASTY})).values()
    assert asked == seen(NASTY[0])


def test_the_escapes_are_those_of_the_format():
    assert exports.escaped("a = b ~ {c} #1: \\n") == r"a \= b \~ \{c\} \#1\: \\n"
    assert exports.escaped("% of") == r"&\#37; of"
    assert exports.as_html("`a$b$` and $x_{<1}$") == r"<code>a$b$</code> and \(x_{&lt;1}\)"


def test_the_command_writes_a_file_and_names_what_it_does_not_know(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli.run(["quizzes", "02", "05"]) == 0
    assert len(read_moodle((tmp_path / "ltlab-quizzes.xml").read_text(encoding="utf-8"))) == 2
    assert cli.run(["quizzes", "--format", "gift", "--output", "new/q.txt"]) == 0
    assert len(read_gift((tmp_path / "new" / "q.txt").read_text(encoding="utf-8"))) == len(QUIZZES)
    assert cli.run(["quizzes", "--format", "qti"]) == 2 and "moodle, gift" in capsys.readouterr().err
    assert cli.run(["quizzes", "99"]) == 2 and "'99'" in capsys.readouterr().err
