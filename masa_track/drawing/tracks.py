"""Draws the tracks of a frame: masks, boxes, labels, traces and the tree of parts. Filled and lost boxes are dashed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import cv2
import numpy as np
import supervision as sv

from masa_track.drawing.colours import COLOR_BY, TRACK_COLORS
from masa_track.errors import InputError, unknown_name
from masa_track.formats.rows import (
    ClassNames,
    class_ids,
    confidences,
    marks,
    part_rows,
    row_names,
    track_ids,
    tracked_rows,
)

MASK_OPACITY = 0.45  # what is below a mask can still be told
WIDEST_LINE = 1000  # pixels


class TrackDrawer:
    """Draws masks where there are any, boxes, ``#id class`` labels and short traces, coloured by identity or class.

    Keeps the box centres of the last ``trace_seconds``, nothing else.

    Args:
        width: of the frames, in pixels; with ``height`` it sets the thickness of lines and the size of text.
        height: of the frames, in pixels.
        fps: processed frames per second.
        class_names: the names by class id.
        trace_seconds: how far back a trace goes.
        color_by: ``identity`` or ``class``, what has a colour of its own. Classes whose ids differ by 12 share one.
        line_width: pixels of boxes and traces, 1 to 1000; None: by the size of the frames.
        scores: labels have the score in place of the identity: ``class 0.87``.

    Raises:
        InputError: for another ``color_by`` or ``line_width``.
    """

    def __init__(
        self,
        width: int,
        height: int,
        fps: float,
        class_names: ClassNames = None,
        trace_seconds: float = 1.5,
        color_by: str = "identity",
        line_width: int | None = None,
        scores: bool = False,
    ) -> None:
        if color_by not in COLOR_BY:
            raise unknown_name("color_by", color_by, COLOR_BY)
        side = min(width, height)
        check_line_width(line_width)
        line = line_width or max(1, round(side / 310))  # 2 at 480 and 720, 3 at 1080, 7 at 2160
        self._text_scale = max(0.38, side / 1600)  # of OpenCV's font; below 0.38 digits cannot be read
        self._text_thickness = max(1, round(self._text_scale * 1.6))
        self._text_padding = max(2, round(self._text_scale * 8))
        self._class_names = class_names
        self._trace_frames = min(max(2, round(fps * trace_seconds)), 240)
        self._palette = palette = sv.ColorPalette.from_hex(list(TRACK_COLORS))
        self._line = line
        lookup = sv.ColorLookup.CLASS if color_by == "class" else sv.ColorLookup.TRACK
        self._by_class, self._scores = color_by == "class", scores
        self._traces = sv.TraceAnnotator(
            palette, sv.Position.CENTER, trace_length=self._trace_frames, thickness=line, color_lookup=lookup
        )
        self._masks = sv.MaskAnnotator(palette, opacity=MASK_OPACITY, color_lookup=lookup)
        self._boxes = sv.BoxAnnotator(palette, thickness=line, color_lookup=lookup)
        self._labels = sv.LabelAnnotator(
            palette,
            color_lookup=lookup,
            text_color=sv.ColorPalette.from_hex([_ink(color) for color in TRACK_COLORS]),
            text_scale=self._text_scale,
            text_thickness=self._text_thickness,
            text_padding=self._text_padding,
        )

    def draw(
        self, frame: np.ndarray, detections: sv.Detections, lost: sv.Detections | None = None, corner: str = ""
    ) -> np.ndarray:
        """Draws one frame's tracks; call it for each processed frame in turn, also for those without tracks.

        Args:
            frame: (H, W, 3) uint8 BGR; it is not altered.
            detections: its rows, in pixels of the frame; those without an identity are not drawn.
            lost: tracks that were not detected, where they are expected; their boxes are dashed. None: draws none.
            corner: text for the upper left corner; empty: none.

        Returns:
            The drawing, (H, W, 3) uint8 BGR, a new array.
        """
        picture = np.ascontiguousarray(frame).copy()
        self._draw_tracks(picture, detections, lost)
        if corner:
            self._write_corner(picture, corner)
        return picture

    def _draw_tracks(self, picture: np.ndarray, detections: sv.Detections, lost: sv.Detections | None) -> None:
        """Draws into the picture."""
        if lost is not None and lost.tracker_id is not None:
            for box, number in zip(lost.xyxy.astype(int).tolist(), self._color_numbers(lost), strict=True):
                _dashed(picture, box, self._palette.by_idx(number).as_bgr(), self._line)
        height, width = picture.shape[:2]
        rows = tracked_rows(detections)
        boxes = np.asarray(rows.xyxy, dtype=np.float64)  # (N, 4) xyxy
        boxes = np.clip(boxes, 0, [width - 1, height - 1, width - 1, height - 1])
        seen = (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])  # the others are outside the picture
        rows.xyxy = boxes
        rows = cast(sv.Detections, rows[seen])
        rows.class_id = class_ids(rows)

        trace = self._traces.trace  # supervision prunes by frames that held a track; forget by elapsed frames
        recent = trace.frame_id > trace.current_frame_id - self._trace_frames
        trace.frame_id, trace.xy, trace.tracker_id = trace.frame_id[recent], trace.xy[recent], trace.tracker_id[recent]
        things = cast(sv.Detections, rows[~part_rows(rows)])
        if len(things) and things.mask is not None:
            self._masks.annotate(picture, things)
        self._traces.annotate(picture, things)
        if len(rows) == 0:
            return

        parts = part_rows(rows)
        if parts.any():
            self._draw_parts(picture, rows, parts)
            rows = cast(sv.Detections, rows[~parts])
            if len(rows) == 0:
                return
        numbers = self._color_numbers(rows)
        filled = marks(rows, "filled")
        self._boxes.annotate(picture, cast(sv.Detections, rows[~filled]))
        for row in np.flatnonzero(filled).tolist():
            color = self._palette.by_idx(numbers[row]).as_bgr()
            _dashed(picture, rows.xyxy[row].astype(int).tolist(), color, self._line)
        names = row_names(rows, self._class_names)
        if self._scores:
            labels = [f"{name} {score:.2f}" for name, score in zip(names, confidences(rows), strict=True)]
        else:
            labels = [f"#{i} {name}" for i, name in zip(track_ids(rows), names, strict=True)]
        rows.xyxy = self._label_places(rows.xyxy, labels, width)
        self._labels.annotate(picture, rows, labels=labels)

    def _draw_parts(self, picture: np.ndarray, rows: sv.Detections, parts: np.ndarray) -> None:
        """Draws parts in a light shade of the colour of their thing, with a line to what they belong to."""
        place_of = {identity: row for row, identity in enumerate(track_ids(rows))}
        parents = [int(identity) for identity in rows.data.get("parent_id", np.full(len(rows), -1))]
        numbers = self._color_numbers(rows)
        boxes = rows.xyxy.astype(int)
        names = [str(name) for name in rows.data["part"]]
        line, font = max(1, self._line // 2), (cv2.FONT_HERSHEY_SIMPLEX, self._text_scale)
        for row in np.flatnonzero(parts).tolist():
            top = row
            for _ in range(len(rows)):  # up to the thing
                above = place_of.get(parents[top])
                if above is None:
                    break
                top = above
            color = tuple(int(255 - 0.6 * (255 - value)) for value in self._palette.by_idx(numbers[top]).as_bgr())
            x1, y1, x2, y2 = boxes[row].tolist()
            cv2.rectangle(picture, (x1, y1), (x2, y2), color, line)
            above = place_of.get(parents[row])
            if above is not None:
                middles = [tuple(((boxes[i, :2] + boxes[i, 2:]) // 2).tolist()) for i in (row, above)]
                cv2.line(picture, middles[0], middles[1], color, line, cv2.LINE_AA)
            below = (x1 + line, y2 - 2 * line)
            cv2.putText(picture, names[row], below, *font, (0, 0, 0), line + 2, cv2.LINE_AA)
            cv2.putText(picture, names[row], below, *font, color, line, cv2.LINE_AA)

    def draw_stuff(self, picture: np.ndarray, numbers: np.ndarray, names: Mapping[int, str]) -> np.ndarray:
        """A picture with stuff tinted and named.

        Args:
            picture: (H, W, 3) uint8 BGR; it is not altered.
            numbers: (H, W) int, number of the segment of each pixel.
            names: of the segments that are stuff, by number.
        """
        drawn = picture.copy()
        font = (cv2.FONT_HERSHEY_SIMPLEX, 0.8 * self._text_scale)
        for number, name in names.items():
            mask = numbers == number
            if not mask.any():
                continue
            color = np.array(self._palette.by_idx(number).as_bgr())
            drawn[mask] = (0.75 * picture[mask] + 0.25 * color).astype(np.uint8)
            inside = cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, 3)
            y, x = np.unravel_index(int(inside.argmax()), inside.shape)
            cv2.putText(drawn, name, (int(x) - 20, int(y)), *font, (255, 255, 255), 1, cv2.LINE_AA)
        return drawn

    def _write_corner(self, picture: np.ndarray, text: str) -> None:
        """Writes white text on black into the upper left corner."""
        font = (cv2.FONT_HERSHEY_SIMPLEX, self._text_scale)
        (width, height), below = cv2.getTextSize(text, *font, self._text_thickness)
        space = self._text_padding
        picture[: height + below + 2 * space, : width + 2 * space] = 0
        cv2.putText(picture, text, (space, height + space), *font, (255, 255, 255), self._text_thickness, cv2.LINE_AA)

    def _color_numbers(self, rows: sv.Detections) -> list[int]:
        """The number of each row's colour."""
        return class_ids(rows).tolist() if self._by_class else track_ids(rows)

    def _label_places(self, boxes: np.ndarray, labels: list[str], width: int) -> np.ndarray:
        """The boxes, (N, 4), moved so that the label above each top left corner is inside the picture."""
        places = boxes.copy()
        for place, label in zip(places, labels, strict=True):
            font = (cv2.FONT_HERSHEY_SIMPLEX, self._text_scale, self._text_thickness)
            (text_width, text_height), _ = cv2.getTextSize(label, *font)
            place[0] = max(0, min(place[0], width - text_width - 2 * self._text_padding))
            place[1] = max(place[1], text_height + 2 * self._text_padding)
        return places


def check_line_width(pixels: int | None) -> None:
    """Checks a width of lines; None is allowed.

    Raises:
        InputError: it is not 1 to 1000.
    """
    if pixels is not None and not 1 <= pixels <= WIDEST_LINE:
        raise InputError(f"line_width must be 1 to {WIDEST_LINE} pixels, got {pixels}")


def _dashed(picture: np.ndarray, box: list[int], color: tuple[int, int, int], line: int) -> None:
    """Draws a box (x1, y1, x2, y2) with dashes of four lines' width and gaps as long."""
    x1, y1, x2, y2 = box
    dash = 4 * line
    for x in range(x1, x2, 2 * dash):
        for y in (y1, y2):
            cv2.line(picture, (x, y), (min(x + dash, x2), y), color, line)
    for y in range(y1, y2, 2 * dash):
        for x in (x1, x2):
            cv2.line(picture, (x, y), (x, min(y + dash, y2)), color, line)


def _ink(color: str) -> str:
    """Black or white, whichever is easier to read on ``#rrggbb`` (WCAG's relative luminance, simplified)."""
    red, green, blue = (int(color[i : i + 2], 16) / 255 for i in (1, 3, 5))
    return "#101418" if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.28 else "#ffffff"
