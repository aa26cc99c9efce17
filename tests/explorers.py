"""The course's explorers in small notebooks: the cells of the course themselves, over networks that nobody trained."""

import re
from pathlib import Path

import nbformat

COURSE = Path(__file__).parents[1] / "notebooks"
EXPLORER = re.compile(r"\b(\w+_explorer|Explorer)\(")  # what a cell calls

SHARED = """\
from bisect import bisect
from pathlib import Path
from types import SimpleNamespace

import ipywidgets as w
import math
import numpy as np
import torch
from IPython.display import display

from ltlab import classifiers, data, metrics, recipes, results, widgets
from ltlab.course import predict, resolve
from ltlab.models import build
from ltlab.widgets import imbalance_explorer, long_tail_explorer, real_distributions_explorer

tailed = data.load("shapes-lt", test_count=20)
counts, test = tailed.class_counts, tailed.test

def untrained(seed=0):
    torch.manual_seed(seed)
    model = build("small_net", 10, tailed.train.images).eval()
    with torch.inference_mode():
        logits = model(test.images.float() / 255)
    return SimpleNamespace(model=model, logits=logits, metrics={"top1_error": 0.9})
"""
OWN: dict[str, str] = {  # what a notebook's cells take from the cells before them
    "02_reweighting": "baseline, chosen, labels = untrained(), torch.tensor([0, 100, 199]), test.labels",
    "04_mixup": "names = 'ce_long', 'input_mixup', 'input_mixup_finetune'\n"
                "runs = {name: untrained(seed) for seed, name in enumerate(names)}",
    "05_two_stage": "torch.manual_seed(0)\n"
                    "features = 2 * torch.eye(10)[test.labels] + torch.randn(len(test.labels), 10)\n"
                    "weight, bias = torch.linspace(2, 0.5, 10).diag(), torch.linspace(0.5, -0.5, 10)\n"
                    "baseline = SimpleNamespace(logits=features @ weight.T + bias)",
    "06_cam_drs": "models = {'early': untrained(0).model, 'late': untrained(1).model}\n"
                  "data, RUNS = SimpleNamespace(load=lambda *_, **__: tailed), Path('runs')\n"
                  "trained = lambda *_, **__: untrained(2)\ntrain = SimpleNamespace(fit=trained)",
    "07_bag_of_tricks": "table = results.table(results.measured(recipes.RECIPES))",
    "08_calibration": "from ltlab import calibration\ntorch.manual_seed(0)\nlabels, part = test.labels, tailed\n"
                      "logits = {name: 2 * torch.eye(10)[labels] + torch.randn(len(labels), 10)\n"
                      "          for name in ('CE', 'mixup')}",
    "09_alignment": "from ltlab import losses\ntorch.manual_seed(0)\nlabels = test.labels\n"
                    "logits = 2 * torch.eye(10)[labels] + torch.randn(len(labels), 10)\n"
                    "gate = torch.rand(len(labels), 1)\n"
                    "adjusted = 100 * metrics.top1_error(losses.adjust_logits(logits, counts), labels)\n"
                    "lines = {'post hoc, tau 1': {'error, all': adjusted}}",
    "10_detection": "import pandas as pd\nfrom ltlab import losses, samplers\n"
                    "from ltlab.data.places import tables_folder\n"
                    "scenes = data.load('scenes-lt', test_count=2)\n"
                    "names, groups, C = scenes.class_names, scenes.groups, len(scenes.class_names)\n"
                    "each = [{'boxes': b, 'scores': torch.full((len(b),), 0.52), 'labels': y}\n"
                    "        for b, y in zip(scenes.test.boxes, scenes.test.labels)]\n"
                    "found = dict.fromkeys(('CE', 'CE, then ACSL'), each)\n"
                    "made = torch.randn(100, C + 1)\n"
                    "seen = SimpleNamespace(labels=torch.arange(100) % 2, logits=lambda layer: made)\n"
                    "layers, objects = {'BCE from 0.1': None}, torch.arange(1, 100, 2)\n"
                    "half = {'ap': 0.5, 'ap_rare': 0.2, 'ap_common': 0.5, 'ap_frequent': 0.8}\n"
                    "detection, judged = SimpleNamespace(average_precision=lambda *_, **__: half), ()",
    "11_frozen_features": "from ltlab.classifiers import CosineClassifier, class_means\ntorch.manual_seed(0)\n"
                          "seen, labels = torch.randn(len(tailed.train), 6), test.labels\n"
                          "shown = torch.randn(len(labels), 6)\nhead = CosineClassifier(6, 10)\n"
                          "runs = {'ce_cosine': SimpleNamespace(model=SimpleNamespace(classifier=head))}\n"
                          "means = CosineClassifier(6, 10)\n"
                          "means.weight.data = class_means(seen, tailed.train.labels, 10)\n"
                          "run = SimpleNamespace(logits=means(shown).detach())",
}  # fmt: skip
NEEDED = {  # and cells that they take as they are, by how they are recognised
    "01_the_long_tail": ("predict(",),
    "05_two_stage": ("def my_adjusted",),
    "08_calibration": ("def my_gap",),
}


def notebooks() -> list[str]:
    """The notebooks of the course that show explorers."""
    return [path.stem for path in sorted(COURSE.glob("*.ipynb")) if explorer_cells(path.stem)]


def explorer_cells(notebook: str) -> list[str]:
    """The cells that show an explorer."""
    return [source for source in _code(notebook) if EXPLORER.search(source)]


def setup(notebook: str) -> str:
    """What has to run before the explorers' cells."""
    needed = [source for source in _code(notebook) if any(mark in source for mark in NEEDED.get(notebook, ()))]
    return "\n\n".join([SHARED, OWN.get(notebook, ""), *needed])


def _code(notebook: str) -> list[str]:
    cells = nbformat.read(COURSE / f"{notebook}.ipynb", as_version=4).cells
    return [cell.source for cell in cells if cell.cell_type == "code"]
