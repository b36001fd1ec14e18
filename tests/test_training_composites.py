"""Pasted pairs: what is the same in both pictures, what is seen, and what is held aside."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from masa_track.errors import InputError
from masa_track.masks import mask_api
from masa_track.training import composites
from masa_track.training.batch import prepare
from masa_track.training.composites import Composites, paste_all
from masa_track.training.cutouts import Cutout, cut_out, seen_again
from masa_track.training.model import TrainingModel
from masa_track.training.region_files import read_regions
from masa_track.training.regions import split

pytestmark = pytest.mark.slow  # together they take seconds

PHOTOS, THINGS = 12, 4


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dozen grey photographs with four discs each, every disc of its own colour, and their masks."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "images").mkdir()
    images, annotations = [], []
    for number in range(PHOTOS):
        picture = np.full((200, 260, 3), 100 + number, np.uint8)
        for thing in range(THINGS):
            centre, hue = (40 + 60 * thing, 60 + 25 * thing), (number * THINGS + thing) * 180 // (PHOTOS * THINGS)
            colour = cv2.cvtColor(np.uint8([[[hue, 255, 230]]]), cv2.COLOR_HSV2BGR)[0, 0].tolist()
            mask = np.zeros(picture.shape[:2], np.uint8)
            cv2.circle(mask, centre, 25, 1, -1)
            picture[mask > 0] = colour
            rle = mask_api().encode(np.asfortranarray(mask))
            box = [centre[0] - 25, centre[1] - 25, 51, 51]
            rle = {"size": rle["size"], "counts": rle["counts"].decode()}
            known = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "iscrowd": 0, "area": 2000}
            annotations.append({**known, "bbox": box, "segmentation": rle})
        images.append({"id": number, "file_name": f"{number}.png", "width": 260, "height": 200})
        cv2.imwrite(str(folder / "images" / f"{number}.png"), picture)
    data = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "object"}]}
    (folder / "regions.json").write_text(json.dumps(data))
    return folder


def make(photos: Path, **options: object) -> Composites:
    given: dict = {"size": 256, "samples": 40, "hold_out_every": 4, **options}
    return Composites(photos / "regions.json", photos / "images", **given)


def colour_of(view: dict[str, torch.Tensor], row: int) -> np.ndarray:
    """(2,) hue of the middle of a box as a direction, since hues go round."""
    x1, y1, x2, y2 = view["boxes"][row].tolist()
    x, y, r = (x1 + x2) / 2, (y1 + y2) / 2, max(2.0, min(x2 - x1, y2 - y1) / 6)
    rows, columns = slice(max(0, int(y - r)), int(y + r) + 1), slice(max(0, int(x - r)), int(x + r) + 1)
    patch = view["image"].permute(1, 2, 0).numpy()[rows, columns]
    hues = np.deg2rad(2.0 * cv2.cvtColor(np.ascontiguousarray(patch), cv2.COLOR_RGB2HSV)[..., 0].ravel())
    return np.array([np.median(np.cos(hues)), np.median(np.sin(hues))])


def test_the_same_id_is_the_same_object(photos: Path) -> None:
    """By colour; some middles are covered by what lies in front, so most and not all."""
    data = make(photos, scene_share=0.0)
    same, other = [], []
    for index in range(20):
        key, ref = data[index]["views"]
        for row, number in enumerate(key["ids"].tolist()):
            for column, second in enumerate(ref["ids"].tolist()):
                distance = np.linalg.norm(colour_of(key, row) - colour_of(ref, column))
                (same if number == second else other).append(distance)
    assert len(same) > 60
    assert np.mean(np.array(same) < 0.25) > 0.85
    assert np.mean(np.array(other) < 0.25) < 0.35


@pytest.mark.parametrize("scene_share", [0.0, 1.0])
def test_an_item_is_whole(photos: Path, scene_share: float) -> None:
    data = make(photos, scene_share=scene_share)
    for index in range(10):
        views = data[index]["views"]
        shared = np.intersect1d(views[0]["ids"].numpy(), views[1]["ids"].numpy())
        assert len(shared) >= 2
        for view in views:
            assert view["image"].shape == (3, 256, 256)
            assert view["image"].dtype == torch.uint8
            assert len(view["ids"]) == len(view["ids"].unique()) >= 4
            for boxes in (view["boxes"], view["regions"]):
                assert (boxes >= 0).all()
                assert (boxes <= 256).all()
                assert (boxes[:, 2:] > boxes[:, :2]).all()
            assert (len(view["regions"]) > 0) == (scene_share == 1.0)


def test_a_whole_photographs_regions_are_its_discs(photos: Path) -> None:
    data = make(photos, scene_share=1.0)
    for index in range(10):
        for view in data[index]["views"]:
            for x1, y1, x2, y2 in view["regions"].int().tolist():
                patch = view["image"][:, (y1 + y2) // 2, (x1 + x2) // 2].float()
                assert patch.max() - patch.min() > 60  # coloured: a disc, not the grey around it


def test_chance_comes_from_seed_epoch_and_index_alone(photos: Path) -> None:
    data, again = make(photos), make(photos)
    alone = [data[index] for index in range(8)]
    for workers in (0, 2):
        for item, loaded in zip(alone, DataLoader(again, batch_size=None, num_workers=workers), strict=False):
            for view, other in zip(item["views"], loaded["views"], strict=True):
                assert all(torch.equal(view[key], other[key]) for key in view)
    again.set_epoch(1)
    assert not torch.equal(alone[0]["views"][0]["image"], again[0]["views"][0]["image"])
    assert not torch.equal(alone[0]["views"][0]["image"], make(photos, seed=1)[0]["views"][0]["image"])


def test_what_is_held_aside_is_never_seen(photos: Path) -> None:
    regions = read_regions(photos / "regions.json")
    held = split(regions, "held", 4).images
    assert 0 < len(held) < PHOTOS
    data = make(photos)
    assert len(data.things) == PHOTOS - len(held)
    names = {image.file_name for image in held}
    assert not names & {image.file_name for image in data.scenes}
    assert not names & {image.file_name for _, image in data.backgrounds}


def test_what_is_covered_drops_out() -> None:
    """Two squares on the same place: only the later one is left, and it is whole."""
    rng = np.random.default_rng(0)
    full = np.full((60, 60), 255, np.uint8)
    red, blue = (Cutout(np.full((60, 60, 3), colour, np.uint8), full) for colour in ((0, 0, 255), (255, 0, 0)))
    counts = []
    for _ in range(20):
        image = np.zeros((70, 70, 3), np.uint8)
        boxes, ids = paste_all(image, [red, blue], np.array([56.0, 56.0]), rng)
        counts.append(len(ids))
        for (x1, y1, x2, y2), number in zip(boxes.astype(int), ids, strict=True):
            patch = image[y1:y2, x1:x2].astype(int)
            share = np.mean(patch[..., 2 if number == 0 else 0] > 150)
            assert share > 0.3
    assert min(counts) <= 1  # one hides the other in most of them
    assert max(counts) >= 1


def test_seen_again_is_about_as_high_as_asked_and_not_the_same() -> None:
    rng = np.random.default_rng(0)
    thing = Cutout(rng.integers(0, 255, (80, 40, 3), dtype=np.uint8), np.full((80, 40), 255, np.uint8))
    first, second = seen_again(thing, 120, rng), seen_again(thing, 120, rng)
    heights = [np.flatnonzero((now.mask > 127).any(axis=1)) for now in (first, second)]
    assert all(95 < rows[-1] - rows[0] < 150 for rows in heights)
    assert first.image.shape != second.image.shape or not np.array_equal(first.image, second.image)


def test_no_object_is_pasted_twice_under_two_names(photos: Path) -> None:
    """Every thing of a picture is another cut-out."""
    data = make(photos, scene_share=0.0)
    drawn = []
    for index in range(5):
        rng = np.random.default_rng((data.seed, 0, index))
        rng.random()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                composites,
                "paste_all",
                lambda image, things, *_: drawn.append(things) or (np.zeros((0, 4)), np.zeros(0, int)),
            )
            data._pasted(rng)
    assert all(len({id(thing) for thing in things}) == len(things) for things in drawn)


def test_mirrored_views_have_mirrored_boxes(photos: Path) -> None:
    plain, turned = (make(photos, flip=flip)._whole(np.random.default_rng(0)) for flip in (0.0, 1.0))
    for (image, *boxes), (other, *found) in zip(plain, turned, strict=True):
        np.testing.assert_array_equal(image[:, ::-1], other)
        for ours, theirs in zip((boxes[0], boxes[2]), (found[0], found[2]), strict=True):
            assert len(ours) > 0
            mirrored = np.stack([len(image) - ours[:, 2], ours[:, 1], len(image) - ours[:, 0], ours[:, 3]], axis=1)
            np.testing.assert_array_equal(theirs, mirrored)
    with pytest.raises(InputError, match=r"flip must be in 0\.\.1, got 2"):
        make(photos, flip=2)


def test_photographs_held_aside_are_no_backgrounds(photos: Path) -> None:
    data = make(photos, backgrounds=photos / "images", hold_out_every=3)
    aside = {image.file_name for image in split(read_regions(photos / "regions.json"), "held", 3).images}
    assert aside
    assert not aside & {entry.file_name for _, entry in data.backgrounds}


def test_pasted_pictures_teach_the_detector_nothing(photos: Path) -> None:
    model = TrainingModel("nano", samples=32)
    losses: dict[float, dict[str, float]] = {}
    for share in (0.0, 1.0):
        inputs = model.data_preprocessor([make(photos, scene_share=share)[0]], True)
        losses[share] = {name: float(loss.detach()) for name, loss in model(**inputs, mode="loss").items()}
    assert losses[0.0]["loss_rpn_cls"] == losses[0.0]["loss_rpn_bbox"] == 0
    assert losses[1.0]["loss_rpn_cls"] > 0.001  # a new head's scores are low everywhere, and most are right
    assert losses[1.0]["loss_rpn_bbox"] > 0.1
    assert all(losses[share]["loss_track"] > 0 for share in losses)


def test_regions_reach_the_batch(photos: Path) -> None:
    item = make(photos, scene_share=1.0)[0]
    _, views = prepare([item], torch.zeros(3), torch.ones(3), 32)
    assert views[0].regions is not None
    assert torch.equal(views[0].regions, item["views"][0]["regions"])
    for view in item["views"]:
        del view["regions"]
    assert prepare([item], torch.zeros(3), torch.ones(3), 32)[1][0].regions is None


def test_a_broken_photograph_is_left_out(photos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "images").mkdir()
    for path in (photos / "images").iterdir():
        (tmp_path / "images" / path.name).write_bytes(path.read_bytes()[: 40 if path.name == "1.png" else None])
    (tmp_path / "regions.json").write_bytes((photos / "regions.json").read_bytes())
    data = make(tmp_path, hold_out_every=1000)
    assert len(data.things) == PHOTOS - 1
    assert "1.png cannot be decoded" in caplog.text
    for index in range(10):
        assert len(data[index]["views"]) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"most": 3}, "most must be at least 8, got 3"),
        ({"size": 10}, "size must be 64 or more"),
        ({"scene_share": 1.5}, r"scene_share must be in 0..1, got 1.5"),
        ({"backgrounds": "nowhere"}, "images must be a folder, and nowhere is none"),
    ],
)
def test_bad_arguments(photos: Path, options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make(photos, **options)


def test_regions_without_masks_cannot_be_cut_out(photos: Path, tmp_path: Path) -> None:
    data = json.loads((photos / "regions.json").read_text())
    for annotation in data["annotations"]:
        del annotation["segmentation"]
    (tmp_path / "boxes.json").write_text(json.dumps(data))
    assert cut_out(read_regions(tmp_path / "boxes.json"), photos / "images") == []
    with pytest.raises(InputError, match="nothing can be cut out; give regions with masks"):
        Composites(tmp_path / "boxes.json", photos / "images")
    with pytest.raises(InputError, match="which is not in"):
        Composites(photos / "regions.json", tmp_path)
