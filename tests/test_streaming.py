"""Streamed splits: the batches of a split in memory, for any number of workers; damaged images by name."""

import io
import logging
import multiprocessing
import re

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ltlab.data import LongTailedData, Split, StreamedSplit, load
from ltlab.data.folders import class_folders
from ltlab.data.streaming import ImageFiles, read_image

SIZE = 12
COUNTS = (5, 3, 1)
LABELS = np.repeat(np.arange(3), COUNTS)


def pixels(seed, size=(20, 16)):
    return Image.fromarray(np.random.default_rng(seed).integers(256, size=(*size[::-1], 3), dtype=np.uint8))


@pytest.fixture
def root(tmp_path):
    for i, label in enumerate(LABELS):
        (tmp_path / str(label)).mkdir(exist_ok=True)
        pixels(i, size=(20 + i, 16)).save(tmp_path / str(label) / f"{i}.png")
    return tmp_path


def streamed(root, workers=0, **options):
    paths = np.array([f"{label}/{i}.png".encode() for i, label in enumerate(LABELS)])
    return StreamedSplit(ImageFiles(root, paths, LABELS, SIZE, workers, **options))


def in_memory(root):
    """The same split, decoded by PIL and resized by torchvision."""
    transform = v2.Compose([v2.PILToTensor(), v2.Resize(SIZE), v2.CenterCrop(SIZE)])
    images = [transform(Image.open(root / str(label) / f"{i}.png")) for i, label in enumerate(LABELS)]
    return Split(torch.stack(images), torch.from_numpy(LABELS))


# --- one interface ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_those_of_a_split_in_memory(root, workers):
    split, oracle = streamed(root, workers), in_memory(root)
    orders = [torch.randint(9, (20,), generator=torch.Generator().manual_seed(epoch)).split(6) for epoch in range(3)]
    for batches in orders:  # the workers stay for the next epoch
        for one, other in zip(split.batches(batches), oracle.batches(batches), strict=True):
            assert all(torch.equal(a, b) and a.dtype == b.dtype for a, b in zip(one, other, strict=True))
    assert list(split.batches([])) == []


def test_images_look_like_a_tensor(root):
    split, oracle = streamed(root, workers=2), in_memory(root)
    images = split.images
    assert (images.shape, images.dtype, images.device) == (oracle.images.shape, torch.uint8, torch.device("cpu"))
    assert len(images) == len(split) == 9 and split.masks is None
    assert torch.equal(torch.cat(list(images.split(4))), oracle.images)
    assert [len(batch) for batch in images.split(4)] == [4, 4, 1]
    for indices in (3, slice(2, 7), slice(None, None, 4), [8, 0, 0], torch.tensor([1, -1]), torch.arange(9) > 6, []):
        assert torch.equal(images[indices], oracle.images[indices])
    with pytest.raises(IndexError):
        images[9]


def test_take_and_to(root):
    split, oracle = streamed(root), in_memory(root)
    chosen = torch.tensor([8, 0, 5])
    assert torch.equal(split.take(chosen).images[:], oracle.take(chosen).images)
    assert torch.equal(split.take(chosen).labels, oracle.take(chosen).labels)
    there = split.to("meta")
    assert there.labels.device == there.images.device == torch.device("meta")
    assert split.labels.device == torch.device("cpu") and split.labels.dtype == torch.int64


def test_fingerprint_follows_paths_labels_and_size_but_not_pixels(root):
    def fingerprint(split, names=("a", "b", "c")):
        return LongTailedData("mine", split, split, names).fingerprint

    base = streamed(root).images.reader
    others = [
        (base.paths[::-1].copy(), LABELS[::-1].copy(), SIZE), (base.paths, np.roll(LABELS, 1), SIZE),
        (base.paths, LABELS, SIZE + 1),
    ]  # fmt: skip
    prints = {fingerprint(StreamedSplit(ImageFiles(root, *other))) for other in others}
    prints |= {fingerprint(streamed(root)), fingerprint(streamed(root), ("a", "b", "d"))}
    assert len(prints) == 5
    before = fingerprint(streamed(root))
    pixels(99).save(root / "0" / "0.png")
    assert fingerprint(streamed(root / ".." / root.name, workers=1)) == before


@pytest.mark.parametrize("workers", [0, 1])
def test_passes_may_overlap(root, workers):
    split, oracle = streamed(root, workers), in_memory(root).images
    older = split.images.split(3)
    first = next(older)
    assert torch.equal(torch.cat(list(split.images.split(4))), oracle)
    assert torch.equal(torch.cat([first, *older]), oracle)


def test_workers_stay_for_the_next_pass(root):
    split = streamed(root, workers=1)

    def children():
        return {process.pid for process in multiprocessing.active_children()}

    before = children()
    list(split.images.split(4))
    workers = children() - before
    list(split.batches([torch.tensor([1])]))
    assert len(workers) == 1 and children() - before == workers
    del split
    assert not children() - before


def test_a_pass_that_was_broken_off_does_not_disturb_the_next(root):
    split = streamed(root, workers=2)
    next(iter(split.images.split(1)))
    assert torch.equal(torch.cat(list(split.images.split(2))), in_memory(root).images)


def test_workers_end_with_a_failed_pass(root):
    """Also while somebody holds the error, as a notebook does."""
    (root / "0" / "0.png").write_bytes(b"")
    before = multiprocessing.active_children()
    with pytest.raises(ValueError, match="cannot be read") as error:
        list(streamed(root, workers=2).images.split(2))
    assert error.traceback and multiprocessing.active_children() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_batches_arrive_on_a_gpu(root):
    split, oracle = streamed(root, workers=2).to("cuda"), in_memory(root)
    batches = torch.randint(9, (20,), device="cuda").split(6)
    for one, other in zip(split.batches(batches), oracle.to("cuda").batches(batches), strict=True):
        assert all(a.is_cuda and torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"workers": -1}, "workers=-1"),
        ({"workers": 1.5}, "workers=1.5"),
        ({"on_error": "skipp"}, "unknown on_error 'skipp'; did you mean 'skip'"),
    ],
)  # fmt: skip
def test_options_refused(root, options, message):
    with pytest.raises(ValueError, match=message):
        streamed(root, **options)
    with pytest.raises(ValueError, match="size=0"):
        ImageFiles(root, np.array([b"a"]), np.array([0]), 0)


# --- reading ---------------------------------------------------------------------------------------------------------


def saved(path, image, **options):
    image.save(path, **options)
    return str(path)


@pytest.mark.parametrize(
    ("mode", "extension"),
    [
        ("RGB", "jpg"), ("L", "jpg"), ("CMYK", "jpg"), ("RGB", "png"), ("L", "png"), ("P", "png"), ("1", "png"),
        ("RGBA", "png"), ("LA", "png"), ("RGB", "webp"), ("RGB", "bmp"), ("RGB", "tiff"), ("P", "gif"),
    ],
)  # fmt: skip
def test_every_mode_and_format_becomes_rgb(tmp_path, mode, extension):
    path = saved(tmp_path / f"image.{extension}", pixels(0).convert(mode))
    expected = np.array(Image.open(path).convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(read_image(path, 16)[:, :, 2:14], expected[:, :, 4:16])  # the shorter side is 16 already


@pytest.mark.parametrize(("extension", "order"), [("png", "<"), ("tiff", "<"), ("tiff", ">")])
def test_sixteen_bits_become_eight(tmp_path, extension, order):
    grey = np.random.default_rng(0).integers(65536, size=(16, 16), dtype=np.uint16)
    grey[0, :4] = 0, 128, 129, 65535
    image = read_image(saved(tmp_path / f"deep.{extension}", Image.fromarray(grey.astype(f"{order}u2"))), 16)
    assert image.dtype == torch.uint8 and image[0, 0, :4].tolist() == [0, 0, 1, 255]
    assert np.array_equal(image, np.stack([np.round(grey * (255 / 65535))] * 3))


def test_a_pgm_of_sixteen_bits_becomes_eight(tmp_path):
    """Netpbm's own format: a text header, then big-endian values, scaled from the largest one that it names."""
    for largest, grey, expected in (
        (65535, [0, 128, 129, 65535], [0, 0, 1, 255]),
        (1000, [0, 1, 500, 999], [0, 0, 128, 255]),
    ):
        values = np.array(grey, dtype=">u2").tobytes()
        (tmp_path / "deep.pgm").write_bytes(f"P5 4 1 {largest}\n".encode() + values)
        image = read_image(str(tmp_path / "deep.pgm"))
        assert image.shape == (3, 1, 4) and image[0, 0].tolist() == expected


@pytest.mark.filterwarnings("error")
def test_a_palette_with_transparent_colours_is_read_without_a_warning(tmp_path):
    image = pixels(0).convert("P")
    path = saved(tmp_path / "image.png", image, transparency=bytes(range(256)))
    assert np.array_equal(read_image(path).permute(1, 2, 0), image.convert("RGB"))


@pytest.mark.parametrize(("dtype", "mode"), [(np.float32, "F"), (np.int32, "I")])
def test_pixels_without_a_white_are_refused(tmp_path, dtype, mode):
    path = saved(tmp_path / "image.tiff", Image.fromarray(np.ones((16, 16), dtype)))
    with pytest.raises(ValueError, match=rf"image\.tiff cannot be read .*mode '{mode}'"):
        read_image(path, 16)


def test_an_animation_shows_its_first_picture(tmp_path):
    first, second = pixels(0).convert("P"), pixels(1).convert("P")
    path = saved(tmp_path / "moving.gif", first, save_all=True, append_images=[second])
    assert np.array_equal(read_image(path, 16), np.array(first.convert("RGB")).transpose(2, 0, 1)[:, :, 2:18])


def test_exif_orientation_is_left_alone(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    plain, turned = saved(tmp_path / "a.jpg", pixels(0)), saved(tmp_path / "b.jpg", pixels(0), exif=exif)
    assert torch.equal(read_image(plain, 16), read_image(turned, 16))


@pytest.mark.parametrize(
    "size", [(40, 30), (30, 40), (9, 13), (16, 16), (17, 16), (5, 60), (1, 64), (128, 2), (1, 999), (1000, 1)]
)
def test_resize_and_crop_are_torchvisions(tmp_path, size):
    path = saved(tmp_path / "image.png", pixels(0, size))
    oracle = v2.Compose([v2.PILToTensor(), v2.Resize(16, antialias=True), v2.CenterCrop(16)])
    assert torch.equal(read_image(path, 16), oracle(Image.open(path)))


@pytest.mark.parametrize(("size", "side"), [((2001, 1), 0), ((1, 2001), 1), ((3001, 3), 0)])
def test_a_thin_image_is_cropped_before_it_is_resized(tmp_path, monkeypatch, size, side):
    path, made, resize = saved(tmp_path / "thin.png", pixels(0, size)), [], functional.resize
    oracle = functional.center_crop(resize(read_image(path), [16], antialias=True), [16])
    monkeypatch.setattr(functional, "resize", lambda *args, **options: made.append(resize(*args, **options)) or made[0])
    assert (read_image(path, 16).int() - oracle.int()).abs().max() <= 1
    assert max(made[0].shape) < 1100 and size[side] > 1000


# --- damaged images --------------------------------------------------------------------------------------------------


def jpeg():
    buffer = io.BytesIO()
    pixels(0, (64, 64)).save(buffer, "JPEG")
    return buffer.getvalue()


DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "truncated": lambda path: path.write_bytes(jpeg()[:-400]),
    "no image": lambda path: path.write_text("<html>404</html>", encoding="utf-8"),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("kept", [2, 100, 700, -200, -1])
def test_a_jpeg_that_was_cut_off_is_never_shown_in_part(tmp_path, kept):
    (tmp_path / "cut.jpg").write_bytes(jpeg()[:kept])
    with pytest.raises(ValueError, match=r"cut\.jpg cannot be read as an image: "):
        read_image(str(tmp_path / "cut.jpg"), 16)


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_image_stops_the_run_with_its_path(root, case, workers):
    DAMAGE[case](root / "1" / "6.png")
    split = streamed(root, workers)
    path = re.escape(str(root / "1" / "6.png"))
    with pytest.raises(ValueError, match=rf"{path} cannot be read.*on_error='skip'") as e:
        list(split.batches(torch.arange(9).split(2)))
    assert "Traceback" not in str(e.value)
    with pytest.raises(ValueError, match=r"6\.png cannot be read"):
        split.images[5:8]
    assert [read.tolist() for read, *_ in split.batches([torch.tensor([0, 5])])] == [[0, 5]]  # the others still can


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("case", DAMAGE)
def test_a_skipped_image_is_named_counted_and_replaced_within_its_class(root, case, workers, caplog):
    oracle = in_memory(root).images
    DAMAGE[case](root / "1" / "6.png")
    DAMAGE[case](root / "0" / "4.png")
    split = streamed(root, workers, on_error="skip")
    order = torch.tensor([6, 0, 6, 4, 8, 7, 6])
    with caplog.at_level(logging.WARNING, logger="ltlab.data"):
        for _ in range(2):
            batches = list(split.to("cpu").batches(order.split(3)))
            read, images, targets = (torch.cat(parts) for parts in zip(*batches, strict=True))
            assert read.tolist() == [7, 0, 7, 0, 8, 7, 7]  # the next of the class, in turn
            assert torch.equal(targets, split.labels[order]) and torch.equal(images, oracle[read])
    assert split.skipped == 2  # also counted for the split that was moved
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2 and all(any(file in text for text in named) for file in ("1/6.png", "0/4.png"))
    assert torch.equal(split.images[6], oracle[7])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_class_without_a_readable_image_cannot_be_skipped(root, workers):
    for i in (5, 6, 7):
        (root / "1" / f"{i}.png").write_bytes(b"")
    split = streamed(root, workers, on_error="skip")
    with pytest.raises(ValueError, match=r"1/6\.png cannot be read.*; no other image of its class"):
        list(split.batches([torch.tensor([0, 6])]))


# --- folders ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def birds(tmp_path):
    for part, counts in (("train", {"owl": 3, "kiwi": 9}), ("test", {"owl": 1, "kiwi": 2})):
        for seed, (name, count) in enumerate(counts.items()):
            (tmp_path / "birds" / part / name).mkdir(parents=True)
            for i in range(count):
                pixels(100 * seed + i).save(tmp_path / "birds" / part / name / f"{i}.png")
    return tmp_path / "birds"


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("imbalance", [None, 4.0])
def test_a_streamed_folder_is_the_folder(birds, imbalance):
    streamed = load(birds, stream=True, imbalance=imbalance, seed=3, size=8, workers=0)
    whole = load(birds, imbalance=imbalance, seed=3, size=8)
    assert isinstance(streamed.train, StreamedSplit) and streamed.class_names == whole.class_names
    assert streamed.name == whole.name and streamed.options == whole.options
    for one, other in ((streamed.train, whole.train), (streamed.test, whole.test)):
        assert torch.equal(one.labels, other.labels) and torch.equal(one.images[:], other.images)


def test_class_folders_refused(birds):
    for part, other in (("train", "test"), ("test", "train")):
        (birds / part / "emu").mkdir()
        with pytest.raises(ValueError, match=rf"'emu' is in .*{part} but not in .*{other} .* 0 more of 3 classes"):
            class_folders(birds)
        (birds / part / "emu").rmdir()
    for part in ("train", "test"):
        (birds / part / "emu").mkdir()
    with pytest.raises(ValueError, match=r"train.emu has no image; images end in \.jpg"):
        class_folders(birds)
    (birds / "test").rename(birds / "val")
    with pytest.raises(FileNotFoundError, match="test is missing"):
        class_folders(birds)
    (birds / "test").mkdir()
    with pytest.raises(ValueError, match="test has no class folders"):
        class_folders(birds)


@pytest.mark.parametrize("name", ["shapes-lt", "x.npz"])
def test_only_folders_are_streamed(name):
    with pytest.raises(ValueError, match=f"stream=True .*{name}"):
        load(name, stream=True)
