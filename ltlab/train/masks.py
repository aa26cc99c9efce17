"""The rows that a foreground slot moves images by: in memory, or of images on disk there too."""

from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor, nn

from ..cam.shards import StoredMasks
from ..data import LongTailedData
from ..recipes import Recipe, describe
from .checks import on_disk
from .processes import OneProcess


class Masks:
    """Prepares the foreground slots of a run's stages, which are counted from 0, and reopens them.

    Those on disk are beside the checkpoint, or in a temporary folder where there is none.
    """

    def __init__(self, data: LongTailedData, path: Path | None, processes: OneProcess) -> None:
        self.data, self.path, self.processes = data, path, processes
        self.temporary: TemporaryDirectory | None = None

    def prepare(self, foreground: Callable, model: nn.Module, stage: int) -> Tensor | StoredMasks:
        """A slot's rows; those on disk in shards that the processes share out.

        Raises:
            TypeError: `prepare` does not give a tensor with a row per image.
        """
        images, labels = self.data.train.images, self.data.train.labels
        if not on_disk(self.data) or not hasattr(foreground, "prepare_in"):
            rows = foreground.prepare(model, images, labels)
            if not isinstance(rows, Tensor) or len(rows) != len(labels):
                what = f"a tensor {tuple(rows.shape)}" if isinstance(rows, Tensor) else f"{rows!r:.80}"
                raise TypeError(
                    f"stage {stage + 1}: prepare(model, images, labels) of {describe(foreground)} gives {what}, it "
                    f"must give a tensor with a row for each of the {len(labels)} images"
                )
            return rows
        shared = {} if self.path is None else {"num_replicas": self.processes.size, "rank": self.processes.rank}
        masks = foreground.prepare_in(self.folder(stage), model, images, labels, **shared)
        self.processes.wait()
        return masks

    def reopen(self, foreground: Callable, kept: Tensor | str | None, stage: int) -> Tensor | StoredMasks | None:
        """What `to_keep` was given."""
        if not isinstance(kept, str):
            return kept
        return foreground.reopen(self.folder(stage), self.data.train.images, self.data.train.labels, kept)

    def folder(self, stage: int) -> Path:
        if self.path is not None:
            return beside(self.path, stage + 1)
        if self.temporary is None:
            self.temporary = TemporaryDirectory(prefix="ltlab-masks-", ignore_cleanup_errors=True)
        return Path(self.temporary.name) / str(stage + 1)


def beside(path: Path, number: int) -> Path:
    """The folder of a stage's masks on disk, beside the checkpoint; stages are counted from 1."""
    return path.with_name(f"{path.stem}-masks-{number}")


def check_none(path: Path, recipe: Recipe) -> None:
    """Refuse what an earlier run has left where this one would come upon it after its first stage.

    Raises:
        FileExistsError: there are masks of a later stage.
    """
    for number, stage in enumerate(recipe.stages[1:], start=2):
        if stage.foreground is not None and (folder := beside(path, number)).exists():
            raise FileExistsError(
                f"{folder} exists, where the masks of stage {number} of checkpoint {path} go: remove it first, or name "
                "the checkpoint otherwise"
            )


def to_keep(masks: Tensor | StoredMasks | None) -> Tensor | str | None:
    """What a checkpoint holds of a slot's rows: themselves, or the checksum of those on disk."""
    return masks.checksum if isinstance(masks, StoredMasks) else masks
