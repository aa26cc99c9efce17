"""Explorers whose figures still move in the book, where no kernel runs: the frames of one slider, drawn beforehand.

Where a notebook has a row of buttons, the book has a slider over its options.
"""

import html
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import ipywidgets
import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from ltlab import classifiers, data, mixup, recipes, results, train, widgets
from ltlab.data.places import tables_folder
from ltlab.recipes import Recipe, Stage
from ltlab.widgets import Explorer

MOST_FRAMES = 31  # of a slider; one with more steps is shown at every second or third


@dataclass(frozen=True)
class Moving:
    """One control of a notebook's explorer, as a slider; the other controls stay where the notebook leaves them.

    Args:
        notebook: the file's name without its ending.
        maker: the function of `ltlab.widgets` that the notebook's cell calls.
        control: the name in the explorer of a slider, or of a row of buttons.
        make: the same explorer, in the state in which the notebook shows it.
        trained: whether it shows a trained network, so that its numbers may differ a little from machine to machine.
    """

    notebook: str
    maker: str
    control: str
    make: Callable[[], Explorer]
    trained: bool = False


@cache
def shapes() -> data.LongTailedData:
    return data.load("shapes-lt")


@cache
def plainly_trained() -> train.Result:
    return train.fit("ce", shapes(), progress=False, evaluate_every=1000)


@cache
def trained_with_mixup() -> dict[str, nn.Module]:
    """The three networks of notebook 04, trained as there."""
    with TemporaryDirectory() as folder:
        saved = Path(folder) / "input_mixup.pt"
        runs = {
            "ce_long": train.fit("ce_long", shapes(), progress=False, evaluate_every=1000),
            "input_mixup": train.fit("input_mixup", shapes(), checkpoint=saved, progress=False, evaluate_every=1000),
            "input_mixup_finetune": train.fit("input_mixup_finetune", shapes(), start_from=saved, progress=False),
        }
    return {name: run.model for name, run in runs.items()}


def long_tail() -> Explorer:
    return widgets.long_tail_explorer(data.load("shapes-lt", imbalance=1, max_count=12), max_count=320)


def timeline() -> Explorer:
    explorer = widgets.timeline_explorer(recipes.CIFAR)
    explorer.controls["recipe"].value = "drw_cs_ce"
    return explorer


def post_hoc() -> Explorer:
    result, test = plainly_trained(), shapes().test
    layer = result.model.classifier
    explorer = widgets.post_hoc_explorer(
        result.logits, test.labels, shapes().class_counts, classifiers.classifier_inputs(result.model, test.images),
        layer.weight, layer.bias, names=shapes().class_names,
    )  # fmt: skip
    explorer.controls["tau"].value = 1.0
    return explorer


def foreground() -> Explorer:
    explorer = widgets.foreground_explorer(shapes(), {"late": plainly_trained().model}, label=3, number=2)
    explorer.controls["angle"].value = 40.0
    return explorer


def bag() -> Explorer:
    measured = results.table(results.measured(recipes.RECIPES))
    explorer = widgets.bag_explorer(measured, results.published("cifar10-lt", 100))
    paper = {"sampler": "class-balanced", "foreground": "CAM", "mix": "input", "when": "deferred (last fifth)"}
    for name, option in (paper | {"afterwards": "fine-tuning without mixup"}).items():
        explorer.controls[name].value = option
    return explorer


def between_two_images() -> Explorer:
    return widgets.mixup_explorer(shapes(), trained_with_mixup(), a=0, b=1, lam=0.7)


@cache
def without_the_held_out() -> dict[str, Tensor]:
    """Test logits of the two networks of notebook 08, trained as there."""
    stages = {"CE": Stage(), "mixup": Stage(mix=mixup.InputMixup(1.0))}
    part, found = results.hold_out(shapes()), {}
    for name, stage in stages.items():
        run = train.fit(Recipe(stage, name=name), part, progress=False, evaluate_every=1000)
        found[name] = train.predict(run.model, shapes().test.images)
    return found


def reliability() -> Explorer:
    return widgets.reliability_explorer(without_the_held_out(), shapes().test.labels, shapes().class_counts)


def smoothing() -> Explorer:
    return widgets.smoothing_explorer(shapes().class_counts, names=shapes().class_names)


def alignment() -> Explorer:
    explorer = widgets.alignment_explorer(plainly_trained().logits, shapes().test.labels, shapes().class_counts)
    explorer.controls["tau"].value = 1.0
    return explorer


def bent_prior() -> Explorer:
    rows = results.measured(["ce", "logit_adjusted_post_hoc", "disalign", "crt", "balanced_softmax", "ldam"])
    rows = rows[rows["per_class_accuracy"] != ""]
    return widgets.prior_explorer(rows, shapes().class_counts, names=shapes().class_names)


@cache
def scenes() -> data.DetectionData:
    return data.load("scenes-lt")


def recorded() -> pd.DataFrame:
    return pd.read_csv(tables_folder("results") / "gradient_ratios.csv")


def gradient_ratios() -> Explorer:
    return widgets.gradient_ratio_explorer(recorded(), scenes().groups, names=scenes().class_names)


def equalization() -> Explorer:
    plain = recorded().query("loss == 'BCE' and prior == 0.1")
    last = plain.iloc[-1].filter(regex="^g").astype(float)
    return widgets.equalization_explorer(last, scenes().groups, names=scenes().class_names)


def repeats() -> Explorer:
    return widgets.repeat_factor_explorer(scenes().train.labels, scenes().groups, names=scenes().class_names)


def frozen() -> Explorer:
    kept = np.load(tables_folder("features") / "cifar10-lt-100.npz")
    (seen, y), (shown, labels) = (
        (torch.from_numpy(kept[f"x_{part}"]).float(), torch.from_numpy(kept[f"y_{part}"]).long())
        for part in ("train", "test")
    )
    mean, std = seen.mean(0), seen.std(0, correction=0)
    return widgets.cosine_explorer(((seen - mean) / std, y), ((shown - mean) / std, labels), torch.bincount(y))


MOVING = (
    Moving("00_start_here", "imbalance_explorer", "imbalance", lambda: widgets.imbalance_explorer(imbalance=100)),
    Moving("01_the_long_tail", "long_tail_explorer", "imbalance", long_tail),
    Moving("02_reweighting", "effective_number_explorer", "beta", lambda: widgets.effective_number_explorer(beta=0.9)),
    Moving("02_reweighting", "focal_explorer", "gamma", lambda: widgets.focal_explorer(gamma=2.0)),
    Moving("03_resampling", "sampling_explorer", "q", lambda: widgets.sampling_explorer(shapes(), q=0.0)),
    Moving("04_mixup", "beta_explorer", "alpha", lambda: widgets.beta_explorer(alpha=1.0)),
    Moving("04_mixup", "mixup_explorer", "lam", between_two_images, trained=True),
    Moving("05_two_stage", "timeline_explorer", "start", timeline),
    Moving("05_two_stage", "post_hoc_explorer", "tau", post_hoc, trained=True),
    Moving("06_cam_drs", "foreground_explorer", "threshold", foreground, trained=True),
    Moving("06_cam_drs", "foreground_explorer", "angle", foreground, trained=True),
    Moving("07_bag_of_tricks", "bag_explorer", "loss", bag),
    Moving("07_bag_of_tricks", "bag_explorer", "sampler", bag),
    Moving("08_calibration", "reliability_explorer", "temperature", reliability, trained=True),
    Moving("08_calibration", "noise_floor_explorer", "num_images", widgets.noise_floor_explorer),
    Moving("08_calibration", "smoothing_explorer", "head", smoothing),
    Moving("09_alignment", "alignment_explorer", "tau", alignment, trained=True),
    Moving("09_alignment", "prior_explorer", "t", bent_prior),
    Moving("10_detection", "gradient_ratio_explorer", "step", gradient_ratios),
    Moving("10_detection", "equalization_explorer", "mu", equalization),
    Moving("10_detection", "repeat_factor_explorer", "threshold", repeats),
    Moving("11_frozen_features", "cosine_explorer", "scale", frozen),
)


def steps(control: ipywidgets.ValueWidget) -> Iterator[tuple[str, object]]:
    """Label and value of a control's steps, at most `MOST_FRAMES` of them; the value where it stands is one."""
    if hasattr(control, "options"):
        pairs = [option if isinstance(option, tuple) else (str(option), option) for option in control.options]
        at = control.index
    else:
        count = round((control.max - control.min) / control.step) + 1
        values = np.linspace(control.min, control.max, count).round(10).tolist()
        pairs = [(f"{value:g}", value) for value in values]
        at = int(np.abs(np.array(values) - control.value).argmin())
    every = -(-len(pairs) // MOST_FRAMES)
    yield from pairs[at % every :: every]


def draw(moving: Moving, explorer: Explorer, site: Path) -> str:
    """Draw the frames into the site, as frames/NOTEBOOK/CONTROL/NN.webp; the slider over them as HTML."""
    control = explorer.controls[moving.control]
    start, frames = control.value, []
    folder = Path("frames") / moving.notebook / moving.control
    (site / folder).mkdir(parents=True, exist_ok=True)
    for number, (label, value) in enumerate(steps(control)):
        control.value = value
        explorer.picture().save(site / folder / f"{number:02}.webp", quality=85, method=2)
        frames.append((label, explorer.summary))
        if value == start:
            first = number
    control.value = start
    return _html(moving, explorer, frames, first, f"../{folder.as_posix()}")


def _html(moving: Moving, explorer: Explorer, frames: list[tuple[str, str]], first: int, folder: str) -> str:
    picture = next(child for child in explorer.children if isinstance(child, ipywidgets.Image))
    name, (value, text) = explorer.controls[moving.control].description, frames[first]
    name, value, text, label = (html.escape(words) for words in (name, value, text, picture.tooltip))
    slider = f"{moving.notebook}-{moving.control}"
    return f"""\
<figure class="moving" data-folder="{folder}" data-frames="{html.escape(json.dumps(frames))}">
<div class="slider">
<label for="{slider}">{name}</label>
<input id="{slider}" type="range" min="0" max="{len(frames) - 1}" step="1" value="{first}" autocomplete="off"
 aria-label="{name}" aria-valuetext="{value}">
<span class="value" aria-hidden="true">{value}</span>
</div>
<img src="{folder}/{first:02}.webp" width="{picture.width}" height="{picture.height}" loading="lazy" alt="{label}">
<p role="status">{text}</p>
<figcaption>This slider moves here too; for the other controls open the notebook with <code>uv run ltlab lab</code>.
</figcaption>
</figure>
"""
