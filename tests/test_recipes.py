"""Recipes: schedules at their corners, resolving, scaling, and how a recipe prints."""

import hashlib
import importlib
import linecache
import math
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ltlab import recipes
from ltlab.cam import ForegroundTransform
from ltlab.classifiers import fresh, logit_adjusted, nearest_class_mean, tau_normalised, weight_scaling
from ltlab.losses import (
    BalancedSoftmaxLoss,
    ClassBalancedLoss,
    CrossEntropyLoss,
    FocalLoss,
    LDAMLoss,
)
from ltlab.mixup import InputMixup
from ltlab.recipes import CIFAR, SHAPES, OneCycle, Recipe, Stage, Steps
from ltlab.samplers import PowerSampler

COSINE = Stage(loss=LDAMLoss)
MEANS = Stage(epochs=0, classifier=nearest_class_mean)
ADJUSTED = partial(logit_adjusted, tau=1.0)
PAPER = CIFAR.schedules["base"]


@pytest.mark.parametrize(
    ("epoch", "rate"),
    [(0, 0.1 / 3), (2.5, 0.1 * (1 / 3 + 1 / 3)), (5, 0.1), (159.999, 0.1), (160, 1e-3), (179.999, 1e-3), (180, 1e-5)],
)
def test_paper_schedule_on_cifar(epoch, rate):
    assert PAPER(epoch, 200) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 7, 97, 391])
@pytest.mark.parametrize(("span", "milestone"), [(200, 160), (200, 180), (400, 320), (400, 360)])
def test_milestones_fall_exactly_on_the_epoch(span, milestone, steps):
    assert PAPER(milestone, span) < PAPER(milestone - 1 + (steps - 1) / steps, span) or steps == 1
    assert PAPER(milestone, span) == pytest.approx(PAPER(milestone + (steps - 1) / steps, span))


def test_steps_agree_with_torch():
    """LinearLR times MultiStepLR, stepped once an epoch."""
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    warmup = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1 / 3, total_iters=5)
    steps = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[160, 180], gamma=0.01)
    for epoch in range(200):
        assert PAPER(epoch, 200) == pytest.approx(optimizer.param_groups[0]["lr"], rel=1e-9)
        optimizer.step()
        warmup.step()
        steps.step()


def test_one_cycle_agrees_with_torch():
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    oracle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=401, pct_start=0.25, final_div_factor=1e9)
    cycle = OneCycle(lr=0.1, rise=(0.25 * 401 - 1) / 400)
    for step in range(400):
        assert cycle(step, 400) == pytest.approx(oracle.get_last_lr()[0], abs=1e-6)
        optimizer.step()
        oracle.step()


@given(share=st.floats(0, 1, exclude_max=True), lr=st.floats(1e-4, 10), rise=st.floats(0.01, 0.99))
def test_one_cycle_stays_between_zero_and_its_peak(share, lr, rise):
    cycle = OneCycle(lr, rise)
    assert 0 <= cycle(share, 1) <= lr * (1 + 1e-12)
    assert cycle(rise, 1) == pytest.approx(lr)


def test_what_a_recipe_leaves_open_the_settings_fills_in():
    recipe = Recipe(Stage(share=0.8), Stage(share=0.2))
    assert [s.epochs for s in recipe.resolve(CIFAR).stages] == [160, 40]
    assert [s.epochs for s in recipe.resolve(SHAPES).stages] == [24, 6]
    assert recipe.resolve(CIFAR).stages[0].schedule == PAPER
    assert recipe.resolve(CIFAR).settings.model == "resnet32"


def test_what_a_recipe_says_stands():
    mine = Recipe(Stage(epochs=7, schedule=OneCycle(0.5)), settings=SHAPES).resolve(CIFAR)
    assert mine.settings is SHAPES and mine.epochs == 7 and mine.stages[0].schedule == OneCycle(0.5)


def test_whole_numbers_of_any_kind_make_one_recipe():
    def made(number):
        return Recipe(Stage(epochs=number), settings=replace(SHAPES, batch_size=number)).resolve(SHAPES)

    assert made(np.int64(3)).identity() == made(torch.tensor(3)).identity() == made(3).identity()
    assert type(made(np.int64(3)).epochs) is type(made(np.int64(3)).settings.batch_size) is int


def test_neighbouring_stages_with_one_schedule_share_its_span():
    low = Steps(lr=0.001)
    recipe = Recipe(Stage(epochs=3), Stage(epochs=2), Stage(epochs=4, schedule=low), Stage(epochs=1)).resolve(SHAPES)
    assert recipe.spans() == [(0, 5), (3, 5), (0, 4), (0, 1)]


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 900))
def test_scaling_keeps_the_total_and_every_stage(lengths, epochs):
    recipe = Recipe(*(Stage(epochs=n) for n in lengths)).resolve(CIFAR)
    if epochs < len(lengths):
        with pytest.raises(ValueError, match="needs at least"):
            recipe.with_epochs(epochs)
        return
    scaled = recipe.with_epochs(epochs)
    assert scaled.epochs == epochs and min(s.epochs for s in scaled.stages) >= 1
    k = epochs / recipe.epochs
    if k * min(lengths) >= 2:  # no stage was near to vanishing: only rounding is left
        assert all(abs(s.epochs - k * n) <= 1 for s, n in zip(scaled.stages, lengths, strict=True))
    assert scaled.stages[0].schedule.warmup == pytest.approx(5 * k)


def test_other_stages_keep_name_settings_and_classifier():
    recipe = recipes.get("drw_ldam").resolve(SHAPES)
    first = recipe.with_stages(*recipe.stages[:1])
    assert len(first.stages) == 1
    assert (first.name, first.settings, first.classifier) == (recipe.name, SHAPES, "cosine")


def test_a_recipe_prints_as_a_table_of_its_slots():
    second = Stage(share=0.2, sampler=partial(PowerSampler, q=0.5), loss=partial(ClassBalancedLoss, beta=0.9))
    recipe = Recipe(Stage(share=0.8), second, name="both")
    table = recipe.resolve(CIFAR).table()
    assert table["epochs"].tolist() == [160, 40]
    assert table["sampler"].tolist() == ["—", "PowerSampler(q=0.5)"]
    assert table["loss"].tolist() == ["CrossEntropyLoss()", "ClassBalancedLoss(beta=0.9)"]
    assert "PowerSampler(q=0.5)" in str(recipe) and "<table" in recipe._repr_html_()
    assert "80% of the settings'" in str(recipe)


def test_identity_tells_recipes_apart_and_knows_its_own():
    ce = recipes.get("ce").resolve(SHAPES)
    assert ce.identity() == recipes.get("ce").resolve(SHAPES).identity()
    others = [ce.with_epochs(21), recipes.get("ce").resolve(CIFAR),
              Recipe(Stage(loss=partial(ClassBalancedLoss, beta=0.9))).resolve(SHAPES)]  # fmt: skip
    assert all(other.identity() != ce.identity() for other in others)


def test_identity_tells_losses_from_elsewhere_by_what_they_hold():
    weight = torch.tensor([1.0, 2.0, 3.0])
    losses = [
        CrossEntropyLoss(),
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.1),
        nn.CrossEntropyLoss(weight=weight),
        nn.CrossEntropyLoss(weight=weight.nextafter(weight + 1)),
    ]
    texts = [str(Recipe(Stage(loss=loss)).resolve(SHAPES).identity()) for loss in losses]
    assert len(set(texts)) == len(losses)
    again = Recipe(Stage(loss=nn.CrossEntropyLoss(weight=weight.clone()))).resolve(SHAPES)
    assert str(again.identity()) == texts[3]


class Mix:
    def __init__(self, alpha=1.0):
        self.alpha = alpha

    def __call__(self, model, images, targets, *, class_counts, generator):
        return model(images), targets


HALF = torch.arange(2000).view(2, 1000) < 1000


@pytest.mark.parametrize(
    ("slot", "made"),
    [
        ("loss", [lambda: BalancedSoftmaxLoss([1, 2, 3]), lambda: BalancedSoftmaxLoss([3, 2, 1])]),
        ("loss", [lambda: FocalLoss(alpha=[0.1] * 10), lambda: FocalLoss(alpha=[0.9] * 10)]),
        ("loss", [lambda: lambda counts: CrossEntropyLoss(), lambda: lambda counts: nn.CrossEntropyLoss()]),
        ("foreground", [lambda: ForegroundTransform(masks=HALF[None]), lambda: ForegroundTransform(masks=~HALF[None])]),
        ("mix", [lambda: Mix({"a": [HALF]}), lambda: Mix({"a": [~HALF]})]),
        ("sampler", [lambda: partial(PowerSampler, q=0.0), lambda: partial(PowerSampler, q=-0.1)]),
    ],
)
def test_identity_tells_slots_by_what_they_hold_and_do(slot, made):
    def identity(make):
        return Recipe(Stage(), Stage(**{slot: make()})).resolve(SHAPES).identity()

    first, second = made
    assert identity(first) == identity(first) != identity(second) == identity(second)


CODE = """
from dataclasses import dataclass
import torch.nn.functional as F
from torch import nn
from ltlab.samplers import ClassSampler

class MyLoss(nn.Module):
    def forward(self, z, t):
        return F.cross_entropy(z, t)

class MySampler(ClassSampler):
    def probabilities(self, epoch):
        return self.counts ** 0.25

@dataclass
class MyMix:
    kind: str = "a"

    def __call__(self, model, images, targets, *, class_counts, generator):
        return model(images if self.kind in {"a", "b", "c"} else images.flip(3)), targets
"""


def run_cell(source, namespace):
    """Run code as a notebook runs a cell: its text is where tracebacks look for it."""
    name = f"<cell {hashlib.sha256(source.encode()).hexdigest()[:12]}>"
    linecache.cache[name] = len(source), None, source.splitlines(keepends=True), name
    exec(compile(source, name, "exec"), namespace)
    return namespace


def own_code(source, slot, made):
    """The identity of a recipe whose slot holds what the source defines, as a notebook's cell would."""
    namespace = run_cell(source, {"__name__": "__main__"})
    given = namespace[{"loss": "MyLoss", "sampler": "MySampler", "mix": "MyMix"}[slot]]
    value = given() if made else given
    return str(Recipe(Stage(**{slot: value})).resolve(SHAPES).identity())


@pytest.mark.parametrize(("slot", "made"), [("loss", False), ("loss", True), ("sampler", False), ("mix", True)])
def test_identity_tells_custom_code_that_was_changed(slot, made):
    first = own_code(CODE, slot, made)
    assert first == own_code(CODE, slot, made) != own_code(CODE.replace("F.", "2 * F."), slot, made)


def test_identity_of_code_of_ones_own_is_the_same_in_another_process():
    script = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom test_recipes import *\n"
    script += "print([own_code(CODE, slot, slot != 'sampler') for slot in ('loss', 'sampler', 'mix')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert eval(done.stdout) == [own_code(CODE, slot, slot != "sampler") for slot in ("loss", "sampler", "mix")]


USING = """
import collections, enum, functools, operator, re, types
from dataclasses import dataclass, field
import numpy as np, torch
from torch import nn
from ltlab.losses import CrossEntropyLoss, FocalLoss

def slot(class_counts):
    return (lambda: KNOWN)() and CrossEntropyLoss()
"""
A = "class A: pass\nKNOWN = A(); "
VALUES = {  # of a global that a slot uses, and how it changes
    "a dictionary": ("KNOWN = {'a': [1, {2: 3}]}", "3", "4"),
    "a list": ("KNOWN = [1, 2]", "2", "3"),
    "a tuple": ("KNOWN = (1, ...)", "1", "2"),
    "a set": ("KNOWN = {(1, 'a')}", "1", "2"),
    "the same object twice": ("a, b = [1], [1]\nKNOWN = [a, b, a]", "a]", "b]"),
    "a tensor": ("KNOWN = torch.arange(2000.)", "2000.", "1., 2001."),
    "a sparse tensor": ("KNOWN = torch.eye(2).to_sparse()", "torch.eye", "-torch.eye"),
    "a conjugate view": ("KNOWN = torch.tensor([1j]).conj()", "1j", "2j"),
    "an array": ("KNOWN = np.arange(2000)", ")", ")[::-1]"),
    "an array of objects": ("KNOWN = np.array([1, 'a'], dtype=object)", "'a'", "'b'"),
    "a masked array": ("KNOWN = np.ma.array([1, 2], mask=[0, 1])", "0, 1]", "1, 0]"),
    "a data frame": ("import pandas as pd\nKNOWN = (pd.DataFrame({'a': [1]}),)", "1", "2"),
    "a number of NumPy": ("KNOWN = np.float64(1)", "1", "2"),
    "a partial": ("KNOWN = functools.partial(max, 1)", "1", "2"),
    "a partial's function": ("KNOWN = functools.partial(lambda: 1)", "1", "2"),
    "a closure": ("KNOWN = (lambda k: lambda: k)({'a': torch.ones(2)})", "ones", "zeros"),
    "a default": ("def KNOWN(k=1, *, m=[1]): pass", "[1]", "[2]"),
    "a function of torch": ("KNOWN = torch.relu", "relu", "sigmoid"),
    "a cached function": ("KNOWN = functools.cache(lambda: 1)", "1", "2"),
    "a method of a dictionary": ("KNOWN = {'a': 1}.get", "1", "2"),
    "a bound method": ("KNOWN = collections.Counter('ab').most_common", "'ab'", "'c'"),
    "a method bound by hand": ("def f(self): return 1\nKNOWN = types.MethodType(f, 3)", "return 1", "return 2"),
    "a default dictionary": ("KNOWN = collections.defaultdict(int, a=[1])", "1", "2"),
    "what it makes": ("class A:\n    b = 1\nKNOWN = collections.defaultdict(A)", "1", "2"),
    "a named tuple": ("KNOWN = collections.namedtuple('P', 'a')(1)", "(1)", "(2)"),
    "a pattern": ("KNOWN = re.compile('a')", "'a'", "'b'"),
    "a getter": ("KNOWN = operator.itemgetter(1)", "1", "2"),
    "a member of an enumeration": ("class E(enum.Enum):\n    A = 1\n    B = 2\nKNOWN = E.A", "E.A", "E.B"),
    "a list of one's own class": ("class S(list): pass\nKNOWN = S([1])", "1", "2"),
    "an attribute of a text": ("class S(str): pass\nKNOWN = S('x'); KNOWN.k = 1", "1", "2"),
    "a generator of torch": ("KNOWN = torch.Generator().manual_seed(1)", "1", "2"),
    "a module of torch": ("KNOWN = nn.Sequential(nn.ReLU())", "ReLU", "GELU"),
    "a hook": ("KNOWN = nn.ReLU(); KNOWN.register_forward_hook(lambda m, i, o: o + 1)", "1", "2"),
    "a patched method": ("KNOWN = nn.ReLU(); KNOWN.forward = lambda x: x + 1", "1", "2"),
    "a private attribute of a module": ("class M(nn.Module): pass\nKNOWN = M(); KNOWN._k = 1", "1", "2"),
    "an attribute of a subclass of a loss": ("class L(FocalLoss): pass\nKNOWN = L(); KNOWN.k = 1", "1", "2"),
    "an object": (A + "KNOWN.x = {'y': [1]}", "1", "2"),
    "an object whose printed form hides": (A + "A.__repr__ = lambda self: ''; KNOWN.x = 1", "1", "2"),
    "inherited slots": ("class B: __slots__ = 'x'\nclass A(B): __slots__ = ('y',)\nKNOWN = A(); KNOWN.x = 1", "1", "2"),
    "a field that is not shown": ("@dataclass\nclass A:\n    x: list = field(repr=False)\nKNOWN = A([1])", "1", "2"),
    "an attribute of a class": (A + "A.k = 1", "1", "2"),
    "a method of the base": ("class B:\n    def f(self): return 1\nclass KNOWN(B): pass", "1", "2"),
    "a property": ("class KNOWN:\n    @property\n    def f(self): return 1", "1", "2"),
    "a static method": ("class KNOWN:\n    @staticmethod\n    def f(): return 1", "1", "2"),
    "a wrapped method": ("class KNOWN:\n    @torch.no_grad()\n    def f(self): return 1", "1", "2"),
    "a cached property": ("class A:\n    @functools.cached_property\n    def f(self): return 1\nKNOWN = A()", "1", "2"),
    "a metaclass": ("class M(type): k = 1\nclass KNOWN(metaclass=M): pass", "1", "2"),
    "a module in a list": ("KNOWN = [types.ModuleType('own')]; KNOWN[0].k = 1", "1", "2"),
    "an attribute of a function": ("def KNOWN(): pass\nKNOWN.k = 1", "1", "2"),
}  # fmt: skip


def identity_with(namespace):
    return Recipe(Stage(loss=namespace["slot"])).resolve(SHAPES).identity()


@pytest.mark.parametrize(("cell", "before", "after"), VALUES.values(), ids=VALUES)
def test_identity_tells_what_code_of_ones_own_reads(cell, before, after):
    """From a global that another cell sets, so that the text of the code itself stays."""

    def with_value(cell):
        return identity_with(run_cell(cell, run_cell(USING, {"__name__": "__main__"})))

    changed = after.join(cell.rsplit(before, 1))
    assert with_value(cell) == with_value(cell) != with_value(changed)


def test_identity_tells_the_environment_that_code_reads(monkeypatch):
    run = run_cell("import os\ndef slot(counts): return os.environ['LTLAB_SCALE']", {"__name__": "__main__"})
    monkeypatch.setenv("LTLAB_SCALE", "1")
    first = identity_with(run)
    assert first == identity_with(run)
    monkeypatch.setenv("LTLAB_SCALE", "2")
    assert first != identity_with(run)


@pytest.mark.parametrize("value", ["threading.Lock()", "(i for i in 'ab')", "lambda: open('x')", "lambda: eval('x')"])
def test_identity_of_what_cannot_be_known_is_never_the_same(value):
    namespace = run_cell(f"import threading\nKNOWN = {value}", run_cell(USING, {"__name__": "__main__"}))
    assert identity_with(namespace) != identity_with(namespace)


def test_identity_of_code_without_a_text_is_never_the_same():
    namespace = {"__name__": "__main__"}
    exec("KNOWN = 1" + USING, namespace)
    assert identity_with(namespace) != identity_with(namespace)


@pytest.mark.parametrize(
    "code",
    [
        "import own.deep\ndef slot(counts): return own.deep.SCALE",
        "from own import deep as other\ndef slot(counts): return other.SCALE",
        "from own.deep import scale\ndef slot(counts): return scale()",
        "from own import deep\ndef slot(counts): return getattr(deep, 'SCALE')",
        "def slot(counts):\n    import own.deep\n    return own.deep.SCALE",
        "def slot(counts):\n    from own.deep import SCALE\n    return SCALE",
        "def slot(counts):\n    from own import deep\n    return deep.scale()",
    ],
)
def test_identity_tells_modules_of_ones_own_that_code_goes_through(code, tmp_path, monkeypatch):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "deep.py").write_text("SCALE = 1\ndef scale(): return SCALE\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own", "own.deep"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    namespace, deep = run_cell(code, {"__name__": "__main__"}), importlib.import_module("own.deep")
    first = identity_with(namespace)
    assert first == identity_with(namespace)
    monkeypatch.setattr(deep, "SCALE", 2)
    assert first != identity_with(namespace)


def test_identity_of_a_file_that_changed_is_not_known_until_it_is_imported_again(tmp_path, monkeypatch):
    (tmp_path / "own_slot.py").write_text("def slot(counts): return 1\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    module = importlib.import_module("own_slot")
    first = identity_with(vars(module))
    assert first == identity_with(vars(module))
    (tmp_path / "own_slot.py").write_text("def slot(counts): return 22\n", encoding="utf-8")
    assert len({str(identity_with(vars(module))) for _ in range(3)}) == 3
    after = identity_with(vars(importlib.reload(module)))
    assert after == identity_with(vars(module)) != first


def test_identity_of_what_holds_itself_ends_and_holds_no_address_in_memory():
    mix = Mix()
    mix.alpha = [mix, HALF]
    text = str(Recipe(Stage(loss=partial(run_cell, lambda: 1), mix=mix)).resolve(SHAPES).identity())
    assert "run_cell(<lambda>)" in text and "0x" not in text


class WithTemperature(nn.Module):
    def __init__(self, temperature=1.0):
        super().__init__()


class WithCounts(nn.Module):
    def __init__(self, samples_per_class, beta):
        super().__init__()


def test_what_takes_class_counts_under_any_name_makes_a_loss():
    for loss in (partial(WithCounts, beta=0.9), lambda counts, on=1: CrossEntropyLoss(), lambda *given: FocalLoss()):
        assert Recipe(Stage(loss=loss)).resolve(SHAPES).identity()


def test_a_schedule_of_ones_own_stretches_by_its_span():
    linear = Recipe(Stage(schedule=lambda t, span: 0.1 * (1 - t / span))).resolve(SHAPES).with_epochs(60)
    assert linear.stages[0].schedule(30, linear.spans()[0][1]) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("slots", "message"),
    [
        (
            {"sampler": PowerSampler(torch.tensor([0, 0, 1]), 0.0)},
            r"sampler=PowerSampler.*callable as sampler\(labels, seed",
        ),
        ({"classifier": "fresh"}, r"classifier='fresh': .*classifier\(model, images"),
        ({"loss": "ce"}, r"loss='ce': .*loss\(class_counts\)"),
        ({"loss": FocalLoss}, r"loss=FocalLoss: it takes no class counts, make it: FocalLoss\("),
        ({"loss": partial(WithTemperature, temperature=2.0)}, "takes no class counts, make it: WithTemperature"),
        ({"loss": lambda logits, targets: logits.sum()}, r"loss=<lambda>: .*loss\(class_counts\).*'targets'"),
        ({"loss": WithCounts}, r"loss=WithCounts: .*loss\(class_counts\).*functools\.partial.*'beta'"),
        ({"schedule": 0.1}, r"schedule=0.1: .* schedule\(t, span\)"),
        ({"mix": InputMixup}, r"mix=InputMixup: a stage takes one that is made, such as InputMixup\(alpha=1.0\)"),
        ({"foreground": lambda images, rows, generator: images}, "foreground=<lambda> has no method prepare"),
    ],
)
def test_a_stage_refuses_what_a_run_could_not_call(slots, message):
    with pytest.raises(TypeError, match=message):
        Stage(**slots)


@pytest.mark.parametrize("name", ["epochs", "identity"])
def test_what_only_a_plan_has_says_so(name):
    recipe = recipes.get("ce")
    with pytest.raises(AttributeError, match=rf"{name} only once it is resolved.*resolve\("):
        getattr(recipe, name)
    assert hasattr(recipe.resolve(SHAPES), name) and not hasattr(recipe, "banana")


def test_a_plan_is_resolved_already():
    plan = recipes.get("drs_class_balanced").resolve(SHAPES)
    assert plan.resolve(CIFAR) is plan and isinstance(plan.with_epochs(5), type(plan))
    assert all(isinstance(stage.epochs, int) and callable(stage.schedule) for stage in plan.stages)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        (lambda: Steps(-1.0), "lr=-1.0: it must be above 0"),
        (lambda: Steps(0.1, milestones=(160, 180)), r"milestones=\(160, 180\): .*\(0.8, 0.9\) for epochs 160 and 180"),
        (lambda: Steps(0.1, milestones=(0.9, 0.8)), "rising fractions"),
        (lambda: Steps(0.1, factor=0.0), "factor=0.0"),
        (lambda: Steps(0.1, warmup=-1), "warmup=-1"),
        (lambda: OneCycle(math.nan), "lr=nan"),
        (lambda: OneCycle(0.1, rise=1.0), "rise=1.0"),
    ],
)
def test_schedules_refuse_what_is_none(schedule, message):
    with pytest.raises(ValueError, match=message):
        schedule()


def test_every_recipe_resolves_for_every_settings():
    for recipe in recipes.RECIPES.values():
        for settings in (SHAPES, CIFAR):
            resolved = recipe.resolve(settings)
            training = [stage for stage in resolved.stages if stage.epochs]
            assert all(math.isfinite(stage.schedule(0.5, stage.epochs)) for stage in training)
            short = resolved.with_epochs(len(training))
            assert [stage.epochs for stage in short.stages] == [min(stage.epochs, 1) for stage in resolved.stages]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: recipes.get("cee"), "unknown recipe 'cee'; did you mean 'ce'"),
        (lambda: Stage(epochs=-1), "epochs=-1"),
        (lambda: Stage(epochs=0, classifier=fresh, sampler=PowerSampler), "epochs=0: such a stage trains nothing"),
        (lambda: Stage(weight_decay=-1.0), "weight_decay=-1.0"),
        (lambda: Stage(trains="clasifier"), "unknown trains 'clasifier'; did you mean 'classifier'"),
        (lambda: Recipe(Stage(epochs=0, classifier=fresh)), "at least one Stage that trains"),
        (lambda: recipes.family("mix-up"), "unknown family 'mix-up'; did you mean 'mixup'"),
        (lambda: Recipe(Stage(loss=LDAMLoss)), "stage 1: LDAMLoss needs a normalised classifier.*cosine"),
        (lambda: Recipe(Stage(loss=LDAMLoss), classifier="cosine_learnt"), "stage 1: LDAMLoss needs a normalised"),
        (lambda: Stage(rates={"classifier.weight": -0.1}), "rates=.*classifier.weight"),
        (
            lambda: Recipe(COSINE, Stage(epochs=0, classifier=tau_normalised), classifier="cosine"),
            "stage 2: tau_normalised needs a linear classifier, there it is cosine",
        ),
        (
            lambda: Recipe(Stage(), Stage(epochs=1, classifier=weight_scaling), Stage(classifier=weight_scaling)),
            "stage 3: weight_scaling needs a linear classifier, there it is scaled",
        ),
        (
            lambda: Recipe(Stage(), Stage(loss=BalancedSoftmaxLoss), Stage(epochs=0, classifier=ADJUSTED)),
            "stage 3: logit_adjusted after BalancedSoftmaxLoss is the same correction twice",
        ),
        (lambda: Stage(epochs=2.5), "epochs=2.5"),
        (lambda: Stage(share=0.0), "share=0.0"),
        (lambda: Recipe(), "at least one Stage"),
        (
            lambda: Recipe(Stage(schedule="bse")).resolve(CIFAR),
            "unknown schedule of CIFAR-LT 'bse'; did you mean 'base'",
        ),
    ],
)
def test_bad_input_is_refused_with_the_way_out(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_something_else_than_a_stage():
    with pytest.raises(TypeError, match="Recipe\\(Stage"):
        Recipe({"epochs": 3})


def test_deferred_recipes_begin_at_the_paper_s_epoch():
    for recipe in recipes.family("two-stage"):
        if recipe.name.startswith(("drw_", "drs_")):
            first, second = recipe.resolve(CIFAR).stages
            assert (first.epochs, second.epochs) == (160, 40) and first.sampler is None and first.trains == "all"


@pytest.mark.parametrize("epoch", [0, 5, 159.9, 165, 179.9, 180])
def test_first_and_second_stage_follow_the_base_schedule(epoch):
    """The stages of CAM-based re-sampling train at the learning rates of plain training, but for the new warm-up."""
    first, second = recipes.get("cam_drs").resolve(CIFAR).stages
    rate = first.schedule(epoch, 160) if epoch < 160 else second.schedule(epoch - 160, 40)
    assert rate == pytest.approx(PAPER(epoch, 200))


def test_the_table_names_what_a_stage_sets_beside_its_slots():
    assert "trains" not in recipes.get("ce").table() and "trains" in str(recipes.get("crt"))
    post_hoc = recipes.get("tau_norm").resolve(CIFAR).table().loc[2]
    assert post_hoc["classifier"] == "tau_normalised(tau=1.0)" and post_hoc["loss"] == post_hoc["learning rate"] == "—"


def test_what_makes_sense_is_not_refused():
    """Cross-entropy after balanced softmax unlearns its correction; a loss of one's own may have a scale."""
    again = Recipe(Stage(loss=BalancedSoftmaxLoss), Stage(), Stage(epochs=0, classifier=ADJUSTED))
    mine = Recipe(Stage(loss=lambda counts: torch.nn.CrossEntropyLoss()), classifier="cosine")
    means = Recipe(Stage(), Stage(classifier=nearest_class_mean, loss=LDAMLoss))
    assert len(again.stages) == 3 and mine.classifier == "cosine" and len(means.stages) == 2


@pytest.mark.parametrize("settings", [CIFAR, SHAPES])
def test_the_final_recipe_in_its_two_readings(settings):
    """Epochs of the authors' code; both readings train equally long; each stage has the tricks it is said to have."""
    bag, classifier = (recipes.get(name).resolve(settings) for name in ("bag_of_tricks", "bag_of_tricks_classifier"))
    if settings is CIFAR:
        assert [s.epochs for s in bag.stages] == [320, 80, 20] and [s.epochs for s in classifier.stages] == [
            320,
            20,
            80,
        ]
        assert [bag.stages[1].schedule(t, 80) for t in (5, 39, 40)] == pytest.approx([1e-3, 1e-3, 1e-5])
        assert [bag.stages[2].schedule(t, 20) for t in (0, 8, 16)] == pytest.approx([1e-3, 1e-4, 1e-5])
    assert bag.epochs == classifier.epochs
    assert [isinstance(s.mix, InputMixup) for s in bag.stages] == [True, True, False]
    assert [bool(s.foreground) for s in bag.stages] == [False, True, False]
    assert [bool(s.sampler) for s in bag.stages] == [False, True, True]
    assert [s.trains for s in bag.stages] == ["all"] * 3
    assert [isinstance(s.mix, InputMixup) for s in classifier.stages] == [True, False, False]
    assert [s.trains for s in classifier.stages] == ["all", "all", "classifier"]


def test_combinations_have_the_tricks_in_their_names():
    """Every combination of a mix with another trick is the two recipes' slots in one stage."""
    for recipe in recipes.FAMILIES["combinations"]:
        mix = next((m for m in ("input_mixup", "manifold_mixup", "remix") if recipe.name.startswith(m)), None)
        other = recipes.RECIPES.get(recipe.name.removeprefix(f"{mix}_"))
        if mix is None or other is None:
            continue
        for stage, of_other in zip(recipe.stages, other.stages, strict=True):
            assert stage.mix == recipes.get(mix).stages[0].mix
            assert recipes.describe(stage.sampler) == recipes.describe(of_other.sampler)
            assert recipes.describe(stage.loss) == recipes.describe(of_other.loss)
            assert stage.share == 2 * of_other.share and bool(stage.foreground) == bool(of_other.foreground)
