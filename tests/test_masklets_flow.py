"""FlowPropagator: occlusion, crossing, cuts, real clips; and its parts against plain loops."""

from __future__ import annotations

import importlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from propagated_scenes import BACKGROUND, HEIGHT, WIDTH, disc, iou, scene, texture

from masa_track.contracts import Frame, Prompt
from masa_track.errors import InputError
from masa_track.evaluation.jf import region_similarity
from masa_track.masklets import appearance, cleanup, motion
from masa_track.masklets.flow import FlowPropagator
from masa_track.masklets.prompts import sample_scribble

WALL = (slice(0, HEIGHT), slice(70, 112))


def behind_a_wall(number: int) -> tuple[Frame, np.ndarray]:
    """A disc that walks behind a wall of 42 pixels, and its visible part (HEIGHT, WIDTH) bool."""
    frame, masks = scene(number, {1: (15 + 5 * number, 50)})
    image = frame.picture.copy()
    image[WALL] = 90 + (scene(1, {})[0].picture[WALL] // 8)
    mask = masks[1].copy()
    mask[WALL] = False
    return Frame(number, number / 25, (WIDTH, HEIGHT), image=image), mask


@pytest.mark.slow
def test_an_object_vanishes_and_comes_back() -> None:
    """Behind the wall it is not visible (logit below 0, empty mask); beyond, it is found by its colours."""
    propagator = FlowPropagator()
    logits, overlap = {}, {}
    for number in range(1, 27):
        frame, truth = behind_a_wall(number)
        shown = propagator.propose(frame)
        if number == 1:
            shown = propagator.prompt(1, Prompt(mask=truth))
        propagator.commit()
        logits[number] = float(shown.object_logits[0])
        overlap[number] = iou(np.asarray(shown.masks)[0], truth)
        assert np.asarray(shown.masks)[0].any() == (logits[number] >= 0)
    hidden = [n for n in logits if not behind_a_wall(n)[1].any()]
    assert len(hidden) >= 1
    assert all(logits[n] < 0 for n in hidden)
    assert all(overlap[n] > 0.85 for n in range(1, 8))
    assert overlap[26] > 0.85


def test_a_cut_to_another_scene() -> None:
    """Nothing of the object is there after a cut; after the cut back, it is found again."""
    propagator = FlowPropagator()
    frame, masks = scene(1, {1: (50, 50)})
    propagator.propose(frame)
    propagator.prompt(1, Prompt(mask=masks[1]))
    propagator.commit()
    other = np.full((HEIGHT, WIDTH, 3), (30, 140, 150), np.uint8)
    for number in (2, 3, 4):
        shown = propagator.propose(Frame(number, number / 25, (WIDTH, HEIGHT), image=other))
        propagator.commit()
        assert shown.object_logits[0] < 0
        assert not np.asarray(shown.masks).any()
    frame, masks = scene(5, {1: (110, 60)})
    assert iou(np.asarray(propagator.propose(frame).masks)[0], masks[1]) > 0.85


@pytest.mark.slow
def test_two_objects_cross() -> None:
    """The front one covers the other for some frames; both keep their masks, which never overlap."""
    propagator = FlowPropagator()
    for number in range(1, 14):
        frame, truth = scene(number, {1: (30 + 7 * number, 52), 2: (130 - 7 * number, 60)})
        shown = propagator.propose(frame)
        if number == 1:
            for identity, mask in truth.items():
                propagator.prompt(identity, Prompt(mask=mask))
        propagator.commit()
        if number > 1:
            masks = dict(zip(shown.ids.tolist(), np.asarray(shown.masks), strict=True))
            assert not (masks[1] & masks[2]).any()
            assert iou(masks[2], truth[2]) > 0.75, number
    assert iou(masks[1], truth[1]) > 0.75


def test_a_mask_that_holds_its_neighbour() -> None:
    """What two masks share is remembered for one of them only: the other does not take it when that one is removed."""
    propagator = FlowPropagator()
    frame, masks = scene(1, {1: (40, 50), 2: (110, 60)})
    propagator.propose(frame)
    propagator.prompt(1, Prompt(mask=masks[1]))
    propagator.prompt(2, Prompt(mask=masks[1] | masks[2]))
    propagator.commit()
    propagator.forget(1)
    frame, masks = scene(2, {1: (42, 50), 2: (110, 62)})
    shown = propagator.propose(frame)
    assert shown.ids.tolist() == [2]
    assert iou(np.asarray(shown.masks)[0], masks[2]) > 0.85


def test_a_still_camera_and_a_still_object() -> None:
    """Without any motion, the mask stays as it is."""
    propagator = FlowPropagator()
    frame, masks = scene(1, {3: (70, 60)})
    propagator.propose(frame)
    propagator.prompt(3, Prompt(mask=masks[3]))
    propagator.commit()
    for _ in range(6):
        shown = propagator.propose(frame)
        propagator.commit()
    assert iou(np.asarray(shown.masks)[0], masks[3]) > 0.95


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (20, 15), (15, 40)])
def test_tiny_pictures(size: tuple[int, int]) -> None:
    propagator = FlowPropagator()
    image = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    mask = np.zeros(image.shape[:2], bool)
    mask[: (size[1] + 1) // 2] = True
    for number in range(1, 4):
        shown = propagator.propose(Frame(number, number / 25, size, image=image))
        if number == 1:
            shown = propagator.prompt(1, Prompt(mask=mask))
            shown = propagator.prompt(2, Prompt(box=np.array([0, 0, 1, 1])))
            shown = propagator.prompt(3, Prompt(points=np.array([[0, 0]])))
        propagator.commit()
    assert np.asarray(shown.masks).shape == (3, size[1], size[0])


def test_a_large_picture_is_worked_on_at_the_working_side() -> None:
    """Memory depends on working_side, not on the picture's size."""
    frame, masks = scene(1, {1: (50, 50)})
    size = (WIDTH * 8, HEIGHT * 8)
    large = Frame(1, 0.04, size, image=cv2.resize(frame.picture, size, interpolation=cv2.INTER_NEAREST))
    bytes_of = []
    for given, mask in ((frame, masks[1]), (large, cv2.resize(masks[1].astype(np.uint8), size) > 0)):
        propagator = FlowPropagator(working_side=WIDTH)
        propagator.propose(given)
        propagator.prompt(1, Prompt(mask=mask))
        propagator.commit()
        bytes_of.append(propagator.memory_bytes())
    assert bytes_of[0] == bytes_of[1]
    with pytest.raises(InputError, match="working_side must be at least 32"):
        FlowPropagator(working_side=8)
    other = FlowPropagator()
    with pytest.raises(InputError, match="working_side 160"):
        other.load_state_dict(propagator.state_dict())


@pytest.mark.shared_data
@pytest.mark.slow
@pytest.mark.parametrize(
    ("clip", "least", "box"), [("blackswan", 0.93, 0.45), ("camel", 0.85, 0.6), ("drift-straight", 0.75, 0.75)]
)
def test_real_clips(shared: Path, clip: str, least: float, box: float) -> None:
    """J over 15 frames of DAVIS from the first mask, and J of the mask made from the first box."""
    folder = shared / "clips" / "davis" / clip
    propagator, values = FlowPropagator(), []
    for number in range(16):
        image = cv2.imread(str(folder / "images" / f"{number:05d}.jpg"))
        truth = cv2.imread(str(folder / "masks" / f"{number:05d}.png"), 0) > 127
        shown = propagator.propose(Frame(number + 1, number / 25, image.shape[1::-1], image=image))
        if number == 0:
            rows, columns = np.nonzero(truth)
            prompt = Prompt(box=np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]))
            first = np.asarray(propagator.prompt(1, prompt).masks)[0]
            assert region_similarity(first, truth) > box
            propagator.prompt(1, Prompt(mask=truth))
        else:
            values.append(region_similarity(np.asarray(shown.masks)[0], truth))
        propagator.commit()
    assert np.mean(values) > least


def test_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Its table has a row a clip and the means; flow follows a disc that a repeated mask loses."""
    folder = tmp_path / "walk"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(6):
        frame, masks = scene(number, {1: (40 + 6 * number, 50)})
        cv2.imwrite(str(folder / "images" / f"{number:05d}.jpg"), frame.picture)
        cv2.imwrite(str(folder / "masks" / f"{number:05d}.png"), 255 * masks[1].astype(np.uint8))
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "tools"))
    tool = importlib.import_module("bench_masklets")
    monkeypatch.setattr("sys.argv", ["bench_masklets.py", str(tmp_path), "--methods", "repeated", "flow"])
    tool.main()
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines()}
    assert rows["walk"] == rows["mean"]
    repeated, flow = float(rows["walk"][0]), float(rows["walk"][2])
    assert flow > 0.9 > 0.5 > repeated
    (folder / "masks" / "00000.png").unlink()
    with pytest.raises(SystemExit, match="got 6 and 5"):
        tool.main()


def test_background_motion_is_found_beside_an_object() -> None:
    """A zoom and a pan leave no residual on the background; an object that moves otherwise keeps its motion."""
    y, x = np.mgrid[:96, :128].astype(np.float32)
    flow = np.stack((2 + 0.03 * (x - 64), -1 + 0.03 * (y - 48)), axis=-1)
    thing = np.zeros((96, 128), bool)
    thing[30:60, 40:80] = True
    flow[thing] += (6, -4)
    residual = motion.background_residual(flow, np.ones((96, 128), np.float32))  # nobody says where the object is
    assert np.abs(residual[~thing]).max() < 0.1
    np.testing.assert_allclose(residual[thing], np.broadcast_to((6, -4), (thing.sum(), 2)), atol=0.15)
    found = motion.motion_posterior(residual, thing.astype(np.float32), np.ones((96, 128), bool))
    assert found[thing].min() > 0.9
    assert found[~thing].max() < 0.1


def test_flow_of_a_shifted_picture() -> None:
    before = scene(1, {1: (60, 50)})[0].picture[..., 0]
    after = np.roll(before, (2, 5), axis=(0, 1))
    back, consistency = motion.DenseFlow().between(before, after)
    inner = np.s_[20:-20, 20:-20]
    assert np.abs(back[inner] - (-5, -2)).mean() < 0.2
    assert consistency[inner].mean() > 0.9
    moved = motion.warped(before.astype(np.float32), back)
    assert np.abs(moved - after)[inner].mean() < 3


def test_posterior_against_a_loop() -> None:
    """One colour inside, one outside, a third one never seen; no blur reaches so far."""
    lab = np.zeros((40, 60, 3), np.uint8)
    inside = np.zeros((40, 60), bool)
    inside[10:30, 20:40] = True
    lab[...] = (40, 100, 160)
    lab[inside] = (200, 160, 100)
    around = appearance.extent(inside.astype(np.float32))
    np.testing.assert_allclose(around[:2], (29.5, 19.5))
    np.testing.assert_allclose(around[2:], 2 * np.sqrt((20**2 - 1) / 12) + 4)
    index = appearance.cells(lab, around)
    made = appearance.histograms(index, inside.astype(np.float32))
    np.testing.assert_allclose(made.sum(axis=(1, 2, 3, 4, 5)), (inside.sum(), (~inside).sum()), rtol=0.01)
    found = appearance.posterior(made, index)
    assert found[inside].min() > 0.99
    assert found[~inside].max() < 0.01
    lab[...] = (120, 130, 130)
    np.testing.assert_allclose(appearance.posterior(made, appearance.cells(lab, around)), 0.5)
    np.testing.assert_allclose(appearance.colour_posterior(made, lab), 0.5)


def test_extent_of_a_part_of_the_picture() -> None:
    p = np.zeros((50, 70), np.float32)
    p[20:31, 30:51] = 0.8
    np.testing.assert_allclose(appearance.extent(p), appearance.extent(p[15:40, 25:60], (25, 15)))
    assert appearance.extent(np.zeros((5, 5))).tolist() == [-1, -1, 0, 0]


def test_guided_filter_against_a_loop() -> None:
    """Each window has its own least squares fit; each pixel takes the mean of the fits of the windows around it."""
    rng = np.random.default_rng(3)
    image, values = rng.random((9, 11, 3)).astype(np.float32), rng.random((9, 11)).astype(np.float32)
    radius, epsilon = 2, 1e-2
    pad = ((radius, radius), (radius, radius), (0, 0))

    def windows(array: np.ndarray, y: int, x: int) -> np.ndarray:
        padded = np.pad(array.reshape(9, 11, -1), pad, mode="edge")
        return padded[y : y + 2 * radius + 1, x : x + 2 * radius + 1].reshape(25, -1).astype(np.float64)

    slope, offset = np.zeros((9, 11, 3)), np.zeros((9, 11))
    for y in range(9):
        for x in range(11):
            colours, level = windows(image, y, x), windows(values, y, x)[:, 0]
            centred = colours - colours.mean(axis=0)
            right = centred.T @ (level - level.mean()) / 25
            slope[y, x] = np.linalg.solve(centred.T @ centred / 25 + epsilon * np.eye(3), right)
            offset[y, x] = level.mean() - slope[y, x] @ colours.mean(axis=0)
    expected = np.zeros((9, 11))
    for y in range(9):
        for x in range(11):
            expected[y, x] = windows(slope, y, x).mean(axis=0) @ image[y, x] + windows(offset, y, x).mean()
    found = cleanup.guided_filter(image, values, radius, epsilon)
    np.testing.assert_allclose(found, expected, atol=2e-4)


def test_objects_compete_for_pixels() -> None:
    """The most probable object keeps a pixel; the others share the odds with it and the background (1)."""
    p = np.random.default_rng(2).uniform(0.01, 0.99, (3, 4, 5)).astype(np.float32)
    shared = cleanup.exclusive(p)
    for y in range(4):
        for x in range(5):
            odds = [float(v / (1 - v)) for v in p[:, y, x]]
            for k in range(3):
                best = odds[k] == max(odds)
                np.testing.assert_allclose(
                    shared[k, y, x], p[k, y, x] if best else odds[k] / (1 + sum(odds)), rtol=1e-4
                )
    assert ((shared > 0.5).sum(axis=0) <= 1).all()
    np.testing.assert_array_equal(cleanup.exclusive(p[:1]), p[:1])
    np.testing.assert_array_equal(cleanup.owned_masks(shared), shared > 0.5)
    assert cleanup.owned_masks(np.zeros((0, 4, 5))).shape == (0, 4, 5)


def test_two_prompts_on_one_object() -> None:
    """Nobody owns a pixel twice; the object that has it goes on."""
    propagator = FlowPropagator()
    frame, masks = scene(1, {1: (50, 50)})
    propagator.propose(frame)
    propagator.prompt(4, Prompt(mask=masks[1]))
    propagator.prompt(7, Prompt(mask=masks[1]))
    propagator.commit()
    for number in range(2, 6):
        frame, masks = scene(number, {1: (50 + 3 * number, 50)})
        shown = propagator.propose(frame)
        propagator.commit()
    first, second = np.asarray(shown.masks)
    assert not (first & second).any()
    assert iou(first, masks[1]) > 0.85
    assert shown.object_logits[1] < 0


def test_small_pieces_are_removed() -> None:
    p = np.zeros((40, 60), np.float32)
    p[5:30, 5:30] = 0.9  # the object
    p[35, 50:54] = 0.8  # small and not expected
    p[2, 40:44] = 0.8  # small, but expected
    expected = np.zeros((40, 60), bool)
    expected[2, 40:44] = True
    found = cleanup.without_small_pieces(p, expected)
    assert found[35, 50:54].max() == np.float32(0.3)
    np.testing.assert_array_equal(np.delete(found, 35, axis=0), np.delete(p, 35, axis=0))


def test_scribbles() -> None:
    points = sample_scribble(np.array([[0, 0], [30, 0], [30, 40]]), spacing=10)
    np.testing.assert_allclose(points, [(0, 0), (10, 0), (20, 0), (30, 0), (30, 10), (30, 20), (30, 30), (30, 40)])
    assert sample_scribble(np.array([[4, 5]])).tolist() == [[4, 5]]
    for vertices, spacing, message in (
        (np.zeros((0, 2)), 8, "at least one"),
        (np.zeros((2, 3)), 8, r"\(V, 2\)"),
        (np.zeros((2, 2)), 0, "spacing"),
    ):
        with pytest.raises(InputError, match=message):
            sample_scribble(vertices, spacing)


def test_a_scribble_prompts_an_object() -> None:
    propagator = FlowPropagator()
    frame, masks = scene(1, {1: (60, 50)})
    propagator.propose(frame)
    inside = sample_scribble(np.array([[50, 45], [70, 45], [60, 58]]), spacing=5)
    outside = sample_scribble(np.array([[30, 20], [95, 20], [95, 85]]), spacing=5)
    positive = np.arange(len(inside) + len(outside)) < len(inside)
    shown = propagator.prompt(1, Prompt(points=np.concatenate((inside, outside)), positive=positive))
    assert iou(np.asarray(shown.masks)[0], masks[1]) > 0.85
    assert not (np.asarray(shown.masks)[0] & ~disc((60, 50), 26)).any()


def test_of_the_masks_that_a_point_can_mean_the_one_of_the_highest_predicted_iou_is_taken() -> None:
    """A point on a spot of 5 pixels in the middle of a disc of 34: GrabCut of the first size finds the spot alone."""
    image = BACKGROUND.copy()
    image[disc((80, 56), 34)], image[disc((80, 56), 5)] = (40, 60, 210), (230, 230, 230)
    picture = np.clip(image + 0.3 * texture(5), 0, 255).astype(np.uint8)
    flow = FlowPropagator()
    flow.propose(Frame(1, 0.0, (WIDTH, HEIGHT), image=picture))
    candidates = flow.prompt(1, Prompt(np.float32([[80, 56]])), candidates=True)
    areas = [int(np.asarray(mask).sum()) for mask in candidates.masks]
    assert (max(areas), min(areas)) == (areas[0], areas[-1])
    assert min(areas) < 100, "the spot is a candidate, too"
    assert (np.diff(candidates.predicted_iou) < 0).all()
    (taken,) = flow.prompt(1, Prompt(np.float32([[80, 56]]), clear=True)).masks
    assert iou(np.asarray(taken), disc((80, 56), 34)) > 0.95
