"""Frame numbers of the times that a user gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from test_sources import JITTER, write_images, write_times, write_video

from masa_track.errors import InputError
from masa_track.video.sources import open_source
from masa_track.video.times import frame_of


def test_frame_numbers_and_times_of_a_constant_rate(tmp_path):
    source = open_source(write_images(tmp_path, range(1, 11)), fps=2)  # frames at 0, 0.5, ..., 4.5 s
    for text, start, end in [
        ("1", 1, 1),
        ("7", 7, 7),
        ("1500", 1500, 1500),
        ("0s", 1, 1),
        ("0.5s", 2, 2),
        ("0.6s", 3, 2),
        ("0:01", 3, 3),
        ("0:00:01.9", 5, 4),
        ("4.5s", 10, 10),
    ]:
        assert (frame_of(text, source), frame_of(text, source, end=True)) == (start, end), text
    assert frame_of("1:02:03.5", source, end=True) == 10, "the end may be later than the last frame"
    with pytest.raises(InputError, match=r"--start 1:30 is after the last frame of .*, which comes at 4\.500 s"):
        frame_of("1:30", source)


def test_long_times(tmp_path):
    source = open_source(write_images(tmp_path, range(1, 11)), fps=1 / 1000)  # frames at 0, 1000, ..., 9000 s
    assert frame_of("90s", source) == 2
    assert frame_of("16:40", source) == frame_of("100:00", source, end=True) - 5 == 2
    assert frame_of("2:13:20", source) == frame_of("8000s", source) == 9
    assert frame_of("2:13:20.5", source) == 10
    assert frame_of("2:13:19.5", source, end=True) == 8


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_variable_frame_rate_goes_by_its_timestamps(tmp_path, name):
    source = open_source(write_times(tmp_path / name, JITTER, g="12"))
    times = np.array(JITTER) / 1000
    for seconds in (0.0, 0.8, 3.21, 7.777, float(times[40]), float(times[-1])):
        assert frame_of(f"{seconds}s", source) == 1 + int(np.flatnonzero(times >= seconds - 1e-3)[0])
        assert frame_of(f"{seconds}s", source, end=True) == 1 + int(np.flatnonzero(times <= seconds + 1e-3)[-1])


def test_the_frames_read_are_those_of_the_times(tmp_path):
    source = open_source(write_video(tmp_path / "a.mp4", count=90))
    frames = list(source.frames(start=frame_of("1.41s", source), stop=frame_of("0:02.01", source, end=True)))
    assert [round(frame.time, 3) for frame in (frames[0], frames[-1])] == [1.44, 2.0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0", "must be a frame number from 1, got 0; for a time write 0s"),
        ("12.5", "a frame number, 1500, or a time: 12.5s, 1:30, 1:02:03.5; got '12.5'; for seconds write 12.5s"),
        ("-3", "got '-3'"),
        ("", "got ''"),
        ("1m", "got '1m'"),
        ("1:2:3:4", "got '1:2:3:4'"),
        ("nan", "got 'nan'"),
        ("9" * 5000, "must be a frame number"),
        ("1:75", "must be below 60, got '1:75'"),
        ("1:75:00", "must be below 60, got '1:75:00'"),
    ],
)
def test_other_texts_are_refused(tmp_path, text, said):
    source = open_source(write_images(tmp_path, [1]))
    for end, argument in ((False, "--start"), (True, "--end")):
        with pytest.raises(InputError) as error:
            frame_of(text, source, end)
        assert said in str(error.value)
        assert str(error.value).startswith(argument)


def test_a_live_source_has_no_times_yet(monkeypatch):
    from test_sources import Camera

    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    source = open_source("2")
    assert frame_of("100", source, end=True) == 100
    with pytest.raises(InputError, match="--end must be a frame number for a live source, got 90s"):
        frame_of("90s", source, end=True)
