"""The report's pictures as inline SVG: live tracks over time above a bar chart of who lived when.

Everything stands at a percentage of the plot's width, so that text keeps its size on a phone.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from masa_track.drawing.colours import track_color
from masa_track.report.records import Bin, TrackRecord

CURVE_HEIGHT = 84
PRESENCE_HEIGHT = 40
TIME_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 21600, 43200, 86400)


@dataclass(frozen=True)
class Axis:
    """The horizontal axis: linear in frame numbers, with the seconds read from the bins' clocks.

    Attributes:
        low: the left edge, half a frame before the first.
        high: the right edge, half a frame after the last.
        frames: frame numbers, (K,) rising.
        times: their seconds, (K,) never falling; empty where the source has no clock.
    """

    low: float
    high: float
    frames: np.ndarray
    times: np.ndarray

    @classmethod
    def of(cls, bins: Sequence[Bin]) -> Axis:
        """The axis over all bins, of which there is at least one."""
        points = [(b.first_frame, b.first_time) for b in bins] + [(bins[-1].last_frame, bins[-1].last_time)]
        frames = np.array([frame for frame, _ in points], dtype=np.float64)
        known = [time for _, time in points if time is not None and np.isfinite(time)]
        times = np.maximum.accumulate(np.array(known)) if len(known) == len(points) else np.zeros(0)
        return cls(frames[0] - 0.5, frames[-1] + 0.5, frames, times)

    @property
    def has_clock(self) -> bool:
        """Whether the source has times."""
        return len(self.times) > 0 and self.times[-1] > self.times[0]

    def percent(self, frame: float) -> float:
        """Where a frame number stands, in per cent of the width."""
        return 100 * (frame - self.low) / (self.high - self.low)

    def time(self, frame: float) -> float:
        """The seconds of a frame number, between the bins' own by interpolation."""
        return float(np.interp(frame, self.frames, self.times))

    def video_places(self, seek_times: Sequence[tuple[int, float]]) -> list[tuple[float, float]]:
        """Where the video is at which time: (0..1 of the width, seconds since its first frame), both rising.

        A frame is shown from its time on, and on the axis from half a frame before its number. Without a clock only
        the start is known.

        Args:
            seek_times: numbers of frames and their seconds, both rising.
        """
        if not self.has_clock or not seek_times:
            return [(0.0, 0.0)]
        start = seek_times[0][1]
        return [(round(self.percent(frame - 0.5) / 100, 7), round(time - start, 3)) for frame, time in seek_times]

    def when(self, first: float, last: float) -> str:
        """A stretch in words: frames, and times where there are any."""
        one = first == last
        frames = f"frame {first:.0f}" if one else f"frames {first:.0f}\u2013{last:.0f}"
        if not self.has_clock:
            return frames
        start, end = clock(self.time(first)), clock(self.time(last))
        return f"{start}, {frames}" if one else f"{start}\u2013{end}, {frames}"

    def frame_ticks(self) -> list[tuple[float, str]]:
        """Round frame numbers, at most nine, as (per cent, label)."""
        ticks = _multiples(self.low, self.high, _frame_step((self.high - self.low) / 8))
        return [(self.percent(frame), f"{frame:.0f}") for frame in ticks if frame >= 1]

    def time_ticks(self) -> list[tuple[float, str]]:
        """Round times, at most nine, as (per cent, label); none where the source has no clock."""
        if not self.has_clock:
            return []
        low, high = float(self.times[0]), float(self.times[-1])
        wanted = (high - low) / 8
        place = bisect.bisect_left(TIME_STEPS, wanted)
        step = TIME_STEPS[place] if place < len(TIME_STEPS) else 86400 * np.ceil(wanted / 86400)
        ticks = _multiples(low, high, step)
        return [(self.percent(float(np.interp(time, self.times, self.frames))), clock(time)) for time in ticks]


def clock(seconds: float) -> str:
    """Seconds for people: ``3.2 s``, ``2:05``, ``1:02:05``, ``3 d 04:00``."""
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + " s"
    minutes, rest = divmod(int(seconds), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02d}"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours}:{minutes:02d}:{rest:02d}"
    return f"{hours // 24} d {hours % 24:02d}:{minutes:02d}"


def curve_svg(bins: Sequence[Bin], axis: Axis) -> tuple[str, int]:
    """Live tracks over time: their mean as a line, and their most as a band where a bin holds several frames.

    Returns:
        The SVG and the value at its top.
    """
    top = max(1, max(b.live_max for b in bins))
    mean: list[tuple[float, float]] = []
    most: list[tuple[float, float]] = []
    hits = []
    for b in bins:
        left, right = axis.percent(b.first_frame - 0.5), axis.percent(b.last_frame + 0.5)
        level, peak = b.live_sum / b.frames, b.live_max
        mean += [(left, 100 - 100 * level / top), (right, 100 - 100 * level / top)]
        most += [(left, 100 - 100 * peak / top), (right, 100 - 100 * peak / top)]
        said = f"{peak} alive" if b.frames == 1 else f"{level:.1f} alive on average, at most {peak}"
        hits.append(
            f'<rect class="hit" x="{left:.3f}%" width="{max(right - left, 0.01):.3f}%" height="100%">'
            f"<title>{said}\n{escape(axis.when(b.first_frame, b.last_frame))}</title></rect>"
        )
    band = "" if all(b.frames == 1 for b in bins) else f'<path class="band" d="{_path(most)}V100H{most[0][0]:.2f}Z"/>'
    svg = (
        f'<svg class="curve" width="100%" height="{CURVE_HEIGHT}" role="img" aria-label="Live tracks over time">'
        f"{_grid(axis)}"
        f'<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">{band}'
        f'<path class="area" d="{_path(mean)}V100H{mean[0][0]:.2f}Z"/><path class="line" d="{_path(mean)}"/></svg>'
        f"{''.join(hits)}</svg>"
    )
    return svg, top


def presence_svg(bins: Sequence[Bin], phrase: str, axis: Axis) -> str:
    """Presence of a phrase over time, 0 to 1, the mean of each bin. Frames without a value count as 0."""
    points: list[tuple[float, float]] = []
    hits = []
    for b in bins:
        left, right = axis.percent(b.first_frame - 0.5), axis.percent(b.last_frame + 0.5)
        value = b.presence.get(phrase, 0.0) / b.frames
        points += [(left, 100 - 100 * value), (right, 100 - 100 * value)]
        hits.append(
            f'<rect class="hit" x="{left:.3f}%" width="{max(right - left, 0.01):.3f}%" height="100%">'
            f"<title>{value:.2f}\n{escape(axis.when(b.first_frame, b.last_frame))}</title></rect>"
        )
    return (
        f'<svg class="curve" width="100%" height="{PRESENCE_HEIGHT}" role="img" '
        f'aria-label="Presence of {escape(phrase)} over time">{_grid(axis)}'
        '<svg width="100%" height="100%" viewBox="0 0 100 100" preserveAspectRatio="none">'
        f'<path class="area" d="{_path(points)}V100H{points[0][0]:.2f}Z"/><path class="line" d="{_path(points)}"/>'
        f"</svg>{''.join(hits)}</svg>"
    )


def timeline_svg(records: Sequence[TrackRecord], axis: Axis) -> tuple[str, str]:
    """A row per track with a bar for each stretch it lived and a thin line across its gaps.

    Args:
        records: the tracks, in the order of their rows.
        axis: the horizontal axis.

    Returns:
        Two SVGs of the same height: the labels, which link to the gallery, and the plot.
    """
    row = 24 if len(records) <= 30 else 18 if len(records) <= 90 else 13
    bar = row - (9 if row > 20 else 6 if row > 15 else 4)
    height = row * len(records)
    labels, rows = [], []
    for place, record in enumerate(records):
        top, middle = place * row, place * row + row / 2
        color, name = track_color(record.track_id), escape(record.name)
        label = f"#{record.track_id}"
        if record.parent >= 0:
            label, color = f"&#8627; {escape(record.name.split()[-1])}", f"{track_color(record.parent)}99"
            name += f" of #{record.parent}"
        labels.append(f'<a href="#track-{record.track_id}"><text x="100%" dx="-10" y="{middle:.1f}">{label}</text></a>')
        story = f"#{record.track_id} {name}\n{axis.when(record.first_frame, record.last_frame)}\n{_boxes(record.boxes)}"
        x1, x2 = axis.percent(record.first_frame - 0.5), axis.percent(record.last_frame + 0.5)
        gaps = f'<line class="gap" x1="{x1:.2f}%" x2="{x2:.2f}%" y1="{middle:.1f}" y2="{middle:.1f}"/>'
        bars = []
        for first, last in record.segments:
            left, right = axis.percent(first - 0.5), axis.percent(last + 0.5)
            title = f"<title>{story}\nthis stretch: {axis.when(first, last)}</title>"
            place_and_size = f'x="{left:.2f}%" y="{middle - bar / 2:.1f}" width="{right - left:.2f}%" height="{bar}"'
            bars.append(
                f'<rect {place_and_size} rx="{min(3, bar / 3):.0f}">{title if len(record.segments) > 1 else ""}</rect>'
            )
        rows.append(
            f'<g class="row" style="--c:{color}"><title>{story}</title><rect class="hit" y="{top}" width="100%" '
            f'height="{row}"/>{gaps if len(bars) > 1 else ""}{"".join(bars)}</g>'
        )
    label_svg = f'<svg class="labels r{row}" width="100%" height="{height}">{"".join(labels)}</svg>'
    plot = (
        f'<svg class="rows" width="100%" height="{height}" role="img" aria-label="When each track lived">'
        f"{_grid(axis)}{''.join(rows)}</svg>"
    )
    return label_svg, plot


def axis_svg(ticks: Sequence[tuple[float, str]]) -> str:
    """A strip of tick labels; every second one hides on a narrow screen."""
    texts = [
        f'<text x="{percent:.2f}%" y="13"{_anchor(percent)}{" class=odd" if place % 2 else ""}>{escape(label)}</text>'
        for place, (percent, label) in enumerate(ticks)
    ]
    return f'<svg class="ticks" width="100%" height="19">{"".join(texts)}</svg>'


def _anchor(percent: float) -> str:
    return ' style="text-anchor:start"' if percent < 2 else ' style="text-anchor:end"' if percent > 98 else ""


def _grid(axis: Axis) -> str:
    ticks = axis.time_ticks() or axis.frame_ticks()
    lines = (f'<line x1="{percent:.2f}%" x2="{percent:.2f}%" y2="100%"/>' for percent, _ in ticks)
    return f'<g class="grid">{"".join(lines)}</g>'


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x:.2f} {y:.2f}" for x, y in points)


def _boxes(count: int) -> str:
    return "1 box" if count == 1 else f"{count:,} boxes"


def _frame_step(wanted: float) -> float:
    power = 10.0 ** np.floor(np.log10(max(wanted, 1)))
    return next(float(m * power) for m in (1, 2, 5, 10) if m * power >= wanted or m == 10)


def _multiples(low: float, high: float, step: float) -> list[float]:
    return [float(n * step) for n in range(int(np.ceil(low / step - 1e-9)), int(np.floor(high / step + 1e-9)) + 1)]
