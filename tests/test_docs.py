"""The README's figures and table are those of the rows in data/results, and what the pages show runs."""

import re
import shutil
import sys
from pathlib import Path

import matplotlib
import PIL.Image
import pytest
import torch
from torch.nn import functional as F

from ltlab.losses import BalancedSoftmaxLoss
from ltlab.recipes import OneCycle
from ltlab.results import read_rows

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def figures():
    sys.path.insert(0, str(ROOT / "docs"))
    try:
        import figures
    finally:
        sys.path.pop(0)
    return figures


def test_the_table_in_the_readme_is_made_of_the_rows(figures):
    _, _, rest = README.partition(figures.BEGIN)
    table, end, _ = rest.partition(figures.END)
    assert end and table.strip() == figures.table(), "run: uv run python docs/figures.py"


def test_rewriting_replaces_what_stands_between_the_marks_alone(figures, tmp_path):
    page = tmp_path / "README.md"
    page.write_text("before\n<!-- a -->\nold\n<!-- b -->\nafter\n", encoding="utf-8")
    figures.rewrite(page, "<!-- a -->", "<!-- b -->", "new")
    assert page.read_text(encoding="utf-8") == "before\n<!-- a -->\n\nnew\n\n<!-- b -->\nafter\n"
    page.write_text("no marks", encoding="utf-8")
    with pytest.raises(SystemExit, match="lacks the marks <!-- a --> and <!-- b -->"):
        figures.rewrite(page, "<!-- a -->", "<!-- b -->", "new")


def test_the_figures_are_drawn_and_of_the_size_of_those_in_the_repository(figures, tmp_path):
    matplotlib.use("agg")
    figures.draw(tmp_path)
    for path in tmp_path.iterdir():
        assert f"docs/figures/{path.name}" in README
        committed = PIL.Image.open(ROOT / "docs" / "figures" / path.name)
        assert PIL.Image.open(path).size == committed.size
    assert len(list(tmp_path.iterdir())) == 2


def test_the_shown_recipes_have_five_seeds_and_the_final_one_is_fifteen_points_better_than_plain_training(figures):
    table = figures.ours()
    assert (table["seeds"] >= 5).all()
    assert table.loc["ce", "error"] - table.loc["bag_of_tricks", "error"] > 15


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]


def prose(page: Path) -> str:
    return re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    """The headings of a page, as links name them."""
    headings = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_links_to_files_and_headings_that_are_there(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if not link.startswith("http"):
            file, _, anchor = link.partition("#")
            target = page.parent / file if file else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


# --- docs/your_own.md ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def your_own(tmp_path_factory):
    """The names that the page's snippets leave, executed in their order in a folder with the images that they read."""
    folder = tmp_path_factory.mktemp("your_own")
    for part in ("train", "test"):
        lines = []
        for label, (name, count) in enumerate({"kiwi": 6, "owl": 3}.items()):
            (folder / "birds" / part / name).mkdir(parents=True)
            for i in range(count):
                PIL.Image.new("RGB", (36, 40), (9 * i, label, 0)).save(folder / "birds" / part / name / f"{i}.png")
                lines.append(f"{part}/{name}/{i}.png {label}\n")
        (folder / f"{part}.txt").write_text("".join(lines), encoding="utf-8")
    (folder / "data").mkdir()
    shutil.copytree(ROOT / "data" / "results", folder / "data" / "results")
    page = (ROOT / "docs" / "your_own.md").read_text(encoding="utf-8")
    names = {"__name__": "your_own"}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, snippet in enumerate(re.findall(r"```python\n(.*?)```", page, re.DOTALL), start=1):
            exec(compile(snippet, f"snippet {number} of docs/your_own.md", "exec"), names)
    assert number == page.count("```") / 2 == page.count("\n## ") + 1, "a snippet for every section, in Python"
    return names


def test_the_page_s_loss_is_balanced_softmax_and_its_state_is_in_the_checkpoint(your_own):
    counts, logits = torch.tensor([5, 3, 1]), torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    loss, targets = your_own["SeenLoss"](counts), torch.tensor([0, 1, 1, 2])
    seen = counts + torch.bincount(targets)
    torch.testing.assert_close(loss(logits, targets), BalancedSoftmaxLoss(seen)(logits, targets))
    soft = F.one_hot(targets, 3).float()
    torch.testing.assert_close(loss(logits, soft), BalancedSoftmaxLoss(seen + soft.sum(0))(logits, targets))
    assert list(loss.state_dict()) == ["seen"] and counts.tolist() == [5, 3, 1]


def test_the_page_s_mix_has_boxes_of_the_share_that_the_targets_say(your_own):
    images = torch.arange(8.0).reshape(8, 1, 1, 1).expand(8, 3, 16, 16)
    generator = torch.Generator().manual_seed(1)
    for _ in range(20):
        mixed, targets = your_own["CutMix"]()(
            lambda x: x.flatten(1), images, torch.arange(8), class_counts=torch.ones(8), generator=generator
        )
        own = (mixed.reshape(8, 3, 16, 16) == images).all(1).float().mean((1, 2))
        assert torch.allclose(targets.diagonal()[own < 1], own[own < 1]) and torch.allclose(
            targets.sum(1), torch.ones(8)
        )


def test_the_page_s_schedule_is_the_one_that_it_names(your_own):
    for t in (0, 0.3, 1, 1.9):
        assert your_own["Cosine"](lr=0.1)(t, 2) == pytest.approx(OneCycle(lr=0.1, rise=0)(t, 2))


def test_the_page_reads_images_in_every_way(your_own):
    assert your_own["digits"].class_counts.tolist() == [30, 9, 3] and your_own["digits"].side == 28
    assert your_own["birds"].class_counts.tolist() == your_own["listed"].class_counts.tolist() == [6, 3]
    assert your_own["birds"].class_names == your_own["listed"].class_names == ("kiwi", "owl")
    assert your_own["birds"].train.images.shape == your_own["listed"].train.images.shape == (9, 3, 32, 32)


def test_the_page_keeps_the_features_of_its_network(your_own):
    frozen = your_own["frozen"]
    assert frozen.train.images.shape == (len(your_own["shapes"].train), 64, 1, 1) and frozen.class_counts.sum() == 240


def test_the_page_loops_over_images_on_disk(your_own):
    read, batch, targets = (your_own[name] for name in ("read", "batch", "targets"))
    assert batch.shape == (1, 3, 32, 32) and len(your_own["logits"]) == 1  # the last batch of nine images in fours
    assert torch.equal(targets, your_own["listed"].train.labels[read])


def test_the_page_compares_with_the_row_that_is_there(your_own):
    rows, shipped = your_own["rows"].set_index("recipe"), read_rows(ROOT / "data" / "results" / "shapes-lt.csv")
    (there,) = shipped[(shipped["recipe"] == "ce") & (shipped["seed"] == 0)].to_dict("records")
    assert rows.index.tolist() == ["ce", "quick"] and rows["epochs"].tolist() == [30, 1]
    assert rows.loc["ce", "date"] == there["date"] and rows.loc["ce", "top1_error"] == there["top1_error"]


def test_the_page_s_search_ends_and_its_model_names_classes(your_own):
    assert your_own["found"].finished and set(your_own["found"].test["epochs"]) == {1}
    assert your_own["model"].class_names == your_own["shapes"].class_names
