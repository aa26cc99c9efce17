"""The commands of a course: its notebooks, its book, and what a teacher takes from it."""

import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def lab(*arguments: str) -> None:
    """Open JupyterLab on the first notebook.

    The notebooks are your own copies, in my_notebooks. What is there stays;
    delete a file to get it as it came.

    Args:
        arguments: passed on to jupyter
    """
    from jupyterlab.labapp import LabApp

    notebooks = Path(__file__).parents[2] / "notebooks"
    if not notebooks.is_dir():
        raise FileNotFoundError(f"{notebooks} does not exist: clone the repository and run `uv run ltlab lab` in it")
    mine = _copied(notebooks, notebooks.parent / "my_notebooks")
    sys.argv = ["jupyter-lab"]  # the name in jupyter's own messages
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the kernels, as the texts were made
    settings = str(notebooks / ".jupyter")  # next to the learner's own: no question about news over the page
    os.environ["JUPYTER_CONFIG_PATH"] = os.pathsep.join(filter(None, (os.environ.get("JUPYTER_CONFIG_PATH"), settings)))
    first = "--LabApp.default_url=/lab/tree/00_start_here.ipynb"
    try:
        LabApp.launch_instance(argv=[f"--ServerApp.root_dir={mine}", first, *arguments])
    except SystemExit as stop:
        if stop.code and getattr(os, "geteuid", lambda: 1)() == 0 and "--allow-root" not in arguments:
            raise PermissionError("jupyter does not start for root: `ltlab lab --allow-root` makes it") from None
        raise


def _copied(notebooks: Path, mine: Path) -> Path:
    """Copy what is not there yet, so that a learner's work changes nothing that is committed."""
    for path in (*notebooks.glob("*.ipynb"), *notebooks.glob("*.md"), *notebooks.glob("solutions/*.ipynb")):
        copy = mine / path.relative_to(notebooks)
        if not copy.exists():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
    return mine


def book(*, output: Path | None = None) -> None:
    """Build the course as a static site, to be read without a kernel.

    Args:
        output: folder of the site; docs/_build is the default
    """
    script = Path(__file__).parents[2] / "docs" / "book" / "build.py"
    if not script.exists():
        raise FileNotFoundError(f"{script} does not exist: clone the repository and run `uv run ltlab book` in it")
    if not all(map(find_spec, ("myst_nb", "furo", "latex2mathml", "ziamath"))):
        raise ModuleNotFoundError("the book's own packages are missing: `uv sync`, or `pip install --group book`")
    site = output or script.parents[1] / "_build"
    site.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # as the notebooks were executed
    if status := subprocess.run([sys.executable, script, site], check=False).returncode:
        sys.exit(status)
    print(f"written to {site / 'index.html'}")


def slides(*notebook: str, output: Path | None = None) -> None:
    """Make slides of the notebooks, one file each, for a browser.

    Args:
        notebook: numbers, such as 02 05; all of them by default
        output: folder of the slides; docs/_build/slides is the default
    """
    script = Path(__file__).parents[2] / "docs" / "slides.py"
    if not script.exists():
        raise FileNotFoundError(f"{script} does not exist: clone the repository and run `uv run ltlab slides` in it")
    if not all(map(find_spec, ("markdown_it", "mdit_py_plugins", "latex2mathml", "sphinx_revealjs"))):
        raise ModuleNotFoundError("the slides' own packages are missing: `uv sync`, or `pip install --group book`")
    folder = output or script.parent / "_build" / "slides"
    if status := subprocess.run([sys.executable, script, folder, *notebook], check=False).returncode:
        sys.exit(status)


def quizzes(*notebook: str, format: str = "moodle", output: Path | None = None) -> None:
    """Export the quizzes for Moodle and other learning platforms.

    Args:
        notebook: numbers, such as 02 05; all of them by default
        format: moodle (its XML) or gift
        output: the file; ltlab-quizzes.xml or .gift is the default
    """
    from ..course import exports

    text = exports.export(format, notebook)
    path = output or Path(f"ltlab-quizzes{exports.ENDINGS[format]}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    print(f"written to {path}")


def assignments(folder: Path, /, *notebook: str, seed: int = 0) -> None:
    """Write the exercises as assignments for nbgrader.

    Args:
        folder: nbgrader's course folder; made if it is not there
        notebook: numbers, such as 02 05; all of them by default
        seed: draws the arguments of the tests; choose one and keep it to yourself
    """
    from ..course.assignments import write_assignments

    for path in write_assignments(folder, seed, notebook):
        print(f"written to {path}")
