"""The words of the report, and what is shown where."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import __version__
from ..metrics import class_groups
from . import drawings, page
from .inspection import FEW_TO_JUDGE, Inspected
from .outcome import EQUAL, SEEDS, Outcome, Z, class_errors
from .page import percent
from .trials import Trials

WORST = 3  # classes that the advice names


@dataclass
class Facts:
    """All that the page says: what was found in the data, what was measured, by which runs, for which prior."""

    inspected: Inspected
    out: Outcome
    trials: Trials
    prior: str
    backbone: str

    @property
    def error_name(self) -> str:
        return {"uniform": "balanced error", "train": "error with classes as frequent as in training"}.get(
            self.prior, "error under the prior asked for"
        )

    def names(self, rows: Tensor) -> list[str]:
        """What the judged images at these places of their split are called."""
        return [self.inspected.names[self.out.judged == "test"][i] for i in rows.tolist()]


def _points(gain: float, se: float) -> str:
    """A gain and its 95 % interval, in percentage points."""
    return f"{percent(gain)} points (95 % interval {percent(gain - Z * se)} to {percent(gain + Z * se)})"


def sentences(facts: Facts) -> list[str]:
    """The answer in three sentences: what to use, what the test set says, and for whom it matters."""
    return [_recommendation(facts), _on_test(facts), _by_group(facts) if facts.out.chosen else _limits(facts)]


def _recommendation(facts: Facts) -> str:
    out, table = facts.out, facts.out.table
    row, plain = table.iloc[out.chosen], table.iloc[0]
    if out.chosen:
        return (
            f"Use {row['label']}: on held-out training images the {facts.error_name} is {percent(row['error'])} %, "
            f"with plain training {percent(plain['error'])} %, a gain of {_points(row['gain'], row['se'])}."
        )
    best = table.iloc[1:].sort_values("error").iloc[0]
    text = (
        f"No trick is better than plain training here: on held-out training images its {facts.error_name} is "
        f"{percent(plain['error'])} %, and "
    )
    if best["gain"] <= 0:
        return f"{text}none of {len(table) - 1} tricks lowers it."
    if best["gain"] > facts.out.threshold * best["se"]:  # on a balanced set
        gain = _points(best["gain"], best["se"])
        return (
            f"{text}what {best['label']} gains, {gain}, it does not gain by correcting class counts, which are equal."
        )
    return (
        f"{text}the best of {len(table) - 1} tricks, {best['label']}, gains {_points(best['gain'], best['se'])}, no "
        "more than luck explains."
    )


def _on_test(facts: Facts) -> str:
    out, tested = facts.out, facts.out.tested
    if tested is None:
        return (
            "There is no test set, and the same held-out images chose and judged, which flatters the choice a little: "
            "confirm it on new photographs."
        )
    if not out.chosen:
        return (
            f"On the {tested.images:,} test images, evaluated once, the {facts.error_name} of plain training is "
            f"{percent(tested.error)} %."
        )
    return (
        f"On the {tested.images:,} test images, evaluated once after the choice, it falls from "
        f"{percent(tested.plain_error)} to {percent(tested.error)} %, by {_points(tested.gain, tested.se)}."
    )


def _by_group(facts: Facts) -> str:
    """What the classes of many, medium and few images gain or lose on the images that judge."""
    counts = facts.inspected.data.class_counts
    gain = -class_errors(facts.out, len(counts)).diff(dim=1)[:, 0]  # (C,)
    changes = []
    for group, classes in class_groups(counts).items():
        value = gain[classes].nanmean().item()
        if classes.any() and value == value:
            verb = "gain" if value >= 0 else "lose"
            n = int(classes.sum())
            who = f"the {n} classes" if n > 1 else "the one class"
            changes.append(f"{who} of {RANGES[group]} {verb if n > 1 else verb + 's'} {abs(100 * value):.1f} points")
    if len(changes) == 1:
        worst = int(counts.argmin())
        changes = [f"the class of fewest images, {facts.inspected.data.class_names[worst]}, gains "
                   f"{100 * gain[worst].item():.1f} points"]  # fmt: skip
    text = "; ".join(changes)
    return text[0].upper() + text[1:] + "."


RANGES = {"many": "more than 100 images", "medium": "20 to 100", "few": "fewer than 20"}


def _limits(facts: Facts) -> str:
    gains = facts.out.table["gain"].tolist()
    counts = facts.inspected.data.class_counts
    ratio = int(counts.max()) / int(counts.min())
    if ratio <= EQUAL:
        return (
            "The classes have about as many images as each other, so there is nothing for weights, sampling or priors "
            "to correct."
        )
    return (
        f"The most frequent class has {ratio:.1f} times as many images as the least frequent one, and the tricks "
        f"change the error by {percent(min(gains))} to {percent(max(gains))} points: more images "
        "or better features will help more."
    )


# --- the page ---------------------------------------------------------------------------------------------------------


def figures(facts: Facts) -> dict[str, str]:
    """The figures as SVG, by name."""
    data, out = facts.inspected.data, facts.out
    errors = class_errors(out, len(data.class_names))
    plain, chosen = out.table["label"].iloc[0], out.table["label"].iloc[out.chosen]
    of_recipes = {plain: errors[:, 0].numpy()} | ({chosen: errors[:, 1].numpy()} if out.chosen else {})
    drawn = {
        "counts": drawings.counts_figure(data.class_counts.tolist(), data.class_names),
        "error_by_count": drawings.error_figure(data.class_counts.tolist(), of_recipes, data.class_names),
    }
    if out.bins and out.temperature:
        drawn["reliability"] = drawings.reliability_figure(*out.bins, out.temperature)
    return drawn


def parts(facts: Facts, answer: list[str], drawn: dict[str, str], costly: list[dict], code: str) -> Iterator[str]:
    """The page, part by part."""
    data, out = facts.inspected.data, facts.out
    yield page.heading(f"Which trick for {data.name}?", 1)
    yield page.answer(answer)
    yield page.paragraph(_setting(facts), "soft")
    yield page.heading("The data")
    yield page.figure(drawn["counts"], "Training images per class.")
    yield _findings(facts)
    yield page.heading("The recipes")
    yield _recipes(facts)
    if out.tested and out.chosen:
        yield _test_table(facts)
    yield page.heading("Error by class")
    judged = f"{len(out.labels):,} {out.judged} images"
    yield page.figure(drawn["error_by_count"], f"Each point is a class, on {judged}; classes without any are left out.")
    yield page.heading("What a probability is worth")
    yield from _calibration(facts, drawn)
    yield page.heading("The confusions that cost most")
    yield from _confusions(facts, costly)
    yield page.heading("What to do next")
    yield page.items(_advice(facts))
    yield page.heading("The recipe in plain PyTorch")
    yield page.paragraph(
        "For a custom training loop. The loss and the probabilities of the sampler are those that were measured; "
        "labels is a tensor of the class index of every training image."
    )
    yield page.code(code)
    yield page.heading("How this was measured")
    yield page.items(_method(facts))


def _setting(facts: Facts) -> str:
    data = facts.inspected.data
    counts = data.class_counts
    test = f"{len(data.test):,} test images" if facts.inspected.has_test else "no test set"
    (w, h), *_, (wide, high) = facts.inspected.sizes
    size = f"of {w} × {h} pixels" if (w, h) == (wide, high) else f"from {w} × {h} to {wide} × {high} pixels"
    return (
        f"{len(data.train):,} training images {size}, {test}; {len(counts)} classes of {int(counts.max()):,} to "
        f"{int(counts.min()):,} images (imbalance {int(counts.max()) / int(counts.min()):.3g}). Frozen features of "
        f"{facts.backbone}; ltlab {__version__}."
    )


def _findings(facts: Facts) -> str:
    found = facts.inspected.findings
    if not found:
        return page.paragraph("All images could be read, none is there twice, and no class is too small to judge.")
    rows = [(each.text, "" if each.kind == "note" else f"{each.count:,}", ", ".join(each.examples)) for each in found]
    return page.table(["found", "how many", "such as"], rows, text=(0, 2))


def _recipes(facts: Facts) -> str:
    out, table = facts.out, facts.out.table
    groups = [group for group in RANGES if not all(math.isnan(x) for x in table[group])]
    groups = groups if len(groups) > 1 else []
    least, most = min(*table["low"].tolist(), 0.0), max(*table["high"].tolist(), 0.0)
    least, most = (least, most) if most > least else (-0.01, 0.01)
    head = ["recipe", "error", "gain", "95 % interval", "", *(f"{group}-shot" for group in groups), "as in training"]
    rows, order = [], sorted(range(len(table)), key=lambda j: table["error"].iloc[j])
    for j in order:
        row = table.iloc[j]
        tau = f" (tau\u00a0{row['tau']:g})" if out.held.candidates[j].tau is not None else ""
        drawn = page.interval(row["gain"], row["low"], row["high"], least, most) if j else ""
        between = f"{percent(row['low'])} to {percent(row['high'])}" if j else ""
        gained = [percent(row["gain"]) if j else "", between, drawn]
        by_group = [percent(row[group]) for group in groups]
        rows.append([row["label"] + tau, percent(row["error"]), *gained, *by_group, percent(row["error_as_trained"])])
    note = (
        f"{facts.error_name.capitalize()} in percent on {len(out.held.labels):,} held-out training images, the least "
        "first. The gain over plain training is paired, image by image, in percentage points. The last column counts "
        f"classes as frequent as in training. {len(table) - 1} equal tricks would gain up to {out.threshold:.1f} "
        "standard errors by luck in 19 of 20 cases; the recipe of the least error is recommended if it gains more."
    )
    return page.table(head, rows, note, [j == out.chosen for j in order])


def _test_table(facts: Facts) -> str:
    tested, table = facts.out.tested, facts.out.table
    assert tested is not None
    rows = [
        [table["label"].iloc[0], percent(tested.plain_error), "", ""],
        [table["label"].iloc[facts.out.chosen], percent(tested.error), percent(tested.gain),
         f"{percent(tested.gain - Z * tested.se)} to {percent(tested.gain + Z * tested.se)}"],
    ]  # fmt: skip
    note = (
        f"{facts.error_name.capitalize()} in percent on {tested.images:,} test images, mean of {SEEDS} runs on all "
        f"training images. The test set was evaluated once. Top-1 error on its images as they are: "
        f"{percent(tested.top1_error)} %."
    )
    return page.table(["on the test set", "error", "gain", "95 % interval"], rows, note, [False, True])


def _calibration(facts: Facts, drawn: dict[str, str]) -> Iterator[str]:
    out = facts.out
    if "reliability" not in drawn or out.calibration is None or out.temperature is None:
        yield page.paragraph("There are too few held-out images, or mistakes on them, to judge a temperature.")
        return
    before, after = out.calibration
    yield page.paragraph(
        f"A temperature of {out.temperature:.2f}, fitted on held-out images, changes the expected calibration error on "
        f"{out.judged} images from {percent(before)} to {percent(after)} %. No prediction changes."
    )
    yield page.figure(drawn["reliability"], "Accuracy against confidence, as trained and with the temperature.")


def _confusions(facts: Facts, costly: list[dict]) -> Iterator[str]:
    names, data = facts.inspected.data.class_names, facts.inspected.data
    if not costly:
        yield page.paragraph("There are none: every image that judged was classified correctly.")
    split = data.test if facts.out.judged == "test" else data.train
    for cell in costly:
        yield page.heading(f"{names[cell['true']]}, taken for {names[cell['predicted']]}", 3)
        n = cell["images"]
        of_class = f"{n:,} image{'s' if n > 1 else ''}, {percent(cell['rate'])} % of the class"
        yield page.paragraph(f"{percent(cell['cost'])} % of the error: {of_class}.")
        if split.images.dtype == torch.uint8:
            yield page.pictures(split.images[cell["rows"]], facts.names(cell["rows"]))


def _advice(facts: Facts) -> Iterator[str]:
    data, out, table = facts.inspected.data, facts.out, facts.out.table
    counts, names = data.class_counts, data.class_names
    few = (counts < FEW_TO_JUDGE).nonzero()[:, 0].tolist()
    if few:
        listed = ", ".join(names[c] for c in few[:WORST])
        yield f"Add images to the classes that are too small to judge: {listed}{', …' if len(few) > WORST else ''}."
    error = class_errors(out, len(names))[:, 1].nan_to_num(-1)
    worst = [c for c in error.argsort(descending=True).tolist()[:WORST] if error[c] > 0]
    if worst:
        listed = ", ".join(f"{names[c]} ({percent(error[c].item())} %)" for c in worst)
        yield f"The classes of the highest error are {listed}: look at their mistakes above; some labels may be wrong."
    as_trained = table["error_as_trained"]
    best = int(as_trained.argmin())
    if facts.prior == "uniform" and best != out.chosen:
        errors = f"{percent(as_trained.iloc[best])} % against {percent(as_trained.iloc[out.chosen])} %"
        yield (
            "This advice counts every class alike. If classes will be as frequent as in training, "
            f"{table['label'].iloc[best]} has the least error, {errors}: ask for that with --prior train."
        )
    if out.temperature:
        yield f"Divide the logits by {out.temperature:.2f} before you use probabilities as probabilities."
    if facts.trials.skipped:
        listed = ", ".join(each.label for each in facts.trials.skipped)
        yield f"Not trained for lack of time: {listed}; a larger --budget-minutes continues from here."
    yield (
        "Frozen features bound what any trick can reach: larger images (--size), a larger backbone (--backbone) or "
        "fine-tuning its last block may gain more than the loss does."
    )


def _method(facts: Facts) -> Iterator[str]:
    out, trials = facts.out, facts.trials
    folds, settings = len(out.held.fold.unique()), trials.settings
    if folds == len(trials.parts):
        yield f"Every training image was held out once, in {folds} parts stratified by class."
    else:
        yield f"Of {len(trials.parts)} parts stratified by class, {folds} were held out before the budget was spent."
    yield (
        f"Each run trained a classifier on frozen features for {settings.epochs} epochs in batches of "
        f"{settings.batch_size}; longer where a recipe says so."
    )
    yield (
        "Standard errors are those of the images, class by class; training runs of one fold share their images, so "
        "differences between recipes are measured on the same ones."
    )
    yield "A tau that is chosen was chosen for every part on the other parts."
    if facts.inspected.has_test:
        yield "The test set was evaluated once, after the choice."
