"""A video in the making: what a kill leaves, and how a resumed run goes on."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from test_sources import write_times
from test_video_out import picture, read

from masa_track.video.parts import join_parts, part_times, parts_of
from masa_track.video.sources import open_source
from masa_track.video.writer import VideoWriter

RATE = 10


def write(writer: VideoWriter, first: int, last: int) -> None:
    """Frames first, ..., last of a video of noise, which is large, each the same whenever it is written."""
    for number in range(first, last + 1):
        noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
        writer.write(noise, 7 + (number - 1) / RATE)


def part(folder: Path, number: int, first: int, last: int) -> None:
    """Part ``number``, as a killed run leaves it when the encoder has given all its frames."""
    writer = VideoWriter(folder / "video.mp4", 64, 48, RATE, first_part=number, start_time=7.0)
    write(writer, first, last)
    writer._complete_part()


def numbers(path: Path) -> list[int]:
    """The numbers of a video's frames, from what they show."""
    known = [np.random.default_rng(n).integers(0, 256, (48, 64, 3), np.uint8).astype(int) for n in range(1, 61)]
    return [1 + int(np.argmin([np.abs(k - f).mean() for k in known])) for f in read(path)[1]]


def test_a_resumed_run_goes_on_in_another_part(tmp_path):
    """It begins some frames before the end of the part before it; these are not shown twice."""
    part(tmp_path, 1, 1, 25)
    part(tmp_path, 2, 21, 40)
    writer = VideoWriter(tmp_path / "video.mp4", 64, 48, RATE, first_part=3, start_time=7.0)
    write(writer, 36, 55)
    assert [path.name for path in parts_of(tmp_path)] == [".video-0001.mp4", ".video-0002.mp4", ".video-0003.mp4"]
    assert writer.close()
    assert os.listdir(tmp_path) == ["video.mp4"]
    facts, _, times = read(tmp_path / "video.mp4")
    assert times == pytest.approx([n / RATE for n in range(55)], abs=1e-4)
    assert facts.rate == RATE
    assert numbers(tmp_path / "video.mp4") == list(range(1, 56))
    data = (tmp_path / "video.mp4").read_bytes()
    assert 0 < data.index(b"moov") < data.index(b"mdat")


def test_a_finished_video_can_be_the_first_part(tmp_path):
    """A run that was ended in good order goes on."""
    part(tmp_path, 1, 1, 25)
    join_parts(parts_of(tmp_path), tmp_path / "video.mp4")
    (tmp_path / "video.mp4").replace(parts_of(tmp_path)[0])
    writer = VideoWriter(tmp_path / "video.mp4", 64, 48, RATE, first_part=2, start_time=7.0)
    write(writer, 26, 40)
    writer.close()
    assert numbers(tmp_path / "video.mp4") == list(range(1, 41))
    assert read(tmp_path / "video.mp4")[2] == pytest.approx([n / RATE for n in range(40)], abs=1e-4)


def test_a_part_that_another_one_begins_before_gives_nothing(tmp_path):
    part(tmp_path, 1, 1, 20)
    part(tmp_path, 2, 18, 30)
    part(tmp_path, 3, 11, 25)
    assert join_parts(parts_of(tmp_path), tmp_path / "out.mp4") == 25
    assert numbers(tmp_path / "out.mp4") == list(range(1, 26))
    assert len(parts_of(tmp_path)) == 3, "joining alone leaves the parts"


@pytest.mark.parametrize("keep", [0.0, 0.002, 0.3, 0.5, 0.77, 0.999])
def test_a_part_cut_anywhere_gives_its_frames(tmp_path, keep):
    part(tmp_path, 1, 1, 40)
    path = parts_of(tmp_path)[0]
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    frames = join_parts([path], tmp_path / "out.mp4")
    assert frames >= 40 * keep - RATE - 1, "less than a fragment of a second is lost"
    assert (frames == 0) == (not (tmp_path / "out.mp4").exists()) == (part_times(path) is None)
    if frames:
        assert numbers(tmp_path / "out.mp4") == list(range(1, frames + 1))
        assert part_times(path) == (0, pytest.approx((frames - 1) / RATE))


KILLED = """
import sys
import numpy as np
from masa_track.video.writer import VideoWriter
writer, number = VideoWriter(sys.argv[1], 64, 48, 10), 0
while True:
    number += 1
    noise = np.random.default_rng(number).integers(0, 256, (48, 64, 3), np.uint8)
    writer.write(noise, 7 + (number - 1) / 10)
    print(number, flush=True)
"""


def test_a_kill_leaves_a_video_that_can_be_played(tmp_path):
    (tmp_path / "video.mp4").write_bytes(b"earlier")
    command = [sys.executable, "-c", KILLED, str(tmp_path / "video.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if int(line) >= 60:
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
    (left,) = parts_of(tmp_path)
    done = numbers(left)
    assert len(done) >= 20
    assert done == list(range(1, len(done) + 1))
    assert (tmp_path / "video.mp4").read_bytes() == b"earlier"
    resumed = len(done) - 4
    writer = VideoWriter(tmp_path / "video.mp4", 64, 48, RATE, first_part=2, start_time=7.0)
    write(writer, resumed, 60)
    writer.close()
    assert numbers(tmp_path / "video.mp4") == list(range(1, 61))
    assert read(tmp_path / "video.mp4")[2] == pytest.approx([n / RATE for n in range(60)], abs=1e-4)
    assert os.listdir(tmp_path) == ["video.mp4"]


def test_parts_of_another_run_are_removed(tmp_path):
    for number in (1, 2, 3):
        part(tmp_path, number, 10 * number, 10 * number + 9)
    writer = VideoWriter(tmp_path / "video.mp4", 64, 48, RATE, first_part=2, start_time=7.0)
    assert [path.name for path in parts_of(tmp_path)] == [".video-0001.mp4", ".video-0002.mp4"]
    writer.abandon()
    assert os.listdir(tmp_path) == [".video-0001.mp4"], "a resumed run that fails does not remove the part before it"
    VideoWriter(tmp_path / "video.mp4", 64, 48, RATE).abandon()
    assert os.listdir(tmp_path) == []


def test_other_files_are_no_parts(tmp_path):
    for name in (".video-1.mp4", "video-0001.mp4", ".videos-0001.mp4", ".video-0001.mkv", ".video-0001.mp4.part"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / ".video-0007.mp4").mkdir()
    for number in (10000, 2, 9999):
        (tmp_path / f".video-{number:04d}.mp4").write_bytes(b"x")
    assert [path.name[7:-4] for path in parts_of(tmp_path)] == ["0002", "9999", "10000"]
    assert parts_of(tmp_path / "none") == []


def test_a_resumed_run_without_a_frame_keeps_those_before(tmp_path):
    part(tmp_path, 1, 1, 12)
    assert VideoWriter(tmp_path / "video.mp4", 64, 48, RATE, first_part=2, start_time=7.0).close()
    assert numbers(tmp_path / "video.mp4") == list(range(1, 13))
    assert os.listdir(tmp_path) == ["video.mp4"]


def test_without_room_for_a_copy_the_part_becomes_the_video(tmp_path):
    (tmp_path / ".video.mp4.part").mkdir()  # so the copy cannot be made
    with VideoWriter(tmp_path / "video.mp4", 64, 48, RATE) as writer:
        write(writer, 1, 15)
    assert numbers(tmp_path / "video.mp4") == list(range(1, 16))
    assert sorted(os.listdir(tmp_path)) == [".video.mp4.part", "video.mp4"]


@pytest.mark.slow
def test_on_a_full_disk_the_parts_stay(tmp_path):
    part(tmp_path, 1, 1, 20)
    part(tmp_path, 2, 21, 40)
    size = sum(path.stat().st_size for path in parts_of(tmp_path))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    joined, faults = 0, set()
    for limit in [0, 40, size // 2, *range(size - 2000, size + 500, 100)]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            joined = join_parts(parts_of(tmp_path), tmp_path / "video.mp4")
        except OSError as error:
            faults.add(error.filename)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert joined == (len(read(tmp_path / "video.mp4")[1]) if (tmp_path / "video.mp4").exists() else 0)
        assert len(os.listdir(tmp_path)) == 2 + bool(joined), "the parts stay, and nothing is left of a try"
    assert joined == 40
    assert faults == {str(tmp_path / "video.mp4")}


def test_parts_of_another_size_are_not_joined(tmp_path):
    part(tmp_path, 1, 1, 12)
    with (
        pytest.raises(OSError, match="the parts differ in size or encoding"),
        VideoWriter(tmp_path / "video.mp4", 80, 48, RATE, first_part=2, start_time=7.0) as writer,
    ):
        writer.write(picture(80, 48), 8.2)
    assert len(parts_of(tmp_path)) == len(os.listdir(tmp_path)) == 2


def test_an_irregular_source_keeps_its_pace(tmp_path):
    """A pause of 3 s is a pause of 3 s in the video, and it lasts as long as its source."""
    at = np.cumsum([0, *np.random.default_rng(3).integers(15, 90, 60)])
    at[31:] += 3000
    source = open_source(write_times(tmp_path / "source.mkv", at.tolist()))
    with VideoWriter(tmp_path / "video.mp4", source.width, source.height, source.fps) as writer:
        for frame in source.frames():
            writer.write(frame.image, frame.time)
    times = read(tmp_path / "video.mp4")[2]
    assert times == pytest.approx((at / 1000).tolist(), abs=2e-3)
    assert times[31] - times[30] == pytest.approx((at[31] - at[30]) / 1000, abs=2e-3)
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(at[-1] / 1000, abs=0.1)


def test_a_part_without_room_for_its_last_fragment_is_an_error(tmp_path):
    """Not a video that lacks frames: FFmpeg forgets the error if more is written behind the fragment."""
    part(tmp_path, 1, 1, 15)
    size = parts_of(tmp_path)[0].stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    ends = []
    for limit in (size - 3000, size - 500, size - 100, 2 * size):  # x264's sizes differ by bytes, seldom
        writer = VideoWriter(tmp_path / "video.mp4", 64, 48, RATE)
        write(writer, 1, 15)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            ends.append(writer.close())
        except OSError:
            ends.append(False)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert os.listdir(tmp_path) == (["video.mp4"] if ends[-1] else [])
    assert ends == [False, False, False, True]
    assert len(read(tmp_path / "video.mp4")[1]) == 15
