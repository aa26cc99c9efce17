"""When does moving the foreground help? Deferred re-sampling on shapes-lt, over poses and context.

    python benchmarks/foreground_map.py [--poses 1 0.25] [--contexts 0 0.5 0.9] [--seeds 3] [--output FILE]

Every cell trains the same two stages, class-balanced in the second: unchanged (balanced), with whole images transformed
(the control), with the foreground that the first stage's CAM finds, with the one it finds for another image (shuffled,
the control of the maps), and with the true one; the CAM's and the true ones pasted over the image, or with the hole
filled. `pose_variety`: which part of the test set's poses training shows. `context`: how often the background has the
texture of the class. Every finished run becomes a row of the output (data/results/foreground.csv); a second call
continues from there.

About 12 s per run on one core: 126 runs, 25 minutes on one core. Prints every cell's error, and the paired difference
to `balanced`, in percentage points, mean ± sample standard deviation over seeds.
"""

import argparse
import itertools
from functools import partial
from pathlib import Path

import pandas as pd

from ltlab import cam, results
from ltlab.data import load
from ltlab.recipes import SHAPES, Recipe, Stage
from ltlab.samplers import PowerSampler
from ltlab.train import fit

ROOT = Path(__file__).parents[1]


def recipes_for(true_masks) -> list[Recipe]:
    """The second stage's foreground slots, by name."""
    foregrounds = {
        "balanced": None,
        "whole image": cam.WholeImageTransform(),
        "cam": cam.ForegroundTransform(),
        "cam, shuffled": cam.ShuffledForegroundTransform(),
        "cam, filled": cam.ForegroundTransform(fill=True),
        "true": cam.ForegroundTransform(masks=true_masks),
        "true, filled": cam.ForegroundTransform(masks=true_masks, fill=True),
    }
    first = Stage(share=0.8, schedule="first")
    second = partial(Stage, share=0.2, schedule="second", sampler=partial(PowerSampler, q=0.0))
    return [Recipe(first, second(foreground=foreground), name=name) for name, foreground in foregrounds.items()]


def differences(rows: pd.DataFrame) -> pd.DataFrame:
    """Paired differences of every variant's error to `balanced` by seed; percentage points, mean and std."""
    errors = 100 * rows.pivot(index="seed", columns="recipe", values="top1_error")
    return errors.sub(errors["balanced"], axis=0).agg(["mean", "std"]).T.loc[rows["recipe"].unique()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--poses", type=float, nargs="+", default=[1.0, 0.25])
    parser.add_argument("--contexts", type=float, nargs="+", default=[0.0, 0.5, 0.9])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=ROOT / "data" / "results" / "foreground.csv")
    arguments = parser.parse_args()
    for context, poses in itertools.product(arguments.contexts, arguments.poses):
        fingerprints = []
        for seed in range(arguments.seeds):
            data = load("shapes-lt", pose_variety=poses, context=context, seed=seed)
            done = set(results.read_rows(arguments.output)["fingerprint"])
            for recipe in recipes_for(data.train.masks):
                fingerprints.append(results.fingerprint(recipe.resolve(SHAPES), data))
                if fingerprints[-1] not in done:
                    run = fit(recipe, data, seed=seed, device="cpu", progress=False, evaluate_every=1000)
                    results.append_row(arguments.output, results.result_row(run, data, seed))
        rows = results.read_rows(arguments.output).set_index("fingerprint").loc[fingerprints].reset_index()
        print(f"\npose_variety {poses:g}, context {context:g}")
        print(
            pd.concat([results.summary(rows)[["error", "error_std"]], differences(rows)], axis=1).round(1), flush=True
        )


if __name__ == "__main__":
    main()
