"""Prompts of the command line and of json files: what they mean, and which are refused before any work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from masa_track.contracts import Prompt
from masa_track.errors import InputError
from masa_track.formats.davis import write_index_picture
from masa_track.masklets.prompt_file import (
    FORMS,
    FrameRange,
    check_prompts,
    prompts_from_json,
    prompts_to_json,
    read_prompts,
    with_further,
)
from masa_track.masks import as_mask

SIZE = 60, 40  # width, height
FRAMES = FrameRange(1, 20, SIZE)


def read(**given: Any) -> Any:
    prompts = read_prompts(FRAMES, **given)
    check_prompts(prompts)
    return prompts


def test_box_and_points_of_one_frame_are_one_prompt() -> None:
    prompts = read(boxes=["1:3:10,5,30,25"], points=["1:3:12,7", "1:3:50,30,-", "2:4:1,2"])
    assert sorted(prompts) == [3, 4]
    assert prompts[3][1].box.tolist() == [10, 5, 30, 25]
    assert prompts[3][1].points.tolist() == [[12, 7], [50, 30]]
    assert prompts[3][1].positive.tolist() == [True, False]
    assert prompts[4][2].points.tolist() == [[1, 2]]


def test_a_scribble_is_sampled() -> None:
    prompts = read(scribbles=["1:1:0,0;16,0;16,24"], points=["1:1:40,30"])
    points = prompts[1][1].points.tolist()
    assert [40, 30] in points
    assert [0, 0] in points
    assert [8, 0] in points
    assert [16, 24] in points
    away = read(points=["1:1:40,30"], scribbles=["1:1:0,0;16,0,-"])
    assert away[1][1].positive.tolist() == [True, False, False, False]


def test_masks_are_of_the_own_number_or_of_all_that_is_not_black(tmp_path: Path) -> None:
    numbers = np.zeros(SIZE[::-1], np.uint8)
    numbers[:10], numbers[20:30] = 1, 3
    write_index_picture(tmp_path / "many.png", numbers)
    write_index_picture(tmp_path / "one.png", np.where(numbers == 3, 3, 0))
    prompts = read(masks=[f"3:1:{tmp_path}/many.png", f"1:2:{tmp_path}/one.png"])
    assert np.array_equal(as_mask(prompts[1][3].mask, SIZE), numbers == 3)
    assert np.array_equal(as_mask(prompts[2][1].mask, SIZE), numbers == 3)
    with pytest.raises(InputError, match=r"object numbers 1, 3, but not 2"):
        read(masks=[f"2:1:{tmp_path}/many.png"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"boxes": ["1:21:1,1,5,5"]}, r"--box 1:21:1,1,5,5: there is no frame 21 among frames 1 to 20"),
        ({"boxes": ["1:0:1,1,5,5"]}, "FRAME must be a whole number of 1 or more, got '0'"),
        ({"boxes": ["x:1:1,1,5,5"]}, "ID must be a whole number of 0 or more, got 'x'"),
        ({"boxes": ["1,1,5,5"]}, "must be ID:FRAME:x1,y1,x2,y2"),
        ({"boxes": ["1:1:1,1,5"]}, "where 4 numbers were expected"),
        ({"boxes": ["1:1:1,1,nan,5"]}, "where 4 numbers were expected"),
        ({"boxes": ["1:1:70,1,90,5"]}, "--box 1:1:70,1,90,5: prompt.box must cover a pixel"),
        ({"boxes": ["1:1:1,1,9,9", "1:1:2,2,9,9"]}, "object 1 in frame 1 has several boxes: give one"),
        ({"points": ["1:1:60,5"]}, r"--point 1:1:60,5: prompt.points must be in the picture of 60 x 40"),
        ({"points": ["1:1:5,5", "1:1:5,5,-"]}, "is both positive and negative"),
        ({"points": ["1:1:5,5,-"]}, "object 1 has only negative points in frame 1"),
        ({"points": ["1:1:5;5"]}, "where 2 numbers were expected"),
        ({"scribbles": ["1:1:5,5;99,5"]}, "--scribble 1:1:5,5;99,5: prompt.points must be in the picture"),
        ({"scribbles": ["1:1:"]}, "where 2 numbers were expected"),
        ({"masks": ["1:1:missing.png"]}, r"--mask 1:1:missing.png: missing.png cannot be read"),
        ({"file": Path("missing.json")}, "--prompts missing.json cannot be read"),
        ({}, "no object is prompted: give --box"),
    ],
)
def test_bad_values_are_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(**given)


def test_masks_that_do_not_fit(tmp_path: Path) -> None:
    write_index_picture(tmp_path / "small.png", np.ones((10, 10), np.uint8))
    write_index_picture(tmp_path / "good.png", np.ones(SIZE[::-1], np.uint8))
    write_index_picture(tmp_path / "empty.png", np.zeros(SIZE[::-1], np.uint8))
    with pytest.raises(InputError, match="the mask has 10 x 10 pixels, the video 60 x 40"):
        read(masks=[f"1:1:{tmp_path}/small.png"])
    with pytest.raises(InputError, match="has a mask, and points or a box"):
        read(masks=[f"1:1:{tmp_path}/good.png"], points=["1:1:5,5"])
    with pytest.raises(InputError, match="has several masks"):
        read(masks=[f"1:1:{tmp_path}/good.png", f"1:1:{tmp_path}/empty.png"])
    with pytest.raises(InputError, match="the first mask of object 1, in frame 2, is empty"):
        read(masks=[f"1:2:{tmp_path}/empty.png"])
    late = read(masks=[f"1:1:{tmp_path}/good.png", f"1:5:{tmp_path}/empty.png"])
    assert not as_mask(late[5][1].mask, SIZE).any(), "an empty mask says later that the object is not visible"


def in_file(folder: Path, entries: Any) -> Any:
    (folder / "prompts.json").write_text(json.dumps({"prompts": entries}))
    return read(file=folder / "prompts.json")


def test_a_file_says_the_same_as_options(tmp_path: Path) -> None:
    mask = np.zeros(SIZE[::-1], np.uint8)
    mask[3:9, 4:8] = 1
    write_index_picture(tmp_path / "mask.png", mask)
    given = read(
        boxes=["1:1:10,5,30,25"],
        points=["1:1:12,7", "2:4:1,2", "2:4:30,2,-"],
        scribbles=["2:6:0,0;16,0,-"],
        masks=[f"3:2:{tmp_path}/mask.png"],
    )
    of_file = in_file(
        tmp_path,
        [
            {"id": 1, "frame": 1, "box": [10, 5, 30, 25], "point": [12, 7]},
            {"id": 2, "frame": 4, "points": [[1, 2], [30, 2]], "positive": [True, False]},
            {"id": 2, "frame": 6, "scribble": [[0, 0], [16, 0]], "positive": False},
            {"id": 3, "frame": 2, "mask": "mask.png"},
        ],
    )
    assert prompts_to_json(given) == prompts_to_json(of_file)
    again = prompts_from_json(json.loads(json.dumps(prompts_to_json(given))), FRAMES, "record", tmp_path)
    assert prompts_to_json(again) == prompts_to_json(given)


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"id": 1, "frame": 1, "boxes": [1, 1, 5, 5]}], r"key in .*prompts\[0\] 'boxes': did you mean 'box'"),
        ([{"id": 1, "frame": 1}], r"prompts\[0\] has no prompt"),
        ([{"frame": 1, "point": [1, 1]}], "id must be a whole number"),
        ([{"id": 1, "frame": 1, "point": [1]}], "point must hold x, y in pixels"),
        ([{"id": 1, "frame": 1, "points": []}], "must have a point"),
        ([{"id": 1, "frame": 1, "points": [[1, 1]], "positive": [True, False]}], "one for each of the points"),
        ([{"id": 1, "frame": 1, "box": "1,2,3,4"}], r"box must be \[x1, y1, x2, y2\]"),
        ([{"id": 1, "frame": 1, "mask": {"size": [4, 4], "counts": "x"}}], "the mask is 4x4, its image 60x40"),
        (
            [{"id": 2, "frame": 1, "point": [1, 1]}, {"id": 1, "frame": 1, "remove": True}],
            "object 1 is removed in frame 1 but has no prompt before",
        ),
        (
            [{"id": 1, "frame": 1, "point": [1, 1]}, {"id": 1, "frame": 1, "remove": True}],
            "is both removed and prompted",
        ),
        ({"id": 1}, "prompts must be a list of objects"),
    ],
)
def test_bad_entries_are_named(entries: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        in_file(tmp_path, entries)


def test_further_prompts_replace_those_of_their_object_and_frame() -> None:
    before = read(points=["1:1:5,5", "1:10:6,6", "2:10:30,30"])
    both, changed = with_further(before, read_prompts(FRAMES, points=["1:10:8,8"]))
    assert changed == 10
    assert both[10][1].points.tolist() == [[8, 8]]
    assert both[10][2].points.tolist() == [[30, 30]]
    assert with_further(before, read_prompts(FRAMES, points=["1:10:6,6"]))[1] is None
    assert with_further(before, {})[1] is None
    assert before[10][1].points.tolist() == [[6, 6]], "the prompts before are as they were"


def test_a_removed_object_may_be_prompted_again(tmp_path: Path) -> None:
    prompts = {1: {1: Prompt(np.float32([[5, 5]]), np.array([True]))}, 5: {1: None}, 9: {1: None}}
    with pytest.raises(InputError, match="removed in frame 9 but has no prompt before"):
        check_prompts(prompts)
    prompts[7] = prompts[1]
    check_prompts(prompts)


def test_the_help_shows_the_forms() -> None:
    from masa_track.cli.main import build_parser

    actions = build_parser()._subparsers._group_actions[0].choices["segment"]._actions  # type: ignore[union-attr, index]
    shown = {action.dest: action.metavar for action in actions}
    assert {name: shown[name] for name in FORMS} == FORMS
