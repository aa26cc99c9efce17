"""The package's docstrings as reStructuredText: they are written to be read in an editor."""

import re
from itertools import groupby
from typing import Any

from sphinx.application import Sphinx

BEFORE_NAPOLEON = 400  # it listens at 500, and turns sections such as "Args:" into lists
CODE = re.compile(r"(`[^`]*`)")
COLUMNS = re.compile(r"\S {2,}\S")  # words set below one another with spaces


def as_rest(lines: list[str]) -> list[str]:
    """Tables and columns as tables, indented paragraphs word for word; in other text `*`, `_` and `|` mean nothing.

    A formula or an example is a paragraph that is indented under one at the margin. What is indented right after a
    line, as under "Args:", is text.
    """
    rest, verbatim, last = [], False, ""
    for is_text, group in groupby(lines, key=bool):
        paragraph = list(group)
        if is_text:
            indented = paragraph[0][0] == " " and (verbatim or not last.startswith(" "))
            verbatim, last = indented, paragraph[-1]
            if indented:
                paragraph = ["::", "", *(f"    {line}" for line in paragraph)]
            elif paragraph[0][0] == "|":
                rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in paragraph]
                paragraph = _table([rows[0], *rows[2:]], header=True)  # without the line of dashes
            elif all(COLUMNS.search(line) for line in paragraph):
                paragraph = _table([re.split(r" {2,}", line, maxsplit=1) for line in paragraph])
            else:
                paragraph = [_plain(line) for line in paragraph]
        rest += paragraph
    return rest


def _table(rows: list[list[str]], *, header: bool = False) -> list[str]:
    lines = [".. list-table::", *(["    :header-rows: 1"] if header else []), ""]
    for first, *others in rows:
        lines += [f"    * - {_cell(first)}", *(f"      - {_cell(other)}" for other in others)]
    return lines


def _cell(text: str) -> str:
    """Plain text, in which a minus at the beginning makes no list."""
    return re.sub(r"^-", r"\\-", _plain(text))


def _plain(line: str) -> str:
    parts = CODE.split(line)
    parts[::2] = [re.sub(r"([*_|\\])", r"\\\1", part) for part in parts[::2]]
    return "".join(parts)


def _process(app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    lines[:] = as_rest(lines)


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", _process, priority=BEFORE_NAPOLEON)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
