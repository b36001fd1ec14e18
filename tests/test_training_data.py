"""Training data: files of regions, and two views of a photograph with known correspondence."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from masa_track.errors import InputError
from masa_track.training import geometry, mixing, photometry
from masa_track.training.dataset import TwoViews
from masa_track.training.geometry import Placed, Pose
from masa_track.training.joined import JoinedViews
from masa_track.training.mixing import Photo, View
from masa_track.training.region_files import read_regions, write_regions
from masa_track.training.regions import Regions, decode_masks, split
from masa_track.training.settings import PRESETS, ViewSettings, view_settings
from masa_track.training.start import register_datasets
from masa_track.training.views import random_regions

mask_api = pytest.importorskip("pycocotools.mask")

SIZE = (160, 200)  # (height, width) of the photographs
VIEW = (128, 128)
ITEM: dict[str, Any] = {"size": VIEW, "seed": 3}


def shape_mask(kind: int, x: int, y: int, r: int) -> np.ndarray:
    """(160, 200) uint8 of 0 and 1: a disc, a bar aslant or a triangle."""
    mask = np.zeros(SIZE, np.uint8)
    if kind == 0:
        cv2.circle(mask, (x, y), r, 1, -1)
    elif kind == 1:
        bar = cv2.boxPoints(((x, y), (2 * r, r / 2), 35))
        cv2.fillConvexPoly(mask, bar.astype(np.int32), 1)
    else:
        cv2.fillConvexPoly(mask, np.array([[x - r, y + r], [x + r, y + r], [x, y - r]]), 1)
    return mask


def rle(mask: np.ndarray) -> dict[str, Any]:
    coded = mask_api.encode(np.asfortranarray(mask))
    return {"size": coded["size"], "counts": coded["counts"].decode()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four photographs, ``images/*.png``, and ``regions.json``: three regions on each but the last, which has one."""
    root = tmp_path_factory.mktemp("photos")
    (root / "images").mkdir()
    rng = np.random.default_rng(5)
    images, annotations = [], []
    for number in range(1, 5):
        small = rng.integers(40, 200, (10, 12, 3), dtype=np.uint8)
        picture = cv2.resize(small, SIZE[::-1], interpolation=cv2.INTER_CUBIC)
        images.append({"id": number, "file_name": f"{number}.png", "width": SIZE[1], "height": SIZE[0]})
        for kind in range(3 if number < 4 else 1):
            mask = shape_mask(kind, 40 + 55 * kind + int(rng.integers(9)), 60 + 20 * kind, 24)
            picture[mask > 0] = rng.integers(0, 255, 3)
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "segmentation": rle(mask), "bbox": [0, 0, 1, 1]}
            )
        cv2.imwrite(str(root / "images" / f"{number}.png"), picture)
    (root / "regions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    return root


def content(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "regions.json").read_text())


def placed(mask: np.ndarray, identity: int = 0) -> Placed:
    x, y, w, h = cv2.boundingRect(mask)
    return Placed(identity, x, y, mask[y : y + h, x : x + w], float(mask.sum()))


def on_canvas(instance: Placed, size: tuple[int, int]) -> np.ndarray:
    canvas = np.zeros(size, np.uint8)
    h, w = instance.mask.shape
    canvas[instance.y : instance.y + h, instance.x : instance.x + w] = instance.mask
    return canvas


def box_of(instance: Placed) -> np.ndarray:
    h, w = instance.mask.shape
    return np.array([instance.x, instance.y, instance.x + w, instance.y + h])


def centroid(mask: np.ndarray) -> np.ndarray:
    """x, y of a mask's middle, in continuous pixels."""
    rows, columns = np.nonzero(mask)
    return np.array([columns.mean(), rows.mean()]) + 0.5


def iou(a: np.ndarray, b: np.ndarray) -> float:
    sides = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    shared = sides.clip(min=0).prod()
    return float(shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return all(torch.equal(v[key], w[key]) for v, w in zip(a["views"], b["views"], strict=True) for key in v)


# ---------------------------------------------------------------------------------------------------------------------
# Geometry


def slow_view(mask: np.ndarray, matrix: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Each pixel of the view asks what lies under its centre: a plain loop beside the fast code."""
    inverse = np.linalg.inv(matrix)
    view = np.zeros(size, np.uint8)
    for row in range(size[0]):
        for column in range(size[1]):
            x, y, depth = inverse @ (column + 0.5, row + 0.5, 1)
            i, j = int(np.floor(y / depth)), int(np.floor(x / depth))
            if 0 <= i < mask.shape[0] and 0 <= j < mask.shape[1]:
                view[row, column] = mask[i, j]
    return view


@pytest.mark.parametrize("perspective", [0.0, 0.06])
@pytest.mark.parametrize("kind", [0, 1, 2])
def test_a_region_moves_as_its_pixels_do(perspective: float, kind: int) -> None:
    settings = ViewSettings(zoom=(0.8, 1.6), rotation=30, shear=5, stretch=1.3, perspective=perspective, flip_both=0.5)
    rng = np.random.default_rng(kind)
    mask = shape_mask(kind, 90, 80, 30)
    matrix = geometry.draw_homography(rng, settings, SIZE, VIEW, Pose(kind == 1, np.array([0.5, 0.5])))
    moved = geometry.move_region(placed(mask, 7), matrix, VIEW)
    assert moved is not None
    assert moved.id == 7
    expected = slow_view(mask, matrix, VIEW)
    assert (on_canvas(moved, VIEW) != expected).sum() <= 0.04 * expected.sum()  # pixels on the edge
    tight = box_of(placed(expected))
    np.testing.assert_allclose(box_of(moved), tight, atol=1)
    assert moved.whole == pytest.approx(expected.sum(), rel=0.05)


@pytest.mark.parametrize("zoom", [0.15, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("flip", [False, True])
def test_a_mark_in_the_photograph_is_where_its_homography_says(zoom: float, flip: bool) -> None:
    settings = ViewSettings(zoom=(zoom, zoom), rotation=20, shear=3, perspective=0.03)
    image = np.zeros((*SIZE, 3), np.uint8)
    cv2.circle(image, (111, 73), 9, (255, 255, 255), -1)
    matrix = geometry.draw_homography(np.random.default_rng(1), settings, SIZE, (320, 320), Pose(flip, np.full(2, 0.5)))
    seen = geometry.warp(image, matrix, (320, 320), pad=0)[..., 0].astype(float)
    rows, columns = np.mgrid[:320, :320] + 0.5
    middle = np.array([(columns * seen).sum(), (rows * seen).sum()]) / seen.sum()
    np.testing.assert_allclose(middle, geometry.move_points(matrix, np.array([[111.5, 73.5]]))[0], atol=0.15)


def test_the_two_views_agree_through_their_transforms() -> None:
    """The second view's mask, drawn back through the first's transform, is the first view's mask."""
    rng = np.random.default_rng(11)
    mask = shape_mask(2, 100, 80, 30)
    for _ in range(5):
        poses = geometry.draw_poses(rng, PRESETS["mild"])
        matrices = [geometry.draw_homography(rng, PRESETS["mild"], SIZE, (400, 400), pose) for pose in poses]
        first, second = (geometry.move_region(placed(mask), matrix, (800, 800)) for matrix in matrices)
        assert first is not None
        assert second is not None
        there = geometry.move_points(
            matrices[1] @ np.linalg.inv(matrices[0]), centroid(on_canvas(first, (800, 800)))[None]
        )
        np.testing.assert_allclose(there[0], centroid(on_canvas(second, (800, 800))), atol=1.5)


def test_boxes_are_those_of_the_moved_mask_not_of_the_moved_box() -> None:
    """A bar at 45 degrees, turned by 45: its mask lies flat, its box's corners span twice as much."""
    mask = np.zeros(SIZE, np.uint8)
    cv2.fillConvexPoly(mask, cv2.boxPoints(((100, 80), (80, 10), 45)).astype(np.int32), 1)
    region = placed(mask)
    to_middle, back = geometry.shifted(np.eye(3), -100, -80), geometry.shifted(np.eye(3), 100, 80)
    c = np.sqrt(0.5)
    matrix = back @ np.array([[c, c, 0], [-c, c, 0], [0, 0, 1]]) @ to_middle
    moved = geometry.move_region(region, matrix, SIZE)
    assert moved is not None
    assert iou(box_of(moved), np.array([60, 75, 140, 85])) > 0.8
    x1, y1, x2, y2 = box_of(region)
    corners = geometry.move_points(matrix, np.array([[x1, y1], [x2, y1], [x2, y2], [x1, y2]]))
    assert iou(box_of(moved), np.concatenate((corners.min(axis=0), corners.max(axis=0)))) < 0.3


def test_a_region_outside_the_view_is_gone_and_one_half_inside_is_cut() -> None:
    region = placed(shape_mask(0, 100, 80, 20))
    assert geometry.move_region(region, geometry.shifted(np.eye(3), 500, 0), VIEW) is None
    half = geometry.move_region(region, geometry.shifted(np.eye(3), -100, 0), VIEW)
    assert half is not None
    assert half.x == 0
    assert half.mask.sum() / half.whole == pytest.approx(0.5, abs=0.03)
    assert geometry.visible([half], ViewSettings(min_visible=0.4)) != []
    assert geometry.visible([half], ViewSettings(min_visible=0.6)) == []
    assert geometry.visible([half], ViewSettings(min_visible=0, min_area=1000)) == []


# ---------------------------------------------------------------------------------------------------------------------
# Colours


def test_nothing_is_recoloured_at_zero_and_all_is_at_one() -> None:
    image = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    assert (photometry.recolour(image, np.random.default_rng(0), ViewSettings()) == image).all()
    for change in ({"hue": 20.0}, {"brightness": 0.5}, {"blur": 1.0}, {"noise": 1.0}, {"jpeg": 1.0}):
        seen = photometry.recolour(image, np.random.default_rng(0), view_settings(ViewSettings(), **change))
        assert seen.shape == image.shape
        assert seen.dtype == np.uint8
        assert (seen != image).mean() > 0.2, change


def test_a_shift_of_hue_turns_red_by_that_angle() -> None:
    image = np.full((4, 4, 3), (0, 0, 200), np.uint8)  # red
    hues = []
    for seed in range(40):
        seen = photometry.jitter(image, np.random.default_rng(seed), ViewSettings(hue=60))
        hue = float(cv2.cvtColor(seen, cv2.COLOR_BGR2HSV)[0, 0, 0]) * 2
        hues.append(hue if hue < 180 else hue - 360)
    assert 40 < max(hues) <= 61
    assert -61 <= min(hues) < -40


# ---------------------------------------------------------------------------------------------------------------------
# Mixing


def view_with(mask: np.ndarray, identity: int = 0) -> View:
    return View(np.full((*SIZE, 3), 50, np.uint8), [placed(mask, identity)])


def test_what_is_pasted_has_its_id_and_takes_the_pixels_below() -> None:
    view = view_with(shape_mask(0, 100, 80, 40))
    before = view.instances[0].mask.sum()
    donor = placed(shape_mask(2, 60, 60, 20), 9)
    red = np.full((*SIZE, 3), (0, 0, 255), np.uint8)
    mixing.paste(view, red, donor, geometry.shifted(np.eye(3), 60, 20))  # its middle comes to (120, 80)
    disc, pasted = view.instances
    assert (disc.id, pasted.id) == (0, 9)
    np.testing.assert_array_equal(box_of(pasted) - box_of(donor), [60, 20, 60, 20])
    canvas = on_canvas(pasted, SIZE)
    assert not (on_canvas(disc, SIZE) & canvas).any()
    assert disc.mask.sum() == before - (shape_mask(0, 100, 80, 40) & canvas).sum()
    inner = cv2.erode(canvas, np.ones((5, 5), np.uint8)) > 0
    assert (view.image[inner] == (0, 0, 255)).all()
    assert (view.image[cv2.dilate(canvas, np.ones((5, 5), np.uint8)) == 0] == 50).all()


def test_mixup_blends_where_the_other_lies_and_keeps_all_instances() -> None:
    view = view_with(shape_mask(0, 100, 80, 40))
    other = Photo(np.full((40, 40, 3), 250, np.uint8), [Placed(5, 10, 10, np.ones((20, 20), np.uint8), 400.0)], [])
    mixing.mix(view, other, geometry.shifted(np.eye(3), 30, 0), 0.25)
    assert [instance.id for instance in view.instances] == [0, 5]
    np.testing.assert_array_equal(box_of(view.instances[1]), [40, 10, 60, 30])
    assert (view.image[:40, 30:70] == 100).all()  # 0.75 * 50 + 0.25 * 250
    assert (view.image[40:] == 50).all()
    assert (view.image[:, 70:] == 50).all()


def test_something_in_front_takes_pixels_and_what_is_hidden_drops_out() -> None:
    settings = ViewSettings(occlude=1, occlude_count=1, occlude_share=(0.3, 0.3), min_visible=0.3)
    texture = np.full((*SIZE, 3), 255, np.uint8)
    for seed in range(10):
        view = view_with(shape_mask(0, 100, 80, 30))
        whole = view.instances[0].whole
        mixing.occlude(view, texture, np.random.default_rng(seed), settings)
        assert len(view.instances) == 1
        assert view.instances[0].mask.sum() < whole
        hidden = (view.image == 255).all(axis=-1)
        assert hidden.any()
        assert not (on_canvas(view.instances[0], SIZE).astype(bool) & hidden).any()
    disc = placed(shape_mask(0, 100, 80, 30))
    geometry.cover([disc], 70, 50, np.ones((61, 35), np.uint8))  # its left half and more
    (rest,) = geometry.visible([disc], settings)
    np.testing.assert_array_equal(box_of(rest)[[0, 2]], [105, 131])
    geometry.cover([disc], 105, 50, np.ones((61, 10), np.uint8))
    assert geometry.visible([disc], settings) == []


def test_ids_of_mixed_and_pasted_regions_are_new_and_the_same_in_both_views(folder: Path) -> None:
    for change in ({"mixup": 1.0}, {"paste": 1.0}):
        data = TwoViews(folder / "regions.json", folder / "images", settings=mild(**change), **ITEM)
        foreign = 0
        for index in range(3):  # photographs with regions 0, 1, 2
            ids = [set(view["ids"].tolist()) for view in data[index]["views"]]
            for view, unique in zip(data[index]["views"], ids, strict=True):
                assert len(view["ids"]) == len(unique)
            foreign += len({i for i in ids[0] & ids[1] if i >= 3})
        assert foreign > 0, change


def mild(**changes: Any) -> ViewSettings:
    quiet = {"zoom": (0.9, 1.1), "drift": 0.1, "mixup": 0.0, "paste": 0.0, "occlude": 0.0, "min_area": 20.0}
    return view_settings("mild", **{**quiet, **changes})


# ---------------------------------------------------------------------------------------------------------------------
# The dataset


def test_an_item_is_what_training_takes(folder: Path) -> None:
    data = TwoViews(folder / "regions.json", folder / "images", settings="strong", random_boxes=5, **ITEM)
    assert len(data) == 4
    for index in range(4):
        for view in data[index]["views"]:
            assert view["image"].shape == (3, *VIEW)
            assert view["image"].dtype == torch.uint8
            assert view["boxes"].dtype == torch.float32
            assert view["ids"].dtype == torch.int64
            assert view["boxes"].shape == (len(view["ids"]), 4)
            x1, y1, x2, y2 = view["boxes"].unbind(1)
            assert ((x1 >= 0) & (x1 < x2) & (x2 <= VIEW[1]) & (y1 >= 0) & (y1 < y2) & (y2 <= VIEW[0])).all()
    with pytest.raises(IndexError):
        data[4]


def test_colours_of_a_box_are_those_of_its_region_in_both_views(folder: Path) -> None:
    """Each region has a colour of its own, so a box at the wrong place, or BGR for RGB, would show."""
    plain = view_settings(mild(), hue=0.0, saturation=0.0, brightness=0.0, blur=0.0, noise=0.0, jpeg=0.0)
    data = TwoViews(folder / "regions.json", folder / "images", settings=plain, **ITEM)
    regions = read_regions(folder / "regions.json").images
    for index in range(4):
        photo = cv2.imread(str(folder / "images" / regions[index].file_name))[..., ::-1]
        for view in data[index]["views"]:
            assert len(view["ids"])
            for box, identity in zip(view["boxes"].int().tolist(), view["ids"].tolist(), strict=True):
                x, y = ((regions[index].boxes[identity][:2] + regions[index].boxes[identity][2:]) / 2).astype(int)
                middle = view["image"][:, (box[1] + box[3]) // 2, (box[0] + box[2]) // 2].numpy()
                if min(box) > 8 and max(box) < VIEW[0] - 8:  # not cut
                    np.testing.assert_allclose(middle, photo[y, x], atol=2)


def test_an_item_depends_on_seed_epoch_and_index_only(folder: Path) -> None:
    def make(seed: int = 3) -> TwoViews:
        return TwoViews(folder / "regions.json", folder / "images", size=VIEW, seed=seed, settings="strong", repeats=2)

    data = make()
    first = [data[index] for index in range(8)]
    again = make()
    for index in (5, 0, 7):  # in another order
        assert same(again[index], first[index])
    assert not same(first[1], first[5])  # the same photograph, repeated
    data.set_epoch(1)
    assert not same(data[0], first[0])
    data.set_epoch(0)
    assert same(data[0], first[0])
    assert not same(make(seed=4)[0], first[0])


def test_workers_change_nothing_and_hear_of_a_new_epoch(folder: Path) -> None:
    data = TwoViews(folder / "regions.json", folder / "images", settings="strong", random_boxes=3, **ITEM)
    loader = DataLoader(data, batch_size=None, num_workers=2, persistent_workers=True)
    for epoch in (0, 1):
        data.set_epoch(epoch)
        items = list(loader)
        assert len(items) == 4
        for index, item in enumerate(items):
            assert same(item, data[index]), (epoch, index)


def test_joined_data_sets_are_drawn_by_their_probabilities(folder: Path) -> None:
    many, few = (TwoViews(folder / "regions.json", folder / "images", VIEW, repeats=n) for n in (5, 1))
    data = JoinedViews([many, few], [0.75, 0.25], 400, seed=2)
    drawn = [data.draw(index) for index in range(len(data))]
    assert len(drawn) == 400
    assert sum(which == 0 for which, _ in drawn) == pytest.approx(300, abs=30)
    for number, (one, length) in enumerate(((many, 20), (few, 4))):
        items = [item for which, item in drawn if which == number]
        assert len(set(items)) == len(items)  # no views come twice
        assert max(items) < len(one)
        assert sorted(item % length for item in items[:length]) == list(range(length))  # each, before any comes again
    data.set_epoch(1)
    assert [data.draw(index) for index in range(400)] != drawn
    data.set_epoch(0)
    assert [data.draw(index) for index in range(400)] == drawn
    which, item = drawn[7]
    for one, other in zip(data[7]["views"], (many, few)[which][item]["views"], strict=True):
        assert torch.equal(one["image"], other["image"])


@pytest.mark.slow
def test_joined_data_sets_in_workers_and_by_configuration(folder: Path) -> None:
    register_datasets()
    config = {"type": "TwoViews", "regions": folder / "regions.json", "images": folder / "images", "size": VIEW}
    data = JoinedViews([config, {**config, "seed": 1, "repeats": 2}])
    assert len(data) == 12
    loader = DataLoader(data, batch_size=None, num_workers=1, persistent_workers=True)
    for epoch in (0, 1):
        data.set_epoch(epoch)
        for index, item in enumerate(loader):
            assert torch.equal(item["views"][0]["image"], data[index]["views"][0]["image"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": []}, "at least one data set"),
        ({"sampling_probs": [1.0]}, "for each of 2 datasets"),
        ({"sampling_probs": [0.9, 0.2]}, "in sum 1"),
        ({"sampling_probs": [1.5, -0.5]}, "of at least 0"),
        ({"fixed_length": 0}, "fixed_length must be at least 1, got 0"),
    ],
)
def test_mistakes_in_joined_data_sets_are_named(folder: Path, options: dict[str, Any], message: str) -> None:
    one = TwoViews(folder / "regions.json", folder / "images", VIEW)
    with pytest.raises(InputError, match=message):
        JoinedViews(**{"datasets": [one, one], **options})


def test_random_boxes_work_without_regions_and_with_them(folder: Path) -> None:
    alone = TwoViews(None, folder / "images", random_boxes=12, settings=mild(), **ITEM)
    assert len(alone) == 4
    shared = [set(v["ids"].tolist()) for v in alone[0]["views"]]
    assert len(shared[0] & shared[1]) >= 6
    both = TwoViews(folder / "regions.json", folder / "images", random_boxes=12, settings=mild(), **ITEM)
    ids = set(both[0]["views"][0]["ids"].tolist())
    assert ids & {0, 1, 2}
    assert max(ids) > 2


def test_random_boxes_are_apart_from_each_other_and_from_the_regions() -> None:
    taken = np.array([[20, 20, 120, 120]], np.float32)
    regions = random_regions(40, SIZE, taken, 1, np.random.default_rng(0))
    assert len(regions) > 20
    assert [region.id for region in regions] == list(range(1, len(regions) + 1))
    boxes = [*taken, *map(box_of, regions)]
    for i, a in enumerate(boxes):
        assert (a[:2] >= 0).all()
        assert (a[2:] <= SIZE[::-1]).all()
        for b in boxes[:i]:
            assert iou(a, b) <= 0.5


def test_a_box_alone_moves_as_the_box_of_its_corners(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "boxes.json").write_text(json.dumps({"1.png": [[60, 40, 120, 100]]}))
    region = placed(np.pad(np.ones((60, 60), np.uint8), ((40, 60), (60, 80))))
    settings = mild(rotation=30.0)
    data = TwoViews(tmp_path / "boxes.json", folder / "images", settings=settings, **ITEM)
    sides = [(view["boxes"][0, 2:] - view["boxes"][0, :2]).tolist() for view in data[0]["views"]]
    assert np.ptp(np.array(sides)) > 0
    matrix = geometry.draw_homography(
        np.random.default_rng(2), settings, SIZE, (300, 300), Pose(False, np.full(2, 0.5))
    )
    moved = geometry.move_region(region, matrix, (300, 300))
    assert moved is not None
    corners = geometry.move_points(matrix, np.array([[60, 40], [120, 40], [120, 100], [60, 100]]))
    np.testing.assert_allclose(box_of(moved), [*corners.min(axis=0), *corners.max(axis=0)], atol=1.5)


def test_a_photograph_that_does_not_decode_is_reported_once_and_replaced(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copytree(folder / "images", tmp_path / "images")
    (tmp_path / "images" / "2.png").write_bytes(b"not a picture")
    cv2.imwrite(str(tmp_path / "images" / "3.png"), np.zeros((50, 60, 3), np.uint8))  # of another size
    data = TwoViews(folder / "regions.json", tmp_path / "images", settings=mild(), **ITEM)
    with caplog.at_level(logging.WARNING, "masa_track"):
        items = [data[index] for index in (1, 1, 2)]
    told = [record.getMessage() for record in caplog.records]
    assert same(items[0], items[1])
    assert same(items[0], TwoViews(folder / "regions.json", tmp_path / "images", settings=mild(), **ITEM)[1])
    assert sum("2.png cannot be decoded" in message for message in told) == 1
    assert sum("3.png is 60x50, and its regions were made on 200x160" in message for message in told) == 1
    assert len(told) == 2
    for item in items:  # the fourth one's region is what is shown
        assert all(view["ids"].tolist() in ([0], []) for view in item["views"])
    for path in (tmp_path / "images").iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"none of the 4 images in .* can be read"):
        TwoViews(folder / "regions.json", tmp_path / "images", **ITEM)[0]


def test_images_without_regions_are_left_out_and_named(
    folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = content(folder)
    changed["annotations"] = [a for a in changed["annotations"] if a["image_id"] != 2]
    (tmp_path / "r.json").write_text(json.dumps(changed))
    with caplog.at_level(logging.WARNING, "masa_track"):
        data = TwoViews(tmp_path / "r.json", folder / "images", **ITEM)
    assert len(data) == 3
    assert "1 images without regions are left out (2.png" in caplog.text
    assert len(TwoViews(tmp_path / "r.json", folder / "images", random_boxes=2, **ITEM)) == 4


def test_views_that_share_nothing_are_drawn_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = mild(zoom=(2.5, 3.0), drift=1.0)
    data = TwoViews(folder / "regions.json", folder / "images", settings=settings, repeats=5, **ITEM)

    def sharing() -> int:
        ids = [[set(view["ids"].tolist()) for view in data[index]["views"]] for index in range(len(data))]
        return sum(bool(first & second) for first, second in ids)

    redrawn = sharing()
    monkeypatch.setattr("masa_track.training.views.ATTEMPTS", 1)
    assert redrawn >= sharing() + 3


def test_of_many_regions_some_are_drawn(folder: Path) -> None:
    data = TwoViews(folder / "regions.json", folder / "images", settings=mild(), max_regions=1, **ITEM)
    for view in data[0]["views"]:
        assert len(view["ids"]) <= 1


# ---------------------------------------------------------------------------------------------------------------------
# Files of regions


def test_all_forms_of_a_mask_are_read_alike(folder: Path, tmp_path: Path) -> None:
    mask = shape_mask(2, 100, 80, 30)
    runs, last, count = [], 0, 0
    for pixel in mask.flatten(order="F").tolist():
        if pixel != last:
            runs.append(count)
            last, count = pixel, 0
        count += 1
    runs.append(count)
    polygon = [70, 110, 131, 110, 131, 111, 70, 111]
    image = {"id": 1, "file_name": "1.png", "width": 200, "height": 160}
    forms = [rle(mask), {"size": list(SIZE), "counts": runs}, [polygon], None]
    rows = [{"id": i, "image_id": 1, "segmentation": form} for i, form in enumerate(forms)]
    rows[3]["bbox"] = [10.5, 20, 30, 40]
    rows.append({"id": 9, "image_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 1})
    (tmp_path / "coco.json").write_text(json.dumps({"images": [image], "annotations": rows}))
    (read,) = read_regions(tmp_path / "coco.json").images
    assert read.ids.tolist() == [0, 1, 2, 3]
    x1, y1, x2, y2 = box_of(placed(mask))
    np.testing.assert_array_equal(read.boxes[:2], [[x1, y1, x2, y2]] * 2)
    np.testing.assert_array_equal(read.boxes[2:], [[70, 110, 131, 111], [10.5, 20, 40.5, 60]])
    masks = decode_masks(read, [0, 1, 2, 3])
    np.testing.assert_array_equal(masks[0], mask[y1:y2, x1:x2])
    np.testing.assert_array_equal(masks[1], mask[y1:y2, x1:x2])
    assert masks[3] is None


def test_sa1b_folders_and_plain_boxes(tmp_path: Path) -> None:
    mask = shape_mask(0, 100, 80, 30)
    (tmp_path / "sa1b").mkdir()
    for number in (1, 2):
        image = {"image_id": number, "file_name": f"sa_{number}.jpg", "width": 200, "height": 160}
        rows = [{"id": 77, "segmentation": rle(mask), "bbox": [0, 0, 1, 1], "area": 1, "predicted_iou": 0.9}]
        (tmp_path / "sa1b" / f"sa_{number}.json").write_text(json.dumps({"image": image, "annotations": rows}))
    regions = read_regions(tmp_path / "sa1b")
    assert [image.file_name for image in regions.images] == ["sa_1.jpg", "sa_2.jpg"]
    np.testing.assert_array_equal(regions.images[0].boxes, [box_of(placed(mask))])
    assert read_regions(tmp_path / "sa1b" / "sa_2.json").count == 1
    rows *= 2
    (tmp_path / "sa1b" / "sa_2.json").write_text(json.dumps({"image": image, "annotations": rows}))
    with pytest.raises(InputError, match=r"sa_2.json, annotations\[1\]: id 77 repeats"):
        read_regions(tmp_path / "sa1b")
    (tmp_path / "boxes.json").write_text('{"a.jpg": [[1, 2, 30.5, 40], [5, 5, 9, 9]], "b.jpg": []}')
    (tmp_path / "boxes.csv").write_text("file,x1,y1,x2,y2\na.jpg,1,2,30.5,40\na.jpg,5,5,9,9\n")
    for name in ("boxes.json", "boxes.csv"):
        plain = read_regions(tmp_path / name).images[0]
        np.testing.assert_array_equal(plain.boxes, [[1, 2, 30.5, 40], [5, 5, 9, 9]])
        assert plain.masks == (None, None)


def test_what_is_written_is_read_back(folder: Path, tmp_path: Path) -> None:
    regions = read_regions(folder / "regions.json")
    write_regions(tmp_path / "out.json", regions)
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]
    back = read_regions(tmp_path / "out.json")
    for a, b in zip(regions.images, back.images, strict=True):
        assert (a.file_name, a.width, a.height, a.masks) == (b.file_name, b.width, b.height, b.masks)
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.boxes, b.boxes)


def test_ids_that_repeat_between_photographs_are_counted_anew(folder: Path, tmp_path: Path) -> None:
    first, second = read_regions(folder / "regions.json").images[:2]
    write_regions(tmp_path / "out.json", Regions(Path("x"), (first, replace(second, ids=first.ids))))
    assert [image.ids.tolist() for image in read_regions(tmp_path / "out.json").images] == [[1, 2, 3], [4, 5, 6]]


def test_held_aside_means_the_same_photographs_in_every_file(folder: Path) -> None:
    entry = read_regions(folder / "regions.json").images[0]
    regions = Regions(Path("x"), tuple(replace(entry, file_name=f"{i}.png") for i in range(1, 201)))
    train, held = split(regions, "train", every=4), split(regions, "held", every=4)
    names = [{image.file_name for image in part.images} for part in (train, held)]
    assert 30 < len(names[1]) < 70
    assert names[0] | names[1] == {f"{i}.png" for i in range(1, 201)}
    assert not names[0] & names[1]
    turned = Regions(regions.path, regions.images[:0:-1])  # another file: without the first, in another order
    assert {image.file_name for image in split(turned, "held", every=4).images} == names[1] - {"1.png"}
    with pytest.raises(InputError, match="part must be 'train' or 'held', got 'test'"):
        split(regions, "test")  # type: ignore[arg-type]


def first(key: str, **changes: Any) -> Callable[[dict[str, Any]], None]:
    def change(value: dict[str, Any]) -> None:
        value[key][0].update(changes)

    return change


def without_mask(box: list[Any]) -> Callable[[dict[str, Any]], None]:
    return first("annotations", segmentation=[], bbox=box)


DISC = shape_mask(0, 100, 80, 30)
BAD = {
    "region ids": (first("annotations", id=5), r"annotations\[4\]: id 5 repeats"),  # another image's
    "no region id": (first("annotations", id=None), r"annotations\[0\]: id must be a whole number, got None"),
    "image ids": (first("images", id=2), r"images\[1\]: id 2 repeats"),
    "image twice": (first("images", file_name="2.png"), "image 2.png is there twice"),
    "unknown image": (first("annotations", image_id=99), r"annotations\[0\]: image_id 99 is not among its images"),
    "mask of another size": (
        first("images", width=100),
        r"annotations\[0\]: the mask is 200x160, its image 100x160; .*fix the size",
    ),
    "empty mask": (
        first("annotations", segmentation=rle(np.zeros(SIZE, np.uint8))),
        r"annotations\[0\]: the mask is empty; remove this region",
    ),
    "mask cut short": (
        first("annotations", segmentation={**rle(DISC), "counts": rle(DISC)["counts"][:-3]}),
        r"annotations\[0\]: the mask's runs do not fill its image, they are damaged; make it anew",
    ),
    "no mask at all": (first("annotations", segmentation="x"), r"annotations\[0\]: segmentation must be polygons or"),
    "box outside": (without_mask([150, 10, 60, 10]), r"annotations\[0\]: the box 150, 10, 210, 20 .* lies outside"),
    "empty box": (without_mask([10, 10, 0, 10]), r"annotations\[0\]: the box is empty: 10, 10, 10, 20"),
    "NaN": (without_mask([10, float("nan"), 5, 10]), r"annotations\[0\]: without a mask, bbox must be four numbers"),
    "no regions": (lambda value: value.update(annotations=[]), r"holds no regions \(4 images\)"),
    "no list": (lambda value: value.update(annotations={}), "annotations must be a list of objects, got {}"),
    "no images": (lambda value: value.pop("images"), "'annotations' without 'images'"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_by_file_and_entry(case: str, folder: Path, tmp_path: Path) -> None:
    change, message = BAD[case]
    value = content(folder)
    change(value)
    (tmp_path / "bad.json").write_text(json.dumps(value))
    with pytest.raises(InputError, match=message) as raised:
        read_regions(tmp_path / "bad.json")
    assert "bad.json" in str(raised.value)


def test_other_mistakes_stop_before_the_start(folder: Path, tmp_path: Path) -> None:
    images, regions = folder / "images", folder / "regions.json"
    with pytest.raises(InputError, match=r"nothere.json' cannot be read"):
        read_regions(tmp_path / "nothere.json")
    (tmp_path / "half.json").write_text('{"images": [')
    with pytest.raises(InputError, match=r"half.json is not whole json"):
        read_regions(tmp_path / "half.json")
    (tmp_path / "bad.csv").write_text("a.jpg,1,2,3,4\na.jpg,1,2\n")
    with pytest.raises(InputError, match=r"bad.csv, line 2: must be file,x1,y1,x2,y2, got 'a.jpg,1,2'"):
        read_regions(tmp_path / "bad.csv")
    (tmp_path / "images").mkdir()
    shutil.copy(images / "1.png", tmp_path / "images")
    with pytest.raises(InputError, match=r"has regions on 2.png, which is not in .* \(3 of its 4 images are missing\)"):
        TwoViews(regions, tmp_path / "images")
    with pytest.raises(InputError, match="none of its 4 images has a region; give regions, or random_boxes"):
        TwoViews(None, images)
    with pytest.raises(InputError, match="images must be a folder"):
        TwoViews(regions, regions)
    with pytest.raises(InputError, match="random_boxes must be at least 0, got -1"):
        TwoViews(regions, images, random_boxes=-1)
    with pytest.raises(InputError, match="did you mean 'strong'"):
        TwoViews(regions, images, settings="stron")
    with pytest.raises(InputError, match="did you mean 'rotation'"):
        view_settings("mild", rotatoin=3)
    with pytest.raises(InputError, match=r"mixup must be 0 to 1, got 1.5"):
        ViewSettings(mixup=1.5)
    with pytest.raises(InputError, match=r"zoom must be \(least, most\), got \(2, 1\)"):
        ViewSettings(zoom=(2, 1))


def test_masks_without_pycocotools_name_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    with pytest.raises(InputError, match=r'pip install "\.\[train\]"'):
        read_regions(folder / "regions.json")
    TwoViews(None, folder / "images", random_boxes=2, **ITEM)[0]


@pytest.mark.slow
def test_pairs_of_views_can_be_browsed(folder: Path, tmp_path: Path) -> None:
    tool = Path(__file__).resolve().parents[1] / "tools" / "browse_views.py"
    command = [sys.executable, str(tool), str(folder / "regions.json"), str(folder / "images")]
    out = tmp_path / "out"
    subprocess.run([*command, "--out", str(out), "--count", "2", "--size", "128"], check=True)
    names = sorted(path.name for path in out.iterdir())
    assert names == ["000000.jpg", "000003.jpg", "index.html"]
    assert cv2.imread(str(out / names[0])).shape == (128, 264, 3)
    assert all(name in (out / "index.html").read_text() for name in names[:2])
    failed = subprocess.run([*command[:2], "nothere.json", "x", "--out", str(out)], capture_output=True, text=True)
    assert failed.returncode == 2
    assert "nothere.json" in failed.stderr


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_photographs_that_we_train_on(shared: Path) -> None:
    regions = read_regions(shared / "photos" / "regions.json")
    assert (len(regions.images), regions.count) == (855, 8653)
    held = split(regions, "held")
    assert 60 < len(held.images) < 110
    data = TwoViews(held, shared / "photos" / "images", size=(320, 320))
    ids = [set(view["ids"].tolist()) for view in data[0]["views"]]
    assert ids[0] & ids[1]
