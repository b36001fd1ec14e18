"""One item: two views of a photograph in which the same instance has the same id."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from masa_track.training.geometry import Placed, draw_homography, draw_patch_homography, draw_poses, visible
from masa_track.training.mixing import Photo, View, choose_donors, mix, occlude, paste, see
from masa_track.training.photometry import recolour
from masa_track.training.settings import ViewSettings

ATTEMPTS = 4  # at zoom 0.1 or on a corner of the sky nothing may be left; this many draws, then it is as it is
MAX_OVERLAP = 0.5  # intersection over union, above which a random box is no object of its own


def make_views(
    photo: Photo,
    load_other: Callable[[], Photo | None],
    settings: ViewSettings,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> list[View]:
    """Two views, drawn again a few times if they share no instance.

    Args:
        photo: its regions' ids are 0, 1, ...; those of pasted and mixed regions count on from there.
        load_other: gives another photograph, or None if there is none; called where something of it is needed.
        settings: how strongly.
        size: (height, width) of the views.
        rng: the source of all chance.

    Returns:
        Two views; an instance of which too little is left in one is only in the other.
    """
    for _ in range(ATTEMPTS):
        views = _draw(photo, load_other, settings, size, rng)
        first, second = ({instance.id for instance in view.instances} for view in views)
        if first & second:
            break
    return views


def _draw(
    photo: Photo,
    load_other: Callable[[], Photo | None],
    settings: ViewSettings,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> list[View]:
    first_id = len(photo.regions)
    # Not both: a region that is pasted and shines through would be one object with two ids.
    mixed = rng.random() < settings.mixup
    pasted = not mixed and rng.random() < settings.paste
    other = load_other() if mixed or pasted else None
    donors, mates = [], None
    if other is not None and mixed:
        mates = replace(other, regions=[replace(r, id=first_id + k) for k, r in enumerate(other.regions)])
    elif other is not None:
        donors = choose_donors(other, rng, settings, first_id)
    weight = rng.uniform(*settings.mixup_weight)
    views = []
    for pose, other_pose in zip(draw_poses(rng, settings), draw_poses(rng, settings), strict=True):
        view = see(photo, draw_homography(rng, settings, photo.image.shape[:2], size, pose), size)
        if mates is not None:
            matrix = draw_homography(rng, settings, mates.image.shape[:2], size, other_pose)
            mix(view, mates, matrix, weight)
        for donor in donors:
            assert other is not None
            paste(view, other.image, donor, draw_patch_homography(rng, settings, donor, size, settings.paste_size))
        if rng.random() < settings.occlude:
            occlude(view, (other or photo).image, rng, settings)
        views.append(View(recolour(view.image, rng, settings), visible(view.instances, settings)))
    return views


def random_regions(
    count: int, image: tuple[int, int], taken: np.ndarray, first_id: int, rng: np.random.Generator
) -> list[Placed]:
    """Random boxes as regions: parts of objects and of the background, which can be recognised as objects can.

    Args:
        count: at most so many.
        image: (height, width) of the photograph.
        taken: (N, 4) xyxy; boxes that overlap one of these, or each other, by more than a half are left out.
        first_id: their ids are this, and on.
        rng: the source of all chance.

    Returns:
        The regions, each a filled rectangle: roots of their areas are 4 to 50 % of the photograph's, log-uniform, and
        their sides' ratio at most 3.
    """
    height, width = image
    draws = 2 * count
    side = np.sqrt(height * width) * np.exp(rng.uniform(np.log(0.04), np.log(0.5), draws))
    ratio = np.sqrt(np.exp(rng.uniform(-np.log(3), np.log(3), draws)))
    w = np.clip(np.round(side * ratio), 2, width)
    h = np.clip(np.round(side / ratio), 2, height)
    x, y = np.floor(rng.random((2, draws)) * (width - w + 1, height - h + 1))
    boxes = np.column_stack((x, y, x + w, y + h))
    kept = np.asarray(taken, np.float64).reshape(-1, 4)
    regions: list[Placed] = []
    for box in boxes:
        if len(regions) == count:
            break
        overlap = np.minimum(kept[:, 2:], box[2:]) - np.maximum(kept[:, :2], box[:2])
        shared = overlap.clip(min=0).prod(axis=1)
        area = (box[2] - box[0]) * (box[3] - box[1])
        union = area + (kept[:, 2:] - kept[:, :2]).prod(axis=1) - shared
        if (shared > MAX_OVERLAP * union).any():
            continue
        kept = np.vstack((kept, box))
        x1, y1, x2, y2 = box.astype(int)
        regions.append(Placed(first_id + len(regions), x1, y1, np.ones((y2 - y1, x2 - x1), np.uint8), float(area)))
    return regions
