"""`masa-track proposals`: regions of photographs, killed and resumed, by SAM and by superpixels."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.training.grouping import MAX_REGIONS, propose_regions
from masa_track.training.image_list import list_images
from masa_track.training.journal import Journal

pytestmark = pytest.mark.slow  # together they take seconds

coco = pytest.importorskip("pycocotools.mask")


def scene(seed: int, width: int = 120, height: int = 90) -> np.ndarray:
    """Ellipses of their own colours on a slope, with noise."""
    rng = np.random.default_rng(seed)
    picture = np.linspace(60, 140, width)[None, :, None].repeat(height, 0).repeat(3, 2).astype(np.uint8)
    for _ in range(4):
        center = (int(rng.integers(20, width - 20)), int(rng.integers(20, height - 20)))
        size = (int(rng.integers(8, 18)), int(rng.integers(8, 18)))
        cv2.ellipse(picture, center, size, int(rng.integers(180)), 0, 360, rng.integers(0, 255, 3).tolist(), -1)
    return np.clip(picture + rng.normal(0, 3, picture.shape), 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, two of them in a folder below, and one that is none."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    (folder / "more").mkdir(parents=True)
    for index in range(6):
        cv2.imwrite(str(folder / ("more" if index > 3 else ".") / f"p{index}.png"), scene(index))
    (folder / "notes.txt").write_text("p0.png\n\n# the best\nmore/p5.png\n")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("segment_anything")
    from tiny_sam import write_sam

    return write_sam(tmp_path_factory.mktemp("sam") / "sam.pth", side=64, speckled=True)


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Sums in another order round otherwise; as many threads everywhere make them the same."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def sam_options(checkpoint: Path) -> list[str]:
    """Thresholds that random numbers pass."""
    options = ["--points-per-side", "3", "--least-iou", "0", "--least-stability", "0", "--device", "cpu"]
    return ["--sam", str(checkpoint), *options]


def proposals(images: object, out: Path, *options: str) -> dict:
    assert main(["proposals", str(images), "--out", str(out), *options]) == 0
    return json.loads(out.read_text())


def lines(out: Path) -> list[str]:
    return Path(f"{out}.journal").read_text().splitlines()


# ---------------------------------------------------------------------------------------------------------------------
# The file


@pytest.mark.parametrize("method", ["sam", "superpixels"])
def test_the_file_is_coco(
    method: str, photos: Path, request: pytest.FixtureRequest, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sam = method == "sam"
    options = sam_options(request.getfixturevalue("checkpoint")) if sam else ["--method", "superpixels"]
    found = proposals(photos, tmp_path / "new" / "regions.json", *options)
    said = capsys.readouterr()
    assert [image["file_name"] for image in found["images"]] == [
        *("more/p4.png", "more/p5.png", "p0.png", "p1.png", "p2.png", "p3.png")
    ]
    assert [image["id"] for image in found["images"]] == [1, 2, 3, 4, 5, 6]
    assert all((image["width"], image["height"]) == (120, 90) for image in found["images"])
    assert found["categories"] == [{"id": 1, "name": "object"}]
    assert [a["id"] for a in found["annotations"]] == list(range(1, len(found["annotations"]) + 1))
    assert len(found["annotations"]) > 6
    assert f"6 images, {len(found['annotations'])} regions" in said.out
    assert "6/6" in said.err
    assert "image/s" in said.err or "s/image" in said.err
    for region in found["annotations"]:
        assert (region["category_id"], region["iscrowd"]) == (1, 0)
        mask = coco.decode(region["segmentation"])
        y, x = np.nonzero(mask)
        assert mask.shape == (90, 120)
        assert region["area"] == len(x) > 0
        assert region["bbox"] == [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
        scores = {"predicted_iou", "stability_score"} if sam else {"score"}
        assert set(region) == {"id", "image_id", "category_id", "iscrowd", "segmentation", "bbox", "area", *scores}
    from pycocotools.coco import COCO

    assert len(COCO(str(tmp_path / "new" / "regions.json")).getAnnIds(imgIds=[3])) > 0


def test_sams_masks_are_its_generators(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    from segment_anything import SamAutomaticMaskGenerator
    from tiny_sam import tiny_sam

    image = cv2.imread(str(photos / "p0.png"))[..., ::-1].copy()
    thresholds = {"pred_iou_thresh": 0.0, "stability_score_thresh": 0.0, "output_mode": "coco_rle"}
    generator = SamAutomaticMaskGenerator(tiny_sam(side=64, speckled=True), points_per_side=3, **thresholds)
    expected = generator.generate(image)
    expected = sorted((m for m in expected if m["area"]), key=lambda m: -m["predicted_iou"])
    found = proposals(photos / "p0.png", tmp_path / "r.json", *sam_options(checkpoint), "--max-regions", "2")
    assert len(expected) > 2
    assert len(found["annotations"]) == 2
    for region, mask in zip(found["annotations"], expected, strict=False):
        assert region["segmentation"] == mask["segmentation"]
        assert region["predicted_iou"] == pytest.approx(mask["predicted_iou"], abs=1e-4)


def test_images_without_regions_are_listed(checkpoint: Path, photos: Path, tmp_path: Path) -> None:
    options = [*sam_options(checkpoint), "--least-stability", "1"]
    found = proposals(photos, tmp_path / "r.json", *options, "--max-images", "2")
    assert len(found["images"]) == 2
    assert found["annotations"] == []


@pytest.mark.slow
def test_two_workers_give_the_same(checkpoint: Path, photos: Path, tmp_path: Path, one_thread: None) -> None:
    """With superpixels: test_killed_and_resumed."""
    options = sam_options(checkpoint)
    one, two = (proposals(photos, tmp_path / f"{n}.json", *options, "--workers", n) for n in ("1", "2"))
    assert one == two
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()


# ---------------------------------------------------------------------------------------------------------------------
# Ends and goes on


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures that take a while, twelve of noise."""
    folder = tmp_path_factory.mktemp("many")
    for index in range(12):
        noise = np.random.default_rng(index).integers(0, 255, (90, 120, 3), np.uint8)
        cv2.imwrite(str(folder / f"p{index:02d}.png"), cv2.resize(noise, (240, 180)))
    return folder


@pytest.fixture(scope="module")
def whole(many: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The file of a run that nothing stops."""
    out = tmp_path_factory.mktemp("whole") / "r.json"
    proposals(many, out, "--method", "superpixels", "--max-regions", "9")
    return out.read_bytes()


def begun(many: Path, out: Path, workers: int) -> subprocess.Popen:
    """A run in a process of its own, as soon as it has done some of its images."""
    options = ["--method", "superpixels", "--max-regions", "9", "--workers", str(workers), "--out", str(out)]
    line = [sys.executable, "-m", "masa_track", "proposals", str(many), *options]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    journal = Path(f"{out}.journal")
    for _ in range(3000):
        if journal.exists() and journal.read_bytes().count(b"\n") >= 3:
            return process
        time.sleep(0.02)
    process.kill()
    raise AssertionError(process.communicate(timeout=60))


@pytest.mark.slow
def test_killed_and_resumed(many: Path, whole: bytes, tmp_path: Path) -> None:
    """Begun by two workers, ended by one: the same file as that of one alone."""
    out = tmp_path / "r.json"
    process = begun(many, out, workers=2)
    family = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    children = family.read_text().split() if family.exists() else []
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    assert not out.exists()
    done = len(lines(out)) - 1
    assert 0 < done < 12
    with open(f"{out}.journal", "a") as journal:
        journal.write('{"image":"p11.png","width":400,"hei')  # half a line, as a kill may leave it
    for _ in range(500):  # no worker outlives its parent
        if not any(Path(f"/proc/{child}/exe").exists() for child in children):
            break
        time.sleep(0.02)
    else:
        for child in children:
            os.kill(int(child), signal.SIGKILL)
        raise AssertionError("workers are left behind")
    process.communicate(timeout=60)
    proposals(many, out, "--method", "superpixels", "--max-regions", "9")
    assert out.read_bytes() == whole
    names = [json.loads(line)["image"] for line in lines(out)[1:]]
    assert sorted(names) == [f"p{index:02d}.png" for index in range(12)]  # none twice


@pytest.mark.slow
def test_ctrl_c_says_how_to_go_on(many: Path, whole: bytes, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    process = begun(many, out, workers=1)
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    done = len(lines(out)) - 1
    assert f"{done} of 12 images are in {out}.journal: the same command goes on there" in said
    assert sorted(os.listdir(tmp_path)) == ["r.json.journal"]
    proposals(many, out, "--method", "superpixels", "--max-regions", "9")
    assert out.read_bytes() == whole


def test_more_images_are_added(photos: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "r.json", ["--method", "superpixels", "--max-regions", "5"]
    assert len(proposals(photos, out, *options, "--max-images", "2")["images"]) == 2
    before = lines(out)
    grown = proposals(photos, out, *options)
    assert lines(out)[: len(before)] == before
    assert len(lines(out)) == 7
    assert grown == proposals(photos, tmp_path / "at_once.json", *options)
    assert len(proposals(photos, out, *options, "--max-images", "3")["images"]) == 3


def test_other_settings_are_refused(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, options = tmp_path / "r.json", ["--method", "superpixels", "--max-images", "1"]
    proposals(photos, out, *options, "--max-regions", "5")
    before = (out.read_bytes(), lines(out))
    assert main(["proposals", str(photos), "--out", str(out), *options, "--max-regions", "6"]) == 2
    assert "other settings: max_regions was 5, is 6." in capsys.readouterr().err
    assert main(["proposals", str(photos / "more"), "--out", str(out), *options, "--max-regions", "5"]) == 2
    assert "images was" in capsys.readouterr().err
    assert (out.read_bytes(), lines(out)) == before


def test_broken_images_are_left_out_until_they_are_fixed(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out, options = tmp_path / "photos", tmp_path / "r.json", ["--method", "superpixels", "--max-regions", "5"]
    shutil.copytree(photos, folder)
    (folder / "p1.png").write_bytes((photos / "p1.png").read_bytes()[:300])
    (folder / "p2.jpg").write_bytes(b"")
    found = proposals(folder, out, *options)
    said = capsys.readouterr()
    assert "p1.png skipped: cannot be decoded" in said.err
    assert "p2.jpg skipped: is empty (0 bytes)" in said.err
    assert "left out  2 images that could not be read: p1.png, p2.jpg" in said.out
    assert [image["file_name"] for image in found["images"]] == [
        *("more/p4.png", "more/p5.png", "p0.png", "p2.png", "p3.png")
    ]
    written = lines(out)
    proposals(folder, out, *options)
    said = capsys.readouterr()
    assert "skipped" not in said.err  # not tried again
    assert "left out  2 images" in said.out  # nor forgotten
    assert lines(out) == written
    (folder / "p2.jpg").unlink()
    shutil.copy(photos / "p1.png", folder / "p1.png")
    repaired = proposals(folder, out, *options)
    assert "left out" not in capsys.readouterr().out
    assert repaired == proposals(photos, tmp_path / "other.json", *options)


def test_only_broken_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jpg").write_bytes(b"nothing")
    assert main(["proposals", str(tmp_path), "--method", "superpixels", "--out", str(tmp_path / "r.json")]) == 1
    assert "no image could be read" in capsys.readouterr().out
    assert not (tmp_path / "r.json").exists()


# ---------------------------------------------------------------------------------------------------------------------
# Bad input


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "images 'nowhere': there is no such folder, list or image"),
        (["{empty}"], "holds no image: give .avif, .bmp"),
        (["{empty}/*.png"], "matches 0 files, none of them an image"),
        (["{photos}", "--workers", "0"], "--workers must be 1 or more, got 0"),
        (["{photos}", "--max-images", "0"], "--max-images must be 1 or more, got 0"),
        (["{photos}", "--max-regions", "0"], "--max-regions must be 1 or more, got 0"),
        (["{photos}", "--points-per-side", "8"], "--points-per-side is for --sam"),
        (["{photos}", "--sam", "none.pth"], "no such checkpoint: none.pth"),
        (["{photos}", "--sam", "{photos}/p0.png"], "not a whole torch checkpoint"),
        (["{photos}", "--sam", "{photos}/p0.png", "--workers", "2"], "not a whole torch checkpoint"),
        (["{photos}", "--sam", "x", "--points-per-side", "0"], "--points-per-side must be 1 or more, got 0"),
        (["{photos}", "--sam", "x", "--least-iou", "2"], "--least-iou must be between 0 and 1, got 2.0"),
    ],
)
def test_bad_input(
    arguments: list[str], message: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("segment_anything")
    empty = tmp_path / "empty"
    empty.mkdir()
    arguments = [word.format(photos=photos, empty=empty) for word in arguments]
    method = [] if "--sam" in arguments else ["--method", "superpixels"]
    assert main(["proposals", *arguments, *method, "--out", str(tmp_path / "r.json")]) == 2
    said = capsys.readouterr()
    assert message in said.err
    assert sorted(os.listdir(tmp_path)) == ["empty"]  # nothing is left behind


def test_a_file_of_somebody_else_is_not_overwritten(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "regions.json"
    out.write_text("drawn by hand for weeks")
    assert main(["proposals", str(photos), "--method", "superpixels", "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
    assert out.read_text() == "drawn by hand for weeks"
    assert main(["proposals", str(photos), "--method", "superpixels", "--out", str(tmp_path)]) == 2
    assert "--out must name a file" in capsys.readouterr().err


def test_journal_is_held_by_one_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, {"a": 1}) as journal:
        journal.append({"image": "x", "regions": []})
        with pytest.raises(InputError, match="another run is at work"):
            Journal(path, {"a": 1})
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 4])  # half of the settings: nothing is lost by beginning anew
    with Journal(path, {"a": 1}) as journal:
        assert len(journal) == 0
        journal.append({"image": "x", "regions": []})
    assert path.read_bytes() == whole
    path.write_bytes(whole.replace(b"regions", b"reg\nons") + b'{"image":"y","regions":[]}\n')
    with pytest.raises(InputError, match="line 2 is damaged"):
        Journal(path, {"a": 1})


def test_images_by_list_and_pattern(photos: Path, tmp_path: Path) -> None:
    listed = list_images(str(photos / "notes.txt"))
    assert (listed.root, listed.names) == (photos.resolve(), ["more/p5.png", "p0.png"])
    found = list_images(f"{photos}/**/*.png")
    assert (found.root, len(found.names), found.names[0]) == (photos.resolve(), 6, "more/p4.png")
    assert list_images(f"{photos}/p[12].*").names == ["p1.png", "p2.png"]
    for text, message in (
        ("p0.png\nnone.png\n", "line 2: there is no file 'none.png'"),
        (f"{photos}/p0.png\n{photos}/p0.png\n", "line 2: .* is in line 1 already"),
        ("# nothing\n", "names no image"),
    ):
        path = tmp_path / "list.txt"
        path.write_text(text.replace("p0.png\nnone", f"{photos}/p0.png\nnone"))
        with pytest.raises(InputError, match=message):
            list_images(str(path))


# ---------------------------------------------------------------------------------------------------------------------
# Superpixels


def test_superpixels_find_what_stands_out() -> None:
    image = np.full((200, 300, 3), (200, 120, 40), np.uint8)
    truth = np.zeros((2, 200, 300), np.uint8)
    cv2.circle(truth[0], (80, 100), 50, 1, -1)
    cv2.rectangle(truth[1], (180, 40), (260, 170), 1, -1)
    image[truth[0] > 0], image[truth[1] > 0] = (30, 30, 200), (40, 200, 220)
    image = np.clip(image + np.random.default_rng(0).normal(0, 4, image.shape), 0, 255).astype(np.uint8)
    for scale in (1, 3):  # above 400 pixels regions are found on a smaller picture
        large = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST)
        regions = propose_regions(large)
        for mask in truth:
            mask = cv2.resize(mask, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST).astype(bool)
            ious = [(region.mask & mask).sum() / (region.mask | mask).sum() for region in regions]
            assert max(ious) > 0.95
            assert int(np.argmax(ious)) < 5  # among the first


def test_superpixels_are_distinct_ordered_and_repeatable() -> None:
    image = scene(3, 300, 220)
    regions = propose_regions(image)
    assert 5 < len(regions) <= MAX_REGIONS
    assert all(0 <= region.score <= 1 and region.mask.any() for region in regions)
    scores = [region.score for region in regions]
    assert scores == sorted(scores, reverse=True)
    masks = np.array([region.mask for region in regions])
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    common, areas = flat @ flat.T, flat.sum(axis=1)
    ious = common / (areas[:, None] + areas - common)
    assert 0.6 < ious[~np.eye(len(ious), dtype=bool)].max() <= 0.75  # none is left out for less
    again = propose_regions(image, 4)
    np.testing.assert_array_equal([region.mask for region in again], masks[:4])


@pytest.mark.parametrize("shape", [(1, 1), (3, 400), (15, 15), (16, 16), (2000, 5)])
def test_superpixels_of_small_and_even_pictures(shape: tuple[int, int]) -> None:
    assert propose_regions(np.full((*shape, 3), 77, np.uint8)) == []
    noise = np.random.default_rng(0).integers(0, 255, (*shape, 3), np.uint8)
    for region in propose_regions(noise):
        assert region.mask.shape == shape


def test_merging_keeps_count_of_outlines() -> None:
    """Bookkeeping of the merging against outlines counted anew from the labels."""
    from masa_track.training.grouping import _Tree
    from masa_track.training.superpixels import Superpixels

    pixels = Superpixels(scene(1))
    tree, n = _Tree(pixels), len(pixels)
    assert n > 10
    alive, rng = set(range(n)), np.random.default_rng(0)
    for new in range(n, n + min(40, n - 2)):
        one = int(rng.choice(sorted(i for i in alive if tree.links[i])))
        other = int(rng.choice(sorted(tree.links[one])))
        tree.join(one, other, new)
        alive -= {one, other}
        alive.add(new)
    owner = np.zeros(n, int)
    for region in alive:
        owner[tree.members[region]] = region
    labels = owner[pixels.labels]
    for region in alive:
        mask = labels == region
        across = (mask[:, 1:] != mask[:, :-1]).sum() + (mask[1:] != mask[:-1]).sum()
        assert tree.outer[region, 1] == across
        assert tree.areas[region] == mask.sum()
        members = np.flatnonzero(tree.members[region])
        inside = np.isin(pixels.labels, members)
        within = 0
        for a, b in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
            within += (inside[a] & inside[b] & (pixels.labels[a] != pixels.labels[b])).sum()
        assert tree.inner[region, 1] == within
        for neighbour, (_, length) in tree.links[region].items():
            there = labels == neighbour
            both = (mask[:, 1:] & there[:, :-1]) | (mask[:, :-1] & there[:, 1:])
            assert length == both.sum() + ((mask[1:] & there[:-1]) | (mask[:-1] & there[1:])).sum()


def test_the_command_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["proposals", "--help"])
    assert re.search(r"FILE\.journal", capsys.readouterr().out)
