"""A comparison trains every run once, goes on where it stopped, and its tables hold the numbers of its rows."""

import math
import os
import statistics
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from test_cli import TINY, ltlab
from torch import nn

from ltlab import plots, results
from ltlab.data import LongTailedData, load
from ltlab.losses import BalancedSoftmaxLoss
from ltlab.recipes import FAMILIES, RECIPES, SHAPES, Recipe, Stage, family
from ltlab.results import comparison
from ltlab.results.published import DATASET_OF, IN_THE_PAPER, MISNAMED, OF_LARGE_SETS, PUBLISHED_AS, SOURCES
from ltlab.results.rows import COLUMNS, fingerprint
from ltlab.results.shown import LABELS, SHOWN, shown_in
from ltlab.train import checkpoint as checkpoints

matplotlib.use("agg")

NAMES = ["ce", "balanced_softmax"]
MEASURED = ["seconds", "date", "commit"]  # what may differ between two equal runs


def tiny(seed: int):
    return load("shapes-lt", imbalance=10, max_count=20, test_count=5, seed=seed)


compare = partial(results.compare, epochs=2, device="cpu", progress=False)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A folder with an uninterrupted comparison, and its rows."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, compare(NAMES, tiny, 2, folder=folder)


class Stop(Exception):
    pass


def interrupted(after: int, *arguments, **options) -> None:
    """A comparison that stops as an exception would when `after` epochs, of all runs together, are on the disk."""
    saved = []
    write = checkpoints.save

    def stopping(path, state):
        write(path, state)
        saved.append(path)
        if len(saved) == after:
            raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoints, "save", stopping)
        with pytest.raises(Stop):
            compare(*arguments, **options)


def never(*arguments, **options):
    raise AssertionError("a run was trained that was there already")


# --- comparing -------------------------------------------------------------------------------------------------------


def test_every_recipe_meets_every_seed_and_only_rows_remain(whole):
    folder, rows = whole
    assert list(zip(rows["recipe"], rows["seed"], strict=True)) == [(name, s) for s in (0, 1) for name in NAMES]
    assert tuple(rows.columns) == COLUMNS
    assert (rows["epochs"] == 2).all() and rows["fingerprint"].nunique() == 4
    assert [p.name for p in folder.iterdir()] == ["runs.csv"]
    pd.testing.assert_frame_equal(rows, results.read_rows(folder / "runs.csv"))


def test_the_rows_are_those_of_fit(whole):
    from ltlab.train import fit

    data = tiny(1)
    result = fit(RECIPES["balanced_softmax"].resolve(SHAPES).with_epochs(2), data, seed=1, device="cpu", progress=False)
    expected = results.result_row(result, data, seed=1)
    row = whole[1].iloc[3]
    for column in set(COLUMNS) - {*MEASURED, "many_accuracy", "many_gap"}:
        assert row[column] == expected[column], column
    assert math.isnan(row["many_accuracy"]) and math.isnan(expected["many_accuracy"])


class OwnNet(nn.Module):
    """Another network than the settings', with fewer parameters."""

    def __init__(self):
        super().__init__()
        self.classifier = nn.Linear(3, 10)

    def forward(self, images):
        return self.classifier(images.mean((2, 3)))


def test_a_row_of_a_network_of_ones_own_is_no_row_of_the_settings(tmp_path):
    from ltlab.train import fit

    data, ce = tiny(0), RECIPES["ce"].resolve(SHAPES).with_epochs(2)
    row = results.result_row(fit(ce, data, OwnNet(), device="cpu", progress=False), data, seed=0)
    assert row["model"] == "OwnNet" and row["fingerprint"] == fingerprint(ce, data, "OwnNet") != fingerprint(ce, data)
    results.append_row(tmp_path / "runs.csv", row)
    rows = compare(["ce"], tiny, 1, folder=tmp_path, epochs=2)
    assert rows["model"].tolist() == ["small_net"] and len(results.read_rows(tmp_path / "runs.csv")) == 2


class Counting:
    """A mix that remembers how often it was called."""

    def __init__(self):
        self.calls = 0

    def __call__(self, model, images, targets, **_):
        self.calls += 1
        return model(images), targets


def test_a_slot_that_changes_while_it_trains_has_its_row_all_the_same(tmp_path):
    recipe = Recipe(Stage(epochs=1, mix=Counting()), name="counting")
    rows = compare([recipe], tiny, 1, folder=tmp_path)
    assert recipe.stages[0].mix.calls > 0 and rows["recipe"].tolist() == ["counting"]


@pytest.mark.parametrize("after", [3, 4])
def test_stopped_in_the_second_run_and_gone_on_gives_the_rows_of_an_uninterrupted_one(whole, tmp_path, after):
    """After epoch 3 the second run is half done; after epoch 4 it is done, but its row is not yet written."""
    interrupted(after, NAMES, tiny, 2, folder=tmp_path)
    assert len(results.read_rows(tmp_path / "runs.csv")) == 1
    assert len(list(tmp_path.glob("balanced_softmax-seed0-*.pt"))) == 1
    rows = compare(NAMES, tiny, 2, folder=tmp_path)
    pd.testing.assert_frame_equal(rows.drop(columns=MEASURED), whole[1].drop(columns=MEASURED), check_exact=True)
    assert [p.name for p in tmp_path.iterdir()] == ["runs.csv"]


@pytest.mark.slow
def test_processes_side_by_side_give_the_rows_of_one(whole, tmp_path, monkeypatch):
    """Of lambdas, too, and one run continues from its checkpoint; threads differ, so sums may in the last bit."""
    mine = Recipe(Stage(loss=lambda class_counts: BalancedSoftmaxLoss(class_counts)), name="balanced_softmax")
    recipes = ["ce", mine]
    interrupted(3, recipes, tiny, 2, folder=tmp_path)
    assert len(results.read_rows(tmp_path / "runs.csv")) == 1
    theirs = compare(recipes, lambda seed: tiny(seed), 2, folder=tmp_path, processes=2)
    assert theirs[["recipe", "seed"]].equals(whole[1][["recipe", "seed"]])
    assert theirs["top1_error"].tolist() == pytest.approx(whole[1]["top1_error"].tolist(), abs=0.05)
    assert set(theirs["threads"][1:]) == {max(1, (os.cpu_count() or 1) // 2)}
    assert [path.name for path in tmp_path.iterdir()] == ["runs.csv"]
    monkeypatch.setattr(comparison, "fit", never)
    pd.testing.assert_frame_equal(compare(recipes, tiny, 2, folder=tmp_path), theirs)


def test_a_process_that_dies_is_said_to_have():
    with pytest.raises(ChildProcessError, match=r"processes=2: .* died"):
        list(comparison.side_by_side(os._exit, [(1,)], processes=2))


def test_what_is_there_is_not_trained_again_and_a_log_has_no_bars(whole, monkeypatch, capsys):
    folder, rows = whole
    monkeypatch.setattr(comparison, "fit", never)
    again = compare(NAMES, tiny, np.int64(2), folder=folder, processes=np.int32(1), progress=True)
    assert "ipykernel" in sys.modules or not capsys.readouterr().err
    pd.testing.assert_frame_equal(again, rows)
    fewer = compare(["balanced_softmax"], tiny, 1, folder=folder)
    pd.testing.assert_frame_equal(fewer, rows.iloc[[1]].reset_index(drop=True))


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": 3},
        {"epochs": 1},
        {"data_of_seed": lambda seed: load("shapes-lt", imbalance=5, max_count=20, test_count=5, seed=seed)},
        {"recipes": [Recipe(Stage(loss=BalancedSoftmaxLoss), name="ce"), "balanced_softmax"]},
    ],
    ids=["seeds", "epochs", "data", "a recipe of the same name"],
)
def test_any_other_run_is_trained(whole, monkeypatch, change):
    monkeypatch.setattr(comparison, "fit", never)
    with pytest.raises(AssertionError, match="a run was trained"):
        compare(**{"recipes": NAMES, "data_of_seed": tiny, "seeds": 2, "folder": whole[0]} | change)


def test_the_fingerprint_is_that_of_what_is_trained_on_what():
    ce, data = RECIPES["ce"].resolve(SHAPES), tiny(0)
    assert fingerprint(ce, data) == fingerprint(ce.resolve(SHAPES), tiny(0))
    assert fingerprint(ce, data) == fingerprint(Recipe(Stage(), name="plain").resolve(SHAPES), data)
    others = [(ce, tiny(1)), (ce.with_epochs(3), data), (RECIPES["ldam"].resolve(SHAPES), data)]
    assert fingerprint(ce, data) not in {fingerprint(*other) for other in others}


# --- what a comparison refuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipes": ["balanced_softmx"]}, "'balanced_softmx'.* 'balanced_softmax'"),
        ({"recipes": [Recipe(Stage()), Recipe(Stage())]}, r"recipes=\['custom', 'custom'\]"),
        ({"seeds": 0}, "seeds=0"),
        ({"processes": 1.5}, "processes=1.5"),
        ({"recipes": ["ce", Recipe(Stage(), Stage(), Stage())]}, "epochs=2: recipe 'custom' needs at least 3"),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(tmp_path, monkeypatch, change, message):
    monkeypatch.setattr(comparison, "fit", never)
    with pytest.raises(ValueError, match=message):
        compare(**{"recipes": ["ce"], "data_of_seed": tiny, "seeds": 1, "folder": tmp_path} | change)
    assert not list(tmp_path.iterdir())


def test_a_table_with_other_columns_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "fit", never)
    (tmp_path / "runs.csv").write_text("recipe,seed,colour\nce,0,red\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs.csv has other columns .*colour"):
        compare(["ce"], tiny, 1, folder=tmp_path)
    (tmp_path / "runs.csv").write_text(",".join(reversed(COLUMNS)), encoding="utf-8")
    with pytest.raises(ValueError, match="their order"):
        compare(["ce"], tiny, 1, folder=tmp_path)


def test_a_name_that_pandas_takes_for_a_missing_number_is_a_name(whole, tmp_path):
    named = whole[1].assign(recipe=["None", "NA", "nan", ""], commit="")
    for row in named.to_dict("records"):
        results.append_row(tmp_path / "runs.csv", row)
    rows = results.read_rows(tmp_path / "runs.csv")
    pd.testing.assert_frame_equal(rows, named)
    assert rows["many_accuracy"].isna().all()
    mine = compare([Recipe(Stage(), name=""), Recipe(Stage(), name="NA")], tiny, 1, folder=tmp_path)
    assert mine[["recipe", "seed"]].values.tolist() == [["", 0], ["NA", 0]]


@pytest.mark.parametrize("cut", [1, 3, 80])
def test_a_last_line_that_is_cut_off_is_refused_before_a_row_is_glued_to_it(whole, tmp_path, cut):
    """Where 1 is cut off, the line break; where 3 are, the row is whole but for its date."""
    path = tmp_path / "runs.csv"
    content = (whole[0] / "runs.csv").read_bytes()
    path.write_bytes(content[:-cut])
    message = r"runs\.csv is damaged, line 5 is cut off: remove the line, and its run will be trained again"
    with pytest.raises(ValueError, match=message):
        results.read_rows(path)
    with pytest.raises(ValueError, match=message):
        results.append_row(path, whole[1].iloc[0].to_dict())
    assert path.read_bytes() == content[:-cut]


def test_a_line_that_is_no_row_is_refused_by_the_files_name(whole, tmp_path):
    (tmp_path / "runs.csv").write_bytes((whole[0] / "runs.csv").read_bytes() + b"," * 40 + b"\n")
    with pytest.raises(ValueError, match=r"runs.csv is damaged.*line 6"):
        compare(NAMES, tiny, 2, folder=tmp_path)


def test_a_folder_in_use_is_named_with_what_compare_can_do_about_it(tmp_path):
    ce = RECIPES["ce"].resolve(SHAPES).with_epochs(2)
    checkpoint = comparison.checkpoint_in(tmp_path, "ce", 0, fingerprint(ce, tiny(0)))
    with checkpoints.held(checkpoint, resume=False), pytest.raises(BlockingIOError, match="another folder") as refused:
        compare(["ce"], tiny, 1, folder=tmp_path)
    assert str(tmp_path) in str(refused.value) and "resume" not in str(refused.value)


def test_a_run_that_diverges_is_named(tmp_path, monkeypatch):
    def diverging(*arguments, **options):
        raise FloatingPointError("the training loss is nan in epoch 1")

    monkeypatch.setattr(comparison, "fit", diverging)
    with pytest.raises(FloatingPointError, match="recipe 'ce', seed 0: the training loss is nan"):
        compare(["ce"], tiny, 1, folder=tmp_path)


# --- tables ----------------------------------------------------------------------------------------------------------


def made_rows(errors: dict[str, list[float]], **changes) -> pd.DataFrame:
    """Rows on CIFAR-10-LT-100, which has no few-shot class, with these errors by seed."""
    base = {
        "data": "cifar10-lt",
        "imbalance": 100.0,
        "options": "kind=exp",
        "epochs": 200,
        "device": "here",
        "few_accuracy": math.nan,
    }
    return pd.DataFrame(
        base | {"recipe": name, "seed": seed, "top1_error": error, "balanced_error": error,
                "many_accuracy": 1 - error / 2, "medium_accuracy": 0.5, "seconds": 10.0 + seed} | changes
        for name, by_seed in errors.items() for seed, error in enumerate(by_seed)
    )  # fmt: skip


def test_mean_and_standard_deviation_by_hand():
    ours, theirs = [0.30, 0.27, 0.33], [0.41, 0.40]
    table = results.summary(made_rows({"ldam": ours, "ce": theirs}))
    assert list(table.index) == ["ldam", "ce"] and table["seeds"].tolist() == [3, 2]
    assert table["error"].tolist() == pytest.approx([30.0, 40.5])
    assert table["error_std"].tolist() == pytest.approx([3.0, 100 * statistics.stdev(theirs)])
    assert table.loc["ldam", "many_error"] == pytest.approx(15.0)
    assert table.loc["ldam", "many_error_std"] == pytest.approx(1.5)
    assert table["medium_error"].tolist() == pytest.approx([50, 50]) and table["few_error"].isna().all()
    assert table["seconds"].tolist() == [11.0, 10.5] and table["device"].tolist() == ["here", "here"]
    assert table["epochs"].tolist() == [200, 200]


def test_one_seed_has_no_standard_deviation():
    table = results.table(made_rows({"ce": [0.3]}))
    assert table["seeds"].tolist() == [1] and table["error_std"].isna().all()
    assert results.formatted(table).loc["ce", "error (%)"] == "30.00"


def test_rows_that_do_not_belong_together_are_refused():
    one, two = made_rows({"ce": [0.3]}), made_rows({"ce": [0.3, 0.2]})
    refused = {
        "rows is empty": one.iloc[:0],
        "mix the imbalance 100.0, 50.0": pd.concat([one, one.assign(imbalance=50.0)]),
        "'ce' has the runs seed 0 of 200 epochs, seed 0 of 200 epochs": pd.concat([one] * 2),
        "seed 0 of 30 epochs, seed 1 of 200": two.assign(epochs=[30, 200]),
    }
    for message, rows in refused.items():
        with pytest.raises(ValueError, match=message):
            results.summary(rows)


def test_the_caption_names_every_device():
    rows = made_rows({"ce": [0.3, 0.2], "ldam": [0.3, 0.2]}).assign(device=["here", "there", "here", "here"])
    assert "seconds: mean of one run on here; there\n" in results.caption(results.table(rows))


def test_formatted_text():
    text = results.formatted(results.table(made_rows({"ce": [0.30, 0.27, 0.33], "focal_softmax": [0.2, 0.2, 0.2]})))
    assert text.loc["ce"].tolist() == ["30.00 ± 3.00", "15.0", "50.0", "–", "28.05", "11.0", 3, 200]
    assert text.loc["focal_softmax", "published (%)"] == "–"
    assert "published (%)" not in results.formatted(results.table(made_rows({"ce": [0.3]}, data="shapes-lt")))


# --- published figures -----------------------------------------------------------------------------------------------


def all_published() -> pd.DataFrame:
    from ltlab.data.places import tables_folder

    return pd.read_csv(tables_folder("published") / "published_errors.csv")


def test_the_published_table_is_whole():
    figures = all_published()
    assert len(figures) == 406 and set(figures["source"]) == set(SOURCES)
    assert not figures.duplicated(["source", "family", "method", "dataset", "imbalance"]).any()
    assert figures["top1_error_percent"].between(10, 75).all()


def test_the_table_of_what_is_shown_has_recipes_and_an_option_of_its_own_for_each_explored_one():
    assert set(SHOWN) <= set(RECIPES)
    for place in ("bag", "gradients"):
        options = [(line.slot, line.option) for line in shown_in(place)]
        assert all(map(all, options)) and len(set(options)) == len(options)
    assert {line.recipe for line in shown_in("readme")} <= set(LABELS) and len(set(LABELS.values())) == len(LABELS)
    assert {line.only_on for line in SHOWN.values()} == {"", "cifar10-lt", "cifar100-lt"}
    assert {text for line in SHOWN.values() for text in (line.bag, line.gradients, line.readme)} == {"yes", ""}


def test_every_recipe_with_a_published_figure_has_it_in_the_table():
    figures = set(all_published()[["source", "family", "method"]].itertuples(index=False, name=None))
    for recipe, (kind, methods) in (*PUBLISHED_AS.items(), *IN_THE_PAPER.items()):
        assert recipe in RECIPES
        assert {(source, kind, method) for source, method in methods.items()} <= figures, recipe
    for recipes_of in OF_LARGE_SETS.values():
        assert set(recipes_of) <= figures and set(recipes_of.values()) <= set(RECIPES)
    known = all_published().replace({"dataset": {value: key for key, value in DATASET_OF.items()}})
    assert (
        set(known[["dataset", "imbalance", "source", "family", "method"]].itertuples(index=False, name=None)) > MISNAMED
    )


@pytest.mark.parametrize(
    ("data", "imbalance", "recipe", "error", "method"),
    [
        ("cifar10-lt", 100, "ce", 28.05, "CE"),
        ("cifar10-lt", 50, "cs_ce_smooth", 22.22, "CS_CE sqrt"),
        ("cifar10-lt", 100, "drs_progressive", math.nan, None),
        ("imagenet-lt", 256, "ce", 63.74, "CE, ResNet-10"),
        ("imagenet-lt", 256, "bag_of_tricks_imagenet_lt", 56.71, "Bag of tricks, ResNet-10"),
        ("cifar100-lt", 100, "seql", 59.51, "SEQL"),
        ("cifar10-lt", 100, "seql", math.nan, None),
        ("cifar10-lt", 100, "cb_ce", 29.52, "CB-CE"),
        ("cifar100-lt", 100, "cb_ce", math.nan, None),
        ("cifar100-lt", 100, "cb_ce_mild", 61.03, "CB-CE"),
        ("shapes-lt", 100, "ce", math.nan, None),
    ],
)
def test_the_published_figure_stands_beside_the_same_data_and_imbalance(data, imbalance, recipe, error, method):
    rows = made_rows({"reversed": [0.3, 0.2], recipe: [0.3, 0.2]}, data=data, imbalance=float(imbalance))
    table = results.table(rows)
    assert table.index.tolist() == ["reversed", recipe]
    assert table.loc[recipe, "published"] == pytest.approx(error, nan_ok=True)
    assert np.isnan(table.loc["reversed", "published"])
    if method:
        assert table.loc[recipe, ["published_as", "source"]].tolist() == [method, "authors-rerun-cao"]
        assert "authors-rerun-cao" in results.caption(table)
    else:
        assert table["source"].isna().all() and "published" not in results.caption(table)
    assert results.table(made_rows({"ce": [0.3]}, options="kind=step"))["published"].isna().all()


def test_published_figures_of_one_setting():
    figures = results.published("cifar10-lt", 100)
    assert figures["source"].drop_duplicates().tolist() == list(SOURCES)
    assert figures.loc[figures["recipe"] == "ce", "top1_error_percent"].tolist() == [28.05, 30.12]
    smooth = figures[figures["recipe"] == "cs_ce_smooth"]  # on Cao's subsets it is CS_CE once more
    assert smooth["source"].tolist() == ["authors-rerun-cui"]
    assert figures["recipe"].isna().any() and (figures["dataset"] == "cifar10").all()
    assert results.published("shapes-lt", 100).empty and results.published("cifar10-lt", 7).empty
    assert results.published("imagenet-lt", 256)["top1_error_percent"].tolist() == [56.71, 63.74, 56.87]


# --- gains -----------------------------------------------------------------------------------------------------------


def test_gains_are_paired_with_plain_training_of_the_same_length():
    short = made_rows({"ce": [0.30, 0.40], "cs_ce": [0.28, 0.35]})
    longer = made_rows({"ce_long": [0.20, 0.25], "remix": [0.21, 0.20], "bag_of_tricks": [0.10]}, epochs=400)
    gains = results.gains(pd.concat([short, longer]))
    assert gains["control"].to_dict() == {"cs_ce": "ce", "remix": "ce_long", "bag_of_tricks": "ce_long"}
    assert gains["gain"].tolist() == pytest.approx([3.5, 2.0, 10.0])
    assert gains.loc["cs_ce", "gain_std"] == pytest.approx(statistics.stdev([2.0, 5.0]))
    assert gains["seeds"].tolist() == [2, 2, 1] and math.isnan(gains.loc["bag_of_tricks", "gain_std"])


@given(st.integers(1, 100), st.dictionaries(st.sampled_from("abcd"), st.integers(1, 100)))
def test_a_control_is_the_longest_that_is_not_longer(epochs, available):
    control = results.control_of(epochs, available)
    fitting = [length for length in available.values() if length <= epochs]
    assert (control is None) == (not fitting)
    assert not fitting or available[control] == max(fitting)
    assert control == results.control_of(epochs, available | {"longer": epochs + 1})


def test_where_the_test_set_is_not_balanced_the_balanced_error_counts():
    """The trick is worse on all images and better on the classes: on held-out images of a long tail."""
    rows = made_rows({"ce": [0.4, 0.5], "mine": [0.5, 0.6]}, options="kind=exp held_out=0.2")
    rows["balanced_error"] = [0.8, 0.8, 0.6, 0.7]
    table = results.table(rows)
    assert table.loc["mine", ["balanced_error", "family"]].tolist() == [pytest.approx(65), "custom"]
    assert results.formatted(table)["balanced (%)"].tolist() == ["80.00 ± 0.00", "65.00 ± 7.07"]
    assert "the test set is not balanced" in results.caption(table)
    assert table["published"].isna().all()  # which are of the test set
    gain = results.gains(rows)
    assert gain.loc["mine", "gain"] == pytest.approx(15) and plots.gains(gain).get_legend()
    balanced = results.table(made_rows({"ce": [0.4, 0.5]}))
    assert "balanced (%)" not in results.formatted(balanced) and "balanced" not in results.caption(balanced)


def test_without_plain_training_there_is_no_gain():
    with pytest.raises(ValueError, match="'cs_ce' of 200 epochs has no control: add rows of ce, ce_long"):
        results.gains(made_rows({"cs_ce": [0.3]}))
    rows = made_rows({"ce": [0.3, 0.3], "cs_ce": [0.3, 0.3]})
    with pytest.raises(ValueError, match="'cs_ce' and its control 'ce' have no seed in common"):
        results.gains(rows[(rows["recipe"] == "ce") == (rows["seed"] == 0)])


def test_the_figures_of_gains_and_trade_offs_hold_the_tables_numbers():
    table = pd.DataFrame(
        {"gain": [1.0, -2.0, 3.0], "gain_std": [0.5, math.nan, 1.0], "family": ["cam", "mixup", "cam"]},
        index=["a", "b", "c"],
    )
    ax = plots.gains(table)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["c", "a", "b"]
    drawn = {c.get_label(): c.lines[0].get_xdata().tolist() for c in ax.containers}
    assert drawn == {"mixup": [-2.0], "cam": [3.0, 1.0]}
    ax = plots.trade_off(table, "gain", "gain_std", xlabel="x", ylabel="y", named=["c"])
    assert [text.get_text() for text in ax.texts] == ["c"] and len(ax.collections) == 2
    assert plots.family_colours(["cam", "own"]) == {"cam": plots.FAMILY_COLOURS["cam"], "own": "0.4"}
    plt.close("all")
    with pytest.raises(ValueError, match=r"lacks \['family'\]"):
        plots.gains(table.drop(columns="family"))
    with pytest.raises(ValueError, match=r"named=\['d'\]"):
        plots.trade_off(table, "gain", "gain_std", xlabel="x", ylabel="y", named=["d"])


def test_two_places_side_by_side():
    ours = results.table(made_rows({"ce": [0.30, 0.20], "focal": [0.4, 0.4], "lws": [0.1, 0.1]}))
    theirs = pd.DataFrame({"error": [28.05, 27.0], "error_std": math.nan}, index=["ce", "lws"])
    left, right = plots.beside({"here": ours, "there": theirs})
    assert left.containers[0].lines[0].get_xdata().tolist() == pytest.approx([25, 40, 10])
    rings = right.collections[-1].get_offsets().filled(math.nan)
    assert rings[[0, 2], 0].tolist() == [28.05, 27.0] and math.isnan(rings[1, 0])
    assert [label.get_text() for label in left.get_yticklabels()] == ["ce", "focal", "lws"]
    plt.close("all")
    lines = plots.beside({"here": ours, "there": theirs}, longer="focal")  # dotted, where the table has it
    drawn = [[(line.get_linestyle(), line.get_xdata()[0]) for line in ax.lines if line.get_linestyle() in ("--", ":")]
             for ax in lines]  # fmt: skip
    assert drawn == [[("--", pytest.approx(25)), (":", pytest.approx(40))], [("--", 28.05)]]
    plt.close("all")
    with pytest.raises(ValueError, match=r"baseline=.*'ce'.*table"):
        plots.beside({"here": ours, "there": theirs.drop(index="ce")})
    with pytest.raises(ValueError, match="tables is empty"):
        plots.beside({})


# --- the figure ------------------------------------------------------------------------------------------------------


@pytest.fixture
def table():
    yield results.table(made_rows({"ce": [0.30, 0.27, 0.33], "ldam": [0.25, 0.24, 0.26], "reversed": [0.4, 0.4, 0.4]}))
    plt.close("all")


def test_the_figure_holds_the_tables_numbers(table):
    ax = plots.comparison(table, baseline="ce")
    points, _, (bars,) = ax.containers[0]
    assert points.get_xdata().tolist() == pytest.approx([30, 25, 40])
    assert [float(np.ptp(bar[:, 0])) / 2 for bar in bars.get_segments()] == pytest.approx([3, 1, 0])
    by_label = {scatter.get_label(): scatter.get_offsets() for scatter in ax.collections}
    assert set(by_label) >= {"published", "many-shot classes", "medium-shot classes"}
    assert "few-shot classes" not in by_label
    assert by_label["published"][:2, 0].tolist() == [28.05, 26.34]
    assert by_label["many-shot classes"][:, 0].tolist() == pytest.approx([15, 12.5, 20])
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ce", "ldam", "reversed"]
    assert ax.get_ylim()[0] > ax.get_ylim()[1]  # the first line on top
    assert ax.get_legend().get_texts()[0].get_text() == "all classes, mean ± std"
    assert "ce, 30.0 %" in [text.get_text() for text in ax.get_legend().get_texts()]


def test_the_figure_by_error_and_of_one_seed(table):
    ax = plots.comparison(table, by_error=True)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["ldam", "ce", "reversed"]
    one = plots.comparison(results.table(made_rows({"ce": [0.3]})))
    assert one.get_legend().get_texts()[0].get_text() == "all classes"


def test_measured_rows_come_with_ltlab_in_the_order_asked_for():
    rows = results.measured(["cs_ce", RECIPES["ce"], "no such recipe"])
    assert rows["recipe"].drop_duplicates().tolist() == ["cs_ce", "ce"]
    assert (results.table(rows)["seeds"] >= 5).all() and set(rows["data"]) == {"shapes-lt"}
    with pytest.raises(ValueError, match=r"recipes='ce' is a single name: pass a list of them, \['ce'\]"):
        results.measured("ce")
    with pytest.raises(FileNotFoundError, match="no results 'cifar99-lt'"):
        results.measured(["ce"], "cifar99-lt")


def test_what_a_finished_run_leaves_is_removed_with_its_masks(tmp_path):
    others = {"other.pt", "other-masks-2.npy", "run-masks-off.pt"}
    for name in {"run.pt", "run.csv", "run-masks-2.npy", "run-masks-3.npy.part"} | others:
        (tmp_path / name).touch()
    comparison.clear(tmp_path / "run.pt")
    assert {path.name for path in tmp_path.iterdir()} == others


@pytest.mark.slow
@pytest.mark.parametrize("file", ["shapes-lt", "shuffled_maps"])
def test_measured_rows_are_of_the_recipes_and_images_as_they_are_now(same_bits, file):
    """A change of a recipe or of shapes-lt makes its rows out of date: measure them again, or remove them."""
    check_fingerprints(file, shapes_of_seed)


@cache
def shapes_of_seed(seed: int) -> LongTailedData:
    return load("shapes-lt", imbalance=100, seed=seed)


def test_how_far_another_processor_ends_from_the_same_seed_is_what_the_readme_of_the_data_says():
    ours, theirs = results.measured(RECIPES), results.measured(RECIPES, "shuffled_maps")
    both = ours.merge(theirs, on=["fingerprint", "seed"])
    apart = 100 * (both["top1_error_x"] - both["top1_error_y"]).abs()
    text = " ".join((Path(__file__).parents[1] / "data" / "README.md").read_text(encoding="utf-8").split())
    assert not set(both["device_x"]) & set(both["device_y"])
    assert f"{len(both)} runs that both files have differ by {apart.mean():.1f} points on average" in text
    assert f"and by {apart.max():.1f} at most" in text


@pytest.mark.slow
@pytest.mark.cifar
def test_measured_rows_on_photographs_are_of_the_recipes_and_images_as_they_are_now(cifar_root):
    check_fingerprints("cifar10-lt-100_small_net", partial(load, "cifar10-lt", imbalance=100, root=cifar_root))


def check_fingerprints(file: str, drawn: Callable[..., LongTailedData]) -> None:
    rows = results.measured(RECIPES, file)
    data = {seed: drawn(seed=seed) for seed in range(rows["seed"].max() + 1)}
    for row in rows.itertuples():
        recipe = RECIPES[row.recipe].resolve(SHAPES)
        assert row.fingerprint == fingerprint(recipe, data[row.seed]), (row.recipe, row.seed)


@pytest.mark.parametrize("recipe", ["drw_cs_ce", "drs_class_balanced", "logit_adjusted_post_hoc"])
def test_deferred_and_post_hoc_corrections_were_measured_ten_points_better_than_plain_training(recipe):
    errors = results.table(results.measured(["ce", recipe]))
    assert (errors["seeds"] >= 3).all() and errors.loc["ce", "error"] - errors.loc[recipe, "error"] >= 10


# --- the command -----------------------------------------------------------------------------------------------------


def test_families_hold_recipes_with_the_baseline_first():
    for name in FAMILIES:
        members = [recipe.name for recipe in family(name)]
        assert members[0] == "ce" and set(members) <= set(RECIPES) and len(set(members)) == len(members)
    assert sum(map(len, FAMILIES.values())) == len(RECIPES), "a name stands for one recipe"


def test_the_command_prints_one_table_and_writes_it(tmp_path, monkeypatch):
    arguments = ["compare", *NAMES, "--seeds", "2", "--epochs", "1", "--device", "cpu", *TINY]
    done = ltlab(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "compare-shapes-lt-10-max_count=20-test_count=5"
    assert sorted(p.name for p in folder.iterdir()) == ["comparison.png", "runs.csv", "table.csv"]
    assert (folder / "comparison.png").read_bytes().startswith(b"\x89PNG")
    expected = results.table(results.read_rows(folder / "runs.csv"))
    written = pd.read_csv(folder / "table.csv", index_col="recipe")
    columns = ["epochs", "seeds", "error", "error_std", "few_error", "seconds"]
    pd.testing.assert_frame_equal(written[columns], expected[columns], atol=1e-4)
    assert results.formatted(expected).to_string() in done.stdout
    assert "sample standard deviation" in done.stdout and "Traceback" not in done.stderr
    monkeypatch.setattr(comparison, "fit", never)
    assert ltlab(*arguments, cwd=tmp_path).stdout == done.stdout


def test_the_command_takes_a_family(tmp_path, monkeypatch):
    asked = []

    def spy(recipes, data_of_seed, seeds, **options):
        asked.append(([recipe.name for recipe in recipes], seeds, options["folder"].name))
        return made_rows({recipe.name: [0.3] for recipe in recipes})

    monkeypatch.setattr(results, "compare", spy)
    done = ltlab("compare", "ldam", "--family", "re-sampling", "--output", "mine", cwd=tmp_path)
    assert asked == [(["ldam", *(recipe.name for recipe in family("re-sampling"))], 3, "mine")], done.stderr
