"""How long the paper's large runs take: the times in docs/scaling.md, from measured steps, published ones and ours.

uv run python benchmarks/gpu_step.py --large --rows data/results/steps.csv   # on a GPU: measures
uv run python docs/scaling.py                                                # rewrites the page's section
"""

from functools import cache
from pathlib import Path

import pandas as pd
import torch
import torchvision
from marked import rewrite
from torch.utils.flop_counter import FlopCounterMode

from ltlab import models, recipes
from ltlab.data import benchmark_class_counts

ROOT = Path(__file__).parents[1]
PAGE, STEPS = ROOT / "docs" / "scaling.md", ROOT / "data" / "results" / "steps.csv"
PUBLISHED = ROOT / "data" / "published" / "training_rates.csv"
BEGIN, END = "<!-- times: uv run python docs/scaling.py -->", "<!-- end of times -->"
CLASSES = {"resnet10": 1000, "resnet50": 8142}
OURS = "ltlab's own step"
PEAK = 312e12  # bfloat16 operations per second, datasheet of the A100
RUNS = {
    "ImageNet-LT, ResNet-10, the paper's plain training": ("imagenet-lt", "ce", recipes.IMAGENET_90),
    "ImageNet-LT, ResNet-10, bag of tricks": ("imagenet-lt", "bag_of_tricks_imagenet_lt", recipes.IMAGENET),
    "iNaturalist 2018, ResNet-50, the paper's plain training": ("inat18", "ce", recipes.INAT_90),
    "iNaturalist 2018, ResNet-50, bag of tricks": ("inat18", "bag_of_tricks_inat18", recipes.INAT),
}


def measured_steps() -> pd.DataFrame:
    """The rows that the benchmark has written; none where there is no file yet."""
    if STEPS.exists():
        return pd.read_csv(STEPS)
    return pd.DataFrame(columns=["device", "network", "kind", "step", "images_per_second"])


def published_steps() -> dict[tuple[str, int], dict[str, float]]:
    """Images per second that others measured, by device and number of devices, then by network."""
    rates: dict[tuple[str, int], dict[str, float]] = {}
    for row in pd.read_csv(PUBLISHED).to_dict("records"):
        rates.setdefault((row["device"], row["devices"]), {})[row["network"]] = row["images_per_second"]
    return rates


@cache
def operations(network: str) -> tuple[int, float, float]:
    """Parameters, and operations per image of 224 x 224 pixels: of a training step, and of the forward pass alone."""
    with torch.device("meta"):
        ours = network in CLASSES
        model = (models.build(network, CLASSES[network]) if ours else torchvision.models.get_model(network)).to("meta")
        image = torch.empty(1, 3, 224, 224)
    with FlopCounterMode(display=False) as step:
        model(image).sum().backward()
    with FlopCounterMode(display=False) as forward, torch.no_grad():
        model(image)
    return sum(p.numel() for p in model.parameters()), step.get_total_flops(), forward.get_total_flops()


def extrapolated(measured: dict[str, float]) -> float:
    """Images per second of ResNet-10: seconds per image lie on a line over operations, with ResNet-34's and 18's."""
    (x34, y34), (x18, y18) = ((operations(network)[1], 1 / measured[network]) for network in ("resnet34", "resnet18"))
    slope = (y34 - y18) / (x34 - x18)
    return 1 / (y18 + slope * (operations("resnet10")[1] - x18))


def eight_for_one(published: dict[tuple[str, int], dict[str, float]]) -> float:
    """How many times as fast as one A100 eight of them are."""
    return published["A100", 8]["resnet50"] / published["A100", 1]["resnet50"]


def rates(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Images per second by devices and network: the published ones, then ltlab's fastest step on every GPU with both.

    Eight such GPUs are taken to gain over one what eight A100s do.
    """
    published = published_steps()
    resnet10 = extrapolated(published["RTX 3090", 1]) / published["RTX 3090", 1]["resnet50"]
    found = {}
    for (device, devices), rate in published.items():
        found[f"{devices} {device}"] = {"resnet10": resnet10 * rate["resnet50"], "resnet50": rate["resnet50"]}
    whole_steps = rows[(rows["kind"] == "cuda") & (rows["step"] != "bare")]
    for device, steps in whole_steps.groupby("device", sort=False):
        fastest = {name: max(of["images_per_second"]) for name, of in steps.groupby("network")}
        if set(CLASSES) <= set(fastest):
            found[f"1 {device}, {OURS}"] = fastest
            found[f"8 {device}"] = {network: rate * eight_for_one(published) for network, rate in fastest.items()}
    return found


def run_length(name: str) -> tuple[str, str, int]:
    """A run's network, the epochs of its stages, and the images that it trains on."""
    data, recipe, settings = RUNS[name]
    resolved = recipes.get(recipe).resolve(settings)
    stages = " + ".join(str(stage.epochs) for stage in resolved.stages)
    return str(settings.model), stages, resolved.epochs * int(benchmark_class_counts(data).sum())


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
    for row in rows.to_dict("records"):
        network = f"{row['network'].replace('resnet', 'ResNet-')}, batch {row['batch_size']}"
        rate = f"{row['images_per_second']:,.{1 if row['images_per_second'] < 100 else 0}f}"
        lines.append([row["device"], network, row["precision"], row["step"], rate, f"{row['times_bare']:.2f}",
                      f"{row['date']}, torch {row['torch']}"])  # fmt: skip
    head = ["device", "network", "precision", "step", "images/s", "times the bare step's", "measured"]
    return f"""Steps measured, of random images of 256 pixels that lie on the device; medians of steps taken by turns.
*Bare* is what published rates time: the network forward and backward and the update, on a batch that lies ready.
*As written* is ltlab's plain step with random crop, flip and, on ImageNet-LT, colour jitter; *captured* the same as
a CUDA graph; *bag of tricks* is the second stage of that recipe, the foregrounds of all images moved, with mixup.

{table(head, lines)}"""


def of_runs(rows: pd.DataFrame) -> str:
    devices = rates(rows)
    lines = []
    for name in RUNS:
        network, stages, images = run_length(name)
        times = [shown(images / rate[network]) for rate in devices.values()]
        lines.append([f"{name}, {stages} epochs", f"{images / 1e6:.1f} M", *times])
    return table(["run", "images trained on", *devices], lines)


def section(rows: pd.DataFrame) -> str:
    """The page's section between its marks."""
    published = published_steps()
    desk, one, eight = (published[key]["resnet50"] for key in (("RTX 3090", 1), ("A100", 1), ("A100", 8)))
    reached = one * operations("resnet50")[1] / PEAK
    if any(device.endswith(OURS) for device in rates(rows)):
        status = "is measured where the table says so; the other rates"
    elif rows.empty:
        status = "has not been measured on a GPU yet; all rates"
    else:
        status = "has been measured on a CPU, see the last table, and not on a GPU yet; all rates"
    return f"""The times are images over images per second. **{OURS} {status}
are those that others measured** and published, without the course's tricks, with 224 x 224 pixels in mixed precision (`data/published/training_rates.csv`):

- **A100:** NVIDIA's own example of ResNet-50, reading of images included: {one:,.0f} images/s on one, {eight:,.0f} on eight, which is {eight_for_one(published):.1f} times
  as fast. One A100 reaches {100 * reached:.0f} % of the {PEAK / 1e12:.0f} TFLOP/s of its datasheet, as large maps wait for memory.
- **RTX 3090:** timm's benchmark of the step alone: {desk:,.0f} images/s for ResNet-50.
- **ResNet-10** nobody published. Its rate is extrapolated: on the RTX 3090 the seconds of an image grow with its operations along the line
  through ResNet-34 and ResNet-18, which gives {extrapolated(published["RTX 3090", 1]):,.0f} images/s, and the A100's gain is taken to be that of ResNet-50.

A step's operations (forward and backward, a multiplication and an addition being two; counted by `torch.utils.flop_counter`):

{of_networks()}

{of_runs(rows)}

To measure a GPU with ltlab's step and write its times into this table:

```
python benchmarks/gpu_step.py --large --rows data/results/steps.csv && python docs/scaling.py
```

{of_steps(rows)}"""  # noqa: E501


if __name__ == "__main__":
    rewrite(PAGE, BEGIN, END, section(measured_steps()))
