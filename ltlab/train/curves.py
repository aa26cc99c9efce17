"""A run's curves for TensorBoard, which is optional: `pip install tensorboard`, then `tensorboard --logdir FOLDER`."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

Write = Callable[[Mapping[str, float]], None]

TAGS = {"stage": "train/stage", "lr": "train/lr", "train_loss": "train/loss", "test_error": "test/error"}


def check_curves(folder: str | os.PathLike | None, resume: bool) -> None:
    """Refuse what would keep curves from being written there; None needs nothing.

    Raises:
        FileExistsError: the folder has curves, and the run is not resumed.
        ImportError: TensorBoard is not installed.
    """
    if folder is None:
        return
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ImportError(f"tensorboard={str(folder)!r} needs TensorBoard: pip install tensorboard") from error
    if not resume and any(Path(folder).glob("events.out.tfevents.*")):
        raise FileExistsError(
            f"the folder {folder} has the curves of a run: give every run a folder of its own, or pass resume=True to "
            "continue that run"
        )


@contextmanager
def curves(folder: str | os.PathLike | None) -> Iterator[Write]:
    """A function that adds the metrics of an epoch to the curves in a folder, `write({"epoch": 3, "lr": 0.1, ...})`.

    The columns of a run's history have the tags `TAGS`, the extra metrics test/NAME; a name with a group,
    such as metrics/top1_error, is the tag itself. Points that were there are given up: a resumed run writes its history
    again, so that no epoch is there twice. What is NaN has no point: an epoch that was not evaluated, the accuracy
    of an empty group.

    Args:
        folder: of the event files; None writes nothing.
    """
    if folder is None:
        yield lambda row: None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(folder, purge_step=0) as writer:

        def write(row: Mapping[str, float]) -> None:
            for name, value in row.items():
                if name != "epoch" and not math.isnan(value):
                    tag = TAGS.get(name, name if "/" in name else f"test/{name}")
                    writer.add_scalar(tag, value, row["epoch"])
            writer.flush()

        yield write
