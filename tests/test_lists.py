"""Lists of large sets: small trees in exactly the published formats, and everything that can be wrong with a list."""

import json
import os
import re
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from test_data import cao_subset

from ltlab.data import LongTailedData, benchmark_class_counts, benchmarks, list_set, load
from ltlab.data.lists import check_files, check_labels, encoded, read_list


def write_image(path, size=(12, 10), seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def write_tree(root, entries):
    """The images of "path label" entries, each with pixels of its own."""
    for seed, (path, _) in enumerate(entries):
        write_image(root / path, seed=seed)


def write_lines(path, entries):
    path.write_text("".join(f"{file} {label}\n" for file, label in entries), encoding="utf-8")
    return path


TRAIN = [(f"train/n0{c}/n0{c}_{i}.JPEG", c) for c, count in enumerate((5, 3, 1)) for i in range(count)]
TEST = [(f"val/n0{c}/ILSVRC2012_val_{c}{i}.JPEG", c) for c in range(3) for i in range(2)]
INAT_TRAIN = [(f"train_val2018/Aves/{c}/{'0' * 31}{i}{c}.jpg", c) for i in range(3) for c in (1, 0)]
INAT_VAL = [(f"train_val2018/Aves/{c}/{'f' * 31}{c}.jpg", c) for c in (1, 0)]


def competition(entries, names=("Aves a", "Aves b")):
    """As train2018.json, where images and annotations need not have one order."""
    return {
        "info": {"year": 2018},
        "images": [{"id": 40 + i, "file_name": file, "width": 12, "height": 10} for i, (file, _) in enumerate(entries)],
        "annotations": [
            {"id": 7 + i, "image_id": 40 + i, "category_id": label} for i, (_, label) in reversed([*enumerate(entries)])
        ],
        "categories": [{"id": c, "name": name, "supercategory": "Aves"} for c, name in enumerate(names)],
    }


def write_json(path, content):
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture
def imagenet(tmp_path):
    root = tmp_path / "ILSVRC2012"
    write_tree(root, TRAIN + TEST)
    write_lines(root / "ImageNet_LT_train.txt", TRAIN)
    write_lines(root / "ImageNet_LT_test.txt", TEST)
    write_lines(root / "ImageNet_LT_val.txt", [("train/n00/n00_9.JPEG", 0)])  # not read: the test list is there
    return root


@pytest.fixture
def inat(tmp_path):
    root = tmp_path / "inat"
    write_tree(root, INAT_TRAIN + INAT_VAL)
    return root


def same(a: LongTailedData, b: LongTailedData) -> bool:
    return all(
        x.images.reader.paths.tolist() == y.images.reader.paths.tolist() and torch.equal(x.labels, y.labels)
        for x, y in ((a.train, b.train), (a.test, b.test))
    )


# --- the formats -----------------------------------------------------------------------------------------------------


def test_imagenet_lt(imagenet):
    data = load("imagenet-lt", root=imagenet, size=8, workers=0)
    assert data.name == "imagenet-lt" and data.class_names == ("n00", "n01", "n02")
    assert data.class_counts.tolist() == [5, 3, 1] and data.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert data.train.images.shape == (9, 3, 8, 8) and data.test.images.shape == (6, 3, 8, 8)
    assert data.options == {"lists": ["ImageNet_LT_train.txt", "ImageNet_LT_test.txt"], "size": 8}
    assert [os.fsdecode(p) for p in data.train.images.reader.paths] == [file for file, _ in TRAIN]
    assert torch.equal(data.train.labels, torch.tensor([label for _, label in TRAIN]))
    json.dumps(data.options)


def test_lists_elsewhere_as_a_folder_or_as_a_pair(imagenet, tmp_path):
    here = load("imagenet-lt", root=imagenet)
    there = tmp_path / "lists"
    there.mkdir()
    for file in imagenet.glob("*.txt"):
        file.rename(there / file.name)
    assert same(load("imagenet-lt", root=imagenet, lists=there), here)
    pair = [str(there / "ImageNet_LT_train.txt"), str(there / "ImageNet_LT_test.txt")]  # as -o lists=[...] has it
    assert same(load("imagenet-lt", root=imagenet, lists=pair), here)
    with pytest.raises(FileNotFoundError, match=r"none of ImageNet_LT_train\.txt: pass lists="):
        load("imagenet-lt", root=imagenet)


def test_without_a_test_list_the_validation_list_is_tested_on(imagenet):
    (imagenet / "ImageNet_LT_test.txt").rename(imagenet / "ImageNet_LT_val.txt")
    data = load("imagenet-lt", root=imagenet)
    assert len(data.test) == 6 and data.options["lists"][1] == "ImageNet_LT_val.txt"


def test_inat18_is_the_same_from_both_formats(inat, tmp_path):
    for part, entries in (("train", INAT_TRAIN), ("val", INAT_VAL)):
        write_lines(tmp_path / f"iNaturalist18_{part}.txt", entries)
        write_json(tmp_path / f"{part}2018.json", competition(entries))
    in_lines = load("inat18", root=inat, lists=tmp_path)  # the lines come first
    for file in tmp_path.glob("*.txt"):
        file.unlink()
    in_competition = load("inat18", root=inat, lists=tmp_path)
    assert same(in_lines, in_competition) and in_lines.class_counts.tolist() == [3, 3]
    assert in_lines.class_names == ("0", "1")  # the folders' names
    assert in_competition.class_names == ("Aves a", "Aves b")


def test_the_whole_benchmark_has_its_published_class_names(tmp_path, monkeypatch):
    """With all classes present: 365 places, an image each."""
    monkeypatch.setattr(benchmarks, "check_files", lambda images, root: images.files)
    write_lines(tmp_path / "Places_LT_train.txt", [(f"a/{c}.jpg", c) for c in range(365)])
    write_lines(tmp_path / "Places_LT_test.txt", [(f"b/{c}.jpg", c) for c in range(365)])
    names = load("places-lt", root=tmp_path).class_names
    assert names[:2] == ("airfield", "airplane_cabin") and len(names) == 365


def test_categories_with_gaps_between_their_ids(inat):
    content = competition([(file, (10, 3)[label]) for file, label in INAT_TRAIN])
    content["categories"] = [{"id": 10, "name": "ten"}, {"id": 3, "name": "three"}]
    images = read_list(write_json(inat / "train2018.json", content))
    assert images.class_names == ("three", "ten")
    assert images.labels.tolist() == [1 - label for _, label in INAT_TRAIN]


def test_paths_with_spaces_tabs_and_windows_line_ends(tmp_path):
    (tmp_path / "list.txt").write_bytes("\ufeffa dir/b c.jpg 0\r\nd.jpg\t1\r\né.png   2".encode())
    images = read_list(tmp_path / "list.txt")
    assert images.files == ["a dir/b c.jpg", "d.jpg", "é.png"] and images.labels.tolist() == [0, 1, 2]


def test_an_image_whose_name_is_not_utf8(tmp_path):
    for part, names in (("train", [b"\xff\xfe.png", b"a.png"]), ("test", [b"\xfd.png", b"b.png"])):
        for name in names:
            write_image(tmp_path / os.fsdecode(name))
        (tmp_path / f"{part}.txt").write_bytes(names[0] + b" 0\n" + names[1] + b" 1\n")
    data = list_set(tmp_path / "train.txt", tmp_path / "test.txt", tmp_path, workers=0, size=6)
    assert data.train.images.reader.paths[0] == b"\xff\xfe.png" and data.train.images[0].shape == (3, 6, 6)


def test_absolute_paths_are_taken_unchanged(tmp_path):
    entries = [(str(tmp_path / file), label) for file, label in (*TRAIN, *TEST)]
    write_tree(Path("/"), entries)
    lists = write_lines(tmp_path / "train.txt", entries[:9]), write_lines(tmp_path / "test.txt", entries[9:])
    data = list_set(*lists, "/nowhere", workers=0, size=6)
    assert data.train.images[0].shape == (3, 6, 6) and data.name == "train"
    assert data.train.images.reader.paths.tolist() == [os.fsencode(file) for file, _ in entries[:9]]


def test_list_set_thins_out_as_long_tail_subset_does(imagenet):
    flat = [(f"train/n0{c}/n0{c}_{i}.JPEG", c) for c in range(3) for i in range(9)]
    write_tree(imagenet, flat)
    train = write_lines(imagenet / "flat.txt", flat)
    data = list_set(
        train, imagenet / "ImageNet_LT_test.txt", imagenet, name="mine", class_names="abc", imbalance=9, seed=2
    )
    labels = np.array([label for _, label in flat])
    chosen = cao_subset(labels, [9, 3, 1], seed=2)
    assert data.class_counts.tolist() == [9, 3, 1] and data.class_names == ("a", "b", "c") and data.name == "mine"
    assert data.train.images.reader.paths.tolist() == [os.fsencode(flat[i][0]) for i in chosen]
    assert data.options["imbalance"] == 9 and data.options["seed"] == 2
    untouched = list_set(train, imagenet / "ImageNet_LT_test.txt", imagenet)
    assert untouched.class_counts.tolist() == [9, 9, 9]
    assert untouched.fingerprint != data.fingerprint


# --- bad input -------------------------------------------------------------------------------------------------------


def test_missing_files_are_counted_and_the_first_named(imagenet):
    for i in (1, 2, 3, 4):
        (imagenet / f"train/n00/n00_{i}.JPEG").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"4 of the 9 .*_train\.txt .*: train/n00/n00_1\.JPEG, .*_3\.JPEG, \.\.\."
    ):
        load("imagenet-lt", root=imagenet)
    with pytest.raises(FileNotFoundError, match=r"9 of the 9 images .* root= must be the folder"):
        load("imagenet-lt", root=imagenet / "train", lists=imagenet)
    write_tree(imagenet, TRAIN)
    (imagenet / TEST[-1][0]).unlink()
    with pytest.raises(FileNotFoundError, match=r"1 of the 6 images of .*_test\.txt"):
        load("imagenet-lt", root=imagenet)


def test_folders_and_links_to_nowhere_are_not_images(imagenet):
    folder = imagenet / "train/n00"
    for i in (1, 2, 3):
        (folder / f"n00_{i}.JPEG").unlink()
    (folder / "n00_1.JPEG").mkdir()
    (folder / "n00_2.JPEG").symlink_to("nowhere")
    (folder / "n00_3.JPEG").symlink_to("n00_4.JPEG")
    with pytest.raises(FileNotFoundError, match=r"2 of the 9 images .*n00_1\.JPEG, .*n00_2\.JPEG\."):
        load("imagenet-lt", root=imagenet)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ("a/1.jpg 0\na/2.jpg\n", r"line 2: 'a/2\.jpg'"), ("a/1.jpg 0\n\na/2.jpg 1\n", "line 2: ''"),
        ("a/1.jpg -1\n", r"line 1: 'a/1\.jpg -1'"), ("a/1.jpg 0.0\n", r"line 1: 'a/1\.jpg 0\.0'"),
        ("", "names no image"), ("a/1.jpg 1\na/2.jpg 2\n", "no image of class 0"),
        ("a/1.jpg 0\na/2.jpg 0\na/1.jpg 0\n", r"a/1\.jpg is named twice, by line 1 and by line 3"),
        ("a/1.jpg 0\na/2.jpg 2000000000\n", "no image of class 1; 1,999,999,999 of the classes"),
    ],
)  # fmt: skip
def test_lines_refused(tmp_path, train, message):
    (tmp_path / "train.txt").write_text(train, encoding="utf-8")
    write_lines(tmp_path / "test.txt", [("b/1.jpg", 0)])
    with pytest.raises(ValueError, match=message) as error:
        list_set(tmp_path / "train.txt", tmp_path / "test.txt", tmp_path)
    assert "train.txt" in str(error.value)


def test_labels_out_of_range(imagenet):
    test = write_lines(imagenet / "other.txt", [*TEST, ("val/x.JPEG", 3), ("val/y.JPEG", 4)])
    with pytest.raises(ValueError, match=r"other\.txt, line 7: label 3 .* 1 others"):
        list_set(imagenet / "ImageNet_LT_train.txt", test, imagenet)
    with pytest.raises(ValueError, match=r"_train\.txt, line 9: label 2 .* 2 classes"):
        list_set(imagenet / "ImageNet_LT_train.txt", test, imagenet, class_names=("a", "b"))


def test_a_class_without_a_test_image(imagenet):
    test = write_lines(imagenet / "other.txt", TEST[:4])
    with pytest.raises(ValueError, match=r"other\.txt has no image of class 2"):
        list_set(imagenet / "ImageNet_LT_train.txt", test, imagenet)


def test_lists_that_number_the_classes_differently(imagenet):
    """Labels and counts fit, and only the folders show that one list belongs to another set."""
    test = write_lines(imagenet / "other.txt", [(file, (1, 0, 2)[label]) for file, label in TEST])
    with pytest.raises(ValueError, match=r"'n00' is class 0 in .*train\.txt but class 1 in .*other\.txt; 2 folders"):
        list_set(imagenet / "ImageNet_LT_train.txt", test, imagenet)
    assert list_set(imagenet / "ImageNet_LT_train.txt", test, imagenet, class_names="abc").class_names == tuple("abc")


@pytest.mark.parametrize("written", ["./a/1.jpg", "a/./1.jpg", "a//1.jpg", "b/../a/1.jpg", ".//a/x/../1.jpg"])
def test_a_path_written_in_another_way_is_the_same_image(tmp_path, written):
    twice = write_lines(tmp_path / "twice.txt", [("a/1.jpg", 0), ("a/2.jpg", 0), (written, 0)])
    with pytest.raises(ValueError, match=r"a/1\.jpg is named twice, by line 1 and by line 3"):
        read_list(twice)


def test_other_paths_stay_unchanged(tmp_path):
    paths = ["./b.jpg", "a/.hidden/1.jpg", "a../1.jpg", "../c.jpg", "/d/e.jpg", "a.b/c.jpg"]
    assert read_list(write_lines(tmp_path / "list.txt", [(path, 0) for path in paths])).files == ["b.jpg", *paths[1:]]


@pytest.mark.parametrize("listed, stored", [("NFC", "NFD"), ("NFD", "NFC")])
def test_a_path_is_found_in_the_other_unicode_form(tmp_path, listed, stored):
    ours, theirs = (unicodedata.normalize(form, "kéa/ü.jpg") for form in (listed, stored))
    for file in (theirs, "1.jpg", "2.jpg", "3.jpg"):
        write_image(tmp_path / file)
    train = write_lines(tmp_path / "train.txt", [(ours, 0), ("1.jpg", 1)])
    test = write_lines(tmp_path / "test.txt", [("2.jpg", 0), ("3.jpg", 1)])
    assert list_set(train, test, tmp_path, size=4, workers=0).train.images[[0]].shape == (1, 3, 4, 4)
    both = write_lines(tmp_path / "both.txt", [(ours, 0), (theirs, 0)])
    with pytest.raises(ValueError, match="named twice"):
        check_files(read_list(both), tmp_path)


WAYS = ["a/1.jpg", "absolute", "folder_link/1.jpg", "file_link.jpg", "hard_link.jpg"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("root", [".", "data", "link"])
def test_a_file_in_both_lists_is_refused_under_any_path(tmp_path, monkeypatch, way, root):
    folder = tmp_path / "data"
    for name in ("1", "2"):
        write_image(folder / "a" / f"{name}.jpg")
    (folder / "folder_link").symlink_to("a")
    (folder / "file_link.jpg").symlink_to("a/1.jpg")
    os.link(folder / "a" / "1.jpg", folder / "hard_link.jpg")
    (tmp_path / "link").symlink_to(folder)
    monkeypatch.chdir(folder)
    root = Path(root) if root == "." else tmp_path / root
    other = str(folder / "a" / "1.jpg") if way == "absolute" else way
    train, test = write_lines(tmp_path / "1.txt", [("a/1.jpg", 0)]), write_lines(tmp_path / "2.txt", [(other, 0)])
    with pytest.raises(ValueError, match=f"test image {other} is the same file as a training image"):
        list_set(train, test, root)
    both = write_lines(tmp_path / "both.txt", [("a/2.jpg", 0), (other, 0), ("a/1.jpg", 0)])
    if way in ("absolute", "folder_link/1.jpg"):  # two paths to one name; links to files may be meant as copies
        with pytest.raises(ValueError, match=r"both\.txt: a/1\.jpg is named twice"):
            check_files(read_list(both), root)


BROKEN = {
    "cut off": (lambda c: None, "is not JSON, or it is cut off"),
    "no category of that id": (lambda c: c["categories"].pop(), "category_id 1 is not among the 1 categories"),
    "no annotation": (lambda c: c["annotations"].pop(0), "1 image ids, such as 45"),
    "no image": (lambda c: c["images"].pop(), "1 image ids, such as 45"),
    "two annotations": (lambda c: c["annotations"].append(c["annotations"][0]), "1 of the annotations"),
    "an id twice": (lambda c: c["images"].append(c["images"][0]), "1 of the images"),
    "a path twice": (
        lambda c: c["images"][3].update(file_name=c["images"][1]["file_name"]), "twice, by image 2 and by image 4",
    ),
    "no file name": (lambda c: c["images"][0].pop("file_name"), "KeyError('file_name')"),
    "another format": (lambda c: c.update(images=3), "is not a competition list"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_competition_refused(inat, case):
    damage, message = BROKEN[case]
    content = competition(INAT_TRAIN)
    damage(content)
    path = write_json(inat / "train2018.json", content)
    if case == "cut off":
        path.write_text(path.read_text(encoding="utf-8")[:200], encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        read_list(path)
    assert str(path) in str(error.value)


def test_competition_lists_of_different_categories(inat):
    train = write_json(inat / "train2018.json", competition(INAT_TRAIN))
    val = write_json(inat / "val2018.json", competition(INAT_VAL, names=("Aves a", "Aves c")))
    with pytest.raises(ValueError, match="have different categories"):
        list_set(train, val, inat)


def test_benchmarks_refuse_what_they_cannot_do(imagenet):
    for option, value in (("imbalance", 10), ("kind", "step")):
        with pytest.raises(ValueError, match=f"{option}={value!r}: .* leave {option} out"):
            load("imagenet-lt", root=imagenet, **{option: value})
    with pytest.raises(ValueError, match="unknown imagenet-lt option 'context'"):
        load("imagenet-lt", root=imagenet, context=1.0)
    with pytest.raises(FileNotFoundError, match="there is no list"):
        load("imagenet-lt", root=imagenet, lists=("a.txt", "b.txt"))
    with pytest.raises(ValueError, match=r"on_error \[\].* raise, skip"):
        load("imagenet-lt", root=imagenet, on_error=[])
    assert load("imagenet-lt", root=imagenet, imbalance=None).class_counts.tolist() == [5, 3, 1]


@pytest.mark.parametrize(
    "lists", [("a.txt", "b.txt", "c.txt"), ["a.txt"], 5, ["a.txt", 5], {"a.txt": 1, "b.txt": 2}, b"ab"]
)
def test_lists_are_a_folder_or_two_files(imagenet, lists):
    with pytest.raises(ValueError, match=re.escape(f"lists={lists!r} must be")):
        load("imagenet-lt", root=imagenet, lists=lists)


def test_without_a_root_a_benchmark_is_looked_for_among_the_downloads(imagenet, monkeypatch):
    imagenet.rename(imagenet.parent / "imagenet-lt")
    monkeypatch.setenv("LTLAB_DATA", str(imagenet.parent))
    assert load("imagenet-lt").class_counts.tolist() == [5, 3, 1]


# --- speed -----------------------------------------------------------------------------------------------------------


def test_inat18_lines_are_indexed_in_three_seconds(tmp_path):
    """All 437,513 lines with paths as long as the real ones: read, checked for doubles, labels and classes."""
    labels = np.repeat(np.arange(8142), benchmark_class_counts("inat18").numpy())
    np.random.default_rng(0).shuffle(labels)
    names = (f"train_val2018/Actinopterygii/{c}/{i:032x}.jpg {c}\n" for i, c in enumerate(labels.tolist()))
    (tmp_path / "iNaturalist18_train.txt").write_text("".join(names), encoding="utf-8")
    start = time.process_time()  # the seconds of this process, on a busy machine too
    images = read_list(tmp_path / "iNaturalist18_train.txt")
    check_labels(images, 8142)
    seconds = time.process_time() - start
    assert len(images.files) == 437_513 and np.array_equal(images.labels, labels)
    assert encoded(images.files).nbytes < 40e6
    assert seconds <= 3
