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
    "images": set(),  # how a network is shown them in evaluation, wherever one looks
    "counts": set(),  # how counts, labels and numbers are read, by torch alone: one way for every room
    "samplers": {"counts"},
    "losses": {"counts"},
    "mixup": {"counts"},
    "cam": {"counts"},
    "metrics": {"counts"},
    "plots": set(),
    "data": {"names", "counts"},
    "classifiers": {"counts", "images", "losses", "cam"},
    "models": {"names", "classifiers"},
    "recipes": {"names", "counts", "samplers", "losses", "mixup", "cam", "classifiers"},
    "train": {"names", "counts", "images", "cam", "samplers", "losses", "metrics", "data", "models", "recipes"},
    "results": {"names", "counts", "data", "train", "recipes", "metrics"},
    "widgets": {"plots", "counts", "data", "metrics", "samplers", "losses", "mixup", "cam", "classifiers", "recipes",
                "results"},
}  # fmt: skip
ONLY_IN = {"ipywidgets": {"widgets"}, "matplotlib": {"plots", "widgets", "cli"}, "seaborn": {"plots"},
           "jupyterlab": {"cli"}, "typer": {"cli"}}  # fmt: skip
NOT_IN = {"plots": {"torch", "torchvision"}, "counts": {"numpy", "pandas", "torchvision"},
          "samplers": {"torchvision"}, "losses": {"torchvision"}, "mixup": {"torchvision"}, "cam": {"torchvision"},
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


def printed(code: str) -> list[str]:
    """Lines that a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")


def test_import_ltlab_is_light():
    """At most 0.3 s of the processor on top of torch, and nothing for pictures, notebooks or images."""
    seconds, heavy, _ = printed(
        "import sys, time, torch; start = time.process_time(); import ltlab; print(time.process_time() - start)\n"
        "print(*{'matplotlib', 'ipywidgets', 'jupyterlab', 'torchvision'} & set(sys.modules))"
    )
    assert float(seconds) <= 0.3 and heavy == ""


def test_training_and_checks_need_neither_matplotlib_nor_jupyter_and_one_process_no_fabric():
    processes, heavy, _ = printed(
        "import sys, torch, ltlab.train, ltlab.data, ltlab.results, ltlab.course\n"
        "from ltlab.train.processes import join\n"
        "print(join(torch.device('cpu'), devices=1, num_nodes=1, timeout=1.0).size)\n"
        "heavy = {'matplotlib', 'ipywidgets', 'jupyterlab', 'seaborn', 'lightning', 'lightning_fabric'}\n"
        "print(*heavy & set(sys.modules))"
    )
    assert processes == "1" and heavy == ""
