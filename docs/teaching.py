"""The parts of docs/teaching that are taken from the notebooks, and what the explorers say there.

uv run python docs/teaching.py               # rewrites answers.md, and the goals in notebooks.md
uv run python docs/teaching.py measure       # asks the explorers again: trains what the notebooks train, some minutes

answers.md has the answers to all predictions, from the executed notebooks, and those to the Play questions, from
play.toml, with what the explorers say at its settings, from explorers.csv.
"""

import ast
import os
import re
import sys
import tempfile
import tomllib
from pathlib import Path

import nbformat
import pandas as pd
from marked import rewrite
from nbclient import NotebookClient

from ltlab.data.places import tables_folder

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "teaching"
NOTEBOOKS = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
BEGIN, END = "<!-- goals: uv run python docs/teaching.py -->", "<!-- end of goals -->"
SAID = FOLDER / "explorers.csv"
HEAD = """# Answers to Predict, Guess and Play

Written by `uv run python docs/teaching.py` from the executed notebooks, `play.toml` and `explorers.csv`. Numbers are of
our runs; yours differ by a few points.
"""


def plays() -> list[dict]:
    """The entries of play.toml; `explorer` is the name of its variable in the notebook."""
    entries = tomllib.loads((FOLDER / "play.toml").read_text(encoding="utf-8"))["play"]
    return [{"explorer": "explorer", "table": ""} | entry for entry in entries]


def read(number: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS[number], as_version=4)


# --- what is in the notebooks ----------------------------------------------------------------------------------------


def goals() -> str:
    """A table of what each notebook teaches, needs and takes, from its first cell."""
    lines = ["| notebook | after it you can | minutes | needs |", "|---|---|---|---|"]
    for number in NOTEBOOKS:
        text = " ".join(read(number).cells[0].source.split())
        can = re.search(r"\*\*After this you can\*\* (.*?)\.? \*\*Time:", text)[1]
        minutes = re.search(r"\*\*Time:\*\* (\d+) minutes to read and play, (\d+)", text)
        needs = re.search(r"\*\*Needs:\*\* (.*?)\. ", text)[1]
        lines.append(f"| {number} | {can} | {minutes[1]}, with exercises {minutes[2]} | {needs} |")
    return "\n".join(lines)


def predictions(number: str) -> list[tuple[str, str]]:
    """Question and answer of all predictions that a notebook resolves, in the order of its results."""
    found = []
    for cell in read(number).cells:
        for output in cell.get("outputs", []):
            question, mark, answer = output.get("data", {}).get("text/plain", "").partition("\nAnswer: ")
            if mark and "\n" not in question:
                found.append((question, answer))
    return found


def questions(number: str, heading: str) -> list[str]:
    """The numbered questions below a heading, or its one sentence."""
    (cell,) = (
        c for c in read(number).cells if c.cell_type == "markdown" and re.search(rf"^##+ {heading}$", c.source, re.M)
    )
    text = cell.source.split(heading, 1)[1]
    items = re.findall(r"^\d\. (.*?)(?=\n\d\. |\n\n|\Z)", text, re.M | re.S)
    return [" ".join(item.split()) for item in items or [text.strip()]]


# --- what the explorers say ------------------------------------------------------------------------------------------

COLLECT = """
def _say(explorer, settings):
    first = {{name: control.value for name, control in explorer.controls.items()}}
    for name, value in settings:
        control = explorer.controls[name]
        options = [o[1] if isinstance(o, tuple) else o for o in getattr(control, "options", ())]
        if options and isinstance(value, int) and not isinstance(options[0], (int, float)):
            value = options[value]
        elif options and value not in options and isinstance(value, float):
            value = min((o for o in options if not isinstance(o, str)), key=lambda o: abs(o - value))
        control.value = value
    said = explorer.summary
    for name, value in first.items():
        explorer.controls[name].value = value
    return said

import json as _json
for _setting in {settings!r}:
    print("SAID", _json.dumps(["; ".join(f"{{n}}={{v}}" for n, v in _setting), _say({explorer}, _setting)]))
"""


def parsed(setting: str) -> list[tuple[str, object]]:
    """Names and values of "q=0.5, sampler=power"; what is not a Python literal is text."""
    pairs = []
    for part in re.split(r", (?=\w+=)", setting):
        name, _, value = part.partition("=")
        try:
            pairs.append((name, ast.literal_eval(value)))
        except (ValueError, SyntaxError):
            pairs.append((name, value))
    return pairs


def measure(number: str, folder: Path) -> list[dict]:
    """What the explorers of a notebook say at the settings of play.toml; its cells are executed in the folder."""
    wanted = [play for play in plays() if play["notebook"] == number]
    cells, left, heading = [], list(wanted), ""
    for cell in read(number).cells:
        if not left:
            break
        if cell.cell_type != "code" or "%pip" in cell.source:
            heading = [heading, *re.findall(r"^##+ (.*)$", cell.source, re.MULTILINE)][-1]
            continue
        cells.append(nbformat.v4.new_code_cell(cell.source))
        last = cell.source.rstrip().splitlines()[-1]
        if heading != left[0]["heading"]:
            continue
        if last == left[0]["explorer"] or last.startswith(f"display({left[0]['explorer']},"):
            play = left.pop(0)
            settings = [parsed(setting) for setting in play["show"]]
            cells.append(nbformat.v4.new_code_cell(COLLECT.format(settings=settings, explorer=play["explorer"])))
    notebook = nbformat.v4.new_notebook(cells=cells)
    client = NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": folder}})
    client.execute(env=os.environ | {"OMP_NUM_THREADS": "1"})
    text = "".join(o.get("text", "") for cell in cells for o in cell.outputs)
    said = [ast.literal_eval(line.removeprefix("SAID ")) for line in text.splitlines() if line.startswith("SAID ")]
    settings = [(play, setting) for play in wanted for setting in play["show"]]
    return [
        {"notebook": number, "heading": play["heading"], "setting": setting, "said": summary.split(". To move")[0]}
        for (play, setting), (_, summary) in zip(settings, said, strict=True)
    ]


def measure_all(numbers: list[str]) -> None:
    """Write explorers.csv; the lines of notebooks that are not named stay."""
    kept = pd.read_csv(SAID, dtype=str) if SAID.exists() else pd.DataFrame(columns=["notebook"])
    folder = Path(os.environ.get("LTLAB_TEACHING", "") or tempfile.mkdtemp())
    for number in numbers:
        rows = pd.DataFrame(measure(number, folder), dtype=str)
        kept = pd.concat([kept[kept["notebook"] != number], rows]).sort_values("notebook", kind="stable")
        kept.to_csv(SAID, index=False)
        print(f"{number}: {len(rows)} settings", flush=True)


# --- the page --------------------------------------------------------------------------------------------------------


def imbalance_table() -> str:
    """The accuracy of plain training by class, for the explorer of notebook 00."""
    rows = pd.read_csv(tables_folder("results") / "imbalance.csv")
    means = rows.pivot_table(index="imbalance", columns="class", values="accuracy", sort=False)
    images = rows.pivot_table(index="imbalance", columns="class", values="images", sort=False).astype(int)
    lines = [f"| imbalance | {' | '.join(means)} |", "|---" * (len(means.columns) + 1) + "|"]
    for imbalance, accuracy in means.iterrows():
        cells = (f"{accuracy[c]:.0%} ({images.loc[imbalance, c]})" for c in means)
        lines.append(f"| {imbalance} | {' | '.join(cells)} |")
    return "\n".join(["Accuracy, in brackets the training images, mean over seeds:", "", *lines])


TABLES = {"imbalance": imbalance_table}


def answers() -> str:
    """The text of answers.md."""
    said = pd.read_csv(SAID, dtype=str)
    parts = [HEAD]
    for number, path in NOTEBOOKS.items():
        title = read(number).cells[0].source.partition("\n")[0].removeprefix("# ")
        parts += [f"## {title}", f"[{path.name}](../../notebooks/{path.name})", "### Predict and Guess"]
        parts.append("\n".join(f"- {question}\n  **{answer}**" for question, answer in predictions(number)))
        for play in (p for p in plays() if p["notebook"] == number):
            parts.append(f"### {play['heading']}")
            pairs = zip(questions(number, play["heading"]), play["answers"], strict=True)
            parts.append("\n".join(f"{n}. {asked}\n   **{told}**" for n, (asked, told) in enumerate(pairs, start=1)))
            if play["table"]:
                parts.append(TABLES[play["table"]]())
            here = said[(said["notebook"] == number) & (said["heading"] == play["heading"])]
            lines = [f"- `{line['setting']}`: {line['said']}" for _, line in here.iterrows()]
            parts.append("\n".join(["The explorer says:", "", *lines]))
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    if sys.argv[1:2] == ["measure"]:
        measure_all(sys.argv[2:] or list(NOTEBOOKS))
    (FOLDER / "answers.md").write_text(answers(), encoding="utf-8")
    rewrite(FOLDER / "notebooks.md", BEGIN, END, goals())
