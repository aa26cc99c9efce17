"""A deck of slides for each notebook, made from its cells: one HTML file that needs no network.

uv run ltlab slides --output FOLDER        # or: uv run python docs/slides.py FOLDER 02 05

A figure of a notebook, or a section without one, is a slide: heading, formula, questions and figure. The rest of the
section is in the speaker notes (key S), with the answers of docs/teaching. Reveal.js, which comes with
sphinx-revealjs, turns the pages.
"""

import html
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.dollarmath import dollarmath_plugin
from teaching import FOLDER, NOTEBOOKS, plays, predictions, questions, read

from ltlab.names import look_up

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "book" / "_ext"))
from mathml import mathml  # noqa: E402

LEFT_OUT = (
    "Check",
    "Exercises",
    "Compare with the published",
    "Next to the published",
    "In the paper",
    "Published numbers",
)
MOST = 15  # slides of a deck
WITH_FIGURE, WITHOUT = 300, 900  # characters of text on a slide
HEADING = re.compile(r"^##+ (.*)$", re.MULTILINE)
START = """
Reveal.initialize({width: 1280, height: 720, margin: 0, center: false, hash: true, controls: false, slideNumber: "c/t",
  transition: "none", display: "flex", plugins: [RevealNotes]});
"""


@dataclass
class Part:
    """What becomes a slide: the text and code before a figure, the figure, and what is resolved with it."""

    title: str
    text: list[str] = field(default_factory=list)  # paragraphs of Markdown
    code: str = ""
    figure: tuple[str, str] | None = None  # base64 of a PNG, and what it shows
    answers: list[tuple[str, str]] = field(default_factory=list)  # to predictions
    more: list[str] = field(default_factory=list)  # paragraphs below the figure

    def worth(self) -> int:
        """Which parts stay if there are too many."""
        main = self.title.startswith(("Predict", "Play", "Summary"))
        return 9 * main + 2 * bool(self.figure) + 2 * bool(self.answers) + any(b.startswith("$$") for b in self.text)


def parts(notebook: nbformat.NotebookNode) -> list[Part]:
    """The parts of a lesson up to its exercises, in their order."""
    found = [Part("")]
    for cell in notebook.cells:
        if "exercises" in cell.metadata.get("tags", []):
            break
        if cell.cell_type == "markdown":
            before, *sections = HEADING.split(cell.source)
            (found[-1].more if found[-1].figure else found[-1].text).extend(paragraphs(before))
            for title, text in zip(sections[::2], sections[1::2], strict=True):
                found.append(Part(title, paragraphs(text)))
            continue
        if "nbval-check-output" in cell.metadata.get("tags", []) and not found[-1].code:
            found[-1].code = cell.source.split("\n\n\n")[0] if cell.source.startswith("def ") else ""
        shown = [output.get("data", {}) for output in cell.outputs]
        for data in sorted(shown, key=lambda data: "image/png" not in data):  # an answer stands below its figure
            question, mark, answer = data.get("text/plain", "").partition("\nAnswer: ")
            if mark and "\n" not in question:
                found[-1].answers.append((question, answer))
            if "image/png" in data:
                if found[-1].figure:  # what stood below the last figure introduces this one
                    found.append(Part(found[-1].title, found[-1].more))
                    found[-2].more = []
                found[-1].figure = data["image/png"].replace("\n", ""), data["text/plain"]
    return [part for part in found[1:] if not part.title.startswith(LEFT_OUT)]


def paragraphs(text: str) -> list[str]:
    """Blocks of Markdown; asides, folded parts and pictures are left out."""
    text = re.sub(r"<details>.*?</details>|\(Finished runs[^)]*\)", "", text, flags=re.DOTALL)
    blocks = re.split(r"\n\s*\n", text.strip())
    return [b for b in blocks if b.strip() and not b.lstrip().startswith((">", "<", "![", "[!["))]


def shown(part: Part) -> list[str]:
    """What fits on the slide: a Play's questions, a summary, else the first paragraphs and the first formula."""
    if whole := [block for block in part.text if block.startswith("1. ") or part.title == "Summary"]:
        return whole
    room = WITH_FIGURE if part.figure or part.code else WITHOUT
    chosen: list[str] = []
    for block in part.text:
        if block.startswith("$$"):
            chosen += [block] if not any(b.startswith("$$") for b in chosen) else []
        elif len(block) <= room:
            chosen.append(block)
            room -= len(block)
        elif chosen:
            room = 0
    return chosen


# --- HTML ------------------------------------------------------------------------------------------------------------


def _formula(content: str, options: dict) -> str:
    shape = "block" if options["display_mode"] else "inline"
    text = mathml(re.sub(r"\\[bB]ig[lr]?(?![a-z])", "", content.strip()), shape)
    return f'<div class="block">{text}</div>' if shape == "block" else text


MARKDOWN = MarkdownIt("commonmark", {"html": False}).enable("table").use(dollarmath_plugin, renderer=_formula)


def rendered(markdown: str) -> str:
    """Markdown as HTML; links become their text, since a deck stands alone."""
    return re.sub(r"</?a\b[^>]*>", "", MARKDOWN.render(markdown.replace("### BEGIN", "BEGIN")))


def picture(figure: tuple[str, str], title: str) -> str:
    data, text = figure
    alt = html.escape(title if text.startswith("<") else text)
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def notes(texts: list[str]) -> str:
    return f'<aside class="notes">{"".join(map(rendered, texts))}</aside>' if texts else ""


def slide(part: Part, number: str, said: list[str]) -> str:
    """One page: what fits of the part, its figure, the answers to predictions, and notes."""
    chosen = shown(part)
    code = part.code if not part.figure and len(part.code.splitlines()) <= 11 else ""
    length = sum(map(len, chosen))
    size = "small" if part.title.startswith("Play") or length > 600 else "text" if part.figure or code else "large"
    blocks = [
        f"<h2>{MARKDOWN.renderInline(part.title)}</h2>",
        f'<div class="{size}">{"".join(map(rendered, chosen))}</div>',
    ]
    blocks += [f"<pre><code>{html.escape(code)}</code></pre>"] if code else []
    blocks += [picture(part.figure, part.title)] if part.figure else []
    for question, answer in part.answers[:3]:
        blocks.append(
            f'<p class="answer fragment small">{html.escape(question)} <b>{MARKDOWN.renderInline(answer)}</b></p>'
        )
    left = [block for block in part.text if block not in chosen]
    return f"<section>{''.join(blocks)}{notes([*said, *left, *part.more])}{_foot(number)}</section>"


def _foot(number: str) -> str:
    return f'<div class="foot">ltlab {number}, CC BY 4.0</div>'


def play_notes(number: str) -> dict[str, list[str]]:
    """Heading of a Play section -> its questions with the expected answers."""
    found = {}
    for play in (p for p in plays() if p["notebook"] == number):
        pairs = zip(questions(number, play["heading"]), play["answers"], strict=True)
        found[play["heading"]] = [f"{question} **{answer}**" for question, answer in pairs]
    return found


def what_to_say(number: str) -> dict[str, list[str]]:
    """From docs/teaching/notebooks.md: what is said before the predictions, and where people get stuck."""
    page = (FOLDER / "notebooks.md").read_text(encoding="utf-8")
    part = re.search(rf"^## {number} ·.*?(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)
    blocks = paragraphs(part[0]) if part else []
    return {"Predict": [b for b in blocks if b.startswith("**Say")],
            "Derive": [b for b in blocks if b.startswith("**Where")]}  # fmt: skip


def deck(number: str) -> list[str]:
    """The slides of a notebook, at most `MOST`."""
    notebook = read(number)
    title = notebook.cells[0].source.partition("\n")[0].removeprefix("# ")
    goal = re.search(r"\*\*After this you can\*\* (.*?)\n\n", notebook.cells[0].source, re.DOTALL)[1]
    answers, said, all_parts = play_notes(number), what_to_say(number), parts(notebook)
    pages = [f"<section><h1>{html.escape(title)}</h1>{rendered('After this you can ' + goal)}{_foot(number)}</section>"]
    best = sorted(range(len(all_parts)), key=lambda k: -all_parts[k].worth())[: MOST - 1]
    for part in (all_parts[k] for k in sorted(best)):
        told = answers.pop(part.title, [])
        for word in [word for word in said if part.title.startswith(word)]:
            told = told + said.pop(word)
        pages.append((predict_slide if part.title == "Predict" else slide)(part, number, told))
    return pages


def predict_slide(part: Part, number: str, said: list[str]) -> str:
    """All questions that are asked before the first result, with their options."""
    blocks = []
    for text in first_predictions(number):
        question, *options = map(html.escape, text.splitlines())
        blocks.append(f"<p><b>{question}</b></p><p>{' &emsp; '.join(options)}</p>")
    answered = [f"{question} **{answer}**" for question, answer in predictions(number)]
    size = "large" if len(blocks) < 3 else "text"
    return (
        f'<section><h2>Predict</h2><div class="small">{"".join(map(rendered, shown(part)))}</div>'
        f'<div class="{size} asked">{"".join(blocks)}</div>{notes([*said, *answered])}{_foot(number)}</section>'
    )


def first_predictions(number: str) -> list[str]:
    """What the first cell that asks for predictions shows."""
    asked = (c for c in read(number).cells if c.cell_type == "code" and re.search(r"(?<![.\w])predict\(", c.source))
    return [output["data"]["text/plain"] for output in next(asked).outputs]


def page(number: str) -> str:
    """The deck as one HTML file, with reveal.js inside."""
    import sphinx_revealjs

    reveal = Path(sphinx_revealjs.__file__).parent / "_static" / "revealjs"
    styles = [reveal / "dist" / "reset.css", reveal / "dist" / "reveal.css", DOCS / "slides.css"]
    scripts = [reveal / "dist" / "reveal.js", reveal / "plugin" / "notes" / "notes.js"]
    css = "\n".join(path.read_text(encoding="utf-8") for path in styles)
    js = "\n".join(path.read_text(encoding="utf-8").replace("</script", "<\\/script") for path in scripts)
    js = re.sub(r"//# sourceMappingURL=\S+", "", js)
    title = html.escape(read(number).cells[0].source.partition("\n")[0].removeprefix("# "))
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
        f"<style>{css}</style></head>\n"
        f'<body><div class="reveal"><div class="slides">{"".join(deck(number))}</div></div>\n'
        f"<script>{js}</script><script>{START}</script></body></html>\n"
    )


def build(folder: Path, numbers: list[str]) -> None:
    paths = [folder / f"{look_up('notebook', number, NOTEBOOKS).stem}.html" for number in numbers]
    folder.mkdir(parents=True, exist_ok=True)
    for number, path in zip(numbers, paths, strict=True):
        path.write_text(page(number), encoding="utf-8")
        print(f"written to {path}, {path.stat().st_size / 1e6:.1f} MB", flush=True)


if __name__ == "__main__":
    try:
        build(Path(sys.argv[1]), sys.argv[2:] or list(NOTEBOOKS))
    except ValueError as error:
        sys.exit(f"ltlab: {error}")
