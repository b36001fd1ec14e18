"""The report: what it says, that it stays small however long the video, and that it asks the network for nothing."""

from __future__ import annotations

import base64
import json
import os
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import supervision as sv

from masa_track.masks import compact_masks
from masa_track.report import records as report_records
from masa_track.report.charts import Axis, clock
from masa_track.report.records import (
    MAX_BINS,
    MAX_SEEK_TIMES,
    MAX_SEGMENTS,
    MAX_TRACKS,
    SLACK,
    Bin,
    LiveCurve,
    SeekTimes,
    TrackRecord,
    TrackRecords,
)
from masa_track.report.report import ReportBuilder

PICTURE = np.random.default_rng(0).integers(0, 255, (120, 160, 3), dtype=np.uint8)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Every tag in order, its text, and a check that each one is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data + " "

    def all(self, tag: str, kind: str | None = None) -> list[dict[str, str | None]]:
        return [a for t, a in self.tags if t == tag and (kind is None or kind in (a.get("class") or "").split())]


def rows(ids, boxes=None, scores=None) -> sv.Detections:
    boxes = [[20, 20, 60, 90]] * len(ids) if boxes is None else boxes
    return sv.Detections(
        xyxy=np.array(boxes, dtype=np.float32).reshape(-1, 4),
        confidence=np.array(scores or [0.5] * len(ids)),
        class_id=np.zeros(len(ids), int),
        tracker_id=np.array(ids, dtype=int),
    )


def build(
    lives: dict[int, list[int]], frames: int, fps: float | None = 10.0, image=PICTURE, **options
) -> ReportBuilder:
    builder = ReportBuilder("clip.mp4", fps=fps, **options)
    for n in range(1, frames + 1):
        builder.add(
            n, None if fps is None else (n - 1) / fps, image, rows([i for i, life in lives.items() if n in life])
        )
    return builder


def page_of(builder: ReportBuilder, folder, facts=None, **options) -> Page:
    builder.write(folder / "report.html", facts or {}, **options)
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def percent(text: str | None) -> float:
    return float((text or "").removesuffix("%"))


def test_counts_and_bars(tmp_path):
    lives = {5: [*range(1, 11)], 2: [*range(3, 6), *range(9, 11)], 9: [7]}
    builder = build(lives, 10)
    builder.add(11, 1.0, PICTURE, rows([-1, -1]))
    page = page_of(builder, tmp_path, {"model": "tiny"}, processing_fps=21.37, broken_frames=[12, "13: cut"])
    said = re.sub(r"\s+", " ", page.text)
    assert "Identities 3 " in said
    assert "Frames processed 11 2 broken frames" in said
    assert "Detections 18 1.6 per frame" in said
    assert "Tracked boxes 16 89 % of them" in said
    assert "Median length 5 frames 0.5 s \u00b7 mean 5.3" in said
    assert "Alive per frame 1.5 at most 2" in said
    assert "Speed 21.4 fps 2.1\u00d7 the source's" in said
    assert "2 frames could not be read 12, 13: cut" in said
    assert "model tiny" in said

    groups = re.findall(r'<g class="row".*?</g>', (tmp_path / "report.html").read_text(), re.DOTALL)
    assert [re.search(r"<title>#(\d+)", group).group(1) for group in groups] == ["5", "2", "9"], "by first appearance"
    bars = [[(percent(x), percent(w)) for x, w in re.findall(r'<rect x="(.*?)".*? width="(.*?)"', g)] for g in groups]
    frame = 100 / 11
    wanted = [[(0, 10)], [(2, 3), (8, 2)], [(6, 1)]]
    for got, bar in zip(bars, wanted, strict=True):
        assert np.allclose(got, np.array(bar) * frame, atol=0.02)
    assert ["gap" in group for group in groups] == [False, True, False]
    assert "0.2 s\u20130.9 s, frames 3\u201310" in groups[1]
    assert [card["id"] for card in page.all("article")] == ["track-5", "track-2", "track-9"], "longest-lived first"
    assert {a["href"] for a in page.all("a")} == {"#track-5", "#track-2", "#track-9"}


def test_it_is_one_file_that_asks_for_nothing(tmp_path):
    (tmp_path / "video.mp4").touch()
    (tmp_path / "tracks.csv").touch()
    page = page_of(build({1: [1, 2]}, 3), tmp_path)
    links = [a.get(k) for _, a in page.tags for k in ("src", "href", "srcset", "data", "poster", "action") if a.get(k)]
    assert {link for link in links if not link.startswith(("data:image/jpeg;base64,", "#track-"))} == {
        "video.mp4",
        "tracks.csv",
    }
    text = (tmp_path / "report.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttp", text)
    assert page.all("video")[0]["src"] == "video.mp4"
    assert os.listdir(tmp_path).count("report.html") == 1
    assert len(os.listdir(tmp_path)) == 3, "no part is left"


def test_only_the_results_there_are_linked_and_an_explicit_list_wins(tmp_path):
    builder = build({1: [1]}, 1)
    assert not page_of(builder, tmp_path).all("video")
    (tmp_path / "video.mp4").touch()
    assert page_of(builder, tmp_path).all("video")
    assert not page_of(builder, tmp_path, files=["tracks.txt"]).all("video"), "one of an earlier run is not shown"


def test_every_text_is_escaped(tmp_path):
    evil = "<script>alert('x')</script><img src=x onerror=\"y\">&amp;"
    builder = ReportBuilder(evil, source=evil + "2", class_names={0: evil})
    builder.add(1, 0.0, PICTURE, rows([1]))
    page = page_of(builder, tmp_path, {evil: evil}, broken_frames=[evil], files=[evil, '"x.mp4'])
    assert len(page.all("script")) == 1
    assert page.all("video")[0]["src"] == "%22x.mp4", "a name is not a query or a fragment either"
    assert not [a for a in page.all("img") if not a["src"].startswith("data:")]
    assert not [a for _, a in page.tags if "onerror" in a]
    assert page.text.count(evil) >= 6


def test_nothing_tracked_is_explained(tmp_path):
    builder = ReportBuilder("clip")
    assert "No frame was processed" in page_of(builder, tmp_path).text
    builder.add(1, None, PICTURE, sv.Detections.empty())
    assert "detector found nothing" in page_of(builder, tmp_path).text
    builder.add(2, None, PICTURE, rows([-1]))
    assert "none became an identity" in page_of(builder, tmp_path).text


@pytest.mark.parametrize("frames", [1, 2, 400])
def test_without_a_clock_there_are_frames_only(tmp_path, frames):
    page = page_of(build({1: [*range(1, frames + 1)]}, frames, fps=None), tmp_path)
    assert not re.search(r"\d s\b", page.text)
    assert f"frames 1\u2013{frames}" in page.text or frames == 1


@pytest.mark.parametrize("compact", [True, False])
def test_thumbnails_are_cut_out_by_the_mask(compact: bool) -> None:
    """A disc in its box: its colour in the middle, grey in the corners; the whole crop without a mask or with an empty
    one."""
    image = np.full((100, 200, 3), (200, 30, 30), np.uint8)
    rows, columns = np.mgrid[:100, :200]
    disc = (rows - 50) ** 2 + (columns - 80) ** 2 < 30**2
    image[disc] = (20, 160, 20)
    masks = np.array([disc, np.zeros_like(disc)])
    boxes = np.array([[50, 20, 110, 80], [50, 20, 110, 80]], np.float32)
    detections = sv.Detections(boxes, mask=compact_masks(masks) if compact else masks, tracker_id=np.array([1, 2]))
    builder = ReportBuilder("t", "")
    builder.add(1, 0.0, image, detections)
    detections.mask, detections.tracker_id = None, np.array([3, 4])
    builder.add(2, 0.1, image, detections)
    for track_id, corner in ((1, (232, 232, 232)), (2, (200, 30, 30)), (3, (200, 30, 30))):
        jpeg = builder._tracks.records[track_id].thumbnail
        crop = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).astype(int)
        assert np.abs(crop[4, 4] - corner).max() < 12
        assert np.abs(crop[crop.shape[0] // 2, crop.shape[1] // 2] - (20, 160, 20)).max() < 12


def test_thumbnail_is_the_largest_and_surest_and_prefers_the_whole(tmp_path):
    image = np.zeros((120, 160, 3), np.uint8)
    tests = [  # box, confidence, colour (BGR), is it taken?
        ([50, 50, 60, 60], 0.5, (255, 0, 0), True),
        ([50, 50, 60.5, 60.5], 0.5, (255, 255, 0), False),  # 10 % larger: not clearly better
        ([50, 50, 60, 60], 0.9, (0, 255, 0), True),
        ([40, 40, 90, 90], 0.01, (0, 255, 255), False),  # large, but not sure
        ([0, 40, 18, 58], 0.9, (255, 0, 255), False),  # larger, but cut by the border
        ([40, 40, 80, 80], 0.9, (0, 0, 255), True),
        ([-90, -90, -40, -40], 0.9, (255, 255, 255), False),  # outside
    ]
    builder = ReportBuilder("clip")
    taken = None
    for n, (box, score, color, better) in enumerate(tests, 1):
        builder.add(n, None, np.full_like(image, color), rows([1], [box], [score]))
        taken = color if better else taken
        jpeg = builder._tracks.records[1].thumbnail
        shown = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
        assert np.abs(shown.reshape(-1, 3).mean(axis=0) - taken).max() < 6, n
    assert max(shown.shape[:2]) <= 168
    source = page_of(builder, tmp_path).all("img")[0]["src"]
    assert base64.b64decode(source.partition(",")[2]) == jpeg


def test_frames_are_neither_altered_nor_kept():
    image = PICTURE.copy()
    detections = rows([1, 2])
    builder = ReportBuilder("clip")
    builder.add(1, 0.0, image, detections)
    assert (image == PICTURE).all()
    assert detections.tracker_id.tolist() == [1, 2]
    assert all(
        not isinstance(v, np.ndarray) for r in builder._tracks.records.values() for v in (r.thumbnail, r.segments)
    )


@pytest.mark.slow
def test_5000_identities_stay_bounded(tmp_path):
    builder = ReportBuilder("long", fps=10)
    rng = np.random.default_rng(1)
    lengths = rng.integers(5, 40, 5000)
    lengths[::500] = 400
    starts = np.sort(rng.integers(0, 9000, 5000))
    alive: dict[int, int] = {}
    place = 0
    frames, wanted = 0, 0
    while place < 5000 or alive:
        while place < 5000 and starts[place] <= frames:
            alive[place] = int(lengths[place])
            place += 1
        ids = sorted(alive)
        wanted += len(ids)
        builder.add(
            frames + 1, frames / 10, PICTURE, rows(ids, [[i % 90, i % 50, i % 90 + 30, i % 50 + 60] for i in ids])
        )
        frames += 1
        alive = {i: left - 1 for i, left in alive.items() if left > 1}
        assert len(builder._tracks.records) <= MAX_TRACKS + SLACK
    page = page_of(builder, tmp_path)
    assert len(builder._curve.bins) <= MAX_BINS
    assert sum(b.frames for b in builder._curve.bins) == frames
    assert sum(b.live_sum for b in builder._curve.bins) == wanted
    assert len(page.all("article")) == len(page.all("g", "row")) == MAX_TRACKS
    assert {f"track-{i}" for i in range(0, 5000, 500)} <= {card["id"] for card in page.all("article")}
    assert "Identities 5,000" in re.sub(r"\s+", " ", page.text)
    assert "4,500 shorter ones are only counted" in page.text
    assert builder._tracks.lengths() == (np.median(lengths), pytest.approx(lengths.mean()))
    assert os.path.getsize(tmp_path / "report.html") < 6e6


def test_a_forgotten_identity_that_returns_is_not_counted_again():
    tracks = TrackRecords()
    index = 0
    for i in range(MAX_TRACKS + SLACK + 50):
        for _ in range(1 if i == 0 else 3):
            tracks.get(i, "x", index + 1, None).extend(index, index + 1, None, "x", 1.0)
            tracks.prune(index)
            index += 1
    assert 0 not in tracks.records
    assert tracks.identities == MAX_TRACKS + SLACK + 50
    tracks.get(0, "x", index + 1, None)
    assert tracks.identities == MAX_TRACKS + SLACK + 50
    tracks.get(2**40, "x", index + 1, None)
    assert tracks.identities == MAX_TRACKS + SLACK + 51
    assert len(tracks._seen._bits) < 1000


def test_a_crowd_larger_than_the_page_is_no_crash(tmp_path):
    builder = ReportBuilder("crowd")
    for n in range(1, 4):
        builder.add(n, None, None, rows([*range(900)]))
    assert len(page_of(builder, tmp_path).all("article")) == MAX_TRACKS
    builder.add(4, None, None, rows([*range(850, 900)]))
    assert len(builder._tracks.records) <= MAX_TRACKS + SLACK
    assert set(range(850, 900)) <= set(builder._tracks.records), "who is there is not dropped"


def test_segments_are_capped_by_closing_the_smallest_gaps():
    record = TrackRecord(1, "x", 1, None)
    index, small = 0, []
    for k in range(3 * MAX_SEGMENTS):
        record.extend(index, index + 1, None, "x", 1.0)
        gap = 50 if k % 4 == 0 else 2
        small.append(gap)
        index += gap
    assert len(record.segments) == MAX_SEGMENTS
    assert record.closed_gaps == 2 * MAX_SEGMENTS
    assert (record.segments[0][0], record.segments[-1][1]) == (1, record.last_frame)
    gaps = [after[0] - before[1] for before, after in zip(record.segments, record.segments[1:], strict=False)]
    assert gaps.count(50) == small[:-1].count(50), "the large ones are still to be seen"
    assert record.boxes == 3 * MAX_SEGMENTS


def test_a_gap_is_a_processed_frame_without_the_track():
    builder = ReportBuilder("every third frame")
    for n, ids in ((1, [1]), (4, [1]), (7, []), (10, [1])):
        builder.add(n, None, None, rows(ids))
    assert builder._tracks.records[1].segments == [[1, 4], [10, 10]]


def test_the_curve_keeps_its_sums_and_peaks():
    curve = LiveCurve()
    live = np.random.default_rng(0).integers(0, 9, 5 * MAX_BINS + 3)
    for n, count in enumerate(live):
        curve.add(n + 1, n / 10, int(count))
        assert len(curve.bins) <= MAX_BINS
    start = 0
    for b in curve.bins:
        part = live[start : start + b.frames]
        assert (b.first_frame, b.last_frame) == (start + 1, start + b.frames)
        assert (b.live_sum, b.live_max) == (part.sum(), part.max())
        start += b.frames
    assert start == len(live)
    assert {b.frames for b in curve.bins[:-1]} == {curve.frames_per_bin}


def test_lengths_against_a_plain_median():
    for lengths in ([3], [3, 8], [3, 8, 8], [1, 2, 3, 4]):
        tracks = TrackRecords()
        for i, length in enumerate(lengths):
            record = tracks.get(i, "x", 1, None)
            record.boxes = length
        tracks._forgotten_lengths[lengths[0]] += 1
        del tracks.records[0]
        assert tracks.lengths() == (np.median(lengths), pytest.approx(np.mean(lengths)))
    assert TrackRecords().lengths() == (0, 0)
    assert report_records._rounded(1023) == 1023
    assert report_records._rounded(1_000_003) == pytest.approx(1_000_003, rel=2e-3)


def test_the_name_is_the_majoritys():
    record = TrackRecord(1, "cat", 1, None)
    for index, name in enumerate(["cat", "dog", "dog", "cat", "dog", "dog"]):
        record.extend(index, index + 1, None, name, 1.0)
    assert record.name == "dog"


def test_axis_with_an_uneven_clock():
    axis = Axis.of(
        [Bin(1, 10, 0.0, 0.9, 10, 0, 0), Bin(11, 20, 100.0, 100.9, 10, 0, 0), Bin(21, 21, 90.0, 101.0, 1, 0, 0)]
    )
    assert axis.percent(0.5) == 0
    assert axis.percent(21.5) == 100
    assert axis.time(11) == 100
    assert axis.when(11, 11) == "1:40, frame 11"
    for ticks in (axis.time_ticks(), axis.frame_ticks()):
        assert 2 <= len(ticks) <= 10
        assert all(0 <= place <= 100 for place, _ in ticks)


@pytest.mark.parametrize("last", [0.05, 0.9, 7, 59, 3600, 86400, 30 * 86400])
def test_ticks_are_few_and_different(last):
    axis = Axis.of([Bin(1, int(last * 25) + 2, 0.0, last, 1, 0, 0)])
    labels = [label for _, label in axis.time_ticks()]
    assert 1 <= len(labels) <= 10
    assert len(set(labels)) == len(labels)


def test_clock():
    said = [clock(s) for s in (0, 3.25, 59.94, 60, 125.9, 3725, 86400 * 3 + 4 * 3600)]
    assert said == ["0 s", "3.2 s", "59.9 s", "1:00", "2:05", "1:02:05", "3 d 04:00"]


def test_a_failing_write_leaves_the_earlier_page(tmp_path, monkeypatch):
    builder = build({1: [1]}, 1)
    builder.write(tmp_path / "report.html", {})
    before = (tmp_path / "report.html").read_bytes()
    monkeypatch.setattr("masa_track.files.os.replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        builder.write(tmp_path / "report.html", {"new": 1})
    assert os.listdir(tmp_path) == ["report.html"]
    assert (tmp_path / "report.html").read_bytes() == before


def test_what_is_missing_is_shown(tmp_path):
    builder = ReportBuilder("clip")
    page_of(builder, tmp_path, cut_short="<84> frames are missing")
    assert "The video is not whole:</b> &lt;84&gt; frames are missing" in (tmp_path / "report.html").read_text()
    page_of(builder, tmp_path)
    assert "not whole" not in (tmp_path / "report.html").read_text()


def test_places_of_the_video_follow_the_clock(tmp_path):
    """A click seeks by the frames' times, not by their numbers: here the camera stood still after frame 2."""
    builder = ReportBuilder("clip")
    for number, seconds in ((1, 3.0), (2, 3.1), (3, 9.0), (4, 9.1)):
        builder.add(number, seconds, None, rows([1]))
    builder.write(tmp_path / "report.html", {}, files=["video.mp4"])
    text = (tmp_path / "report.html").read_text()
    places = json.loads(re.search('data-places="([^"]*)"', text)[1])
    assert places == [[0, 0], [0.25, 0.1], [0.5, 6.0], [0.75, 6.1]]


def seconds_after_a_click(text: str, place: float) -> float:
    """What the page's script computes, without the time after the last frame."""
    places = json.loads(re.search('data-places="([^"]*)"', text)[1])
    return float(np.interp(place, *zip(*places, strict=True)))


@pytest.mark.parametrize("stride", [1, 3])
def test_a_click_goes_to_the_frame_in_a_long_irregular_video(tmp_path, stride):
    """3000 frames from 2001 on, as of a run with --start: more than the curve has bins; with pauses of 3 s."""
    numbers = 2001 + stride * np.arange(3000)
    times = 80 + 0.04 * stride * np.arange(3000) + np.random.default_rng(0).uniform(0, 0.01, 3000)
    for pause in (701, 702, 1503, 2999):
        times[pause:] += 3
    builder = ReportBuilder("clip")
    for number, seconds in zip(numbers.tolist(), times.tolist(), strict=True):
        builder.add(number, seconds, None, rows([]))
    builder.write(tmp_path / "report.html", {}, files=["video.mp4"])
    text = (tmp_path / "report.html").read_text()
    low, width = numbers[0] - 0.5, numbers[-1] - numbers[0] + 1
    for index in (0, 1, 650, 700, 701, 702, 703, 1502, 1503, 2000, 2998):
        found = seconds_after_a_click(text, (numbers[index] - 0.49 - low) / width)
        assert times[index] - times[0] - 0.005 <= found < times[index + 1] - times[0], index
    assert len(text) < 200_000


def test_seek_times_are_few_and_right():
    rng = np.random.default_rng(0)
    constant, pause = 0.04 * np.arange(10_000), np.arange(5000) / 30
    pause[2500:] += 3
    uneven = np.cumsum(rng.uniform(0.01, 0.1, 20_000))
    for times, most in ((constant, 2), (pause, 4), (np.round(pause, 3), 4), (uneven, MAX_SEEK_TIMES + 1)):
        seek = SeekTimes()
        for number, seconds in enumerate(times.tolist(), 1):
            seek.add(number, seconds)
        frames, seconds = zip(*seek.points(), strict=True)
        assert (frames[0], frames[-1], len(frames) <= most) == (1, len(times), True)
        found = np.interp(np.arange(1, len(times) + 1), frames, seconds)
        assert np.abs(found - times).max() <= 2 * seek.tolerance
        assert seek.tolerance < 0.5
    one = SeekTimes()
    one.add(7, 1.0)
    assert one.points() == [(7, 1.0)]


def test_presence_is_a_curve(tmp_path):
    """The mean of each bin, whatever was joined; frames without a value count as 0."""
    builder = ReportBuilder("presence")
    values = np.random.default_rng(0).random(2 * MAX_BINS + 7)
    for n, value in enumerate(values):
        presence = {"a <red> car": value, "dog": 0.5} if n % 3 else None
        builder.add(n + 1, n / 10, None, rows([]), presence)
    start = 0
    for b in builder._curve.bins:
        part = [v for n, v in enumerate(values[start : start + b.frames], start) if n % 3]
        assert b.presence["a <red> car"] == pytest.approx(sum(part))
        assert b.presence["dog"] == pytest.approx(0.5 * len(part))
        start += b.frames
    builder.write(tmp_path / "report.html", {})
    page = (tmp_path / "report.html").read_text()
    assert "Presence of a &lt;red&gt; car over time" in page
    assert page.count('class="curve"') == 2  # there are no identities, whose curve is another one


def test_presence_of_many_phrases_is_bounded():
    curve = LiveCurve()
    curve.add(1, 0.0, 0, {str(n): 0.5 for n in range(100)})
    assert len(curve.phrases) == len(curve.bins[0].presence) == report_records.MAX_PHRASES
