"""Exercises: the unsolved one and every typical mistake get a hint of one line, the solution is accepted."""

import ast
import copy
import re
import sys
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from ltlab import mixup, recipes, results, samplers
from ltlab.cam import ForegroundTransform
from ltlab.course import CHECKS, QUIZZES, Matches, Verdict, check, difference, questions, quiz
from ltlab.course.check_bag_of_tricks import CHOICE_MISTAKES, SEARCHES, choose
from ltlab.data import load, long_tail_counts
from ltlab.losses import (
    BalancedSoftmaxLoss,
    ClassBalancedLoss,
    CostSensitiveLoss,
    GeneralizedReweightLoss,
    LabelAwareSmoothingLoss,
    effective_numbers,
)
from ltlab.recipes import Recipe, Stage
from ltlab.widgets import Choice, Question, Quiz

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
SOLUTIONS = sorted((NOTEBOOKS / "solutions").glob("*.ipynb"))
sys.path.insert(0, str(NOTEBOOKS))
import exercises  # noqa: E402


def read(path: Path) -> nbformat.NotebookNode:
    return nbformat.read(path, as_version=4)


def run(source: str, names: dict) -> object:
    """Run a cell; the value of its last line, as Jupyter shows it."""
    tree = ast.parse(source)
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "cell", "exec"), names)
    return eval(compile(last, "cell", "eval"), names) if last else None


def code(notebook: nbformat.NotebookNode) -> list[str]:
    return [cell.source for cell in exercises.tagged(notebook, "code")]


def cells(path: Path) -> list[tuple[str, str, str]]:
    """The setup of a solution notebook, and of each exercise its solution and the code to start from."""
    (setup,) = (cell.source for cell in read(path).cells if cell.id.endswith("-setup"))
    return [(setup, *pair) for pair in zip(code(read(path)), code(read(NOTEBOOKS / path.name)), strict=True)]


EXERCISES = {f"{path.stem[:2]}-{n}": exercise for path in SOLUTIONS for n, exercise in enumerate(cells(path), start=1)}


def is_a_hint(verdict: Verdict) -> bool:
    """One line, wrong, and not a word from the depths."""
    line = repr(verdict)
    return not verdict and "\n" not in line and "Traceback" not in line and 20 < len(line) < 450


# --- solutions, and what learners start from -------------------------------------------------------------------------


@pytest.mark.parametrize("exercise", EXERCISES)
def test_the_solution_is_accepted_and_the_unsolved_exercise_gets_a_hint(exercise):
    setup, solution, start = EXERCISES[exercise]
    names = {}
    run(setup, names)
    unsolved = run(start, dict(names))
    assert is_a_hint(unsolved)
    assert unsolved.hint == "unsolved" if "    ..." in start else unsolved.hint not in ("unsolved", "error")
    solved = run(solution, names)
    assert solved and "\n" not in repr(solved)
    assert solved.name == unsolved.name and solved.name.startswith(exercise[:2])


def interface(source: str) -> set[tuple]:
    """Names, arguments and docstrings of what a cell defines, and its last line."""
    tree = ast.parse(source)
    return {("", source.splitlines()[-1], "")} | {
        (part.name, ast.dump(getattr(part, "args", part.body[0])), ast.get_docstring(part) or "")
        for part in ast.walk(tree)
        if isinstance(part, ast.FunctionDef | ast.ClassDef)
    }


@pytest.mark.parametrize("exercise", EXERCISES)
def test_a_solution_defines_and_checks_what_the_exercise_does(exercise):
    _, solution, start = EXERCISES[exercise]
    assert interface(solution) == interface(start)


def test_every_notebook_has_a_tweak_something_to_implement_and_a_bug():
    kinds = [f"{path.stem[:2]}.{kind}" for path in SOLUTIONS for kind in ("tweak", "implement", "bug")]
    assert list(CHECKS) == kinds
    for kind, (_, _, start) in zip(kinds, EXERCISES.values(), strict=True):
        assert f'check("{kind}", ' in start


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_have_the_statements_of_their_lesson(path):
    lesson, solution = read(NOTEBOOKS / path.name), read(path)
    before = [cell.source for cell in exercises.tagged(solution, "markdown")]
    exercises.copy_statements(lesson, solution)
    after = [cell.source for cell in exercises.tagged(solution, "markdown")]
    assert before == after, f"copy them with: uv run python notebooks/exercises.py {path.stem}"


# --- typical mistakes ------------------------------------------------------------------------------------------------

KNOWN = [(name, hint) for name, verify in CHECKS.items() if isinstance(verify, Matches) for hint in verify.mistakes]


@pytest.mark.parametrize(("name", "hint"), KNOWN)
def test_a_known_mistake_is_named(name, hint):
    text, mistake = CHECKS[name].mistakes[hint]
    verdict = check(name, mistake)
    assert is_a_hint(verdict) and verdict.hint == hint and text in verdict.text


@pytest.mark.parametrize("name", [name for name, verify in CHECKS.items() if isinstance(verify, Matches)])
def test_the_oracle_passes(name):
    assert len(CHECKS[name].cases) >= 2 and check(name, CHECKS[name].oracle)


class _Sampler(samplers.ClassSampler):
    """Draws by a score of the counts; `normalised` divides it by its sum."""

    normalised = True

    def probabilities(self):
        scores = self.score(self.groups.counts)
        return scores / scores.sum() if self.normalised else scores


def sampler(score, *, normalised=True, draw=None) -> type:
    members = {"score": staticmethod(score), "normalised": normalised} | ({"draw": draw} if draw else {})
    return type("Mine", (_Sampler,), members)


def per_image(lam=None, *, target_lam=None, generator=True, brighter=1.0) -> type:
    """A mix with one thing wrong; `lam` draws the shares."""

    class Mix:
        def __call__(self, model, images, targets, *, class_counts=None, generator=None):
            source = generator if own else torch.Generator().manual_seed(next(seeds))
            draw = lam or (lambda n, g: mixup.draw_lambda(1.0, g, (n,)))
            share, partner = draw(len(images), source), mixup.draw_partner(len(images), source)
            logits = model(brighter * mixup.mix(images, partner, share))
            labelled = target_lam(len(images), source) if target_lam else share
            return logits, mixup.mix_targets(targets, partner, labelled, logits.shape[1])

    own, seeds = generator, iter(range(1, 100))
    return Mix


def weighted_sampler(weights, num_samples=None):
    return lambda labels: torch.utils.data.WeightedRandomSampler(
        weights(torch.bincount(labels), labels), num_samples or len(labels)
    )


def linear(change) -> object:
    """A function for `Stage(classifier=...)` that returns a copy of the classifier, changed."""

    def halfway(model, images, labels, class_counts):
        old = model.classifier
        new = torch.nn.Linear(old.in_features, old.out_features)
        new.load_state_dict(old.state_dict())
        with torch.no_grad():
            changed = change(new)
            return new if changed is None else changed

    return halfway


def evened_out(tau, *, bias=True, dim=1):
    def change(new):
        norms = new.weight.norm(dim=dim, keepdim=True)
        new.weight /= norms**tau
        if bias is None:
            new.bias = None
        elif bias == "too":
            new.bias /= norms[:, 0] ** tau

    return change


def in_place(model, images, labels, class_counts):
    model.classifier.weight.data /= model.classifier.weight.norm(dim=1, keepdim=True).detach() ** 0.5
    return model.classifier


def trained(*, everything=False, evaluating=True, steps=True):
    def train_classifier(model, batches):
        model.train(not evaluating)
        parameters = model.parameters() if everything else model.classifier.parameters()
        optimizer = torch.optim.SGD(parameters, lr=0.1, weight_decay=5e-4)
        for images, labels in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            for name, parameter in model.named_parameters():
                if not name.startswith("classifier"):
                    parameter.grad = torch.zeros_like(parameter)
            if steps:
                optimizer.step()

    return train_classifier


def drw(first, second, **options):
    late = Stage(share=second, loss=CostSensitiveLoss, **options)
    return Recipe(Stage(share=first), late, name="mine")


def weighted(beta):
    return Recipe(Stage(loss=partial(ClassBalancedLoss, beta=beta)), name="mine")


def over_sampling(epochs):
    return recipes.get("over_sampling").resolve(recipes.SHAPES).with_epochs(epochs)


def smoothed(head, tail, **options):
    return LabelAwareSmoothingLoss(long_tail_counts(10, 320, 100), head, tail, **options)


def aligned(name="disalign_slow_gate", **slots):
    first, second = recipes.get("disalign").stages
    return Recipe(first, replace(second, **slots), name=name)


@cache
def scenes():
    return load("scenes-lt").train.labels


def repeated(threshold):
    return samplers.RepeatFactorSampler(scenes(), threshold)


LAYER3 = mixup.ManifoldMixup(alpha=1.0, layer="layer3")
CAM, BALANCED_DRAWS = ForegroundTransform(), partial(samplers.PowerSampler, q=0.0)


def bag(mix=LAYER3, *, loss=BalancedSoftmaxLoss, early=None, moved=CAM, at=("first", "second"), last=None, name="mine"):
    """The paper's recipe with another mix and loss; `early` is more of stage 1, `last` all of stage 3."""
    first = Stage(share=1.6, schedule=at[0], mix=mix, **(early or {}))
    second = Stage(share=0.4, schedule=at[1], mix=mix, foreground=moved, loss=loss)
    third = Stage(share=0.1, schedule="finetune", **({"loss": loss} if last is None else last))
    return Recipe(first, second, third, name=name)


def by_seed(runs, values="held_out_error"):
    return runs.pivot(index="seed", columns="recipe", values=values)


STILL = {"flip": [False], "translate": [[0, 0]], "rotate": [0.0], "scale": [1.0]}
ONE_LAMBDA = lambda n, generator: mixup.draw_lambda(1.0, generator).expand(n)  # noqa: E731

MISTAKES = [
    ("00.tweak", Recipe(Stage(epochs=60)), "epochs"),
    ("00.tweak", Recipe(Stage(), Stage()), "stages"),
    ("00.tweak", Recipe(Stage(share=2.0, loss=BalancedSoftmaxLoss)), "plain"),
    ("00.tweak", recipes.get("ce_long"), "name"),
    ("00.tweak", 2.0, "kind"),
    ("00.implement", lambda logits, labels: print((logits.argmax(1) != labels).double().mean()), "printed"),
    ("01.tweak", 100, "smaller"),
    ("01.tweak", 10, "larger"),
    ("01.tweak", 0.5, "error"),
    ("01.tweak", "30", "kind"),
    ("01.bug", lambda n, keep, seed: np.random.RandomState(seed).permutation(n)[:keep], "subset"),
    ("01.bug", lambda n, keep, seed: torch.randperm(n)[:keep], "subset"),
    ("01.bug", lambda n, keep, seed: torch.randperm(n, generator=torch.manual_seed(seed))[:keep], "global"),
    ("02.tweak", weighted(0.9), "nearer"),
    ("02.tweak", weighted(0.9999), "further"),
    ("02.tweak", Recipe(Stage(loss=BalancedSoftmaxLoss)), "loss"),
    ("02.tweak", Recipe(Stage(), Stage(loss=partial(ClassBalancedLoss, beta=0.965))), "stages"),
    ("02.tweak", 0.965, "kind"),
    ("03.tweak", over_sampling(30), "fewer"),
    ("03.tweak", over_sampling(2), "more"),
    ("03.tweak", recipes.get("class_balanced").resolve(recipes.SHAPES).with_epochs(8), "sampler"),
    ("03.implement", sampler(lambda n: effective_numbers(n, 0.99), normalised=False), "sum"),
    ("03.implement", sampler(lambda n: 1 / effective_numbers(n, 0.99)), "inverse"),
    ("03.implement", sampler(lambda n: n.double()), "plain"),
    ("03.implement", sampler(lambda n: effective_numbers(n, 0.9)), "beta"),
    ("03.implement", sampler(lambda n: n.double() * 0 + 1), "balanced"),
    ("03.implement", sampler(lambda n: n.double() ** 0.5), "different"),
    (
        "03.implement",
        sampler(lambda n: effective_numbers(n, 0.99), draw=lambda self, g: torch.zeros(self.num_samples).long()),
        "draws",
    ),
    ("03.implement", sampler(lambda n: effective_numbers(n, 0.99).numpy()), "tensor"),
    ("03.implement", lambda labels: None, "kind"),
    ("03.bug", weighted_sampler(lambda counts, labels: 1 / counts), "classes"),
    ("03.bug", weighted_sampler(lambda counts, labels: counts[labels].double()), "head"),
    ("03.bug", weighted_sampler(lambda counts, labels: (1 / counts)[labels] ** 2), "thirds"),
    ("03.bug", weighted_sampler(lambda counts, labels: (1 / counts)[labels], num_samples=3), "length"),
    ("03.bug", lambda labels: None, "unsolved"),
    (
        "03.bug",
        lambda labels: torch.utils.data.WeightedRandomSampler(
            (1 / torch.bincount(labels))[labels], len(labels), replacement=False
        ),
        "replacement",
    ),
    ("04.tweak", mixup.InputMixup(1.0), "smaller"),
    ("04.tweak", mixup.InputMixup(0.2), "larger"),
    ("04.tweak", 0.4, "kind"),
    ("04.implement", per_image(ONE_LAMBDA), "one_lambda"),
    ("04.implement", per_image(target_lam=lambda n, g: mixup.draw_lambda(1.0, g, (n,))), "disagree"),
    ("04.implement", per_image(generator=False), "generator"),
    ("04.implement", per_image(brighter=0.5), "brightness"),
    ("04.implement", per_image(lambda n, g: torch.ones(n)), "unmixed"),
    ("04.implement", per_image()(), "kind"),
    ("04.implement", type("Mine", (), {"__call__": lambda self, model, x, y, **more: model(x)}), "returns"),
    ("04.implement", type("Mine", (), {"__call__": lambda self, model, x, y, **more: (model(x), y)}), "targets"),
    ("05.tweak", drw(0.8, 0.2), "start"),
    ("05.tweak", drw(0.5, 0.2), "length"),
    ("05.tweak", drw(0.5, 0.5, schedule="finetune"), "schedule"),
    ("05.tweak", Recipe(Stage(share=0.5), Stage(share=0.5)), "stages"),
    ("05.tweak", Recipe(Stage(share=0.5), Stage(share=0.5, loss=lambda n: CostSensitiveLoss(n))), "stages"),
    ("05.tweak", Recipe(*drw(0.5, 0.5).stages, name="drw_cs_ce"), "name"),
    ("05.implement", linear(evened_out(1.0)), "tau_1"),
    ("05.implement", linear(evened_out(0.0)), "tau_0"),
    ("05.implement", linear(evened_out(0.5, dim=0)), "rows"),
    ("05.implement", linear(evened_out(0.5, bias=None)), "no_bias"),
    ("05.implement", linear(evened_out(0.5, bias="too")), "bias"),
    ("05.implement", linear(lambda new: new.weight.detach()), "kind"),
    ("05.implement", in_place, "in_place"),
    ("05.bug", trained(everything=True), "parameter"),
    ("05.bug", trained(evaluating=False), "buffer"),
    ("05.bug", trained(steps=False), "nothing"),
    ("06.tweak", STILL | {"rotate": [90.0], "translate": [[0, -3]]}, "turn"),
    ("06.tweak", STILL | {"rotate": [-90.0], "translate": [[0, 3]]}, "down"),
    ("06.tweak", STILL | {"rotate": [-90.0], "translate": [[-3, 0]]}, "sideways"),
    ("06.tweak", STILL | {"rotate": [90.0], "translate": [[0, 3]]}, "turn_and_down"),
    ("06.tweak", STILL | {"rotate": [-90.0]}, "not_moved"),
    ("06.tweak", STILL | {"translate": [[0, -3]]}, "not_turned"),
    ("06.tweak", STILL | {"rotate": [-45.0]}, "different"),
    ("06.tweak", {"rotate": [-90.0]}, "kind"),
    ("06.tweak", STILL | {"scale": [0.0]}, "error"),
    ("07.tweak", recipes.get("bag_of_tricks"), "mix"),
    ("07.tweak", bag(early={"loss": BalancedSoftmaxLoss}), "loss"),
    ("07.tweak", bag(early={"sampler": BALANCED_DRAWS}), "sampler"),
    ("07.tweak", bag(last={}), "loss"),
    ("07.tweak", bag(loss=BalancedSoftmaxLoss([3, 1])), "loss"),
    ("07.tweak", bag(moved=None), "foreground"),
    ("07.tweak", bag(at=("base", "base")), "schedule"),
    ("07.tweak", bag(early={"epochs": 320}), "epochs"),
    ("07.tweak", bag(early={"batch_norm": "shift"}), "batch_norm"),
    ("07.tweak", bag().first(2), "stages"),
    ("07.tweak", bag(name="bag_of_tricks"), "name"),
    ("07.tweak", bag().stages, "kind"),
    ("07.bug", lambda runs: by_seed(runs, "test_error").mean().idxmin(), "test_error"),
    ("07.bug", lambda runs: by_seed(runs).mean().idxmin(), "seeds"),
    ("07.bug", lambda runs: by_seed(runs).dropna(axis=1).mean().idxmin(), "recipe_left_out"),
    ("07.bug", lambda runs: by_seed(runs).min().idxmin(), "luckiest"),
    ("07.bug", lambda runs: by_seed(runs).dropna().mean().idxmax(), "largest"),
    ("07.bug", lambda runs: by_seed(runs).dropna().mean().min(), "kind"),
    ("08.tweak", smoothed(0.2, 0.05), "head"),
    ("08.tweak", smoothed(2 / 9, 0.05), "tail"),
    ("08.tweak", LabelAwareSmoothingLoss([3, 1]), "counts"),
    ("08.tweak", 0.2, "kind"),
    ("09.tweak", aligned(), "rates"),
    ("09.tweak", aligned(rates={"classifier": 0.1}), "part"),
    ("09.tweak", aligned(rates={"classifier.gate": 10.0}), "factor"),
    ("09.tweak", aligned(rates={"classifier.gate.weight": 0.1}), "factor"),
    ("09.tweak", aligned("disalign", rates={"classifier.gate": 0.1}), "name"),
    ("09.tweak", aligned(rates={"classifier.gate": 0.1}, loss=CostSensitiveLoss), "loss"),
    ("09.tweak", aligned(rates={"classifier.gate": 0.1}, batch_norm="shift"), "trains"),
    ("09.tweak", recipes.get("crt"), "stages"),
    ("10.tweak", repeated(0.001), "lvis"),
    ("10.tweak", repeated(0.1), "border"),
    ("10.tweak", samplers.RepeatFactorSampler([torch.tensor([0])] * 684, 100 / 684), "labels"),
    ("10.tweak", 100 / 684, "kind"),
    ("11.tweak", recipes.get("ce"), "loss"),
    ("11.tweak", recipes.get("ce_cosine"), "loss"),
    ("11.tweak", recipes.get("balanced_softmax"), "head"),
    ("11.tweak", recipes.get("crt"), "stages"),
    ("11.tweak", recipes.get("input_mixup_balanced_softmax"), "slots"),
    ("11.tweak", Recipe(Stage(loss=BalancedSoftmaxLoss), name="ce_cosine", classifier="cosine"), "name"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), MISTAKES, ids=[f"{m[0]} {m[2]}" for m in MISTAKES])
def test_a_typical_mistake_gets_its_hint(name, answer, hint):
    verdict = check(name, answer)
    assert is_a_hint(verdict) and verdict.hint == hint, verdict


def subset_and_state_back(n, keep, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.randperm(n)[:keep]


class MixedInOneLine:
    def __call__(self, model, images, targets, *, class_counts=None, generator=None):
        lam, partner = torch.rand(len(images), generator=generator), mixup.draw_partner(len(images), generator)
        logits, share = model(mixup.mix(images, partner, lam)), lam[:, None]
        labels = F.one_hot(targets, logits.shape[1])
        return logits, share * labels + (1 - share) * labels[partner]


def halfway_by_copy(model, images, labels, class_counts):
    new = copy.deepcopy(model.classifier)
    new.weight.data /= new.weight.data.norm(dim=1, keepdim=True).sqrt()
    return new


def trained_on_fixed_features(model, batches):
    model.eval().features.requires_grad_(False)
    optimizer = torch.optim.SGD([model.classifier.weight], lr=0.01)
    for images, labels in batches:
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()


def best_on_shared_seeds(runs):
    seeds = set.intersection(*(set(of["seed"]) for _, of in runs.groupby("recipe")))
    return runs[runs["seed"].isin(seeds)].groupby("recipe")["held_out_error"].mean().sort_values().index[0]


OTHER_WAYS = [
    ("00.tweak", Recipe(Stage(share=2.0), name="mine")),
    ("01.tweak", torch.tensor(30)),
    ("01.tweak", np.float32(25.5)),
    ("01.bug", subset_and_state_back),
    ("01.bug", lambda n, keep, seed: torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:keep].tolist()),
    ("02.tweak", Recipe(Stage(loss=lambda counts: ClassBalancedLoss(counts, beta=0.965)))),
    ("03.implement", sampler(lambda n: (1 - 0.99 ** n.double()) / 0.01)),
    ("03.bug", lambda labels: samplers.PowerSampler(labels, q=0.0)),
    ("04.implement", MixedInOneLine),
    ("05.tweak", drw(0.5, 0.5)),
    ("05.implement", halfway_by_copy),
    ("05.bug", trained_on_fixed_features),
    ("06.tweak", {"flip": [False], "translate": [[0.0, -3.0]], "rotate": [270], "scale": torch.ones(1)}),
    ("07.bug", best_on_shared_seeds),
    ("08.tweak", smoothed(2 / 9, 1 / 18)),
    ("08.tweak", smoothed(0.2, 0.05, shape=3.0, spread="others")),
    ("09.tweak", aligned(rates={"classifier.gate.weight": 0.1, "classifier.gate.bias": 0.1})),
    ("09.tweak", aligned(rates={"classifier.gate": 0.1}, loss=GeneralizedReweightLoss([3, 1], rho=1.2))),
    ("10.tweak", repeated(0.146)),
    ("11.tweak", Recipe(Stage(loss=BalancedSoftmaxLoss([3, 1])), name="mine", classifier="cosine_learnt")),
]


@pytest.mark.parametrize(("name", "answer"), OTHER_WAYS)
def test_a_right_answer_written_in_another_way_is_accepted(name, answer):
    assert check(name, answer)


def test_gains_are_those_of_results():
    """On the shipped rows, as a learner compares them."""
    rows = results.measured(["ce", "ce_long", "input_mixup", "crt", "bag_of_tricks"])
    table, errors = results.gains(rows), 100 * rows.pivot(index="seed", columns="recipe", values="balanced_error")
    epochs = rows.drop_duplicates("recipe").set_index("recipe")["epochs"].to_dict()
    found = CHECKS["07.implement"].oracle(errors, epochs, ["ce", "ce_long"])
    assert found == {name: pytest.approx(tuple(table.loc[name, ["gain", "gain_std"]])) for name in table.index}


def test_every_exercise_has_two_typical_mistakes_or_more():
    tried = [name for name, _ in KNOWN] + [name for name, _, _ in MISTAKES]
    assert all(tried.count(name) >= 2 for name in CHECKS)


def fails(*arguments, **more):
    raise KeyError("a line\nand another, in which torch says at length what it would have taken. " * 20)


@pytest.mark.parametrize("name", CHECKS)
@pytest.mark.parametrize(
    "answer",
    [None, ..., 3, "text", [], {}, torch.zeros(3), torch.nn.Linear, object(), fails, lambda *a: None, lambda *a: ...,
     lambda *a: "text", lambda *a: [], lambda *a: torch.zeros(7), lambda *a: {}, lambda: 0, int],
)  # fmt: skip
def test_no_answer_whatsoever_ends_in_a_traceback(name, answer):
    assert is_a_hint(check(name, answer))


def test_check_leaves_the_global_generators_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    for name, answer, _ in MISTAKES:
        check(name, answer)
    assert torch.equal(torch.get_rng_state(), before)


def test_an_unknown_exercise_is_an_error_that_names_the_nearest():
    with pytest.raises(ValueError, match=r"did you mean '02.implement'"):
        check("02.implment", None)


def test_a_verdict_is_its_line_and_its_truth():
    assert repr(Verdict("02.bug", True, "so it is")) == "✓ 02.bug: so it is"
    assert repr(wrong := Verdict("02.bug", False, "1 < 2")) == "✗ 02.bug: 1 < 2"
    assert "✗ 02.bug: 1 &lt; 2</p>" in wrong._repr_html_()
    assert Verdict("a", True, "") and not Verdict("a", False, "")


def test_an_error_is_found_in_the_answers_own_line():
    verdict = check("00.implement", lambda logits, labels: fails(logits))
    line = fails.__code__.co_firstlineno + 1
    assert verdict.hint == "error" and f"line {line} (raise KeyError" in verdict.text
    assert "line" not in check("06.tweak", STILL | {"scale": [0.0]}).text, "ltlab's own lines are no help"


def test_what_an_answer_prints_is_shown(capsys):
    assert check("00.bug", lambda history: [print("mine"), history["test_error"].iloc[-1]][1])
    assert capsys.readouterr().out == "mine\n" * 3


def test_an_answer_may_change_its_arguments():
    def changes_them(logits, labels):
        error = CHECKS["00.implement"].oracle(logits, labels)
        logits.zero_(), labels.zero_()
        return error

    assert check("00.implement", changes_them) and check("00.implement", changes_them)


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=5), st.integers(0, 4), st.floats(0.01, 10))
def test_difference_sees_every_place(values, place, step):
    place %= len(values)
    expected = torch.tensor(values, dtype=torch.float64)
    assert difference(values, expected) == difference(expected.numpy(), expected) == difference(expected, values) == ""
    other = expected.clone()
    other[place] += step * (1 + expected[place].abs())
    assert f"at [{place}]" in difference(other, expected)


def test_difference_in_words():
    nan = torch.tensor([0.5, torch.nan])
    assert difference(nan, nan.double()) == ""
    assert difference(torch.tensor([0.5, 0.0]), nan) == "expected nan, got 0 at [1]"
    assert difference([1.0], 1.0) == "expected one number, got a tensor of shape (1,)"
    assert difference("1", 1.0) == "expected one number, got a str"
    assert difference({"a": 1}, {"a": 1, "b": 2}) == "expected a dictionary of ['a', 'b'], got a dictionary of ['a']"
    assert difference({"a": 1, "b": 3}, {"a": 1, "b": 2}) == "b: expected 2, got 3"
    assert difference({"a": 1, "b": None}, {"a": 1, "b": 2}) == "b: expected an int, got None"
    assert difference(torch.ones(2, requires_grad=True), torch.ones(2)) == ""


@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_has_one_fair_winner_and_a_mistake_never_names_two(search):
    """The best by brute force; where two mistakes choose the same wrong recipe, the hint would be a guess."""
    runs = SEARCHES[search]
    names = list(runs["recipe"].unique())
    seeds_of = {name: set(runs["seed"][runs["recipe"] == name]) for name in names}
    shared = runs[runs["seed"].isin(set.intersection(*seeds_of.values()))]
    error = {name: shared["held_out_error"][shared["recipe"] == name].mean() for name in names}
    best = min(error, key=error.get)
    assert sorted(error.values())[1] - error[best] >= 1
    assert choose(runs) == best
    wrong = [mistake(runs) for _, mistake in CHOICE_MISTAKES.values() if mistake(runs) != best]
    assert len(wrong) >= 2 and len(set(wrong)) == len(wrong)


# --- quizzes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("notebook", QUIZZES)
def test_quizzes_have_three_to_five_questions_and_the_right_answer_is_not_always_in_one_place(notebook):
    asked = questions(notebook)
    assert 3 <= len(asked) <= 5
    assert len({[choice.right for choice in question.choices].index(True) for question in asked}) > 1
    for question in asked:
        assert 3 <= len(question.choices) <= 4
        assert len({choice.why for choice in question.choices}) == len(question.choices)


def test_every_lesson_with_exercises_has_a_quiz():
    assert sorted(QUIZZES) == [path.stem[:2] for path in SOLUTIONS]
    with pytest.raises(ValueError, match="unknown quiz"):
        quiz("99")


def test_percentages_with_decimals_in_quizzes_are_published_errors():
    """Whatever is measured here is computed in a notebook; a quiz asks why, not how much."""
    known = {f"{error:.2f}" for error in results.published("cifar10-lt", 100)["top1_error_percent"]}
    for notebook in QUIZZES:
        texts = [text for q in questions(notebook) for text in (q.text, *(c.text + c.why for c in q.choices))]
        assert {*re.findall(r"(\d+\.\d+)(?: to \d+\.\d+)? ?%", " ".join(texts))} <= known, notebook


def two_questions() -> Quiz:
    return Quiz([
        Question("Is `1 < 2`?", (Choice("yes & no", "No <b>no</b>."), Choice("yes", "So it is.", right=True))),
        Question("And now?", (Choice("here", "Right here.", right=True), Choice("there", "Not there."))),
    ])  # fmt: skip


def test_a_pressed_button_says_more_than_a_colour_and_the_explanation_is_a_status():
    shown = two_questions()
    wrong, right = shown.buttons[0]
    assert wrong.description == "a" and wrong.tooltip == "question 1, answer a: yes & no"
    wrong.click()
    assert wrong.description == "a ✗" and wrong.button_style == "danger"
    assert shown.feedback == ["✗ Not this one. No <b>no</b>.", ""]
    status = shown._status[0].value
    assert 'role="status"' in status and "&lt;b&gt;" in status and "<b>" not in status
    right.click()
    assert right.description == "b ✓" and shown.feedback[0] == "✓ Right. So it is."
    assert wrong.description == "a ✗", "what was tried stays to be seen"


def test_the_first_answer_counts():
    shown = two_questions()
    assert shown.score == "0 of 2 right at the first answer"
    for number, position in ((0, 0), (0, 1), (1, 0), (1, 1)):
        shown.buttons[number][position].click()
    assert shown.score == "1 of 2 right at the first answer"


def test_without_a_kernel_the_questions_are_text_and_the_answers_folded():
    shown = two_questions()._repr_mimebundle_()
    assert shown["text/html"].count("<details>") == 2 and "<code>1 &lt; 2</code>" in shown["text/html"]
    assert "<b>no</b>" not in shown["text/html"]
    assert shown["text/plain"].splitlines()[-1] == "Right: 1b, 2a"
    assert "application/vnd.jupyter.widget-view+json" in shown


@pytest.mark.parametrize(
    "choices",
    [(), (Choice("a", "b", right=True),), (Choice("a", "b"), Choice("c", "d")),
     (Choice("a", "b", right=True), Choice("c", "d", right=True)), (Choice("a", "b", right=True), Choice("a", "d")),
     (Choice("a", "b", right=True), Choice("c", ""))],
)  # fmt: skip
def test_a_question_without_one_right_answer_is_refused(choices):
    with pytest.raises(ValueError, match="question 'Why\\?'"):
        Question("Why?", choices)


def test_an_empty_quiz_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        Quiz([])
