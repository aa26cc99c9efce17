"""The losses of detection against float64 loops over consecutive steps, their limit cases, and their state."""

import copy
import math
import pickle
import subprocess
import sys
from dataclasses import replace
from functools import partial
from math import exp, log

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ltlab.data import load
from ltlab.losses import (
    ACSLLoss,
    BalancedGroupSoftmaxLoss,
    BinaryCrossEntropyLoss,
    EqualizationV2Loss,
    FederatedLoss,
    SeesawLoss,
    SigmoidEqualizationLoss,
    equalization_weights,
)
from ltlab.recipes import SHAPES, Recipe, Stage
from ltlab.testing import check_loss
from ltlab.train import fit

C, N = 5, 40
COUNTS = [400, 90, 30, 9, 2]
GROUPS = [2, 2, 1, 1, 0]
COLUMNS = [None, 0, 3, C]  # none, torchvision's, one in the middle, EQL v2's
STEPS = 4


def sigmoid(z):
    return 1 / (1 + exp(-z))


def batches(background: int | None, steps: int = STEPS, seed: int = 0) -> list[tuple[Tensor, Tensor]]:
    """Logits in float64 and labels; with a background, most rows are background."""
    g = torch.Generator().manual_seed(seed)
    columns = C + (background is not None)
    made = []
    for _ in range(steps):
        labels = torch.randint(columns, (N,), generator=g)
        if background is not None:
            labels[torch.rand(N, generator=g) < 0.6] = background
        made.append((2 * torch.randn(N, columns, generator=g, dtype=torch.float64) - 1, labels))
    return made


def class_of(column: int, background: int | None) -> int | None:
    """The class of a column; None for the background's."""
    if background is None:
        return column
    return None if column == background else column - (column > background)


# --- oracles: a loss as (logits, labels) -> (mean, gradient) in plain loops, with the state of the steps before -----


class SigmoidOracle:
    """Binary cross-entropy with weights; a subclass says yes(row, column) and no(row, column)."""

    def __init__(self, background):
        self.background = background

    def begin(self, z, y): ...
    def end(self, z, y): ...
    def yes(self, i, j):
        return 1.0

    def no(self, i, j):
        return 1.0

    def __call__(self, logits, labels):
        self.z, self.y = logits.tolist(), labels.tolist()
        self.begin(self.z, self.y)
        total, gradient = 0.0, torch.zeros_like(logits)
        for i, row in enumerate(self.z):
            for j, z in enumerate(row):
                p = sigmoid(z)
                if j == self.y[i]:
                    total -= self.yes(i, j) * log(p)
                    gradient[i, j] = self.yes(i, j) * (p - 1) / len(self.z)
                else:
                    total -= self.no(i, j) * log(1 - p)
                    gradient[i, j] = self.no(i, j) * p / len(self.z)
        self.end(self.z, self.y)
        return total / len(self.z), gradient


class EqlV2Oracle(SigmoidOracle):
    def __init__(self, background, gamma=12.0, mu=0.8, alpha=4.0):
        super().__init__(background)
        self.gamma, self.mu, self.alpha = gamma, mu, alpha
        self.P, self.N, self.g = [0.0] * C, [0.0] * C, [100.0] * C

    def f(self, c):
        return 1 / (1 + exp(-self.gamma * (self.g[c] - self.mu)))

    def yes(self, i, j):
        c = class_of(j, self.background)
        return 1.0 if c is None else 1 + self.alpha * (1 - self.f(c))

    def no(self, i, j):
        c = class_of(j, self.background)
        return 1.0 if c is None else self.f(c)

    def end(self, z, y):
        P, N = [0.0] * C, [0.0] * C
        for i, row in enumerate(z):
            for j, value in enumerate(row):
                if (c := class_of(j, self.background)) is not None:
                    if j == y[i]:
                        P[c] += self.yes(i, j) * abs(sigmoid(value) - 1)
                    else:
                        N[c] += self.no(i, j) * sigmoid(value)
        self.P, self.N = ([a + b for a, b in zip(*pair, strict=True)] for pair in ((self.P, P), (self.N, N)))
        self.g = [p / (n + 1e-10) for p, n in zip(self.P, self.N, strict=True)]


class AcslOracle(SigmoidOracle):
    """With shares of 0 or 1, where the draw leaves nothing open."""

    def __init__(self, background, xi, shares):
        super().__init__(background)
        self.xi, self.shares = xi, shares

    def no(self, i, j):
        if self.y[i] == self.background and self.background is not None:
            return float(self.shares[GROUPS[class_of(j, self.background)]])
        return float(sigmoid(self.z[i][j]) >= self.xi)


class EqlOracle(SigmoidOracle):
    rare = tuple(n / 600 < 0.1 for n in COUNTS)

    def yes(self, i, j):
        return 0.0 if class_of(j, self.background) is None else 1.0

    def no(self, i, j):
        c = class_of(j, self.background)
        if c is None:
            return 0.0
        return 0.0 if self.rare[c] and self.y[i] != self.background else 1.0


class SeesawOracle:
    def __init__(self, background, p=0.8, q=2.0):
        self.background, self.p, self.q, self.n = background, p, q, [0] * C

    def __call__(self, logits, labels):
        for y in labels.tolist():
            if (c := class_of(y, self.background)) is not None:
                self.n[c] += 1
        total = 0.0
        z = logits.clone().requires_grad_()
        for i, y in enumerate(labels.tolist()):
            c = class_of(y, self.background)
            row = [z[i, j] for j in range(logits.shape[1]) if j != self.background]
            if c is not None:
                total = total - (row[c] - self.log_sum(row, c))
            if self.background is not None:
                u = z[i, self.background]
                total = total + torch.log1p(torch.exp(u if c is not None else -u))
        total = total / len(labels)
        return total.item(), torch.autograd.grad(total, z)[0]

    def log_sum(self, row, c):
        values = [value.item() for value in row]
        probability = [exp(v) / sum(map(exp, values)) for v in values]
        terms = 0.0
        for j, value in enumerate(row):
            n_j, n_c = max(self.n[j], 1), max(self.n[c], 1)
            m = (n_j / n_c) ** self.p if n_j < n_c else 1.0
            ratio = probability[j] / max(probability[c], 0.01)
            s = 1.0 if j == c else m * (ratio**self.q if ratio > 1 else 1.0)
            terms = terms + s * torch.exp(value)
        return torch.log(terms)


def acsl(xi, shares):
    return (
        lambda b: ACSLLoss(xi, groups=GROUPS, shares=shares, background=b),
        lambda b: AcslOracle(b, xi, shares),
    )


CASES = {
    "bce": (lambda b: BinaryCrossEntropyLoss(background=b), SigmoidOracle),
    "eqlv2": (lambda b: EqualizationV2Loss(C, background=b), EqlV2Oracle),
    "eqlv2_mild": (
        lambda b: EqualizationV2Loss(C, 3.0, 0.5, 1.5, background=b), lambda b: EqlV2Oracle(b, 3.0, 0.5, 1.5),
    ),
    "acsl": acsl(0.3, (0, 0, 1)),
    "acsl_all": acsl(0.5, (1, 1, 1)),
    "acsl_none": acsl(0.1, (0, 0, 0)),
    "eql": (lambda b: SigmoidEqualizationLoss(COUNTS, 0.1, num_images=600, background=b), EqlOracle),
    "seesaw": (lambda b: SeesawLoss(C, background=b), SeesawOracle),
    "seesaw_mild": (lambda b: SeesawLoss(C, 0.3, 0.7, background=b), lambda b: SeesawOracle(b, 0.3, 0.7)),
}  # fmt: skip


@pytest.mark.parametrize("background", COLUMNS)
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_follow_the_loop_over_consecutive_steps(name, background):
    make, oracle = CASES[name]
    loss, slow = make(background), oracle(background)
    for logits, labels in batches(background):
        z = logits.clone().requires_grad_()
        value = loss(z, labels)
        expected, gradient = slow(logits, labels)
        torch.testing.assert_close(value.item(), expected, rtol=2e-6, atol=1e-7)
        torch.testing.assert_close(torch.autograd.grad(value, z)[0], gradient, rtol=1e-5, atol=1e-8)
    if name.startswith("eqlv2"):
        torch.testing.assert_close(loss.positive.tolist(), slow.P, rtol=1e-5, atol=0)
        torch.testing.assert_close(loss.negative.tolist(), slow.N, rtol=1e-5, atol=0)
        torch.testing.assert_close(loss.ratio.tolist(), slow.g, rtol=1e-5, atol=0)
    if name.startswith("seesaw"):
        assert loss.seen.tolist() == slow.n


def bags_loop(z: Tensor, labels: Tensor, background: int | None, borders=(10, 50)) -> Tensor:
    """Balanced group softmax with all rows of others, in the authors' form: others have a logit, here 0."""
    groups = [sum(n >= border for border in borders) for n in COUNTS]
    total = torch.zeros((), dtype=z.dtype)
    classes = [class_of(y, background) for y in labels.tolist()]
    for g in range(len(borders) + 1):
        columns = [j for j in range(z.shape[1]) if (c := class_of(j, background)) is not None and groups[c] == g]
        if not any(c is not None and groups[c] == g for c in classes):
            continue
        logits = torch.cat([torch.zeros_like(z[:, :1]), z[:, columns]], 1)
        targets = torch.tensor([columns.index(y) + 1 if y in columns else 0 for y in labels.tolist()])
        total = total + F.cross_entropy(logits, targets)
    if background is not None:
        total = total + F.binary_cross_entropy_with_logits(z[:, background], (labels == background).to(z.dtype))
    return total


@pytest.mark.parametrize("background", COLUMNS)
def test_balanced_group_softmax_against_its_groups(background):
    loss = BalancedGroupSoftmaxLoss(COUNTS, (10, 50), math.inf, background=background)
    for logits, labels in batches(background):
        torch.testing.assert_close(loss(logits, labels), bags_loop(logits, labels, background))
    one_each = BalancedGroupSoftmaxLoss(COUNTS, (3, 10, 50, 100), math.inf, background=background)
    torch.testing.assert_close(one_each(logits, labels), BinaryCrossEntropyLoss(background=background)(logits, labels))
    p = one_each.scores(logits)
    torch.testing.assert_close(p, BinaryCrossEntropyLoss(background=background).scores(logits))


def test_balanced_group_softmax_draws_ratio_times_the_rows_of_a_group():
    g = torch.Generator().manual_seed(3)
    loss = BalancedGroupSoftmaxLoss(COUNTS, (10, 50), 2.0, background=C, generator=g, reduction="none")
    labels = torch.tensor([0] * 2 + [2] * 1 + [C] * 17)
    seen = torch.zeros(20)
    for _ in range(200):
        z = torch.zeros(20, C + 1, dtype=torch.float64).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z, labels).sum(), z)
        used = gradient[:, 0] != 0  # of the group of classes 0 and 1
        assert used[:2].all() and used.sum() == 2 + 4 and (gradient[:, 3:5] == 0).all()
        seen += used
    assert (seen[2:] > 20).all()  # 4 of 18 rows in each of 200 draws, 44 on average


# --- limit cases -----------------------------------------------------------------------------------------------------

BCE_LIMITS = {
    "eqlv2 alpha 0, mu -> -inf": lambda b: EqualizationV2Loss(C, mu=-1e6, alpha=0.0, background=b),
    "eqlv2 mu -> -inf": lambda b: EqualizationV2Loss(C, mu=-1e6, background=b),
    "acsl xi 0": lambda b: ACSLLoss(0.0, groups=GROUPS, shares=(1, 1, 1), background=b),
    "acsl without groups": lambda b: ACSLLoss(0.0, background=b),
}
CLASS_LIMITS = {  # whose background column is not used
    "eql threshold 0": lambda b: SigmoidEqualizationLoss(COUNTS, 0.0, background=b),
    "federated all": lambda b: FederatedLoss(COUNTS, C, background=b),
}


def bce(logits, labels, background=None):
    """PyTorch's, summed over the columns but the background's, if it is given."""
    each = F.binary_cross_entropy_with_logits(
        logits, F.one_hot(labels, logits.shape[1]).to(logits.dtype), reduction="none"
    )
    kept = [j for j in range(logits.shape[1]) if j != background]
    return each[:, kept].sum(1).mean()


@pytest.mark.parametrize("background", COLUMNS)
def test_limits_are_binary_cross_entropy(background):
    for make in (*BCE_LIMITS.values(), *CLASS_LIMITS.values()):
        loss = make(background)
        for logits, labels in batches(background):
            expected = bce(logits, labels, None if make in BCE_LIMITS.values() else background)
            torch.testing.assert_close(loss(logits, labels), expected, rtol=1e-6, atol=0)


def test_the_first_step_of_eqlv2_is_binary_cross_entropy_and_the_second_is_not():
    loss = EqualizationV2Loss(C, background=0)
    (first, y), (second, y2), *_ = batches(0)
    y = y.masked_fill(y == 4, 0)  # a class that is not seen
    torch.testing.assert_close(loss(first, y), bce(first, y))
    assert abs(loss(second, y2) - bce(second, y2)) > 0.1
    up, down = equalization_weights(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(down.tolist(), [1 / (1 + exp(9.6)), 1 / (1 + exp(-2.4))])
    torch.testing.assert_close(up.tolist(), [1 + 4 * (1 - d) for d in down.tolist()])


def test_gamma_0_halves_negatives_and_lifts_positives():
    loss = EqualizationV2Loss(C, gamma=0.0, alpha=3.0)
    for z, y in batches(None):
        p = z.sigmoid()
        hot = F.one_hot(y, C)
        expected = -(hot * 2.5 * p.log() + (1 - hot) * 0.5 * (1 - p).log()).sum(1).mean()
        torch.testing.assert_close(loss(z, y), expected)


@pytest.mark.parametrize("background", [0, C])
def test_xi_above_1_leaves_an_object_its_label_alone(background):
    loss = ACSLLoss(1.5, groups=GROUPS, shares=(0, 0, 0), background=background)
    for z, y in batches(background):
        torch.testing.assert_close(loss(z, y), F.softplus(-z.gather(1, y[:, None])).mean())


@pytest.mark.parametrize("background", COLUMNS)
def test_seesaw_without_its_factors_is_cross_entropy(background):
    def plain(z, y):
        if background is None:
            return F.cross_entropy(z, y)
        objects = y != background
        classes = torch.cat([z[:, :background], z[:, background + 1 :]], 1)
        of_class = F.cross_entropy(classes[objects], y[objects] - (y[objects] > background).long(), reduction="sum")
        return of_class / len(y) + F.binary_cross_entropy_with_logits(z[:, background], (~objects).to(z.dtype))

    for z, y in batches(background):
        torch.testing.assert_close(SeesawLoss(C, 0.0, 0.0, background=background)(z, y), plain(z, y))
        equal = SeesawLoss(C, 5.0, 0.0, background=background)
        equal.seen.fill_(1e12)  # equal counts make p idle, so many that a batch does not change them
        torch.testing.assert_close(equal(z, y), plain(z, y), rtol=1e-6, atol=0)


# --- the draws -------------------------------------------------------------------------------------------------------


def test_acsl_draws_its_share_of_the_background_per_group():
    g = torch.Generator().manual_seed(0)
    loss = ACSLLoss(1.5, groups=GROUPS, shares=(0.01, 0.1, 1.0), background=C, generator=g)
    n = 250
    labels = torch.tensor([C] * n + [0, 1])
    counts = torch.zeros(n)
    for _ in range(100):
        z = torch.zeros(n + 2, C + 1).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z, labels), z)
        pushed = gradient[:n, :C] != 0
        assert pushed.sum(0).tolist() == [n, n, 25, 25, 2]
        assert pushed[:, 2].equal(pushed[:, 3])  # rows are drawn per group, whole
        counts += pushed[:, 2]
    assert counts.min() > 0 and counts.max() < 30  # each row 10 times on average


def test_few_rows_of_background_give_no_draw():
    loss = ACSLLoss(0.7, groups=[0, 1], background=0)
    z = torch.zeros(9, 3).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(z, torch.zeros(9, dtype=torch.int64)), z)
    assert (gradient[:, 1:] == 0).all() and (gradient[:, 0] < 0).all()


def test_federated_asks_about_the_batch_and_draws_the_rest_by_their_counts():
    g = torch.Generator().manual_seed(0)
    loss = FederatedLoss(COUNTS, 3, 1.0, background=0, generator=g)
    times, rounds = torch.zeros(C), 2000
    for _ in range(rounds):
        z = torch.zeros(4, C + 1).requires_grad_()
        (gradient,) = torch.autograd.grad(loss(z, torch.tensor([0, 5, 5, 5])), z)
        used = (gradient[:, 1:] != 0).any(0)
        assert used.sum() == 3 and used[4] and (gradient[:, 0] == 0).all()
        times += used
    first = torch.multinomial(torch.tensor(COUNTS[:4]).float().expand(rounds, -1), 2, generator=g)  # torch's own draws
    expected = torch.bincount(first.flatten(), minlength=4) / rounds
    torch.testing.assert_close(times[:4] / rounds, expected, atol=0.04, rtol=0)


@pytest.mark.parametrize(
    "make",
    [
        partial(ACSLLoss, groups=GROUPS),
        partial(FederatedLoss, COUNTS, 3),
        partial(BalancedGroupSoftmaxLoss, COUNTS, ratio=1),
    ],
)
def test_draws_come_from_the_generator_alone(make):
    z, y = batches(0, 1)[0]
    y = y.clamp(max=2)
    before = torch.get_rng_state()
    one, two = (make(background=0, generator=torch.Generator().manual_seed(5)) for _ in range(2))
    first = [one(z, y).item() for _ in range(8)]
    assert first == [two(z, y).item() for _ in range(8)] and len(set(first)) > 1
    assert before.equal(torch.get_rng_state())


# --- state -----------------------------------------------------------------------------------------------------------

STATEFUL = {"eqlv2": partial(EqualizationV2Loss, C), "seesaw": partial(SeesawLoss, C)}


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_state_grows_in_training_with_gradients_only_and_a_checkpoint_continues_it(make):
    loss, data = make(background=0), batches(0)
    loss(*data[0])
    state = copy.deepcopy(loss.state_dict())
    assert all(value.any() for value in state.values()) and set(state) <= {"positive", "negative", "seen"}
    with torch.no_grad():
        loss(*data[1])
    loss.eval()
    loss(*data[1])
    assert all(value.equal(state[name]) for name, value in loss.state_dict().items())
    loss.train()
    again = make(background=0)
    again.load_state_dict(pickle.loads(pickle.dumps(state)))
    assert again(*data[2]).equal(loss(*data[2])) and again(*data[3]).equal(loss(*data[3]))
    assert all(a.equal(b) for a, b in zip(loss.state_dict().values(), again.state_dict().values(), strict=True))
    with pytest.raises(RuntimeError, match="size mismatch"):
        type(loss)(C + 1).load_state_dict(state)
    assert loss.half().state_dict()[next(iter(state))].dtype == torch.float32


@pytest.mark.parametrize("background", [0, C])
def test_bias_tells_positives_minus_negatives_under_plain_sgd(background):
    """P - N = rows / lr (b - b at the start), step by step, with the weights of EQL v2."""
    g = torch.Generator().manual_seed(0)
    layer = nn.Linear(7, C + 1).double()
    loss, lr, start = EqualizationV2Loss(C, background=background).double(), 0.3, layer.bias.detach().clone()
    for _ in range(60):
        x = torch.randn(N, 7, generator=g, dtype=torch.float64)
        labels = torch.where(torch.rand(N, generator=g) < 0.7, background, torch.randint(C + 1, (N,), generator=g))
        value = loss(layer(x), labels)
        for p, gradient in zip(layer.parameters(), torch.autograd.grad(value, [*layer.parameters()]), strict=True):
            p.data -= lr * gradient
    moved = (layer.bias.detach() - start) * N / lr
    moved = torch.cat([moved[:background], moved[background + 1 :]])
    torch.testing.assert_close(loss.positive - loss.negative, moved, rtol=1e-9, atol=1e-9)


PROCESS = """
import sys, torch
from torch import distributed as dist
from ltlab.losses import EqualizationV2Loss, SeesawLoss
rank, file, data, out = int(sys.argv[1]), *sys.argv[2:]
dist.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
losses = EqualizationV2Loss(5, background=0), SeesawLoss(5, background=0)
values = [[loss(z[rank::2], y[rank::2]).item() for loss in losses] for z, y in torch.load(data)]
torch.save((values, [loss.state_dict() for loss in losses]), f"{out}{rank}")
dist.destroy_process_group()
"""


@pytest.mark.slow
def test_two_processes_sum_what_one_sums(tmp_path):
    data = batches(0)
    torch.save(data, tmp_path / "data")
    files = [str(tmp_path / name) for name in ("meet", "data", "out")]
    started = [subprocess.Popen([sys.executable, "-c", PROCESS, str(rank), *files]) for rank in (0, 1)]
    assert [process.wait(120) for process in started] == [0, 0]
    parts = [torch.load(f"{files[2]}{rank}") for rank in (0, 1)]
    losses = EqualizationV2Loss(C, background=0), SeesawLoss(C, background=0)
    for step, (z, y) in enumerate(data):
        for k, loss in enumerate(losses):
            mean = (parts[0][0][step][k] + parts[1][0][step][k]) / 2
            torch.testing.assert_close(mean, loss(z, y).item(), rtol=1e-6, atol=0)
    for k, loss in enumerate(losses):
        for name, value in loss.state_dict().items():
            torch.testing.assert_close(parts[0][1][k][name], value, rtol=1e-6, atol=0)
            assert parts[0][1][k][name].equal(parts[1][1][k][name])


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_the_sums(tmp_path):
    data = load("shapes-lt", imbalance=10, max_count=20, test_count=3)
    settings = replace(SHAPES, batch_size=32)

    def run(stopped: bool, **options: object):
        recipe = Recipe(Stage(epochs=3, loss=lambda counts: EqualizationV2Loss(len(counts))), settings=settings)
        model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 10))
        nn.init.constant_(model[1].weight, 0.01)
        nn.init.zeros_(model[1].bias)
        epochs = []

        def stopping(logits: Tensor, labels: Tensor) -> dict[str, float]:
            epochs.append(1)
            if stopped and len(epochs) == 2:
                raise KeyboardInterrupt
            return {}

        return fit(recipe, data, model, device="cpu", progress=False, extra_metrics=stopping, **options)

    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        run(True, checkpoint=path)
    sums = torch.load(path, weights_only=False)["losses"][0]
    assert sums["positive"].min() > 0 and sums["negative"].min() > 0
    assert run(False, checkpoint=path, resume=True).logits.equal(run(False).logits)


# --- properties ------------------------------------------------------------------------------------------------------

ALL = {
    "bce": lambda b, n=C: BinaryCrossEntropyLoss(background=b),
    "eqlv2": lambda b: EqualizationV2Loss(C, background=b),
    "acsl": lambda b: ACSLLoss(0.3, groups=GROUPS, background=b, generator=torch.Generator().manual_seed(0)),
    "eql": lambda b: SigmoidEqualizationLoss(COUNTS, 0.1, background=b),
    "federated": lambda b: FederatedLoss(COUNTS, 3, background=b, generator=torch.Generator().manual_seed(0)),
    "seesaw": lambda b: SeesawLoss(C, background=b),
    "bags": lambda b: BalancedGroupSoftmaxLoss(
        COUNTS, (10, 50), background=b, generator=torch.Generator().manual_seed(0)
    ),
}


@pytest.mark.parametrize("name", ALL)
def test_scores_are_probabilities_without_the_background(name):
    loss = ALL[name](2)
    z, _ = batches(2, 1)[0]
    scores = loss.scores(z)
    assert scores.shape == (N, C) and (scores > 0).all() and (scores < 1).all()
    higher = z.clone()
    higher[:, 3] += 1  # the column of class 2
    changed = loss.scores(higher) > scores
    assert changed[:, 2].all() and not changed[:, [0, 1]].any()
    surer = z.clone()
    surer[:, 2] += 1
    lower = loss.scores(surer)
    assert (lower < scores).all() if name in ("bce", "eqlv2", "seesaw", "bags") else lower.equal(scores)


@pytest.mark.parametrize("name", ALL)
def test_odd_batches_give_finite_losses_and_gradients(name):
    for labels in ([0] * 6, [1, 2, 3, 4, 5, 1], [1] * 6, [0], [5]):
        loss = ALL[name](0)
        z = torch.randn(len(labels), C + 1, generator=torch.Generator().manual_seed(0)).half().requires_grad_()
        for _ in range(2):
            value = loss(z, torch.tensor(labels))
            (gradient,) = torch.autograd.grad(value, z)
            assert value.isfinite() and value.dtype == torch.float32 and gradient.isfinite().all()


@pytest.mark.parametrize("name", ["bce", "eqlv2", "seesaw"])
def test_classes_may_be_renamed(name):
    loss, renamed = ALL[name](None), ALL[name](None)
    order = torch.tensor([3, 0, 4, 1, 2])
    for z, y in batches(None):
        torch.testing.assert_close(renamed(z[:, order], order.argsort()[y]), loss(z, y))


@pytest.mark.parametrize("name", ALL)
def test_as_losses_of_classification_they_conform(name):
    check_loss(ALL[name](None), COUNTS, soft=name != "bags")
    if name != "bags":
        z, y = batches(None, 1)[0]
        mixed = 0.3 * F.one_hot(y, C).double() + 0.7 * F.one_hot((y + 1) % C, C)
        cost = [copy.deepcopy(ALL[name](None)) for _ in range(3)]
        if name == "seesaw":  # counts are raised before the loss, by the mixture
            for loss in cost:
                loss.eval()
        if name != "federated":  # which asks about the classes of the batch
            torch.testing.assert_close(cost[0](z, mixed), 0.3 * cost[1](z, y) + 0.7 * cost[2](z, (y + 1) % C))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: EqualizationV2Loss(0), "num_classes=0"), (lambda: EqualizationV2Loss(C, -1.0), "gamma"),
        (lambda: EqualizationV2Loss(C, mu=math.nan), "mu"), (lambda: EqualizationV2Loss(C, mu=-math.inf), "mu"),
        (lambda: EqualizationV2Loss(C, alpha=math.inf), "alpha"),
        (lambda: EqualizationV2Loss(C, background=6), "background=6"),
        (lambda: EqualizationV2Loss(C, background=-1), "background=-1"),
        (lambda: ACSLLoss(-0.1), "xi"), (lambda: ACSLLoss(math.inf), "xi"),
        (lambda: ACSLLoss(groups=[0, 3]), "groups"), (lambda: ACSLLoss(groups=[0.5]), "groups"),
        (lambda: ACSLLoss(shares=(0, 1)), "shares"), (lambda: ACSLLoss(shares=(0, 1, 1.2)), "shares"),
        (lambda: SigmoidEqualizationLoss(COUNTS, -1), "threshold"),
        (lambda: SigmoidEqualizationLoss(COUNTS, num_images=5), "num_images=5"),
        (lambda: SigmoidEqualizationLoss([-1, 2]), "class_counts"),
        (lambda: FederatedLoss(COUNTS, 0), "num_sampled=0"), (lambda: FederatedLoss(COUNTS, power=-1), "power"),
        (lambda: SeesawLoss(1), "num_classes=1"), (lambda: SeesawLoss(C, -1), "p must"),
        (lambda: SeesawLoss(C, q=math.nan), "q must"), (lambda: SeesawLoss(C, background=True), "background=True"),
        (lambda: BalancedGroupSoftmaxLoss(COUNTS, (10, 10)), "borders"),
        (lambda: BalancedGroupSoftmaxLoss(COUNTS, (0, 10)), "borders"),
        (lambda: BalancedGroupSoftmaxLoss(COUNTS, ratio=-1), "ratio"),
    ],
)  # fmt: skip
def test_bad_settings_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


def test_bad_batches_are_named():
    z, y = batches(0, 1)[0]
    with pytest.raises(ValueError, match="6 classes, but the loss was made for 5"):
        EqualizationV2Loss(C)(z, y)
    with pytest.raises(ValueError, match="background=7 is not a column"):
        BinaryCrossEntropyLoss(background=7)(z, y)
    with pytest.raises(ValueError, match="background=7 is not a column"):
        BinaryCrossEntropyLoss(background=7).scores(z)
    with pytest.raises(ValueError, match="class indices"):
        BalancedGroupSoftmaxLoss(COUNTS)(z[:, 1:], torch.full((N, C), 1 / C))
    with pytest.raises(FloatingPointError, match="row 3"):
        EqualizationV2Loss(C, background=0)(z.index_fill(0, torch.tensor(3), torch.inf), y)
