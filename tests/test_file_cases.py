"""Media that went wrong for users, and a second one of each kind: frames, times, sizes, brightness, what is left out.

``cases/files`` has their files; larger ones are made here. Every picture of :mod:`test_sources` says its number.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from PIL import Image
from test_sources import HEIGHT, WIDTH, picture, read, said, write_images, write_video

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.video.depth import find_range, parse_range, to_8_bits
from masa_track.video.frame_numbers import BY_PTS, COUNTED, IN_ORDER, pairing_of
from masa_track.video.shown import shows_picture
from masa_track.video.sound import add_sound
from masa_track.video.source import Reading
from masa_track.video.sources import open_source
from masa_track.video.writer import VideoWriter

CASES = Path(__file__).parent / "cases" / "files"


def summary(path: Path, **options: Any) -> tuple[list[int], list[float], list[tuple[int, str]]]:
    """Numbers and times of the frames, and what could not be read."""
    broken: list[tuple[int, str]] = []
    frames = list(open_source(path, **options).frames(on_broken=lambda number, why: broken.append((number, why))))
    return [frame.number for frame in frames], [frame.time for frame in frames], broken


def remuxed(source: Path, target: Path, change: Callable[[list[Any]], list[Any]], codec: str = "") -> Path:
    """The packets of a video in another file, after a change."""
    with av.open(str(source)) as old, av.open(str(target), "w") as new:
        stream = old.streams.video[0]
        made = new.add_stream_from_template(stream)
        made.time_base = stream.time_base
        for packet in change([packet for packet in old.demux(stream) if packet.size]):
            packet.stream = made
            new.mux(packet)
    return target


def in_decode_order(packets: list[Any]) -> list[Any]:
    for packet, pts in zip(packets, sorted(packet.pts for packet in packets), strict=True):
        packet.pts = packet.dts = pts
    return packets


def split(name: str) -> Callable[[list[Any]], list[Any]]:
    """A bitstream filter that makes a packet of each coded frame, also of those that are not shown."""

    def change(packets: list[Any]) -> list[Any]:
        context = av.bitstream.BitStreamFilterContext(name, packets[0].stream)
        return [part for packet in [*packets, None] for part in context.filter(packet)]

    return change


# Frames are frames


@pytest.mark.parametrize(
    ("name", "count", "last"),
    [
        ("vp8-altref/vp8_50.webm", 50, 1.96),
        ("mpeg4-packed-in-mkv/xvid4.mkv", 118, 4.72),
        ("avi-remuxed-pts-in-decode-order/h264_avi.mp4", 40, 39 / 25),
        ("h264-field-pictures/paff12.ts", 12, 11 / 25),
        ("avi-dropped-frames/dropped.avi", 40, 1.68),
        ("vfr-screen-recording/screen.mkv", 40, 9.813),
        ("size-changes-in-a-stream/change.h264", 80, 79 / 25),
    ],
)
def test_cases_of_frames(name, count, last):
    numbers, times, broken = summary(CASES / name)
    assert numbers == list(range(1, count + 1))
    assert broken == []
    assert times[-1] == pytest.approx(last, abs=2e-3)
    assert all(one < other for one, other in itertools.pairwise(times))
    assert list(open_source(CASES / name).frame_times()) == pytest.approx(times, abs=1e-6)


@pytest.mark.parametrize("name", ["vp8-altref/vp8_50.webm", "h264-field-pictures/paff12.ts"])
def test_reading_begins_in_the_middle(name):
    source = open_source(CASES / name)
    whole = [(frame.number, frame.time, frame.image.tobytes()) for frame in source.frames()]
    start = source.length - 4
    assert [(frame.number, frame.time, frame.image.tobytes()) for frame in source.frames(start=start)] == whole[
        start - 1 :
    ]


@pytest.mark.parametrize(
    ("codec", "name", "options"),
    [("libx264", "a.mkv", {"bf": "3", "b-pyramid": "none"}), ("mpeg4", "a.mp4", {"bf": "2"})],
)
def test_timestamps_in_decode_order(tmp_path, codec, name, options):
    video = write_video(tmp_path / "whole.mp4", codec=codec, **options)
    odd = remuxed(video, tmp_path / f"odd-{name}", in_decode_order)
    got, broken = read(open_source(odd))
    assert got == [(n, n) for n in range(1, 61)]
    assert broken == []
    assert [frame.time for frame in open_source(odd).frames()] == pytest.approx([n / 25 for n in range(60)], abs=2e-3)


def test_av1_frames_that_are_not_shown(tmp_path):
    try:
        video = write_video(tmp_path / "whole.mkv", 40, "libsvtav1", preset="10")
    except (av.error.FFmpegError, ValueError):
        pytest.skip("this PyAV has no libsvtav1")
    finally:
        # As root, SVT-AV1 gives the thread that opens it real-time priority, and its child processes inherit that:
        # two of them that compute then leave no time on two cores to any other process.
        if hasattr(os, "sched_setscheduler"):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        whole = [packet for packet in container.demux(stream) if packet.size]
        assert all(shows_picture(packet, "libdav1d") for packet in whole)
        parts = split("av1_frame_split")(whole)
    assert len(parts) > 40, "some frames are references alone"
    assert sum(shows_picture(part, "libdav1d") for part in parts) == 40
    assert read(open_source(video)) == ([(n, n) for n in range(1, 41)], [])


def test_vp9_frames_that_are_not_shown(tmp_path):
    video = write_video(tmp_path / "whole.webm", 3, "libvpx-vp9", **{"cpu-used": "8", "deadline": "realtime"})
    with av.open(str(video)) as container:
        shown = [bytes(packet) for packet in container.demux(video=0) if packet.size]
    assert all(shows_picture(av.Packet(data), "vp9") for data in shown)
    hidden = bytes([shown[1][0] & ~2]) + shown[1][1:]
    assert not shows_picture(av.Packet(hidden), "vp9")
    mark = 0xC0 | 1 << 3 | 1  # two frames, their sizes in two bytes each
    sizes = b"".join(len(data).to_bytes(2, "little") for data in (hidden, shown[2]))
    both = bytes([mark]) + sizes + bytes([mark])
    assert shows_picture(av.Packet(hidden + shown[2] + both), "vp9"), "a superframe, of which one is shown"
    sizes = len(hidden).to_bytes(2, "little") * 2
    assert not shows_picture(av.Packet(hidden + hidden + bytes([mark]) + sizes + bytes([mark])), "vp9")


def test_fields_in_another_container(tmp_path):
    video = remuxed(CASES / "h264-field-pictures" / "paff12.ts", tmp_path / "fields.mkv", lambda packets: packets)
    numbers, times, broken = summary(video)
    assert (numbers, broken) == (list(range(1, 13)), [])
    assert times == pytest.approx([n / 25 for n in range(12)], abs=2e-3)


def packed(packets: list[Any]) -> list[Any]:
    """Each B-frame of MPEG-4 in the packet of the frame before it, and a frame without content in its place."""
    data = [bytes(packet) for packet in packets]
    for i in range(1, len(data)):
        if data[i][4] >> 6 == 2:  # its kind is B
            data[i - 1], data[i] = data[i - 1] + data[i], b"\x00\x00\x01\xb6\x50\x47"
    data[0] = b"\x00\x00\x01\xb2DivX503b1393p\x00" + data[0]  # the mark of a packed stream
    made = [av.Packet(part) for part in data]
    for new, old, pts in zip(made, packets, sorted(packet.pts for packet in packets), strict=True):
        new.pts = new.dts = pts
        new.time_base, new.is_keyframe = old.time_base, old.is_keyframe
    return made


@pytest.mark.parametrize("name", ["packed.mkv", "packed.mp4", "packed.avi"])
def test_packed_b_frames(tmp_path, name):
    options = {"bf": "1", "b_strategy": "0", "sc_threshold": "1000000000"}
    video = remuxed(write_video(tmp_path / "whole.mp4", 40, "mpeg4", **options), tmp_path / name, packed)
    with av.open(str(video)) as container:
        assert sum(packet.size == 6 for packet in container.demux(video=0)) > 15
    assert read(open_source(video)) == ([(n, n) for n in range(1, 41)], [])
    assert [frame.time for frame in open_source(video).frames()] == pytest.approx([n / 25 for n in range(40)], abs=2e-3)


def test_dropped_frames_of_an_avi(tmp_path):
    """Packets 6, 7 and 21 are left out; FFmpeg writes empty ones in their place."""

    def dropped(packets: list[Any]) -> list[Any]:
        return [packet for i, packet in enumerate(packets) if i not in (5, 6, 20)]

    video = write_video(tmp_path / "whole.avi", 30, "mjpeg")
    short = remuxed(video, tmp_path / "short.avi", dropped)
    kept = [n for n in range(1, 31) if n not in (6, 7, 21)]
    assert read(open_source(short)) == (list(zip(range(1, 28), kept, strict=True)), [])
    assert [frame.time for frame in open_source(short).frames()] == pytest.approx([(n - 1) / 25 for n in kept])


def test_pairing():
    pts = list(range(0, 640, 10))
    assert pairing_of(pts, pts) == BY_PTS
    assert pairing_of(pts, [*pts[:20], *pts[22:]]) == BY_PTS, "two are lost: the file is damaged"
    assert pairing_of(pts, [*pts[:5], pts[6], pts[5], *pts[7:]]) == IN_ORDER
    assert pairing_of(pts, pts[::2]) == COUNTED
    assert pairing_of(pts[::2], [*pts[:60], None, None]) == COUNTED


# Time


def test_the_rate_of_a_screen_recording_is_that_of_its_timestamps():
    assert open_source(CASES / "vfr-screen-recording" / "screen.mkv").fps == pytest.approx(40 / 9.85, rel=0.05)


@pytest.mark.parametrize("name", ["fast.mp4", "fast.mkv", "fast.avi"])
def test_2000_frames_a_second(tmp_path, name):
    with av.open(str(tmp_path / name), "w") as container:
        rate = 1000 if name == "fast.avi" else 2000  # FFmpeg writes no faster AVI
        stream = container.add_stream("libx264", rate=rate, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(1, 41):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24")))
        container.mux(stream.encode())
    if name == "fast.avi":
        data = bytearray((tmp_path / name).read_bytes())
        at = data.index(b"strh") + 28  # scale and rate of the stream
        scale, rate = (int.from_bytes(data[at + i : at + i + 4], "little") for i in (0, 4))
        assert rate == 1000 * scale
        data[at + 4 : at + 8] = (2 * rate).to_bytes(4, "little")
        (tmp_path / name).write_bytes(data)
    source = open_source(tmp_path / name)
    if name != "fast.mkv":  # Matroska rounds its times to milliseconds
        assert source.fps == pytest.approx(2000)
        assert [frame.time for frame in source.frames()][-1] == pytest.approx(39 / 2000, abs=1e-4)
    assert read(source)[0] == [(n, n) for n in range(1, 41)]


@pytest.mark.parametrize("name", ["slow.ts", "slow.mkv"])
def test_a_rate_that_the_header_has_not(tmp_path, name):
    """Each frame is shown for a second or so, while the header says 25 frames a second."""

    def seldom(packets: list[Any]) -> list[Any]:
        for i, packet in enumerate(packets):
            packet.time_base = Fraction(1, 25)
            packet.pts = packet.dts = 25 * i + i % 3
        return packets

    video = remuxed(write_video(tmp_path / "a.mp4", 12, bf="0"), tmp_path / name, seldom)
    source = open_source(video)
    assert [frame.number for frame in source.frames()] == list(range(1, 13))
    assert source.fps == pytest.approx(1, rel=0.1)


# One picture of several, several streams


def test_the_default_or_the_largest_stream():
    source = open_source(CASES / "thumbnail-stream-first" / "thumbfirst.mov")
    assert (source.width, source.height, len(list(source.frames()))) == (192, 144, 40)
    assert "2 video streams (0: 64x48, 1: 192x144): stream 1 is read" in source.remarks[0]
    small = open_source(CASES / "thumbnail-stream-first" / "thumbfirst.mov", reading=Reading(stream=0))
    assert (small.width, small.remarks) == (64, [])
    with pytest.raises(InputError, match="--stream must be below 2, the number of video streams"):
        open_source(CASES / "thumbnail-stream-first" / "thumbfirst.mov", reading=Reading(stream=2))
    with pytest.raises(InputError, match="--stream must be the number of a video stream, from 0, got -1"):
        Reading(stream=-1)


def test_two_streams_of_equal_rank(tmp_path):
    with av.open(str(tmp_path / "two.mkv"), "w") as container:
        streams = []
        for scale in (1, 2):
            stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
            stream.width, stream.height, stream.pix_fmt = WIDTH * scale, HEIGHT * scale, "yuv420p"
            streams.append(stream)
        for number in range(1, 6):
            for scale, stream in enumerate(streams, 1):
                image = cv2.resize(picture(number), (WIDTH * scale, HEIGHT * scale))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        for stream in streams:
            container.mux(stream.encode())
    source = open_source(tmp_path / "two.mkv")
    assert (source.width, len(list(source.frames()))) == (2 * WIDTH, 5)
    assert open_source(tmp_path / "two.mkv", reading=Reading(stream=0)).width == WIDTH


@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_stack_of_pages(tmp_path, depth):
    pages = [picture(n).astype(depth) * (257 if depth == np.uint16 else 1) for n in range(1, 41)]
    assert cv2.imwritemulti(str(tmp_path / "stack.tif"), pages)
    source = open_source(tmp_path / "stack.tif")
    assert read(source) == ([(n, n) for n in range(1, 41)], [])
    assert (source.length, source.file_names[1]) == (40, "stack-0002.tif")
    assert [frame.number for frame in source.frames(start=39)] == [39, 40]
    cv2.imwritemulti(str(tmp_path / "stack2.tif"), pages[:3])
    assert open_source(tmp_path).length == 43, "in a folder, too"


def test_a_stack_of_imagej_without_pages(tmp_path):
    Image.fromarray(picture(3)).save(tmp_path / "a.tif", description="ImageJ=1.54f\nimages=12\nslices=12\n")
    assert "a.tif says that it holds 12 pictures, and 1 can be read" in open_source(tmp_path / "a.tif").remarks[0]


@pytest.mark.parametrize("name", ["moving.webp", "moving.png", "moving.gif"])
def test_animations(tmp_path, name):
    pictures = [Image.fromarray(picture(n)[:, :, ::-1]) for n in range(1, 8)]
    options = {"lossless": True} if name.endswith("webp") else {}
    durations = [40, 40, 200, 40, 40, 40, 40]
    pictures[0].save(tmp_path / name, save_all=True, append_images=pictures[1:], duration=durations, **options)
    source = open_source(tmp_path / name)
    assert read(source) == ([(n, n) for n in range(1, 8)], [])
    times = [0, 0.04, 0.08, 0.28, 0.32, 0.36, 0.4]
    assert [frame.time for frame in source.frames()] == pytest.approx(times, abs=1e-3)
    assert list(source.frame_times()) == pytest.approx(times, abs=1e-3)


def test_the_default_image_of_a_png_is_no_frame(tmp_path):
    pictures = [Image.fromarray(picture(n)[:, :, ::-1]) for n in range(1, 5)]
    options = {"duration": [40, 200, 40], "default_image": True}
    pictures[0].save(tmp_path / "a.png", save_all=True, append_images=pictures[1:], **options)
    source = open_source(tmp_path / "a.png")
    assert read(source) == ([(1, 2), (2, 3), (3, 4)], [])
    assert [frame.time for frame in source.frames()] == pytest.approx([0, 0.04, 0.24])


def test_pages_of_another_size_are_left_out_and_named(tmp_path):
    pages = [Image.fromarray(picture(n)) for n in range(1, 4)]
    small = [page.resize((40, 24)) for page in pages]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=[small[0], pages[1], small[1], pages[2]])
    source = open_source(tmp_path / "a.tif")
    assert read(source) == ([(1, 1), (2, 2), (3, 3)], [])
    assert source.file_names == ["a-0001.tif", "a-0003.tif", "a-0005.tif"]
    assert "a.tif: 2 of its 5 pages are left out: they are of another size" in source.remarks[0]


# Formats of images


def test_every_picture_is_read_or_named(tmp_path):
    source = open_source(CASES / "half-the-frames-jp2" / "frames")
    assert (len(list(source.frames())), source.remarks) == (6, [])
    write_images(tmp_path, (1, 4))
    cv2.imwrite(str(tmp_path / "x.jpg"), picture(2))
    (tmp_path / "x.jpg").rename(tmp_path / "000002.JFIF")
    (tmp_path / "000003.heic").write_bytes(b"x")
    (tmp_path / "clip.mp4").write_bytes(b"x")
    (tmp_path / "labels.txt").write_text("no picture")
    source = open_source(tmp_path)
    assert [said(frame.image) for frame in source.frames()] == [1, 2, 4]
    assert "2 files are left out, as they are not images that are read: 000003.heic, clip.mp4" in source.remarks[0]
    with pytest.raises(InputError, match="HEIC pictures are not read: convert them"):
        open_source(tmp_path / "000003.heic")


def test_avif(tmp_path):
    Image.fromarray(picture(5)[:, :, ::-1]).save(tmp_path / "000005.avif", quality=95)
    assert [said(frame.image) for frame in open_source(tmp_path).frames()] == [5]


# Sizes


def test_an_odd_image_does_not_decide_for_all(tmp_path):
    write_images(tmp_path, range(1, 5))
    cv2.imwrite(str(tmp_path / "000000-cover.png"), np.zeros((64, 64, 3), np.uint8))
    source = open_source(tmp_path)
    assert (source.width, source.height) == (WIDTH, HEIGHT)
    assert read(source) == ([(n + 1, n) for n in range(1, 5)], [(1, "000000-cover.png is 64x64, the video is 160x96")])
    assert "1 of 5 images are not of the most frequent size, 160x96 (1 of 64x64)" in source.remarks[0]


def test_turned_photographs_have_their_upright_size(tmp_path):
    for number in range(1, 4):
        image = Image.fromarray(picture(number)[:, :, ::-1])
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(tmp_path / f"{number}.jpg", exif=exif)
    cv2.imwrite(str(tmp_path / "4.jpg"), picture(4))
    source = open_source(tmp_path)
    assert (source.width, source.height) == (HEIGHT, WIDTH)
    assert [frame.number for frame in source.frames()] == [1, 2, 3]


def test_a_size_that_changes_in_a_file_is_scaled():
    source = open_source(CASES / "size-changes-in-a-stream" / "change.h264")
    told: list[str] = []
    source.notice = told.append
    assert {frame.image.shape for frame in source.frames()} == {(144, 192, 3)}
    assert told == ["frame 41 is 256x192, the video is 192x144: scaled from here on"]


# Patterns of files


def test_brackets_in_a_folder_of_a_pattern(tmp_path):
    folder = write_images(tmp_path / "clip [1]", (1, 2, 3))
    write_images(tmp_path / "clip 1", (7,))
    assert read(open_source(f"{folder}/*.png"))[0] == [(1, 1), (2, 2), (3, 3)]
    assert read(open_source(f"{folder}/00000[12].png"))[0] == [(1, 1), (2, 2)]
    assert read(open_source(f"{tmp_path}/clip [2-9]*/*.png".replace("[2-9]*", "?")))[0] == [(1, 7)]
    with pytest.raises(InputError, match=r"brackets are wildcards: write \[\[\] for \["):
        open_source(f"{folder}/none[1].png")
    deep = write_images(tmp_path / "[a]" / "[b]", (4,))
    assert read(open_source(f"{deep}/*.png"))[0] == [(1, 4)]


def test_printf_patterns(tmp_path):
    folder = write_images(tmp_path / "f", (9, 10, 11, 100), form="shot{:04d}_a")
    write_images(folder, (3,), form="other{:04d}_a")
    assert read(open_source(f"{folder}/shot%04d_a.png"))[0] == [(1, 9), (2, 10), (3, 11), (4, 100)]
    assert read(open_source(f"{folder}/shot%d_a.png"))[0] == [(1, 9), (2, 10), (3, 11), (4, 100)]
    write_images(tmp_path / "g", (5, 6), form="100%d_{:03d}")
    assert read(open_source(f"{tmp_path}/g/100%%d_%03d.png"))[0] == [(1, 5), (2, 6)]
    with pytest.raises(InputError, match="matches no file; check the folder and the number of digits"):
        open_source(f"{folder}/shot%06d_a.png")


# Brightness


def test_twelve_bits_in_sixteen(tmp_path):
    for n in range(1, 6):
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture(n).astype(np.uint16) * 16)
    source = open_source(tmp_path)
    assert "0 is black and 4095 is white" in source.remarks[0]
    for frame in source.frames():
        assert np.abs(frame.image.astype(int) - picture(frame.number)).max() <= 1
    dark = open_source(tmp_path, reading=Reading(value_range=(0, 65535)))
    assert max(frame.image.max() for frame in dark.frames()) == 16


def test_thermal_pictures(tmp_path):
    for n in range(1, 4):
        warm = 7000 + picture(n)[:, :, 0].astype(np.uint16) * 4  # a narrow part of 14 bits
        cv2.imwrite(str(tmp_path / f"{n}.tiff"), warm)
    source = open_source(tmp_path)
    images = [frame.image for frame in source.frames()]
    assert "is black" in source.remarks[0]
    assert [said(image) for image in images] == [1, 2, 3]
    assert images[0].max() > 220
    assert images[0].min() < 40
    fixed = open_source(tmp_path, reading=Reading(value_range=parse_range("7000,8020")))
    assert np.abs(next(iter(fixed.frames())).image[:, :, 0].astype(int) - picture(1)[:, :, 0]).max() <= 1


def test_pixels_without_a_range_are_read_with_one(tmp_path):
    cv2.imwrite(str(tmp_path / "1.tif"), picture(9).astype(np.float32) / 255)
    assert read(open_source(tmp_path, reading=Reading(value_range=(0, 1))))[0] == [(1, 9)]


def test_pages_of_floating_point_need_a_range(tmp_path):
    cv2.imwritemulti(str(tmp_path / "a.tif"), [picture(n)[:, :, 0].astype(np.float32) / 255 for n in (1, 2)])
    with pytest.raises(InputError, match=r"has float32 pixels, .* give --range LOW,HIGH"):
        open_source(tmp_path / "a.tif")
    assert read(open_source(tmp_path / "a.tif", reading=Reading(value_range=(0, 1))))[0] == [(1, 1), (2, 2)]


def test_pages_of_32_bits_with_small_values(tmp_path):
    pages = [Image.fromarray(picture(n)[:, :, 0].astype(np.int32) * 16) for n in (1, 2)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    source = open_source(tmp_path / "a.tif")
    assert "0 is black and 4095 is white" in source.remarks[0]
    assert np.abs(next(iter(source.frames())).image.astype(int) - picture(1)[:, :, :1]).max() <= 1


def test_12_bits_among_pictures_of_8(tmp_path):
    for n in range(1, 5):
        cv2.imwrite(str(tmp_path / f"{n}.png"), picture(n) if n == 1 else picture(n).astype(np.uint16) * 16)
    assert read(open_source(tmp_path))[0] == [(n, n) for n in range(1, 5)]


def test_a_video_of_16_bits(tmp_path):
    with av.open(str(tmp_path / "deep.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray16le"
        for number in range(1, 4):
            grey = picture(number)[:, :, 0].astype(np.uint16) * 16
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="gray16le")))
        container.mux(stream.encode())
    source = open_source(tmp_path / "deep.mkv")
    images = [frame.image for frame in source.frames()]
    assert [said(image) for image in images] == [1, 2, 3]
    assert images[0].max() >= 254
    assert "0 is black and 4095 is white" in source.remarks[0]


def test_a_range_of_a_video_of_12_bits(tmp_path):
    with av.open(str(tmp_path / "deep.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "gray12le"
        frame = av.VideoFrame(WIDTH, HEIGHT, "gray12le")
        rows = np.frombuffer(frame.planes[0], np.uint16).reshape(HEIGHT, -1).copy()
        rows[:, :WIDTH] = picture(5)[:, :, 0].astype(np.uint16) * 2 + 1000
        frame.planes[0].update(rows.tobytes())
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    plain = next(iter(open_source(tmp_path / "deep.mkv").frames())).image
    assert plain.max() < 130
    scaled = open_source(tmp_path / "deep.mkv", reading=Reading(value_range=(1000, 1510)))
    assert np.abs(next(iter(scaled.frames())).image.astype(int) - picture(5)[:, :, :1]).max() <= 3


def test_a_range_without_effect_is_said(tmp_path):
    video = write_video(tmp_path / "a.mp4", 3)
    assert "--range has no effect" in open_source(video, reading=Reading(value_range=(0, 99))).remarks[0]
    write_images(tmp_path / "f", (1, 2))
    assert "--range has no effect" in open_source(tmp_path / "f", reading=Reading(value_range=(0, 99))).remarks[0]


def test_ranges():
    assert parse_range("0, 4095") == (0, 4095)
    for text in ("4095", "9,3", "a,b", "0,inf"):
        with pytest.raises(InputError, match="--range must be LOW,HIGH"):
            parse_range(text)
    assert find_range([np.array([0, 40_000], np.uint16)]) is None
    assert find_range([np.array([0, 900], np.uint16), np.array([5, 1000], np.uint16)]) == (0, 1023)
    assert to_8_bits(np.array([np.nan, -1, 0.5, 9]), (0, 1)).tolist() == [0, 0, 128, 255]


def test_hdr():
    source = open_source(CASES / "hdr10-white" / "pqwhite.mp4")
    assert "is HDR (PQ)" in source.remarks[0]
    assert all(frame.image.min() > 245 for frame in source.frames()), "reference white is white"


def test_hlg(tmp_path):
    with av.open(str(tmp_path / "hlg.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.color_trc = 18
        for code in (0.75, 0.2):
            image = np.full((HEIGHT, WIDTH, 3), round(255 * code), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    source = open_source(tmp_path / "hlg.mp4")
    white, dark = (int(frame.image.mean()) for frame in source.frames())
    assert "is HDR (HLG)" in source.remarks[0]
    assert white > 240
    assert dark < 60 < white


def test_colours_of_hdr(tmp_path):
    """A red of BT.709, coded in BT.2020 with HLG, comes back as that red."""
    red = np.array([0.02, 0.02, 0.45])  # light, BGR
    to_bt2020 = np.array([[0.8956, 0.0880, 0.0164], [0.0114, 0.9195, 0.0691], [0.0433, 0.3293, 0.6274]])  # BT.2087
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    scene = (to_bt2020 @ red) ** (1 / 1.2) * (np.exp((0.75 - c) / a) + b) / 12  # equation 5 of BT.2100, backwards
    code = np.where(scene <= 1 / 12, np.sqrt(3 * scene), a * np.log(np.maximum(12 * scene - b, 1e-9)) + c)
    with av.open(str(tmp_path / "red.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.color_trc, stream.codec_context.color_primaries = 18, 9
        image = np.empty((HEIGHT, WIDTH, 3), np.uint8)
        image[:] = np.round(255 * code)
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    got = next(iter(open_source(tmp_path / "red.mp4").frames())).image.reshape(-1, 3).mean(0)
    assert got == pytest.approx(255 * red ** (1 / 2.2), abs=9)


# The shape of pixels, mirrors, fields


def test_pixels_twice_as_wide(tmp_path):
    source = open_source(CASES / "pixels-twice-as-wide" / "sar.mp4")
    assert source.pixel_aspect == 2
    with VideoWriter(tmp_path / "video.mp4", 192, 144, 25, pixel_aspect=source.pixel_aspect) as writer:
        writer.write(next(iter(source.frames())).image, 0.0)
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert container.streams.video[0].sample_aspect_ratio == 2
    assert open_source(tmp_path / "video.mp4").pixel_aspect == 2


def test_pixels_of_a_turned_video(tmp_path):
    with av.open(str(tmp_path / "pal.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        stream.set_display_rotation(90)
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(1), format="bgr24")))
        container.mux(stream.encode())
    assert open_source(tmp_path / "pal.mp4").pixel_aspect == Fraction(15, 16)


def test_mirrored_by_a_matrix():
    mirrored = open_source(CASES / "mirrored-by-matrix" / "hflip.mp4")
    ours = next(iter(mirrored.frames())).image
    with av.open(str(CASES / "mirrored-by-matrix" / "hflip.mp4")) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="bgr24")
    assert np.array_equal(ours, stored[:, ::-1])


@pytest.mark.parametrize(
    ("matrix", "shown"),
    [
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((-1, 0, 0, -1), lambda image: image[::-1, ::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda image: image.transpose(1, 0, 2)[::-1, ::-1]),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
    ],
)
def test_any_matrix(tmp_path, matrix, shown):
    path = write_video(tmp_path / "a.mp4", 3)
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    for place, value in zip((0, 1, 3, 4), matrix, strict=True):
        data[at + 4 * place : at + 4 * place + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        stored = next(container.decode(video=0)).to_ndarray(format="bgr24")
    assert np.array_equal(next(iter(open_source(path).frames())).image, shown(stored))


def test_fields_become_one_picture(tmp_path):
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[0::2, 20:60] = 200  # a bar that moved between the fields
    image[1::2, 60:100] = 200
    with av.open(str(tmp_path / "i.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "1", "x264-params": "interlaced=1:tff=1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="bgr24")))
        container.mux(stream.encode())
    combed = next(iter(open_source(tmp_path / "i.mp4").frames())).image.astype(int)
    even = next(iter(open_source(tmp_path / "i.mp4", reading=Reading(deinterlace=True)).frames())).image.astype(int)
    assert combed[41, 30].mean() < 60
    assert even[20:80, 25:55].min() > 150
    assert even[20:80, 65:95].max() < 60


# Sound


def with_sound(path: Path, codec: str, seconds: int = 2) -> Path:
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        sound = container.add_stream(codec, rate=16000, layout="mono")
        for number in range(25 * seconds):
            container.mux(video.encode(av.VideoFrame.from_ndarray(picture(number), format="bgr24")))
        container.mux(video.encode())
        tone = (8000 * np.sin(np.arange(16000 * seconds) / 5)).astype(np.int16)
        for start in range(0, len(tone), 1000):
            frame = av.AudioFrame.from_ndarray(tone[None, start : start + 1000], format="s16", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 16000, start, Fraction(1, 16000)
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    return path


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.mkv", "pcm_s16le")])
def test_sound_is_kept(tmp_path, name, codec):
    source = with_sound(tmp_path / name, codec)
    frames = list(open_source(source).frames(start=11, stop=35))
    with VideoWriter(tmp_path / "video.mp4", WIDTH, HEIGHT, 25) as writer:
        for frame in frames:
            writer.write(frame.image, frame.time)
    assert add_sound(tmp_path / "video.mp4", source, frames[0].time)
    with av.open(str(tmp_path / "video.mp4")) as container:
        assert container.streams.audio[0].codec_context.name == "aac"
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        length = len(heard) / container.streams.audio[0].codec_context.sample_rate
    assert length == pytest.approx(1.0, abs=0.15)
    assert np.abs(heard[4000:12000]).max() > 0.1
    assert len(list(open_source(tmp_path / "video.mp4").frames())) == 25
    silent = write_video(tmp_path / "silent.mp4", 3)
    before = (tmp_path / "video.mp4").read_bytes()
    assert not add_sound(tmp_path / "video.mp4", silent, 0.0)
    assert (tmp_path / "video.mp4").read_bytes() == before


# The command


@pytest.mark.slow
def test_a_screen_recording_lasts_as_long_as_its_source(tmp_path):
    case = CASES / "vfr-screen-recording"
    run = ["track", str(case / "screen.mkv"), "--detections", str(case / "det.txt"), "--out", str(tmp_path / "run")]
    assert main(run) == 0
    with av.open(str(tmp_path / "run" / "video.mp4")) as container:
        assert container.duration / av.time_base == pytest.approx(9.85, abs=0.6)
        shown = [float(packet.pts * packet.time_base) for packet in container.demux(video=0) if packet.size]
    times = [frame.time for frame in open_source(case / "screen.mkv").frames()]
    assert shown == pytest.approx(times, abs=0.01)
    images = json.loads((tmp_path / "run" / "tracks.json").read_text())["images"]
    assert [image["time"] for image in images] == pytest.approx(times, abs=1e-3)


@pytest.mark.slow
def test_options_reach_the_source(tmp_path, capsys):
    source = with_sound(tmp_path / "a.mp4", "aac")
    (tmp_path / "det.txt").write_text("0,-1,20,20,40,40,0.9\nbad line\n1,-1,22,20,40,40,0.9\n2,-1,24,20,40,40,0.9\n")
    run = ["track", str(source), "--detections", str(tmp_path / "det.txt"), "--out", str(tmp_path / "run")]
    run += ["--max-frames", "10", "--audio", "--frame-base", "0"]
    assert main(run) == 2
    assert "line 2" in capsys.readouterr().err
    assert main([*run, "--skip-bad-rows"]) == 0
    assert "1 row skipped, the first is line 2" in capsys.readouterr().err
    assert (tmp_path / "run" / "tracks.txt").read_text().startswith("1,1,20.000,20.000,40.000,40.000")
    with av.open(str(tmp_path / "run" / "video.mp4")) as container:
        assert len(container.streams.audio) == 1
    assert main(["track", str(tmp_path), "--audio", "--out", str(tmp_path / "run")]) == 2
    assert main(["track", str(source), "--frame-base", "0", "--out", str(tmp_path / "run")]) == 2
    assert "are for --detections" in capsys.readouterr().err
