"""From a film to answers: `track` on a synthetic film of 60 s whose objects leave and return, then `refer --run`."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from masa_track.cli.main import main
from masa_track.formats.run import read_run

FPS, SECONDS, SIZE = 2, 60, (320, 240)
COLOURS = {1: (40, 40, 220), 2: (220, 90, 50), 3: (60, 180, 40), 4: (40, 210, 230), 5: (200, 60, 200)}


def place(thing: int, t: float) -> tuple[float, float, float] | None:
    """Centre and half size of an object at a time in seconds; None where it is out of the picture.

    1 stands; 2 walks right and out at 20 s, and comes back from the right at 36 s; 3 walks left all the time; 4 comes
    in from the left at 25 s and stays, the largest; 5 walks to the middle, turns, and leaves on the left at 45 s.
    """
    if thing == 1:
        return 160, 60, 18
    if thing == 2:
        x = 60 + 13 * t if t <= 20 else 320 - 5 * (t - 36)
        return None if 20 < t < 36 else (x, 120, 16)
    if thing == 3:
        return 300 - 4.5 * t, 170, 14
    if thing == 4:
        return None if t < 25 else (10 + min(5 * (t - 25), 80), 200, 24)
    return None if t > 45 else (12 + 4 * min(t, 45 - t), 95, 12)


QUESTIONS = [
    ("the first to leave", 2),
    ("the one that leaves and comes back", 2),
    ("the one that comes in from the left", 4),
    ("the one standing still", 1),
    ("the one moving left between 5 and 15 seconds", 3),
    ("the one moving right between 5 and 15 seconds and out of the picture on the right", 2),
    ("the thing that turns around and leaves on the left", 5),
    ("the biggest one at the end", 4),
    ("the second from the left at 10 seconds", 1),
    ("the rightmost at the start", 3),
    ("the one left of the one standing still at 30 seconds", 5),
    ("the last to leave", 5),
    ("the last one to come in from the left", 4),
    ("the smallest thing at the start", 5),
    ("the one that leaves through the top", None),
    ("the one that comes in from the right before 30 seconds", None),
]


@pytest.mark.slow
def test_a_film_from_track_to_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    ground = cv2.resize(rng.integers(70, 130, (12, 16, 3)).astype(np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    folder = tmp_path / "film" / "img1"
    folder.mkdir(parents=True)
    rows: list[str] = []
    truth: dict[tuple[int, tuple[int, ...]], int] = {}
    for number in range(1, FPS * SECONDS + 1):
        image = ground.copy()
        for thing, colour in COLOURS.items():
            at = place(thing, (number - 1) / FPS)
            if at is None:
                continue
            x, y, r = at
            corners = (int(x - r), int(y - r), int(x + r), int(y + r))
            if thing % 2:
                cv2.rectangle(image, corners[:2], corners[2:], colour, -1)
            else:
                cv2.circle(image, (int(x), int(y)), int(r), colour, -1)
            left, right = max(corners[0], 0), min(corners[2], SIZE[0])
            if right - left >= 6:
                rows.append(f"{number},-1,{left + 1},{corners[1] + 1},{right - left},{corners[3] - corners[1]},0.9")
                truth[number, (left, corners[1])] = thing
        cv2.imwrite(str(folder / f"{number:06d}.png"), image)
    facts = (
        f"imDir=img1\nframeRate={FPS}\nseqLength={FPS * SECONDS}\nimWidth={SIZE[0]}\nimHeight={SIZE[1]}\nimExt=.png\n"
    )
    (folder.parent / "seqinfo.ini").write_text(f"[Sequence]\nname=film\n{facts}")
    (tmp_path / "det.txt").write_text("\n".join(rows) + "\n")
    run, out = tmp_path / "run", tmp_path / "answers.json"
    options = ["--detections", str(tmp_path / "det.txt"), "--no-video", "--out", str(run)]
    assert main(["track", str(folder), *options]) == 0
    assert main(["refer", "--run", str(run), *(text for text, _ in QUESTIONS), "--json", str(out)]) == 0
    tracks = read_run(run)
    things: dict[int, Counter[int]] = {}
    for row, identity, box in zip(tracks.rows, tracks.ids.tolist(), tracks.boxes.round().astype(int), strict=True):
        thing = truth[int(tracks.frames[row]), (int(box[0]), int(box[1]))]
        things.setdefault(identity, Counter())[thing] += 1
    found = json.loads(out.read_text())
    named = [None if one["answer"] is None else things[one["answer"]].most_common(1)[0][0] for one in found]
    wrong = [
        (one["sentence"], name, right)
        for one, name, (_, right) in zip(found, named, QUESTIONS, strict=True)
        if name != right
    ]
    assert len(things) == len(COLOURS), things
    assert not wrong
