"""Videos, image folders, patterns, cameras and addresses, whole and damaged."""

from __future__ import annotations

import functools
import http.server
import re
import socket
import threading
import traceback
import weakref
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.video import images, streams
from masa_track.video.addresses import masked, masked_in
from masa_track.video.frame_numbers import FrameNumbers
from masa_track.video.keyframes import find_entry
from masa_track.video.sources import open_source

WIDTH, HEIGHT = 160, 96


def picture(number: int) -> np.ndarray:
    """A picture that says its number, in eight blocks, to whoever decodes it."""
    image = np.full((HEIGHT, WIDTH, 3), 60, np.uint8)
    for bit in range(8):
        image[16:64, bit * 20 : bit * 20 + 20] = 255 * (number >> bit & 1)
    image[70:90, number * 2 % 140 :][:, :20] = (0, 200, 50)
    return image


def said(image: np.ndarray) -> int:
    return sum(1 << bit for bit in range(8) if image[30:50, bit * 20 + 5 : bit * 20 + 15].mean() > 127)


def write_video(path, count=60, codec="libx264", size=(WIDTH, HEIGHT), rotation=0, **options):
    with av.open(str(path), "w", options={"movflags": "+faststart"} if path.suffix == ".mp4" else {}) as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"g": "12", "bf": "2", **options} if codec == "libx264" else options
        if rotation:
            stream.set_display_rotation(rotation)
        for number in range(1, count + 1):
            image = cv2.resize(picture(number), size)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    return path


def packets(path) -> list[tuple[int, int, int]]:
    """(place in the file, size, 1-based number of the frame in it) in decoding order."""
    with av.open(str(path)) as container:
        found = [(p.pos, p.size, p.pts) for p in container.demux(video=0) if p.size]
    shown = sorted(pts for _, _, pts in found)
    return [(pos, size, shown.index(pts) + 1) for pos, size, pts in found]


def blank(path, pos: int, size: int) -> None:
    data = bytearray(path.read_bytes())
    data[pos : pos + size] = bytes(size)
    path.write_bytes(data)


def write_images(folder, numbers, suffix=".png", form="{:06d}"):
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / (form.format(number) + suffix)), picture(number))
    return folder


def read(source, **options):
    """([(number, what the picture says)], [(number, reason)])"""
    broken = []
    frames = source.frames(on_broken=lambda number, reason: broken.append((number, reason)), **options)
    return [(frame.number, said(frame.image)) for frame in frames], broken


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.mp4", "libx264"),
        ("a.mkv", "libx264"),
        ("a.ts", "libx264"),
        ("a.flv", "libx264"),
        ("a.avi", "libx264"),  # without pts
        ("b.avi", "mpeg4"),
        ("c.avi", "mjpeg"),
    ],
)
def test_video(tmp_path, name, codec):
    source = open_source(write_video(tmp_path / name, codec=codec))
    assert (source.name, source.width, source.height, source.fps, source.live) == (name[0], WIDTH, HEIGHT, 25.0, False)
    assert source.length is None or abs(source.length - 60) <= 2
    assert source.last_number is None, "a video's length is a hint"
    assert read(source) == ([(n, n) for n in range(1, 61)], [])
    frames = list(source.frames())
    assert [frame.time for frame in frames] == pytest.approx([i / 25 for i in range(60)], abs=2e-3)
    assert (frames[0].name, frames[59].name) == ("000001.jpg", "000060.jpg")
    assert frames[0].image.dtype == np.uint8
    assert frames[0].image.shape == (HEIGHT, WIDTH, 3)
    assert read(source, stride=7, max_frames=3) == ([(1, 1), (8, 8), (15, 15)], [])


def test_colours_are_bgr(tmp_path):
    image = next(iter(open_source(write_video(tmp_path / "a.mp4")).frames())).image
    assert image[80, 12].astype(int) == pytest.approx([0, 200, 50], abs=30)


def test_a_decoder_does_not_log_in_python(tmp_path):
    """Its threads would wait for Python's lock, and whoever closes it for them."""
    write_video(tmp_path / "clip.mp4")
    av.logging.set_level(av.logging.ERROR)  # as importing an older torchvision does
    assert len(read(open_source(tmp_path / "clip.mp4"))[0]) == 60
    assert av.logging.get_level() is None


def test_fps_can_be_given(tmp_path):
    source = open_source(write_video(tmp_path / "a.mp4", count=4), fps=10)
    assert source.fps == 10
    assert [frame.time for frame in source.frames()] == pytest.approx([0, 0.1, 0.2, 0.3])
    for fps in (0, -1, float("nan"), float("inf")):
        with pytest.raises(InputError, match="fps must be finite and above 0"):
            open_source(tmp_path / "a.mp4", fps=fps)


def test_odd_names(tmp_path):
    path = write_video(tmp_path / "plain.mp4", count=3)
    for name in ("http:odd %03d[1]*.mp4", "a b.mp4"):
        other = path.rename(tmp_path / name)
        source = open_source(other)
        assert len(list(source.frames())) == 3
        assert re.fullmatch(r"[\w.-]+", source.name)
        path = other


@pytest.mark.slow
@pytest.mark.parametrize("index", [0, 3, 13, 24, 30, 47, 58, 59])
def test_a_lost_packet_leaves_a_gap(tmp_path, index):
    """Whatever is lost with it, every frame that is given has its own number, and all others are reported, in order."""
    path = write_video(tmp_path / "a.mp4")
    pos, size, number = packets(path)[index]
    blank(path, pos, size)
    got, broken = read(open_source(path))
    lost = [n for n, _ in broken]
    assert number in lost
    assert lost == sorted(set(lost))
    assert sorted([n for n, _ in got] + lost) == list(range(1, 61))
    assert all("could not be decoded" in reason for _, reason in broken)
    # A picture built on the lost one (a B-frame comes before it) shows a wrong one, only until the next key frame.
    assert {n for n, says in got if n != says} <= set(range(number - 3, number + 12))
    assert len(got) >= 59 - 12


def test_a_lost_b_frame_costs_only_itself(tmp_path):
    path = write_video(tmp_path / "a.mp4", **{"b-pyramid": "none"})
    pos, size, number = packets(path)[30]
    assert number < packets(path)[29][2], "it must come after a later frame, else it is no B-frame"
    blank(path, pos, size)
    got, broken = read(open_source(path))
    assert [n for n, _ in broken] == [number]
    assert got == [(n, n) for n in range(1, 61) if n != number]


def test_a_frame_the_decoder_calls_damaged_is_reported(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    pos, size, number = packets(path)[30]
    data = bytearray(path.read_bytes())
    data[pos + 10 : pos + size] = np.random.default_rng(0).bytes(size - 10)  # the slice's header stays whole
    path.write_bytes(data)
    got, broken = read(open_source(path))
    assert broken == [(number, "is damaged")]
    assert [n for n, _ in got] == [n for n in range(1, 61) if n != number]


def test_a_lost_packet_without_pts_counts_too(tmp_path):
    path = write_video(tmp_path / "a.avi", codec="mjpeg")
    pos, size, number = packets(path)[30]
    with path.open("rb") as file:
        data = file.read()
    start = data.index(b"\xff\xd8", pos)
    blank(path, start, size)
    got, broken = read(open_source(path))
    assert [n for n, _ in broken] == [number] == [31]
    assert got == [(n, n) for n in range(1, 61) if n != number]


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv"])
def test_half_a_file_gives_its_frames(tmp_path, name):
    path = write_video(tmp_path / name)
    cut = packets(path)[35][0] + 5  # in the 36th packet
    path.write_bytes(path.read_bytes()[:cut])
    whole = {number for pos, _, number in packets(write_video(tmp_path / f"whole{path.suffix}"))[:35]}
    got, broken = read(open_source(path))
    assert len(got) >= 34
    # By then 34 of the first 35 are known; the packet of one shown between them may be cut off, and no gap tells.
    assert [n == says for n, says in got if n <= 33] == [True] * 33
    assert {says for _, says in got} <= whole | {36}
    assert len(broken) <= 2


def test_half_a_file_with_its_index_at_the_end_is_refused(tmp_path):
    path = tmp_path / "a.mov"
    write_video(path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(InputError, match=r"a\.mov' is not a video, or not a whole one"):
        open_source(path)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "about"), [("a.mp4", ""), ("a.mkv", "about "), ("a.flv", "about "), ("b.avi", "")])
def test_a_video_cut_short_tells_how_much_is_missing(tmp_path, name, about):
    path = write_video(tmp_path / name, codec="mjpeg" if name == "b.avi" else "libx264")
    source = open_source(path)
    read(source)
    assert source.cut_short == "", "a whole one"
    read(source, max_frames=5)
    assert source.cut_short == "", "who stops early knows nothing about the end"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(path)
    for stride in (1, 3):
        got, broken = read(source, stride=stride)
        told = re.fullmatch(
            rf"its header announces {about}60 frames, but the file ends after frame (\d+): "
            rf"{about}(\d+) frames are missing \(([\d.]+) s\); the file was cut short",
            source.cut_short,
        )
        assert told
        last, missing = int(told[1]), int(told[2])
        assert last + missing == 60
        assert last - stride < max(got[-1][0], *(n for n, _ in [(0, ""), *broken])) <= last
        assert float(told[3]) == pytest.approx(missing / 25, abs=0.1)


def test_sound_that_goes_on_after_the_pictures_is_no_cut(tmp_path):
    for name in ("a.mkv", "a.flv", "a.mp4"):
        with av.open(str(tmp_path / name), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
            sound = container.add_stream("aac", rate=44100)
            for number in range(1, 11):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24")))
            container.mux(stream.encode())
            for number in range(130):  # 3 s
                samples = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
                samples.sample_rate, samples.pts = 44100, number * 1024
                container.mux(sound.encode(samples))
            container.mux(sound.encode())
        source = open_source(tmp_path / name)
        assert len(read(source)[0]) == 10
        assert source.cut_short == ""


def write_times(path, milliseconds, rate=30, **options):
    """A video with a frame at each of these times."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.time_base, stream.options = Fraction(1, 1000), options
        for number, at in enumerate(milliseconds, 1):
            frame = av.VideoFrame.from_ndarray(picture(number), format="bgr24")
            frame.pts, frame.time_base = at, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_variable_frame_rate_is_no_cut(tmp_path, name):
    times = np.cumsum([0, *np.random.default_rng(1).integers(20, 900, 20)]).tolist()
    source = open_source(write_times(tmp_path / name, times))
    assert [frame.time for frame in source.frames()] == pytest.approx([t / 1000 for t in times], abs=2e-3)
    assert source.cut_short == ""


JITTER = np.cumsum([0, *np.random.default_rng(2).integers(20, 300, 89)]).tolist()  # ms
OPEN_GROUPS = {"x264-params": "open-gop=1:b-adapt=0"}  # frames shown before a keyframe follow it in the file
FILES = {  # name: (file, what it is made with)
    "B-frames": ("a.mp4", {"bf": "3", "b-adapt": "0"}),
    "Matroska": ("a.mkv", {}),
    "AVI": ("a.avi", {}),
    "MPEG-TS": ("a.ts", {}),
    "Flash": ("a.flv", {}),
    "open groups": ("a.mp4", OPEN_GROUPS),
    "gradual refresh": ("a.mp4", {"x264-params": "intra-refresh=1:bframes=0", "g": "20"}),
    "one keyframe": ("a.mp4", {"g": "1000"}),
    "H.265": ("a.mp4", {"codec": "libx265", "x265-params": "keyint=12:min-keyint=12:open-gop=1:log-level=0"}),
    "MPEG-4": ("a.mp4", {"codec": "mpeg4"}),
    "VP9": ("a.webm", {"codec": "libvpx-vp9"}),
}


def same_frames(source, start, **options):
    """Compares what is read from ``start`` on with a whole reading."""
    broken_all, broken = [], []
    whole = list(source.frames(on_broken=lambda *one: broken_all.append(one)))
    some = list(source.frames(on_broken=lambda *one: broken.append(one), start=start, **options))
    wanted = [f for f in whole if f.number >= start]
    assert [(f.number, f.time, f.name, f.size) for f in some] == [(f.number, f.time, f.name, f.size) for f in wanted]
    assert all((one.image == other.image).all() for one, other in zip(some, wanted, strict=True))
    assert broken == [one for one in broken_all if one[0] >= start]
    return some


QUICK = ("B-frames", "MPEG-TS")


@pytest.mark.slow
@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in FILES])
def test_reading_from_a_later_frame_gives_the_same_frames(tmp_path, kind):
    name, options = FILES[kind]
    options = dict(options)
    codec = options.pop("codec", "libx264")
    if codec not in av.codecs_available:
        pytest.skip(f"PyAV has no {codec} here")
    source = open_source(write_video(tmp_path / name, count=90, codec=codec, **options))
    for start in (1, 2, 33, 48, 60, 61, 73, 90):
        assert same_frames(source, start)[0].number == start
    assert [f.number for f in source.frames(7, start=50, stop=71)] == [50, 57, 64, 71]
    assert [f.number for f in source.frames(start=50, stop=50)] == [50]
    assert [f.number for f in source.frames(2, 2, start=50, stop=80)] == [50, 52]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_reading_a_variable_frame_rate_from_a_later_frame(tmp_path, name):
    source = open_source(write_times(tmp_path / name, JITTER, g="12"))
    for start in (40, 70):
        assert same_frames(source, start)[0].time == pytest.approx(JITTER[start - 1] / 1000, abs=2e-3)
    assert list(source.frame_times()) == [frame.time for frame in source.frames()]
    given = open_source(tmp_path / name, fps=10)
    assert same_frames(given, 70)[0].time == 6.9
    assert list(given.frame_times())[69] == 6.9


@pytest.mark.parametrize("index", [14, *(pytest.param(i, marks=pytest.mark.slow) for i in (24, 40, 48, 49, 70, 89))])
def test_reading_a_damaged_file_from_a_later_frame(tmp_path, index):
    path = write_video(tmp_path / "a.mp4", count=90)
    pos, size, _ = packets(path)[index]
    blank(path, pos, size)
    for start in (60, 80):
        same_frames(open_source(path), start)


def test_reading_half_a_file_from_a_later_frame(tmp_path):
    path = write_video(tmp_path / "a.mkv", count=200)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    source = open_source(path)
    last = same_frames(source, 70)[-1].number
    assert "frames are missing" in source.cut_short
    with pytest.raises(InputError, match=f"start must be at most {last}, the number of frames of a, got 190"):
        list(source.frames(start=190))


def test_packets_before_the_keyframe_are_not_decoded(tmp_path):
    """Keyframes are at frames 1, 13, 25, ..."""
    for name, options in (("a.mp4", {}), ("b.mkv", {}), ("c.ts", {}), ("d.mp4", {"intra-refresh": "1", "bf": "0"})):
        path = write_video(tmp_path / name, count=90, **options)
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            entry = find_entry(container.demux(stream), stream, 70, joined=False)
        assert (None if entry is None else entry.frames_before) == (None if options else 36)


def test_a_start_needs_no_earlier_image(tmp_path, monkeypatch):
    source = open_source(write_images(tmp_path, range(1, 10)))
    read_paths = []
    real = images.read_image
    monkeypatch.setattr(images, "read_image", lambda path, scale: read_paths.append(path.name) or real(path, scale))
    assert [(f.number, f.time) for f in source.frames(2, start=5, stop=8)] == [(5, 4 / 30), (7, 6 / 30)]
    assert read_paths == ["000005.png", "000007.png"]
    assert len(same_frames(source, 5)) == 5


def test_start_and_stop_are_checked(tmp_path):
    source = open_source(write_images(tmp_path / "i", range(1, 10)))
    video = open_source(write_video(tmp_path / "a.mp4"))
    for one in (source, video):
        with pytest.raises(InputError, match="start must be a frame number, at least 1, got 0"):
            one.frames(start=0)
        with pytest.raises(InputError, match="stop must be at least start, 5, got 4"):
            one.frames(start=5, stop=4)
    with pytest.raises(InputError, match="start must be at most 9, the number of frames of i, got 10"):
        source.frames(start=10)
    for start in (61, 500):
        with pytest.raises(InputError, match=f"start must be at most 60, the number of frames of a, got {start}"):
            list(video.frames(start=start))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.flv", "a.avi", "b.avi"])
def test_times_without_decoding(tmp_path, name):
    source = open_source(write_video(tmp_path / name, codec="mpeg4" if name == "b.avi" else "libx264"))
    assert list(source.frame_times()) == [frame.time for frame in source.frames()]


def packet(pts, dts=None, keyframe=True):
    made = av.Packet(b"x")
    made.pts, made.dts, made.is_keyframe = pts, pts if dts is None else dts, keyframe
    return made


@pytest.mark.parametrize(
    ("clock", "wanted"),
    [
        ([0, 150, 300, 0, 150, 300], [0, 0.15, 0.3, 0.34, 0.49, 0.64]),  # started anew
        ([1000, 1040, 0, 40], [0, 0.04, 0.08, 0.12]),
        ([0, 40, 40, 80], [0, 0.04, 0.041, 0.08]),  # twice the same
    ],
)
def test_times_rise_whatever_the_clock_does(clock, wanted):
    numbers = FrameNumbers(counting=False, joined=False, time_base=1e-3, interval=0.04)
    seconds = []
    for pts in clock:
        numbers.sent(packet(pts))
        numbers.received(pts, corrupt=False)
        seconds.append(numbers.seconds)
    assert seconds == pytest.approx(wanted)


def test_counting_goes_on_from_the_last_known_time():
    numbers = FrameNumbers(counting=False, joined=False, time_base=1e-3, interval=0.04)
    for pts in (0, 500, None, None):  # from 500 ms on the stream has no times
        numbers.sent(packet(pts))
        numbers.received(pts, corrupt=False)
    assert (numbers.last, numbers.seconds) == (4, pytest.approx(0.58))


def test_an_avi_counts_its_dropped_frames_as_time():
    numbers = FrameNumbers(counting=True, joined=False, time_base=0.04, interval=0.04)
    for slot in (0, 1, 4, 5):  # two chunks between are empty
        numbers.sent(packet(None, slot))
    seconds = []
    for number in range(1, 5):
        assert numbers.received(None, corrupt=False) == ([], number)
        seconds.append(numbers.seconds)
    assert seconds == pytest.approx([0, 0.04, 0.16, 0.2])


def test_frames_are_upright(tmp_path):
    """A phone's video is stored lying, with a note how to turn it."""
    source = open_source(write_video(tmp_path / "a.mp4", count=3, rotation=90))
    assert (source.width, source.height) == (HEIGHT, WIDTH)
    image = next(iter(source.frames())).image
    assert said(np.rot90(image, -1)) == 1, "90 degrees counter-clockwise, as OpenCV and players show it"


def test_rotation_agrees_with_opencv(tmp_path):
    path = write_video(tmp_path / "a.mp4", count=3, rotation=90)
    ok, theirs = cv2.VideoCapture(str(path)).read()
    assert ok
    ours = next(iter(open_source(path).frames())).image
    assert ours.shape == theirs.shape
    assert np.abs(ours.astype(int) - theirs).mean() < 5


def test_size_change_in_the_middle(tmp_path):
    for name, size in (("a", (WIDTH, HEIGHT)), ("b", (96, 64))):
        write_video(tmp_path / f"{name}.ts", count=12, size=size, bf="0")
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join((tmp_path / f"{name}.ts").read_bytes() for name in "aba"))
    source, told = open_source(joined), []
    source.notice = told.append
    got, broken = read(source)
    assert [n for n, _ in got] == [*range(1, 37)], "scaled, as of a camera that is set anew"
    assert broken == []
    assert told == ["frame 13 is 96x64, the video is 160x96: scaled from here on"]
    times = [frame.time for frame in open_source(joined).frames()]
    assert times == sorted(times), "the clock is set back twice in this file"


@pytest.mark.parametrize(("module", "maker"), [(streams, "_upright"), (images, "read_image")])
def test_memory_stays_flat(tmp_path, monkeypatch, module, maker):
    """When a picture is made, the one before it is gone already."""
    source = open_source(write_video(tmp_path / "a.mp4") if maker == "_upright" else write_images(tmp_path, range(9)))
    alive: list[weakref.ref] = []
    real = getattr(module, maker)

    def make(*what):
        assert [ref for ref in alive if ref() is not None] == []
        image = real(*what)
        alive.append(weakref.ref(image))
        return image

    monkeypatch.setattr(module, maker, make)
    for frame in source.frames():
        assert frame.image is alive[-1]()
        del frame
    assert len(alive) == (60 if maker == "_upright" else 9)


def test_stopping_early_closes_the_file(tmp_path, monkeypatch):
    opened = []
    real = av.open
    monkeypatch.setattr(streams.av, "open", lambda *a, **k: opened.append(real(*a, **k)) or opened[-1])
    frames = open_source(write_video(tmp_path / "a.mp4")).frames()
    opened.clear()  # those of the probe, and the writer's
    next(frames)
    frames.close()
    assert len(opened) == 1
    with pytest.raises(AssertionError, match="Container is not open"):
        next(opened[0].demux())


def test_stride_and_max_frames_are_checked_at_once(tmp_path):
    source = open_source(write_images(tmp_path / "i", range(2)))
    with pytest.raises(InputError, match="stride must be at least 1, got 0"):
        source.frames(stride=0)
    with pytest.raises(InputError, match="max_frames must be at least 1, got 0"):
        source.frames(max_frames=0)


# Images


def test_folder_in_natural_order(tmp_path):
    folder = write_images(tmp_path / "clip", (2, 10, 1, 33), form="f{}")
    (folder / "notes.txt").write_text("no image")
    (folder / "._f1.png").write_bytes(b"a Mac's")
    source = open_source(folder)
    assert (source.name, source.fps, source.length, source.last_number) == ("clip", 30.0, 4, 4)
    assert list(source.file_names) == ["f1.png", "f2.png", "f10.png", "f33.png"]
    assert read(source) == ([(1, 1), (2, 2), (3, 10), (4, 33)], [])
    assert [f.time for f in source.frames()] == pytest.approx([0, 1 / 30, 2 / 30, 3 / 30])
    assert read(open_source(f"{folder}/f?.png"))[0] == [(1, 1), (2, 2)]
    assert open_source(f"{folder}/f?.png").name == "clip"
    assert open_source(folder / "f10.png").length == 1


def test_a_stride_reads_no_other_image(tmp_path):
    folder = write_images(tmp_path / "clip", range(1, 10))
    (folder / "000002.png").write_bytes(b"")
    assert read(open_source(folder), stride=3) == ([(1, 1), (4, 4), (7, 7)], [])


def test_broken_images_are_reported_and_skipped(tmp_path):
    folder = write_images(tmp_path / "clip", range(1, 8))
    (folder / "000001.png").write_bytes(b"hello")
    (folder / "000003.png").write_bytes(b"")
    (folder / "000005.png").write_bytes((folder / "000005.png").read_bytes()[:200])
    cv2.imwrite(str(folder / "000006.png"), np.zeros((240, 320, 3), np.uint8))
    got, broken = read(open_source(folder))
    assert got == [(2, 2), (4, 4), (7, 7)]
    assert [n for n, _ in broken] == [1, 3, 5, 6]
    assert broken[1][1] == "000003.png is empty (0 bytes)"
    assert "000005.png cannot be decoded" in broken[2][1]
    assert broken[3][1] == "000006.png is 320x240, the video is 160x96"


@pytest.mark.parametrize("shape", [(HEIGHT, WIDTH), (HEIGHT, WIDTH, 4)])
def test_grey_and_transparent_images_become_bgr(tmp_path, shape):
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        cv2.imwrite(str(tmp_path / "1.png"), np.full(shape, white, dtype))
        image = next(iter(open_source(tmp_path).frames())).image
        assert image.shape == (HEIGHT, WIDTH, 3)
        assert image.dtype == np.uint8
        assert image.min() == 255


def test_pixels_of_no_fixed_range_are_named(tmp_path):
    cv2.imwrite(str(tmp_path / "1.tif"), np.full((20, 30, 3), 0.5, np.float32))
    with pytest.raises(InputError, match=r"1\.tif has float32 pixels, .* save it with 8 or 16 bits a channel"):
        open_source(tmp_path)


def test_a_sequence_folder_may_hold_a_video(tmp_path):
    folder = tmp_path / "walk"
    (folder / "gt").mkdir(parents=True)
    write_video(folder / "any.mp4", count=4)
    source = open_source(folder)
    assert (source.name, read(source)[0]) == ("walk", [(n, n) for n in range(1, 5)])
    write_video(folder / "other.avi", count=4)
    with pytest.raises(InputError, match=r"holds 2 videos: give one of them \(any.mp4, other.avi\)"):
        open_source(folder)
    write_images(folder / "img1", (1, 2, 3))
    assert open_source(folder).length == 3, "images come first"
    run = tmp_path / "run"  # of `masa-track track`: its video is a drawing
    run.mkdir()
    write_video(run / "video.mp4", count=4)
    with pytest.raises(InputError, match="holds 1 files but no image"):
        open_source(run)


def test_mot_sequence_folder(tmp_path):
    folder = tmp_path / "unpacked"
    write_images(folder / "img1", (1, 2, 3))
    assert (open_source(folder).name, open_source(folder).fps) == ("unpacked", 30.0)
    info = folder / "seqinfo.ini"
    info.write_text("[Sequence]\nname=MOT17-05-FRCNN\nimDir=img1\nframeRate=14\nseqLength=837\n")
    for path in (folder, folder / "img1"):
        source = open_source(path)
        assert (source.name, source.fps, source.length, source.last_number) == ("MOT17-05-FRCNN", 14.0, 3, 837)
    assert open_source(folder, fps=5).fps == 5
    info.write_text("[Sequence]\nname=../../etc\nframeRate=fast\n")
    with pytest.raises(InputError, match=r"seqinfo\.ini: framerate must be a number above 0, got 'fast'"):
        open_source(folder)
    assert "/" not in open_source(folder, fps=5).name, "a stem for files of ours"
    info.write_text("frameRate=14\n")
    with pytest.raises(InputError, match=r"not a MOTChallenge seqinfo\.ini"):
        open_source(folder)


# What is refused


def write_mp3_like(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "a.txt").write_text("1,2,3\n" * 200)
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(4000))
    (tmp_path / "folder").mkdir()
    write_mp3_like(tmp_path / "sound.wav")
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").touch()
    broken = write_images(tmp_path / "broken", (1,))
    (broken / "000001.png").write_bytes(b"no")
    headless = write_video(tmp_path / "headless.mp4", count=12)
    for pos, size, _ in packets(headless):
        blank(headless, pos, size)
    for name, message in {
        "missing.mp4": "there is no such file or folder",
        "a.txt": "a.txt' ",  # a video of its letters to FFmpeg, if there are enough
        "empty.mp4": "the file is empty",
        "noise.mp4": "is not a video",
        "sound.wav": "holds no video",
        "headless.mp4": "no frame of it can be decoded",
        "folder": "holds no file",
        "texts": "holds 1 files but no image",
        "*.jpg": "the pattern matches no file",
        "*.mp4": "the pattern matches 3 files, none of them an image",
        "broken": "none of its 1 images can be read",
    }.items():
        with pytest.raises(InputError, match=re.escape(message)) as caught:
            open_source(tmp_path / name)
        assert name in str(caught.value)
    with pytest.raises(InputError, match="addresses begin with rtsp://"):
        open_source("ftp://host/a.mp4")
    with pytest.raises(InputError, match="source must name"):
        open_source("")


# Cameras


class Camera:
    """Stands in for cv2.VideoCapture: five pictures, then it is pulled out."""

    there, released = True, 0

    def __init__(self, index):
        self.index, self.number = index, 0

    def isOpened(self):
        return self.there

    def grab(self):
        self.number += 1
        return self.number <= 5

    def retrieve(self):
        return (False, None) if self.number == 3 else (True, picture(self.number))

    def read(self):
        return self.grab(), picture(self.number)

    def get(self, key):
        return 0.0

    def release(self):
        Camera.released += 1


def test_camera(monkeypatch):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    monkeypatch.setattr(Camera, "released", 0)
    source = open_source("2")
    assert (source.name, source.width, source.fps, source.length, source.live) == ("camera2", WIDTH, 30.0, None, True)
    got, broken = read(source)
    assert got == [(n, n) for n in (1, 2, 4, 5)]
    assert broken == [(3, "could not be decoded"), (6, "the camera stopped giving pictures")]
    assert read(source, stride=3)[0] == [(1, 1), (4, 4)]
    frames = source.frames()
    next(frames)
    frames.close()
    assert Camera.released == 4
    got, broken = read(source, stride=3, start=1001)
    assert got == [(1001, 1), (1004, 4)]
    assert broken == [(1006, "the camera stopped giving pictures")]
    assert next(source.frames(start=1001)).time < 1
    with pytest.raises(InputError, match="live: the times of its frames are not known"):
        source.frame_times()
    monkeypatch.setattr(Camera, "there", False)
    with pytest.raises(InputError, match=r"there is no camera 2; .* give \./2"):
        open_source("2")


# Addresses


@pytest.fixture
def served(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_address(tmp_path, served):
    write_video(tmp_path / "clip.ts")
    write_video(tmp_path / "clip.mp4")
    for name in ("clip.ts", "clip.mp4"):
        source = open_source(f"{served}/{name}?key=1")
        assert (source.name, source.width, source.height, source.fps) == ("clip", WIDTH, HEIGHT, 25.0)
        assert read(source) == ([(n, n) for n in range(1, 61)], [])
    with pytest.raises(InputError, match="the address gives no video"):
        open_source(f"{served}/missing.mp4")


SECRETS = ("password", "PWD", "pass", "passwd", "passphrase", "token", "access_token", "api_key", "key", "auth")
SECRETS += ("secret", "sig", "X-Amz-Signature", "loginpas", "sessionId", "pw")


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        ("rtsp://h/x", "rtsp://h/x"),
        ("rtsp://h:554/a_b=1?channel=2", "rtsp://h:554/a_b=1?channel=2"),
        ("http://host/a@b.mp4", "http://host/a@b.mp4"),
        ("http://h:80/x?mail=a@b", "http://h:80/x?mail=a@b"),
        ("rtsp://u:PW@h/x", "rtsp://***@h/x"),
        ("rtsp://u:P@W@h:1/x", "rtsp://***@h:1/x"),
        ("rtsp://u:P/W@h", "rtsp://***@h"),
        ("rtsp://u:1/PW@h", "rtsp://***@h"),
        ("rtsp://u:P#?W@h", "rtsp://***@h"),
        ("rtsp://u:P?W=1@h/a", "rtsp://***@h/a"),
        ("rtsp:/u:PW@h", "rtsp:/***@h"),
        ("rtsp:u:PW@h/1", "rtsp:***@h/1"),
        ("rtsp//u:PW@h", "rtsp//***@h"),
        ("rtsp://u:PW", "rtsp://u:***"),
        ("u:PW@192.168.1.5:554/ch", "***@192.168.1.5:554/ch"),
        ("http://u:PW@h/x?mail=a@b&token=PW", "http://***@h/x?mail=a@b&token=***"),
        ("http://h/user=a_password=P_W_channel=1.mp4", "http://h/user=a_password=***_channel=1.mp4"),
        ("http://h:80/0/u:PW/main?x=1", "http://h:80/0/***/main?x=1"),
        ("http://h/x?cred=PW", "http://h/x?cred=***"),
        ("user=a_password=PW_channel=1.mp4", "user=a_password=***_channel=1.mp4"),
        *((f"http://h/x?a=1&{name}=P/W_x&b=2", f"http://h/x?a=1&{name}=***&b=2") for name in SECRETS),
        ("http://h/x?password%3DPW&b=2", "http://h/x?password%3D***&b=2"),
        ("C:\\clips\\me@home.mp4", "C:\\clips\\me@home.mp4"),
        ("clips/a:b.mp4", "clips/a:b.mp4"),
    ],
)
def test_passwords_are_masked(address, wanted):
    assert masked(address) == wanted
    assert masked_in(f"source {address!r}: no", ["x.mp4", address]) == f"source {wanted!r}: no"
    if masked(address) != address:
        assert masked_in(f"no {Path(address)}", [address]) == f"no {wanted}"


@pytest.mark.slow
def test_no_message_and_no_name_holds_a_password(tmp_path, served, capsys):
    write_video(tmp_path / "user=admin_password=hunter2_channel=1.mp4", count=3)
    source = open_source(f"{served}/user=admin_password=hunter2_channel=1.mp4")
    assert source.name == "user_admin_password__channel_1"
    assert "hunter2" not in open_source(tmp_path / "user=admin_password=hunter2_channel=1.mp4").name
    host = served.removeprefix("http://")
    for address in (
        f"{served}/none.mp4?password=hunter2",
        f"http://me:hun/ter2@{host}/none.mp4",
        f"rtsp:/me:hunter2@{host}",
        f"me:hunter2@{host}/*.jpg",
        f"ftp://me:hunter2@{host}",
    ):
        with pytest.raises(InputError) as caught:
            open_source(address)
        assert "ter2" not in "".join(traceback.format_exception(caught.value)).replace(repr(address), "")
        assert main(["track", address, "--out", str(tmp_path / "out")]) == 2
        with pytest.raises(SystemExit):  # argparse quotes what it does not know
            main(["track", "a.mp4", address, f"--stride={address}", "--out", str(tmp_path / "out")])
        assert "ter2" not in capsys.readouterr().err


@pytest.mark.slow
def test_joining_a_stream_begins_at_its_first_key_frame(tmp_path, served):
    """What cannot be decoded before the first key frame is no broken frame: nobody could have had it."""
    path = write_video(tmp_path / "whole.ts")
    pos = packets(path)[5][0]
    data = path.read_bytes()
    (tmp_path / "joined.ts").write_bytes(data[: 188 * 3] + data[pos - pos % 188 :])  # the tables, then from frame 6
    got, broken = read(open_source(f"{served}/joined.ts"))
    assert [said_number - number for number, said_number in got] == [12] * 48
    assert broken == []


@pytest.mark.slow
def test_silent_and_dead_addresses_are_refused(monkeypatch):
    monkeypatch.setattr(streams, "TIMEOUT_SECONDS", 0.3)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        for scheme in ("http", "rtsp"):
            url = f"{scheme}://me:se@cret@127.0.0.1:{silent.getsockname()[1]}/live"
            with pytest.raises(InputError, match="the address gives no video") as caught:
                open_source(url)
            assert "cret" not in str(caught.value)
        port = silent.getsockname()[1]
    with pytest.raises(InputError, match="Connection refused"):
        open_source(f"rtsp://127.0.0.1:{port}/live")


@pytest.mark.slow
def test_a_stream_that_falls_silent_ends(tmp_path, monkeypatch):
    """The sender stops in the middle and keeps the line open."""
    monkeypatch.setattr(streams, "TIMEOUT_SECONDS", 0.5)
    data = write_video(tmp_path / "a.ts").read_bytes()
    silence = threading.Event()

    class Stalls(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(data)
            silence.wait(20)

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stalls)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        monkeypatch.setattr(streams.av, "open", functools.partial(av.open, options={"probesize": "10000"}))
        source = open_source(f"http://127.0.0.1:{server.server_port}/a.ts")
        assert source.live
        assert source.length is None
        got, broken = read(source)
    finally:
        silence.set()
        server.shutdown()
        server.server_close()
    assert got == [(n, n) for n in range(1, len(got) + 1)]
    assert len(got) >= 50
    assert "no answer within 0.5 s" in broken[0][1]


# Real clips


@pytest.mark.shared_data
def test_real_clips(shared):
    for name, facts in {
        "other/bikes.mp4": ("bikes", 640, 272, 25.0, 250),
        "mot15/TUD-Campus": ("TUD-Campus", 640, 480, 25.0, 71),
        "jets": ("jets", 1280, 720, 30.0, 144),
    }.items():
        source = open_source(shared / "clips" / name)
        assert (source.name, source.width, source.height, source.fps, source.length) == facts
        broken = []
        numbers = [f.number for f in source.frames(stride=10, on_broken=lambda *b, kept=broken: kept.append(b))]
        assert numbers == list(range(1, source.length + 1, 10))
        assert broken == []
