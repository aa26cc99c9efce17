"""Tables: mean and standard deviation over seeds, next to the published error."""

import math

import pandas as pd

from ..counts import ClassCounts
from ..recipes import FAMILIES
from .controls import CONTROLS, control_of
from .priors import errors_under
from .published import SOURCES, published

ERRORS = {  # column of a summary: how a row gives it, as a fraction
    "error": lambda rows: rows["top1_error"],
    "balanced_error": lambda rows: rows["balanced_error"],
    "many_error": lambda rows: 1 - rows["many_accuracy"],
    "medium_error": lambda rows: 1 - rows["medium_accuracy"],
    "few_error": lambda rows: 1 - rows["few_accuracy"],
}
FAMILY_OF = {recipe.name: family for family, members in FAMILIES.items() for recipe in members}
CUSTOM = "custom"  # the family of all other recipes


def summary(rows: pd.DataFrame) -> pd.DataFrame:
    """Mean and sample standard deviation over seeds, one line per recipe in the order of the rows.

        mean = sum_i e_i / n,   std = sqrt(sum_i (e_i - mean)^2 / (n - 1))

    Args:
        rows: of runs on one data set with one imbalance and the same options, see `compare`.

    Returns:
        Indexed by recipe: family, "custom" where ltlab has none; epochs; seeds, the number n; error (top-1),
        balanced_error, many_error, medium_error, few_error, in percent, each with its *_std; seconds, the mean of a
        run; device, where they ran. The groups are those of `metrics.group_accuracy`.

    Limit cases: one seed has the standard deviation NaN; a group without classes is NaN.

    Raises:
        ValueError: no rows, rows of several data sets, imbalances or options, or of one recipe a seed twice or
            several numbers of epochs.
    """
    if rows.empty:
        raise ValueError("rows is empty: pass the rows of at least one run")
    for column in ("data", "imbalance", "options"):
        if len(mixed := rows[column].unique()) > 1:
            raise ValueError(f"rows mix the {column} {', '.join(map(str, mixed))}: pass the rows of one")
    groups = rows.groupby("recipe", sort=False)
    for name, group in groups:
        if len(set(group["seed"])) < len(group) or len(set(group["epochs"])) > 1:
            runs = ", ".join(f"seed {s} of {e} epochs" for s, e in zip(group["seed"], group["epochs"], strict=True))
            raise ValueError(f"recipe {name!r} has the runs {runs}: pass rows with one run per seed and equal epochs")
    means = groups.agg(epochs=("epochs", "first"), seeds=("seed", "size"))
    for column, fraction in ERRORS.items():
        percent = (100 * fraction(rows)).groupby(rows["recipe"], sort=False)
        means[column], means[f"{column}_std"] = percent.mean(), percent.std(ddof=1)
    means.insert(0, "family", means.index.map(lambda name: FAMILY_OF.get(name, CUSTOM)))
    devices = groups["device"].agg(lambda device: "; ".join(device.unique()))
    return means.assign(seconds=groups["seconds"].mean(), device=devices)


def table(rows: pd.DataFrame, prior: ClassCounts | None = None) -> pd.DataFrame:
    """`summary` next to the published error on the same data set and imbalance.

    With a prior, also error_under_prior, in percent, and its *_std: the error where the test set's classes are as
    frequent as the prior says, see `errors_under`.

    Adds the columns published (percent; NaN where there is none), published_as, the name of the method there, and
    source, a key of `SOURCES`. Of several published errors the first source's is taken. They belong to exponential
    class counts, the test set and the full number of epochs, 200 for these recipes on CIFAR. A shortened run gets them
    all the same, one with other class counts or on held-out images does not.

    Raises:
        ValueError: as `summary` and `errors_under`.
    """
    means, first = summary(rows), rows.iloc[0]
    if prior is not None:
        percent = (100 * errors_under(rows, prior)).groupby(rows["recipe"], sort=False)
        means["error_under_prior"], means["error_under_prior_std"] = percent.mean(), percent.std(ddof=1)
    others = published(first["data"], first["imbalance"]).dropna(subset="recipe")
    options = str(first["options"]).split()
    if "kind=exp" not in options or any(option.startswith("held_out=") for option in options):
        others = others.iloc[:0]
    others = others.drop_duplicates("recipe").set_index("recipe")[["top1_error_percent", "method", "source"]]
    return means.join(others.set_axis(["published", "published_as", "source"], axis=1))


def gains(rows: pd.DataFrame) -> pd.DataFrame:
    """What each recipe gains over plain training for as many epochs: paired differences of the balanced error, by seed.

        gain_i = e_i(control) - e_i(recipe),   mean = sum_i gain_i / n,   std = sqrt(sum_i (gain_i - mean)^2 / (n - 1))

    The control is the longest of `CONTROLS` among the rows that is not longer than the recipe, see `control_of`.

    Args:
        rows: as for `summary`, with those of a control.

    Returns:
        Indexed by recipe, without the controls: family and epochs, as in `summary`; control, its name; gain and
        gain_std in percentage points, positive where the recipe is better; seeds, the number n that both were run
        with.

    Limit cases: one seed has the standard deviation NaN.

    Raises:
        ValueError: as `summary`; a recipe that is shorter than every control, or has no seed in common with its own.
    """
    means = summary(rows)
    controls = {name: means.loc[name, "epochs"] for name in CONTROLS if name in means.index}
    errors = 100 * rows.pivot(index="seed", columns="recipe", values="balanced_error")
    lines = []
    for recipe, (family, epochs) in means[["family", "epochs"]].drop(list(controls)).iterrows():
        if (control := control_of(epochs, controls)) is None:
            raise ValueError(f"recipe {recipe!r} of {epochs} epochs has no control: add rows of {', '.join(CONTROLS)}")
        gain = (errors[control] - errors[recipe]).dropna()
        if gain.empty:
            raise ValueError(f"recipe {recipe!r} and its control {control!r} have no seed in common")
        lines.append((recipe, family, epochs, control, gain.mean(), gain.std(ddof=1), len(gain)))
    columns = ["recipe", "family", "epochs", "control", "gain", "gain_std", "seeds"]
    return pd.DataFrame(lines, columns=columns).set_index("recipe")


def mean_std(mean: float, std: float = math.nan, digits: int = 2) -> str:
    """A number as text for people: "39.00 ± 2.30", "39.00" where the standard deviation is NaN, a dash for NaN."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if math.isnan(std) else f" ± {std:.{digits}f}")


def formatted(table: pd.DataFrame) -> pd.DataFrame:
    """A table as text for people: mean ± standard deviation, the groups' errors, seconds, seeds, epochs, published.

    The column balanced is left out where the test set is balanced, for it is the error; the column published where
    nothing is published. A missing number is a dash.
    """
    text = pd.DataFrame(index=table.index)
    for column in ("error",) if _balanced(table) else ("error", "balanced_error"):
        text[f"{column.removesuffix('_error')} (%)"] = list(map(mean_std, table[column], table[f"{column}_std"]))
    if "error_under_prior" in table:
        text["under prior (%)"] = list(map(mean_std, table["error_under_prior"], table["error_under_prior_std"]))
    for group in ("many", "medium", "few"):
        text[f"{group} (%)"] = [mean_std(mean, digits=1) for mean in table[f"{group}_error"]]
    if any(table["published"].notna()):
        text["published (%)"] = [mean_std(error) for error in table["published"]]
    text["seconds"] = [mean_std(seconds, digits=1) for seconds in table["seconds"]]
    return text.assign(seeds=table["seeds"], epochs=table["epochs"])


def caption(table: pd.DataFrame) -> str:
    """What the columns of `formatted` are, and where the published errors come from."""
    devices = dict.fromkeys("; ".join(table["device"]).split("; "))
    lines = [
        "error: top-1 error after the last epoch, mean ± sample standard deviation over seeds",
        "many, medium, few: mean error on classes with more than 100, 20 to 100, fewer than 20 training images",
    ]
    if not _balanced(table):
        lines.insert(1, "balanced: mean error of the classes; the test set is not balanced, so go by this one")
    if "error_under_prior" in table:
        lines.append("under prior: mean error of the classes, weighted by the prior asked for")
    lines += [
        f"seconds: mean of one run on {'; '.join(devices)}",
    ]
    for source in table["source"].dropna().unique():
        lines.append(f"published: single runs of the full schedule, {SOURCES[source]} ({source})")
    return "\n".join(lines)


def _balanced(table: pd.DataFrame) -> bool:
    """Whether the classes have equally many test images, as far as the errors tell."""
    return bool(((table["error"] - table["balanced_error"]).abs() < 1e-3).all())
