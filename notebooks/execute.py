"""Execute notebooks in place; keep outputs and pictures, which read well on a code host.

uv run python notebooks/execute.py                        # all of them
uv run python notebooks/execute.py 01_the_long_tail.ipynb solutions/01_the_long_tail.ipynb
"""

import os
import re
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
WIDGET = "application/vnd.jupyter.widget-view+json"


def execute(path: Path) -> None:
    """Run all cells in a fresh kernel in the notebook's folder; an error keeps the file.

    On one thread: with another number the same seed rounds differently, and ends elsewhere.
    """
    notebook = nbformat.read(path, as_version=4)
    resources = {"metadata": {"path": FOLDER}}
    one_thread = os.environ | {"OMP_NUM_THREADS": "1"}  # as data/results was measured
    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources=resources,
        coalesce_streams=True,
    )
    client.execute(env=one_thread)
    strip(notebook)
    nbformat.write(notebook, path)


def strip(notebook: nbformat.NotebookNode) -> None:
    """Drop widget state and views: a view without its state is an error, its picture stays.

    Also bars of progress, and what would make every execution a change: times, the version.
    """
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(WIDGET, None)
            if "text" in output:  # a line begins anew after \r
                output["text"] = re.sub(r"[^\n]*\r", "", output["text"])
        if "outputs" in cell:
            cell["outputs"] = [o for o in cell["outputs"] if o.get("text", "…").strip()]


if __name__ == "__main__":
    everything = [
        *sorted(FOLDER.glob("*.ipynb")),
        *sorted(FOLDER.glob("solutions/*.ipynb")),
    ]
    for path in [FOLDER / name for name in sys.argv[1:]] or everything:
        execute(path)
        print(f"{path.relative_to(FOLDER)}: {path.stat().st_size / 1000:.0f} kB")
