"""TETA once more, with dictionaries and loops, a box at a time: what `masa_track.evaluation.teta` is held to.

Boxes of a video are tuples (frame, id, class, (x1, y1, x2, y2)); a frozenset of pixels stands for a mask. Only the
assignment of a frame is scipy's here, too: pairs that do not overlap are a tie, which an assignment of our own would
break differently.
"""

from collections import defaultdict
from functools import cache

from scipy.optimize import linear_sum_assignment

ALPHAS = [i / 20 for i in range(20)]
EPS = 2.220446049250313e-16


@cache
def iou(a, b):
    if isinstance(a, frozenset):  # the pixels of a mask
        return len(a & b) / len(a | b)
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    both = max(width, 0) * max(height, 0)
    either = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / either if either > 0 else 0.0


def matches(truth, found):
    """{frame: [(true box, found box)]}: of each frame the assignment that keeps whole tracks together."""
    frames = sorted({box[0] for box in truth} & {box[0] for box in found})
    weight = defaultdict(float)
    for frame in frames:
        here, there = [b for b in truth if b[0] == frame], [b for b in found if b[0] == frame]
        for a in here:
            for b in there:
                this = iou(a[3], b[3])
                rest = sum(iou(a[3], c[3]) for c in there) + sum(iou(c[3], b[3]) for c in here) - this
                if rest > EPS:
                    weight[a[1], b[1]] += this / rest
    result = {}
    for frame in frames:
        here, there = [b for b in truth if b[0] == frame], [b for b in found if b[0] == frame]
        cost = []
        for a in here:
            row = []
            for b in there:
                together = weight[a[1], b[1]]
                length = sum(c[1] == a[1] for c in truth) + sum(c[1] == b[1] for c in found)
                row.append(-together / (length - together) * iou(a[3], b[3]))
            cost.append(row)
        rows, columns = linear_sum_assignment(cost)
        result[frame] = [(here[i], there[j]) for i, j in zip(rows, columns, strict=True)]
    return result


def clusters(truth, found, assigned):
    """The boxes that overlap a true box by half, but for those assigned to a true box that is not among these."""
    near = []
    for box in found:
        overlaps = any(a[0] == box[0] and iou(a[3], box[3]) >= 0.5 for a in truth)
        mine = assigned.get(box)
        if overlaps and (mine is None or mine in truth):
            near.append(box)
    return near


def slow_teta(videos, exhaustive=False, every_frame=False):
    """{class: {"teta": ..., "loc_a": ...}}, and the means under None."""
    number = defaultdict(float)  # (class, what, alpha)
    with_truth = {box[2] for truth, _ in videos for box in truth}
    for truth, tracks in videos:
        frames = {box[0] for box in truth}
        tracks = [box for box in tracks if every_frame or box[0] in frames]
        near = clusters(truth, tracks, {})
        whole = [box for box in tracks if box[1] in {b[1] for b in near}]
        assigned = {}
        for pairs in matches(truth, whole).values():
            for a, b in pairs:
                if iou(a[3], b[3]) >= 0.5 - EPS:
                    assigned[b] = a
        for cls in sorted({box[2] for box in truth + tracks}):
            ours = [box for box in truth if box[2] == cls]
            near = clusters(ours, tracks, assigned)
            outside = sum(box[2] == cls and box not in near for box in tracks)
            for alpha in ALPHAS:
                if exhaustive and near:
                    number[cls, "cls_fp", alpha] += outside
            if not near:
                for alpha in ALPHAS:
                    number[cls, "loc_fn", alpha] += len(ours)
                    if exhaustive:  # the authors' tool sets it anew, for this video
                        number[cls, "cls_fp", alpha] += outside - number[cls, "video_fp", alpha]
                        number[cls, "video_fp", alpha] = 0
                continue
            whole = [box for box in tracks if box[1] in {b[1] for b in near}]
            paired = [pair for pairs in matches(ours, whole).values() for pair in pairs]
            for alpha in ALPHAS:
                good = [(a, b) for a, b in paired if iou(a[3], b[3]) >= alpha - EPS]
                number[cls, "loc_tp", alpha] += len(good)
                number[cls, "loc_fn", alpha] += len(ours) - len(good)
                number[cls, "loc_fp", alpha] += sum(box not in [b for _, b in good] for box in near)
                for a, b in good:
                    both = sum((c[1], d[1]) == (a[1], b[1]) for c, d in good)
                    true_length = sum(c[1] == a[1] for c in ours)
                    found_length = sum(d[1] == b[1] for d in whole)
                    number[cls, "assoc", alpha] += both / (true_length + found_length - both)
                    number[cls, "assoc_re", alpha] += both / true_length
                    number[cls, "assoc_pr", alpha] += both / found_length
                    if b[2] == cls:
                        number[cls, "cls_tp", alpha] += 1
                    else:
                        number[cls, "cls_fn", alpha] += 1
                        number[b[2], "cls_fp", alpha] += 1
                        number[b[2], "video_fp", alpha] += 1
        for key in [key for key in number if key[1] == "video_fp"]:
            del number[key]

    result = {}
    for cls in with_truth:

        def n(what, alpha, cls=cls):
            return number[cls, what, alpha]

        def mean(alphas, top, *rest, n=n):
            return sum(n(top, a) / max(1, sum(n(what, a) for what in (top, *rest))) for a in alphas) / len(alphas)

        row = {
            "loc_a": mean(ALPHAS, "loc_tp", "loc_fn", "loc_fp"),
            "loc_re": mean(ALPHAS, "loc_tp", "loc_fn"),
            "loc_pr": mean(ALPHAS, "loc_tp", "loc_fp"),
            "cls_a": mean(ALPHAS[10:], "cls_tp", "cls_fn", "cls_fp"),
            "cls_re": mean(ALPHAS[10:], "cls_tp", "cls_fn"),
            "cls_pr": mean(ALPHAS[10:], "cls_tp", "cls_fp"),
        }
        for part in ("assoc_re", "assoc_pr"):
            row[part] = sum(n(part, a) / max(1, n("loc_tp", a)) for a in ALPHAS) / 20
        row["assoc_a"] = sum(n("assoc", a) / max(1, n("loc_tp", a)) for a in ALPHAS) / 20
        row["teta"] = (row["loc_a"] + row["assoc_a"] + row["cls_a"]) / 3
        result[cls] = row
    result[None] = {key: sum(row[key] for row in result.values()) / len(result) for key in row}
    return result
