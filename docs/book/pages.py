"""Notebooks and README as pages of the book: nothing from elsewhere, a text for every picture, figures that move."""

import ast
import inspect
import re
from collections.abc import Mapping
from itertools import zip_longest

from nbformat import NotebookNode
from nbformat.v4 import new_output

from ltlab import plots

BADGE = re.compile(r"\[!\[([^\]]*)\]\(https?://[^)]*\)\]\((https?://[^)]*)\)")
SENTENCE_END = re.compile(r"(?<=[.!?:])\s+(?=[A-Z])")


def without_badges(markdown: str) -> str:
    """Badges, which are pictures on somebody's server, as plain links."""
    return BADGE.sub(r"[\1](\2)", markdown)


def with_attachments(markdown: str, attachments: Mapping[str, Mapping[str, str]]) -> str:
    """Pictures that a cell carries along, {name: {kind: base64}}, written out in its text."""
    for name, picture in attachments.items():
        ((kind, content),) = picture.items()
        markdown = markdown.replace(f"attachment:{name}", f"data:{kind};base64,{content}")
    return markdown


def prepare(notebook: NotebookNode, moving: Mapping[str, str]) -> None:
    """Change an executed notebook in place into what the book shows.

    Args:
        notebook: with its outputs.
        moving: name of an explorer's maker -> HTML that takes the place of its picture.

    Raises:
        ValueError: no cell shows the explorer of one of the makers, or a picture for which no text can be found.
    """
    left = dict(moving)
    for cell, following in zip_longest(notebook.cells, notebook.cells[1:]):
        if cell.cell_type == "markdown":
            cell.source = with_attachments(without_badges(cell.source), cell.get("attachments", {}))
            continue
        if "%pip install" in cell.source:  # it prepares Colab
            cell.metadata.setdefault("tags", []).append("remove-cell")
        pictures = [output for output in cell.outputs if "image/png" in output.get("data", {})]
        if not pictures:
            continue
        maker = next((maker for maker in left if f"{maker}(" in cell.source), None)
        if maker:
            shown = new_output("display_data", {"text/html": left.pop(maker)})
            cell.outputs = [shown if output is pictures[-1] else output for output in cell.outputs]
        else:
            cell.metadata["mystnb"] = {"image": {"alt": alt_text(cell, pictures, following)}}
    if left:
        raise ValueError(f"no cell shows the explorer of {', '.join(left)}: bring MOVING in moving.py up to date")


def alt_text(cell: NotebookNode, pictures: list[NotebookNode], following: NotebookNode | None) -> str:
    """What a cell's pictures show: an explorer's own summary, what the drawing functions say that they draw, or the
    first sentence under the picture."""
    summary = pictures[-1].data["text/plain"]
    if not summary.startswith("<"):  # a figure's representation is its type and size
        return summary
    drawn = [inspect.getdoc(getattr(plots, name)).partition("\n\n")[0] for name in drawing_functions(cell.source)]
    if drawn:
        return " ".join(" ".join(drawn).replace("`", "").split())
    if following is None or following.cell_type != "markdown":
        raise ValueError(f"no words for the picture of this cell; let a sentence follow it:\n{cell.source}")
    return SENTENCE_END.split(re.sub(r"[*`$]", "", following.source).replace("\n", " "))[0]


def drawing_functions(source: str) -> list[str]:
    """The functions of `ltlab.plots` that a cell calls, in their order; IPython's own lines are left out."""
    tree = ast.parse("\n".join(line for line in source.splitlines() if not line.lstrip().startswith(("%", "!"))))
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [f.attr for f in calls if isinstance(f, ast.Attribute) and getattr(f.value, "id", "") == "plots"]
