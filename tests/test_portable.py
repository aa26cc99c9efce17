"""What keeps ltlab running on Windows: encodings, names of files, and processes that are spawned, not forked."""

import ast
import io
import json
import multiprocessing
import re
import sys
from dataclasses import replace
from functools import cache
from itertools import groupby
from pathlib import Path

import pytest
import torch
from IPython.core.inputtransformer2 import TransformerManager
from PIL import Image

from ltlab import cli, results, train
from ltlab.data import load
from ltlab.recipes import RECIPES, SHAPES, Recipe, Stage

ROOT = Path(__file__).parents[1]
FOLDERS = ("benchmarks", "data", "docs", "ltlab", "notebooks", "tests")
MADE = {"__pycache__", ".ipynb_checkpoints", "_build", "downloads", "runs", "screenshots"}  # by tools, not committed
REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)

# names that Python lacks on Windows, or that work otherwise there
POSIX_MODULES = {"fcntl", "grp", "pwd", "pty", "resource", "termios"}
POSIX_NAMES = {"fork", "forkpty", "geteuid", "getpgid", "getuid", "killpg", "mkfifo", "setsid", "sched_getaffinity",
               "uname", "SIGKILL", "SIGHUP", "SIGXFSZ"}  # fmt: skip
POSIX_ARGUMENTS = {"shell", "start_new_session", "preexec_fn", "pass_fds"}
POSIX_PLACES = ("/tmp", "/dev/", "/home/", "/usr/", "/var/")
FOR_USERS = ("docs", "ltlab", "notebooks")  # tests and benchmarks may have parts for POSIX alone


def committed() -> list[Path]:
    """Files and folders of the repository, relative to it."""
    paths = [path.relative_to(ROOT) for folder in FOLDERS for path in (ROOT / folder).rglob("*")]
    return [path for path in paths if not MADE & set(path.parts)]


@cache
def sources() -> list[tuple[Path, ast.Module]]:
    """All Python there is, notebooks' cells included."""
    return [(path, ast.parse(python(ROOT / path))) for path in committed() if path.suffix in (".py", ".ipynb")]


def python(path: Path) -> str:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    return "\n".join(TransformerManager().transform_cell("".join(cell["source"])) for cell in cells)


def opens_text_without_encoding(node: ast.AST) -> bool:
    """Path.read_text, Path.write_text, open and Path.open in a text mode, which need encoding=...

    Without it Windows takes the code page of its region.
    """
    if not isinstance(node, ast.Call) or any(keyword.arg == "encoding" for keyword in node.keywords):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)
    if name == "read_text":
        return not node.args
    if name == "write_text":
        return len(node.args) < 2
    if name != "open":
        return False
    place = 0 if isinstance(node.func, ast.Attribute) else 1  # of the mode; others' open take something else there
    modes = [*node.args[place:], *(keyword.value for keyword in node.keywords if keyword.arg == "mode")]
    if not modes:
        return not node.args or place == 1
    mode = modes[0].value if isinstance(modes[0], ast.Constant) else None
    return isinstance(mode, str) and set(mode) <= set("rwaxt+")


def is_posix(node: ast.AST) -> bool:
    """What Windows does not have."""
    if isinstance(node, ast.Import):
        return any(alias.name in POSIX_MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return node.level == 0 and node.module in POSIX_MODULES
    if isinstance(node, ast.Attribute):
        return node.attr in POSIX_NAMES
    if isinstance(node, ast.keyword):
        return node.arg in POSIX_ARGUMENTS
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        started = node.func.attr in ("get_context", "set_start_method")
        return started and any(isinstance(arg, ast.Constant) and arg.value == "fork" for arg in node.args)
    return isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith(POSIX_PLACES)


def found(rule, *parts: str) -> list[str]:
    """Where the sources in these folders break a rule."""
    return [
        f"{path}, line {node.lineno}" for path, tree in sources() if path.parts[0] in parts
        for node in ast.walk(tree) if rule(node)
    ]  # fmt: skip


def test_text_is_read_and_written_in_a_named_encoding():
    assert found(opens_text_without_encoding, *FOLDERS) == []


def test_nothing_that_users_run_needs_a_posix_system():
    assert found(is_posix, *FOR_USERS) == []


BREAKING = {
    opens_text_without_encoding: [
        "p.read_text()", "p.write_text(x)", "open(p)", "open(p, 'w')", "p.open()", "p.open('a')", "p.open(mode='w')",
    ],
    is_posix: [
        "import fcntl", "from pwd import getpwnam", "os.fork()", "signal.SIGKILL", "run(c, shell=True)",
        "Path('/tmp/x')", "multiprocessing.get_context('fork')",
    ],
}  # fmt: skip
KEEPING = {
    opens_text_without_encoding: [
        "p.read_text(encoding='utf-8')", "p.write_text(x, encoding=e)", "open(p, 'rb')", "p.open('wb')",
        "Image.open(p)", "tarfile.open(fileobj=f, mode='w:gz')", "lab.open('a.ipynb')",
    ],
    is_posix: [
        "import os", "from .resource import x", "os.kill(1, signal.SIGTERM)", "run(c)", "a / 'tmp'",
        "multiprocessing.get_context('spawn')",
    ],
}  # fmt: skip


@pytest.mark.parametrize("rule", BREAKING)
def test_the_scans_see(rule):
    for code in BREAKING[rule]:
        assert any(map(rule, ast.walk(ast.parse(code)))), code
    for code in KEEPING[rule]:
        assert not any(map(rule, ast.walk(ast.parse(code)))), code


def test_names_of_files_are_allowed_and_differ_in_more_than_case():
    paths = committed()
    assert len(paths) > 100
    assert [str(path) for path in paths if REFUSED.search(path.name)] == []
    lower = sorted(path.as_posix().lower() for path in paths)
    assert [name for name, same in groupby(lower) if len(list(same)) > 1] == []
    assert REFUSED.search("a:b") and REFUSED.search("end.") and REFUSED.search("Aux.py") and not REFUSED.search("a.b")


def test_scripts_that_may_start_processes_begin_nothing_when_imported():
    """A spawned process imports the script it comes from."""
    for path, tree in sources():
        if path.parts[0] == "benchmarks" and path.name != "turns.py":  # which holds a function and no more
            last = tree.body[-1]
            assert isinstance(last, ast.If) and ast.unparse(last.test) == "__name__ == '__main__'", path


def test_a_recipe_s_name_makes_a_file_s_name(tmp_path, monkeypatch):
    """The checkpoint of an unfinished run, whatever the recipe is called."""
    assert not any(REFUSED.search(f"{name}-seed0.pt") for name in RECIPES)
    written = []
    monkeypatch.setattr(results.comparison, "clear", written.append)
    recipe = Recipe(Stage(), name='w/o mixup: "a|b"?', protocol=SHAPES)
    rows = results.compare([recipe], tiny, 1, folder=tmp_path, epochs=1, device="cpu", progress=False)
    assert rows["recipe"].tolist() == [recipe.name]
    assert [path.parent for path in written] == [tmp_path] and not REFUSED.search(written[0].name)
    assert {path.name for path in tmp_path.iterdir()} == {"runs.csv", written[0].name, f"{written[0].stem}.csv"}


def test_the_command_line_prints_into_files_of_any_encoding(monkeypatch):
    said = io.BytesIO()
    monkeypatch.setattr(sys, "argv", ["ltlab", "recipes", "ce"])
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(said, encoding="cp850"))  # which has no long dash
    with pytest.raises(SystemExit) as end:
        cli.main()
    sys.stdout.flush()
    assert not end.value.code and b"recipe 'ce'" in said.getvalue() and "—" in repr(RECIPES["ce"])


def tiny(seed: int):
    return load("shapes-lt", imbalance=10, max_count=12, test_count=2, seed=seed)


@pytest.fixture
def spawn():
    """Processes are spawned, as on Windows and macOS: they get what they work on pickled."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    yield
    multiprocessing.set_start_method(before, force=True)


@pytest.mark.slow
@pytest.mark.usefixtures("spawn")
def test_training_on_a_folder_with_workers_that_are_spawned(tmp_path):
    generator = torch.Generator().manual_seed(0)
    for part in ("train", "test"):
        for name in ("emu", "owl"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(3):
                pixels = torch.randint(256, (40, 32, 3), generator=generator, dtype=torch.uint8)
                Image.fromarray(pixels.numpy()).save(tmp_path / part / name / f"{i}.png")
    spawned, here = (load(str(tmp_path), imbalance=None, stream=True, size=32, workers=n) for n in (1, 0))
    spawned = replace(spawned, test=here.test)  # one process to wait for is enough
    recipe = Recipe(Stage(epochs=1), protocol=SHAPES)
    theirs, ours = (train.fit(recipe, data, device="cpu", progress=False) for data in (spawned, here))
    assert torch.equal(theirs.logits, ours.logits)
    assert theirs.history["train_loss"].tolist() == ours.history["train_loss"].tolist()
