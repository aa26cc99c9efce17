"""The search finds what a greedy choice finds, never chooses by the test set, and goes on where its budget ended."""

import dataclasses
import importlib
import math
from fractions import Fraction
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_cli import TINY, ltlab
from torch import nn

from ltlab import metrics, results
from ltlab.cam import ForegroundTransform
from ltlab.classifiers import fresh
from ltlab.data import LongTailedData, Split
from ltlab.losses import BalancedSoftmaxLoss, ClassBalancedLoss, FocalLoss
from ltlab.mixup import InputMixup
from ltlab.recipes import CIFAR, RECIPES, SHAPES, Recipe, Stage
from ltlab.results import combined, comparison, hold_out, to_code, trick_families
from ltlab.results.rows import COLUMNS
from ltlab.samplers import PowerSampler
from ltlab.train import Result

search_module = importlib.import_module("ltlab.results.search")  # results.search is the function
TEST_IMAGE = 255  # the grey of every test image; no training image has it


def made_data(seed: int = 0, counts: tuple[int, ...] = (6, 4, 2)) -> LongTailedData:
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    images = torch.randint(TEST_IMAGE, (len(labels), 3, 8, 8), generator=torch.Generator().manual_seed(seed))
    test = Split(torch.full((len(counts), 3, 8, 8), TEST_IMAGE, dtype=torch.uint8), torch.arange(len(counts)))
    names = tuple(f"class {c}" for c in range(len(counts)))
    return LongTailedData("shapes-lt", Split(images.to(torch.uint8), labels), test, names, {"seed": seed})


# --- holding out -----------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(2, 40), min_size=2, max_size=6), st.floats(0.01, 0.99), st.integers(0, 99))
def test_what_is_held_out_and_what_trains_are_the_training_set_in_two(counts, share, seed):
    data = made_data(counts=tuple(counts))
    held = hold_out(data, share, seed)
    expected = [min(n - 1, max(1, round(share * n))) for n in counts]
    assert torch.bincount(held.test.labels).tolist() == expected
    assert held.class_counts.tolist() == [n - h for n, h in zip(counts, expected, strict=True)]
    both = [bytes(image.numpy()) for split in (held.train, held.test) for image in split.images]
    assert sorted(both) == sorted(bytes(image.numpy()) for image in data.train.images)
    for split in (held.train, held.test):
        for image, label in zip(split.images, split.labels, strict=True):
            assert (data.train.images[data.train.labels == label] == image).all((1, 2, 3)).any()


def test_holding_out_is_a_function_of_the_seed_and_told_from_the_whole():
    data = made_data(counts=(40, 20))
    held = hold_out(data, 0.2, 1)
    assert held.fingerprint == hold_out(data, 0.2, 1).fingerprint
    assert len({held.fingerprint, data.fingerprint, hold_out(data, 0.2, 2).fingerprint}) == 3
    assert held.name == data.name and held.options == {"seed": 0, "held_out": 0.2}


def test_what_cannot_be_held_out_is_refused():
    with pytest.raises(ValueError, match="class 'class 1'"):
        hold_out(made_data(counts=(5, 1)))
    for share in (0, 1, math.nan):
        with pytest.raises(ValueError, match=f"share={share}"):
            hold_out(made_data(), share)


# --- tricks together -------------------------------------------------------------------------------------------------


def test_one_trick_is_its_recipe_at_the_epochs_of_plain_training():
    for tricks in trick_families().values():
        for trick in tricks:
            alone = combined(trick).resolve(SHAPES)
            assert alone.name == trick.name and alone.epochs == SHAPES.epochs
            if trick.resolve(SHAPES).epochs == SHAPES.epochs:
                assert alone.identity() == trick.resolve(SHAPES).identity()
    assert combined().resolve(SHAPES).identity() == RECIPES["ce"].resolve(SHAPES).identity()


def test_what_holds_throughout_gives_way_to_a_later_stage():
    both = combined(RECIPES["balanced_softmax"], RECIPES["input_mixup"], RECIPES["cam_drs"])
    loss, mix = BalancedSoftmaxLoss, InputMixup(alpha=1.0)
    first, second = RECIPES["cam_drs"].stages
    by_hand = Recipe(dataclasses.replace(first, loss=loss, mix=mix), dataclasses.replace(second, loss=loss, mix=mix))
    assert both.resolve(CIFAR).identity() == by_hand.resolve(CIFAR).identity()
    assert both.name == "balanced_softmax+input_mixup+cam_drs"
    later = combined(RECIPES["balanced_softmax"], RECIPES["drw_cs_ce"])
    assert [results.code.changed(stage)["loss"].__name__ for stage in later.stages] == [
        "BalancedSoftmaxLoss", "CostSensitiveLoss",
    ]  # fmt: skip
    assert combined(RECIPES["class_balanced"], RECIPES["drw_ldam"]).classifier == "cosine"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["balanced_softmax", "drw_ldam"], "two of them set the loss of stage 1"),
        (["drw_cs_ce", "cam_drs"], "drw_cs_ce and cam_drs both bring stages"),
        (["balanced_softmax", "logit_adjusted_post_hoc"], "logit_adjusted after BalancedSoftmaxLoss is the same"),
        (["own"], "own brings settings"),
    ],
)
def test_tricks_that_do_not_go_together(names, message):
    known = RECIPES | {"own": Recipe(Stage(), name="own", settings=CIFAR)}
    with pytest.raises(ValueError, match=message):
        combined(*(known[name] for name in names))


# --- the search, with a trainer that knows every error ---------------------------------------------------------------

CAM_BALANCED = {"sampler": partial(PowerSampler, q=0.0), "foreground": ForegroundTransform()}
FAMILIES = {
    "loss": [Recipe(Stage(loss=BalancedSoftmaxLoss), name="a"), Recipe(Stage(loss=FocalLoss()), name="A")],
    "sampler": [
        Recipe(Stage(sampler=partial(PowerSampler, q=q)), name=name) for name, q in {"b": 0.5, "B": 0.0}.items()
    ],
    "mix": [Recipe(Stage(share=2.0, mix=InputMixup(alpha=1.0)), name="c")],
    "second": [Recipe(Stage(share=0.8), Stage(share=0.2, **CAM_BALANCED), name="d")],
}


class KnownErrors:
    """In place of `fit`: a run takes ten seconds of a made-up clock and has the error, in percent, of a table."""

    def __init__(self, errors):
        self.errors, self.now, self.runs = errors, 0.0, []

    def fit(self, recipe, data, *, seed, **_):
        self.now += 10
        looked_at_test = bool((data.test.images == TEST_IMAGE).any())
        self.runs.append((recipe.name, seed, looked_at_test))
        assert looked_at_test or data.options["held_out"] == 0.2
        accuracy = 1 - self.errors(recipe.name, seed) / 100
        groups = metrics.class_groups(data.class_counts)
        accuracies = {f"{name}_accuracy": accuracy if group.any() else math.nan for name, group in groups.items()}
        figures = dict.fromkeys(COLUMNS[10:-10], 0.5) | {"balanced_error": 1 - accuracy, **accuracies}
        return Result(
            nn.Linear(1, 1),
            pd.DataFrame(),
            figures,
            torch.zeros(len(data.test), len(data.class_names)),
            recipe,
            seconds=10.0,
            network="small_net",
            precision="float32",
        )


def known_search(errors, folder, seeds=2, known=None, **options):
    known = known or KnownErrors(errors)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparison, "fit", known.fit)
        patch.setattr(search_module, "monotonic", lambda: known.now)
        patch.setattr(importlib.import_module("ltlab.results.rows"), "_commit", lambda: "")
        found = results.search(
            made_data, seeds, folder=folder, **{"families": FAMILIES, "device": "cpu", "progress": False} | options
        )
    return found, known


# a is the best loss, c alone is best, a + c better still, d helps only those two; b and B never
TABLE = {"ce": 50, "a": 40, "A": 45, "b": 55, "B": 50, "c": 38, "d": 42, "a+c": 30, "a+d": 44, "c+d": 33, "a+c+d": 21}


def by_table(name: str, seed: int) -> float:
    return TABLE[name] + 3 * seed


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return known_search(by_table, tmp_path_factory.mktemp("search"))


def test_the_greedy_optimum_is_found(whole):
    found, known = whole
    assert found.finished and found.recipe.name == "a+c+d" and found.next == ""
    rounds = found.rounds
    assert rounds[rounds["taken"]]["candidate"].tolist() == ["ce", "a", "c", "d", "a+c", "a+c+d"]
    assert rounds["candidate"].tolist() == ["ce", "a", "A", "b", "B", "c", "d", "a+c", "a+d", "c+d", "a+c+d"]
    assert rounds["against"].tolist() == [""] + ["ce"] * 6 + ["c"] * 3 + ["a+c"]
    assert rounds["round"].tolist() == [0] + [1] * 6 + [2] * 3 + [3]
    last = rounds.iloc[-1]
    assert last[["error", "gain", "gain_se"]].tolist() == pytest.approx([22.5, 9, 0])
    assert last["error_std"] == pytest.approx(math.sqrt(4.5))
    assert len(known.runs) == 2 * 11 + 2 * 2


def test_every_candidate_trains_by_the_settings_that_is_given(whole, tmp_path):
    short = dataclasses.replace(SHAPES, epochs=10, batch_size=4)
    found, _ = known_search(by_table, tmp_path, settings=short)
    assert found.recipe.name == "a+c+d" and found.recipe.settings is None
    assert set(found.test["epochs"]) == {10} and set(found.test["batch_size"]) == {4}
    assert not set(found.test["fingerprint"]) & set(whole[0].test["fingerprint"])
    own = [Recipe(Stage(sampler=partial(PowerSampler, q=0.5)), name="own", settings=SHAPES)]
    found, known = known_search(by_table, tmp_path, settings=short, families={"sampler": own})
    assert found.rounds["note"].tolist()[1].startswith("own brings settings") and not known.runs


def test_the_test_set_is_met_by_baseline_and_winner_alone_at_the_end(whole):
    found, known = whole
    at_test = [looked for _, _, looked in known.runs]
    assert at_test == sorted(at_test)
    assert [run[:2] for run in known.runs if run[2]] == [("ce", 0), ("ce", 1), ("a+c+d", 0), ("a+c+d", 1)]
    assert found.test["recipe"].tolist() == ["ce", "ce", "a+c+d", "a+c+d"]
    assert not found.test["options"].str.contains("held_out").any()


@pytest.mark.parametrize("runs_per_call", [3, 10])
def test_stopped_by_its_budget_and_called_again_it_ends_as_if_never_stopped(whole, tmp_path, runs_per_call):
    known, calls = KnownErrors(by_table), 0
    while True:
        before = len(known.runs)
        found, _ = known_search(None, tmp_path, known=known, budget_minutes=runs_per_call * 10 / 60)
        calls += 1
        if found.finished:
            break
        assert len(known.runs) == before + runs_per_call
        assert found.test is None and "the slowest run so far took 10 s" in found.next
    assert calls == math.ceil(26 / runs_per_call)
    assert known.runs == whole[1].runs
    pd.testing.assert_frame_equal(found.rounds, whole[0].rounds)
    assert to_code(found.recipe) == to_code(whole[0].recipe)


def test_what_was_found_before_the_budget_ended_and_what_every_round_has_to_do(tmp_path, capsys):
    # ce, six tricks, one and a half pairs
    found, known = known_search(by_table, tmp_path, budget_minutes=17 * 10 / 60, progress=True)
    rounds = capsys.readouterr().out.splitlines()
    assert rounds[0] == "round 1: 6 x 2 runs, epochs=30"  # how long a run takes is not known yet
    assert rounds[1].startswith("round 2: 3 x 2 runs, epochs=30, about 1 min")
    assert found.recipe.name == "c" and found.rounds["taken"].isna().tolist() == [False] * 7 + [True]
    assert found.next.startswith("a+d with seed 1")
    assert "open" in str(found) and "found so far: c" in str(found) and "next is a+d with seed 1" in str(found)
    assert not any(looked for *_, looked in known.runs)


@pytest.mark.parametrize(
    ("by_seed", "taken"),
    [
        ([9, 9], True),
        ([10, 8], False),  # mean 1, standard error 1
        ([9.9, 8], True),
        ([11, 5], False),  # mean 2, standard error 3
        ([9.999], True),  # of one seed, any gain counts
        ([10], False),
        ([10.5, 10.5, 8], False),  # mean 0.333, standard error 0.833
    ],
)
def test_a_trick_is_taken_if_its_gain_is_above_its_standard_error(tmp_path, by_seed, taken):
    def errors(name, seed):
        return by_seed[seed] if name == "c" else 10

    found, _ = known_search(errors, tmp_path, seeds=len(by_seed), families={"mix": FAMILIES["mix"]})
    assert found.finished and found.recipe.name == ("c" if taken else "ce")
    assert found.test["recipe"].drop_duplicates().tolist() == (["ce", "c"] if taken else ["ce"])


def exactly_better(candidate: tuple[int, ...], against: tuple[int, ...]) -> bool:
    """mean(d) > std(d) / sqrt(S) of whole numbers, without a root: mean > 0 and mean^2 > variance / S."""
    d = [Fraction(a - c) for a, c in zip(against, candidate, strict=True)]
    mean = sum(d) / len(d)
    variance = sum((x - mean) ** 2 for x in d) / (len(d) - 1)
    return mean > 0 and mean**2 > variance / len(d)


def greedy_by_hand(table: dict[str, tuple[int, ...]]) -> str:
    def best_of(names, against):
        better = [name for name in names if exactly_better(table[name], table[against])]
        return min(better, key=lambda name: sum(table[name]), default=None)

    def together(*parts):
        return "+".join(sorted({*"+".join(parts).split("+")}, key=str.lower))

    winners = [best_of(names, "ce") for names in (["a", "A"], ["b", "B"], ["c"], ["d"])]
    winners = [name for name in winners if name]
    if not winners:
        return "ce"
    best = min(winners, key=lambda name: sum(table[name]))
    names = [together(*pair) for pair in combinations(winners, 2)]
    while found := best_of(names, best):
        best = found
        names = [together(best, winner) for winner in winners if winner not in best]
    return best


def rounds_of(table: dict[str, tuple[int, ...]]) -> str:
    """The recipe that the rounds take from errors that are there already, without runs or rows on the disk."""
    rounds = search_module._Rounds(FAMILIES, [], Path(), 30, SHAPES, math.inf, {"progress": False})
    rounds.errors = lambda tricks: table[rounds.name(tricks)]
    rounds.play()
    return rounds.recipe(rounds.best).name


@settings(max_examples=30, deadline=None)
@given(st.data(), st.integers(2, 3))
def test_the_rounds_are_the_greedy_choice_on_any_errors(data, seeds):
    members = [[None, "a", "A"], [None, "b", "B"], [None, "c"], [None, "d"]]
    table = {}
    for chosen in np.stack(np.meshgrid(*map(np.arange, map(len, members)), indexing="ij"), -1).reshape(-1, 4):
        name = "+".join(filter(None, (m[i] for m, i in zip(members, chosen, strict=True)))) or "ce"
        size = 0 if name == "ce" else len(name.split("+"))
        around = st.integers(60 - 12 * size - 12, 60 - 12 * size + 12)  # so that more tricks often help
        table[name] = data.draw(st.tuples(*[around] * seeds))
    assert rounds_of(table) == greedy_by_hand(table)


def test_what_does_not_go_together_is_left_out_with_the_reason(tmp_path):
    families = {"loss": [RECIPES["balanced_softmax"]], "second": [RECIPES["logit_adjusted_post_hoc"]]}
    found, known = known_search(lambda name, seed: 50 if name == "ce" else 40, tmp_path, families=families)
    line = found.rounds.iloc[-1]
    both = "balanced_softmax+logit_adjusted_post_hoc"
    assert line["candidate"] == both and "same correction" in line["note"] and not line["taken"]
    assert f"left out: {both}: {line['note']}" in str(found)
    assert found.recipe.name == "balanced_softmax" and both not in {name for name, *_ in known.runs}


def test_a_candidate_that_diverges_is_left_out_but_not_the_baseline(tmp_path):
    def errors(name, seed):
        if name in diverging:
            raise FloatingPointError("the training loss is nan")
        return by_table(name, seed)

    diverging = {"c"}
    found, _ = known_search(errors, tmp_path / "c")
    assert found.rounds.set_index("candidate")["note"]["c"] == "recipe 'c', seed 0: the training loss is nan"
    assert found.recipe.name == "a"
    diverging = {"ce"}
    with pytest.raises(FloatingPointError, match="recipe 'ce', seed 0"):
        known_search(errors, tmp_path / "ce")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seeds": 0}, "seeds=0"),
        ({"budget_minutes": math.nan}, "budget_minutes=nan"),
        ({"epochs": 1}, "epochs=1: recipe 'd' needs at least 2"),
    ],
)
def test_a_mistake_is_named_before_anything_is_trained(tmp_path, options, message):
    known = KnownErrors(by_table)
    with pytest.raises(ValueError, match=message):
        known_search(None, tmp_path, known=known, **options)
    assert known.runs == [] and not list(tmp_path.iterdir())


def test_the_default_families_hold_deferred_and_cam_based_second_stages():
    names = {family: [trick.name for trick in tricks] for family, tricks in trick_families().items()}
    assert {"cs_ce", "balanced_softmax", "ldam"} <= set(names["re-weighting"])
    assert {"class_balanced", "progressive"} <= set(names["re-sampling"])
    assert {"input_mixup", "manifold_mixup", "remix"} <= set(names["mixup"])
    assert {"drw_cs_ce", "drw_ldam", "drs_class_balanced", "cam_drs"} <= set(names["second stage"])
    assert not {"crt", "tau_norm", "ce_long", "cam_drs_shuffled"} & set().union(*names.values())


# --- recipes as code -------------------------------------------------------------------------------------------------


def executed(code: str) -> Recipe:
    names = {}
    exec(code, names)
    return names["recipe"]


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_the_code_of_a_recipe_makes_it_again(recipe):
    again = executed(to_code(recipe))
    assert again.name == recipe.name
    for each in (SHAPES, CIFAR):
        resolved = recipe.resolve(each)
        assert again.resolve(each).identity() == resolved.identity()
        stretched = resolved.with_epochs(50)
        assert executed(to_code(stretched)).resolve(settings).identity() == stretched.identity()


def test_the_code_is_short_and_imports_from_where_the_documentation_does():
    assert to_code(RECIPES["drs_class_balanced"]) == (
        "from functools import partial\n\n"
        "from ltlab.recipes import Recipe, Stage\n"
        "from ltlab.samplers import PowerSampler\n\n"
        "recipe = Recipe(\n"
        "    Stage(share=0.8),\n"
        "    Stage(share=0.2, sampler=partial(PowerSampler, q=0.0)),\n"
        '    name="drs_class_balanced",\n'
        ")\n"
    )


class CrossEntropyLoss(nn.Module):
    """Custom, with the name of one of ltlab."""

    def __init__(self, class_counts):
        super().__init__()


def test_code_of_a_recipe_with_custom_parts():
    mine = Recipe(
        Stage(epochs=3, loss=CrossEntropyLoss),
        Stage(share=0.5, classifier=fresh, trains="classifier", batch_norm="eval", weight_decay=0.0,
              foreground=ForegroundTransform(kinds=("rotate+scale",), threshold="otsu", fill=True)),
        name='a "name"', settings=dataclasses.replace(SHAPES, name="mine", crop_padding=0),
    )  # fmt: skip
    code = to_code(mine)
    again = executed(code)
    assert again.name == mine.name and again.settings == mine.settings
    assert again.resolve(SHAPES).identity() == mine.resolve(SHAPES).identity()
    assert f"from {__name__} import CrossEntropyLoss" in code


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        ({"loss": lambda class_counts: FocalLoss()}, "loss=<lambda>"),
        ({"loss": ClassBalancedLoss([3, 2], beta=0.9)}, r"loss=ClassBalancedLoss\(beta=0.9\)"),
        ({"foreground": ForegroundTransform(masks=torch.ones(2, 4, 4, dtype=torch.bool))}, "foreground=Foreground"),
        ({"loss": partial(BalancedSoftmaxLoss, reduction=math.inf)}, "reduction=inf"),
    ],
)
def test_what_code_cannot_make_again_is_refused(slots, message):
    with pytest.raises(ValueError, match=f"{message}.* cannot be written as code"):
        to_code(Recipe(Stage(), Stage(**slots)))


def test_two_things_of_one_name_are_refused():
    ours = Stage(loss=importlib.import_module("ltlab.losses").CrossEntropyLoss(reduction="mean"))
    with pytest.raises(ValueError, match=r"loss=CrossEntropyLoss\(reduction='mean'\) cannot be written as code"):
        to_code(Recipe(Stage(loss=CrossEntropyLoss), ours))


# --- the commands ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_command_stops_with_its_budget_goes_on_and_ends_with_code(tmp_path, monkeypatch):
    tricks = {"loss": [RECIPES["balanced_softmax"]], "second": [RECIPES["drs_class_balanced"]]}
    monkeypatch.setattr(search_module, "trick_families", lambda: tricks)
    arguments = ["search", "--seeds", "1", "--epochs", "2", "--device", "cpu", *TINY]
    stopped = ltlab(*arguments, "--budget-minutes", "0.00001", cwd=tmp_path)
    assert stopped.returncode == 0 and "the budget is spent; next is ce with seed 0" in stopped.stdout, stopped.stderr
    done = ltlab(*arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "runs" / "search-shapes-lt-10-max_count=20-test_count=5"
    assert [p.name for p in folder.iterdir()] == ["runs.csv"]
    rows = results.read_rows(folder / "runs.csv")
    assert rows["recipe"].tolist()[:3] == ["ce", "balanced_softmax", "drs_class_balanced"]
    held_out = rows["options"].str.contains("held_out=0.2")
    assert held_out[:3].all() and rows["recipe"][~held_out].iloc[0] == "ce"
    recipe = executed(done.stdout[done.stdout.index("from ltlab") : done.stdout.index("the runs are in")])
    assert f"found: {recipe.name}\n" in done.stdout


def test_recipes_as_code(tmp_path):
    done = ltlab("recipes", "drw_cs_ce", "--code", "--data", "shapes-lt", cwd=tmp_path)
    recipe = executed(done.stdout)
    assert recipe.resolve(CIFAR).identity() == RECIPES["drw_cs_ce"].resolve(SHAPES).identity()
