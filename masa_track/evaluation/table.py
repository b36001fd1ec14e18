"""The scores as a plain aligned table."""

from __future__ import annotations

from masa_track.evaluation.scores import Evaluation, Scores

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


def format_table(evaluation: Evaluation) -> str:
    """The scores as text: a row a sequence, a COMBINED row if there are several, and a line on what was looked at.

    Args:
        evaluation: the scores.

    Returns:
        The lines, without a newline at the end. Columns are separated by blanks and none of their names has one.
    """
    rows = [["sequence", *_COLUMNS]]
    rows += [_row(name, scores) for name, scores in evaluation.sequences.items()]
    if len(evaluation.sequences) > 1:
        rows.append(_row("COMBINED", evaluation.combined))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    step = evaluation.stride
    which = "every frame" if step == 1 else f"frames 1, {1 + step}, {1 + 2 * step}, ..."
    lines += ["", f"{which}; MOTA, IDF1 and counts at IoU {evaluation.iou:g}, HOTA over IoU .05 to .95"]
    return "\n".join(lines)


def _row(name: str, scores: Scores) -> list[str]:
    values = [getattr(scores, field) for field in _COLUMNS.values()]
    return [name, *(f"{value:.3f}" if isinstance(value, float) else str(value) for value in values)]
