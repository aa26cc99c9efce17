"""docs/teaching: questions and answers belong together, and what they compute is right."""

import re
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from ltlab import calibration, data, losses, metrics, mixup, samplers, widgets
from ltlab.course import QUIZZES
from ltlab.course.check_frozen import my_shrunk_means

FOLDER = Path(__file__).parents[1] / "docs" / "teaching"
ENTRY = re.compile(r"^\*\*(\d\d\.\d)\*\* ", re.MULTILINE)


def entries(name: str) -> dict[str, str]:
    """Number -> text, on one line, of the questions or answers on a page."""
    _, *parts = ENTRY.split((FOLDER / name).read_text(encoding="utf-8"))
    texts = (" ".join(part.partition("\n## ")[0].split()) for part in parts[1::2])
    return dict(zip(parts[::2], texts, strict=True))


sys.path.insert(0, str(FOLDER.parent))
try:
    import teaching
finally:
    sys.path.pop(0)

QUESTIONS, ANSWERS = entries("exam_questions.md"), entries("exam_answers.md")


def test_every_notebook_has_five_questions_and_twenty_points():
    notebooks = sorted({number[:2] for number in QUESTIONS})
    assert list(QUESTIONS) == list(ANSWERS) == [f"{number}.{n}" for number in notebooks for n in range(1, 6)]
    assert set(notebooks) <= set(QUIZZES) and len(notebooks) >= 10
    points = {number: int(re.match(r"\((\d+) points\)", text)[1]) for number, text in QUESTIONS.items()}
    for notebook in notebooks:
        assert sum(value for number, value in points.items() if number.startswith(notebook)) == 20
    for number, value in points.items():
        assert sum(map(int, re.findall(r"\*\*\[(\d)\]\*\*", ANSWERS[number]))) == value, number


@pytest.mark.parametrize("number", QUESTIONS)
def test_the_scheme_of_a_question_has_its_points(number):
    text = QUESTIONS[number]
    scheme = re.search(r"\*([^*]+)\*$", text)[1]
    given = sum(map(int, re.findall(r"\d+", scheme)))
    assert given == int(text[1]) or "each" in scheme, scheme


def rounded(values, digits: int) -> str:
    return ", ".join(f"{float(v):.{digits}f}".replace("-", "−") for v in values)


def told() -> dict[str, list[str]]:
    """Question -> what its answer has to say, computed by ltlab."""
    counts, f64 = torch.tensor([100, 10, 1]), torch.float64
    z, y = torch.zeros(1, 3, dtype=f64, requires_grad=True), torch.tensor([2])
    pull = {}
    for name, loss in (("ce", losses.CrossEntropyLoss()), ("bs", losses.BalancedSoftmaxLoss(counts))):
        pull[name] = -torch.autograd.grad(loss(z, y), z)[0][0]
    exp, step = (data.long_tail_counts(5, 400, 16, kind) for kind in ("exp", "step"))
    effective = losses.effective_numbers(torch.tensor([500, 5]), 0.9)
    p = samplers.class_probabilities(counts, 0.5)
    remix = mixup.remix_lambda(
        torch.tensor([0.4, 0.4, 0.6, 0.6]), torch.tensor([300, 200, 100, 300.0]), torch.tensor([100, 100, 300, 100.0])
    )
    cats = losses.adjust_logits(torch.tensor([[0.73, 0.27]]).log(), torch.tensor([90, 10])).softmax(1)[0]
    sure = torch.tensor([0.95, 0.85, 0.85, 0.65, 0.55], dtype=f64)
    logits, right = torch.stack([sure, 1 - sure], 1).log(), torch.tensor([0, 0, 1, 1, 0])
    image, prior = torch.tensor([[0.6, 0.4]]).log(), torch.tensor([0.9, 0.1])
    shifted = [
        losses.adjust_logits(image, prior, target=torch.tensor(q)).softmax(1)[0] for q in ([0.5, 0.5], [0.1, 0.9])
    ]
    few = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=f64)
    once = few.mean(0)
    region, shows = 0.12, [[0], [1], []]
    scenes = [torch.tensor(shows[k]).long() for k in 160 * [0] + 10 * [1] + 230 * [2]]
    each = F.normalize(few * once, p=1, dim=1)
    labels = torch.arange(3).repeat_interleave(torch.tensor([8, 2, 2]))
    means = my_shrunk_means.oracle(3.0 * labels[:, None], labels, 2.0)
    ones = torch.tensor([1.0, 3, 3, 5])
    return {
        "01.1": [", ".join(map(str, exp)), ", ".join(map(str, step)), f"{sum(exp)} and {sum(step)}"],
        "02.2": [f"{effective[0]:.2f}", f"{effective[1]:.2f}", f"{effective[0] / effective[1]:.2f}"],
        "02.3": [rounded(pull["ce"], 3), rounded(pull["bs"], 3)],
        "03.1": [rounded(p, 3), rounded(111 * p / counts, 2)],
        "04.4": [f"{value:g}: " for value in remix.tolist()],
        "05.2": [f"cat {cats[0]:.2f}, dog {cats[1]:.2f}"],
        "08.1": [f"= {calibration.expected_calibration_error(logits, right, 4):.2f}",
                 f"{calibration.signed_gap(logits, right, {'all': torch.ones(2, dtype=torch.bool)})['all']:+.2f}"],
        "08.4": [f"{torch.tensor(9 * (1 - e) / e).log():.2f}" for e in (0.1, 0.4)],
        "09.3": [f"({rounded(values, 2)})" for values in shifted],
        "11.3": [f"= {value:g}" for value in means.flatten().tolist()],
        "11.5": [f"{(7 - ones.mean()) / ones.std(correction=0):.2f}"],
        "10.1": [f"= {float(v):.2f}" for v in (2 * (1 - region), 8 * region, 9 * region)],
        "10.5": [f"= {samplers.repeat_factors(scenes, 0.1)[1][1]:g}$"],
        "09.5": [f"({rounded(once, 1)})", f"({rounded(each[0], 3)})", f"({rounded(each.mean(0), 3)})"],
    }  # fmt: skip


@pytest.mark.parametrize(("number", "values"), told().items())
def test_what_an_answer_computes_is_right(number, values):
    for value in values:
        assert value in ANSWERS[number].replace("**[1]** ", ""), number


def test_the_error_under_a_prior_of_question_nine_four():
    labels = torch.arange(2).repeat_interleave(10)
    logits = F.one_hot(torch.where(torch.arange(20) % 10 < torch.tensor([1, 5])[labels], 1 - labels, labels)).double()
    for prior, said in (((0.8, 0.2), "0.18"), ((0.5, 0.5), "0.30")):
        error = metrics.error_under(logits, labels, torch.tensor(prior, dtype=torch.float64))
        assert f"{error:.2f}" == said and said in ANSWERS["09.4"]


# --- the pages that are written by a command -------------------------------------------------------------------------


def test_the_answers_are_those_of_the_notebooks():
    page = (FOLDER / "answers.md").read_text(encoding="utf-8")
    assert page == teaching.answers(), "run: uv run python docs/teaching.py"
    _, _, rest = (FOLDER / "notebooks.md").read_text(encoding="utf-8").partition(teaching.BEGIN)
    assert rest.partition(teaching.END)[0].strip() == teaching.goals(), "run: uv run python docs/teaching.py"


@pytest.mark.parametrize("number", sorted({question[:2] for question in QUESTIONS}))
def test_every_prediction_and_every_play_has_its_answer(number):
    cells = teaching.read(number).cells
    asked = sum(len(re.findall(r"(?<![.\w])predict\(", c.source)) for c in cells if c.cell_type == "code")
    assert len(teaching.predictions(number)) == asked >= 2
    plays = [play["heading"] for play in teaching.plays() if play["notebook"] == number]
    text = "\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert plays == re.findall(r"^##+ (Play: .*)$", text, re.MULTILINE)


def test_what_an_explorer_said_is_what_it_says():
    """Of one that needs no training; `uv run python docs/teaching.py measure` asks all of them again."""
    said = teaching.pd.read_csv(teaching.SAID, dtype=str).query("notebook == '02' and heading == 'Play: beta'")
    explorer = widgets.effective_number_explorer()
    for setting, text in zip(said["setting"], said["said"], strict=True):
        for name, value in teaching.parsed(setting):
            options = [o[1] for o in explorer.controls[name].options]
            near = value if isinstance(value, str) else min(options, key=lambda o: abs(o - value))
            explorer.controls[name].value = near
        assert explorer.summary.startswith(text), "run: uv run python docs/teaching.py measure 02"
