"""The parts of a report: where photographs come from, what is found in them, the choice, the code, the page."""

import csv
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import FakeData, ImageFolder

from ltlab.data import load
from ltlab.losses import adjust_logits
from ltlab.recipes import SETTINGS
from ltlab.reporting import candidates, page
from ltlab.reporting.choice import choose, gains, image_weights, standard_errors
from ltlab.reporting.inspection import TURNS, inspect
from ltlab.reporting.loops import loop_code
from ltlab.reporting.sources import gather
from ltlab.reporting.trials import fold_of
from ltlab.samplers import class_probabilities


def photograph(path: Path, seed: int, size: tuple[int, int] = (12, 8), **options) -> Path:
    """A file of random pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of four and two training images, and one test image each."""
    for i in range(4):
        photograph(tmp_path / f"set/train/a/{i}.png", i)
    for i in range(2):
        photograph(tmp_path / f"set/train/b/{i}.png", 10 + i)
    for i, name in enumerate("ab"):
        photograph(tmp_path / f"set/test/{name}/0.png", 20 + i)
    return tmp_path / "set"


def found(inspected) -> dict[str, int]:
    return {each.kind: each.count for each in inspected.findings if each.kind != "note"}


def notes(inspected) -> str:
    return " ".join(each.text for each in inspected.findings if each.kind == "note")


# --- sources ----------------------------------------------------------------------------------------------------------


def counts_of(inspected) -> tuple[tuple[str, ...], list[int], int]:
    data = inspected.data
    return data.class_names, data.class_counts.tolist(), len(data.test) if inspected.has_test else 0


def test_every_form_of_the_same_photographs_gives_the_same_data(folder, tmp_path):
    reference = inspect(gather(folder))
    assert counts_of(reference) == (("a", "b"), [4, 2], 2)
    files = [(path, path.parent.name, path.parts[-3]) for path in sorted(folder.rglob("*.png"))]
    table = folder / "table.csv"
    with table.open("w", newline="") as lines:
        csv.writer(lines).writerows(
            [("Image", "Label", "Split"), *((p.relative_to(folder), c, s) for p, c, s in files)]
        )
    lists = {}
    for part in ("train", "test"):
        lists[part] = tmp_path / f"{part}.txt"
        rows = [f"{p.relative_to(folder)} {'ab'.index(c)}" for p, c, s in files if s == part]
        lists[part].write_text("\n".join(rows))
    folders = [ImageFolder(folder / part) for part in ("train", "test")]
    others = [gather(table), gather(lists["train"], lists["test"], folder), gather(*folders)]
    for other in map(inspect, others):
        assert counts_of(other) == counts_of(reference)
        for part in ("train", "test"):
            ours, theirs = getattr(reference.data, part), getattr(other.data, part)
            assert set(map(bytes_of, ours.images)) == set(map(bytes_of, theirs.images))


def bytes_of(image) -> bytes:
    return image.numpy().tobytes()


def test_a_flat_folder_has_no_test_set_and_val_is_one(folder):
    assert counts_of(inspect(gather(folder / "train"))) == (("a", "b"), [4, 2], 0)
    (folder / "test").rename(folder / "val")
    inspected = inspect(gather(folder))
    assert inspected.has_test and "val" in notes(inspected)


def test_arrays_of_strings_and_numbers(tmp_path):
    x = np.random.default_rng(0).integers(0, 255, (6, 5, 5), dtype=np.uint8)
    y = np.array(["owl", "owl", "owl", "asp", "asp", "asp"])
    np.savez(tmp_path / "a.npz", x_train=x, y_train=y)
    assert counts_of(inspect(gather(tmp_path / "a.npz"))) == (("asp", "owl"), [3, 3], 0)
    np.savez(tmp_path / "b.npz", x_train=x[:4], y_train=[1, 1, 0, 0], x_test=x[4:], y_test=[0, 1], classes=["c", "d"])
    assert counts_of(inspect(gather(tmp_path / "b.npz"))) == (("c", "d"), [2, 2], 2)


def test_pickled_objects_are_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "ran",))

    np.savez(tmp_path / "evil.npz", x_train=np.array([Evil()], dtype=object), y_train=[0])
    with pytest.raises(ValueError, match="pickled"):
        gather(tmp_path / "evil.npz")
    assert not (tmp_path / "ran").exists()


def test_a_data_set_of_pairs_and_a_set_of_ltlab():
    fake = FakeData(12, (3, 9, 7), num_classes=3, random_offset=1)
    names, counts, tests = counts_of(inspect(gather(fake)))
    assert sum(counts) == 12 and len(names) == 3 and tests == 0
    shapes = load("shapes-lt", max_count=8, test_count=2, imbalance=2)
    assert counts_of(inspect(gather(shapes)))[1:] == (shapes.class_counts.tolist(), len(shapes.test))


@pytest.mark.parametrize(
    ("lines", "word"),
    [
        ("path,label\nx.png,a\ny.png,b\n", "root"),
        ("a,b\n1,2\n", "path"),
        ("path,label\nx.png\n", "row 2"),
        ("path,label,split\nx.png,a,hold\n", "hold"),
        ("path,label\n", "names no image"),
    ],
)
def test_tables_that_cannot_be_read(tmp_path, lines, word):
    (tmp_path / "t.csv").write_text(lines)
    with pytest.raises((ValueError, FileNotFoundError), match=word):
        gather(tmp_path / "t.csv")


@pytest.mark.parametrize("source", ["nowhere", "nowhere.csv", "nowhere.npz", 3.5])
def test_what_is_not_there_or_not_data(source, tmp_path):
    with pytest.raises((ValueError, FileNotFoundError), match=r"nowhere|data="):
        gather(source if isinstance(source, float) else tmp_path / source)


def test_a_table_with_some_missing_files_names_them(folder):
    rows = [f"train/a/{i}.png,a" for i in range(5)] + ["train/b/0.png,b", "train/b/1.png,b"]
    (folder / "t.csv").write_text("path,label\n" + "\n".join(rows))
    inspected = inspect(gather(folder / "t.csv"))
    assert found(inspected)["unreadable"] == 1 and inspected.data.class_counts.tolist() == [4, 2]
    assert next(f for f in inspected.findings if f.kind == "unreadable").examples == [str(Path("train/a/4.png"))]


# --- inspection -------------------------------------------------------------------------------------------------------


def test_odd_photographs_are_read_and_counted(folder):
    a, image = folder / "train/a", Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12))
    image.save(a / "grey.png")
    Image.fromarray(np.arange(96, dtype=np.uint16).reshape(8, 12) * 600).save(a / "deep.png")
    image.convert("RGB").convert("CMYK").save(a / "cmyk.jpg")
    image.rotate(180).convert("P").save(a / "palette.png")
    image.convert("RGB").rotate(90).convert("RGBA").save(a / "transparent.png")
    frames = [Image.fromarray(np.full((8, 12), 40 * k, np.uint8)) for k in range(3)]
    frames[1].save(a / "moving.gif", save_all=True, append_images=frames)
    (a / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photograph")
    (a / "empty.png").touch()
    (a / "notes.txt").write_text("mine")
    inspected = inspect(gather(folder))
    expected = {"unreadable": 2, "grey": 1, "16 bits": 1, "CMYK": 1, "palette": 2, "transparent": 1, "animated": 1}
    assert expected.items() <= found(inspected).items() and ".txt" in notes(inspected)
    assert inspected.data.class_counts.tolist() == [10, 2]


@pytest.mark.parametrize("orientation", TURNS)
def test_photographs_are_turned_as_pillow_turns_them(tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    for name in "ab":
        for i in range(2):
            photograph(tmp_path / f"{name}/{i}.png", i + 5 * (name == "b"), size=(8, 8), exif=exif)
    inspected = inspect(gather(tmp_path))
    upright = ImageOps.exif_transpose(Image.open(tmp_path / "a/0.png"))
    assert torch.equal(inspected.data.train.images[0], torch.from_numpy(np.array(upright)).permute(2, 0, 1))
    assert found(inspected)["rotated"] == 4


def test_every_picture_counts_once(folder):
    (folder / "train/a/copy.png").write_bytes((folder / "train/a/0.png").read_bytes())
    (folder / "train/a/tested.png").write_bytes((folder / "test/a/0.png").read_bytes())
    photograph(folder / "train/a/two.png", 77)
    photograph(folder / "train/b/two.png", 77)
    inspected = inspect(gather(folder))
    assert found(inspected) | {"duplicates": 1, "in train and test": 1, "two labels": 2} == found(inspected)
    assert counts_of(inspected) == (("a", "b"), [4, 2], 2)


def test_classes_of_one_part_or_of_one_image(folder):
    photograph(folder / "train/c/0.png", 30)
    photograph(folder / "test/d/0.png", 31)
    (folder / "train/e").mkdir()
    inspected = inspect(gather(folder))
    assert counts_of(inspected) == (("a", "b", "c"), [4, 2, 1], 2) and "'e'" in notes(inspected)
    kinds = {"classes without training images": 1, "classes without test images": 1, "classes of one image": 1}
    assert kinds.items() <= found(inspected).items()


def test_one_class_or_one_image_of_each_is_refused(tmp_path):
    photograph(tmp_path / "one/a/0.png", 0)
    photograph(tmp_path / "one/a/1.png", 1)
    with pytest.raises(ValueError, match="one class"):
        inspect(gather(tmp_path / "one"))
    for i, name in enumerate("abc"):
        photograph(tmp_path / f"each/{name}/0.png", i)
    with pytest.raises(ValueError, match="one training image"):
        inspect(gather(tmp_path / "each"))


def test_small_pictures_are_not_enlarged(folder):
    assert inspect(gather(folder)).data.train.images.shape[2:] == (8, 8)
    assert inspect(gather(folder), side=5).data.train.images.shape[2:] == (5, 5)
    assert inspect(gather(folder)).sizes == ((12, 8),) * 3


# --- the choice -------------------------------------------------------------------------------------------------------


def test_folds_hold_out_every_image_once_and_every_class_alike():
    labels = torch.tensor([0] * 23 + [1] * 7 + [2] * 3 + [3])
    fold = fold_of(labels, 5, seed=0)
    assert (fold[labels == 3] == -1).all() and not torch.equal(fold, fold_of(labels, 5, seed=1))
    for c in range(3):
        held = torch.bincount(fold[labels == c], minlength=5)
        assert held.max() - held.min() <= 1
    sizes = torch.bincount(fold[labels < 3], minlength=5)
    assert sizes.max() - sizes.min() <= 1


def test_a_gain_is_the_mean_of_the_classes_gains():
    labels, prior = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([0.5, 0.5])
    wrong = torch.tensor([[0, 1], [1, 0], [1, 0], [0, 0], [1, 0]])
    result = gains(wrong, labels, prior)
    assert math.isclose(result.gain[1].item(), 0.5 * 1 / 4 + 0.5 * 1) and result.gain[0] == 0
    assert math.isclose(image_weights(labels, prior).sum().item(), 1)


def test_the_standard_error_is_that_of_repeated_test_sets():
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor([0] * 200 + [1] * 30)
    prior, rate = torch.tensor([0.5, 0.5]), torch.tensor([0.1, 0.4])[labels]
    draws = (torch.rand(4000, len(labels), generator=generator) < rate).double()
    weights = image_weights(labels, prior)
    measured = torch.stack([standard_errors(draw[:, None], labels, prior) for draw in draws[:200]]).mean()
    assert abs(measured / (draws @ weights).std() - 1) < 0.05


def noise(better: list[float], seed: int, images=(300, 60, 12)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Recipes that are wrong as often as plain training, less what each is better by; mostly on the same images."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(3).repeat_interleave(torch.tensor(images))
    hard = torch.rand(len(labels), 1, generator=generator)
    own = torch.rand(len(labels), 1 + len(better), generator=generator)
    rate = 0.4 - torch.tensor([0.0, *better])
    return (0.7 * hard + 0.3 * own < rate).double(), labels, torch.full((3,), 1 / 3)


def test_equal_recipes_leave_plain_training_and_better_ones_do_not():
    equal = [choose(*noise([0.0] * 20, seed)) for seed in range(60)]
    assert sum(choice > 0 for choice in equal) <= 7  # 3 are expected
    assert all(choose(*noise([0.0] * 10 + [0.2], seed)) == 11 for seed in range(10))


def test_of_equal_recipes_the_first_is_chosen():
    wrong, labels, prior = noise([0.25, 0.25, 0.0], 0)
    wrong[:, 2] = wrong[:, 1]
    assert choose(wrong, labels, prior) == 1


# --- the recipe in plain PyTorch --------------------------------------------------------------------------------------

COUNTS, NAMES = [400, 70, 9, 1], ["a", "it's", '"; import os', "{x}\n$HOME"]


@pytest.mark.parametrize("candidate", [*candidates.ALWAYS, *candidates.IF_TIME], ids=lambda each: each.name)
def test_the_code_has_the_losses_and_probabilities_of_ltlab(candidate):
    plan = candidate.recipe.resolve(SETTINGS["shapes"])
    labels = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))
    tau = 0.7 if candidate.tau else None
    space = {"labels": labels}
    exec(loop_code(plan, COUNTS, NAMES, tau=tau, temperature=1.5), space)  # it is what the report gives people to run
    assert space["class_names"] == NAMES
    logits = torch.randn(50, 4, generator=torch.Generator().manual_seed(0))
    targets = torch.arange(50) % 4
    stages = [stage for stage in plan.stages if stage.epochs]
    for (_, loss, sampler), stage in zip(space["stages"], stages, strict=True):
        made = stage.loss if isinstance(stage.loss, torch.nn.Module) else stage.loss(torch.tensor(COUNTS))
        if hasattr(made, "margins"):
            made.scaled = True  # as a run does, whose classifier owns the scale
        torch.testing.assert_close(loss(logits, targets), made(logits, targets), rtol=1e-5, atol=1e-6)
        if stage.sampler is not None:
            drawn = torch.zeros(4, dtype=torch.float64).index_add(0, labels, sampler.weights.double())
            expected = class_probabilities(COUNTS, stage.sampler.keywords["q"])
            torch.testing.assert_close(drawn / drawn.sum(), expected, rtol=1e-5, atol=0)
        assert (sampler is None) == (stage.sampler is None)
    corrected = adjust_logits(logits, COUNTS, tau or 0.0) / 1.5
    torch.testing.assert_close(space["corrected"](logits), corrected)


def test_the_loop_trains_and_knows_a_prior():
    labels = torch.tensor([0] * 12 + [1] * 4)
    x = torch.randn(16, 3, generator=torch.Generator().manual_seed(0)) + labels[:, None]
    for name, tau in (("drw_cs_ce", None), ("input_mixup", 1.0), ("class_balanced", None)):
        candidate = next(c for c in (*candidates.ALWAYS, *candidates.IF_TIME) if c.recipe.name == name)
        code = loop_code(candidate.recipe.resolve(SETTINGS["shapes"]), [12, 4], ["a", "b"], tau=tau, target=[0.9, 0.1])
        space = {"labels": labels}
        exec(code, space)
        model = torch.nn.Linear(3, 2)
        before = model.weight.detach().clone()
        optimizer = torch.optim.SGD(model.parameters(), 0.1)
        space["train"](model, torch.utils.data.TensorDataset(x, labels), optimizer, epochs=5)
        assert not torch.equal(before, model.weight)
        if tau:
            expected = adjust_logits(x[:, :2], [12, 4], 1.0, torch.tensor([0.9, 0.1]))
            assert torch.equal(space["corrected"](x[:, :2]).argmax(1), expected.argmax(1))


# --- the page ---------------------------------------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "$HOME ${x} $$x^2$",
    "a&amp;b",
    "</code></pre>",
]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text.append(data)


def read(text: str) -> Tags:
    tags = Tags()
    tags.feed(text)
    return tags


@pytest.mark.parametrize("name", HOSTILE)
def test_names_are_text_wherever_they_are_shown(name):
    from ltlab.reporting import drawings

    picture = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    svg = drawings.counts_figure([30, 4], [name, "b"])
    svg += drawings.error_figure([30, 4], {name: [0.1, 0.5], "b": [0.2, 0.3]}, [name, "b"])
    parts = [page.heading(name), page.paragraph(name), page.items([name]), page.code(name), page.answer([name]),
             page.table([name], [[name]], name), page.pictures(picture, [name]), page.figure(svg, name)]  # fmt: skip
    made = read(page.page(name, parts))
    assert not {"script", "iframe"} & {tag for tag, _ in made.tags}
    assert all("onerror" not in attributes for _, attributes in made.tags)
    assert sum(name in text.replace("\u00a0", " ") for text in made.text) >= 9
    (image,) = [attributes for tag, attributes in made.tags if tag == "img"]
    assert image["src"].startswith("data:image/jpeg") and image["title"] == name
    assert drawings.shortened([name])[0] in " ".join(made.text)


def test_the_page_needs_no_network_and_an_interval_is_in_place():
    made = read(page.page("t", [page.table(["a"], [[page.interval(0.5, 0.0, 1.0, -1.0, 1.0)]])]))
    assert not [tag for tag, _ in made.tags if tag in ("link", "script", "iframe", "object")]
    policy = next(a["content"] for t, a in made.tags if t == "meta" and "http-equiv" in a)
    assert "default-src 'none'" in policy
    styles = [attributes["style"] for tag, attributes in made.tags if tag in ("s", "i", "b")]
    assert styles == ["left:50.0%", "left:50.0%;width:50.0%", "left:75.0%"]


def test_numbers_as_text():
    assert [page.percent(x) for x in (0.1234, -0.0001, float("nan"))] == ["12.3", "0.0", "–"]
