"""Checkpoints: a run that was interrupted, or began as another, is bit for bit the run that was not."""

import errno
import os
import random
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from small_runs import RECIPE, TINY, Doubled, Own, Stop, interrupted, run, same_run, tiny_data
from torch import nn

from ltlab import models, recipes
from ltlab.cam import ForegroundTransform
from ltlab.classifiers import fresh, tau_normalised, weight_scaling
from ltlab.losses import BalancedSoftmaxLoss, CostSensitiveLoss, EqualizationLoss
from ltlab.recipes import SHAPES, Recipe, Stage, Steps
from ltlab.samplers import ProgressivelyBalancedSampler, RandomOverSampler
from ltlab.train import checkpoint as checkpoints
from ltlab.train import fit, load_model, predict


@pytest.fixture(scope="module")
def data():
    return tiny_data()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.pt"


def resumed_is_whole(data, path, make, after, model=lambda: None) -> None:
    """`make` gives the recipe and `model` the network of each of the runs."""
    whole = run(make(), data, model())
    interrupted(data, path, after, make(), model())
    same_run(whole, run(make(), data, model(), checkpoint=path, resume=True))


# --- resuming is exact -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [1, 2, 4])
def test_resuming_gives_bit_for_bit_the_run_never_interrupted(data, path, after):
    resumed_is_whole(data, path, lambda: RECIPE, after)


def test_resuming_a_model_with_dropout(data, path):
    def model():
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 10))

    resumed_is_whole(data, path, lambda: RECIPE, 2, model)


def plain_sampler(labels, seed):
    return torch.utils.data.RandomSampler(labels, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("after", [1, 3])
def test_resuming_continues_the_generators_that_slots_hold(data, path, after):
    def recipe() -> Recipe:
        def loss() -> EqualizationLoss:
            return EqualizationLoss(data.class_counts, threshold=0.5, generator=torch.Generator().manual_seed(0))

        stages = Stage(epochs=2, loss=loss(), sampler=plain_sampler), Stage(epochs=2, loss=loss())
        return Recipe(*stages, settings=TINY)

    resumed_is_whole(data, path, recipe, after)


class Seen(nn.Module):
    """Logits adjusted by the classes seen so far: what it does depends on what it remembers."""

    def __init__(self, class_counts):
        super().__init__()
        self.register_buffer("seen", torch.ones(len(class_counts)))
        self.steps = 0

    def get_extra_state(self):
        return {"steps": self.steps}

    def set_extra_state(self, state):
        self.steps = state["steps"]

    def forward(self, logits, targets):
        self.seen += torch.bincount(targets, minlength=len(self.seen))
        self.steps += 1
        return F.cross_entropy(logits + self.seen.log(), targets) * (1 + 1 / self.steps)


def remembering(made: bool, data) -> Recipe:
    loss = Seen(data.class_counts) if made else Seen
    return Recipe(Stage(epochs=2, loss=loss), Stage(epochs=2, loss=loss), name="seen", settings=TINY)


@pytest.mark.parametrize(("made", "after"), [(True, 3), (False, 1)])
def test_resuming_continues_with_what_a_loss_remembers(data, path, made, after):
    resumed_is_whole(data, path, lambda: remembering(made, data), after)


def test_a_run_leaves_the_loss_of_its_recipe_and_two_stages_share_one(data):
    """So that the next seed begins as the first did, and cutting a stage in two changes nothing here either."""
    recipe = remembering(True, data).resolve(TINY)
    before = recipe.identity()
    parts = run(recipe, data)
    assert recipe.identity() == parts.recipe.identity() == before
    whole = run(Recipe(Stage(epochs=4, loss=Seen(data.class_counts)), settings=TINY), data)
    parts.history["stage"] = 1
    same_run(whole, parts)


class Tempered(nn.Module):
    """Cross-entropy at a temperature that is learnt: a parameter of the model, or all of it."""

    def __init__(self, log_scale=None, model=None):
        super().__init__()
        if model is None:
            self.log_scale = log_scale
        else:
            self.model = model

    def forward(self, logits, targets):
        log_scale = self.model.log_scale if hasattr(self, "model") else self.log_scale
        return F.cross_entropy(logits * log_scale.exp(), targets)


def tempered() -> Own:
    torch.manual_seed(0)
    model = Own()
    model.log_scale = nn.Parameter(torch.zeros(()))
    return model


@pytest.mark.parametrize("through", ["parameter", "module", "function"])
def test_a_loss_trains_what_it_has_of_the_model(data, path, through):
    def parts():
        model = tempered()
        loss = {"parameter": lambda: Tempered(model.log_scale), "module": lambda: Tempered(model=model),
                "function": lambda: (lambda class_counts: Tempered(model.log_scale))}[through]()  # fmt: skip
        return Recipe(Stage(epochs=2, loss=loss), name="tempered", settings=TINY), data, model

    whole = run(*parts())
    assert whole.model.log_scale.item() != 0
    recipe, _, model = parts()
    interrupted(data, path, 1, recipe, model)
    same_run(whole, run(*parts(), checkpoint=path, resume=True))


class Counting(torch.optim.AdamW):
    """Keeps a state among its settings, as some optimisers do."""

    def step(self):
        for group in self.param_groups:
            group["steps"] = group.get("steps", 0) + 1
            group["lr"] /= 1 + group["steps"]
        super().step()


@pytest.mark.parametrize("after", [1, 3])
def test_resuming_continues_with_the_state_of_a_custom_optimizer(data, path, after):
    settings = replace(TINY, optimizer=Counting)
    recipe = Recipe(Stage(epochs=2), Stage(epochs=2, loss=BalancedSoftmaxLoss), settings=settings)
    resumed_is_whole(data, path, lambda: recipe, after)


class Darkened:
    """Darkens the mask that the stage-1 model drew: half of the images' pixels, by its own first weight."""

    def __repr__(self):
        return "Darkened()"

    def prepare(self, model, images, labels):
        return images.float().mean(1) > 100 + 50 * next(model.parameters()).detach().abs().mean()

    def __call__(self, images, masks, *, generator):
        return torch.where(masks[:, None], images // 2, images)


def test_masks_of_a_foreground_stage_survive_resuming(data, path):
    recipe = Recipe(Stage(epochs=1), Stage(epochs=3, foreground=Darkened()), settings=TINY)
    resumed_is_whole(data, path, lambda: recipe, 2)


@pytest.mark.parametrize(
    "name",
    ["lws", "nearest_class_mean", "logit_adjusted_post_hoc", "drs_classifier_shift", "drs_progressive",
     "input_mixup_finetune", "manifold_mixup", "cam_drs_progressive", "transform_drs"],
)  # fmt: skip
def test_recipes_resume_from_every_epoch(data, tmp_path, name):
    recipe = recipes.get(name).resolve(SHAPES).with_epochs(3)
    whole = run(recipe, data)
    for after in (1, 2, 3):
        interrupted(data, tmp_path / f"{after}.pt", after, recipe)
        same_run(whole, run(recipe, data, checkpoint=tmp_path / f"{after}.pt", resume=True))


def test_resuming_asks_no_training_image_for_the_kind_of_the_classifier(data, path, monkeypatch):
    recipe = recipes.get("nearest_class_mean").resolve(SHAPES).with_epochs(2)
    whole = run(recipe, data, checkpoint=path)
    monkeypatch.setattr("ltlab.classifiers.classifier_inputs", lambda *_, **__: pytest.fail("images were read"))
    same_run(whole, run(recipe, data, checkpoint=path, resume=True))


def halved(model, images, labels, class_counts):
    """A change that is none of ltlab's, to a classifier that its name alone does not make."""
    narrow = nn.Linear(model.classifier.in_features, 4)
    return nn.Sequential(narrow, nn.Linear(4, len(class_counts)))


@pytest.mark.parametrize("changes", [(halved,), (fresh, partial(weight_scaling))])
def test_resuming_makes_any_classifier_again(data, tmp_path, changes):
    stages = [Stage(epochs=1, schedule="finetune", trains="classifier", classifier=change) for change in changes]
    recipe = Recipe(Stage(epochs=1), *stages, Stage(epochs=1, schedule="finetune")).resolve(TINY)
    whole = run(recipe, data)
    for after in range(1, recipe.epochs + 1):
        interrupted(data, tmp_path / f"{after}.pt", after, recipe)
        same_run(whole, run(recipe, data, checkpoint=tmp_path / f"{after}.pt", resume=True))


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_resuming_after_kill_9_in_the_middle_of_a_stage(path):
    code = textwrap.dedent("""
        import sys
        from ltlab.data import load
        from ltlab.train import fit
        from ltlab.recipes import Recipe, Stage, SHAPES
        data = load("shapes-lt", imbalance=10, max_count=60, test_count=5)
        fit(Recipe(Stage(epochs=20), settings=SHAPES), data, checkpoint=sys.argv[1], device="cpu", progress=False)
    """)
    history = path.with_suffix(".csv")
    child = subprocess.Popen([sys.executable, "-c", code, str(path)])
    deadline = time.monotonic() + 120
    while not history.exists() or len(pd.read_csv(history)) < 2:
        assert child.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    child.kill()
    assert child.wait() != 0
    data, recipe = tiny_data(max_count=60), Recipe(Stage(epochs=20), settings=SHAPES)
    whole = run(recipe, data, device="cpu")
    same_run(whole, run(recipe, data, checkpoint=path, resume=True, device="cpu"))
    pd.testing.assert_frame_equal(pd.read_csv(history), whole.history)


def test_a_finished_run_resumes_to_its_own_result_and_its_history_is_a_csv(data, tmp_path):
    path = tmp_path / "deep" / "run.pt"
    first = run(RECIPE, data, checkpoint=path)
    again = run(RECIPE, data, checkpoint=path, resume=True)
    same_run(first, again)
    assert again.seconds == first.seconds
    pd.testing.assert_frame_equal(pd.read_csv(path.with_suffix(".csv")), first.history)
    assert sorted(p.name for p in path.parent.iterdir()) == ["run.csv", "run.pt"]


def test_a_relative_checkpoint_stays_where_it_was_meant_to_be(data, tmp_path, monkeypatch):
    """Also where another cell, or the metrics, change the folder; ~ is the home folder."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for given, there in (("runs/run.pt", tmp_path / "runs"), ("~/run.pt", tmp_path / "home")):
        extra = lambda logits, labels: os.chdir(tmp_path / "elsewhere") or {}  # noqa: E731
        run(Stage(epochs=2), data, checkpoint=given, extra_metrics=extra)
        os.chdir(tmp_path)
        assert sorted(file.name for file in there.iterdir()) == ["run.csv", "run.pt"]
        load_model(given)
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(ValueError, match=r"~nosuchuser.*no such user"):
        run(Stage(epochs=1), data, checkpoint="~nosuchuser/run.pt")


# --- starting from a finished first stage ----------------------------------------------------------------------------

PLAIN = Recipe(Stage(epochs=2), name="plain", settings=TINY)
SECOND = Recipe(Stage(epochs=2), Stage(epochs=1, schedule="retrain", trains="classifier"), settings=TINY)


def test_starting_from_a_finished_stage_or_within_it_is_bit_for_bit_the_whole_run(data, tmp_path):
    run(PLAIN, data, checkpoint=tmp_path / "plain.pt")
    interrupted(data, tmp_path / "half.pt", 1, PLAIN)
    whole = run(SECOND, data)
    same_run(whole, run(SECOND, data, start_from=tmp_path / "plain.pt", checkpoint=tmp_path / "parts.pt"))
    same_run(whole, run(SECOND, data, checkpoint=tmp_path / "parts.pt", resume=True))
    same_run(whole, run(SECOND, data, start_from=tmp_path / "half.pt"))


STEPS = replace(
    TINY,
    epochs=5,
    schedules={**TINY.schedules, "base": Steps(lr=0.02, milestones=(0.6,)), "first": Steps(lr=0.02)},
)
BEGUN = Recipe(Stage(epochs=3, schedule="first"), name="begun", settings=STEPS)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(Stage(epochs=5), settings=STEPS),  # in the middle of a stage
        Recipe(Stage(epochs=3), Stage(epochs=2, loss=CostSensitiveLoss), settings=STEPS),  # the optimizer continues
        Recipe(Stage(epochs=3, schedule="first"), Stage(epochs=1, schedule="retrain"), settings=STEPS),  # a new one
        Recipe(Stage(epochs=3), Stage(epochs=2, sampler=ProgressivelyBalancedSampler), settings=STEPS),
        Recipe(Stage(epochs=5), Stage(epochs=0, classifier=tau_normalised), settings=STEPS),
    ],
)
def test_what_has_trained_alike_so_far_can_be_started_from(data, tmp_path, recipe):
    """By the learning rates that its schedule gave, though schedule and length of the stage are others."""
    run(BEGUN, data, checkpoint=tmp_path / "begun.pt")
    assert recipe.resolve(STEPS).begins_with(BEGUN.resolve(STEPS))
    same_run(run(recipe, data), run(recipe, data, start_from=tmp_path / "begun.pt"))


@pytest.mark.parametrize(
    ("recipe", "options", "message"),
    [
        (SECOND, {"seed": 1}, "seed is 0 there and 1 here"),
        (Recipe(Stage(epochs=3), Stage(epochs=1, trains="classifier"), settings=TINY), {}, "stage 1.learning rate is"),
        (Recipe(Stage(epochs=2), Stage(epochs=1), settings=TINY), {}, "stage 1.learning rate is"),  # of three epochs
        (Recipe(Stage(epochs=2, sampler=RandomOverSampler), Stage(epochs=1), settings=TINY), {}, "stage 1.sampler is"),
        (Recipe(Stage(epochs=1), Stage(epochs=2, trains="classifier"), settings=TINY), {}, "has to train longer"),
        (PLAIN, {}, "has to train longer"),
    ],
)
def test_a_foreign_start_is_refused(data, tmp_path, recipe, options, message):
    run(PLAIN, data, checkpoint=tmp_path / "plain.pt")
    assert options or not recipe.resolve(TINY).begins_with(PLAIN.resolve(TINY))
    with pytest.raises(ValueError, match=message):
        run(recipe, data, start_from=tmp_path / "plain.pt", **options)


def test_the_middle_of_a_stage_that_asks_for_its_epochs_or_has_masks_is_no_start(data, tmp_path):
    """The sampler draws otherwise in a longer stage; a finished run does not keep its masks."""
    progressive = Stage(epochs=2, sampler=ProgressivelyBalancedSampler, schedule="first")
    moved = Stage(epochs=1, schedule="first", foreground=ForegroundTransform())
    for number, (stages, message) in enumerate([
        ((progressive,), r"stage 1\.epochs is 2 there and 3 here"),
        ((Stage(epochs=1, schedule="first"), moved), "stage 2 needs the masks"),
    ]):  # fmt: skip
        longer = replace(stages[-1], epochs=stages[-1].epochs + 1)
        run(Recipe(*stages, settings=STEPS), data, checkpoint=tmp_path / f"{number}.pt")
        with pytest.raises(ValueError, match=message):
            run(Recipe(*stages[:-1], longer, settings=STEPS), data, start_from=tmp_path / f"{number}.pt")
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        run(SECOND, data, start_from=tmp_path / "none.pt")


@pytest.mark.parametrize("name", ["tau_norm", "nearest_class_mean"])
def test_a_checkpoint_holds_what_stages_of_0_epochs_made(data, tmp_path, path, name):
    base, parts = tmp_path / "base.pt", tmp_path / "parts.pt"
    recipe = recipes.get(name).resolve(SHAPES).with_epochs(1)
    run(recipe.first(1), data, checkpoint=base)
    whole = run(recipe, data, checkpoint=path)
    assert torch.equal(predict(load_model(path, data), data.test.images), whole.logits)
    assert not torch.equal(predict(load_model(base, data), data.test.images), whole.logits)
    same_run(whole, run(recipe, data, checkpoint=path, resume=True))
    same_run(whole, run(recipe, data, start_from=base, checkpoint=parts))
    same_run(whole, run(recipe, data, checkpoint=parts, resume=True))


def test_a_run_continues_from_a_checkpoint_that_ends_with_a_stage_of_0_epochs(data, tmp_path):
    first = recipes.get("tau_norm").resolve(TINY).with_epochs(1)
    recipe = Recipe(*first.stages, Stage(epochs=1, trains="classifier", schedule="retrain"), settings=TINY)
    run(Recipe(*first.stages, settings=TINY), data, checkpoint=tmp_path / "first.pt")
    whole = run(recipe, data)
    same_run(whole, run(recipe, data, start_from=tmp_path / "first.pt"))
    interrupted(data, tmp_path / "between.pt", 2, recipe)
    same_run(whole, run(recipe, data, checkpoint=tmp_path / "between.pt", resume=True))


# --- the network of a checkpoint -------------------------------------------------------------------------------------


def own_net(num_classes, mean, std, width=8):
    """A network that settings may ask for."""
    return models.Net({"stem": nn.Sequential(nn.Conv2d(3, width, 3, 2), nn.ReLU())}, width, num_classes, mean, std)


@pytest.mark.parametrize("name", ["ce", "lws", "logit_adjusted_post_hoc", "ldam"])
def test_a_checkpoint_alone_is_enough_to_predict(data, path, name):
    whole = run(recipes.get(name).resolve(SHAPES).with_epochs(2), data, checkpoint=path)
    before = torch.get_rng_state()
    model = load_model(path)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(predict(model, data.test.images), whole.logits)
    assert model.class_names == data.class_names and type(model.classifier) is type(whole.model.classifier)
    with pytest.raises(ValueError, match="belongs to another run: data fingerprint"):
        load_model(path, tiny_data(seed=1))


def test_a_custom_network_is_loaded_into_another_like_it(data, tmp_path, path):
    recipe = Recipe(Stage(epochs=1), Stage(epochs=1, classifier=weight_scaling), settings=TINY)
    whole = run(recipe, data, Own(head="classifier"), checkpoint=path)
    assert torch.equal(predict(load_model(path, model=Own(head="classifier")), data.test.images), whole.logits)
    with pytest.raises(ValueError, match=r"Own is a custom network, .*model="):
        load_model(path)
    for model, message in [(Doubled(head="classifier"), "it is a Own, model= is a Doubled"),
                           (Own(features="other", head="classifier"), "Missing key"),
                           (own_net, "it was made by small_net, model= is own_net")]:  # fmt: skip
        with pytest.raises(ValueError, match=rf"(?s)run.pt holds another network: .*{message}"):
            load_model(path, model=model)
    run(Stage(epochs=1), data, models.build("small_net", 10), checkpoint=tmp_path / "net.pt")
    load_model(tmp_path / "net.pt")


def test_a_network_that_a_settings_made_is_made_again_and_loaded(data, path):
    recipe = recipes.get("lws").resolve(replace(TINY, model=own_net)).with_epochs(2)
    whole = run(recipe, data, checkpoint=path)
    assert torch.equal(predict(load_model(path, model=own_net), data.test.images), whole.logits)
    wrong = ((None, "own_net.* is a custom network"), (partial(own_net, width=9), "made by own_net.*width=9"))
    for other, message in wrong:
        with pytest.raises(ValueError, match=message):
            load_model(path, model=other)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "seed is 0 there and 1 here"),
        ({"recipe": RECIPE.resolve(SHAPES).with_epochs(6)}, "stage 1.epochs is 2 there and 3 here"),
        ({"precision": "bfloat16"}, "precision is float32 there and bfloat16 here"),
        ({"data": {"seed": 1}}, "data fingerprint is"),
        ({"model": Own()}, "network is absent there and Own here"),
        ({"recipe": Recipe(*RECIPE.stages, settings=replace(TINY, model=own_net))}, "protocol.model is small_net"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_by_what_differs(data, path, change, message):
    run(RECIPE, data, checkpoint=path)
    if "data" in change:
        change = {"data": tiny_data(**change["data"])}
    with pytest.raises(ValueError, match=f"another run: .*{message}"):
        run(**{"recipe": RECIPE, "data": data, "checkpoint": path, "resume": True} | change)


def test_a_checkpoint_of_another_custom_network_is_refused(data, path):
    run(RECIPE, data, Own(), checkpoint=path)
    for model, message in ((Doubled(), "network is Own there and Doubled here"), (None, "Own there and absent here"),
                           (Own(head="head"), "network is not this run's")):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            run(RECIPE, data, model, checkpoint=path, resume=True)


def test_equal_data_made_by_other_words_are_the_run_s(data, path):
    """What tells data apart is their content, not how their options were written."""
    whole = run(RECIPE, data, checkpoint=path)
    other = tiny_data(imbalance=10.0)
    assert str(other.options) != str(data.options)
    same_run(whole, run(RECIPE, other, checkpoint=path, resume=True))


@pytest.mark.parametrize("content", [b"", b"epoch,stage\n1,1\n", b"\x80\x02.", b"{}", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_no_checkpoint_is_refused(path, content):
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        load_model(path)


def test_a_checkpoint_cut_off_or_with_a_flipped_bit_is_refused_or_as_it_was(path):
    """All bytes of tensors, names and shapes have a checksum; what lies between them does not matter."""
    values, draw = torch.rand(300), random.Random(0)
    checkpoints.save(path, {"identity": {}, "x": values})
    whole, refused = path.read_bytes(), 0

    def intact() -> bool:
        try:
            return torch.equal(checkpoints.load(path, torch.device("cpu"), lambda state: None)["x"], values)
        except ValueError as error:
            assert "damaged" in str(error)
            return False

    for fraction in (0.0, 0.3, 0.99):
        path.write_bytes(whole[: int(fraction * len(whole))])
        assert not intact()
    for _ in range(300):
        flipped = bytearray(whole)
        flipped[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(flipped)
        refused += not intact()
    assert refused > 75


def test_a_checkpoint_from_elsewhere_is_refused_and_runs_no_code(data, tmp_path, path):
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match="comes from elsewhere"):
        run(RECIPE, data, checkpoint=path, resume=True)

    class Evil:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "evil"),))

    torch.save(Evil(), path)
    with pytest.raises(ValueError, match="damaged or no checkpoint"):
        run(RECIPE, data, checkpoint=path, resume=True)
    assert not (tmp_path / "evil").exists()


def test_nothing_is_overwritten_or_skipped_in_silence(data, tmp_path, path):
    table = tmp_path / "table.csv"
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        run(RECIPE, data, checkpoint=path, resume=True)
    with pytest.raises(ValueError, match="resume needs a checkpoint"):
        run(RECIPE, data, resume=True)
    for precious in (path, table):
        precious.write_text("precious", encoding="utf-8")
    with pytest.raises(FileExistsError, match="resume the run"):
        run(RECIPE, data, checkpoint=path)
    with pytest.raises(FileExistsError, match=r"table\.csv exists, where the history of checkpoint .*table\.pt goes"):
        run(RECIPE, data, checkpoint=tmp_path / "table.pt")
    assert path.read_text(encoding="utf-8") == table.read_text(encoding="utf-8") == "precious"
    with pytest.raises(ValueError, match=r"other\.csv.*call it other\.pt"):
        run(RECIPE, data, checkpoint="other.csv")


# --- files, locks and disks ------------------------------------------------------------------------------------------


def test_a_place_where_no_checkpoint_can_be_written_is_refused(data, tmp_path):
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    with pytest.raises(OSError, match=r"cannot be written .*: name a folder that can"):
        run(RECIPE, data, checkpoint=tmp_path / "file" / "deep" / "run.pt")


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="a folder's write permission, which root does not need"
)
def test_a_folder_that_is_read_only_is_refused(data, tmp_path, path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="cannot be written"):
        run(RECIPE, data, checkpoint=path)


def test_two_processes_do_not_share_the_file_that_becomes_a_checkpoint(tmp_path, path, monkeypatch):
    """Another process writes the same checkpoint while this one is at it: the last to finish stays, and is whole."""
    fsync = os.fsync

    def meanwhile(descriptor):
        fsync(descriptor)
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "getpid", lambda: 1)
        checkpoints.write_atomically(path, b"theirs, which is longer")
        monkeypatch.undo()

    monkeypatch.setattr(os, "fsync", meanwhile)
    checkpoints.write_atomically(path, b"ours")
    assert path.read_bytes() == b"ours" and list(tmp_path.iterdir()) == [path]


def test_what_is_stopped_while_it_is_written_leaves_the_file_before(tmp_path, path):
    checkpoints.write_atomically(path, b"before")
    with pytest.raises(KeyboardInterrupt), checkpoints.atomically(path) as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert path.read_bytes() == b"before" and list(tmp_path.iterdir()) == [path]


def test_a_second_run_of_a_checkpoint_is_refused_while_the_first_lasts(data, tmp_path, path, monkeypatch):
    save, epochs = checkpoints.save, []

    def refused(checkpoint, resume):
        with pytest.raises(BlockingIOError, match=rf"another run \(process {os.getpid()} on .*name another"):
            run(RECIPE, data, checkpoint=checkpoint, resume=resume)

    def meanwhile(*args):
        epochs.append(1)
        if len(epochs) == 1:
            refused(path, resume=False)
            refused(path.with_suffix(".pth"), resume=False)  # has the same history, run.csv
        save(*args)
        refused(path, resume=True)

    monkeypatch.setattr(checkpoints, "save", meanwhile)
    first = run(RECIPE, data, checkpoint=path)
    assert len(epochs) == 4
    same_run(first, run(RECIPE, data, checkpoint=path, resume=True))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.csv", "run.pt"]


def test_a_run_that_stops_lets_go_of_its_checkpoint(tmp_path, path, monkeypatch):
    with pytest.raises(Stop), checkpoints.held(path, resume=False):
        raise Stop
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(checkpoints, "check_writable", lambda path: path.touch())  # another run ends right here
    with pytest.raises(FileExistsError, match="resume the run"), checkpoints.held(path, resume=False):
        pytest.fail("what the other run left would have been overwritten")
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_a_killed_run_keeps_nobody_from_its_checkpoint(tmp_path, path):
    code = """
    import sys, time
    from pathlib import Path
    from ltlab.train import checkpoint
    with checkpoint.held(Path(sys.argv[1]), resume=True):
        print("held", flush=True)
        time.sleep(100)
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(path)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "held\n"
        with (
            pytest.raises(BlockingIOError, match=rf"another run \(process {child.pid} on"),
            checkpoints.held(path, resume=True),
        ):
            pass
        child.kill()
    assert [file.name for file in tmp_path.iterdir()] == ["run.csv.lock"]
    with checkpoints.held(path, resume=True):
        assert f"process {os.getpid()} on" in (tmp_path / "run.csv.lock").read_text(encoding="utf-8")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name == "nt", reason="flock is POSIX")
def test_a_file_system_without_locks_is_told_of_and_trained_on(data, path, monkeypatch):
    import fcntl

    def flock(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.warns(UserWarning, match=rf"run\.pt cannot be locked \({os.strerror(errno.ENOLCK)}\)") as warned:
        fit(Recipe(Stage(epochs=1), settings=TINY), data, checkpoint=path, progress=False)
    assert warned[0].filename == __file__


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the size of files as Linux does")
def test_a_full_disk_keeps_the_checkpoint_before(path):
    code = textwrap.dedent("""
        import resource, signal, sys
        from pathlib import Path
        from ltlab.train import checkpoint
        import torch
        path = Path(sys.argv[1])
        checkpoint.save(path, {"identity": {}, "epoch": 1, "x": torch.zeros(10)})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            checkpoint.save(path, {"identity": {}, "epoch": 2, "x": torch.zeros(100_000)})
        except OSError as error:
            print(error)
        kept = checkpoint.load(path, torch.device("cpu"), lambda state: None)
        print(kept["epoch"], [p.name for p in path.parent.iterdir()])
    """)
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "could not write" in done.stdout and "untouched" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "1 ['run.pt']"
