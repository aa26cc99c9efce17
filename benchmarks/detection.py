"""Every recipe of detection and its controls on scenes-lt, at settings chosen on held-out scenes.

    python benchmarks/detection.py [--seeds 5] [--processes 2] [--runs FOLDER] [--output FILE] [--only NAME ...]
    python benchmarks/detection.py --speed     images per second, beside a loop of torchvision's

Every run adds a row to the output (data/results/scenes-lt.csv): recipe, setting, seed, AP by group as fractions on the
test scenes and, as held_out_..., on the held-out scenes, which draw nothing from the test scenes; seconds of training,
machine and versions. A second call continues from there. The first seeds try every setting of `GRID`; `chosen` then
takes, of every recipe, the setting with the highest mean AP on the held-out scenes, and the other seeds run that one
alone, with those that a comparison names besides. Two-stage recipes start from the checkpoint of plain training.

About 25 s per run on one core, and half of that for a second stage. Prints the choice and the table.
"""

import argparse
import copy
import itertools
import multiprocessing
import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import MultiScaleRoIAlign
from turns import by_turns

from ltlab import detection, results
from ltlab.classifiers import with_prior
from ltlab.data import load
from ltlab.detection.detection_recipes import RECIPES, acsl
from ltlab.detection.detection_run import CLIP, DetectionRun, for_torchvision
from ltlab.recipes import Recipe
from ltlab.train.processes import ALONE

ROOT = Path(__file__).parents[1]
GRID: dict[str, tuple[str, tuple[float, ...], int]] = {  # what is chosen, among which values, by how many seeds
    "det_bce": ("prior", (0.3, 0.1, 0.01, 0.001), 1),
    "det_eqlv2": ("prior", (0.3, 0.1, 0.01, 0.001), 1),
    "det_eql": ("prior", (0.1, 0.01, 0.001), 1),
    "det_federated": ("prior", (0.1, 0.01, 0.001), 1),
    "det_acsl": ("xi", (0.3, 0.7, 0.1, 0.9, 0.01), 1),
}
CORE = ["det_ce", "det_eqlv2", "det_bce", "det_rfs", "det_ce_long", "det_acsl"]  # what matters most comes first
CONTROLS = {  # what each recipe is compared with, seed by seed
    "det_ce_long": "det_ce", "det_acsl": "det_ce_long", "det_bags": "det_ce_long", "det_bce": "det_ce",
    "det_eqlv2": "det_bce", "det_eql": "det_bce", "det_federated": "det_bce", "det_seesaw": "det_ce",
    "det_rfs": "det_ce", "det_eqlv2_rfs": "det_rfs",
}  # fmt: skip
METRICS = ("ap", "ap50", "ap_rare", "ap_common", "ap_frequent")


def with_setting(recipe: Recipe, name: str, value: float) -> Recipe:
    """The recipe with another prior, or another xi."""
    *first, last = recipe.stages
    if name == "prior":
        last = replace(last, classifier=partial(with_prior, prior=value))
    elif name == "xi":
        last = replace(last, loss=partial(acsl, xi=value))
    return recipe.with_stages(*first, last)


def measure(job: tuple[str, str, float | None, int, Path]) -> dict[str, Any]:
    """The row of one run."""
    name, setting, value, seed, runs = job
    torch.set_num_threads(1)
    recipe = RECIPES[name] if value is None else with_setting(RECIPES[name], setting, value)
    data, base = load("scenes-lt", seed=seed), runs / f"det_ce-seed{seed}.pt"
    keep = base if name == "det_ce" else None
    start = base if len(recipe.stages) > 1 and base.exists() else None
    run = detection.fit(
        recipe, data, seed=seed, device="cpu", progress=False, evaluate_every=1000, start_from=start,
        checkpoint=keep, resume=keep is not None and keep.exists(),
    )  # fmt: skip
    held_out = load("scenes-lt", seed=seed, held_out=True)
    found = detection.detect(run.model, held_out.test.images)
    theirs = detection.average_precision(found, held_out.test.boxes, held_out.test.labels, held_out.groups)
    return {
        "data": data.name, "recipe": name, "setting": setting, "value": value, "seed": seed,
        "epochs": run.recipe.epochs, "batch_size": run.recipe.settings.batch_size,
        "fingerprint": results.fingerprint(run.recipe, data),  # pyright: ignore[reportArgumentType]
        **{metric: run.metrics[metric] for metric in METRICS},
        **{f"held_out_{metric}": theirs[metric] for metric in METRICS},
        "seconds": run.seconds, **results.provenance(torch.device("cpu")),
    }  # fmt: skip


def chosen(rows: pd.DataFrame) -> dict[str, float]:
    """The setting of every recipe in the grid by the mean AP on the held-out scenes of the first seeds, if all ran."""
    best = {}
    for recipe, (_, values, seeds) in GRID.items():
        tried = rows[(rows["recipe"] == recipe) & (rows["seed"] < seeds)] if len(rows) else rows
        if len(tried) == len(values) * seeds:
            means = [tried.loc[tried["value"] == value, "held_out_ap"].mean() for value in values]
            best[recipe] = values[means.index(max(means))]
    return best


def jobs(names: list[str], seed: int, best: dict[str, float]) -> Iterator[tuple[str, str, float | None, int]]:
    """The runs of a seed: the whole grid if it chooses, else what is chosen."""
    for name in names:
        setting, values, seeds = GRID.get(name, ("", (None,), 0))
        if setting and seed >= seeds:
            values = (best[name],)
            if name == "det_bce":  # at its own best, and at that of EQL v2
                values = dict.fromkeys((best[name], best["det_eqlv2"]))
        for value in values:
            yield name, setting, value, seed


def speed(turns: int = 40) -> None:
    """Images per second of a training step of `fit`, and of the loop of torchvision's tutorial on the same batches.

    The loop trains the same detector, once as it is and once with torchvision's own head, transform and RoIAlign. All
    take turns, a step each.
    """
    torch.set_num_threads(1)
    data: Any = load("scenes-lt", seed=0)
    plan = RECIPES["det_ce"].resolve(detection.SCENES)
    run: Any = DetectionRun(
        plan,
        data,
        None,
        ALONE,
        seed=0,
        precision="float32",
        capture=False,
        batch_norm="local",
        path=None,
    )
    step, _ = run.begin_stage()
    step.slots.set_mode(run.model)
    batches = itertools.cycle(data.train.batches(torch.arange(64).split(plan.settings.batch_size)))

    def loop(model: torch.nn.Module) -> Callable[[], None]:
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, nesterov=True)

        def step() -> None:
            _, images, targets = next(batches)
            flips = (torch.rand(len(images)) < 0.5).tolist()
            floats = [
                image.flip(-1) if flip else image for image, flip in zip(images.float() / 255, flips, strict=True)
            ]
            flat = [
                for_torchvision(target, flip, 96, masked=False) for target, flip in zip(targets, flips, strict=True)
            ]
            losses = model(floats, flat)
            optimizer.zero_grad()
            torch.stack([*losses.values()]).sum().backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()

        return step

    theirs = copy.deepcopy(run.model.rcnn)
    theirs.roi_heads.__class__ = RoIHeads
    theirs.roi_heads.box_roi_pool = MultiScaleRoIAlign(["0"], 5, 1)
    theirs.transform = GeneralizedRCNNTransform(96, 96, [0.0] * 3, [1.0] * 3)
    ways = {
        "ltlab's fit": lambda: step(*next(batches)),
        "torchvision's loop, the same detector": loop(copy.deepcopy(run.model.rcnn)),
        "torchvision's loop, its own head, transform and RoIAlign": loop(theirs),
    }
    for name, seconds in by_turns(ways, turns, warm_up=3).items():
        print(f"{name:58} {plan.settings.batch_size / statistics.median(seconds):6.0f} images/s")
    with torch.profiler.profile() as profile:
        for _ in range(5):
            step(*next(batches))
    print(profile.key_averages().table(sort_by="self_cpu_time_total", row_limit=12, max_name_column_width=40))


def report(rows: pd.DataFrame) -> None:
    """The choice, and AP by group in percent, mean and standard deviation over the seeds."""
    print("chosen on held-out scenes:", chosen(rows))
    columns = [f"held_out_{metric}" for metric in METRICS[:1]] + list(METRICS)
    table = (100 * rows.set_index(["recipe", "value", "seed"])[columns]).groupby(level=[0, 1], dropna=False)
    print(table.agg(["mean", "std"]).round(1).to_string())
    print("seeds:", {name: n for name, n in rows.groupby(["recipe", "value"], dropna=False).size().items()})
    best = chosen(rows)
    settled = rows[rows["value"].isna() | (rows["value"] == rows["recipe"].map(best.get))].set_index(["recipe", "seed"])
    print("\npoints of AP gained over the control, by seed:")
    for name, control in CONTROLS.items():
        if {name, control} <= set(settled.index.get_level_values(0)):
            gain = 100 * (settled.loc[name, list(METRICS)] - settled.loc[control, list(METRICS)]).dropna(how="all")
            shown = ", ".join(f"{m} {gain[m].mean():+.1f} ± {gain[m].std():.1f}" for m in METRICS if m != "ap50")
            print(f"{name:14} - {control:12} {len(gain)} seeds: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path.home() / "ltlab-runs" / "scenes-lt")
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "scenes-lt.csv")
    parser.add_argument("--speed", action="store_true", help="measure the step, and train nothing")
    parser.add_argument("--only", nargs="*", help="recipes to run")
    arguments = parser.parse_args()
    if arguments.speed:
        speed()
        return
    arguments.runs.mkdir(parents=True, exist_ok=True)
    output = arguments.output
    rows = pd.read_csv(output, keep_default_na=False, na_values={"value": [""]}) if output.exists() else pd.DataFrame()
    with multiprocessing.get_context("spawn").Pool(arguments.processes) as pool:
        core = [name for name in CORE if name in RECIPES]
        rest = [name for name in RECIPES if name not in CORE]
        for names, seed in [
            *((names, seed) for names in (core, rest) for seed in range(min(3, arguments.seeds))),
            *((names, seed) for names in (core, rest) for seed in range(3, arguments.seeds)),
        ]:
            best = chosen(rows)
            there = set() if rows.empty else set(zip(rows["recipe"], rows["value"].map(str), rows["seed"], strict=True))
            wanted = [
                (*job, arguments.runs)
                for job in jobs(names, seed, best)
                if (job[0], str(float("nan") if job[2] is None else job[2]), seed) not in there
                and (not arguments.only or job[0] in arguments.only)
            ]
            for row in pool.imap_unordered(measure, wanted):
                rows = pd.concat([rows, pd.DataFrame([row])]) if len(rows) else pd.DataFrame([row])
                rows["value"] = rows["value"].astype(float)
                rows.to_csv(output, index=False, float_format="%.6g")
                print(row["recipe"], row["value"], row["seed"], {m: round(100 * row[m], 1) for m in METRICS},
                      f"{row['seconds']:.0f} s", flush=True)  # fmt: skip
    report(rows)


if __name__ == "__main__":
    main()
