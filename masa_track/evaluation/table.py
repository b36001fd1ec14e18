"""The scores as a plain aligned table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from masa_track.evaluation.scores import Evaluation
from masa_track.evaluation.teta import TetaResult, TetaScores

_COLUMNS = {
    "HOTA": "hota",
    "DetA": "det_a",
    "AssA": "ass_a",
    "LocA": "loc_a",
    "MOTA": "mota",
    "IDF1": "idf1",
    "IDSW": "switches",
    "FP": "false_positives",
    "FN": "misses",
    "GT_ids": "truth_ids",
    "ids": "track_ids",
    "frames": "frames",
}
_OF = {
    "hota": {"HOTA", "DetA", "AssA", "LocA"},
    "clear": {"MOTA", "IDSW", "FP", "FN"},
    "idf1": {"IDF1"},
}
_ALWAYS = {"GT_ids", "ids", "frames"}
TETA_COLUMNS = {
    "TETA": "teta",
    "LocA": "loc_a",
    "AssocA": "assoc_a",
    "ClsA": "cls_a",
    "LocRe": "loc_re",
    "LocPr": "loc_pr",
    "AssocRe": "assoc_re",
    "AssocPr": "assoc_pr",
    "ClsRe": "cls_re",
    "ClsPr": "cls_pr",
}


def format_table(evaluation: Evaluation, metrics: Sequence[str] = ("hota", "clear", "idf1")) -> str:
    """The scores as text: a row a sequence, a COMBINED row if there are several, and a line on what was scored.

    Args:
        evaluation: the scores.
        metrics: which of hota, clear and idf1 to show.

    Returns:
        The lines, without a newline at the end. Columns are separated by blanks and none of their names has one.
    """
    wanted = _ALWAYS.union(*(_OF.get(name, set()) for name in metrics))
    columns = {head: field for head, field in _COLUMNS.items() if head in wanted}
    rows = [["sequence", *columns]]
    rows += [_row(name, scores, columns) for name, scores in evaluation.sequences.items()]
    if len(evaluation.sequences) > 1:
        rows.append(_row("COMBINED", evaluation.combined, columns))
    step = evaluation.stride
    which = "every frame" if step == 1 else f"frames 1, {1 + step}, {1 + 2 * step}, ..."
    note = f"{which}; MOTA, IDF1 and counts at IoU {evaluation.iou:g}, HOTA over IoU .05 to .95"
    return "\n".join([*aligned(rows), "", note])


def format_classes(classes: Mapping[str, Evaluation], metrics: Sequence[str] = ("hota", "clear", "idf1")) -> str:
    """The combined scores of each class as text: a row a class, and a row of their mean.

    Args:
        classes: the scores by the class's name. Blanks in names become underscores.
        metrics: which of hota, clear and idf1 to show.
    """
    wanted = _ALWAYS.union(*(_OF.get(name, set()) for name in metrics))
    columns = {head: field for head, field in _COLUMNS.items() if head in wanted}
    rows = [["class", *columns]]
    rows += [_row("_".join(name.split()), one.combined, columns) for name, one in classes.items()]
    every = [one.combined for one in classes.values()]
    mean = []
    for field in columns.values():
        values = [getattr(one, field) for one in every]
        mean.append(f"{sum(values) / len(values):.3f}" if isinstance(values[0], float) else str(sum(values)))
    rows.append(["MEAN", *mean])
    return "\n".join([*aligned(rows), "", "all sequences; MEAN is the mean of the classes, counts are summed"])


def format_teta(
    result: TetaResult, class_names: Mapping[int, str], exhaustive: bool, groups: Mapping[str, TetaScores] | None = None
) -> str:
    """TETA as text: a row a class, a row a group of classes, an OVERALL row, and a line on how the truth was taken.

    Args:
        result: the scores.
        class_names: by class id; others are shown by id. Blanks in names become underscores.
        exhaustive: how the truth was taken.
        groups: the scores of groups of classes by name, shown in capitals.
    """
    rows = [["class", *TETA_COLUMNS]]
    for number, scores in result.classes.items():
        rows.append(_row("_".join(class_names.get(number, str(number)).split()), scores, TETA_COLUMNS))
    rows += [_row(name.upper(), scores, TETA_COLUMNS) for name, scores in (groups or {}).items()]
    rows.append(_row("OVERALL", result.overall, TETA_COLUMNS))
    note = "TETA over IoU 0 to .95, its ClsA .5 to .95; OVERALL is the mean of the classes; truth taken as "
    return "\n".join([*aligned(rows), "", note + ("exhaustive" if exhaustive else "not exhaustive")])


def aligned(rows: list[list[str]]) -> list[str]:
    """The cells as lines whose columns are aligned: the first to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def _row(name: str, scores: object, columns: Mapping[str, str]) -> list[str]:
    values = [getattr(scores, field) for field in columns.values()]
    return [name, *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values)]
