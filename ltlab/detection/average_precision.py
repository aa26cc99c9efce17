"""Average precision by the library faster-coco-eval, in COCO's and in LVIS's form."""

import logging
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from .. import require_extra
from ..counts import check_integer
from ..data import FREQUENCY_GROUPS

Detections = Sequence[dict[str, Tensor]]
BY_CLASS = 10_000  # detections of a class over the whole set that fixed AP takes


def average_precision(
    detections: Detections, boxes: Sequence[Tensor], labels: Sequence[Tensor], groups: Tensor, *,
    max_detections: int | None = 300, fixed: bool = False, crowd: Detections | None = None,
    negatives: Sequence[Sequence[int]] | None = None, not_exhaustive: Sequence[Sequence[int]] | None = None,
) -> dict[str, float]:  # fmt: skip
    """AP of detections over IoU 0.50:0.05:0.95, 101 recall points and classes, as a fraction.

        ap, ap50                               over all classes that have a box
        ap_rare, ap_common, ap_frequent        over those of a group, NaN where it has none

    Args:
        detections: of N images, each with boxes (D, 4) as (x1, y1, x2, y2), scores (D,) and labels (D,) from 0.
        boxes, labels: of the objects of the N images, (n_i, 4) and (n_i,) int64 from 0.
        groups: (C,), 0 rare, 1 common, 2 frequent.
        max_detections: the best so many of every image count, over all classes together, as in LVIS; None takes all.
        fixed: no cap per image, but the best 10,000 of every class over the set (Dave et al., 2021).
        crowd: for every image boxes (k, 4) and labels (k,) around many objects: detections within are ignored (COCO).
        negatives: for every image the classes that are known to be absent. A detection of a class that is neither
            there nor in it is ignored (LVIS's federated rule); None: all objects of all classes are annotated.
        not_exhaustive: for every image the classes of which not all objects have a box: an unmatched detection of them
            is ignored.

    Raises:
        ImportError: faster-coco-eval is not installed.
        ValueError: no image; lists of other lengths; labels outside 0 ... C - 1; scores or boxes that are not finite.

    Source: Lin et al., "Microsoft COCO", ECCV 2014; Gupta et al., "LVIS", CVPR 2019.
    """
    if max_detections is not None:
        max_detections = check_integer("max_detections", max_detections, 1)
    _check(detections, boxes, labels, len(groups))
    rows = _rows(detections)
    cap = None if fixed else max_detections
    rows = _best(rows, 6, BY_CLASS) if fixed else rows if cap is None else _best(rows, 0, cap)
    classes = range(len(groups))
    images = [
        {
            "id": i,
            "neg_category_ids": list(classes if negatives is None else negatives[i]),
            "not_exhaustive_category_ids": list(() if not_exhaustive is None else not_exhaustive[i]),
        }
        for i in range(len(boxes))
    ]
    truth = {
        "images": images,
        "annotations": _annotations(boxes, labels, crowd),
        "categories": [{"id": c, "frequency": "rcf"[group]} for c, group in enumerate(groups.tolist())],
    }
    stats = _library(truth, rows)
    return dict(zip(("ap", "ap50", *(f"ap_{name}" for name in FREQUENCY_GROUPS)), stats, strict=True))


def _check(detections: Detections, boxes: Sequence[Tensor], labels: Sequence[Tensor], num_classes: int) -> None:
    if not len(boxes) or not len(detections) == len(boxes) == len(labels):
        raise ValueError(
            f"detections, boxes and labels must be of the same images, at least one, got {len(detections)}, "
            f"{len(boxes)} and {len(labels)}"
        )
    for i, found in enumerate(detections):
        for name, given in (("labels", labels[i]), ("detections' labels", found["labels"])):
            if len(given) and not 0 <= int(given.min()) <= int(given.max()) < num_classes:
                raise ValueError(
                    f"{name} of image {i} must be classes from 0 to {num_classes - 1}, "
                    f"got {int(given.min())} to {int(given.max())}"
                )
        if not (found["boxes"].isfinite().all() and found["scores"].isfinite().all()):
            raise ValueError(f"detections of image {i} must have finite boxes and scores")


def _rows(detections: Detections) -> np.ndarray:
    """All detections, (D, 7): image, x, y, width, height, score, class."""
    parts = [
        torch.cat([
            torch.full((len(found["boxes"]), 1), float(i), dtype=torch.float64),
            found["boxes"][:, :2].double().cpu(),
            (found["boxes"][:, 2:].double() - found["boxes"][:, :2].double()).cpu(),
            found["scores"][:, None].double().cpu(),
            found["labels"][:, None].double().cpu(),
        ], 1)
        for i, found in enumerate(detections)
    ]  # fmt: skip
    return torch.cat(parts).numpy()


def _best(rows: np.ndarray, column: int, most: int) -> np.ndarray:
    """The rows with the best scores, at most so many of every value in a column, best first."""
    rows = rows[np.argsort(-rows[:, 5], kind="stable")]
    order = np.argsort(rows[:, column], kind="stable")
    _, starts = np.unique(rows[order, column], return_index=True)
    rank = np.arange(len(rows)) - np.repeat(starts, np.diff([*starts, len(rows)]))
    return rows[np.sort(order[rank < most])]


def _annotations(
    boxes: Sequence[Tensor], labels: Sequence[Tensor], crowd: Detections | None
) -> list[dict[str, object]]:
    made: list[dict[str, object]] = []
    single = enumerate(zip(boxes, labels, strict=True))
    around = enumerate((region["boxes"], region["labels"]) for region in crowd or ())
    for is_crowd, part in ((0, single), (1, around)):
        for i, (those, kinds) in part:
            for (x1, y1, x2, y2), label in zip(those.double().tolist(), kinds.tolist(), strict=True):
                width, height = x2 - x1, y2 - y1
                made.append({
                    "id": len(made) + 1, "image_id": i, "category_id": label, "bbox": [x1, y1, width, height],
                    "area": width * height, "iscrowd": is_crowd,
                })  # fmt: skip
    return made


def _library(truth: dict, rows: np.ndarray) -> list[float]:
    """The library's AP, AP50 and AP of the three groups; its -1, of nothing, as NaN."""
    require_extra("detection")
    from faster_coco_eval import COCO, COCOeval_faster

    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    annotated = COCO(truth)
    evaluator = COCOeval_faster(annotated, annotated.loadRes(rows), "bbox", lvis_style=True, use_area=True)
    params = evaluator.params
    params.areaRng, params.areaRngLbl = params.areaRng[:1], params.areaRngLbl[:1]  # objects of all sizes
    params.maxDets = [max(1, len(rows))]  # the cap is over all classes together
    evaluator.run()
    stats = evaluator.all_stats
    return [float("nan") if value == -1 else float(value) for value in (stats[0], stats[1], *stats[-3:])]
