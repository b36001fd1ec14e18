"""What is printed at the end of a run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from masa_track.pipeline.job import Outcome


def summary(
    outcome: Outcome,
    folder: Path,
    track_activation_threshold: float = 0.0,
    detector: str | None = None,
    no_identities: str = "",
) -> str:
    """The text that is printed at the end of a run.

    Args:
        outcome: the run's outcome.
        folder: the folder of the results.
        track_activation_threshold: the score above which a box starts a track.
        detector: the detector's name, if a detector gave the boxes.
        no_identities: what is said where no object has an identity; empty: what the boxes tell.
    """
    if not outcome.files:
        return f"no frame could be tracked ({outcome.broken} skipped): nothing was written"
    lines = [
        f"{outcome.frames} frames, {outcome.identities} identities"
        + (f", {outcome.fps:.1f} frames a second" if outcome.seconds else "")
        + (f", {outcome.dropped:,} frames dropped, as the source was faster" if outcome.dropped else "")
        + (f", {outcome.broken} frames skipped" if outcome.broken else "")
        + (" (interrupted: the files hold the frames up to here)" if outcome.interrupted else ""),
    ]
    if outcome.cut_short:
        lines.append(f"warning   the video is incomplete: {outcome.cut_short}")
    if not outcome.identities:
        why = no_identities or why_no_identities(outcome, track_activation_threshold, detector)
        lines.append(f"warning   {why}")
    there = [file.name for file in outcome.files]
    pages = [name for name in ("report.html", "video.mp4") if name in there]
    tables = [name for name in there if name not in pages]
    lines += [f"{'open' if i == 0 else '':10}{folder / name}" for i, name in enumerate(pages)]
    if tables:
        lines.append(f"results   {folder / tables[0]}{''.join(f', {name}' for name in tables[1:])}")
    return "\n".join(lines)


def why_no_identities(outcome: Outcome, track_activation_threshold: float, detector: str | None) -> str:
    """Why no object has an identity after a run, and what to try."""
    if not outcome.boxes and outcome.left_out:
        return f"--classes, --min-score or --nms left out all {outcome.left_out} boxes: change them"
    if not outcome.boxes and detector == "motion":
        return (
            "the detector found no box: motion needs a camera that stands still, objects that move, and some frames to "
            "learn the background; try more frames, or a detector that works on single frames, such as own"
        )
    if outcome.weak_boxes == outcome.boxes and detector == "nanodet":
        return (
            f"no box of the detector's classes scores above {track_activation_threshold:g}, which starts a track (the "
            f"best has {outcome.best_score:.2f}); try --detector own (any object), --detector motion (for a camera "
            "that stands still), --classes all, or a lower --set track_activation_threshold"
        )
    if not outcome.boxes and detector is None:
        return "these frames have no boxes: check that the detections are of this video"
    if not outcome.boxes:
        return "the detector found no box: try another detector, or a lower threshold of its own if it has one"
    if outcome.weak_boxes == outcome.boxes:
        return (
            f"the scores of all {outcome.boxes} boxes are too low: a score above {track_activation_threshold:g} starts "
            f"a track, and the highest is {outcome.best_score:.2f}; "
            f"try --set track_activation_threshold={outcome.best_score / 2:.2f}"
        )
    strong = outcome.boxes - outcome.weak_boxes
    return (
        f"{strong} of {outcome.boxes} boxes have a score above {track_activation_threshold:g}, which starts a track, "
        "but no track was matched in the frames after it; try more frames, or a smaller --stride"
    )
