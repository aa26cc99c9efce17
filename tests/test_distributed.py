"""Several processes: the run of one process, in shares. Two on the CPU, as torchrun starts them."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from torch import nn
from torchvision.io import write_png

from ltlab.data import load
from ltlab.losses import ClassBalancedFocalLoss, ClassBalancedLoss
from ltlab.recipes import SHAPES, Recipe, Stage
from ltlab.train import checkpoint, fit
from ltlab.train.processes import ALONE, OneProcess, across_processes, join, weight_of

# what every process runs: shapes-lt without augmentation on a network without batch norm, so that shares change nothing
SCRIPT = """
import sys, torch
from collections import Counter
from dataclasses import replace
from functools import partial
from torch import nn
from ltlab.data import Split, load
from ltlab.losses import ClassBalancedLoss
from ltlab.recipes import SHAPES, Recipe, Stage
from ltlab.samplers import *
from ltlab.train import fit

TINY = replace(SHAPES, batch_size=32, crop_padding=0, flip=False)
STAGES = {
    "none": {}, "weighted": {"loss": partial(ClassBalancedLoss, beta=0.99)},
    "power": {"sampler": partial(PowerSampler, q=0.0)}, "reversed": {"sampler": ReversedSampler},
    "bilateral": {"sampler": BilateralSampler}, "progressive": {"sampler": ProgressivelyBalancedSampler},
    "over": {"sampler": RandomOverSampler}, "under": {"sampler": RandomUnderSampler},
}

def run(name, epochs=2, **options):
    data = load("shapes-lt", imbalance=10, max_count=21, test_count=3)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(3072, 24), nn.ReLU(), nn.Linear(24, 10))
    recipe = Recipe(Stage(epochs=epochs, **STAGES[name]), settings=TINY)
    return fit(recipe, data, model, device="cpu", progress=False, **options)

def watched(name):
    \"\"\"The images of every epoch, after the trial, as this process sees them, the history and the logits.\"\"\"
    seen, batches = [], Split.batches
    def noting(split, indices):
        seen.append(torch.cat(list(indices)).tolist())
        return batches(split, indices)
    Split.batches = noting
    try:
        result = run(name)
    finally:
        Split.batches = batches
    return {"seen": seen[1:], "loss": result.history["train_loss"].tolist(), "logits": result.logits,
            "metrics": result.metrics}
"""


def started(code: str, *arguments: str, size: int = 2) -> list[subprocess.Popen]:
    """The processes of a run, with the environment that torchrun gives them."""
    script = Path(tempfile.mkdtemp()) / "script.py"  # code without a file is never recognised when a run is resumed
    script.write_text(SCRIPT + textwrap.dedent(code), encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(size), "LOCAL_WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "GROUP_RANK": "0",
              "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test", "OMP_NUM_THREADS": "1"}  # fmt: skip
    return [
        subprocess.Popen(
            [sys.executable, script, *arguments],
            env=os.environ | common | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for rank in range(size)
    ]  # fmt: skip


def finished(processes: list[subprocess.Popen], timeout: float = 300) -> list[SimpleNamespace]:
    done = []
    try:
        for process in processes:
            out, err = process.communicate(timeout=timeout)
            done.append(SimpleNamespace(status=process.returncode, out=out, err=err))
    finally:
        for process in processes:
            process.kill()
    return done


def here(code: str) -> dict:
    """The names of the script and of `code`, run in this process alone."""
    names: dict = {}
    exec(SCRIPT + textwrap.dedent(code), names)
    return names


@pytest.fixture(scope="module")
def data():
    return load("shapes-lt", imbalance=10, max_count=21, test_count=3)


@pytest.fixture(scope="module")
def shares(tmp_path_factory):
    """Every stage by two processes: what each saw and got."""
    folder = tmp_path_factory.mktemp("shares")
    code = """
    import os
    torch.save({name: watched(name) for name in STAGES}, f"{sys.argv[1]}/{os.environ['RANK']}.pt")
    """
    for one in finished(started(code, str(folder))):
        assert one.status == 0, one.err
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


NAMES = ["none", "weighted", "power", "reversed", "bilateral", "progressive", "over", "under"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_two_processes_are_one_in_shares(shares, data, name):
    """The same images in every epoch, in shares; the same losses, logits and figures, also of uneven batches."""
    alone = here("")["watched"](name)
    first, second = (share[name] for share in shares)
    for whole, one, other in zip(alone["seen"], first["seen"], second["seen"], strict=True):
        assert abs(len(one) - len(other)) <= len(whole) / 32 + 1
        assert sorted(one + other) == sorted(whole)
        rebuilt = []
        for start in range(0, len(whole), 32):  # batch by batch side by side, they are the sequence of one process
            batch = whole[start : start + 32]
            rebuilt += [one[start // 2 :][: -(-len(batch) // 2)] == batch[::2]]
        assert all(rebuilt)
    for share in (first, second):
        assert share["loss"] == pytest.approx(alone["loss"], rel=1e-5)
        torch.testing.assert_close(share["logits"], alone["logits"], rtol=1e-4, atol=1e-5)
        assert share["metrics"] == pytest.approx(alone["metrics"], rel=1e-4, nan_ok=True)
    assert torch.equal(first["logits"], second["logits"])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is POSIX")
def test_one_killed_the_other_stops_with_a_message_and_resume_goes_on(tmp_path):
    path = tmp_path / "run.pt"
    code = """
    import os, signal
    from ltlab.train import step
    take, taken = step.TrainingStep.__call__, []
    def dying(self, *batch):
        taken.append(1)
        if sys.argv[2] == "die" and os.environ["RANK"] == "1" and len(taken) == 8:  # in the third epoch, of 3 steps
            os.kill(os.getpid(), signal.SIGKILL)
        return take(self, *batch)
    step.TrainingStep.__call__ = dying
    result = run("none", 4, resume=sys.argv[2] == "resume", checkpoint=sys.argv[1])
    print(result.history["train_loss"].tolist())
    """
    survivor, killed = finished(started(code, str(path), "die"))
    assert killed.status == -signal.SIGKILL and survivor.status != 0
    assert "ConnectionError: process 0 of 2 stops because another one has stopped" in survivor.err
    assert "resume the run" in survivor.err
    kept = pd.read_csv(path.with_suffix(".csv"))
    assert 1 <= len(kept) < 4
    resumed = finished(started(code, str(path), "resume"))
    assert [one.status for one in resumed] == [0, 0], resumed[0].err
    losses = json.loads(resumed[0].out.splitlines()[-1])  # torch 2.9 has a word on Gloo before
    assert resumed[1].out == resumed[0].out and losses[: len(kept)] == kept["train_loss"].tolist()
    assert losses == pytest.approx(here("")["run"]("none", 4).history["train_loss"].tolist(), rel=1e-5)


@pytest.mark.slow
def test_what_a_loss_remembers_in_every_process_is_kept(tmp_path):
    code = """
    from ltlab.train.run import Run

    class Seen(nn.Module):
        def __init__(self, class_counts):
            super().__init__()
            self.register_buffer("seen", torch.ones(len(class_counts)))

        def forward(self, logits, targets):
            self.seen += torch.bincount(targets, minlength=len(self.seen))
            return nn.functional.cross_entropy(logits + self.seen.log(), targets)

    def stops(self, *arguments, **options):
        if self.history:
            raise KeyboardInterrupt
        return next_epoch(self, *arguments, **options)

    STAGES["seen"] = {"loss": Seen}
    whole, next_epoch = run("seen"), Run.next_epoch
    Run.next_epoch = stops
    try:
        run("seen", checkpoint=sys.argv[1])
    except KeyboardInterrupt:
        Run.next_epoch = next_epoch
    resumed = run("seen", checkpoint=sys.argv[1], resume=True)
    print(torch.equal(whole.logits, resumed.logits))
    """
    for one in finished(started(code, str(tmp_path / "run.pt"))):
        assert one.out == "True\n", one.err


@pytest.mark.slow
def test_every_process_knows_of_the_images_that_any_has_skipped(tmp_path):
    for part, name in itertools.product(("train", "test"), "ab"):
        (tmp_path / "set" / part / name).mkdir(parents=True)
        for i in range(4):
            image = torch.full((3, 8, 8), 40 * i, dtype=torch.uint8)
            write_png(image, str(tmp_path / "set" / part / name / f"{i}.png"))
    for name in ("a/0.png", "b/1.png"):  # one in the share of each process
        (tmp_path / "set" / "test" / name).write_bytes(b"")
    code = """
    data = load(sys.argv[1], stream=True, imbalance=None, size=8, workers=0, on_error="skip")
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 2))
    fit(Recipe(Stage(epochs=1), settings=TINY), data, model, device="cpu", progress=False)
    print(data.train.skipped, data.test.skipped)
    """
    for one in finished(started(code, str(tmp_path / "set"))):
        assert one.out.splitlines()[-1:] == ["0 2"], one.err


@pytest.mark.slow
def test_the_command_under_torchrun_writes_and_prints_once(tmp_path):
    """One table, one row: the second process writes and prints nothing."""
    command = [
        "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "ltlab", "train", "--epochs", "2", "-o", "max_count=20", "-o", "test_count=5", "--imbalance", "10",
        "--device", "cpu", "--precision", "bf16-mixed", "--output", str(tmp_path),
    ]  # fmt: skip
    if find_spec("tensorboard"):
        command += ["--tensorboard", str(tmp_path / "board")]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, timeout=300,
                          env=os.environ | {"OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("top1 error") == 1 and done.stdout.count("LongTailedData") == 1
    written = ["checkpoint.csv", "checkpoint.pt", "classes.csv", "result.csv", "result.png"]
    assert sorted(path.name for path in tmp_path.glob("*.*")) == written
    assert len(list(tmp_path.glob("board/*"))) == ("--tensorboard" in command)
    assert len(pd.read_csv(tmp_path / "result.csv")) == 1


# --- without a second process ----------------------------------------------------------------------------------------


def one_of(size: int, rank: int = 0) -> OneProcess:
    return OneProcess(torch.device("cpu"), size, rank)


@pytest.mark.parametrize("size", [2, 3, 8])
@pytest.mark.parametrize("count", [1, 5, 8, 9, 64])
def test_shares_are_disjoint_and_complete_or_the_whole(size, count):
    indices = torch.randperm(count)
    shares = [one_of(size, rank).share(indices) for rank in range(size)]
    if count < size:
        assert all(torch.equal(share, indices) for share in shares)
    else:
        assert torch.equal(torch.cat(shares).sort().values, torch.arange(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("count", [1, 4, 7, 9])
def test_gathered_rows_are_in_order_and_padding_is_cut(count):
    rows, size = torch.rand(count, 3), 4
    padded = [one_of(size, r).share(rows) for r in range(size)]

    class Gathering(OneProcess):
        def of_all(self, mine):
            others = [torch.cat([p, p.new_full((len(mine) - len(p), 3), torch.nan)]) for p in padded]
            return torch.stack(others)

    for rank in range(size):
        assert torch.equal(Gathering(torch.device("cpu"), size, rank).gathered(padded[rank], count), rows)


@pytest.mark.parametrize("soft", [False, True])
def test_the_weight_of_a_batch_is_what_its_loss_divides_by(soft):
    counts, logits, targets = [50, 20, 5], torch.randn(7, 3), torch.tensor([0, 0, 1, 2, 2, 1, 0])
    if soft:
        targets = torch.softmax(torch.randn(7, 3), 1)
    for loss in (ClassBalancedLoss(counts, 0.9), ClassBalancedFocalLoss(counts, 0.9, 1.0)):
        parts = [slice(0, 5), slice(5, 7)]
        weights = [weight_of(loss, targets[part]) for part in parts]
        mean = sum(w * loss(logits[part], targets[part]) for w, part in zip(weights, parts, strict=True)) / sum(weights)
        torch.testing.assert_close(mean, loss(logits, targets))
    assert weight_of(nn.CrossEntropyLoss(), targets) == 7


def test_one_process_does_not_look_at_weights():
    loss = torch.rand(())
    assert ALONE.part_of_mean(loss, criterion=None, targets=None) is loss


def test_one_process_leaves_errors_alone():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"), ALONE.watched():
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


def test_another_number_than_the_checkpoint_s_is_refused_with_the_way_out():
    one, two = {"seed": "0"}, {"seed": "0", "processes": "2"}
    assert checkpoint.difference(two, one).endswith("absent here; start as many processes as then, 2")
    assert checkpoint.difference(one, two).endswith("2 here; start as many processes as then, 1")
    assert checkpoint.difference(two, two | {"seed": "1"}) == "seed is 0 there and 1 here"


def test_more_processes_than_devices(monkeypatch):
    for name, value in {"WORLD_SIZE": "9", "LOCAL_WORLD_SIZE": "9", "RANK": "0", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="9 processes were started, this machine has 2 devices"):
        join(torch.device("cuda"))


def test_the_choice_of_batch_norm_is_explicit(data):
    model, two = nn.BatchNorm2d(3), one_of(2)
    assert across_processes(model, "local", two) is model is across_processes(model, "sync", ALONE)
    with pytest.raises(ValueError, match="batch_norm='sync' is for CUDA"):
        across_processes(model, "sync", two)
    with pytest.raises(ValueError, match="unknown batch_norm 'synch'"):
        fit(Recipe(Stage(epochs=1, loss=partial(ClassBalancedLoss, beta=0.9)), settings=SHAPES), data,
            device="cpu", batch_norm="synch")  # fmt: skip
