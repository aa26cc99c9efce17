"""What a recipe is compared with: plain training that is not longer."""

from collections.abc import Mapping

import pandas as pd

CONTROLS = ("ce", "ce_long", "ce_long_finetune")  # plain training, for longer and longer


def control_of(epochs: float, available: Mapping[str, float]) -> str | None:
    """The control of a recipe: the longest plain training that is not longer than the recipe.

        argmax_c E_c   over the controls c with E_c <= E

    Args:
        epochs: E, the recipe's.
        available: the controls that were measured: name, epochs E_c.

    Limit cases: of several with E_c equal the first; None if all are longer, or none is available.
    """
    fitting = [name for name, length in available.items() if length <= epochs]
    return max(fitting, key=lambda name: available[name], default=None)


def with_controls(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The same recipes measured in several places, each table with the column control_error: that of the control there.

    Args:
        tables: place: table, indexed by recipe, with the column error; the first one's column epochs counts for all.
            A recipe's control is one of `CONTROLS` that the first table and the place's own both have.

    Limit cases: NaN for the controls themselves, for a recipe without a control or one that the first table lacks.
    """
    epochs = next(iter(tables.values()))["epochs"].to_dict()

    def extended(table: pd.DataFrame) -> pd.DataFrame:
        available = {name: epochs[name] for name in CONTROLS if name in epochs and name in table.index}
        held = {name: length for name, length in epochs.items() if name not in available}
        controls = [control_of(held[name], available) if name in held else None for name in table.index]
        return table.assign(control_error=table["error"].reindex(controls).to_numpy())

    return {place: extended(table) for place, table in tables.items()}
