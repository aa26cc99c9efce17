"""The explorers of detection, against the functions that they show, and what reads the rows of detectors."""

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import box_iou

from ltlab import plots
from ltlab.data.places import tables_folder
from ltlab.losses import ACSLLoss, equalization_weights
from ltlab.results import detection_rows, paired_ap
from ltlab.samplers import repeat_factors
from ltlab.widgets import (
    Explorer,
    detection_cap_explorer,
    equalization_explorer,
    gradient_ratio_explorer,
    repeat_factor_explorer,
    scene_explorer,
    suppression_explorer,
)
from ltlab.widgets.explore_detections import iou, matched

GROUPS = torch.tensor([2, 1, 0])
NAMES = ["a", "b", "c"]


def moved(explorer: Explorer, **values: object) -> Explorer:
    for name, value in values.items():
        explorer.controls[name].value = value
    return explorer


def heights(explorer: Explorer, panel: int, bars: int) -> list[float]:
    return [bar.get_height() for bar in explorer.figure.axes[panel].patches[:bars]]


RATIOS = pd.DataFrame(
    [("BCE", 0.1, 10, 0.9, 0.2, 0.05), ("BCE", 0.1, 20, 1.0, 0.5, 0.1), ("EQL v2", 0.1, 10, 0.9, 0.7, 0.6),
     ("EQL v2", 0.1, 20, 1.1, 1.0, 0.9)], columns=["loss", "prior", "step", "g0", "g1", "g2"],
)  # fmt: skip


def test_ratios_are_those_of_the_recording_at_the_step():
    explorer = gradient_ratio_explorer(RATIOS, GROUPS, names=NAMES)
    assert heights(explorer, 0, 3) == [1.0, 0.5, 0.1] and "2 of 3 classes below μ: b, c" in explorer.summary
    moved(explorer, step=10, loss="EQL v2")
    assert heights(explorer, 0, 3) == [0.9, 0.7, 0.6]
    moved(explorer, step=20)
    assert explorer.summary.endswith("0 of 3 classes below μ")


def test_the_recorded_ratios_are_complete():
    """Four recordings of the same steps, 18 classes, and binary cross-entropy drowns the tail from 0.1."""
    ratios = pd.read_csv(tables_folder("results") / "gradient_ratios.csv")
    steps = ratios.groupby(["loss", "prior"])["step"].apply(tuple)
    assert len(steps) == 4 and len(set(steps)) == 1 and ratios.filter(regex=r"^g\d").shape[1] == 18
    last = ratios.groupby(["loss", "prior"]).last()
    assert last.loc[("BCE", 0.1), "g17"] < 0.3 < 0.7 < last.loc[("EQL v2", 0.1), "g17"]


@pytest.mark.parametrize(("gamma", "mu", "alpha"), [(12.0, 0.8, 4.0), (0.0, 0.8, 2.0), (30.0, 0.3, 0.0)])
def test_dots_are_the_weights_of_the_classes(gamma, mu, alpha):
    g = [1.0, 0.6, 0.1]
    explorer = moved(equalization_explorer(g, GROUPS, names=NAMES), gamma=gamma, mu=mu, alpha=alpha)
    up, down = equalization_weights(torch.tensor(g, dtype=torch.float64), gamma, mu, alpha)
    for panel, weights in ((0, down), (1, up)):
        dots = explorer.figure.axes[panel].collections[0].get_offsets()
        np.testing.assert_allclose(dots, np.stack([g, weights.numpy()], 1))
    assert f"c (g 0.10): negatives × {down[2]:.2f}, positives × {up[2]:.2f}" in explorer.summary


@pytest.mark.parametrize(("xi", "rare", "common"), [(0.7, 0.01, 0.1), (0.0, 1.0, 1.0), (0.3, 0.3, 0.0)])
def test_spared_cells_are_those_without_a_gradient(xi, rare, common):
    generator = torch.Generator().manual_seed(0)
    z = 2 * torch.randn(40, 4, generator=generator)
    labels = torch.randint(4, (40,), generator=generator) * (torch.arange(40) % 2)
    explorer = moved(suppression_explorer(z, labels, GROUPS, names=NAMES), xi=xi, rare=rare, common=common)
    order = labels.argsort(stable=True)
    own = F.one_hot(labels[order], 4).bool()
    drawn = torch.Generator().manual_seed(0)
    loss = ACSLLoss(xi, groups=GROUPS, shares=(rare, common, 1.0), background=0, generator=drawn)
    logits = z[order].requires_grad_()
    (gradient,) = torch.autograd.grad(40 * loss(logits, labels[order]), logits)
    (columns, _) = explorer.figure.axes[0].lines[-1].get_data()
    spared = (gradient == 0) & ~own
    assert sorted(np.asarray(columns).tolist()) == sorted(spared.nonzero()[:, 1].tolist())
    negative = z[order].sigmoid() * ~own
    left = [100 * (gradient * ~own)[:, c].sum() / negative[:, c].sum() for c in (1, 2, 3)]
    assert heights(explorer, 1, 3) == pytest.approx([value.item() for value in left], abs=1e-3)


def test_detections_are_matched_once_each_best_first():
    boxes = torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]])
    labels = torch.tensor([1, 2])
    found = torch.tensor([[0.0, 0, 10, 9], [0, 0, 10, 10], [20, 20, 30, 30], [21, 20, 30, 30]])
    taken = matched(found, torch.tensor([1, 1, 1, 2]), boxes, labels)
    assert taken.tolist() == [0, -1, -1, 1]
    random = torch.rand(50, 4, generator=torch.Generator().manual_seed(0))
    random[:, 2:] += random[:, :2] + 0.1
    torch.testing.assert_close(iou(random[:20], random[20:]), box_iou(random[:20], random[20:]))


def test_scenes_count_what_is_right_wrong_and_missed():
    images = torch.zeros(2, 3, 48, 48, dtype=torch.uint8)
    boxes = [torch.tensor([[0.0, 0, 10, 10], [20, 20, 30, 30]]), torch.zeros(0, 4)]
    labels = [torch.tensor([1, 2]), torch.zeros(0, dtype=torch.int64)]
    one = {"boxes": torch.tensor([[0.0, 0, 10, 9], [5, 5, 9, 9]]), "scores": torch.tensor([0.9, 0.6]),
           "labels": torch.tensor([1, 0])}  # fmt: skip
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    explorer = scene_explorer(images, boxes, labels, {"A": [one, one], "B": [none, none]}, NAMES)
    assert explorer.summary.endswith("A: 1 right, 1 wrong, 1 missed; B: 0 right, 0 wrong, 2 missed")
    moved(explorer, threshold=0.7)
    assert "A: 1 right, 0 wrong, 1 missed" in explorer.summary
    moved(explorer, scene=1)
    assert "scene 1 (empty)" in explorer.summary and "A: 0 right, 1 wrong, 0 missed" in explorer.summary
    with pytest.raises(ValueError, match="one or two detectors"):
        scene_explorer(images, boxes, labels, {}, NAMES)


def test_the_cap_shows_its_metrics():
    parts = ("ap", "ap_rare", "ap_common", "ap_frequent")
    table = {cap: dict(zip(parts, values, strict=True)) for cap, values in
             ((300, (0.5, 0.2, 0.5, 0.8)), (5, (0.3, float("nan"), 0.3, 0.8)))}  # fmt: skip
    explorer = detection_cap_explorer(table)
    assert heights(explorer, 0, 4) == pytest.approx([50, 80, 50, 20])
    moved(explorer, cap=5)
    assert heights(explorer, 0, 4) == pytest.approx([30, 80, 30, 0])
    with pytest.raises(ValueError, match="metrics is empty"):
        detection_cap_explorer({})


def test_repeats_are_the_samplers():
    labels = [torch.tensor(each) for each in ([0], [0, 0], [0, 1], [0, 2, 2], [1], [0], [0], [0], [0], [0])]
    explorer = repeat_factor_explorer(labels, GROUPS, names=NAMES)
    of_image, of_class = repeat_factors(labels, 0.1)
    assert heights(explorer, 0, 3) == pytest.approx(of_class.tolist())
    moved(explorer, threshold=0.5)
    of_image, of_class = repeat_factors(labels, 0.5)
    shown = torch.zeros(3).double()
    for factor, kinds in zip(of_image, labels, strict=True):
        for c in kinds.tolist():
            shown[c] += factor
    assert heights(explorer, 0, 3) == pytest.approx(of_class.tolist())
    assert heights(explorer, 1, 3) == pytest.approx(shown.tolist())
    assert f"an epoch of {of_image.sum():.0f} images instead of 10" in explorer.summary


def test_groups_must_be_lvis_numbers():
    with pytest.raises(ValueError, match="groups must be"):
        repeat_factor_explorer([torch.tensor([0])], [3])
    with pytest.raises(ValueError, match="groups must be 3"):
        equalization_explorer([1.0, 1, 1], [0, 1])
    with pytest.raises(ValueError, match="1 to 100 regions"):
        suppression_explorer(torch.zeros(0, 4), torch.zeros(0), GROUPS)
    with pytest.raises(ValueError, match="no row"):
        gradient_ratio_explorer(RATIOS[:0], GROUPS)


def test_boxes_are_drawn_where_they_are():
    images = np.zeros((2, 3, 32, 32), np.uint8)
    ax = plots.box_grid(images, [[(0, 0, 32, 32)], []], [[2], []], GROUPS, names=NAMES)
    outline = ax.collections[-1].get_segments()[0]
    np.testing.assert_allclose(outline.min(0), [0, 2 / 34])
    np.testing.assert_allclose(outline.max(0), [32 / 34, 1])
    assert [text.get_text() for text in ax.texts] == ["c"]


def table_of(rows) -> pd.DataFrame:
    parts = ["ap", "ap_rare", "ap_common", "ap_frequent"]
    return pd.DataFrame([
        {"recipe": recipe, "value": value, "seed": seed, "held_out_ap": held} | dict.fromkeys(parts, ap)
        for recipe, value, seed, held, ap in rows
    ])  # fmt: skip


def test_rows_are_those_that_held_out_scenes_choose_and_pairs_are_by_seed(tmp_path):
    table_of([
        ("det_ce", np.nan, 0, 0.3, 0.40), ("det_ce", np.nan, 1, 0.3, 0.50), ("det_ce", np.nan, 2, 0.3, 0.60),
        ("det_bce", 0.1, 0, 0.5, 0.42), ("det_bce", 0.01, 0, 0.6, 0.30), ("det_bce", 0.1, 1, 0.6, 0.53),
        ("det_bce", 0.01, 1, 0.4, 0.90), ("det_bce", 0.01, 3, 0.99, 0.90), ("other", np.nan, 5, 0.1, 0.2),
    ]).to_csv(tmp_path / "rows.csv", index=False)  # fmt: skip
    best = detection_rows(tmp_path / "rows.csv")
    assert list(best["recipe"].unique()) == ["CE", "BCE", "other"]
    assert best[best["recipe"] == "BCE"]["value"].tolist() == [0.1, 0.1]  # by the seeds that tried both
    won = paired_ap(best, [("BCE", "CE"), ("BCE", "missing"), ("other", "CE")])
    assert won.loc["BCE − CE", "ap"].tolist() == pytest.approx([2.0, 3.0])
    assert set(won.index.get_level_values(0)) == {"BCE − CE"}  # other and CE have no seed in common
    assert len(detection_rows(tmp_path / "rows.csv", chosen=False)) == 9
    table_of([("det_ce", 1, 0, 1, 1)])[:0].to_csv(tmp_path / "none.csv", index=False)
    with pytest.raises(ValueError, match="no row"):
        detection_rows(tmp_path / "none.csv")


def test_published_ap_is_a_table_of_percent_whose_sources_are_explained():
    folder = tables_folder("published")
    table = pd.read_csv(folder / "detection_ap.csv", keep_default_na=False)
    readme = (folder / "README.md").read_text(encoding="utf-8")
    assert all(f"`{source}`" in readme for source in set(table["source"]))
    assert not table.duplicated(["source", "dataset", "kind", "detector", "epochs", "method"]).any()
    assert set(table["kind"]) == {"box", "mask"} and table["ap"].astype(float).between(10, 40).all()
    parts = table[["ap_rare", "ap_common", "ap_frequent"]].replace("", np.nan).astype(float).dropna()
    assert (parts.diff(axis=1).iloc[:, 1:] > 0).all(axis=None)  # AP falls towards the tail in every published row
