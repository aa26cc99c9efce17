"""How long the paper's large runs take: the times in docs/scaling.md, from measured steps and from counted operations.

uv run python benchmarks/gpu_step.py --large --rows data/results/steps.csv   # on a GPU: measures
uv run python docs/scaling.py                                                # rewrites the page's section
"""

from functools import cache
from pathlib import Path

import pandas as pd
import torch
from marked import rewrite
from torch.utils.flop_counter import FlopCounterMode

from ltlab import models, recipes
from ltlab.data import benchmark_class_counts

ROOT = Path(__file__).parents[1]
PAGE, ROWS = ROOT / "docs" / "scaling.md", ROOT / "data" / "results" / "steps.csv"
BEGIN, END = "<!-- times: uv run python docs/scaling.py -->", "<!-- end of times -->"
CLASSES = {"resnet10": 1000, "resnet50": 8142}
PEAK = 312e12  # bfloat16 operations per second, datasheet of the A100
REACHED = {"resnet10": 0.10, "resnet50": 0.20}  # assumed shares of it
ASSUMED = "A100, estimate"
RUNS = {
    "ImageNet-LT, ResNet-10, the paper's plain training": ("imagenet-lt", "ce", recipes.IMAGENET_90),
    "ImageNet-LT, ResNet-10, bag of tricks": ("imagenet-lt", "bag_of_tricks_imagenet_lt", recipes.IMAGENET),
    "iNaturalist 2018, ResNet-50, the paper's plain training": ("inat18", "ce", recipes.INAT_90),
    "iNaturalist 2018, ResNet-50, bag of tricks": ("inat18", "bag_of_tricks_inat18", recipes.INAT),
}


def measured_steps() -> pd.DataFrame:
    """The rows that the benchmark has written; none where there is no file yet."""
    if ROWS.exists():
        return pd.read_csv(ROWS)
    return pd.DataFrame(columns=["device", "network", "kind", "images_per_second"])


@cache
def operations(network: str) -> tuple[int, float, float]:
    """Parameters, and operations per image of 224 x 224 pixels: of a training step, and of the forward pass alone."""
    with torch.device("meta"):
        model, image = models.build(network, CLASSES[network]), torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as step:
        model(image).sum().backward()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(image)
    return sum(p.numel() for p in model.parameters()), step.get_total_flops(), forward.get_total_flops()


def rates(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Images per second by device and network: the assumed one, then the fastest step of every GPU with both."""
    found = {ASSUMED: {network: REACHED[network] * PEAK / operations(network)[1] for network in CLASSES}}
    for device, steps in rows[rows["kind"] == "cuda"].groupby("device", sort=False):
        fastest = steps.groupby("network")["images_per_second"].max()
        if set(CLASSES) <= set(fastest.index):
            found[device] = fastest.to_dict()
    return found


def run_length(name: str) -> tuple[str, str, int]:
    """A run's network, the epochs of its stages, and the images that it trains on."""
    data, recipe, protocol = RUNS[name]
    resolved = recipes.get(recipe).resolve(protocol)
    stages = " + ".join(str(stage.epochs) for stage in resolved.stages)
    return protocol.model, stages, resolved.epochs * int(benchmark_class_counts(data).sum())


def shown(seconds: float) -> str:
    """Minutes below one hour, else hours."""
    return f"{seconds / 60:.0f} min" if seconds < 3600 else f"{seconds / 3600:.1f} h"


def table(head: list[str], lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *lines])


def of_networks() -> str:
    lines = []
    for network in CLASSES:
        parameters, step, forward = operations(network)
        name = network.replace("resnet", "ResNet-")
        lines.append([f"{name}, {CLASSES[network]:,}", f"{parameters / 1e6:.1f} M", f"{step / 1e9:.1f} GFLOP",
                      f"{forward / 1e9:.1f} GFLOP"])  # fmt: skip
    return table(["network, classes", "parameters", "per image", "forward alone"], lines)


def of_steps(rows: pd.DataFrame) -> str:
    if rows.empty:
        return "No step has been measured so far."
    lines = []
    for row in rows.itertuples():
        network, step = row.network.replace("resnet", "ResNet-"), row.precision + ", captured" * row.captured
        rate = f"{row.images_per_second:,.{1 if row.images_per_second < 100 else 0}f}"
        lines.append([row.device, network, str(row.batch_size), step, rate, f"{row.date}, torch {row.torch}"])
    about = "Steps measured so far, of random images that lie on the device, augmentation there included:"
    return f"{about}\n\n{table(['device', 'network', 'batch', 'step', 'images/s', 'measured'], lines)}"


def of_runs(rows: pd.DataFrame) -> str:
    devices = rates(rows)
    head = ["run", "images trained on"]
    for device in devices:
        head += [f"1 GPU ({device})", "8 of them"]
    lines = []
    for name in RUNS:
        network, stages, images = run_length(name)
        line = [f"{name}, {stages} epochs", f"{images / 1e6:.1f} M"]
        for rate in devices.values():
            line += [shown(images / rate[network]), shown(images / rate[network] / 8)]
        lines.append(line)
    return table(head, lines)


def section(rows: pd.DataFrame) -> str:
    """The page's section between its marks."""
    (_, assumed), *measured = rates(rows).items()
    gpus = [device for device, _ in measured]
    if gpus:
        status = f"Measured are the steps of {' and '.join(gpus)}; the times of the A100 are estimates."
    else:
        status = "**No GPU has been measured yet: all times below are estimates.**"
    return f"""{status}
An estimate divides the operations of a training step (forward and backward, 224 x 224 pixels, a multiplication and an addition being two;
counted by `torch.utils.flop_counter`),

{of_networks()}

by what an A100 is assumed to reach of its datasheet's {PEAK / 1e12:.0f} TFLOP/s in bfloat16. Convolutional networks reach a small share of a
peak, as their large maps wait for memory; assumed are {100 * REACHED["resnet50"]:.0f} % for ResNet-50, that is {assumed["resnet50"]:,.0f} images/s, and {100 * REACHED["resnet10"]:.0f} % for ResNet-10,
{assumed["resnet10"]:,.0f}. Half the share is twice the time. Eight GPUs are taken to be eight times as fast as one, if nothing else holds them up.

{of_runs(rows)}

To measure a GPU and write its times into this table:

```
python benchmarks/gpu_step.py --large --rows data/results/steps.csv && python docs/scaling.py
```

{of_steps(rows)}"""  # noqa: E501


if __name__ == "__main__":
    rewrite(PAGE, BEGIN, END, section(measured_steps()))
