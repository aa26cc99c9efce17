"""Long-tailed detection: torchvision's detectors with a loss slot, trained by recipes and judged by average precision.

    heads               `SlotRoIHeads`, the head whose classification loss is a slot
    detectors           `small_detector` for a laptop, `detector` around torchvision's large ones
    detection_recipes   `RECIPES`, `get`: what is trained, by name
    detection_run       `fit`, `detect`: the run of classification with another step, evaluation and result
    average_precision   AP, AP50 and AP of rare, common and frequent classes, by faster-coco-eval

`import ltlab` does not import this room, and this room imports faster-coco-eval only where AP is computed.
"""

from .. import require_extra

require_extra("train")

from .average_precision import average_precision
from .detection_recipes import RECIPES, get
from .detection_run import SCENES, DetectionResult, detect, fit, judged, load_model
from .detectors import Detector, detector, small_detector
from .heads import SlotRoIHeads

__all__ = [
    "RECIPES", "SCENES", "DetectionResult", "Detector", "SlotRoIHeads", "average_precision", "detect", "detector",
    "fit", "get", "judged", "load_model", "small_detector",
]  # fmt: skip
