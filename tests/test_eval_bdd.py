"""BDD100K's scores equal scalabel's, those by TrackEval's own preprocessing, and TETA in plain loops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bdd_scalabel import bdd_frames, faulty_tracks
from slow_teta import iou, slow_teta

from masa_track.errors import InputError
from masa_track.evaluation.bdd import (
    CLASSES,
    DISTRACTORS,
    GROUPS,
    format_bdd,
    remove_overlaps,
    scalabel_frames,
    score_bdd,
    summary,
)
from masa_track.masks import compressed, decode_mask, encode_mask

GOLDENS = Path(__file__).parent / "goldens" / "bdd_scalabel.json"
KINDS = pytest.mark.parametrize("masks", [False, True], ids=["boxes", "masks"])


def written(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content))
    return path


def without_overlaps(frames: list[dict[str, Any]]) -> list[dict[str, Any]]:
    result = []
    for frame in frames:
        labels = frame["labels"]
        rles = [compressed(label["rle"], tuple(label["rle"]["size"])) for label in labels]
        kept = remove_overlaps([label["score"] for label in labels], rles)
        shown = [{**label, "rle": rle} for label, rle in zip(labels, kept, strict=True) if rle is not None]
        result.append({**frame, "labels": shown})
    return result


def clip_pair(shared: Path, seed: int, masks: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    truth = bdd_frames(shared / "clips" / "bdd_mini" / "bdd100k_test" / "track", masks)
    tracks = faulty_tracks(truth, seed, masks)
    return truth, without_overlaps(tracks) if masks else tracks


@pytest.mark.slow
@pytest.mark.shared_data
@KINDS
@pytest.mark.parametrize("seed", [1, 2])
def test_mota_and_idf1_equal_scalabels(shared: Path, tmp_path: Path, seed: int, masks: bool) -> None:
    truth, tracks = clip_pair(shared, seed, masks)
    files = written(tmp_path / "truth.json", truth), written(tmp_path / "tracks.json", tracks)
    ours = score_bdd(*files, metrics=["clear"], masks=masks)
    theirs = json.loads(GOLDENS.read_text())[f"{'masks' if masks else 'boxes'}_{seed}"]
    assert set(ours) == set(theirs)
    for row, scores in theirs.items():
        for name, value in scores.items():
            if value is None:
                assert not np.isfinite(ours[row][name])
            else:
                assert ours[row][name] == pytest.approx(value, abs=1e-7), (row, name)
    assert -100 < ours["AVERAGE"]["MOTA"] < ours["OVERALL"]["IDF1"]


@pytest.mark.slow
@pytest.mark.shared_data
@KINDS
def test_hota_equals_trackevals_own_preprocessing(shared: Path, tmp_path: Path, masks: bool) -> None:
    truth, tracks = clip_pair(shared, 3, masks)
    files = written(tmp_path / "truth.json", truth), written(tmp_path / "tracks.json", tracks)
    ours = score_bdd(*files, metrics=["hota"], masks=masks)
    theirs = trackeval_hota(truth, tracks, masks)
    assert set(ours) == set(theirs)
    for row, scores in theirs.items():
        for name in ours[row]:
            assert ours[row][name] == pytest.approx(100 * np.mean(scores[name])), (row, name)
    assert 0 < ours["AVERAGE"]["HOTA"] < ours["OVERALL"]["HOTA"] < 100


def trackeval_hota(truth: list[dict[str, Any]], tracks: list[dict[str, Any]], masks: bool) -> dict[str, Any]:
    """HOTA through TrackEval's data set classes: BDD100K for boxes, KITTI MOTS for masks, fed from memory."""
    from pycocotools import mask as api
    from trackeval.datasets import BDD100K, KittiMOTS
    from trackeval.metrics import HOTA

    base = KittiMOTS if masks else BDD100K

    class InMemory(base):  # type: ignore[misc, valid-type]
        def __init__(self, video: str) -> None:
            self.video, self.class_name_to_class_id = video, {name: i for i, name in enumerate(CLASSES)}

        def _load_raw_file(self, tracker: str, seq: str, is_gt: bool) -> dict[str, Any]:
            side = "gt" if is_gt else "tracker"
            frames = [frame for frame in (truth if is_gt else tracks) if frame["videoName"] == self.video]
            data: dict[str, Any] = {key: [] for key in ("ids", "classes", "dets", "ignored")}
            for frame in sorted(frames, key=lambda one: one["frameIndex"]):
                crowd = [label for label in frame["labels"] if label.get("attributes", {}).get("crowd")]
                rest = [label for label in frame["labels"] if label not in crowd]
                data["ids"].append(np.array([int(label["id"]) for label in rest], int))
                names = [DISTRACTORS.get(label["category"], label["category"]) for label in rest]
                data["classes"].append(np.array([CLASSES.index(name) for name in names], int))
                if masks:
                    size = (720, 1280)
                    data["dets"].append([compressed(label["rle"], size) for label in rest])
                    data["ignored"].append(api.merge([compressed(label["rle"], size) for label in crowd]))
                else:
                    corners = ("x1", "y1", "x2", "y2")
                    boxes = [[[label["box2d"][key] for key in corners] for label in part] for part in (rest, crowd)]
                    data["dets"].append(np.array(boxes[0], float).reshape(-1, 4))
                    data["ignored"].append(np.array(boxes[1], float).reshape(-1, 4))
            raw = {f"{side}_{key}": data[key] for key in ("ids", "classes", "dets")}
            if is_gt:
                raw["gt_ignore_region" if masks else "gt_crowd_ignore_regions"] = data["ignored"]
            return {**raw, "num_timesteps": len(frames), "seq": seq}

    hota = HOTA()
    videos = sorted({frame["videoName"] for frame in truth})
    raw = {video: InMemory(video).get_raw_seq_data("", video) for video in videos}
    classes = {}
    for name in CLASSES:
        parts = {v: hota.eval_sequence(InMemory(v).get_preprocessed_seq_data(raw[v], name)) for v in videos}
        classes[name] = hota.combine_sequences(parts)
    result = {**classes, "AVERAGE": hota.combine_classes_class_averaged(classes)}
    for group, names in {**GROUPS, "OVERALL": CLASSES}.items():
        result[group] = hota.combine_classes_det_averaged({name: classes[name] for name in names})
    return result


def random_pair(seed: int, masks: bool) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Truth and tracks of two small videos, with crowds and frames without truth."""
    rng = np.random.default_rng(seed)
    truth, tracks = [], []
    for video in ("a", "b"):
        for frame in range(4):
            true_labels, found = [], []
            if frame != 2:
                for i in rng.permutation(4)[: rng.integers(1, 5)].tolist():
                    x, y = int(7 * i + rng.integers(0, 3)), int(rng.integers(0, 8))
                    crowd = {"attributes": {"crowd": i == 3}}
                    true_labels.append({"id": str(i), "category": CLASSES[i % 3 + 2], **shape(x, y, masks), **crowd})
                    if rng.random() < 0.85:
                        x, y = x + int(rng.integers(-1, 2)), y + int(rng.integers(-1, 2))
                        number = i if rng.random() < 0.7 else i + 10
                        name = CLASSES[i % 3 + 2] if rng.random() < 0.7 else CLASSES[rng.integers(2, 6)]
                        found.append({"id": str(number), "category": name, **shape(x, y, masks)})
            if rng.random() < 0.6:
                x, y = int(rng.integers(0, 26)), int(rng.integers(0, 10))
                found.append({"id": "20", "category": CLASSES[rng.integers(2, 6)], **shape(x, y, masks)})
            for label in found:
                label["score"] = float(rng.random())
            facts = {"videoName": video, "frameIndex": frame, "name": f"{video}{frame}"}
            truth.append({**facts, "labels": true_labels})
            tracks.append({**facts, "labels": found})
    return truth, without_overlaps(tracks) if masks else tracks


def shape(x: int, y: int, masks: bool) -> dict[str, Any]:
    """A square of 9 pixels as a box with its last pixels, or as a mask of a picture of 40 x 24."""
    if not masks:
        return {"box2d": {"x1": x, "y1": y, "x2": x + 8, "y2": y + 8}}
    picture = np.zeros((24, 40), bool)
    picture[max(y, 0) : y + 9, max(x, 0) : x + 9] = True
    return {"rle": encode_mask(picture)}


def plain(frames: list[dict[str, Any]], masks: bool, crowd: bool = False) -> list[tuple[Any, ...]]:
    rows = []
    for frame in frames:
        for label in frame["labels"]:
            if label.get("attributes", {}).get("crowd", False) != crowd:
                continue
            if masks:
                picture = decode_mask(compressed(label["rle"], (24, 40)))
                place: Any = frozenset(np.flatnonzero(picture).tolist())
            else:
                x1, y1, x2, y2 = (label["box2d"][key] for key in ("x1", "y1", "x2", "y2"))
                place = (x1, y1, x2 + 1, y2 + 1)
            rows.append((frame["frameIndex"], int(label["id"]), CLASSES.index(label["category"]), place))
    return rows


def inside(box: Any, region: Any) -> float:
    if isinstance(box, frozenset):
        return len(box & region) / len(box)
    both = [max(min(box[i + 2], region[i + 2]) - max(box[i], region[i]), 0) for i in (0, 1)]
    return both[0] * both[1] / ((box[2] - box[0]) * (box[3] - box[1]))


@KINDS
@pytest.mark.parametrize("seed", range(6))
def test_teta_equals_plain_loops(tmp_path: Path, seed: int, masks: bool) -> None:
    from scipy.optimize import linear_sum_assignment

    truth, tracks = random_pair(seed, masks)
    files = written(tmp_path / "truth.json", truth), written(tmp_path / "tracks.json", tracks)
    ours = score_bdd(*files, metrics=["teta"], masks=masks)
    videos, dropped = [], 0
    for video in ("a", "b"):
        sides = [[frame for frame in side if frame["videoName"] == video] for side in (truth, tracks)]
        true_rows, crowds, found = plain(sides[0], masks), plain(sides[0], masks, True), plain(sides[1], masks)
        kept = []
        for frame in range(4):
            here = [row for row in found if row[0] == frame]
            there = [row for row in true_rows if row[0] == frame]
            pairs = np.array([[iou(a[3], b[3]) for b in here] for a in there]).reshape(len(there), len(here))
            matched = {
                j
                for i, j in zip(*linear_sum_assignment(-np.where(pairs >= 0.5, pairs, 0)), strict=True)
                if pairs[i, j] >= 0.5
            }
            for j, row in enumerate(here):
                regions = [crowd[3] for crowd in crowds if crowd[0] == frame]
                if j in matched or all(inside(row[3], region) <= 0.5 for region in regions):
                    kept.append(row)
        dropped += len(found) - len(kept)
        videos.append((true_rows, kept))
    slow = slow_teta(videos, exhaustive=True, every_frame=True)
    names = {"TETA": "teta", "LocA": "loc_a", "AssocA": "assoc_a", "ClsA": "cls_a", "ClsPr": "cls_pr"}
    for name, field in names.items():
        assert ours["AVERAGE"][name] == pytest.approx(100 * slow[None][field])
        for number, scores in slow.items():
            if number is not None:
                assert ours[CLASSES[number]][name] == pytest.approx(100 * scores[field]), CLASSES[number]
    assert 0 < ours["OVERALL"]["TETA"] < 100
    if seed == 0:
        assert dropped > 0


@pytest.mark.slow
@KINDS
def test_perfect_tracks_score_a_hundred_and_strides_agree(tmp_path: Path, masks: bool) -> None:
    truth, _ = random_pair(1, masks)
    tracks = [
        {**f, "labels": [{**label, "score": 1.0} for label in f["labels"] if not label["attributes"]["crowd"]]}
        for f in truth
    ]
    if masks:  # the truth's masks overlap, too
        for frame, kept in zip(truth, without_overlaps(tracks), strict=True):
            crowds = [label for label in frame["labels"] if label["attributes"]["crowd"]]
            frame["labels"] = kept["labels"] + crowds
        tracks = without_overlaps(tracks)
    for frame in truth + tracks:
        frame["frameIndex"] += 5  # the first of a video need not be 0
    truth_file, tracks_file = written(tmp_path / "truth.json", truth), written(tmp_path / "tracks.json", tracks)
    for stride in (1, 2, 3):
        line = summary(score_bdd(truth_file, tracks_file, masks=masks, stride=stride))
        assert {round(line[name], 9) for name in ("TETA", "HOTA", "MOTA", "MOTP", "IDF1", "mTETA")} == {100}
        assert line["IDSw"] == line["FP"] == line["FN"] == 0
    table = format_bdd(score_bdd(truth_file, tracks_file, masks=masks)).splitlines()
    assert [line.split()[0] for line in table[:12]] == ["class", *CLASSES, *GROUPS]
    assert table[-1] == "0 to 100, by BDD100K's rules; AVERAGE is the mean of the classes"


def test_overlaps_go_to_the_higher_score() -> None:
    masks = [np.zeros((6, 8), bool) for _ in range(3)]
    masks[0][:, :4], masks[1][:, 2:6], masks[2][1:3, 3:5] = True, True, True
    rles = [compressed(encode_mask(mask), (6, 8)) for mask in masks]
    left, right, gone = remove_overlaps([0.5, 0.9, 0.2], rles)
    assert gone is None
    assert np.array_equal(decode_mask(compressed(right, (6, 8))), masks[1])
    assert np.array_equal(decode_mask(compressed(left, (6, 8))), masks[0] & ~masks[1])
    assert remove_overlaps([], []) == []
    later = remove_overlaps([0.5, 0.5], [rles[0], rles[0]])
    assert later[0] is None
    assert later[1] is not None


@KINDS
def test_results_for_the_server(masks: bool) -> None:
    truth = {
        "videos": [{"id": 1, "name": "v"}],
        "categories": [{"id": 4, "name": "car"}],
        "images": [
            {"id": i, "video_id": 1, "frame_id": i, "file_name": f"v/{i}.jpg", "width": 8, "height": 6} for i in (0, 1)
        ],
    }
    picture = np.ones((6, 8), bool)
    row = {"image_id": 1, "category_id": 4, "bbox": [1, 2, 3, 4], "segmentation": encode_mask(picture)}
    rows = [{**row, "track_id": 7, "score": 0.9}, {**row, "track_id": 8, "score": 0.8}]
    frames = scalabel_frames(truth, rows, masks)
    assert frames[0] == {"name": "v/0.jpg", "videoName": "v", "frameIndex": 0, "labels": []}
    label = frames[1]["labels"][0]
    box = {"x1": 1, "y1": 2, "x2": 4, "y2": 6}
    assert {**label, "rle": None} == {"id": "7", "category": "car", "score": 0.9, "box2d": box, "rle": None}
    assert len(frames[1]["labels"]) == (1 if masks else 2)  # the second mask is covered
    assert ("rle" in label) == masks


def test_broken_files_are_named(tmp_path: Path) -> None:
    truth, tracks = random_pair(0, False)
    good = written(tmp_path / "good.json", {"frames": tracks})
    with pytest.raises(InputError, match="scalabel_gt must be a json file or a folder of json files"):
        score_bdd(tmp_path / "nowhere", good)
    bad: list[tuple[str, Any]] = [
        ("videoName must be text", {"frameIndex": 0, "labels": []}),
        ("category 'tram' is none of BDD100K's", {"videoName": "a", "frameIndex": 0, "labels": [{"category": "tram"}]}),
        ("box2d must have finite", {"videoName": "a", "frameIndex": 0, "labels": [{"category": "car", "box2d": {}}]}),
    ]
    for message, frame in bad:
        with pytest.raises(InputError, match=message):
            score_bdd(written(tmp_path / "bad.json", [frame]), good)
    with pytest.raises(InputError, match="has no video 'a', which the tracks have"):
        score_bdd(written(tmp_path / "few.json", [frame for frame in truth if frame["videoName"] == "b"]), good)
    with pytest.raises(InputError, match="has no frameIndex 3 of video a"):
        score_bdd(written(tmp_path / "few.json", [frame for frame in truth if frame["frameIndex"] < 3]), good)
    with pytest.raises(InputError, match="is in this video twice"):
        score_bdd(written(tmp_path / "twice.json", truth + truth), good)
    polygons = [{**frame, "labels": [{"category": "car", "poly2d": [], "id": 1}]} for frame in truth]
    with pytest.raises(InputError, match=r"masks must be rle, got poly2d: convert with bdd100k\.label\.to_rle"):
        score_bdd(written(tmp_path / "polygons.json", polygons), good, masks=True)
    with pytest.raises(InputError, match="must have a label with a box2d to score against"):
        score_bdd(written(tmp_path / "empty.json", [{**frame, "labels": []} for frame in truth]), good)
    with pytest.raises(InputError, match="must have a label with an rle to score against"):
        score_bdd(written(tmp_path / "boxes.json", truth), written(tmp_path / "none.json", []), masks=True)
    with pytest.raises(InputError, match="unknown metric 'motp'"):
        score_bdd(good, good, metrics=["motp"])


def test_missing_videos_count_as_empty(tmp_path: Path) -> None:
    truth, tracks = random_pair(4, False)
    file = written(tmp_path / "truth.json", truth)
    part = [frame for frame in tracks if frame["videoName"] == "b"]
    empty = part + [{**frame, "labels": []} for frame in tracks if frame["videoName"] == "a"]
    few = score_bdd(file, written(tmp_path / "few.json", part))
    assert str(few) == str(score_bdd(file, written(tmp_path / "empty.json", empty)))
    assert few["OVERALL"]["FN"] > 0
