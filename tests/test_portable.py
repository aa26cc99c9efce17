"""What keeps ltlab running on Windows: names of files, and processes that are spawned, not forked.

ruff finds text without an encoding and what only POSIX has, see pyproject.toml.
"""

import io
import multiprocessing
import re
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image

from ltlab import cli, results, train
from ltlab.data import load
from ltlab.recipes import RECIPES, SHAPES, Recipe, Stage

REFUSED = re.compile(r'[<>:"/\\|?*\x00-\x1f]|[. ]$|^(con|prn|aux|nul|com\d|lpt\d)(\.|$)', re.IGNORECASE)


def test_a_recipe_s_name_makes_a_file_s_name(tmp_path, monkeypatch):
    """The checkpoint of an unfinished run, whatever the recipe is called."""
    assert not any(REFUSED.search(f"{name}-seed0.pt") for name in RECIPES)
    written = []
    monkeypatch.setattr(results.comparison, "clear", written.append)
    recipe = Recipe(Stage(), name='w/o mixup: "a|b"?', settings=SHAPES)
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
    recipe = Recipe(Stage(epochs=1), settings=SHAPES)
    theirs, ours = (train.fit(recipe, data, device="cpu", progress=False) for data in (spawned, here))
    assert torch.equal(theirs.logits, ours.logits)
    assert theirs.history["train_loss"].tolist() == ours.history["train_loss"].tolist()
