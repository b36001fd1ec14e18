"""The JSON-lines sink: a line a frame, whole at every moment, also while another process follows it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import supervision as sv
from test_cli_track import made_clip

from masa_track.cli.main import main
from masa_track.contracts import CountEvent, TrackEvent
from masa_track.errors import InputError
from masa_track.formats.jsonl import JsonLinesWriter


def rows(ids, **more) -> sv.Detections:
    count = len(ids)
    boxes = np.arange(4.0 * count).reshape(count, 4) + np.array([0, 0, 10, 10])
    return sv.Detections(xyxy=boxes, tracker_id=np.array(ids, int), **more)


def test_lines_are_frames(tmp_path):
    path = tmp_path / "live.jsonl"
    path.write_text("an earlier run's\n")
    with JsonLinesWriter(path, {2: "car"}) as lines:
        lines.write(1, 0.0, rows([7, -1, 9], confidence=np.array([0.5, 0.9, np.nan]), class_id=np.array([2, 2, 5])))
        first = json.loads(path.read_text())  # is there at once
        lines.write(4, 0.12, sv.Detections.empty())
    assert first == {
        "frame": 1,
        "time": 0.0,
        "tracks": [
            {"id": 7, "class_id": 2, "class": "car", "score": 0.5, "box": [0, 1, 12, 13]},
            {"id": 9, "class_id": 5, "class": "class 5", "score": 0.0, "box": [8, 9, 20, 21]},
        ],
    }
    assert json.loads(path.read_text().splitlines()[1]) == {"frame": 4, "time": 0.12, "tracks": []}


@pytest.mark.parametrize("torn", ["", '{"frame": 2, "ti', "x" * 200_000])
def test_a_resumed_run_adds_to_the_whole_lines(tmp_path, torn):
    path = tmp_path / "live.jsonl"
    with JsonLinesWriter(path, append=True) as lines:  # there is no file yet
        lines.write(1, 0.0, rows(range(3000)))
    with path.open("a") as file:
        file.write(torn)
    with JsonLinesWriter(path, append=True) as lines:
        lines.write(1, 0.0, rows([7]))  # it is there already, and so are its events
        lines.write_events([TrackEvent("born", 7, 1, 0.0)])
        lines.write(2, 0.1, rows([1]))
    assert [json.loads(line)["frame"] for line in path.read_text().splitlines()] == [1, 2]
    path.write_text("torn")
    with JsonLinesWriter(path, append=True) as lines:
        lines.write(3, 0.2, rows([1]))
    assert json.loads(path.read_text())["frame"] == 3


def test_events_are_lines_of_their_own(tmp_path):
    path = tmp_path / "live.jsonl"
    with JsonLinesWriter(path) as lines:
        lines.write(3, 0.1, rows([7]))
        lines.write_events([TrackEvent("born", 7, 3, 0.1, earlier=((1, 4), (2, 0))), TrackEvent("cut", -1, 3, 0.1)])
        assert path.read_text().count("\n") == 3  # is there at once
        lines.write_events([])
        lines.write(4, 0.123456, rows([]))
        lines.write_events([TrackEvent("merged", 7, 4, 0.123456, other=9), TrackEvent("lost", 8, 4, 0.123456)])
        lines.write_events([CountEvent("crossed_in", "door", 7, 2, 4, 0.123456)])
        lines.write_events([CountEvent("left", "yard", 7, 2, 1, 0.0, 0.333333)])
    values = [json.loads(line) for line in path.read_text().splitlines()]
    assert [("tracks" in value, "event" in value) for value in values] == [
        *((True, False), (False, True), (False, True)),
        *((True, False), *[(False, True)] * 4),
    ]
    assert values[1:3] == [
        {"event": "born", "frame": 3, "time": 0.1, "id": 7, "first_frame": 1},
        {"event": "cut", "frame": 3, "time": 0.1},
    ]
    assert values[4:] == [
        {"event": "merged", "frame": 4, "time": 0.1235, "id": 7, "other": 9},
        {"event": "lost", "frame": 4, "time": 0.1235, "id": 8},
        {"event": "crossed_in", "frame": 4, "time": 0.1235, "id": 7, "name": "door", "class_id": 2},
        {"event": "left", "frame": 1, "time": 0.0, "id": 7, "name": "yard", "class_id": 2, "seconds": 0.3333},
    ]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_events_that_cannot_be_written_name_the_file():
    with JsonLinesWriter("/dev/full") as lines, pytest.raises(OSError, match="/dev/full"):
        lines.write_events([TrackEvent("lost", 8, 4, 0.1)])


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"--jsonl must be a file that can be written, got .*: Is a directory"):
        JsonLinesWriter(tmp_path)


def test_a_long_line_through_a_pipe_is_whole(tmp_path):
    """A pipe holds 64 KiB; a frame of 3,000 tracks has more."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    thread = threading.Thread(target=lambda: read.extend(pipe.open().read().splitlines()))
    thread.start()
    with JsonLinesWriter(pipe) as lines:
        lines.write(1, 0.0, rows(range(3000)))
        lines.write(2, 0.1, rows([1]))
    thread.join(10)
    assert [len(json.loads(line)["tracks"]) for line in read] == [3000, 1]


FOLLOWER = """
import json, os, sys, time
path, until = sys.argv[1], time.monotonic() + 60
while not os.path.exists(path): time.sleep(.001)
file, held, frames, early, moments = open(path, "rb"), b"", [], None, 0
while time.monotonic() < until:
    piece = file.read(97)  # not a line's length
    if not piece:
        moments += 1
        # At the end of the file there is never a part of a line.
        assert held == b"", held
        if early is None and frames and not os.path.exists(sys.argv[2]): early = len(frames)
        if frames and frames[-1]["frame"] == int(sys.argv[3]): break
        time.sleep(.002)
        continue
    held += piece
    *lines, held = held.split(b"\\n")
    frames += [found for found in map(json.loads, lines) if "tracks" in found]  # the others are events
print(json.dumps({"frames": [f["frame"] for f in frames], "early": early, "tracks": len(frames[-1]["tracks"])}))
"""


@pytest.mark.slow
def test_another_process_follows_a_run(tmp_path):
    clip = made_clip(tmp_path / "clip")
    out, lines = tmp_path / "out", tmp_path / "live.jsonl"
    command = [sys.executable, "-c", FOLLOWER, str(lines), str(out / "tracks.json"), "24"]
    follower = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    truth = str(clip / "gt" / "gt.txt")
    arguments = ["--detections", truth, "--out", str(out), "--jsonl", str(lines), "--no-video"]
    assert main(["track", str(clip), *arguments]) == 0
    said, errors = follower.communicate(timeout=60)
    assert follower.returncode == 0, errors
    found = json.loads(said)
    assert found["frames"] == list(range(1, 25))
    assert found["early"], "frames were there before the run had ended"
    assert found["tracks"] == 3
    # What was followed is what the run's own files hold.
    wanted = [line.split(",")[:2] for line in (out / "tracks.txt").read_text().splitlines()]
    followed = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [[str(one["frame"]), str(track["id"])] for one in followed for track in one.get("tracks", ())] == wanted


def test_a_jsonl_that_cannot_be_written_is_refused_before_any_work(tmp_path, capsys):
    clip = made_clip(tmp_path / "clip")
    truth, out = str(clip / "gt" / "gt.txt"), tmp_path / "out"
    arguments = ["--detections", truth, "--out", str(out), "--jsonl", str(Path(tmp_path / "none" / "x"))]
    assert main(["track", str(clip), *arguments]) == 2
    assert "--jsonl must be a file that can be written" in capsys.readouterr().err
    assert not list(out.glob("*"))
