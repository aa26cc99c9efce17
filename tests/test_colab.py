"""Notebooks where Colab runs them: a Python that brings its own torch and has no ltlab yet."""

import ast
import json
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from IPython.core.inputtransformer2 import TransformerManager

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted([*(ROOT / "notebooks").glob("*.ipynb"), *(ROOT / "notebooks" / "solutions").glob("*.ipynb")])
MAGICS = [
    ["pip", "install --quiet --no-deps git+https://github.com/ltlab/ltlab"],  # --no-deps: torch stays as it is
    ["env", "OMP_NUM_THREADS=1"],  # as `ltlab lab` sets it
]
ALSO = {"notebooks/10_detection.ipynb": [["pip", "install --quiet faster-coco-eval"]]}  # which needs NumPy alone

# what Colab brings of the packages that ltlab's modules import as they are imported
ON_COLAB = {"torch", "torchvision", "numpy", "pandas", "matplotlib", "PIL", "seaborn", "tqdm", "ipywidgets",
            "IPython", "traitlets"}  # fmt: skip
ON_COLAB |= {"filelock", "nbformat"}  # torch and the notebooks need them

RUN_CELLS = """
import json, sys
sys.path[:0] = sys.argv[1:]
import google.colab
magics = []
class Shell:
    def run_line_magic(self, *magic):
        magics.append(magic)
for cell in json.load(sys.stdin):
    exec(cell, {"get_ipython": Shell})
assert "torch" not in sys.modules
print(json.dumps(magics))
"""


def first_code(path: Path) -> str:
    """The first code cell, as IPython hands it to Python."""
    cell = next(cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code")
    return TransformerManager().transform_cell(cell.source)


def bare_python(code: str, *folders: Path, stdin: str = "") -> subprocess.CompletedProcess:
    """Run code where nothing but the standard library and these folders can be imported."""
    command = [sys.executable, "-I", "-S", "-c", code, *map(str, folders)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True)


def stand_in(folder: Path, torch: str) -> Path:
    """A folder to import from, with `google.colab` and a torch of that version."""
    (folder / "google" / "colab").mkdir(parents=True)
    (folder / "torch").mkdir()
    for module in ("google/colab", "torch"):
        (folder / module / "__init__.py").write_text(f"__version__ = {torch!r}", encoding="utf-8")
    (folder / f"torch-{torch}.dist-info").mkdir()
    metadata = f"Metadata-Version: 2.1\nName: torch\nVersion: {torch}\n"
    (folder / f"torch-{torch}.dist-info" / "METADATA").write_text(metadata, encoding="utf-8")
    return folder


def magics(*folders: Path) -> list[list[str]]:
    """The magics that the first cells of all notebooks call, one after the other."""
    done = bare_python(RUN_CELLS, *folders, stdin=json.dumps([first_code(path) for path in NOTEBOOKS]))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_first_cells_install_ltlab_alone_and_train_on_one_thread_where_it_is_missing(tmp_path):
    assert len(NOTEBOOKS) == 24
    names = [path.relative_to(ROOT).as_posix() for path in NOTEBOOKS]
    expected = [magic for name in names for magic in (*ALSO.get(name, ()), *MAGICS)]
    assert magics(stand_in(tmp_path, "2.9.0+cu126")) == expected


def test_first_cells_do_nothing_where_ltlab_can_be_imported(tmp_path):
    assert magics(stand_in(tmp_path, "2.9.0+cu126"), ROOT) == []


@pytest.mark.parametrize("torch", ["2.9.0+cu126", "2.10.0a0+git1a2b3c4", "3.0.1"])
def test_ltlab_takes_the_torch_that_is_there(tmp_path, torch):
    code = "import sys; sys.path[:0] = sys.argv[1:]; import ltlab; assert 'torch' not in sys.modules"
    assert bare_python(code, stand_in(tmp_path, torch), ROOT).stderr == ""


@pytest.mark.parametrize("torch", ["2.8.1+cu126", "1.13.1"])
def test_a_torch_that_is_too_old_is_named_with_the_way_out(tmp_path, torch):
    code = "import sys; sys.path[:0] = sys.argv[1:]; from ltlab import data"
    said = bare_python(code, stand_in(tmp_path, torch), ROOT).stderr.splitlines()[-1]
    assert said.startswith("ImportError: ") and torch in said and "torch 2.9 or newer" in said
    assert "latest runtime version" in said and "pip install --upgrade torch torchvision" in said


def test_the_oldest_torch_is_the_one_that_is_required():
    import ltlab

    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    assert "torch>=" + ".".join(map(str, ltlab.OLDEST_TORCH)) in required


def test_modules_import_nothing_that_colab_does_not_bring():
    """Lightning Fabric and JupyterLab are imported where they are used, which `--no-deps` leaves out."""
    imported = set()
    for path in (ROOT / "ltlab").rglob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                imported.add(node.module.partition(".")[0])
    assert imported - set(sys.stdlib_module_names) <= ON_COLAB
    assert {"torch", "ipywidgets"} <= imported  # the scan is not blind
