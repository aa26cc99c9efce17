"""A report, from photographs to the page."""

import json
import math
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from ..counts import ClassCounts, as_prior, check_integer, check_seed, comparable
from ..data import LongTailedData, features
from ..data.places import expanded
from ..recipes import FEATURES, Plan, Settings
from ..results import prior_named, provenance
from ..results.comparison import file_name
from ..train import find_device
from ..train.checkpoint import write_atomically
from .candidates import ALWAYS, IF_TIME
from .inspection import inspect
from .loops import loop_code
from .outcome import class_errors, confusions, outcome
from .page import page
from .sources import gather
from .trials import Trials
from .writing import Facts, figures, parts, sentences


@dataclass
class Report:
    """What `report` returns; printed, it is the answer and the table.

    recommended: name of the candidate; plan: what it trains; answer: three sentences; table: a line per candidate, as
    fractions; code: the recipe in plain PyTorch; page: the HTML file, next to report.json and figures/.
    """

    recommended: str
    plan: Plan
    answer: list[str]
    table: pd.DataFrame
    code: str
    page: Path

    def __str__(self) -> str:
        shown = self.table.set_index("label")[["error", "gain", "low", "high"]]
        return "\n".join([*self.answer, "", (100 * shown).round(1).to_string(), "", f"written to {self.page}"])


def report(
    data: Any, *, test: Any = None, root: str | Path | None = None,
    backbone: str | nn.Module = "efficientnet_lite0", size: int | None = None, prior: str | ClassCounts = "uniform",
    budget_minutes: float = 3.0, folds: int = 5, seed: int = 0, folder: str | Path | None = None,
    cache: str | Path | None = None, device: str = "auto", progress: bool = True,
) -> Report:  # fmt: skip
    """Find out which trick helps on your photographs, and write one page that says so.

    The photographs are read once and inspected, a frozen backbone turns them into features, and plain training and the
    recipes of `candidates` are trained on these. Every training image is held out once, in `folds` parts stratified by
    class. The recommended recipe is the best on held-out images; plain training, unless the gain exceeds one standard
    error and what equal recipes reach by luck, see `choice.gains`. A test set is evaluated once, after the choice. Runs
    are kept in the folder: called again, an interrupted report continues.

    Args:
        data, test, root: the photographs, see `sources.gather`; also a set of `data.features`, which is used as it is.
        backbone, cache: see `data.features`.
        size: side of the pictures in pixels, as the backbone sees them; None: 96 where they are small, else 224.
        prior: how frequent the classes will be where the recipe is used: "uniform", "train", "reversed", a file of a
            number per class, or (C,) fractions that sum to one.
        budget_minutes: for training. Plain training and the first recipes are always trained in one fold; further
            folds and recipes start while there is time.
        folds: parts that are held out in turn, at least 2.
        seed: draws the folds and the training.
        folder: of the page; None: runs/report-NAME.

    Raises:
        FileNotFoundError, ValueError: see `gather` and `inspect`; a budget, size or number of folds outside its range.
        OSError: the folder cannot be written.
    """
    if not 0 < comparable(budget_minutes) < math.inf:
        raise ValueError(
            f"budget_minutes={budget_minutes!r} must be above 0: 0.1 trains the first recipes once; "
            "`ltlab data FOLDER` looks at the data and trains nothing"
        )
    folds, seed = check_integer("folds", folds, least=2), check_seed(seed)
    size = None if size is None else check_integer("size", size, least=1)
    inspected = inspect(gather(data, test, root), size, progress)
    name = inspected.data.name
    place = expanded(folder) if folder is not None else Path("runs", f"report-{file_name(name)}")
    try:
        (place / "figures").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            error.errno, f"folder {place} cannot be made ({error.strerror}): name another one, folder= (--output)"
        ) from error
    extracted = _features(inspected.data, backbone, size, cache, progress)
    counts = inspected.data.class_counts
    wanted = prior_named(prior, counts) if isinstance(prior, str) else as_prior("prior", prior, len(counts))
    deadline = time.monotonic() + 60 * budget_minutes
    trials = Trials(extracted, settings_of(len(extracted.train)), place / "runs", wanted, folds=folds, seed=seed,
                    deadline=deadline, device=device)  # fmt: skip
    held = trials.held_out(ALWAYS, IF_TIME, progress)
    out = outcome(inspected, trials, held, seed)
    facts = Facts(inspected, out, trials, prior if isinstance(prior, str) else "the given one", _backbone(backbone))
    return _written(facts, place, find_device(device))


def settings_of(images: int) -> Settings:
    """Those of features, in batches so small that an epoch of few images has some eight steps."""
    return replace(FEATURES, batch_size=min(FEATURES.batch_size, max(8, images // 8)))


def _backbone(backbone: str | nn.Module) -> str:
    return backbone if isinstance(backbone, str) else type(backbone).__name__


def _features(data: LongTailedData, backbone: Any, size: int | None, cache: Any, progress: bool) -> LongTailedData:
    """The set's features; of a set of features itself."""
    if data.holds_features:
        return data
    side = size or (96 if data.side <= 96 else 224)
    return features(data, backbone, size=side, cache=cache, progress=progress)


def _written(facts: Facts, folder: Path, device: torch.device) -> Report:
    """The page, the figures and report.json, in the folder."""
    out, data = facts.out, facts.inspected.data
    plan = facts.trials.plan(out.candidate.recipe)
    post_hoc = out.candidate.tau is not None
    target = None if facts.trials.uniform or not post_hoc else facts.trials.prior.tolist()
    code = loop_code(plan, data.class_counts.tolist(), data.class_names, tau=out.tau if post_hoc else None,
                     target=target, temperature=out.temperature)  # fmt: skip
    answer = sentences(facts)
    drawn = figures(facts)
    costly = confusions(out, facts.trials.prior)
    for name, svg in drawn.items():
        write_atomically(folder / "figures" / f"{name}.svg", svg.encode())
    made = page(f"ltlab report: {data.name}", parts(facts, answer, drawn, costly, code))
    write_atomically(folder / "report.html", made.encode())
    write_atomically(folder / "report.json", _json(facts, answer, costly, code, device).encode())
    write_atomically(folder / "recipe.py", code.encode())
    return Report(out.candidate.name, plan, answer, out.table, code, folder / "report.html")


def _json(facts: Facts, answer: list[str], costly: list[dict], code: str, device: torch.device) -> str:
    out, data = facts.out, facts.inspected.data
    content = {
        "answer": answer,
        "recommended": out.candidate.name,
        "tau": out.table["tau"].iloc[out.chosen],
        "temperature": out.temperature,
        "prior": {"name": facts.prior, "fractions": facts.trials.prior},
        "data": {
            "name": data.name, "class_names": data.class_names, "class_counts": data.class_counts,
            "test_images": len(data.test) if facts.inspected.has_test else 0,
            "findings": [asdict(finding) for finding in facts.inspected.findings],
        },
        "backbone": facts.backbone,
        "candidates": [{"name": name, **row} for name, row in out.table.to_dict("index").items()],
        "threshold_in_standard_errors": out.threshold,
        "test": asdict(out.tested) if out.tested else None,
        "class_error": class_errors(out, len(data.class_names)),
        "calibration_error": out.calibration,
        "confusions": [cell | {"images_shown": facts.names(cell["rows"])} for cell in costly],
        "code": code,
        "made": provenance(device),
    }  # fmt: skip
    return json.dumps(_plain(content), indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Tensors as lists and what is not a finite number as null, so that any JSON reader takes it."""
    if isinstance(value, Tensor):
        value = value.tolist()
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
