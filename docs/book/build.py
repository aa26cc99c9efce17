"""Build the book: python docs/book/build.py FOLDER

The pages are the executed notebooks, the README and the package's docstrings. They are written to a temporary folder
and Sphinx makes the site of them; what still moves in it is drawn first (see moving.py).
"""

import shutil
import sys
import tempfile
from importlib import import_module
from pathlib import Path

import nbformat
from moving import MOVING, draw
from pages import prepare, without_badges
from sphinx.cmd.build import build_main

BOOK = Path(__file__).parent
ROOT = BOOK.parents[1]
ROOMS = (  # along the training step, then what is believed and shown of it
    "data", "samplers", "cam", "mixup", "models", "classifiers", "losses", "recipes", "train", "metrics",
    "calibration", "detection", "results", "plots", "reporting", "widgets", "course", "testing",
)  # fmt: skip

TEXTS = (
    "README.md", "CONTRIBUTING.md", "CITATION.cff", "LICENSE", "LICENSE-TEXT", "docs/your_own.md", "docs/report.md",
    "docs/detection.md", "docs/guides.md", "docs/faq.md", "docs/scaling.md", "notebooks/notation.md",
)  # fmt: skip


def build(site: Path) -> int:
    """Build the book into a folder, made if it is not there; Sphinx's exit status."""
    with tempfile.TemporaryDirectory() as temporary:
        source = Path(temporary) / "source"
        write_pages(source, site)
        print("the pages are written; Sphinx makes the site of them", flush=True)
        pages = Path(temporary) / "site"  # MyST-NB leaves a folder next to it
        status = build_main(["-b", "html", "-q", "-c", str(BOOK), "-d", f"{temporary}/trees", str(source), str(pages)])
        shutil.copytree(pages, site, dirs_exist_ok=True)
        return status


def write_pages(source: Path, site: Path) -> None:
    """Everything that Sphinx reads into `source`, the frames of moving figures into `site`."""
    shutil.copytree(ROOT / "docs" / "figures", source / "docs" / "figures")
    (source / "notebooks" / "solutions").mkdir(parents=True)
    shutil.copytree(
        ROOT / "docs" / "teaching", source / "docs" / "teaching", ignore=shutil.ignore_patterns("*.csv", "*.toml")
    )
    for name in TEXTS:
        (source / name).write_text(without_badges(_read(ROOT / name)), encoding="utf-8")
    shutil.copy(BOOK / "index.md", source)
    write_api(source / "api")
    for path in sorted((ROOT / "notebooks").rglob("*.ipynb")):
        inside = path.relative_to(ROOT)
        if inside.parent.name in ("notebooks", "solutions"):
            write_notebook(path, source / inside, site)


def write_api(folder: Path) -> None:
    """A page for each room of the package, made of its docstrings."""
    folder.mkdir(parents=True)
    for number, room in enumerate(ROOMS):
        title = f"ltlab.{room}"
        page = f"{title}\n{'=' * len(title)}\n\n.. automodule:: {title}\n"
        if hasattr(import_module(title), "__all__"):  # a folder shows what its files give out
            page += "   :imported-members:\n"
        (folder / f"{number:02}_{room}.rst").write_text(page, encoding="utf-8")


def write_notebook(path: Path, page: Path, site: Path) -> None:
    """One notebook as a page; solutions have no explorers, so nothing of theirs moves."""
    print(path.relative_to(ROOT), flush=True)  # all of them take minutes
    notebook = nbformat.read(path, as_version=4)
    figures: dict[str, str] = {}
    for moving in MOVING if path.parent.name == "notebooks" else ():
        if moving.notebook == path.stem:
            explorer = moving.make()
            if not moving.trained:
                check_shown(notebook, explorer.summary, path)
            figures[moving.maker] = figures.get(moving.maker, "") + draw(moving, explorer, site)
    prepare(notebook, figures)
    nbformat.write(notebook, page)


def check_shown(notebook: nbformat.NotebookNode, summary: str, path: Path) -> None:
    """ValueError unless the notebook shows an explorer with this summary: the book's is to be the notebook's own."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    if not any(output.get("data", {}).get("text/plain", "").startswith(summary) for output in outputs):
        raise ValueError(
            f"{path.name} shows no explorer that says {summary!r}: bring MOVING in moving.py up to date, "
            f"or execute the notebook again with notebooks/execute.py"
        )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


if __name__ == "__main__":
    sys.exit(build(Path(sys.argv[1])))
