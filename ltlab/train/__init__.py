"""The training step, once; and around it epochs, evaluation, checkpoints and resuming.

`step.py` is the whole of long-tailed training: four lines of it are the four slots of the course.
`fitting.py` starts a run, `checks.py` tries every stage first, `run.py` takes the recipe through its stages (what
happens when one begins is `Run.begin_stage`), and `stored_masks.py` keeps the foregrounds. `checkpoint.py` makes that
exact: a run can be killed at any moment and resumed, to give, bit for bit on a CPU, the run that was never interrupted.
`processes.py` is what changes with several devices: parts of a batch, means over processes.
"""

from .. import require_extra

require_extra("train")

from .captured import CapturedStep
from .fitting import find_device, fit, load_model
from .processes import is_first
from .run import Result
from .step import Slots, TrainingStep, augment, evaluate, predict, to_float, train_epoch

__all__ = [
    "CapturedStep", "Result", "Slots", "TrainingStep", "augment", "evaluate", "find_device", "fit", "is_first",
    "load_model", "predict", "to_float", "train_epoch",
]  # fmt: skip
