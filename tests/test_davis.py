"""Pictures of object numbers, folders of data sets, and J and F by DAVIS' rules against the official toolkit."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.evaluation.davis import evaluate_masks, statistics
from masa_track.formats.davis import (
    MaskFolder,
    find_sequences,
    index_picture,
    palette,
    read_index_picture,
    write_index_picture,
)

SETS = ["small", "dvs480", "one_object", "missing_object", "void"]


def write_sequence(folder: Path, pictures: np.ndarray) -> Path:
    folder.mkdir(parents=True)
    for number, picture in enumerate(pictures):
        write_index_picture(folder / f"{number:05d}.png", picture)
    return folder


def test_the_palette_is_the_official_one() -> None:
    colours = np.frombuffer(palette(), np.uint8).reshape(256, 3).tolist()
    first = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]]
    assert colours[:7] == first
    assert colours[8:11] == [[64, 0, 0], [191, 0, 0], [64, 128, 0]]
    assert colours[16:19] == [[0, 64, 0], [128, 64, 0], [0, 191, 0]]
    assert colours[21:24] == [[128, 64, 128], [22, 22, 22], [23, 23, 23]]
    assert colours[255] == [255, 255, 255]


def test_numbers_come_back_and_show_in_colours(tmp_path: Path) -> None:
    numbers = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_index_picture(tmp_path / "a.png", numbers)
    assert np.array_equal(read_index_picture(tmp_path / "a.png"), numbers)
    assert cv2.imread(str(tmp_path / "a.png"))[0, 1].tolist() == [0, 0, 128], "BGR of number 1"


def test_a_grey_mask_of_255_is_object_1(tmp_path: Path) -> None:
    """DAVIS 2016 has these; 255 is void only beside object numbers, or with a palette."""
    grey = np.zeros((6, 8), np.uint8)
    grey[2:4] = 255
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert np.array_equal(read_index_picture(tmp_path / "grey.png"), grey // 255)
    grey[5] = 7
    cv2.imwrite(str(tmp_path / "grey.png"), grey)
    assert np.array_equal(read_index_picture(tmp_path / "grey.png"), grey)


def test_pictures_without_object_numbers_are_refused(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "colour.png"), np.zeros((4, 4, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "deep.png"), np.zeros((4, 4), np.uint16))
    (tmp_path / "text.png").write_text("no picture")
    for name in ("colour", "deep"):
        with pytest.raises(InputError, match=rf"{name}.png must be a PNG with a palette or 8-bit grey"):
            read_index_picture(tmp_path / f"{name}.png")
    with pytest.raises(InputError, match="cannot be read as a picture of masks"):
        read_index_picture(tmp_path / "text.png")
    with pytest.raises(InputError, match="number from 1 to 254, got 0"):
        index_picture({0: np.ones((4, 4), bool)}, (4, 4))


def test_folders_by_object_as_in_sa_v(tmp_path: Path) -> None:
    write_sequence(tmp_path / "clip" / "000", np.ones((3, 4, 6), np.uint8))
    write_sequence(tmp_path / "clip" / "002", np.zeros((2, 4, 6), np.uint8))
    folder = MaskFolder(tmp_path / "clip")
    assert (folder.per_object, folder.objects, folder.names) == (True, [0, 2], ["00000", "00001", "00002"])
    assert folder.names_of(2) == ["00000", "00001"]
    assert {i: int(mask.sum()) for i, mask in folder.masks("00000").items()} == {0: 24, 2: 0}
    assert list(folder.masks("00002")) == [0]
    assert folder.folder_name(2) == "002"


@pytest.mark.parametrize(
    ("layout", "images", "masks"),
    [
        ("davis", "JPEGImages/480p/dog", "Annotations/480p/dog"),
        ("davis", "JPEGImages/Full-Resolution/dog", "Annotations/Full-Resolution/dog"),
        ("davis", "JPEGImages/dog", "Annotations/dog"),
        ("mose", "JPEGImages/dog", "Annotations/dog"),
        ("ytvos", "JPEGImages/dog", "Annotations/dog"),
        ("sav", "JPEGImages_24fps/dog", "Annotations_6fps/dog"),
    ],
)
def test_layouts(layout: str, images: str, masks: str, tmp_path: Path) -> None:
    (tmp_path / images).mkdir(parents=True)
    write_sequence(tmp_path / masks / ("000" if layout == "sav" else ""), np.ones((1, 4, 4), np.uint8))
    (found,) = find_sequences(tmp_path, layout)
    assert (found.name, found.images, found.masks) == ("dog", tmp_path / images, tmp_path / masks)
    with pytest.raises(InputError, match=r"unknown sequence 'dgo': did you mean 'dog'"):
        find_sequences(tmp_path, layout, ["dgo"])


def test_layouts_that_do_not_fit(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder JPEGImages_24fps, which --layout sav needs"):
        find_sequences(tmp_path, "sav")
    (tmp_path / "JPEGImages").mkdir()
    write_sequence(tmp_path / "Annotations" / "dog", np.ones((1, 4, 4), np.uint8))
    with pytest.raises(InputError, match="has masks of dog but no pictures"):
        find_sequences(tmp_path, "mose")


@pytest.fixture(scope="module")
def golden(shared: Path) -> tuple[Any, Any]:
    """The official toolkit's numbers, and what rebuilds its masks."""
    folder = shared / "goldens" / "sam2"
    spec = importlib.util.spec_from_file_location("sam2_recipe", folder / "recipe.py")
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    return recipe, np.load(folder / "davis_jf.npz")


@pytest.mark.shared_data
@pytest.mark.parametrize("name", SETS)
def test_folders_equal_the_official_toolkit(name: str, golden: Any, tmp_path: Path) -> None:
    recipe, numbers = golden
    of = json.loads(str(numbers["info"]))[name]
    truth, guess = recipe.masks(*(of[key] for key in ("seed", "count", "objects", "height", "width")))
    true, found = recipe.flat(truth), recipe.flat(guess)
    if name == "missing_object":
        found[found == of["skip_guess_object"]] = 0
    if name == "void":
        true[3, 0, 0] = 255
    evaluation = evaluate_masks(
        write_sequence(tmp_path / "gt" / "clip", true).parent, write_sequence(tmp_path / "out" / "clip", found).parent
    )
    for measure in ("j", "f"):
        expected = of["folder_per_object"][measure.upper()]
        per_object = np.array([statistics(getattr(one, measure)) for one in evaluation.objects])
        np.testing.assert_allclose(per_object.T, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(evaluation.statistics(measure), of["folder"][measure.upper()], rtol=0, atol=1e-12)
    assert evaluation.jf() == pytest.approx(of["JF"], abs=1e-12)


@pytest.mark.shared_data
def test_statistics_equal_the_official_ones(golden: Any) -> None:
    _, numbers = golden
    for count, expected in json.loads(str(numbers["info"]))["statistics"].items():
        found = statistics(numbers["statistics"][: int(count)])
        compared = slice(0, 2) if int(count) > 256 else slice(0, 3)  # their decay is wrong from 256 values on
        np.testing.assert_allclose(found[compared], expected[compared], rtol=0, atol=1e-12)


def moving(count: int, shift: int) -> np.ndarray:
    pictures = np.zeros((count, 20, 30), np.uint8)
    for number in range(count):
        pictures[number, 4:12, number + shift : number + shift + 8] = 1
        pictures[number, 14:18, 20:26] = 2
    return pictures


def test_eval_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sequence(tmp_path / "gt" / "a", moving(6, 0))
    write_sequence(tmp_path / "gt" / "b", moving(6, 0))
    write_sequence(tmp_path / "out" / "a", moving(6, 0))
    write_sequence(tmp_path / "out" / "b", moving(6, 4))
    command = ["eval", str(tmp_path / "gt"), str(tmp_path / "out"), "--metrics", "jf"]
    assert main([*command, "--json", str(tmp_path / "scores.json")]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert list(rows) == ["sequence", "a", "b", "ALL"]
    assert rows["a"] == ["100.0", "100.0", "100.0", "0.0", "100.0", "100.0", "0.0", "2"]
    assert rows["b"][1] == "66.7", "one object overlaps its truth by a third, the other one wholly"
    assert rows["ALL"][1] == "83.3"
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["sequences"]["b"]["objects"]["1"]["j"]["mean"] == pytest.approx(1 / 3)
    assert scores["j"]["recall"] == 0.75


def test_what_cannot_be_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gt = write_sequence(tmp_path / "gt" / "a", moving(4, 0)).parent
    out = write_sequence(tmp_path / "out" / "a", moving(4, 0)).parent
    (out / "a" / "00002.png").unlink()
    with pytest.raises(InputError, match=r"has no 00002.png, which GT .* has"):
        evaluate_masks(gt, out)
    write_index_picture(out / "a" / "00002.png", np.full((20, 30), 3, np.uint8))
    with pytest.raises(InputError, match=r"00002.png: object 3 is not in the truth, which has \[1, 2\]"):
        evaluate_masks(gt, out)
    write_index_picture(out / "a" / "00002.png", np.ones((10, 30), np.uint8))
    with pytest.raises(InputError, match=r"00002.png must have the size of its truth"):
        evaluate_masks(gt, out)
    write_sequence(tmp_path / "gt" / "b", moving(4, 0))
    with pytest.raises(InputError, match=r"has no masks of 1 of 2 sequences: b"):
        evaluate_masks(gt, out)
    for option in (
        ["--metrics", "jf,hota"],
        ["--metrics", "jf", "--stride", "2"],
        ["--metrics", "jf", "--rules", "none"],
    ):
        assert main(["eval", str(gt), str(out), *option]) == 2
    assert "stands alone" in capsys.readouterr().err
