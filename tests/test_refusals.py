"""What does not fit is refused by name before the first step; what fits is trained, whatever surrounds the call."""

import io
import pickle
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F
import torchvision
from small_runs import RECIPE, TINY, Doubled, Own, head_of, interrupted, run, same_run, tiny_data
from torch import nn
from torch.nn.utils.parametrizations import weight_norm
from torchvision.transforms import v2

from ltlab import models, recipes, train
from ltlab.cam import ForegroundTransform
from ltlab.classifiers import CosineClassifier
from ltlab.losses import CrossEntropyLoss
from ltlab.mixup import ManifoldMixup
from ltlab.recipes import SHAPES, Recipe, Stage
from ltlab.train import TrainingStep, checks, load_model, predict
from ltlab.train import run as running
from ltlab.train.curves import curves
from ltlab.train.fitting import find_device


@pytest.fixture(scope="module")
def data():
    return tiny_data()


@pytest.fixture
def no_step(monkeypatch):
    def step(self, *batch):
        raise AssertionError("a step was taken")

    monkeypatch.setattr(TrainingStep, "__call__", step)


def after_a_plain_one(**stage) -> Recipe:
    """So that what the second stage has would be met after hours."""
    return Recipe(Stage(epochs=1), Stage(epochs=1, **stage), name="second", settings=TINY)


# --- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"recipe": Stage()}, TypeError, r"recipe=.*Recipe\(Stage\(...\)\)"),
        ({"recipe": 3}, TypeError, r"recipe=3: .*\"ce\""),
        ({"recipe": "cee"}, ValueError, "recipe 'cee'"),
        ({"data": "shapes-lt"}, TypeError, r"data='shapes-lt': .*ltlab.data.load\('shapes-lt'\)"),
        ({"data": (torch.ones(2, 3, 4, 4), [0, 1])}, TypeError, "data=.*array_set"),
        ({"data": torch.utils.data.TensorDataset(torch.ones(2))}, TypeError, "data=.*array_set"),
        ({"model": "resnet32"}, TypeError, r"model='resnet32': .*models.build\('resnet32', 10, data.train.images\)"),
        ({"model": Own}, TypeError, r"model=Own is a class: .*Own\(...\)"),
        ({"model": lambda x: x}, TypeError, "model=<function .*nn.Module"),
        ({"device": "cudda"}, ValueError, "device 'cudda'; did you mean 'cuda'"),
        ({"precision": "float16"}, ValueError, "precision 'float16'"),
        ({"evaluate_every": 0}, ValueError, "evaluate_every=0"),
    ],
)
def test_arguments_are_refused_with_the_way_out(data, no_step, arguments, error, message):
    with pytest.raises(error, match=f"(?s){message}"):
        train.fit(**{"recipe": RECIPE, "data": data} | arguments)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_device_that_is_not_there():
    with pytest.raises(ValueError, match="device='cuda' is not on this machine"):
        find_device("cuda")


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (Stage(epochs=1, foreground=ForegroundTransform()), r"stage 1 has a foreground slot, .*masks=..."),
        (Stage(epochs=1, trains="classifier"), "stage 1 trains the classifier alone.*model="),
        (Stage(epochs=1, batch_norm="eval"), "stage 1 .*batch-norm statistics.*model="),
    ],
)
def test_a_first_stage_on_what_nothing_has_trained_is_refused(data, no_step, stage, message):
    with pytest.raises(ValueError, match=message):
        run(stage, data)


# --- networks --------------------------------------------------------------------------------------------------------


class Named(nn.Module):
    """A network that `give` makes of the images, with a parameter."""

    def __init__(self, give):
        super().__init__()
        self.fc, self.give = nn.Linear(3072, 10), give

    def forward(self, images):
        return self.give(self, images, self.fc(images.flatten(1)))


def in_training(net, images, logits):
    """As torchvision's GoogLeNet and Inception have it."""
    return (logits, logits) if net.training else logits


@torch.no_grad()
def without_gradient(net, images, logits):
    return 2 * logits


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Own(20), r"torch.float32 \(8, 20\) for 8 images .*\(8, 10\)"),
        (lambda: Own(9), r"\(8, 9\)"),
        (lambda: nn.Sequential(nn.Conv2d(3, 10, 1)), r"\(8, 10, 32, 32\)"),
        (lambda: Named(lambda net, images, logits: logits.argmax(1)), r"torch.int64 \(8,\)"),
        (lambda: Named(in_training), "a tuple for 8 images in training mode"),
        (lambda: Named(lambda net, images, logits: logits * torch.nan), "NaN"),
        (lambda: Named(lambda net, images, logits: logits.detach()), "without a gradient"),
        (lambda: Named(without_gradient), "without a gradient"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(100, 10)), r"Sequential fails: .*3072.*\(8, 3, 32, 32\)"),
        (lambda: nn.Sequential(nn.Flatten(), nn.LazyLinear(10)), "uninitialized"),
        (lambda: Own().half(), "body.0.weight of Own is torch.float16.*bfloat16"),
        (lambda: Own().double(), "body.0.weight of Own is torch.float64"),
        (torch.inference_mode()(Own), "Own was made under torch.inference_mode"),
    ],
)  # fmt: skip
def test_a_network_that_gives_no_logits_to_train_is_refused(data, no_step, make, message):
    with pytest.raises(ValueError, match=message):
        run(RECIPE, data, make())


@pytest.mark.parametrize("crop", [None, 24])
def test_the_trial_of_a_model_leaves_it_and_the_draws_as_they_were(data, monkeypatch, crop):
    class Noisy(Own):
        def forward(self, images):
            assert images.shape[2:] == (crop or 32, crop or 32)
            return super().forward(images + 0.1 * torch.rand(()))

    def trained():
        torch.manual_seed(0)
        return run(Recipe(Stage(epochs=1), settings=replace(TINY, crop=crop)), data, Noisy())

    tried = trained()
    monkeypatch.setattr(running, "try_stages", lambda *arguments: None)
    same_run(tried, trained())


def test_a_trial_puts_modes_and_buffers_back():
    class Moving(nn.Module):
        """Replaces its buffer, where batch norm changes it in place."""

        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm1d(2)
            self.register_buffer("mean", torch.ones(2))

        def forward(self, x):
            self.mean = 0.5 * self.mean
            return self.norm(x)

    model = nn.Sequential(Moving(), nn.Dropout()).eval()
    model[1].train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with checks.as_it_was(model):
        model.train()(torch.rand(4, 2))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [part.training for part in model.modules()] == [False, False, False, True]


# --- the classifier --------------------------------------------------------------------------------------------------


class Beside(Own):
    """Has a classifier that its logits do not come from."""

    def __init__(self, classifier: nn.Module, scale: float = 2.0):
        super().__init__()
        self.classifier, self.scale = classifier, scale

    def forward(self, images):
        beside = self.classifier(torch.ones(len(images), 8)) if self.scale == 0 else 0
        return super().forward(images) + 0 * beside


class TwoNames(Own):
    """Its head is called classifier too, but not by forward: another under that name would change nothing."""

    def __init__(self):
        super().__init__()
        self.classifier = self.fc


class Property(Own):
    @property
    def classifier(self):
        return self.fc


ALONE = after_a_plain_one(trains="classifier")


@pytest.mark.parametrize(
    "model",
    [Beside(nn.Linear(8, 10)), Beside(nn.Linear(8, 10), scale=0), Doubled(head="classifier"), TwoNames(), Property(),
     torch.compile(head_of(nn.Linear(8, 10)), backend="eager")],
    ids=["never called", "called beside", "changed after", "by another name", "property", "compiled"],
)  # fmt: skip
def test_a_classifier_that_forward_does_not_end_in_is_refused_where_a_stage_needs_it(data, no_step, model):
    """Else a stage would train or change what the logits do not depend on, without a sign."""
    other_name = isinstance(model, TwoNames | Property) or hasattr(model, "_orig_mod")
    for recipe in (recipes.get("tau_norm"), *([] if other_name else [ALONE])):
        with pytest.raises(ValueError, match=rf"{recipe.name}.* {type(model).__name__}.classifier .*model.compile"):
            run(recipe, data, model)


def test_a_classifier_that_a_stage_only_trains_may_have_another_name_and_a_plain_recipe_takes_any(data):
    for model in (TwoNames(), Property()):
        body = [p.clone() for p in model.body.parameters()]
        run(Stage(epochs=1, trains="classifier"), data, model)
        assert all(map(torch.equal, body, model.body.parameters()))
    for model in (Beside(nn.Linear(8, 10)), torch.compile(Own(), backend="eager"), weight_normed()):
        run(Stage(epochs=1), data, model)


def weight_normed() -> Own:
    return head_of(weight_norm(nn.Linear(8, 10)))


@pytest.mark.parametrize("name", ["crt", "lws", "tau_norm", "logit_adjusted_post_hoc"])
def test_a_change_of_the_classifier_refuses_what_is_not_linear(data, no_step, name):
    for model, kind in (
        (head_of(nn.Linear(8, 8), nn.Linear(8, 10)), "Sequential"), (weight_normed(), "ParametrizedLinear"),
        (head_of(torch.compile(nn.Linear(8, 10), backend="eager")), "OptimizedModule"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"stage 2 changes a linear classifier, Own.classifier is a {kind}"):
            run(name, data, model)
    with pytest.raises(ValueError, match="stage 2 needs a model with a part called classifier, Own has none"):
        run(name, data, Own())


def test_a_custom_change_takes_any_classifier_and_gives_a_module(data):
    def widened(model, images, labels, class_counts):
        return nn.Sequential(*model.classifier, nn.Linear(10, 10))

    head = head_of(nn.Linear(8, 8), nn.Linear(8, 10))
    run(after_a_plain_one(classifier=widened), data, head)
    assert len(head.classifier) == 3
    with pytest.raises(TypeError, match="classifier=<lambda> gives None"):
        run(after_a_plain_one(classifier=lambda *_: None), data, head)


@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: head_of(nn.Linear(8, 10)), "a Linear: .*Cosine"),
        (Own, "missing"),
        (lambda: head_of(nn.Dropout(), nn.Sequential(nn.Dropout(), nn.Linear(8, 10))), "a Sequential that ends in a"),
        (lambda: Beside(CosineClassifier(8, 10)), "not what forward ends in"),
    ],
)
def test_ldam_refuses_a_classifier_that_is_not_normalised(data, no_step, make, kind):
    with pytest.raises(ValueError, match=f"'ldam' .*classifier is {kind}"):
        run("ldam", data, make())


def test_ldam_trains_a_custom_normalised_classifier(data):
    class Normed(CosineClassifier):
        pass

    result = run(recipes.get("ldam").resolve(SHAPES).with_epochs(1), data, head_of(Normed(8, 10)))
    assert 1 < result.logits.abs().max() <= 30 + 1e-4  # the loss's scale


def test_a_classifier_in_another_precision_is_what_forward_ends_in(data):
    class Upcast(Own):
        def forward(self, images):
            return super().forward(images).float()

    run(recipes.get("tau_norm").resolve(SHAPES).with_epochs(1), data, Upcast(head="classifier"), precision="bfloat16")


@pytest.mark.parametrize(
    "make",
    [
        Own,
        lambda: Own(features="features"),
        lambda: Own(features="features", head="classifier", classifier=nn.Sequential(nn.Linear(8, 10))),
        lambda: torchvision.models.densenet121(num_classes=10),
    ],
    ids=["no features", "no classifier", "no weight", "a ReLU after features"],
)
def test_a_foreground_slot_refuses_a_model_without_maps(data, no_step, make):
    with pytest.raises(ValueError, match=r"stage 2 has a foreground slot, whose maps need model.features"):
        run(after_a_plain_one(foreground=ForegroundTransform()), data, make())


def test_a_foreground_slot_takes_a_custom_model_with_maps(data):
    run(after_a_plain_one(foreground=ForegroundTransform()), data, Own(features="features", head="classifier"))


@pytest.mark.parametrize(
    ("rows", "what"), [(lambda images: None, "None"), (lambda images: images[:3], r"a tensor \(3, 3, 32, 32\)")]
)
def test_a_foreground_whose_prepare_gives_no_rows_is_refused_at_that_call(data, no_step, rows, what):
    class Foreground:
        def prepare(self, model, images, labels):
            return rows(images)

        def __call__(self, images, rows, *, generator):
            return images

    with pytest.raises(TypeError, match=rf"stage 1: prepare.* of Foreground gives {what}, .*{len(data.train)}"):
        run(Stage(epochs=1, foreground=Foreground()), data)


# --- losses ----------------------------------------------------------------------------------------------------------


class Loss(nn.Module):
    def __init__(self, of):
        super().__init__()
        self.of = of

    def forward(self, logits, targets):
        return self.of(logits, targets)


class Scaled(CrossEntropyLoss):
    def __init__(self):
        super().__init__()
        self.log_scale = nn.Parameter(torch.zeros(()))

    def forward(self, logits, targets):
        return super().forward(logits * self.log_scale.exp(), targets)


def changed_in_place(z, y):
    exponentials = z.exp()
    loss = exponentials.sum()
    exponentials.zero_()
    return loss + z.sigmoid().mul_(2).sum()


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (Loss(lambda z, y: F.cross_entropy(z, y, reduction="none")), r"Loss gives torch.float32 \(8,\): .*one number"),
        (Loss(lambda z, y: F.cross_entropy(z, y).item()), "Loss gives a float"),
        (Loss(lambda z, y: None), "Loss gives a NoneType"),
        (Loss(lambda z, y: F.cross_entropy(z, y).detach()), "Loss gives a number without a gradient"),
        (Loss(lambda z, y: (z.argmax(1) != y).float().mean()), "Loss gives a number without a gradient"),
        (Loss(lambda z, y: (z - z).log().sum() * 0), "Loss is NaN"),
        (Loss(lambda z, y: F.cross_entropy(z, y.float())), r"Loss fails: .*torch.int64 \(8,\)"),
        (Loss(lambda z: z.mean()), "Loss fails: TypeError"),
        (Loss(changed_in_place), "Loss fails: .*inplace.*backward pass"),
        (nn.BCEWithLogitsLoss(), r"BCEWithLogitsLoss fails: .*called as loss\(logits, targets\)"),
        (Scaled(), r"Scaled has parameters of its own, log_scale, .*Stage\(loss=Scaled\(model.log_scale\)\)"),
        (lambda class_counts: class_counts, "loss=<lambda> gives tensor"),
        (lambda class_counts: CrossEntropyLoss(weight=3), "loss=<lambda> fails: TypeError.*class_counts"),
    ],
)
def test_a_loss_that_cannot_be_trained_with_is_refused_before_the_first_stage(data, no_step, loss, message):
    with pytest.raises((ValueError, TypeError), match=message):
        run(after_a_plain_one(loss=loss), data)


def test_a_loss_whose_parameters_are_fixed_or_that_has_one_element_trains(data):
    plain, one_element = CrossEntropyLoss(), Loss(lambda z, y: CrossEntropyLoss()(z, y)[None])
    whole = run(Stage(epochs=1, loss=plain), data)
    for loss in (Scaled().requires_grad_(False), one_element):
        same_run(whole, run(Stage(epochs=1, loss=loss), data))


# --- samplers and mixes ----------------------------------------------------------------------------------------------


def given(*indices):
    return lambda labels, seed: list(indices)


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        (given(), r"stage 2: the sampler: list gives torch.float32 \(0,\)"),
        (given(0.5, 1.0), "list gives torch.float32"),
        (given([0, 1], [2, 3]), r"list gives torch.int64 \(2, 2\)"),
        (given(0, 10**6), "integers from 0 to"),
        (given(-1, 0), "integers from 0 to"),
        (given("a", "b"), "the sampler fails: ValueError"),
        (lambda labels, seed: 5, "the sampler fails: .*iterable"),
        (torch.utils.data.WeightedRandomSampler, "sampler=WeightedRandomSampler.* fails: .*labels, seed=seed"),
        (lambda labels, seed: torch.utils.data.BatchSampler(range(8), 4, True), "BatchSampler gives .*2, 4"),
    ],
)
def test_a_sampler_that_gives_no_images_is_refused_before_the_first_stage(data, no_step, sampler, message):
    with pytest.raises(ValueError, match=message):
        run(after_a_plain_one(sampler=sampler), data)


def mixing(change):
    def mix(model, images, targets, *, class_counts, generator):
        return change(model(images), F.one_hot(targets, len(class_counts)).float())

    return mix


class Checked:
    def check(self, model):
        raise ValueError(f"no mixing in {type(model).__name__}")

    def __call__(self, model, images, targets, **_):
        return model(images), targets


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        (v2.MixUp(num_classes=10), "the mix MixUp.* fails: .*class_counts=..., generator=..."),
        (v2.CutMix(num_classes=10), "the mix CutMix.* fails"),
        (mixing(lambda z, t: z), "the mix .*fails"),
        (mixing(lambda z, t: (z.repeat(2, 1), t.repeat(2, 1))), r"\(16, 10\).* for 8 images"),
        (mixing(lambda z, t: (z[:4], t[:4])), r"\(4, 10\)"),
        (mixing(lambda z, t: (z, t[:, :5])), r"and torch.float32 \(8, 5\)"),
        (mixing(lambda z, t: (z, t.tolist())), "and a list"),
        (ManifoldMixup(alpha=1.0, layer="layr3"), "layer='layr3'.*layer3"),
        (Checked(), "no mixing in Net"),
    ],
)
def test_a_mix_that_gives_something_else_is_refused_before_the_first_stage(data, no_step, mix, message):
    with pytest.raises(ValueError, match=message):
        run(after_a_plain_one(mix=mix), data)


# --- settings with a custom network or optimiser ---------------------------------------------------------------------


def own_net(num_classes, mean, std, width=8):
    """A network that settings may ask for; notes with what it was made."""
    net = models.Net({"stem": nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU())}, width, num_classes, mean, std)
    net.register_buffer("made_with", torch.stack([mean, std]).float())
    return net


def test_settings_make_a_custom_network(data):
    """From the run's seed, normalised by the training images, told by what the function does."""
    recipe = Recipe(Stage(epochs=1), name="own", settings=replace(TINY, model=own_net))
    one, again = (run(recipe, data) for _ in range(2))
    same_run(one, again)
    assert not torch.equal(one.logits, run(recipe, data, seed=1).logits)
    assert one.network == "own_net" and "own_net" in one.recipe.identity()["protocol.model"]
    expected = torch.stack(models.channel_statistics(data.train.images)).float()
    torch.testing.assert_close(one.model.made_with, expected)
    other = replace(TINY, model=partial(own_net, width=9))
    assert run(Recipe(Stage(epochs=1), settings=other), data).network == "own_net(width=9)"


def test_a_recipe_with_a_custom_network_and_optimizer_goes_to_another_process():
    settings = replace(TINY, model=partial(own_net, width=9), optimizer=torch.optim.AdamW)
    recipe = recipes.get("crt").resolve(settings)
    assert pickle.loads(pickle.dumps(recipe)).identity() == recipe.identity()


def test_a_network_that_settings_make_is_checked_as_one_that_is_given(data, no_step):
    for model, recipe, error, message in [
        (lambda num_classes, mean, std: Own(num_classes + 1), "ce", ValueError, r"model: Own gives .*\(8, 11\)"),
        (lambda num_classes, mean, std: Own(num_classes), "crt", ValueError, "Own has none"),
        (lambda num_classes, mean, std: Own(num_classes), "ldam", ValueError, "Own.classifier is a NoneType"),
        (lambda num_classes, mean, std: None, "ce", TypeError, "gives None"),
    ]:
        with pytest.raises(error, match=message):
            run(recipes.get(recipe).resolve(replace(TINY, model=model)), data)
    ldam = recipes.get("ldam").resolve(replace(TINY, model=own_net))
    with pytest.raises(AssertionError, match="a step was taken"):  # its linear classifier has become a normalised one
        run(ldam, data)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("model", lambda num_classes: None, r"model\(num_classes, mean, std\): too many positional"),
        ("model", 5, r"model=5: .*model\(num_classes, mean, std\)"),
        ("model", Own(), r"model=Own\(...\): .*fit\(recipe, data, model\)"),
        ("optimizer", "adam", r"optimizer='adam': .*optimizer\(parameters, lr=..., weight_decay=...\)"),
        ("optimizer", lambda parameters: None, r"optimizer\(parameters.*unexpected keyword argument 'lr'"),
    ],
)
def test_settings_refuse_what_they_cannot_call(field, value, message):
    with pytest.raises(TypeError, match=message):
        replace(TINY, **{field: value})


def test_an_optimizer_counts_in_the_identity_only_where_it_is_set_and_takes_no_recording(data, no_step):
    adam = replace(TINY, optimizer=torch.optim.Adam)
    assert adam.identity() == TINY.identity() | {"optimizer": "Adam"}
    with pytest.raises(ValueError, match=r"capture .*custom optimizer"):
        run(Recipe(Stage(epochs=1), settings=adam), data, capture=True)
    nothing = replace(TINY, optimizer=lambda parameters, lr, weight_decay: None)
    with pytest.raises(TypeError, match=r"optimizer=<lambda> .* gives None"):
        run(Recipe(Stage(epochs=1), settings=nothing), data)


# --- what surrounds a call -------------------------------------------------------------------------------------------


HALF = torch.autocast("cpu", torch.bfloat16)
SURROUNDINGS = {
    "float64": lambda: torch.set_default_dtype(torch.float64),
    "meta": lambda: torch.set_default_device("meta"),
    "no_grad": lambda: torch.set_grad_enabled(False),
    "autocast": HALF.__enter__,
}


@pytest.fixture
def surroundings(request):
    """What an earlier cell has left behind."""
    SURROUNDINGS[request.param]()
    yield request.param
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    torch.set_grad_enabled(True)
    if request.param == "autocast":
        HALF.__exit__(None, None, None)


MANY = {name: recipes.get(name).resolve(SHAPES).with_epochs(epochs)
        for name, epochs in {"bag_of_tricks": 4, "nearest_class_mean": 1, "drw_ldam": 2}.items()}  # fmt: skip
MANY["cropped"] = Recipe(Stage(epochs=1), settings=replace(TINY, crop=24, colour_jitter=(0.4, 0.4, 0.4)))


@pytest.fixture(scope="module")
def ordinary(data):
    return {name: run(recipe, data) for name, recipe in MANY.items()}


@pytest.mark.parametrize("surroundings", SURROUNDINGS, indirect=True)
def test_what_earlier_cells_have_set_changes_no_bit_of_a_run(data, tmp_path, ordinary, surroundings):
    for name, recipe in MANY.items():
        result = run(recipe, data, checkpoint=tmp_path / f"{name}.pt")
        loaded = load_model(tmp_path / f"{name}.pt")
        if surroundings != "autocast":  # which a user may want for prediction
            assert torch.equal(predict(loaded, data.test.images, crop=recipe.settings.crop), result.logits)
        same_run(result, ordinary[name])
    assert (torch.get_default_dtype() == torch.float64) == (surroundings == "float64")
    assert torch.get_default_device().type == ("meta" if surroundings == "meta" else "cpu")
    assert torch.is_grad_enabled() == (surroundings != "no_grad")


def made_directly(images):
    """What models, classifiers and augmentation give where they are called without a run."""
    generator = torch.Generator("cpu").manual_seed(0)
    torch.manual_seed(0)
    net, cosine = models.small_net(10), CosineClassifier(64, 10)
    yield from net.state_dict().values()
    yield cosine.weight
    yield from models.channel_statistics(images)
    yield train.augment(images, 2, True, generator)
    yield train.augmentation.crop_and_jitter(images, 24, (0.4, 0.4, 0.4), flip=True, generator=generator)
    yield torch.rand(1, dtype=torch.float32, device="cpu")  # the global generator has been drawn from as often


@pytest.mark.parametrize("surroundings", ["float64", "meta"], indirect=True)
def test_the_defaults_of_torch_change_nothing_that_is_called_directly(data, surroundings):
    theirs = list(made_directly(data.train.images[:8]))
    torch.set_default_dtype(torch.float32)
    torch.set_default_device(None)
    for one, other in zip(theirs, made_directly(data.train.images[:8]), strict=True):
        assert one.dtype == other.dtype and torch.equal(one, other)


def test_inference_mode_is_refused_by_name(data, no_step):
    with torch.inference_mode(), pytest.raises(ValueError, match="inference_mode"):
        run(RECIPE, data)


@pytest.mark.parametrize("place", ["log file", "terminal", "notebook"])
def test_a_progress_bar_is_for_a_terminal_and_a_notebook(data, monkeypatch, place):
    """In a log file its lines would be in the way, and in a saved notebook a widget."""
    out, err = io.StringIO(), io.StringIO()
    err.isatty = lambda: place == "terminal"
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    monkeypatch.delenv("TQDM_DISABLE", raising=False)
    monkeypatch.setattr("ltlab.progress.in_notebook", lambda: place == "notebook")
    run(Stage(epochs=1), data, progress=True)
    shown = {"log file": [False, False], "terminal": [False, True], "notebook": [True, False]}
    assert [bool(stream.getvalue()) for stream in (out, err)] == shown[place]
    assert (out.getvalue() + err.getvalue()).rpartition("\r")[2].strip() == ""  # it leaves nothing behind


# --- curves for TensorBoard ------------------------------------------------------------------------------------------


def points(folder) -> dict[str, list[tuple[int, float]]]:
    """The steps and values that TensorBoard shows, by tag."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder)).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def test_tensorboard_shows_the_history_and_the_metrics_no_epoch_twice(data, tmp_path):
    """Also after an interruption, and when a finished run is resumed once more."""
    pytest.importorskip("tensorboard")
    board = tmp_path / "board"
    options = {"tensorboard": board, "evaluate_every": 2, "extra_metrics": lambda logits, labels: {"half": 0.5}}
    interrupted(data, tmp_path / "run.pt", 3, **options)
    assert [step for step, _ in points(board)["train/loss"]] == [1, 2], "the third was on its way"
    for _ in range(2):
        result = run(RECIPE, data, checkpoint=tmp_path / "run.pt", resume=True, **options)
    curve = points(board)
    for tag, column in {"train/lr": "lr", "train/loss": "train_loss", "train/stage": "stage"}.items():
        assert curve[tag] == [(n, pytest.approx(v)) for n, v in enumerate(result.history[column], start=1)]
    assert curve["test/error"] == [(n, pytest.approx(result.history["test_error"][n - 1])) for n in (2, 4)]
    assert curve["test/half"] == [(2, pytest.approx(0.5)), (4, pytest.approx(0.5))]
    final = {tag.removeprefix("metrics/"): line for tag, line in curve.items() if tag.startswith("metrics/")}
    assert final == {name: [(4, pytest.approx(value))] for name, value in result.metrics.items() if value == value}, (
        "no class has many images here"
    )


def test_curves_of_another_run_are_not_drawn_over(data, tmp_path):
    pytest.importorskip("tensorboard")
    with curves(tmp_path) as write:
        write({"epoch": 1, "lr": 0.1})
    with pytest.raises(FileExistsError, match="has the curves of a run"):
        run(RECIPE, data, tensorboard=tmp_path)
    assert points(tmp_path) == {"train/lr": [(1, pytest.approx(0.1))]}


def test_without_tensorboard_the_way_to_install_it_is_named_before_anything_is_trained(data, tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("torch.utils.tensorboard")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    monkeypatch.setattr(TrainingStep, "__call__", None)
    with pytest.raises(ImportError, match="pip install tensorboard"):
        run(RECIPE, data, tensorboard=tmp_path / "board")
    assert not (tmp_path / "board").exists()
