"""Where a run begins: `fit`, and the network of a run that has ended."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import models, recipes
from ..counts import check_integer, check_seed
from ..data import LongTailedData
from ..defaults import usual_defaults
from ..names import one_of
from ..recipes import Plan, Recipe
from ..recipes.contents import contents
from . import checkpoint as checkpoints
from .checks import check_types
from .curves import check_curves, curves
from .processes import join
from .run import ExtraMetrics, Result, Run


def fit(
    recipe: Recipe | str, data: LongTailedData, model: nn.Module | None = None, *,
    seed: int = 0, device: str | torch.device = "auto", precision: str = "auto",
    checkpoint: str | os.PathLike | None = None, resume: bool = False, start_from: str | os.PathLike | None = None,
    capture: bool = False, progress: bool = True, evaluate_every: int = 1,
    extra_metrics: ExtraMetrics | None = None, tensorboard: str | os.PathLike | None = None,
    batch_norm: str = "local",
) -> Result:  # fmt: skip
    """Train a recipe on long-tailed data and return the last epoch's metrics.

    The test set is evaluated every `evaluate_every` epochs for the history's curve, and never to choose an epoch.

    Args:
        recipe: a recipe, a plan, or the name of a recipe. The data's settings fill in what a recipe leaves open, see
            `settings_for`; for another one, pass `recipes.get("ce").resolve(recipes.SETTINGS["inat18"])`.
        data: a set from `ltlab.data.load`.
        model: any module from float images (N, 3, H, W) in [0, 1] to logits (N, C), trained in place. None builds the
            settings', with weights drawn from `seed`. The whole model is switched to training mode, overriding any
            earlier `.eval()`; to freeze batch-norm statistics, use a stage's batch_norm="eval". Parameters without
            requires_grad stay unchanged.
        seed: of weights, order of images, augmentation and mixing. The global generators are left unchanged.
        device: "auto" (CUDA, else Apple's MPS, else the CPU), or a torch device.
        precision: "float32" or "bfloat16" (autocast), or Lightning's names for them, "32-true" and "bf16-mixed";
            "auto" is bfloat16 on CUDA and float32 elsewhere.
        checkpoint: a file that is replaced after every epoch. The history is written to a CSV of the same name. Of a
            loss, the checkpoint keeps the `state_dict()`: buffers, and no other attributes.
        resume: continue from `checkpoint`, which must be of the same recipe, data, seed and kind of device.
        start_from: the checkpoint of another run that began as this one does, on the same data, with the same seed and
            kind of device. That part is not trained again, and the result is the same to the bit. Many recipes begin
            with 160 of 200 epochs of plain training, see `Plan.done`.
        capture: run the step by a `CapturedStep`: the same arithmetic, on a GPU without launch overhead.
        progress: show a progress bar, in a terminal or a notebook.
        evaluate_every: epochs between evaluations; the last epoch is always evaluated.
        extra_metrics: metrics computed at every evaluation, called with the test set's logits, float32 (N, C), and
            labels, int64 (N,), on the CPU. It returns {name: number}; the names become columns of the history.
        tensorboard: a folder for TensorBoard, one per run: train/lr, train/loss, train/stage and test/error of every
            epoch, test/NAME of the extra metrics, and at the end metrics/top1_error and the rest of `Result.metrics`.
        batch_norm: with several processes, "local" normalises with the statistics of a process's own images, "sync"
            with those of the whole batch.

    Under torchrun or `fabric run`, several processes train together, one per device. Each takes its fraction of every
    batch, whose total size is the settings', and gradients are averaged: without random augmentation, the images and,
    up to rounding and local batch norm, the steps are those of one process. Each process draws its own augmentation
    and mixing. Only the first one writes; all must see the folder of `checkpoint`. All return the same result.

    Before the first step a few images go through every stage, so that a network, sampler, mix or loss that a step
    could not use is refused at once, by name. Gradients are computed also under `torch.no_grad()`; torch's default
    dtype and device change nothing.

    Raises:
        TypeError: not a recipe, loaded data or a network instance; a loss or classifier that is not a module;
            `prepare` of a foreground slot that gives no row per image; extra metrics that are not names and numbers.
        ValueError: an argument outside its range, or an unknown name; fewer than two classes; what the device, the
            processes, `capture` or the images' size do not allow; a first stage that needs a trained model; a network
            that does not fit the data or the recipe; a sampler, mix or loss that fails, or gives something else than
            `Stage` says; a checkpoint that is damaged, or of another run; torch.inference_mode().
        FileNotFoundError, FileExistsError: `resume` or `start_from` without a checkpoint file; a checkpoint, its
            history, or curves in the folder `tensorboard`, without `resume`.
        BlockingIOError: another run that has not ended holds `checkpoint`.
        OSError: no file can be written at `checkpoint`.
        ImportError: `tensorboard` without TensorBoard.
        ConnectionError: another process of the run has stopped or does not answer.
        FloatingPointError: the training loss is no longer finite: with a loss of ltlab on the CPU raised at that step,
            otherwise at the end of the epoch.
    """
    check_types(recipe, data, model)
    recipe = recipes.get(recipe) if isinstance(recipe, str) else recipe
    return run_to_end(
        Run, recipe.resolve(recipes.settings_for(data.name, data.side, len(data.train))), data, model, seed=seed,
        device=device, checkpoint=checkpoint, resume=resume, start_from=start_from, progress=progress,
        evaluate_every=evaluate_every, tensorboard=tensorboard, precision=precision, capture=capture,
        batch_norm=batch_norm, extra_metrics=extra_metrics,
    )  # fmt: skip


def run_to_end(
    begin: Callable[..., Run], plan: Plan, data: Any, model: nn.Module | None, *, seed: int,
    device: str | torch.device, checkpoint: str | os.PathLike | None, resume: bool,
    start_from: str | os.PathLike | None, progress: bool, evaluate_every: int,
    tensorboard: str | os.PathLike | None, **options: Any,
) -> Any:  # fmt: skip
    """Begin a run, or continue one, train it to its end and return its result; see `fit` for the arguments."""
    seed = check_seed(seed)
    evaluate_every = check_integer("evaluate_every", evaluate_every, least=1)
    path, start, board = map(checkpoints.absolute, (checkpoint, start_from, tensorboard))
    checkpoints.check_path(path, resume)
    check_curves(board, resume)
    processes = join(find_device(device))
    device, first = processes.device, processes.rank == 0
    with _surroundings(seed, device), processes.watched():
        run = begin(plan, data, model, processes, seed=seed, path=path, **options)
        try:
            with _surroundings(seed, device):
                run.try_stages(seed)
            with checkpoints.held(path if first else None, resume):
                if resume and path is not None:
                    run.load_state(checkpoints.load(path, device, run.refusal))
                elif start is not None:
                    run.load_state(checkpoints.load(start, device, run.refusal_to_start_from))
                with curves(board if first else None) as write:
                    run.train(progress, evaluate_every, write)
                    result = run.result()
                    write({"epoch": run.recipe.epochs} | {f"metrics/{k}": v for k, v in result.metrics.items()})
        finally:
            run.thaw()
        return result


def load_model(
    checkpoint: str | os.PathLike, data: LongTailedData | None = None, *,
    model: nn.Module | Callable[..., nn.Module] | None = None,
) -> nn.Module:  # fmt: skip
    """The network of a run as its checkpoint holds it, on the CPU.

        model = load_model("checkpoint.pt")
        logits = predict(model, images)
        names = [model.class_names[c] for c in logits.argmax(1)]

    Args:
        checkpoint: a file that `fit` has written.
        data: the data that the run must have been on; None takes any.
        model: of a run on a custom network, another like it to load into, or the function that was in the
            settings; its weights are replaced. None builds the settings'.

    Returns:
        The network; its `class_names`, (C,) strings, say what its classes are called.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the checkpoint is damaged, of a run on other data, or of another network than `model`.
    """
    path = Path(checkpoint).expanduser()
    of_data = {} if data is None else {"data fingerprint": data.fingerprint}
    state = checkpoints.load(
        path, torch.device("cpu"),
        lambda state: checkpoints.difference({k: state["identity"][k] for k in of_data}, of_data),
    )  # fmt: skip
    try:
        with _surroundings(0, torch.device("cpu")):
            model = _network_for(state, model).cpu()
        model.load_state_dict(state["model"])
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"checkpoint {path} holds another network: {error}") from error
    vars(model)["class_names"] = tuple(state["class names"])
    return model


def _network_for(state: dict, model: nn.Module | Callable[..., nn.Module] | None) -> nn.Module:
    """A network to load a checkpoint's weights into, its classifier as the stages have left it."""
    made_by, given = state["identity"]["protocol.model"], state["identity"].get("network", "Net")
    head = checkpoints.classifier_in(state)
    if model is None and (given != "Net" or made_by not in models.NETWORKS):
        known = made_by if given == "Net" else given
        raise ValueError(f"{known} is a custom network, give one to load into, load_model(..., model=...)")
    if isinstance(model, nn.Module):
        if "network" in state["identity"] and type(model).__name__ != given:
            raise ValueError(f"it is a {given}, model= is a {type(model).__name__}")
    else:
        if model is not None and contents(model) != made_by:
            raise ValueError(f"it was made by {made_by}, model= is {contents(model)}")
        model = models.build(model or made_by, len(state["class names"]), state["statistics"])
    models.put_classifier(model, state["classifier"], head)
    return model


@contextmanager
def _surroundings(seed: int, device: torch.device) -> Iterator[None]:
    """torch as a run needs it, independent of the cells before; afterwards as it was.

    Its default generators are seeded for what has no generator argument (weight initialisation, dropout); gradients are
    computed, in the usual dtype, without autocast.
    """
    with (
        usual_defaults(),
        torch.enable_grad(),
        torch.autocast(device.type, enabled=False),
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
    ):
        torch.manual_seed(seed)
        yield


def find_device(device: str | torch.device) -> torch.device:
    """The device of that name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ValueError: an unknown name, or a device that this machine does not have.
    """
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if here[kind]))
    kind, _, index = str(device).partition(":")
    one_of("device", kind, [*here, "auto"])
    if not here[kind] or (kind == "cuda" and index and int(index) >= torch.cuda.device_count()):
        raise ValueError(f"device={str(device)!r} is not on this machine; 'auto' takes the best available")
    return torch.device(device)
