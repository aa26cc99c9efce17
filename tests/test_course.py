"""Exercises: the unsolved one and every typical mistake get a hint of one line, the solution is accepted.

Texts: the figures that lessons, quizzes and README state are those of the rows they come from.
"""

import ast
import copy
import re
import sys
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
from ltlab.data import benchmark_class_counts
from ltlab.losses import BalancedSoftmaxLoss, ClassBalancedLoss, CostSensitiveLoss, effective_numbers, ldam_margins
from ltlab.recipes import OneCycle, Recipe, Stage
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


def cells(path: Path) -> list[tuple[str, str, str]]:
    """The setup of a solution notebook, and of each exercise its solution and the code to start from."""
    code = [cell for cell in read(path).cells if cell.cell_type == "code" and "%pip" not in cell.source]
    solved = [cell.source for cell in code if exercises.TAG in cell.metadata.get("tags", [])]
    (setup,) = (cell.source for cell in code if exercises.TAG not in cell.metadata.get("tags", []))
    return [(setup, source, exercises.starting_code(source)) for source in solved]


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
    assert unsolved.hint == "unsolved" if exercises.PLACEHOLDER in start else unsolved.hint != "error"
    solved = run(solution, names)
    assert solved and "\n" not in repr(solved)
    assert solved.name == unsolved.name and solved.name.startswith(exercise[:2])


def test_every_notebook_has_a_tweak_something_to_implement_and_a_bug():
    asked = {run(solution, run_setup(setup)).name for setup, solution, _ in EXERCISES.values()}
    assert asked == set(CHECKS)
    assert asked == {f"{path.stem[:2]}.{kind}" for path in SOLUTIONS for kind in ("tweak", "implement", "bug")}


def run_setup(setup: str) -> dict:
    names = {}
    run(setup, names)
    return names


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_notebooks_hold_what_the_command_writes(path):
    lesson, again = read(NOTEBOOKS / path.name), read(NOTEBOOKS / path.name)
    exercises.write_exercises(again, read(path), path.stem)
    assert [cell.source for cell in lesson.cells] == [cell.source for cell in again.cells], (
        f"write them anew with: uv run python notebooks/exercises.py {path.stem}"
    )


def test_writing_replaces_the_section_and_keeps_the_output_of_unchanged_cells():
    v4 = nbformat.v4
    code = "def f():\n    ### BEGIN SOLUTION\n    return 1\n    ### END SOLUTION\n\n\ncheck('00.implement', f)"
    solution = v4.new_notebook(cells=[v4.new_markdown_cell("1. Task."), v4.new_code_cell(code)])
    for cell in solution.cells:
        cell.metadata["tags"] = ["exercise"]
    lesson = v4.new_notebook(cells=[v4.new_markdown_cell("## Summary\n\n## Exercises\nold"), v4.new_code_cell("old")])
    exercises.write_exercises(lesson, solution, "00_start_here")
    text, exercise, last = lesson.cells
    assert text.source.startswith("## Summary\n\n## Exercises\n") and text.source.endswith("1. Task.")
    assert exercise.source == "def f():\n    ...  # your lines here\n\n\ncheck('00.implement', f)"
    assert last.source == 'quiz("00")'
    exercise.execution_count = 7
    exercises.write_exercises(lesson, solution, "00_start_here")
    assert [cell.execution_count for cell in lesson.cells[1:]] == [7, None] and len(lesson.cells) == 3


def test_the_command_refuses_notebooks_of_another_form():
    v4 = nbformat.v4
    task = v4.new_markdown_cell("1. Task.", metadata={"tags": ["exercise"]})
    with pytest.raises(ValueError, match="in turn"):
        exercises.exercises(v4.new_notebook(cells=[task]))
    code = v4.new_code_cell("1", metadata={"tags": ["exercise"]})
    with pytest.raises(ValueError, match="exactly one"):
        exercises.write_exercises(v4.new_notebook(), v4.new_notebook(cells=[task, code]), "00_start_here")


def test_start_lines_keep_their_own_indentation():
    cell = """
for i in 1, 2:
    ### BEGIN START
    # if i:
    #     f(i)  # why
    ### BEGIN SOLUTION
    g(i)
    ### END SOLUTION
    h()"""
    assert (
        exercises.starting_code(cell)
        == """
for i in 1, 2:
    if i:
        f(i)  # why
    h()"""
    )


# --- typical mistakes ------------------------------------------------------------------------------------------------

KNOWN = [(name, hint) for name, verify in CHECKS.items() if isinstance(verify, Matches) for hint in verify.mistakes]


@pytest.mark.parametrize(("name", "hint"), KNOWN)
def test_a_known_mistake_is_named(name, hint):
    text, mistake = CHECKS[name].mistakes[hint]
    verdict = check(name, mistake)
    assert is_a_hint(verdict) and verdict.hint == hint and text in verdict.text


@pytest.mark.parametrize("name", [name for name, verify in CHECKS.items() if isinstance(verify, Matches)])
def test_functions_have_two_known_mistakes_or_more_and_their_oracle_passes(name):
    assert len(CHECKS[name].mistakes) >= 2 and len(CHECKS[name].cases) >= 2
    assert check(name, CHECKS[name].oracle)


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
    ("00.tweak", OneCycle(lr=0.1), "peak"),
    ("00.tweak", OneCycle(lr=0.004, rise=0.5), "start"),
    ("00.tweak", OneCycle(lr=0.05, rise=0.5), "start"),
    ("00.tweak", 0.1, "kind"),
    ("01.tweak", 100, "smaller"),
    ("01.tweak", 10, "larger"),
    ("01.tweak", 0.5, "error"),
    ("01.tweak", "30", "kind"),
    ("01.bug", lambda n, keep, seed: np.random.RandomState(seed).permutation(n)[:keep], "subset"),
    ("01.bug", lambda n, keep, seed: torch.randperm(n)[:keep], "subset"),
    ("01.bug", lambda n, keep, seed: torch.randperm(n, generator=torch.manual_seed(seed))[:keep], "global"),
    ("01.bug", lambda n, keep, seed: torch.randperm(n, generator=torch.Generator().manual_seed(seed)), "subset"),
    ("02.tweak", weighted(0.9), "nearer"),
    ("02.tweak", weighted(0.9999), "further"),
    ("02.tweak", Recipe(Stage(loss=BalancedSoftmaxLoss)), "loss"),
    ("02.tweak", Recipe(Stage(), Stage(loss=partial(ClassBalancedLoss, beta=0.965))), "stages"),
    ("02.tweak", 0.965, "kind"),
    ("03.tweak", over_sampling(30), "fewer"),
    ("03.tweak", over_sampling(2), "more"),
    ("03.tweak", recipes.get("over_sampling"), "fewer"),
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
    ("03.bug", weighted_sampler(lambda counts, labels: (1 / counts)[labels] ** 0.5), "part_way"),
    ("03.bug", weighted_sampler(lambda counts, labels: (1 / counts)[labels] ** 2), "thirds"),
    ("03.bug", weighted_sampler(lambda counts, labels: (1 / counts)[labels], num_samples=3), "length"),
    ("03.bug", lambda labels: None, "unsolved"),
    ("04.tweak", mixup.InputMixup(1.0), "smaller"),
    ("04.tweak", mixup.InputMixup(0.2), "larger"),
    ("04.tweak", 0.4, "kind"),
    ("04.implement", per_image(ONE_LAMBDA), "one_lambda"),
    ("04.implement", per_image(target_lam=lambda n, g: mixup.draw_lambda(1.0, g, (n,))), "disagree"),
    ("04.implement", per_image(generator=False), "generator"),
    ("04.implement", per_image(brighter=0.5), "brightness"),
    ("04.implement", per_image(lambda n, g: torch.ones(n)), "unmixed"),
    ("04.implement", per_image()(), "kind"),
    ("05.tweak", drw(0.8, 0.2), "start"),
    ("05.tweak", drw(0.5, 0.2), "length"),
    ("05.tweak", drw(0.5, 0.5, schedule="finetune"), "schedule"),
    ("05.tweak", Recipe(Stage(share=0.5), Stage(share=0.5)), "stages"),
    ("05.tweak", Recipe(Stage(share=0.5, loss=CostSensitiveLoss), Stage(share=0.5)), "stages"),
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
    ("05.bug", trained(everything=True, evaluating=False), "parameter"),
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
    ("07.tweak", bag(mixup.ManifoldMixup(alpha=1.0, layer="pool")), "mix"),
    ("07.tweak", bag(early={"loss": BalancedSoftmaxLoss}), "loss"),
    ("07.tweak", bag(early={"sampler": BALANCED_DRAWS}), "sampler"),
    ("07.tweak", bag(last={"sampler": BALANCED_DRAWS, "loss": BalancedSoftmaxLoss}), "sampler"),
    ("07.tweak", bag(last={}), "loss"),
    ("07.tweak", bag(last={"mix": LAYER3, "loss": BalancedSoftmaxLoss}), "mix"),
    ("07.tweak", bag(loss=BalancedSoftmaxLoss([3, 1])), "loss"),
    ("07.tweak", bag(moved=None), "foreground"),
    ("07.tweak", bag(at=("base", "base")), "schedule"),
    ("07.tweak", bag(early={"epochs": 320}), "epochs"),
    ("07.tweak", bag(early={"batch_norm": "shift"}), "batch_norm"),
    ("07.tweak", bag().first(2), "stages"),
    ("07.tweak", bag(name="bag_of_tricks"), "name"),
    ("07.tweak", bag().stages, "kind"),
    ("07.bug", lambda runs: by_seed(runs, "test_error").mean().idxmin(), "test_error"),
    ("07.bug", lambda runs: by_seed(runs, "test_error").dropna().mean().idxmin(), "test_error"),
    ("07.bug", lambda runs: by_seed(runs).mean().idxmin(), "seeds"),
    ("07.bug", lambda runs: by_seed(runs).dropna(axis=1).mean().idxmin(), "recipe_left_out"),
    ("07.bug", lambda runs: by_seed(runs).min().idxmin(), "luckiest"),
    ("07.bug", lambda runs: by_seed(runs).dropna().mean().idxmax(), "largest"),
    ("07.bug", lambda runs: by_seed(runs).dropna().mean().min(), "kind"),
]


@pytest.mark.parametrize(("name", "answer", "hint"), MISTAKES, ids=[f"{m[0]} {m[2]}" for m in MISTAKES])
def test_a_typical_mistake_gets_its_hint(name, answer, hint):
    verdict = check(name, answer)
    assert is_a_hint(verdict) and verdict.hint == hint, verdict


def error_in_a_loop(logits, labels):
    return sum(int(z.argmax() != y) for z, y in zip(logits, labels, strict=True)) / len(labels)


def groups_in_lists(accuracy, counts):
    of = {"few": [], "many": [], "medium": []}
    for a, n in zip(accuracy.tolist(), counts.tolist(), strict=True):
        of["many" if n > 100 else "medium" if n >= 20 else "few"].append(a)
    return {group: float(np.mean(values)) if values else np.nan for group, values in of.items()}


def subset_and_state_back(n, keep, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torch.randperm(n)[:keep]


def softmax_by_hand(logits, targets, counts):
    e = logits.exp() * counts
    return -(e[range(len(targets)), targets] / e.sum(1)).log().mean()


def focal_by_hand(logits, targets, weights, gamma):
    p = logits.softmax(1)[range(len(targets)), targets]
    return [(weights[y] * (1 - q) ** gamma * -q.log()).item() for q, y in zip(p, targets, strict=True)]


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


def flipped_by_slices(image, mask):
    columns = torch.where(mask.any(0))[0]
    box, out = slice(columns.min(), columns.max() + 1), image.clone()
    out[:, :, box] = torch.where(mask[:, box].flip(1), image[:, :, box].flip(2), image[:, :, box])
    return out


def shifted_pixel_by_pixel(image, mask):
    rows, columns = mask.nonzero(as_tuple=True)
    out = image.clone()
    out[:, rows, columns - columns.min()] = image[:, rows, columns]
    return out


def gains_in_loops(errors, epochs, controls):
    found = {}
    for name in set(errors) - set(controls):
        control = sorted((k for k in controls if epochs[k] <= epochs[name]), key=lambda k: epochs[k])[-1]
        pairs = (errors[control] - errors[name]).dropna().tolist()
        found[name] = [np.mean(pairs), np.std(pairs, ddof=1)]
    return found


def best_paired(runs):
    errors = by_seed(runs)
    return errors.sub(errors["ce"], axis=0).mean().idxmin()


def best_on_shared_seeds(runs):
    seeds = set.intersection(*(set(of["seed"]) for _, of in runs.groupby("recipe")))
    return runs[runs["seed"].isin(seeds)].groupby("recipe")["held_out_error"].mean().sort_values().index[0]


OTHER_WAYS = [
    ("00.implement", error_in_a_loop),
    ("00.implement", lambda logits, labels: 1 - (logits.max(1).indices == labels).float().mean()),
    ("00.bug", lambda history: list(history["test_error"])[-1]),
    ("01.tweak", torch.tensor(30)),
    ("01.tweak", np.float32(25.5)),
    ("01.implement", groups_in_lists),
    ("01.bug", subset_and_state_back),
    ("01.bug", lambda n, keep, seed: torch.randperm(n, generator=torch.Generator().manual_seed(seed))[:keep].tolist()),
    ("02.tweak", Recipe(Stage(loss=lambda counts: ClassBalancedLoss(counts, beta=0.965)))),
    ("02.implement", softmax_by_hand),
    ("02.implement", lambda z, y, n: F.nll_loss((z + (n / n.sum()).log()).log_softmax(1), y).item()),
    ("02.bug", focal_by_hand),
    ("03.implement", sampler(lambda n: (1 - 0.99 ** n.double()) / 0.01)),
    ("03.bug", lambda labels: samplers.PowerSampler(labels, q=0.0)),
    ("04.implement", MixedInOneLine),
    ("04.bug", lambda images, partner, lam: torch.lerp(images[partner], images, lam)),
    ("05.tweak", drw(0.5, 0.5)),
    ("05.implement", halfway_by_copy),
    ("05.bug", trained_on_fixed_features),
    ("06.tweak", {"flip": [False], "translate": [[0.0, -3.0]], "rotate": [270], "scale": torch.ones(1)}),
    ("06.implement", flipped_by_slices),
    ("06.bug", shifted_pixel_by_pixel),
    ("07.implement", gains_in_loops),
    ("07.bug", best_on_shared_seeds),
    ("07.bug", best_paired),
]


@pytest.mark.parametrize(("name", "answer"), OTHER_WAYS)
def test_a_right_answer_written_in_another_way_is_accepted(name, answer):
    assert check(name, answer)


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
    assert repr(Verdict("02.bug", False, "not so")) == "✗ 02.bug: not so"
    assert Verdict("a", True, "") and not Verdict("a", False, "")


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


# --- figures in texts ------------------------------------------------------------------------------------------------

ROWS = results.measured(recipes.RECIPES)
TABLE, GAINS = results.table(ROWS), results.gains(ROWS)
SEEDS = 100 * ROWS.pivot(index="seed", columns="recipe", values="top1_error")
CUI, CAO, CUI_50, CAO_50 = (
    results.published("cifar10-lt", imbalance).query("source == @source").set_index("recipe")["top1_error_percent"]
    for imbalance in (100, 50)
    for source in ("authors-rerun-cui", "authors-rerun-cao")
)


def error(*names: str, group: str = "error") -> list[float]:
    """Mean errors on shapes-lt, in percent; `group` is a column of the table."""
    return [TABLE.loc[name, group] for name in names]


def with_spread(name: str) -> list[float]:
    return [*error(name), *error(name, group="error_std")]


def gain(*names: str) -> list[float]:
    """Points over plain training of equal length."""
    return [GAINS.loc[name, "gain"] for name in names]


def later(trick: str, way: str = "drw") -> float:
    """Points of error that deferring adds."""
    return SEEDS[f"{way}_{trick}"].mean() - SEEDS[trick].mean()


def margins(recipe: str, control: str) -> list[float]:
    """Points of error that the margins add, paired by seed: mean and standard deviation."""
    difference = SEEDS[recipe] - SEEDS[control]
    return [difference.mean(), difference.std()]


def moved(recipe: str, context: float, poses: float) -> list[float]:
    """Difference to balanced draws without moved foregrounds, paired by seed: mean and standard deviation."""
    rows = results.measured(["balanced", recipe], "foreground")
    rows = rows[rows["options"].str.contains(f"context={context} pose_variety={poses} ")]
    errors = 100 * rows.pivot(index="seed", columns="recipe", values="top1_error")
    difference = errors[recipe] - errors["balanced"]
    return [difference.mean(), difference.std()]


ALL_POSES = [abs(figure) for figure in moved("true, filled", 0.9, 1.0)]
LONGEST_CONTROL = CUI["ce_long"] - CUI["bag_of_tricks"]
PAIRS = {mix: CUI["ce_long"] - CUI[f"{mix}_balanced_softmax"] for mix in ("input_mixup", "manifold_mixup")}
ALONE = {mix: CUI["ce_long"] - CUI[mix] for mix in PAIRS} | {"softmax": CUI["ce"] - CUI["balanced_softmax"]}
LONG = GAINS.loc["balanced_softmax_long", "gain"]
LONGER = SEEDS["ce_long"] - SEEDS["drw_ldam"]
TRUE = moved("true, filled", 0.5, 0.25), moved("true", 0.5, 0.25)

SMALL_NET = results.measured(recipes.RECIPES, "cifar10-lt-100_small_net")
THERE, PHOTOGRAPHS = (
    results.gains(SMALL_NET),
    100 * SMALL_NET.pivot(index="seed", columns="recipe", values="top1_error"),
)


SHUFFLED = results.measured(recipes.RECIPES, "shuffled_maps")
MAPS = 100 * SHUFFLED.pivot(index="seed", columns="recipe", values="top1_error")
OWN_MAP = MAPS["cam_drs_shuffled"] - MAPS["cam_drs"]


def there(*names: str) -> list[float]:
    """Points over plain training of equal length, of the small net on CIFAR-10-LT."""
    return [THERE.loc[name, "gain"] for name in names]


EARLY_OR_LATE = there(
    "balanced_softmax", "drw_cs_ce", "drs_class_balanced", "cam_drs", "transform_drs", "crt", "logit_adjusted_post_hoc",
)  # fmt: skip
RESAMPLED = there("square_root", "class_balanced", "progressive")
INAT = benchmark_class_counts("inat18")
EPOCH = results.measured(["ce"], "runs").eval("seconds / epochs").item()  # of ResNet-32 on CIFAR-10-LT

SAID = [
    ("00", "plain training for 60 epochs has {:.1f} % error. By", error("ce_long")),
    ("quiz 00", "plain training has {:.2f} % error on shapes-lt", error("ce")),
    ("quiz 00", "On the many-shot classes it is {:.1f} %", error("ce", group="many_error")),
    ("quiz 00", "On the few-shot ones? {:.1f} %", error("ce", group="few_error")),
    ("quiz 00", "at 0.001: it takes longer", []),
    ("01", "commonest species has {:,} images, the rarest {:.0f}, and {:.1f} % of the species have fewer than 20",
     [INAT.max().item(), INAT.min().item(), 100 * (INAT < 20).double().mean().item()]),
    ("02", "even five images count as {:.1f}", [effective_numbers([5], 0.9).item()]),
    ("02", "is {:.1f} logits for a circle, {:.0f} for an arrow", [30 * m for m in ldam_margins([320, 3]).tolist()]),
    ("02", "the softmax form is {:.1f} points better", gain("focal_softmax")),
    ("02", "the sigmoid form {:.1f} points worse", [-g for g in gain("focal")]),
    ("02", "training images after 30 epochs (notebook 00); after 60 it has {:.1f} %", error("ce_long")),
    ("02", "CS_CE is not worse than CE: {:.2f} against {:.2f} % on these subsets", [CAO_50["cs_ce"], CAO_50["ce"]]),
    ("02", "{:.2f} against {:.2f} % on those of Cui et al. And", [CUI_50["cs_ce"], CUI_50["ce"]]),
    ("02", "gains {:.0f} points by it on the photographs of CIFAR-10-LT", there("cs_ce")),
    ("quiz 02", "and even five count as {:.1f}", [effective_numbers([5], 0.9).item()]),
    ("quiz 02", "plain cross-entropy has {:.2f} % error", error("ce")),
    ("quiz 02", "about {:.0f} %: the tail gains more", error("cs_ce_smooth")),
    ("quiz 02", "`cs_ce_smooth` ({:.2f} ± {:.2f} %)", with_spread("cs_ce_smooth")),
    ("quiz 02", "about {:.0f} %: the head loses more", error("cs_ce")),
    ("quiz 02", "{:.2f} ± {:.2f} %, worse in each of the five seeds", with_spread("cs_ce")),
    ("quiz 02", "that has {:.2f} % error instead of {:.2f} %", error("balanced_softmax", "ce")),
    ("03", "by {:.0f}, {:.0f} and {:.0f} points on average", gain("progressive", "square_root", "class_balanced")),
    ("03", "by {:.0f} points on average", [-g for g in gain("bilateral")]),
    ("03", "gain {:.0f} points on the photographs of CIFAR-10-LT, too", there("class_balanced")),
    ("quiz 03", "`over_sampling` has {:.2f} % error", error("over_sampling")),
    ("quiz 03", "and `class_balanced` {:.2f} %", error("class_balanced")),
    ("04", "({:.2f} against {:.2f} %)", error("input_mixup", "ce")),
    ("04", "has {:.1f} % beside its {:.1f} %", error("manifold_mixup_layer2_alpha0.2", "ce_long")),
    ("04", "from {:.0f} to {:.0f} points", [-g for g in gain("input_mixup", "input_mixup_alpha0.2")]),
    ("quiz 04", "`input_mixup` has {:.2f} % error, `ce` {:.2f} %", error("input_mixup", "ce")),
    ("quiz 04", "for as many epochs as mixup, {:.2f} %", error("ce_long")),
    ("05", "by {:.0f} to {:.0f} points", [-later("cb_focal"), -later("under_sampling", "drs")]),
    ("05", "and bilateral sampling by {:.0f}", [-later("bilateral", "drs")]),
    ("05", "its pairs scatter by {:.1f} points", [(SEEDS["drs_instance_balanced"] - SEEDS["instance_balanced"]).std()]),
    ("05", "balanced softmax from the start ({:.2f} %)", error("balanced_softmax")),
    ("05", "a re-trained classifier gets to about {:.0f} % (cRT", error("crt")),
    ("05", "plain training for 60 epochs, has {:.2f} %", error("ce_long")),
    ("05", "`drw_ce_cosine`, {:.2f} %, the lowest mean", error("drw_ce_cosine")),
    ("05", "cost {:.1f} ± {:.1f} points when deferred and {:.1f} ± {:.1f} from the start",
     [*margins("drw_ldam", "drw_ce_cosine"), *margins("ldam", "ce_cosine")]),
    ("05", "(`ce_cosine`, {:.2f} %) that classifier is on average ahead", error("ce_cosine")),
    ("05", "all the way: {:.2f} % beside {:.2f} % for balanced",
     error("logit_adjusted_post_hoc_long", "balanced_softmax_long")),
    ("quiz 05", "and stays at about {:.0f} %. The oracle", error("crt")),
    ("quiz 05", "−{:.0f} points for inverse frequency, +{:.0f} for", [-later("cs_ce"), later("balanced_softmax")]),
    ("06", "true outlines and filled holes: {:.1f} points", [-TRUE[0][0]]),
    ("06", "less error, and {:.1f} where the background agrees", [-moved("true, filled", 0.9, 0.25)[0]]),
    ("06", "({:.1f} ± {:.1f}, the standard error), filled",
     [-moved("cam", 0.5, 0.25)[0], moved("cam", 0.5, 0.25)[1] / 3**0.5]),
    ("06", "about two ({:.1f} ± {:.1f})",
     [-moved("cam, filled", 0.5, 0.25)[0], moved("cam, filled", 0.5, 0.25)[1] / 3**0.5]),
    ("06", "gain there, {:.1f} ± {:.1f} points at context 0.9", ALL_POSES),
    ("quiz 06", "filled has {:.1f} points less error", [-TRUE[0][0]]),
    ("quiz 06", "over the unmoved image {:.1f} points more", [TRUE[1][0]]),
    ("quiz 06", "the standard deviations, {:.1f} and {:.1f}", [TRUE[0][1], TRUE[1][1]]),
    ("quiz 06", "has {:.1f} % error, the same stage without it {:.1f} %", error("cam_drs", "drs_class_balanced")),
    ("07", "balanced softmax gains {:.0f} points, nearest", gain("balanced_softmax")),
    ("07", "gains {:.0f} points where LDAM gains {:.0f}. Deferred", gain("ce_cosine", "ldam")),
    ("07", "(`drw_ce_cosine` {:.0f}, `drw_ldam` {:.0f})", gain("drw_ce_cosine", "drw_ldam")),
    ("07", "(`logit_adjusted_post_hoc_long`, {:.1f} % error", error("logit_adjusted_post_hoc_long")),
    ("07", "{:.0f} to {:.0f}, cRT {:.0f}", gain("nearest_class_mean", "over_sampling", "crt")),
    ("07", "logit adjustment after training {:.0f}", gain("logit_adjusted_post_hoc")),
    ("07", "the same weights in the last fifth gain {:.0f}", gain("drw_cs_ce")),
    ("07", "gains {:.0f} points, and so does", gain("cam_drs")),
    ("07", "(`drs_class_balanced`: {:.0f})", gain("drs_class_balanced")),
    ("07", "takes the error from {:.1f} to {:.1f} %", error("ce", "ce_long")),
    ("07", "or as balanced softmax alone ({:.1f} %;", error("balanced_softmax_long")),
    ("07", "Input mixup costs {:.0f} points alone", [-g for g in gain("input_mixup")]),
    ("07", "beside balanced softmax only {:.0f}", [LONG - gain("input_mixup_balanced_softmax")[0]]),
    ("07", "Against plain training of 30 epochs the recipe gains {:.0f}", [error("ce")[0] - error("bag_of_tricks")[0]]),
    ("07", "a standard deviation of {:.1f}**", [GAINS.loc["bag_of_tricks", "gain_std"]]),
    ("07", "it is {:.1f} points better", [error("bag_of_tricks")[0] - error("bag_of_tricks_without_mixup")[0]]),
    ("07", "better than its control by {:.1f}", gain("bag_of_tricks_without_mixup")),
    ("07", "({:.0f} % error). What helps", error("ce", group="few_error")),
    ("07", "plain training in 60 ({:.1f}) in every seed", error("ce_long")),
    ("07", "on average (by {:.1f} ± {:.1f} points)", [LONGER.mean(), LONGER.std()]),
    ("07", "gains {:.0f} points (`crt`, {:.1f})", [*gain("crt"), *error("crt")]),
    ("07", "epochs more of plain training gain {:.0f}", [error("ce")[0] - error("ce_long")[0]]),
    ("07", "({:.2f} against {:.2f} % on the subsets of Cui et al.)", [CUI["ce_long"], CUI["ce"]]),
    ("07", "has {:.2f} % on the subsets of Cui et al. and {:.2f} % on those of Cao", [CUI["ce"], CAO["ce"]]),
    ("07", "imbalance 100 has {:.2f} %: the gain is real", [CUI["ce_long"]]),
    ("07", "after training gain {:.0f} to {:.0f} points", [min(EARLY_OR_LATE), max(EARLY_OR_LATE)]),
    ("07", "from the first epoch {:.0f} to {:.0f}. For", [min(RESAMPLED), max(RESAMPLED)]),
    ("07", "without the gain is {:.0f} points", there("drw_ldam")),
    ("07", "without the gain is {:.0f} points", there("drw_ce_cosine")),
    ("07", "alone gain {:.0f} points, not the {:.0f} of", [*there("ce_cosine"), *gain("ce_cosine")]),
    ("07", "`cb_ce`) gain {:.0f} points here and lose {:.0f} and {:.0f} on",
     [*there("cs_ce"), *(-g for g in gain("cs_ce", "cb_ce"))]),
    ("07", "`cb_ce`) gain {:.0f} points here", there("cb_ce")),
    ("07", "**Mixup costs here too**, {:.0f} points", [-g for g in there("input_mixup")]),
    ("07", "recipe gains {:.1f} ± {:.1f} points over", THERE.loc["bag_of_tricks", ["gain", "gain_std"]]),
    ("07", "it gains as much ({:.1f} and {:.1f})",
     there("bag_of_tricks_without_mixup", "bag_of_tricks_without_cam")),
    ("07", "Balanced softmax alone for 60 epochs gains {:.1f}: one line", there("balanced_softmax_long")),
    ("07", "still gains {:.0f} points on photographs by 60", [(PHOTOGRAPHS["ce"] - PHOTOGRAPHS["ce_long"]).mean()]),
    ("07", "They gain {:.1f} points in the published runs", [CUI["drs_class_balanced"] - CUI["cam_drs"]]),
    ("06", "costs this net {:.1f} points on photographs, turning the whole image {:.1f}",
     [(PHOTOGRAPHS[name] - PHOTOGRAPHS["drs_class_balanced"]).mean() for name in ("cam_drs", "transform_drs")]),
    ("06", "the last line, that costs {:.1f} ± {:.1f} points", [OWN_MAP.mean(), OWN_MAP.std()]),
    ("04", "costs the same small network {:.0f} points", [-g for g in there("input_mixup")]),
    ("07", "of ResNet-32 took {:.0f} seconds", [EPOCH]),
    ("07", "makes {:.0f} hours for CE, {:.0f} for the bag", [epochs * EPOCH / 3600 for epochs in (200, 420)]),
    ("quiz 07", "{:.2f} % error, for 400 epochs {:.2f} %", [CUI["ce"], CUI["ce_long"]]),
    ("quiz 07", "420 epochs, {:.2f} %", [CUI["bag_of_tricks"]]),
    ("quiz 07", "{:.1f} points That is against 200", [CUI["ce"] - CUI["bag_of_tricks"]]),
    ("quiz 07", "{:.1f} points {:.2f} − {:.2f}", [LONGEST_CONTROL, CUI["ce_long"], CUI["bag_of_tricks"]]),
    ("quiz 07", "length alone is worth {:.1f}", [CUI["ce"] - CUI["ce_long"]]),
    ("quiz 07", "softmax {:.2f} points, input mixup {:.2f}", [ALONE["softmax"], ALONE["input_mixup"]]),
    ("quiz 07", "the two together {:.2f}", [PAIRS["input_mixup"]]),
    ("quiz 07", "manifold mixup instead: {:.2f}, {:.2f} and {:.2f}",
     [ALONE["softmax"], ALONE["manifold_mixup"], PAIRS["manifold_mixup"]]),
    ("quiz 07", "{:+.2f} and −{:.2f}: input mixup gains more",
     [PAIRS["input_mixup"] - ALONE["input_mixup"] - ALONE["softmax"],
      ALONE["manifold_mixup"] + ALONE["softmax"] - PAIRS["manifold_mixup"]]),
    ("quiz 07", "+{:.2f} and +{:.2f}: in both cases", list(PAIRS.values())),
    ("quiz 07", "add up, to {:.2f} and {:.2f}", [ALONE["softmax"] + ALONE[mix] for mix in PAIRS]),
    ("quiz 07", "single runs scatter by 1.5 to 3 points", []),
    ("quiz 07", "by about {:.1f} of a point", [2 / 40**0.5]),
    ("quiz 07", "on CIFAR-10-LT-100 at {:.2f} % error, another", [CAO["ce"]]),
    ("quiz 07", "CIFAR-10-LT-100 at {:.2f} %. So the bag gains {:.1f} points",
     [CUI["bag_of_tricks"], CAO["ce"] - CUI["bag_of_tricks"]]),
    ("quiz 07", "plain training from {:.2f} to {:.2f} %", [CAO["ce"], CUI["ce"]]),
    ("README", "All recipes with five seeds are {} runs", [len(ROWS)]),
    ("README", "they took {:.1f} hours in all", [ROWS["seconds"].sum() / 3600]),
]  # fmt: skip


@cache
def text_of(place: str) -> str:
    """What a reader sees, on one line: the README, a quiz, or the texts of a lesson."""
    if place == "README":
        parts = [(NOTEBOOKS.parent / "README.md").read_text(encoding="utf-8")]
    elif place.startswith("quiz"):
        asked = questions(place.removeprefix("quiz "))
        parts = [part for q in asked for part in (q.text, *(f"{c.text} {c.why}" for c in q.choices))]
    else:
        parts = [cell.source for cell in lesson(place).cells if cell.cell_type == "markdown"]
    return " ".join(" ".join(parts).split())


@cache
def lesson(number: str) -> nbformat.NotebookNode:
    return read(next(NOTEBOOKS.glob(f"{number}_*.ipynb")))


@pytest.mark.parametrize(("place", "sentence", "values"), SAID, ids=[f"{s[0]}: {s[1]}" for s in SAID])
def test_a_text_states_what_was_measured_or_published(place, sentence, values):
    assert sentence.format(*values) in text_of(place)


# what a text says of single seeds: the first recipe has the smaller error than the second in so many of them
IN_SEEDS = [
    (
        SEEDS,
        "02",
        "less than two standard errors, and is better in three",
        "cs_ce_smooth",
        "ce",
        3,
    ),
    (SEEDS, "02", "the softmax form is 5.5 points better, the sigmoid form 1.6", "focal_softmax", "ce", 5),
    (SEEDS, "02", "points worse, each in every seed", "ce", "focal", 5),
    (SEEDS, "02", "CDT makes it worse in every seed", "ce", "cdt", 5),
    (SEEDS, "03", "and `class_balanced` help in every seed", "progressive", "ce", 5),
    (SEEDS, "03", "and `class_balanced` help in every seed", "square_root", "ce", 5),
    (SEEDS, "03", "and `class_balanced` help in every seed", "class_balanced", "ce", 5),
    (SEEDS, "03", "`bilateral` is worse in four seeds of five", "ce", "bilateral", 4),
    (
        SEEDS,
        "05",
        "classifier without margins by three, in every seed",
        "drs_class_balanced",
        "class_balanced",
        5,
    ),
    (SEEDS, "05", "classifier without margins by three, in every seed", "drw_ldam", "ldam", 5),
    (SEEDS, "05", "classifier without margins by three, in every seed", "drw_ce_cosine", "ce_cosine", 5),
    (SEEDS, "05", "**Deferring costs**, in every seed", "balanced_softmax", "drw_balanced_softmax", 5),
    (SEEDS, "05", "**Deferring costs**, in every seed", "progressive", "drs_progressive", 5),
    (SEEDS, "07", "is better than plain training in 60 (20.8) in every seed", "drw_ce_cosine", "ce_long", 5),
    (SEEDS, "07", "points), but not in every seed", "drw_ldam", "ce_long", 4),
    (PHOTOGRAPHS, "06", "In every seed the foreground costs less than the whole image", "cam_drs", "transform_drs", 3),
    (MAPS, "06", "in four seeds of five: the map is worth a little", "cam_drs", "cam_drs_shuffled", 4),
    (PHOTOGRAPHS, "06", "in every seed nothing moved is better still", "drs_class_balanced", "cam_drs", 3),
]


@pytest.mark.parametrize(("errors", "place", "sentence", "better", "worse", "seeds"), IN_SEEDS)
def test_what_a_text_says_of_every_seed_is_true_of_every_seed(errors, place, sentence, better, worse, seeds):
    assert sentence in text_of(place)
    assert (errors[better] < errors[worse]).sum() == seeds


FIGURE = re.compile(r"\d+\.\d+")


@cache
def printed(number: str) -> set[float]:
    """Figures in a lesson's code and in what its cells print."""
    code = [
        cell
        for cell in lesson(number).cells
        if cell.cell_type == "code" and "quiz" not in cell.metadata.get("tags", [])
    ]
    outputs = [output for cell in code for output in cell.outputs]
    shown = [output.get("text") or "".join(map(str, output.get("data", {}).values())) for output in outputs
             if "image/png" not in output.get("data", {})]  # fmt: skip
    return {float(figure) for text in [*(cell.source for cell in code), *shown] for figure in FIGURE.findall(text)}


@pytest.mark.parametrize("place", [f"{kind}{path.stem[:2]}" for path in SOLUTIONS for kind in ("", "quiz ")])
def test_every_other_decimal_figure_of_a_text_is_printed_by_a_cell(place):
    """Rounded as the text rounds it. Formulas and code are left out: they hold settings, not results."""
    text = re.sub(r"\$\$.*?\$\$|\$[^$]*\$|`[^`]*`|β = [\d.]+|https?://\S+", " ", text_of(place))
    said = {
        figure
        for where, sentence, values in SAID
        if where == place
        for figure in FIGURE.findall(sentence.format(*values))
    }
    known = printed(place[-2:])
    for figure in set(FIGURE.findall(text)) - said:
        half = 0.5 * 10.0 ** -len(figure.partition(".")[2]) + 1e-9
        assert any(abs(float(figure) - value) <= half for value in known), f"{figure} in: {text}"
