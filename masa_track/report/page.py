"""The report as HTML: one page with its pictures, style sheet and script inside."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from urllib.parse import quote

from masa_track.drawing.colours import track_color
from masa_track.report.charts import (
    CURVE_HEIGHT,
    PRESENCE_HEIGHT,
    Axis,
    axis_svg,
    clock,
    curve_svg,
    presence_svg,
    timeline_svg,
)
from masa_track.report.records import Bin, TrackRecord
from masa_track.report.style import CSS, SCRIPT

OPEN_CARDS = 60  # the longest-lived tracks' cards; the rest is folded away
LISTED_BROKEN = 200


@dataclass
class Run:
    """What the page says about the run as a whole; every text may hold any character.

    Attributes:
        title: what was tracked.
        source: where it came from.
        width: of the frames, in pixels.
        height: of the frames, in pixels.
        fps: frames per second of the source.
        frames: processed.
        detections: rows given, with or without an identity.
        boxes: rows with an identity.
        identities: different ones.
        median_length: boxes of an identity.
        mean_length: boxes of an identity.
        facts: the settings.
        processing_fps: frames per second of the run.
        broken_frames: what could not be read.
        files: names of the results beside the page.
        cut_short: what is missing at the end of the source.
        seek_times: numbers of frames and their seconds, with linear interpolation between them; empty without a clock.
    """

    title: str
    source: str = ""
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    frames: int = 0
    detections: int = 0
    boxes: int = 0
    identities: int = 0
    median_length: float = 0.0
    mean_length: float = 0.0
    facts: dict[str, str] = field(default_factory=dict)
    processing_fps: float | None = None
    broken_frames: list[str] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    cut_short: str = ""
    seek_times: list[tuple[int, float]] = field(default_factory=list)


def render_page(run: Run, records: Sequence[TrackRecord], bins: Sequence[Bin], phrases: Sequence[str] = ()) -> str:
    """The page as text.

    Args:
        run: the counts, the settings and the names of files.
        records: the tracks to show, by their first appearance.
        bins: the curve of live tracks.
        phrases: whose presence the bins have.

    Returns:
        HTML that needs no other file but those it links to beside itself.
    """
    axis = Axis.of(bins) if bins else None
    body = [_header(run, axis), _tiles(run, bins, axis), _cut_short(run), _broken(run), _video_and_facts(run, axis)]
    if phrases and axis:
        body.append(_presence(bins, phrases, axis))
    if records and axis:
        body += [_timeline(run, records, bins, axis), _gallery(run, records)]
    else:
        body.append(_nothing(run))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(run.title)} &middot; masa-track</title><style>{CSS}</style></head>\n<body><main>\n"
        + "\n".join(part for part in body if part)
        + f"\n<footer>masa-track {_version()}</footer></main>\n<script>{SCRIPT}</script></body></html>\n"
    )


def _header(run: Run, axis: Axis | None) -> str:
    facts = []
    if run.width and run.height:
        facts.append(f"{run.width} &times; {run.height} px")
    if run.fps:
        facts.append(f"{run.fps:.4g} frames per second")
    if axis and axis.has_clock:
        facts.append(f"{clock(axis.time(axis.high) - axis.time(axis.low))} of video")
    source = "" if run.source in ("", run.title) else f'<p class="soft small">{escape(run.source)}</p>'
    return (
        f'<header><div class="over">Tracking report</div><h1>{escape(run.title)}</h1>'
        f'<p class="soft">{" &middot; ".join(facts)}</p>{source}</header>'
    )


def _tiles(run: Run, bins: Sequence[Bin], axis: Axis | None) -> str:
    seconds_per_frame = 0.0
    if axis and axis.has_clock and run.frames > 1:
        seconds_per_frame = (axis.time(axis.high) - axis.time(axis.low)) / (run.frames - 1)
    broken = _plural(len(run.broken_frames), "broken frame") if run.broken_frames else "none broken"
    share = f"{100 * run.boxes / run.detections:.0f} % of them" if run.detections else ""
    alive = run.boxes / run.frames if run.frames else 0.0
    life = f"mean {run.mean_length:.1f}"
    if seconds_per_frame and run.identities:
        life = f"{clock(run.median_length * seconds_per_frame)} &middot; {life}"
    tiles = [
        ("Identities", f"{run.identities:,}", ""),
        ("Frames processed", f"{run.frames:,}", broken),
        ("Detections", f"{run.detections:,}", f"{run.detections / run.frames:.1f} per frame" if run.frames else ""),
        ("Tracked boxes", f"{run.boxes:,}", share),
        ("Median length", f"{run.median_length:g} <small>frames</small>", life),
        ("Alive per frame", f"{alive:.1f}", f"at most {max((b.live_max for b in bins), default=0)}"),
    ]
    if run.processing_fps:
        tiles.append(("Speed", f"{run.processing_fps:.3g} <small>fps</small>", _pace(run)))
    return '<section class="tiles">' + "".join(_tile(*tile) for tile in tiles) + "</section>"


def _tile(what: str, value: str, also: str) -> str:
    also = also or "&nbsp;"
    return f'<div class="tile"><div class="what">{what}</div><b>{value}</b><div class="also">{also}</div></div>'


def _pace(run: Run) -> str:
    if not (run.fps and run.processing_fps):
        return ""
    return f"{run.processing_fps / run.fps:.2g}&times; the source's"


def _cut_short(run: Run) -> str:
    return f'<div class="note"><b>The video is not whole:</b> {escape(run.cut_short)}</div>' if run.cut_short else ""


def _broken(run: Run) -> str:
    if not run.broken_frames:
        return ""
    listed = ", ".join(escape(frame) for frame in run.broken_frames[:LISTED_BROKEN])
    more = len(run.broken_frames) - LISTED_BROKEN
    listed += f" and {more:,} more" if more > 0 else ""
    return (
        f'<details class="note"{" open" if len(run.broken_frames) <= 20 else ""}><summary>'
        f"{_plural(len(run.broken_frames), 'frame')} could not be read</summary><p>{listed}</p></details>"
    )


def _video_and_facts(run: Run, axis: Axis | None) -> str:
    facts = "".join(f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in run.facts.items())
    links = "".join(f'<a href="{quote(name)}">{escape(name)}</a>' for name in run.files)
    links = f'<div class="files">{links}</div>' if links else ""
    settings = f'<div class="panel">{_head("Settings")}<dl class="facts">{facts}</dl>{links}</div>'
    video = next((name for name in run.files if name.endswith(".mp4")), None)
    if video is None:
        return settings if facts or links else ""
    places = json.dumps(axis.video_places(run.seek_times) if axis else [(0, 0)])
    player = (
        f'<video controls muted playsinline preload="metadata" src="{quote(video)}" data-places="{places}"></video>'
    )
    return f'<section class="split"><div class="panel player">{player}</div>{settings}</section>'


def _timeline(run: Run, records: Sequence[TrackRecord], bins: Sequence[Bin], axis: Axis) -> str:
    curve, top = curve_svg(bins, axis)
    labels, rows = timeline_svg(records, axis)
    scale = (
        f'<svg width="100%" height="{CURVE_HEIGHT}"><text class="unit" x="100%" dx="-10" y="7">{top}</text>'
        f'<text class="unit" x="100%" dx="-10" y="{CURVE_HEIGHT - 6}">0</text></svg>'
    )
    said = "one row per identity, by first appearance"
    if run.identities > len(records):
        only = run.identities - len(records)
        said += f"; the {len(records)} longest-lived, {only:,} shorter ones are only counted"
    if any(record.closed_gaps for record in records):
        said += "; the smallest gaps of tracks with very many are closed"
    curve_row = _row("", scale, f'<div class="seek">{curve}</div>')
    frame_axis = _row("", _unit("frame"), axis_svg(axis.frame_ticks()))
    track_rows = _row("", labels, f'<div class="seek">{rows}</div>')
    time_axis = _row("foot", _unit("time"), axis_svg(axis.time_ticks())) if axis.has_clock else ""
    return (
        f'<section class="panel">{_head("Timeline", said)}<div class="scroll">'
        f'<div class="top"><div class="small soft">Identities alive</div>{curve_row}{frame_axis}</div>'
        f"{track_rows}{time_axis}</div></section>"
    )


def _presence(bins: Sequence[Bin], phrases: Sequence[str], axis: Axis) -> str:
    rows = []
    for phrase in phrases:
        label = (
            f'<svg width="100%" height="{PRESENCE_HEIGHT}"><text class="unit" x="100%" dx="-10" '
            f'y="{PRESENCE_HEIGHT // 2 + 4}">{escape(phrase)}</text></svg>'
        )
        rows.append(_row("", label, f'<div class="seek">{presence_svg(bins, phrase, axis)}</div>'))
    said = "probability, 0 to 1, that the phrase is in the frame at all"
    return (
        f'<section class="panel">{_head("Presence", said)}<div class="scroll">{"".join(rows)}'
        f"{_row('', _unit('frame'), axis_svg(axis.frame_ticks()))}</div></section>"
    )


def _row(kind: str, label: str, plot: str) -> str:
    return f'<div class="plot {kind}"><div>{label}</div><div class="right">{plot}</div></div>'


def _unit(name: str) -> str:
    return f'<svg width="100%" height="19"><text class="unit" x="100%" dx="-10" y="13">{name}</text></svg>'


def _gallery(run: Run, records: Sequence[TrackRecord]) -> str:
    longest = sorted(records, key=lambda record: (-record.boxes, record.first_frame, record.track_id))
    cards = [_card(record) for record in longest]
    rest = ""
    if len(cards) > OPEN_CARDS:
        rest = (
            f'<details class="more"><summary>Show {len(cards) - OPEN_CARDS} more</summary>'
            f'<div class="cards">{"".join(cards[OPEN_CARDS:])}</div></details>'
        )
    return (
        f'<section class="panel">{_head("Identities", "each at its largest and surest, the longest-lived first")}'
        f'<div class="cards">{"".join(cards[:OPEN_CARDS])}</div>{rest}</section>'
    )


def _card(record: TrackRecord) -> str:
    if record.thumbnail:
        data = base64.b64encode(record.thumbnail).decode("ascii")
        picture = f'<img alt="#{record.track_id}" src="data:image/jpeg;base64,{data}">'
    else:
        picture = "no picture"
    name = record.name + (f" of #{record.parent}" if record.parent >= 0 else "")
    frames = f"{record.first_frame}&ndash;{record.last_frame}"
    frames = f"frame {record.first_frame}" if record.first_frame == record.last_frame else f"frames {frames}"
    times = "&nbsp;"
    if record.first_time is not None and record.last_time is not None:
        times = f"{clock(record.first_time)} &ndash; {clock(record.last_time)}"
    confidence = record.confidence_sum / max(record.boxes, 1)
    return (
        f'<article class="card" id="track-{record.track_id}" style="--c:{track_color(record.track_id)}">'
        f'<div class="pic">{picture}</div><div class="text">'
        f'<h3>#{record.track_id} <span title="{escape(name)}">{escape(name)}</span></h3>'
        f"{frames}<br>{times}<br>{_plural(record.boxes, 'box', 'boxes')} &middot; confidence {confidence:.2f}"
        "</div></article>"
    )


def _nothing(run: Run) -> str:
    if run.frames == 0:
        why = "No frame was processed."
    elif run.detections == 0:
        why = "The detector found nothing: try a lower detection threshold or another detector."
    else:
        why = "There were detections, but none became an identity: try a lower threshold for new tracks."
    return f'<section class="panel">{_head("No identities")}<div class="soft">{why}</div></section>'


def _head(title: str, said: str = "") -> str:
    return f'<div class="head"><h2>{title}</h2><span class="soft small">{said}</span></div>'


def _plural(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _version() -> str:
    from masa_track import __version__

    return __version__
