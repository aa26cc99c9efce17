"""The house: who may import whom, and what `import ltlab` costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "ltlab"

# what a room may import of ltlab; a room that is not here may import everything that stands above it
MAY_IMPORT = {
    "names": set(),
    "samplers": set(),
    "losses": set(),
    "mixup": set(),
    "cam": set(),
    "metrics": set(),
    "plots": set(),
    "data": {"names"},
    "classifiers": {"losses", "cam"},
    "models": {"names", "classifiers"},
    "recipes": {"names", "samplers", "losses", "mixup", "cam", "classifiers"},
    "train": {"names", "cam", "samplers", "losses", "metrics", "data", "models", "recipes"},
    "results": {"names", "data", "train", "recipes", "metrics"},
    "widgets": {"plots", "data", "metrics", "samplers", "losses", "mixup", "cam", "classifiers", "recipes"},
}
ONLY_IN = {"ipywidgets": {"widgets"}, "matplotlib": {"plots", "widgets", "cli"}, "seaborn": {"plots"},
           "jupyterlab": {"cli"}, "typer": {"cli"}}  # fmt: skip
NOT_IN = {"plots": {"torch", "torchvision"}, "samplers": {"torchvision"}, "losses": {"torchvision"},
          "mixup": {"torchvision"}, "cam": {"torchvision"},
          "metrics": {"torchvision"}, "recipes": {"torchvision"}, "classifiers": {"torchvision"}}  # fmt: skip


def rooms() -> dict[str, list[Path]]:
    files = {p.stem: [p] for p in PACKAGE.glob("*.py") if p.stem != "__init__"}
    return files | {p.parent.name: sorted(p.parent.glob("*.py")) for p in PACKAGE.glob("*/__init__.py")}


def imports(room: str) -> tuple[set[str], set[str]]:
    """Rooms of ltlab and packages from outside that a room imports, anywhere in its files."""
    inside, outside = set(), set()
    for path in rooms()[room]:
        depth = len(path.relative_to(PACKAGE).parts)  # 1: a file of ltlab, 2: a file of a folder
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                outside |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == depth:
                inside |= {node.module.partition(".")[0]} if node.module else {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                outside.add(node.module.partition(".")[0])
    return inside, outside


@pytest.mark.parametrize("room", rooms())
def test_rooms_import_only_what_stands_below_them(room):
    inside, outside = imports(room)
    if room in MAY_IMPORT:
        assert inside <= MAY_IMPORT[room] | {"__version__"}
    assert "ltlab" not in outside, "rooms import each other relatively, so that this test sees it"
    assert not outside & NOT_IN.get(room, set())
    for package, allowed in ONLY_IN.items():
        assert package not in outside or room in allowed


def test_the_scan_sees_imports():
    """The test above could not fail if the scan were blind."""
    inside, outside = imports("train")
    assert {"recipes", "samplers", "data"} <= inside and {"torch", "tqdm"} <= outside


def test_import_ltlab_is_light():
    code = "import sys, ltlab; print(*{'matplotlib', 'ipywidgets', 'jupyterlab', 'torchvision'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_training_needs_neither_matplotlib_nor_jupyter():
    code = (
        "import sys, ltlab.train, ltlab.data, ltlab.results\n"
        "print(*{'matplotlib', 'ipywidgets', 'jupyterlab', 'seaborn'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


@pytest.mark.slow
def test_import_ltlab_adds_little_to_import_torch():
    """At most 0.3 s; the median of five, each in a fresh interpreter that has torch already."""
    code = "import time, torch; t = time.perf_counter(); import ltlab; print(time.perf_counter() - t)"
    seconds = sorted(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(5)
    )
    assert seconds[2] <= 0.3
