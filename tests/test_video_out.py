"""The annotated video, read back; and what is drawn on it."""

from __future__ import annotations

import os
from fractions import Fraction
from typing import NamedTuple

import av
import numpy as np
import pytest
import supervision as sv

from masa_track.drawing.colours import TRACK_COLORS
from masa_track.drawing.tracks import TrackDrawer
from masa_track.errors import InputError
from masa_track.video.writer import VideoWriter


def picture(width: int, height: int, value: int = 0) -> np.ndarray:
    across = np.linspace(0, 200, width, dtype=np.uint8)[None, :, None]
    return np.broadcast_to(across, (height, width, 3)).copy() + np.uint8(value)


class Facts(NamedTuple):
    """What a closed container can no longer be asked."""

    codec: str
    pixels: str
    rate: Fraction
    frames: int
    width: int
    height: int
    colours: tuple


def read(path) -> tuple[Facts, list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        frames = [(f.to_ndarray(format="bgr24"), f.time) for f in container.decode(stream)]
        colours = (context.colorspace, context.color_primaries, context.color_trc)
        facts = Facts(
            context.name, context.pix_fmt, stream.average_rate, stream.frames, stream.width, stream.height, colours
        )
        return facts, [f for f, _ in frames], [t for _, t in frames]


@pytest.mark.parametrize(("width", "height"), [(64, 48), (65, 48), (64, 49), (67, 51), (1, 1)])
@pytest.mark.parametrize(
    ("fps", "wanted"), [(25, Fraction(25)), (30000 / 1001, Fraction(30000, 1001)), (12.5, Fraction(25, 2))]
)
def test_reads_back(tmp_path, width, height, fps, wanted):
    path = tmp_path / "video.mp4"
    with VideoWriter(path, width, height, fps) as writer:
        for value in (0, 20, 40, 50, 55):
            writer.write(picture(width, height, value))
            assert not path.exists(), "not in its place before it is whole"
    assert os.listdir(tmp_path) == ["video.mp4"]
    stream, frames, times = read(path)
    assert stream.codec == "h264"
    assert stream.pixels == "yuv420p"
    assert stream.rate == wanted
    assert len(frames) == stream.frames == 5
    assert times == pytest.approx([n / float(wanted) for n in range(5)], abs=1e-3)
    even = (height + height % 2, width + width % 2)
    assert all(frame.shape[:2] == even for frame in frames)
    if width > 1:
        error = np.abs(frames[4][:height, :width].astype(int) - picture(width, height, 55).astype(int))
        assert error.mean() < 4
        edge = frames[4][:, even[1] - 1].astype(int) - frames[4][:, even[1] - 2].astype(int)
        assert np.abs(edge).mean() < 8, "an odd size is filled with its own edge, not black"


@pytest.mark.parametrize(("fps", "step"), [(30, 0.2), (1, 0.24), (25, 0.04), (24000 / 1001, 1001 / 24000)])
def test_frames_are_shown_at_their_times(tmp_path, fps, step):
    """Also where the source's frame rate is not what it says."""
    path = tmp_path / "video.mp4"
    seconds = [100 + step * n for n in range(12)]
    seconds[6:] = [at + 5 for at in seconds[6:]]  # a pause
    with VideoWriter(path, 64, 48, fps) as writer:
        for value, at in enumerate(seconds):
            writer.write(picture(64, 48, value), at)
    _, _, times = read(path)
    assert times == pytest.approx([at - 100 for at in seconds], abs=1e-4)
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(12 * step + 5, abs=1e-3)


def test_a_time_that_does_not_rise(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", 64, 48, 10) as writer:
        for at in (1.0, 1.0, 0.5, 2.0):
            writer.write(picture(64, 48), at)
        with pytest.raises(ValueError, match="seconds must be finite, got nan"):
            writer.write(picture(64, 48), float("nan"))
    times = read(tmp_path / "v.mp4")[2]
    assert times == pytest.approx([0, 0, 0, 1], abs=1e-3)
    assert times == sorted(set(times))


def test_a_frame_too_wide_for_the_coder_is_scaled(tmp_path):
    with VideoWriter(tmp_path / "v.mp4", 20000, 16, 10) as writer:
        writer.write(np.zeros((16, 20000, 3), np.uint8))
    assert read(tmp_path / "v.mp4")[0].width == 16384


def test_colours_survive(tmp_path):
    path = tmp_path / "video.mp4"
    color = np.array([30, 60, 200], np.uint8)
    with VideoWriter(path, 64, 64, 10) as writer:
        for _ in range(3):
            writer.write(np.full((64, 64, 3), color))
    stream, _, _ = read(path)
    assert stream.colours[:2] == (1, 1)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0)).reformat(format="bgr24", src_colorspace="ITU709").to_ndarray()
    assert np.abs(frame.astype(int) - color.astype(int)).max() <= 6


def test_the_index_stands_before_the_data(tmp_path):
    with VideoWriter(tmp_path / "video.mp4", 64, 48, 25) as writer:
        for value in range(30):
            writer.write(picture(64, 48, value))
    data = (tmp_path / "video.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def stopped(path, frames: int, error: BaseException) -> None:
    with VideoWriter(path, 64, 48, 25) as writer:
        for value in range(frames):
            writer.write(picture(64, 48, value))
        raise error


def test_a_crash_keeps_the_earlier_video_and_no_part(tmp_path):
    path = tmp_path / "video.mp4"
    path.write_bytes(b"earlier")
    for frames in (0, 1, 20):
        with pytest.raises(RuntimeError, match="stop"):
            stopped(path, frames, RuntimeError("stop"))
        assert os.listdir(tmp_path) == ["video.mp4"]
        assert path.read_bytes() == b"earlier"


def test_ctrl_c_keeps_the_frames_done(tmp_path):
    path = tmp_path / "video.mp4"
    with pytest.raises(KeyboardInterrupt):
        stopped(path, 7, KeyboardInterrupt())
    assert len(read(path)[1]) == 7
    assert os.listdir(tmp_path) == ["video.mp4"]


def test_closing_twice_and_abandoning_afterwards_change_nothing(tmp_path):
    writer = VideoWriter(tmp_path / "video.mp4", 64, 48, 25)
    writer.write(picture(64, 48))
    writer.close()
    writer.close()
    writer.abandon()
    assert os.listdir(tmp_path) == ["video.mp4"]


def test_no_frame_is_no_video(tmp_path):
    with VideoWriter(tmp_path / "video.mp4", 64, 48, 25):
        pass
    assert os.listdir(tmp_path) == []


def test_a_frame_of_another_size_is_fitted_in(tmp_path):
    with VideoWriter(tmp_path / "video.mp4", 64, 48, 5) as writer:
        writer.write(np.full((100, 20, 3), 255, np.uint8))
        writer.write(np.full((48, 64, 3), 255, np.uint8))
    _, (tall, whole), _ = read(tmp_path / "video.mp4")
    assert whole.min() > 240
    assert tall[:, 29:35].min() > 200
    assert tall[:, :20].max() < 40
    assert tall[:, 44:].max() < 40


def test_mistakes_are_named(tmp_path):
    with pytest.raises(ValueError, match="fps must be finite and above 0, got 0"):
        VideoWriter(tmp_path / "v.mp4", 64, 48, 0)
    with pytest.raises(ValueError, match="fps must be finite and above 0, got nan"):
        VideoWriter(tmp_path / "v.mp4", 64, 48, float("nan"))
    with pytest.raises(ValueError, match="at least 1 pixel, got 0 x 48"):
        VideoWriter(tmp_path / "v.mp4", 0, 48, 25)
    with VideoWriter(tmp_path / "v.mp4", 64, 48, 25) as writer:
        for bad in (np.zeros((48, 64), np.uint8), np.zeros((48, 64, 3), np.float32), np.zeros((0, 64, 3), np.uint8)):
            with pytest.raises(ValueError, match=r"must be \(H, W, 3\) uint8 BGR, got"):
                writer.write(bad)


def detections(ids, boxes) -> sv.Detections:
    boxes = np.array(boxes, dtype=np.float32).reshape(-1, 4)
    made = sv.Detections(
        xyxy=np.nan_to_num(boxes),
        class_id=np.zeros(len(ids), int),
        confidence=np.full(len(ids), 0.9),
        tracker_id=np.array(ids, dtype=object),
    )
    made.xyxy = boxes  # supervision looks for NaNs when it is made, not afterwards
    return made


def bgr(track_id: int) -> list[int]:
    color = TRACK_COLORS[track_id % len(TRACK_COLORS)]
    return [int(color[i : i + 2], 16) for i in (5, 3, 1)]


def has_color(image: np.ndarray, track_id: int) -> bool:
    return bool((image == bgr(track_id)).all(axis=2).any())


def test_draws_the_tracked_only_and_not_on_its_input():
    frame = np.full((480, 640, 3), 90, np.uint8)
    frame.setflags(write=False)
    rows = detections(
        [3, -1, None, 4, 5], [[100, 100, 200, 300], [300, 100, 400, 300], [420, 100, 500, 300]] + [[np.nan] * 4] * 2
    )
    drawn = TrackDrawer(640, 480, 25).draw(frame, rows)
    assert (frame == 90).all()
    assert has_color(drawn, 3)
    assert (drawn[150, 99:102] == bgr(3)).all(axis=1).any(), "the box's left edge"
    assert (drawn[:, 290:] == 90).all(), "the others are not drawn"
    assert rows.xyxy[0].tolist() == [100, 100, 200, 300]


def test_a_track_keeps_its_colour_whatever_its_row():
    frame = np.zeros((480, 640, 3), np.uint8)
    boxes = {1: [50, 100, 150, 300], 2: [250, 100, 350, 300], 13: [450, 100, 550, 300]}
    one = TrackDrawer(640, 480, 25).draw(frame, detections([1, 2], [boxes[1], boxes[2]]))
    other = TrackDrawer(640, 480, 25).draw(frame, detections([2, 1], [boxes[2], boxes[1]]))
    assert (one == other).all()
    assert bgr(1) == bgr(13) != bgr(2)


def test_a_colour_for_each_class():
    frame = np.zeros((480, 640, 3), np.uint8)
    rows = detections([1, 2, 3], [[50, 100, 150, 300], [250, 100, 350, 300], [450, 100, 550, 300]])
    rows.class_id = np.array([5, 5, 16])
    drawn = TrackDrawer(640, 480, 25, color_by="class").draw(frame, rows, lost=rows)
    for x, color in ((50, 5), (250, 5), (450, 16)):
        assert (drawn[200, x - 1 : x + 2] == bgr(color)).all(axis=1).any()
    assert not any(has_color(drawn, identity) for identity in (1, 2, 3))
    rows.class_id = None  # one class, 0
    assert has_color(TrackDrawer(640, 480, 25, color_by="class").draw(frame, rows), 0)
    with pytest.raises(InputError, match="unknown color_by 'track'"):
        TrackDrawer(640, 480, 25, color_by="track")


@pytest.mark.parametrize(
    "box",
    [
        [-50, -50, 20, 20],
        [620, 460, 900, 900],
        [-500, -500, -400, -400],
        [1e30, 0, 1e31, 50],
        [30, 30, 30, 30],
        [0, 0, 640, 480],
    ],
)
def test_a_box_at_or_beyond_the_border_is_no_crash(box):
    frame = np.zeros((480, 640, 3), np.uint8)
    drawn = TrackDrawer(640, 480, 25).draw(frame, detections([3], [box]))
    inside = min(box[2], 640) - max(box[0], 0) > 0 and min(box[3], 480) - max(box[1], 0) > 0
    assert has_color(drawn, 3) == inside


def test_labels_stay_inside_the_picture():
    drawer = TrackDrawer(640, 480, 25, {0: "person"})
    top = drawer.draw(np.zeros((480, 640, 3), np.uint8), detections([3], [[600, 0, 639, 200]]))
    colored = (top[:14] == bgr(3)).all(axis=2)
    assert colored[:, :599].any(), "at the top right corner the label begins left of its box"
    assert colored[1].sum() > 45, "and none of its width is outside"


def test_traces_are_short_and_memory_is_flat():
    drawer = TrackDrawer(640, 480, fps=10, trace_seconds=1.5)
    black = np.zeros((480, 640, 3), np.uint8)
    for n in range(200):
        x = 20 + 2 * n
        drawn = drawer.draw(black, detections([3], [[x, 200, x + 40, 300]]))
    assert len(drawer._traces.trace.frame_id) <= 16
    line = np.flatnonzero((drawn[248:253, : x - 3] == bgr(3)).all(axis=2).any(axis=0))
    assert 0 <= line.size <= 2 * 16, "the trail behind the box is no longer than 15 frames"
    drawer = TrackDrawer(640, 480, fps=10, trace_seconds=1.5)
    for x in (300, 310, 320):
        drawer.draw(black, detections([3], [[x, 200, x + 40, 300]]))
    for _ in range(30):
        drawer.draw(black, detections([], []))
    again = drawer.draw(black, detections([3], [[10, 200, 50, 300]]))
    assert (again[240:260, 60:] == 0).all(), "a track that comes back is not joined to where it was"


def test_lines_grow_with_the_picture():
    box = [[100, 100, 400, 400]]
    widths = []
    for width, height in ((640, 480), (3840, 2160)):
        drawn = TrackDrawer(width, height, 25).draw(np.zeros((height, width, 3), np.uint8), detections([3], box))
        widths.append(int((drawn[350, 50:150] == bgr(3)).all(axis=1).sum()))
    assert 1 <= widths[0] <= 3
    assert widths[1] >= 6
