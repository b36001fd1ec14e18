"""The rules of benchmarks: against TrackEval's own runners on real truth, against plain loops, and their messages."""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.evaluation import MotRows, evaluate, measure
from masa_track.evaluation.rules import read_ruled

QUIET = {"PRINT_CONFIG": False, "THRESHOLD": 0.5}


def run_trackeval(dataset, kind: str) -> dict:
    import trackeval

    silent = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False}
    silent |= {"OUTPUT_DETAILED": False, "PLOT_CURVES": False, "OUTPUT_EMPTY_CLASSES": False, "LOG_ON_ERROR": None}
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(QUIET), trackeval.metrics.Identity(QUIET)]
    results, _ = trackeval.Evaluator(silent).evaluate([dataset], metrics)
    (of_tracker,) = results[dataset.get_name()].values()
    return {name: result[kind] for name, result in of_tracker.items()}


def assert_same(evaluation, theirs: dict) -> None:
    ours = {**evaluation.sequences, "COMBINED_SEQ": evaluation.combined}
    assert set(ours) == set(theirs)
    for name, scores in ours.items():
        result = theirs[name]
        found = [scores.hota, scores.det_a, scores.ass_a, scores.idf1, scores.false_positives, scores.misses]
        hota = [np.mean(result["HOTA"][key]) for key in ("HOTA", "DetA", "AssA")]
        clear = [result["CLEAR"][key] for key in ("CLR_FP", "CLR_FN")]
        np.testing.assert_allclose(found, [*hota, result["Identity"]["IDF1"], *clear], rtol=1e-9, err_msg=name)
        # py-motmetrics keeps a pair together over a gap, TrackEval does not: see scores.py.
        assert abs(scores.switches - result["CLEAR"]["IDSW"]) <= 2, name
        errors = scores.false_positives + scores.misses + scores.switches
        assert scores.mota == pytest.approx(1 - errors / scores.truth_boxes if scores.truth_boxes else 0), name


def noisy(boxes: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """xywh boxes as a detector might give them; a third overlap the true box by about half."""
    rough = np.where(rng.random((len(boxes), 1)) < 0.3, 0.15, 0.04)
    return boxes + rng.normal(0, rough, boxes.shape) * boxes[:, [2, 3, 2, 3]]


def mot_text(rows: Iterable[tuple]) -> str:
    return "".join(f"{frame},{track},{','.join(f'{v:.2f}' for v in box)},1,-1,-1,-1\n" for frame, track, box in rows)


@pytest.fixture
def mot17(shared: Path, tmp_path: Path) -> tuple[Path, Path, dict[str, int]]:
    """Truth of MOT17 (some static persons are made vehicles), tracks on boxes of all classes, and numbers of frames."""
    truth, tracks, lengths = tmp_path / "train", tmp_path / "tracks" / "data", {}
    tracks.mkdir(parents=True)
    rng = np.random.default_rng(3)
    for folder in sorted(path for path in (shared / "clips" / "mot17_mini").iterdir() if path.is_dir()):
        rows = np.loadtxt(folder / "gt" / "gt.txt", delimiter=",")
        rows[(rows[:, 7] == 7) & (rows[:, 1] % 2 == 0), 7] = 6
        (truth / folder.name / "gt").mkdir(parents=True)
        np.savetxt(truth / folder.name / "gt" / "gt.txt", rows, fmt="%d,%d,%d,%d,%d,%d,%d,%d,%.5f")
        lengths[folder.name] = int(rows[:, 0].max())
        rows = rows[rng.random(len(rows)) < 0.8]
        found = [(int(row[0]), int(row[1]), box) for row, box in zip(rows, noisy(rows[:, 2:6], rng), strict=True)]
        found += [(1, 900, [5, 5, 40, 80]), (2, 900, [6, 5, 40, 80])]
        (tracks / f"{folder.name}.txt").write_text(mot_text(found))
    return truth, tracks, lengths


@pytest.mark.slow
@pytest.mark.shared_data
@pytest.mark.parametrize("benchmark", ["MOT16", "MOT17", "MOT20"])
def test_mot_equals_trackevals_own_runner(mot17, benchmark) -> None:
    import trackeval

    truth, tracks, lengths = mot17
    options = {"GT_FOLDER": str(truth), "TRACKERS_FOLDER": str(tracks.parent.parent), "TRACKERS_TO_EVAL": ["tracks"]}
    options |= {"BENCHMARK": benchmark, "SEQ_INFO": lengths, "SKIP_SPLIT_FOL": True, "PRINT_CONFIG": False}
    theirs = run_trackeval(trackeval.datasets.MotChallenge2DBox(options), "pedestrian")
    ours = evaluate(truth, tracks, rules=benchmark.lower())
    assert_same(ours, theirs)
    if benchmark == "MOT17":
        assert evaluate(truth, tracks) == ours  # by the names of the sequences
        assert evaluate(truth, tracks, rules="none").combined.false_positives > ours.combined.false_positives


@pytest.mark.shared_data
def test_the_command_says_which_rules_it_applied(mot17, tmp_path, capsys) -> None:
    truth, tracks, _ = mot17
    assert main(["eval", str(truth), str(tracks), "--metrics", "clear", "--json", str(tmp_path / "s.json")]) == 0
    note = capsys.readouterr().err
    assert "rules of mot17 (7 of 7 sequences)" in note
    assert "boxes of tracks were removed" in note
    assert set(json.loads((tmp_path / "s.json").read_text())["rules"].values()) == {"mot17"}
    assert main(["eval", str(truth), str(tracks), "--rules", "none"]) == 0
    assert "rules of" not in capsys.readouterr().err


KITTI = "{} {} {} {} {} 0 {:.4f} {:.4f} {:.4f} {:.4f} -1 -1 -1 -1 -1 -1 -1"
WORDS = ["", "", "Person", "Cyclist", "Car", "Van", "Truck", "Tram", "Misc"]


def kitti_texts(clip: Path, kind: str, rng: np.random.Generator, frames: int) -> tuple[str, str]:
    """Truth as KITTI writes it (from MOT text, with some boxes truncated) and tracks on all its boxes and regions."""
    rows = np.loadtxt(clip / "gt" / "gt.txt", delimiter=",", ndmin=2)
    rows = rows[rows[:, 0] <= frames]
    truth, tracks = [], []
    for row, box in zip(rows, noisy(rows[:, 2:6], rng), strict=True):
        word = WORDS[int(row[7])] or "Pedestrian"
        x, y, w, h = row[2:6]
        word = "Person" if word == "Pedestrian" and row[1] % 3 == 0 else word  # one that sits
        head = int(row[0]) - 1, int(row[1]), word
        occluded = {1.0: 0, 0.6: 1, 0.3: 2, 0.0: 3}[row[8]]
        truth.append(KITTI.format(*head, int(rng.random() < 0.1), occluded, x, y, x + w, y + h))
        if rng.random() < 0.85:
            x, y, w, h = box
            tracks.append(KITTI.format(*head[:2], kind, 0, 0, x, y, x + w, y + h) + " 0.9")
    tracks.append(KITTI.format(0, 800, "Cyclist", 0, 0, 3, 3, 60, 90) + " 0.9")
    regions = np.loadtxt(clip / "gt" / "ignore.txt", delimiter=",", ndmin=2)
    for i, (x, y, w, h) in enumerate(regions[regions[:, 0] <= frames][:, 2:6]):
        frame = int(regions[i, 0]) - 1
        truth.append(KITTI.format(frame, -1, "DontCare", -1, -1, x, y, x + w, y + h))
        move = rng.uniform(0, 1)  # some of the false tracks lie in the region by more than half
        tracks.append(KITTI.format(frame, 1000 + i, kind, 0, 0, x + move * w, y, x + (1 + move) * w, y + 30) + " 0.9")
    return "\n".join(truth) + "\n", "\n".join(tracks) + "\n"


@pytest.fixture(params=["car", "pedestrian"])
def kitti(request: pytest.FixtureRequest, shared: Path, tmp_path: Path) -> tuple[Path, str]:
    """Two sequences: ``label_02`` and ``tracks/data``. Sequence 0001 has no pedestrian."""
    rng = np.random.default_rng(5)
    (tmp_path / "label_02").mkdir()
    (tmp_path / "tracks" / "data").mkdir(parents=True)
    for name in ("0011", "0001"):
        clip = shared / "clips" / "kitti_tracking_gt_only" / name
        truth, tracks = kitti_texts(clip, request.param.capitalize(), rng, 40)
        (tmp_path / "label_02" / f"{name}.txt").write_text(truth)
        (tmp_path / "tracks" / "data" / f"{name}.txt").write_text(tracks)
    (tmp_path / "evaluate_tracking.seqmap.training").write_text("0011 empty 000000 000040\n0001 empty 000000 000040\n")
    return tmp_path, request.param


@pytest.mark.shared_data
def test_kitti_equals_trackevals_own_runner(kitti) -> None:
    import trackeval

    folder, kind = kitti
    options = {"GT_FOLDER": str(folder), "TRACKERS_FOLDER": str(folder), "TRACKERS_TO_EVAL": ["tracks"]}
    options |= {"CLASSES_TO_EVAL": [kind], "PRINT_CONFIG": False}
    theirs = run_trackeval(trackeval.datasets.Kitti2DBox(options), kind)
    measured = measure(folder / "label_02", folder / "tracks" / "data", rules=f"kitti-{kind}")
    assert_same(measured.evaluation, theirs)
    assert all(removed > 10 for _, removed in measured.rules.values())
    json.dumps(measured.as_dict(), allow_nan=False)


@pytest.mark.shared_data
def test_kitti_truth_with_tracks_as_mot_text(kitti, tmp_path) -> None:
    """Frames and pixels from 0 in KITTI's text, from 1 in MOT's."""
    folder, kind = kitti
    (tmp_path / "mot").mkdir()
    for file in (folder / "tracks" / "data").iterdir():
        fields = [line.split() for line in file.read_text().splitlines()]
        rows = [(int(f[0]) + 1, int(f[1]), np.array(f[6:10], float)) for f in fields if f[2].lower() == kind]
        rows = [(frame, track, [*(b[:2] + 1), *(b[2:] - b[:2])]) for frame, track, b in rows]
        (tmp_path / "mot" / file.name).write_text(mot_text(rows))
    ours = evaluate(folder / "label_02", folder / "tracks" / "data", rules=f"kitti-{kind}").combined
    assert evaluate(folder / "label_02", tmp_path / "mot", rules=f"kitti-{kind}").combined.idf1 == pytest.approx(
        ours.idf1
    )


def painted(box: np.ndarray, regions: np.ndarray) -> float:
    """The part of a box of whole pixels that is in the union of regions, counted pixel by pixel."""
    inside = 0
    x, y, w, h = box.astype(int)
    for column in range(x, x + w):
        for row in range(y, y + h):
            inside += any(a <= column < a + c and b <= row < b + d for a, b, c, d in regions.astype(int))
    return inside / (w * h)


def visdrone_text(rng: np.random.Generator) -> tuple[str, np.ndarray]:
    rows = []
    for frame in range(1, 9):
        for k, kind in enumerate(rng.choice([0, 0, 11, 1, 4, 4, 9], 12)):
            box = [*rng.integers(1, 60, 2), *rng.integers(5, 25, 2)]
            rows.append([frame, k, *box, int(kind not in (0, 11)), kind, 0, 0])
    return "".join(",".join(map(str, row)) + "\n" for row in rows), np.array(rows, float)


def test_visdrone_ignored_regions_against_counted_pixels(tmp_path) -> None:
    rng = np.random.default_rng(2)
    text, rows = visdrone_text(rng)
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "uav1.txt").write_text(text)
    found = [(frame, k, [*rng.integers(1, 60, 2), *rng.integers(5, 25, 2)]) for frame in range(1, 9) for k in range(15)]
    (tmp_path / "uav1.txt").write_text(mot_text(found))
    ruled = read_ruled("uav1", tmp_path / "annotations" / "uav1.txt", tmp_path / "uav1.txt", "visdrone")

    def kept(frame: int, box) -> bool:
        region = (rows[:, 0] == frame) & np.isin(rows[:, 7], (0, 11))
        return painted(np.array(box, float), rows[region, 2:6]) < 0.5

    def names(boxes: MotRows) -> list[tuple[int, int]]:
        return sorted(zip(boxes.frames.tolist(), boxes.ids.tolist(), strict=True))

    assert names(ruled.tracks) == [(frame, k) for frame, k, box in found if kept(frame, box)]
    true = rows[rows[:, 6] == 1]
    assert names(ruled.truth) == sorted((int(r[0]), int(r[1])) for r in true if kept(r[0], r[2:6]))
    assert 0 < ruled.removed == len(found) - len(ruled.tracks) < len(found)
    assert len(ruled.truth) < len(true)
    assert list(evaluate(tmp_path / "annotations", tmp_path, rules="visdrone").sequences) == ["uav1"]


def test_rules_that_do_not_fit_the_file_are_refused(tmp_path) -> None:
    (tmp_path / "t.txt").write_text("1,1,10,10,20,40\n")
    (tmp_path / "MOT17-02.txt").write_text("1,1,10,10,20,40,1\n")
    (tmp_path / "k.txt").write_text(KITTI.format(0, 1, "Car", 0, 0, 1, 1, 50, 50) + "\n")

    def message(gt: str, rules: str) -> str:
        with pytest.raises(InputError) as caught:
            evaluate(tmp_path / gt, tmp_path / "t.txt", rules=rules)
        return str(caught.value)

    assert "column 8, but id 1 of frame 1 does not" in message("MOT17-02.txt", "mot17")
    assert "--rules kitti-car or --rules kitti-pedestrian" in message("k.txt", "auto")
    assert "GT must be KITTI's text" in message("MOT17-02.txt", "kitti-car")
    assert "has none under --rules kitti-pedestrian" in message("k.txt", "kitti-pedestrian")
    assert "mot17" in message("t.txt", "mot71")
    assert evaluate(tmp_path / "MOT17-02.txt", tmp_path / "t.txt").combined.idf1 == 1  # auto: no classes, no rules


def test_broken_lines_of_kitti_name_their_place(tmp_path) -> None:
    (tmp_path / "t.txt").write_text("1,1,10,10,20,40\n")
    good = KITTI.format(0, 1, "Car", 0, 0, 1, 1, 50, 50)
    for line, message in [
        (good, "line 2: id 1 occurs twice in frame 0"),
        (good.replace("0 1 Car", "-1 1 Car"), "line 2: frames must count from 0, got -1"),
        (good.replace("50.0000", "0.5", 1).replace("0 1 Car", "0 2 Car"), "line 2: width and height must be above 0"),
        ("1,1,10,10,20,40", "line 2: a row must have at least 10 columns"),
    ]:
        (tmp_path / "k.txt").write_text(f"{good}\n{line}\n")
        with pytest.raises(InputError, match=message):
            evaluate(tmp_path / "k.txt", tmp_path / "t.txt", rules="kitti-car")
