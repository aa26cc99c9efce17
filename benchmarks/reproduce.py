"""The paper's settings on long-tailed CIFAR: one row per run, in the order that answers the course's question early.

    python benchmarks/reproduce.py --budget-minutes 9                                 # on a CUDA device
    python benchmarks/reproduce.py --device cpu --processes 2 --runs ~/ltlab-runs     # in the background, for days
    python benchmarks/reproduce.py --device cpu --status --runs ~/ltlab-runs          # where that stands
    python benchmarks/reproduce.py --rates                                            # images/s on a CPU
    python benchmarks/reproduce.py --device cpu --quick                               # a tiny version, to see it work

Trains ResNet-32 for 200 epochs (mixup 400, the final recipe 420). What several recipes begin with is trained once: 160
epochs of plain training serve plain training, deferred re-weighting and re-sampling and CAM-based sampling with its
controls; finished plain training serves cRT, LWS, tau-normalisation and post-hoc correction. The results are those of
whole runs, bit for bit.

Kill it at any moment and call it again, also with another number of processes: it continues from its checkpoints, which
lie in the folder --runs and are kept until nothing begins with them. A finished run leaves in the folder --output

    results/DATA-IMBALANCE.csv              its row
    logits/DATA-IMBALANCE/RECIPE-SEED.npz   its test logits, float16, of which the row's metrics are, and curve
    weights/DATA-IMBALANCE/RECIPE-SEED.pt   of a few runs, the weights in half precision

On a CPU every process trains with one thread and the lowest priority, in bfloat16 where that is faster. The last column
of the table is the distance to the published error, a single run by the paper's authors on the same subsets. The seed
draws weights, order and augmentation; the subset is the one of seed 0. Nothing is tuned: the test set is evaluated
every ten epochs for the curve, and never to choose an epoch.
"""

import argparse
import contextlib
import dataclasses
import io
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from filelock import FileLock, Timeout
from torch.nn.functional import cross_entropy

from ltlab import models, recipes, results
from ltlab.data import LongTailedData, load
from ltlab.losses import LDAMLoss
from ltlab.mixup import InputMixup
from ltlab.recipes import Plan, Recipe, Stage
from ltlab.results.comparison import clear
from ltlab.results.rows import provenance, runs_in
from ltlab.train import Result, evaluate, find_device, fit
from ltlab.train.checkpoint import load as load_checkpoint
from ltlab.train.checkpoint import write_atomically

ROOT = Path(__file__).parents[1]
ORDER = (  # blocks; in each, all recipes of a seed before the next seed
    ("ce", "drs_class_balanced", "cam_drs", "cam_drs_shuffled", "transform_drs", "drw_cs_ce", "crt", "tau_norm",
     "logit_adjusted_post_hoc"),
    ("balanced_softmax", "drw_ldam"),
    ("input_mixup", "input_mixup_finetune", "bag_of_tricks", "bag_of_tricks_without_cam",
     "input_mixup_balanced_softmax"),
    ("lws", "nearest_class_mean", "cs_ce", "cb_ce", "focal", "ldam", "class_balanced", "square_root", "progressive",
     "drs_square_root", "drs_progressive", "cam_drs_square_root", "cam_drs_progressive", "ce_long", "manifold_mixup",
     "remix", "input_mixup_class_balanced", "input_mixup_cam_drs"),
)  # fmt: skip
BEGINNINGS = (  # what several recipes train first
    Recipe(Stage(share=0.8, schedule="first"), name="first_stage"),
    Recipe(Stage(share=0.8, schedule="first", loss=LDAMLoss), name="ldam_first_stage", classifier="cosine"),
    Recipe(Stage(share=1.6, schedule="first", mix=InputMixup(alpha=1.0)), name="mixup_first_stage"),
)
KEEP_WEIGHTS = ("ce", "cam_drs", "bag_of_tricks")  # of seed 0
CURVE = ["epoch", "stage", "lr", "train_loss", "test_error"]
PRECISIONS = ("float32", "bfloat16")
WORTH_IT = 1.2  # how many times as fast as float32 bfloat16 has to be to be chosen


# --- the runs and their order ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Job:
    """One run: a recipe, or a beginning that recipes share and that has no row, with a seed on a subset."""

    recipe: Plan
    seed: int
    imbalance: float
    origins: tuple["Job", ...] = ()  # the runs that this one can start from, the longest first

    @property
    def shared(self) -> bool:
        return any(self.recipe.name == beginning.name for beginning in BEGINNINGS)

    def __str__(self) -> str:
        return f"{self.recipe.name}, seed {self.seed}, imbalance {self.imbalance:g}"


def order_for(data: str) -> list[tuple[str, ...]]:
    """The blocks with the data's beta: 0.9999 on CIFAR-10, 0.9 on CIFAR-100."""
    mild = {"cb_ce": "cb_ce_mild"} if data == "cifar100-lt" else {}
    return [tuple(mild.get(name, name) for name in block) for block in ORDER]


def jobs_for(
    blocks: list[tuple[str, ...]], seeds: int, imbalances: list[float], settings: recipes.Settings
) -> list[Job]:
    """All runs in their order, each beginning before the first that starts from it."""
    names = [name for block in blocks for name in block]
    made = {name: recipes.get(name).resolve(settings) for name in names}
    beginnings = [beginning.resolve(settings) for beginning in BEGINNINGS]
    candidates = sorted([*beginnings, *made.values()], key=lambda r: (r.epochs, len(r.stages)), reverse=True)
    starts = {
        recipe.name: [other.name for other in candidates if other is not recipe and recipe.begins_with(other)]
        for recipe in candidates
    }
    made |= {beginning.name: beginning for beginning in beginnings}
    jobs: dict[tuple[str, int, float], Job] = {}

    def add(name: str, seed: int, imbalance: float) -> Job:
        key = (name, seed, imbalance)
        if key not in jobs:
            origins = tuple(add(start, seed, imbalance) for start in starts[name])
            jobs[key] = Job(made[name], seed, imbalance, origins)
        return jobs[key]

    for imbalance in imbalances:
        for block in blocks:
            for seed in range(seeds):
                for name in block:
                    add(name, seed, imbalance)
    return list(jobs.values())


# --- data ------------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def load_subset(name: str, imbalance: float, arrays: Path | None, thin: bool = False) -> LongTailedData:
    """The subset of seed 0, from the official files or from an .npz of its images."""
    if arrays is None:
        data = load(name, imbalance=imbalance, seed=0)
    else:
        data = load(arrays, imbalance=None)
        counts = data.class_counts
        if round(float(counts.max() / counts.min())) != imbalance:
            raise ValueError(
                f"{arrays} has {counts.max()} to {counts.min()} images per class, not imbalance {imbalance:g}"
            )
        data = replace(data, name=name, options={"imbalance": imbalance, "kind": "exp", "seed": 0})
    return thinned(data) if thin else data


def thinned(data: LongTailedData) -> LongTailedData:
    """One of 50 training images of every class, and 200 test images."""
    classes = [torch.nonzero(data.train.labels == c).flatten() for c in range(len(data.class_names))]
    kept = torch.cat([indices[: math.ceil(len(indices) / 50)] for indices in classes])
    test = torch.arange(len(data.test))[:: max(1, len(data.test) // 200)]
    options = data.options | {"thinned": 50}
    return replace(data, train=data.train.take(kept), test=data.test.take(test), options=options)


# --- speed -----------------------------------------------------------------------------------------------------------


def images_per_second(precision: str, threads: int, steps: int = 6) -> float:
    """Of ResNet-32's training step on the CPU, batch 128, after three steps to warm up."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    model = models.build("resnet32", 10).to(memory_format=torch.channels_last).train()
    images = torch.rand(128, 3, 32, 32).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(128) % 10
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True, weight_decay=2e-4)
    seconds = []
    for _ in range(3 + steps):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            logits = model(images)
        optimizer.zero_grad()
        cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        seconds.append(time.perf_counter() - started)
    torch.set_num_threads(before)
    return len(images) * steps / sum(seconds[3:])


def print_rates() -> None:
    """Print the step's images per second by precision and threads."""
    print(provenance(torch.device("cpu"))["device"])
    for threads in range(1, (os.cpu_count() or 1) + 1):
        for precision in PRECISIONS:
            print(
                f"{threads} threads, {precision:8}: {images_per_second(precision, threads):5.0f} images/s", flush=True
            )


# --- training --------------------------------------------------------------------------------------------------------


class Reproduction:
    """The runs with their places on the disk, of which several processes take one after the other."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device = find_device(arguments.device)
        self.folder, self.output = arguments.runs, arguments.output
        settings = recipes.settings_for(arguments.data)
        if arguments.quick:
            settings = replace(settings, epochs=5)
        blocks = [tuple(arguments.recipes)] if arguments.recipes else order_for(arguments.data)
        self.jobs = jobs_for(blocks, arguments.seeds, arguments.imbalance, settings)
        self.fingerprints: dict[Job, str] = {}

    @cached_property
    def precision(self) -> str:
        """That of all runs in the folder: as asked for, else what is faster on this machine."""
        file = self.folder / "precision.txt"
        asked = self.arguments.precision
        if not file.exists():
            if asked == "auto" and self.device.type == "cpu":
                rates = {precision: images_per_second(precision, threads=1) for precision in PRECISIONS}
                asked = "bfloat16" if rates["bfloat16"] > WORTH_IT * rates["float32"] else "float32"
            write_atomically(file, (PRECISIONS[1] if asked == "auto" else asked).encode())
        kept = file.read_text(encoding="utf-8")
        if asked not in ("auto", kept):
            raise ValueError(f"precision={asked}: the runs in {self.folder} are in {kept}, name another folder")
        return kept

    def data(self, job: Job) -> LongTailedData:
        return load_subset(self.arguments.data, job.imbalance, self.arguments.arrays, self.arguments.quick)

    def subset(self, job: Job) -> str:
        return f"{self.arguments.data}-{job.imbalance:g}"

    def rows_file(self, job: Job) -> Path:
        return self.output / "results" / f"{self.subset(job)}.csv"

    def checkpoint(self, job: Job) -> Path:
        return self.folder / self.subset(job) / f"{job.recipe.name}-{job.seed}.pt"

    def kept(self, job: Job, kind: str, suffix: str) -> Path:
        return self.output / kind / self.subset(job) / f"{job.recipe.name}-{job.seed}{suffix}"

    def trained(self, job: Job) -> tuple[int, float]:
        """Epochs that the checkpoint of a run holds and the seconds that they took; (0, 0.0) where there is none."""
        try:
            state = load_checkpoint(self.checkpoint(job), torch.device("cpu"), lambda state: None)
        except FileNotFoundError:  # not begun, or cleared by another process
            return 0, 0.0
        return len(state["history"]), state["seconds"]

    def done(self) -> set[Job]:
        """The runs whose rows are written, and the beginnings that are trained or no longer needed."""
        rows = {file: runs_in(file) for file in {self.rows_file(job) for job in self.jobs}}
        done = {
            job
            for job in self.jobs
            if not job.shared and (job.recipe.name, job.seed, self.fingerprint(job)) in rows[self.rows_file(job)]
        }
        open_jobs = [job for job in self.jobs if not job.shared and job not in done]
        for job in self.jobs:
            if job.shared and (
                not any(job in other.origins for other in open_jobs) or self.trained(job)[0] == job.recipe.epochs
            ):
                done.add(job)
        return done

    def fingerprint(self, job: Job) -> str:
        if job not in self.fingerprints:
            self.fingerprints[job] = results.fingerprint(job.recipe, self.data(job))
        return self.fingerprints[job]

    def origin(self, job: Job, done: set[Job]) -> Job | None:
        """The longest run that this one can start from and that is still to be trained or has kept its checkpoint."""
        return next((o for o in job.origins if o not in done or self.checkpoint(o).exists()), None)

    @contextlib.contextmanager
    def taken(self) -> Iterator[tuple[Job, Job | None] | None]:
        """The first run that nobody trains and whose origin is trained, kept from other processes, with its origin."""
        done = self.done()
        for job in self.jobs:
            origin = self.origin(job, done)
            if job in done or not (origin is None or origin in done or self.checkpoint(job).exists()):
                continue
            path = self.checkpoint(job)
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(path.with_suffix(".lock"), blocking=False)
            try:
                lock.acquire()
            except Timeout:
                continue
            with lock:
                if job in self.done():  # meanwhile
                    continue
                yield job, origin
                return
        yield None

    def run(self, job: Job, origin: Job | None) -> None:
        """Train a run from its checkpoint or its origin, and keep what it gives."""
        path, data = self.checkpoint(job), self.data(job)
        there = path.exists()
        result = fit(
            job.recipe, data, seed=job.seed, device=self.device, precision=self.precision,
            capture=self.device.type == "cuda" and not self.arguments.eager, progress=sys.stderr.isatty(),
            checkpoint=path, resume=there, start_from=None if there or origin is None else self.checkpoint(origin),
            evaluate_every=10,
        )  # fmt: skip
        if not job.shared:
            row = self.keep(job, result)
            print(f"{job}: {100 * row['top1_error']:.2f} % in {row['seconds']:.0f} s", flush=True)
        done = self.done()
        needed = {origin for job in self.jobs if job not in done for origin in job.origins}
        for other in done - needed:
            clear(self.checkpoint(other))

    def keep(self, job: Job, result: Result) -> dict[str, object]:
        """Write logits, curve, weights and row of a finished run; the row's metrics are those of the kept logits."""
        data = self.data(job)
        logits = result.logits.half()
        curve = {name: result.history[name].to_numpy(np.float32) for name in CURVE}
        write_atomically(
            self.kept(job, "logits", ".npz"), to_bytes(np.savez_compressed, logits=logits.numpy(), **curve)
        )
        if job.seed == 0 and job.recipe.name in KEEP_WEIGHTS:
            weights = {
                k: v.cpu().half() if v.is_floating_point() else v.cpu() for k, v in result.model.state_dict().items()
            }
            write_atomically(self.kept(job, "weights", ".pt"), to_bytes(partial(torch.save, weights)))
        metrics = evaluate(logits.float(), data.test.labels, data.class_counts)
        row = results.result_row(dataclasses.replace(result, metrics=metrics), data, job.seed)
        with FileLock(self.folder / "rows.lock"):
            results.append_row(self.rows_file(job), row)
        return row

    # --- what is to be expected

    def outlook(self, pace: float) -> pd.DataFrame:
        """One line per run: epochs that are trained, epochs in all, and the hours until its row, at `pace` s/epoch."""
        done = self.done()
        trained = {job: job.recipe.epochs if job in done else self.trained(job)[0] for job in self.jobs}
        ready = dict.fromkeys(done, 0.0)  # when each run ends, in seconds from now
        free = [0.0] * self.arguments.processes  # when each process has time
        left = [job for job in self.jobs if job not in done]
        while left:
            now = min(free)
            origins = {job: self.origin(job, done) for job in left}
            able = [job for job in left if origins[job] is None or ready.get(origins[job], math.inf) <= now]
            if not able:  # this process waits for the next run to end
                free[free.index(now)] = min(end for end in ready.values() if end > now)
                continue
            job = able[0]
            begun = max(trained[job], origins[job].recipe.epochs if origins[job] else 0)
            ready[job] = free[free.index(now)] = now + (job.recipe.epochs - begun) * pace
            left.remove(job)
        lines = [
            (job.imbalance, job.recipe.name, job.seed, trained[job], job.recipe.epochs, ready[job] / 3600)
            for job in self.jobs
        ]
        return pd.DataFrame(lines, columns=["imbalance", "run", "seed", "trained", "epochs", "hours until done"])

    def pace(self) -> float:
        """Seconds per epoch: of the runs in progress, else of the rows that are there, else by a few timed steps."""
        begun = [self.trained(job) for job in self.jobs]
        rows = pd.concat([results.read_rows(file) for file in {self.rows_file(job) for job in self.jobs}])
        if epochs := sum(epochs for epochs, _ in begun):
            return sum(seconds for _, seconds in begun) / epochs
        if len(rows):
            return float(rows["seconds"].sum() / rows["epochs"].sum())
        images = int(self.data(self.jobs[0]).class_counts.sum())
        return images / images_per_second(self.precision, threads=1) if self.device.type == "cpu" else math.nan


def to_bytes(save, *args: object, **arrays: object) -> bytes:
    """What `save` writes to a file."""
    buffer = io.BytesIO()
    save(buffer, *args, **arrays)
    return buffer.getvalue()


def work(arguments: argparse.Namespace) -> bool:
    """Train what nobody else trains until all is done or the budget is spent; returns whether anything is left."""
    if find_device(arguments.device).type == "cpu":
        torch.set_num_threads(1)
        if not arguments.quick:
            step_back()
    reproduction = Reproduction(arguments)
    end, slowest = time.monotonic() + 60 * arguments.budget_minutes, 0.0
    while len(reproduction.done()) < len(reproduction.jobs):
        with reproduction.taken() as taken:
            if taken is None:  # all that is left starts from what other processes train
                time.sleep(1 if arguments.quick else 20)
                continue
            job, origin = taken
            epochs = job.recipe.epochs - max(reproduction.trained(job)[0], origin.recipe.epochs if origin else 0)
            if slowest and time.monotonic() + epochs * slowest > end:
                print(f"the budget is spent; next comes {job}: call again to continue", flush=True)
                return True
            started = time.monotonic()
            reproduction.run(job, origin)
            slowest = max(slowest, (time.monotonic() - started) / max(1, epochs))
    return False


def step_back() -> None:
    """Run only while the processor has nothing else to do, as far as the system knows such a priority."""
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    elif hasattr(os, "nice"):
        os.nice(19)


def reproduce(arguments: argparse.Namespace) -> bool:
    """Train in as many processes as asked for; returns whether anything is left."""
    if arguments.processes == 1:
        return work(arguments)
    processes = [
        multiprocessing.get_context("spawn").Process(target=work, args=(arguments,)) for _ in range(arguments.processes)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    if failed := [process.exitcode for process in processes if process.exitcode]:
        raise SystemExit(f"{len(failed)} of {len(processes)} processes stopped, exit status {failed[0]}: call again")
    reproduction = Reproduction(arguments)
    return len(reproduction.done()) < len(reproduction.jobs)


def report(path: Path, names: list[str]) -> None:
    """Print the rows' table, and how far each mean lies from its published error."""
    rows = results.read_rows(path)
    rows = rows[rows["recipe"].isin(names)]
    if rows.empty:
        return
    table = results.table(rows.sort_values("recipe", key=lambda column: column.map(names.index), kind="stable"))
    shown = results.formatted(table)
    shown["to published"] = [f"{d:+.2f}" if math.isfinite(d) else "–" for d in table["error"] - table["published"]]
    print(f"\n{shown.to_string()}\n\n{results.caption(table)}")


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", help="names of recipes; none takes all, in the order of this file")
    parser.add_argument("--data", choices=("cifar10-lt", "cifar100-lt"), default="cifar10-lt")
    parser.add_argument("--imbalance", type=float, nargs="+", help="one after the other; default 100 50")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--budget-minutes", type=float, default=math.inf)
    parser.add_argument("--arrays", type=Path, help="an .npz with the subset's images, instead of the official files")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--processes", type=int, default=1, help="runs side by side")
    parser.add_argument("--precision", choices=("auto", *PRECISIONS), default="auto")
    parser.add_argument("--eager", action="store_true", help="take the step as it is written, not as a CUDA graph")
    parser.add_argument("--quick", action="store_true", help="one image of 50, five epochs; rows under --runs")
    parser.add_argument("--status", action="store_true", help="print what is done and when the rest can be expected")
    parser.add_argument("--rates", action="store_true", help="print images per second by precision and threads")
    parser.add_argument("--output", type=Path, help="folder of results, logits and weights; default data/")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "reproduce", help="folder of the checkpoints")
    arguments = parser.parse_args()
    if arguments.imbalance is None:
        arguments.imbalance = [100.0, 50.0] if arguments.arrays is None else [100.0]
    if arguments.quick:
        arguments.runs = arguments.runs / "quick"
    if arguments.output is None:
        arguments.output = arguments.runs if arguments.quick else ROOT / "data"
    return arguments


def main() -> int:
    arguments = parsed()
    if arguments.rates:
        print_rates()
        return 0
    try:
        find_device(arguments.device)
    except ValueError:
        print(
            f"there is no device {arguments.device!r} here. The paper's settings want a CUDA device; on a CPU a run of "
            "200 epochs takes hours: --device cpu --processes 2 trains in the background, --device cpu --quick runs a "
            "tiny version."
        )
        return 2
    reproduction = Reproduction(arguments)
    print(reproduction.outlook(reproduction.pace()).to_string(index=False, float_format="{:.1f}".format), flush=True)
    if arguments.status:
        return 0
    left = reproduce(arguments)
    for file in dict.fromkeys(map(reproduction.rows_file, reproduction.jobs)):
        report(file, list(dict.fromkeys(job.recipe.name for job in reproduction.jobs)))
    if not left:
        print("nothing is left to run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
