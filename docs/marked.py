"""The part of a page that a command writes, between two marks."""

import sys
from pathlib import Path


def rewrite(page: Path, begin: str, end: str, text: str) -> None:
    """Put the text between the page's two marks; a page without them ends the program."""
    before, _, rest = page.read_text(encoding="utf-8").partition(begin)
    _, mark, after = rest.partition(end)
    if not mark:
        sys.exit(f"{page} lacks the marks {begin} and {end}")
    page.write_text(f"{before}{begin}\n\n{text}\n\n{end}{after}", encoding="utf-8")
