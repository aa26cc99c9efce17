"""What importing ltlab costs and needs. Who may import whom is checked by `lint-imports`, see pyproject.toml."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import ltlab

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
FROM_TORCH = {"filelock", "pillow"}  # torch and torchvision need them, so they are always there

USE_THE_CORE = """
import torch
from ltlab import cam, classifiers, data, losses, metrics, mixup, models, recipes, samplers

shapes = data.load("shapes-lt", imbalance=10, max_count=12, test_count=2)
images, labels, counts = shapes.train.images, shapes.train.labels, shapes.class_counts
batch = torch.tensor([i for i, _ in zip(samplers.PowerSampler(labels, q=0.5), range(8))])
model = models.build("small_net", 10, images)
logits, targets = mixup.InputMixup(alpha=1.0)(
    model, images[batch] / 255, labels[batch], class_counts=counts, generator=torch.Generator().manual_seed(0)
)
assert losses.BalancedSoftmaxLoss(counts)(logits, targets).isfinite()
cam.foreground_masks(cam.maps_of(model, images[batch], labels[batch]))
model.classifier = classifiers.tau_normalised(model, images, labels, counts)
assert 0 <= metrics.top1_error(model(images), labels) <= 1 and "ce" in recipes.RECIPES
"""


def private_imports(path: Path) -> list[str]:
    """The private names that a file imports from other rooms."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    depth = len(path.relative_to(ROOT / "ltlab").parts)  # 1: a file of ltlab, 2: a file of a folder
    names = []
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and (node.level == depth or str(node.module).startswith("ltlab")):
            names += [*str(node.module).split("."), *(alias.name for alias in node.names)]
    return [name for name in names if re.match("_(?!_)", name)]


def test_private_names_stay_in_their_room():
    found = {path.name: private_imports(path) for path in (ROOT / "ltlab").rglob("*.py")}
    assert not any(found.values()), found


def without(packages: set[str], code: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter where these packages cannot be imported."""
    block = f"import sys, torch; sys.modules.update(dict.fromkeys({packages}))\n"
    return subprocess.run([sys.executable, "-c", block + code], capture_output=True, text=True)


def of_extras() -> set[str]:
    """The packages of all extras, under the names by which they are imported."""
    texts = [text for texts in PROJECT["optional-dependencies"].values() for text in texts]
    names = {re.match(r"[\w-]+", text)[0] for text in texts} - {"ltlab"} - FROM_TORCH
    return {name.replace("-", "_") for name in names}


def test_the_core_needs_torch_torchvision_and_numpy_alone():
    assert {re.match(r"\w+", text)[0] for text in PROJECT["dependencies"]} == {"torch", "torchvision", "numpy"}
    assert {"pandas", "matplotlib", "cyclopts"} <= of_extras()
    assert without(of_extras(), USE_THE_CORE).stderr == ""


EXTRA_OF = {"train": "train", "results": "train", "plots": "course", "widgets": "course",
            "course": "course"}  # fmt: skip

IMPORT_ROOMS = f"""
from importlib import import_module
for room in {list(EXTRA_OF)}:
    try:
        import_module("ltlab." + room)
    except ModuleNotFoundError as error:
        print(error)
"""


def test_a_room_without_its_packages_names_the_extra():
    errors = without({"pandas", "matplotlib"}, IMPORT_ROOMS).stdout.splitlines()
    for extra, error in zip(EXTRA_OF.values(), errors, strict=True):
        assert "pandas" in error and f"'ltlab[{extra}]'" in error


def test_extras_install_what_is_asked_for():
    for extra, packages in ltlab.EXTRAS.items():
        texts = [*PROJECT["optional-dependencies"]["train"], *PROJECT["optional-dependencies"][extra]]
        assert set(packages) <= {re.match(r"[\w-]+", text)[0].replace("-", "_") for text in texts}


def printed(code: str) -> list[str]:
    """Lines that a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")


def test_import_ltlab_is_light():
    """At most 0.3 s of the processor on top of torch, and nothing for pictures, notebooks or images."""
    seconds, heavy, _ = printed(
        "import sys, time, torch; start = time.process_time(); import ltlab; print(time.process_time() - start)\n"
        "print(*{'matplotlib', 'ipywidgets', 'jupyterlab', 'torchvision'} & set(sys.modules))"
    )
    assert float(seconds) <= 0.3 and heavy == ""
