"""AP of parts against pycocotools and a plain loop; right parents and switches of identities counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.evaluation.parts import PartFrame, average_precisions, score_parts
from masa_track.masks import compressed

PERSON, HEAD, HAND = 0, 1, 2


def frame(rows: list[tuple[int, tuple[float, ...], int, int]], scores: list[float] | None = None) -> PartFrame:
    """Rows of class, box, identity and parent."""
    labels = np.array([row[0] for row in rows], np.int64)
    return PartFrame(
        np.array([row[1] for row in rows], np.float64).reshape(-1, 4),
        np.array(scores or [0.9] * len(rows)),
        labels,
        np.array([row[2] for row in rows], np.int64),
        np.array([row[3] for row in rows], np.int64),
        labels != PERSON,
    )


def random_frames(seed: int, count: int = 4) -> tuple[list[PartFrame], list[PartFrame]]:
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for _ in range(count):
        corners = rng.uniform(0, 80, (5, 2))
        boxes = np.hstack((corners, corners + rng.uniform(5, 30, (5, 2))))
        labels = rng.integers(1, 3, 5)
        truth.append(frame([(int(n), tuple(b), i, -1) for i, (n, b) in enumerate(zip(labels, boxes, strict=True))]))
        guesses = np.vstack((boxes + rng.normal(0, 2, boxes.shape), boxes[:2] + 20))
        guesses[:, 2:] = np.maximum(guesses[:, 2:], guesses[:, :2] + 1)
        names = np.append(labels, [1, 2])
        rows = [(int(n), tuple(b), i, -1) for i, (n, b) in enumerate(zip(names, guesses, strict=True))]
        found.append(frame(rows, np.round(rng.random(7), 2).tolist()))
    return truth, found


def with_masks(one: PartFrame) -> PartFrame:
    masks = []
    for x1, y1, x2, y2 in one.boxes.round().astype(int).clip(0, 120):
        mask = np.zeros((120, 120), bool)
        mask[y1:y2, x1:x2] = True
        masks.append(compressed(mask, (120, 120)))
    return PartFrame(one.boxes, one.scores, one.labels, one.ids, one.parent_ids, one.is_part, masks)


def by_pycocotools(truth: list[PartFrame], found: list[PartFrame], label: int, kind: str) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def entries(frames: list[PartFrame]) -> list[dict]:
        rows = []
        for image, one in enumerate(frames, 1):
            for i in np.flatnonzero(one.labels == label).tolist():
                x1, y1, x2, y2 = one.boxes[i].tolist()
                row = {"id": len(rows) + 1, "image_id": image, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1]}
                row |= {"area": (x2 - x1) * (y2 - y1), "iscrowd": 0, "score": float(one.scores[i])}
                rows.append(row | ({"segmentation": one.masks[i]} if one.masks else {}))
        return rows

    def coco(frames: list[PartFrame]) -> COCO:
        made = COCO()
        images = [{"id": i, "width": 120, "height": 120} for i in range(1, len(frames) + 1)]
        made.dataset = {"images": images, "annotations": entries(frames), "categories": [{"id": label, "name": "x"}]}
        made.createIndex()
        return made

    scored = COCOeval(coco(truth), coco(found), kind)
    scored.evaluate()
    scored.accumulate()
    return scored.eval["precision"][:, :, 0, 0, 2].mean(axis=1)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_average_precision_is_that_of_pycocotools(seed: int, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pycocotools")
    truth, found = random_frames(seed)
    if kind == "segm":
        truth, found = [with_masks(one) for one in truth], [with_masks(one) for one in found]
    for label in (HEAD, HAND):
        ours = average_precisions(truth, found, label)
        np.testing.assert_allclose(ours, by_pycocotools(truth, found, label, kind), atol=1e-9)


def slow_ap(truth: list[PartFrame], found: list[PartFrame], label: int, least: float) -> float:
    """Detection by detection."""
    rows = [(s, f, i) for f, one in enumerate(found) for i, s in enumerate(one.scores) if one.labels[i] == label]
    rows.sort(key=lambda row: (-row[0], row[1], row[2]))
    taken: set[tuple[int, int]] = set()
    right, points = 0, []
    total = sum(int((one.labels == label).sum()) for one in truth)
    for rank, (_, f, i) in enumerate(rows, 1):
        best, at = least, None
        a = found[f].boxes[i]
        for j in np.flatnonzero(truth[f].labels == label).tolist():
            b = truth[f].boxes[j]
            shared = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
            areas = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1])
            if (f, j) not in taken and shared / (areas - shared) >= best:
                best, at = shared / (areas - shared), j
        if at is not None:
            taken.add((f, at))
            right += 1
        points.append((right / total, right / rank))
    every = [max((p for r, p in points if r >= recall - 1e-12), default=0.0) for recall in np.linspace(0, 1, 101)]
    return float(np.mean(every))


@pytest.mark.parametrize("seed", range(3))
def test_average_precision_is_that_of_a_plain_loop(seed: int) -> None:
    truth, found = random_frames(seed)
    for label in (HEAD, HAND):
        ours = average_precisions(truth, found, label)
        assert ours[[0, 5]] == pytest.approx([slow_ap(truth, found, label, least) for least in (0.5, 0.75)])


TWO = [
    (PERSON, (0, 0, 50, 100), 1, -1),
    (PERSON, (60, 0, 110, 100), 2, -1),
    (HEAD, (20, 0, 30, 10), 10, 1),
    (HEAD, (80, 0, 90, 10), 11, 2),
    (HAND, (0, 50, 10, 60), 12, -1),
]


def renamed(ids: dict[int, int], parents: dict[int, int] | None = None) -> PartFrame:
    """The same rows with other identities, and other parents of rows by their true identity."""
    return frame(
        [(n, b, ids.get(i, i), ids.get((parents or {}).get(i, p), (parents or {}).get(i, p))) for n, b, i, p in TWO]
    )


def test_parents_and_switches() -> None:
    """The second head has the wrong parent in the second frame, and another identity in the third."""
    truth = [frame(TWO)] * 3
    ids = {1: 7, 2: 8, 10: 20, 11: 21, 12: 22}
    found = [renamed(ids), renamed(ids, {11: 1}), renamed({**ids, 11: 30}, {12: 1})]
    scores = score_parts(truth, found)
    head, hand, every = scores[HEAD], scores[HAND], scores[-1]
    assert (head.truths, head.matched, head.parents_right, head.switches, head.identities) == (6, 6, 5, 1, 2)
    assert (hand.matched, hand.parents_right, hand.switches) == (3, 2, 0)  # it has no parent
    assert every.consistency == pytest.approx(7 / 9)
    assert every.ap == pytest.approx(1)


def test_a_parent_that_is_not_found_is_wrong() -> None:
    found = [frame(TWO[2:])]
    scores = score_parts([frame(TWO)], found)
    assert (scores[HEAD].matched, scores[HEAD].parents_right) == (2, 0)
    assert score_parts([frame([])], [frame(TWO)])[HEAD].truths == 0
    assert math.isnan(score_parts([frame([])], [frame([])])[-1].consistency)
    with pytest.raises(InputError, match="as many frames"):
        score_parts([], [frame([])])
