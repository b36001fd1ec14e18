"""Scores against numbers worked out by hand, against TrackEval's own runner, and what is said about broken files."""

import math
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import motmetrics
import numpy as np
import pytest

from masa_track.boxes import box_iou_xywh
from masa_track.errors import InputError
from masa_track.evaluation import MotRows, evaluate, find_pairs, format_table, read_mot, score_sequences
from masa_track.evaluation.scores import sequence_data

Row = tuple  # frame, id, left, top, width, height[, flag]


def rows_of(rows: list[Row]) -> MotRows:
    table = np.array(sorted(rows), np.float64).reshape(-1, len(rows[0]) if rows else 6)
    return MotRows(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2:6])


def write(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [",".join(repr(float(x)) for x in (*row, 1)[:7]) + ",-1,-1,-1\n" for row in rows]
    path.write_text("".join(lines))
    return path


def score(truth: list[Row], tracks: list[Row], iou: float = 0.5):
    return score_sequences({"a": (rows_of(truth), rows_of(tracks))}, iou=iou).combined


def scene(seed: int, objects: int, frames: int, spacing: float) -> tuple[list[Row], list[Row]]:
    """Truth with gaps, and noisy tracks of it: misses, false alarms, new and swapped identities.

    A spacing far above the box's 40 x 80 pixels leaves no doubt which box is whose; a small one makes a crowd.
    """
    rng = np.random.default_rng(seed)
    places = np.stack([np.arange(objects) * spacing, rng.uniform(0, spacing, objects)], axis=1)
    ids = list(range(1, objects + 1))
    newest = 1000
    truth: list[Row] = []
    tracks: list[Row] = []
    for frame in range(1, frames + 1):
        places += rng.normal(0, min(spacing / 50, 4), places.shape)
        for k in range(objects):
            if rng.random() < 0.03:
                newest += 1
                ids[k] = newest
            elif rng.random() < 0.03:
                other = int(rng.integers(objects))
                ids[k], ids[other] = ids[other], ids[k]
        for k in range(objects):
            if rng.random() > 0.1:
                truth.append((frame, k + 1, *places[k], 40, 80))
            if rng.random() > 0.15:
                tracks.append((frame, ids[k], *(places[k] + rng.normal(0, 4, 2)), 40, 80))
        if rng.random() < 0.3:
            newest += 1
            tracks.append((frame, newest, -5000.0, 0.0, 40, 80))
    return truth, tracks


# Two people, four frames; the first one's track is 1, then 3.
A = [(frame, 1, 10, 10, 20, 40) for frame in (1, 2, 3, 4)]
B = [(frame, 2, 210, 10, 20, 40) for frame in (1, 2, 3, 4)]
SWITCHED = [(frame, 1 if frame < 3 else 3, 10, 10, 20, 40) for frame in (1, 2, 3, 4)]


def test_one_switch_by_hand():
    scores = score(A + B, SWITCHED + B)
    assert (scores.switches, scores.false_positives, scores.misses) == (1, 0, 0)
    assert (scores.truth_ids, scores.track_ids, scores.truth_boxes, scores.track_boxes, scores.frames) == (
        2,
        3,
        8,
        8,
        4,
    )
    assert scores.mota == pytest.approx(1 - 1 / 8)
    assert scores.idf1 == pytest.approx(2 * 6 / (8 + 8))  # B whole and half of A have the right identity
    assert scores.det_a == pytest.approx(1)
    assert scores.loc_a == pytest.approx(1)
    assert scores.ass_a == pytest.approx((4 * 2 / 4 + 4 * 1) / 8)  # A's boxes share 2 of 4 with their track
    assert scores.hota == pytest.approx(math.sqrt(0.75))


def test_misses_and_false_positives_by_hand():
    # B is not found in frame 4; track 9 is nowhere near, in a frame of its own after the last of the truth.
    scores = score(A + B, A + B[:3] + [(7, 9, 900, 900, 20, 40)])
    assert (scores.switches, scores.false_positives, scores.misses, scores.frames) == (0, 1, 1, 5)
    assert scores.mota == pytest.approx(1 - 2 / 8)
    assert scores.idf1 == pytest.approx(2 * 7 / (8 + 8))
    assert scores.det_a == pytest.approx(7 / 9)
    assert scores.ass_a == pytest.approx((4 * 1 + 3 * 3 / 4) / 7)


def test_the_nearer_track_is_matched():
    further = [(1, 5, 10, 20, 20, 40)]
    scores = score(A, A + further)
    assert (scores.switches, scores.false_positives) == (0, 1)
    assert scores.idf1 == pytest.approx(2 * 4 / (4 + 5))


def test_no_tracks_is_zeros():
    scores = asdict(score(A + B, []))
    nonzero = {key: value for key, value in scores.items() if value}
    assert nonzero == {"misses": 8, "truth_boxes": 8, "truth_ids": 2, "frames": 4}


def test_tracks_that_match_nothing():
    scores = score(A, [(frame, 1, 500, 10, 20, 40) for frame in (1, 2, 3, 4)])
    assert (scores.mota, scores.idf1, scores.hota, scores.loc_a) == (-1, 0, 0, 0)


@pytest.mark.parametrize(("iou", "matched"), [(0.5, True), (0.49, True), (0.51, False)])
def test_the_threshold_is_met_at_equality(iou, matched):
    half = [(frame, 1, 10, 10, 20, 20) for frame in (1, 2, 3, 4)]
    scores = score(A, half, iou=iou)
    assert scores.misses == scores.false_positives == (0 if matched else 4)
    assert scores.idf1 == (1 if matched else 0)
    assert scores.loc_a == pytest.approx((0.5 * 10 + 9) / 19)  # of 19 thresholds, .05 to .50 have matches


def test_combined_is_what_one_long_sequence_would_get():
    first, second = scene(1, 6, 25, 60), scene(2, 4, 60, 60)
    scored = score_sequences({"first": tuple(map(rows_of, first)), "second": tuple(map(rows_of, second))})
    later = [[(row[0] + 100, row[1] + 10**6, *row[2:]) for row in side] for side in second]
    long = score(first[0] + later[0], first[1] + later[1])
    assert asdict(scored.combined) == pytest.approx(asdict(long))
    mean = np.mean([one.idf1 for one in scored.sequences.values()])
    assert scored.combined.idf1 != pytest.approx(mean, abs=1e-4)  # else this says nothing about sums


def test_order_and_names_of_identities_do_not_matter(tmp_path):
    truth, tracks = scene(3, 6, 30, 60)
    rng = np.random.default_rng(0)
    renamed = [(row[0], 2**62 - int(row[1]) * 7, *row[2:]) for row in rng.permutation(np.array(tracks)).tolist()]
    write(tmp_path / "gt.txt", truth)
    write(tmp_path / "tracks.txt", tracks)
    # 63-bit identities as whole numbers: as floats some would be the same.
    lines = [f"{int(f)},{int(i)},{x!r},{y!r},{w!r},{h!r}\n" for f, i, x, y, w, h in renamed]
    (tmp_path / "renamed.txt").write_text("".join(lines))
    one, other = (evaluate(tmp_path / "gt.txt", tmp_path / name).combined for name in ("tracks.txt", "renamed.txt"))
    assert asdict(one) == pytest.approx(asdict(other))


@pytest.mark.parametrize("stride", [1, 2, 7])
def test_stride_is_the_same_as_files_thinned_by_hand(tmp_path, stride):
    truth, tracks = scene(4, 5, 40, 60)
    full = evaluate(write(tmp_path / "gt.txt", truth), write(tmp_path / "t.txt", tracks), stride=stride)
    kept = range(1, 41, stride)
    thin = [[row for row in side if row[0] in kept] for side in (truth, tracks)]
    by_hand = evaluate(write(tmp_path / "gt2.txt", thin[0]), write(tmp_path / "t2.txt", thin[1]))
    assert full.combined == by_hand.combined
    assert full.combined.frames == len(kept)
    assert (full.stride, by_hand.stride) == (stride, 1)


def test_box_iou_against_loops():
    rng = np.random.default_rng(5)
    boxes, others = rng.uniform(1, 60, (7, 4)), rng.uniform(1, 60, (5, 4))
    expected = np.zeros((7, 5))
    for i, (x, y, w, h) in enumerate(boxes):
        for j, (u, v, s, t) in enumerate(others):
            overlap = max(0, min(x + w, u + s) - max(x, u)) * max(0, min(y + h, v + t) - max(y, v))
            expected[i, j] = overlap / (w * h + s * t - overlap)
    np.testing.assert_allclose(box_iou_xywh(boxes, others), expected)
    assert box_iou_xywh(boxes, others[:0]).shape == (7, 0)


def trackeval_of(truth: MotRows, tracks: MotRows) -> tuple[dict, dict]:
    from trackeval.metrics import CLEAR, Identity

    data = sequence_data(truth, tracks)
    quiet = {"PRINT_CONFIG": False}
    return CLEAR(quiet).eval_sequence(data), Identity(quiet).eval_sequence(data)


def assert_same_as_trackeval(scores, clear: dict, identity: dict) -> None:
    assert scores.mota == pytest.approx(clear["MOTA"])
    assert scores.idf1 == pytest.approx(identity["IDF1"])
    counts = (clear["IDSW"], clear["CLR_FP"], clear["CLR_FN"])
    assert (scores.switches, scores.false_positives, scores.misses) == counts


@pytest.mark.parametrize("seed", range(5))
def test_both_libraries_agree_where_it_is_clear_who_is_who(seed):
    truth, tracks = map(rows_of, scene(seed, 6, 40, 400))
    scores = score_sequences({"a": (truth, tracks)}).combined
    assert min(scores.switches, scores.false_positives, scores.misses) > 3
    assert_same_as_trackeval(scores, *trackeval_of(truth, tracks))


def test_where_the_libraries_are_known_to_differ():
    # Track 1 comes back to A after a frame without, when the nearer track 5 is there: motmetrics carries the pair over
    # the gap, TrackEval does not. The docstring of scores.py says so.
    truth = A[:3] + B[:3]
    tracks = [(1, 1, 10, 10, 20, 40), *B[:3], (3, 1, 10, 20, 20, 40), (3, 5, 10, 10, 20, 40)]
    clear, identity = trackeval_of(rows_of(truth), rows_of(tracks))
    scores = score(truth, tracks)
    assert (scores.switches, clear["IDSW"]) == (0, 1)
    assert scores.idf1 == pytest.approx(identity["IDF1"])


def run_trackeval(folder: Path, lengths: dict[str, int]) -> dict:
    """TrackEval's own MOTChallenge runner over GT/NAME/gt/gt.txt and tracks/data/NAME.txt."""
    import trackeval

    silent = {"PRINT_CONFIG": False, "PRINT_RESULTS": False, "TIME_PROGRESS": False, "OUTPUT_SUMMARY": False}
    silent |= {"OUTPUT_DETAILED": False, "PLOT_CURVES": False, "OUTPUT_EMPTY_CLASSES": False, "LOG_ON_ERROR": None}
    dataset = trackeval.datasets.MotChallenge2DBox(
        {
            "GT_FOLDER": str(folder / "gt"),
            "TRACKERS_FOLDER": str(folder),
            "TRACKERS_TO_EVAL": ["tracks"],
            "BENCHMARK": "MOT15",
            "SEQ_INFO": lengths,
            "SKIP_SPLIT_FOL": True,
            "PRINT_CONFIG": False,
        }
    )
    quiet = {"PRINT_CONFIG": False, "THRESHOLD": 0.5}
    metrics = [trackeval.metrics.HOTA(), trackeval.metrics.CLEAR(quiet), trackeval.metrics.Identity(quiet)]
    results, _ = trackeval.Evaluator(silent).evaluate([dataset], metrics)
    return {name: result["pedestrian"] for name, result in results["MotChallenge2DBox"]["tracks"].items()}


def assert_hota_and_idf1(scores, result: dict) -> None:
    found = [scores.hota, scores.det_a, scores.ass_a, scores.loc_a, scores.idf1]
    hota = [np.mean(result["HOTA"][key]) for key in ("HOTA", "DetA", "AssA", "LocA")]
    np.testing.assert_allclose(found, [*hota, result["Identity"]["IDF1"]], rtol=1e-12)


def test_parity_with_trackevals_own_runner(tmp_path):
    lengths = {"apart": 40, "crowd": 50}
    for name, spacing in (("apart", 400.0), ("crowd", 20.0)):
        truth, tracks = scene(7, 8, lengths[name], spacing)
        truth += [(frame, 99, 3000, 3000, 40, 80, 0) for frame in (3, 4, 5)]  # flagged: not to be scored
        write(tmp_path / "gt" / name / "gt" / "gt.txt", truth)
        write(tmp_path / "tracks" / "data" / f"{name}.txt", tracks)
    theirs = run_trackeval(tmp_path, lengths)
    ours = evaluate(tmp_path / "gt", tmp_path / "tracks" / "data")
    assert list(ours.sequences) == ["apart", "crowd"]
    assert 0.1 < ours.sequences["crowd"].hota < 0.9
    for name, scores in ours.sequences.items():
        assert_hota_and_idf1(scores, theirs[name])
    assert_hota_and_idf1(ours.combined, theirs["COMBINED_SEQ"])
    assert_same_as_trackeval(ours.sequences["apart"], theirs["apart"]["CLEAR"], theirs["apart"]["Identity"])


def test_other_assignment_solvers_are_left_alone():
    def refuses(costs):
        raise AssertionError("the installed default was used")

    with motmetrics.lap.set_default_solver(refuses):  # as `lap`, which ultralytics installs, would be the default
        assert score(A + B, SWITCHED + B).switches == 1
        assert motmetrics.lap.default_solver is refuses


@pytest.mark.filterwarnings("error")
def test_no_warning_reaches_the_user():
    assert score(*scene(1, 4, 20, 60)).frames == 20
    assert score(A, []).misses == 4


def test_reading_keeps_what_is_to_be_scored(tmp_path):
    file = tmp_path / "gt.txt"
    # MOT15's 3D coordinates in columns 8 to 10, a -1 flag, a fractional flag, a flagged row with no size, frames mixed.
    file.write_text(
        "2,7,5,6,7,8,-1,-11773,-14337,0\r\n\r\n1,7,1.5,2,3,4,1.000000,-4.1,-7.3,0\n1,8,1,2,0,0,0,7,1.0\n1,9,1,2,3,4,0.3\n"
    )
    rows = read_mot(file, truth=True)
    assert rows.frames.tolist() == [1, 1, 2]
    assert rows.ids.tolist() == [7, 9, 7]
    np.testing.assert_array_equal(rows.boxes, [[1.5, 2, 3, 4], [1, 2, 3, 4], [5, 6, 7, 8]])
    assert rows.in_frame(1) == slice(0, 2)
    assert len(rows.ids[rows.in_frame(9)]) == 0


def test_tracks_keep_rows_of_confidence_zero(tmp_path):
    (tmp_path / "t.txt").write_text(
        "\ufeff1 0 1 2 3 4 0\n1.0 1.0 1 2 3 4\n", encoding="utf-8"
    )  # blanks and a byte order mark do as well
    assert read_mot(tmp_path / "t.txt").ids.tolist() == [0, 1]
    (tmp_path / "t.txt").write_text("")
    assert read_mot(tmp_path / "t.txt").boxes.shape == (0, 4)


GOOD = "1,1,10,10,20,40,1,-1,-1,-1\n"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("frame,id,left,top,width,height", "line 3: frame must be a number, got 'frame'"),
        ('{"images": []}', "line 3: a row must have at least 6 columns .* got 2"),
        ("2,1,10,10,20", "line 3: a row must have at least 6 columns"),
        ("2,1,nan,10,20,40,1", "line 3: left must be finite, got nan"),
        ("2,1,10,10,inf,40,1", "line 3: width must be finite, got inf"),
        ("2,1,10,10,20,40,x", "line 3: flag must be a number, got 'x'"),
        ("2,1,10,10,20,0,1", "line 3: width and height must be above 0, got 20 and 0"),
        ("2,1,10,10,-20,40,1", "line 3: width and height must be above 0, got -20 and 40"),
        ("0,1,10,10,20,40,1", "line 3: frames must count from 1, got 0"),
        ("1.5,1,10,10,20,40,1", "line 3: frame must be a whole number, got '1.5'"),
        ("2,-1,10,10,20,40,1", "line 3: id must be 0 or more, got -1 .*detections"),
        ("2,99999999999999999999,10,10,20,40,1", "line 3: id must fit into 64 bits"),
        ("1,1,90,90,20,40,1", "line 3: id 1 occurs twice in frame 1 .first on line 1."),
    ],
)
@pytest.mark.parametrize("broken", ["gt", "tracks"])
def test_a_broken_line_is_named(tmp_path, line, message, broken):
    for name in ("gt", "tracks"):
        (tmp_path / f"{name}.txt").write_text(GOOD + "\n" + (line + "\n" if name == broken else ""))
    with pytest.raises(InputError, match=rf"{broken}\.txt, {message}"):
        evaluate(tmp_path / "gt.txt", tmp_path / "tracks.txt")


def test_files_that_cannot_be_scored(tmp_path):
    gt, tracks = write(tmp_path / "gt.txt", A), write(tmp_path / "t.txt", A)
    empty, flagged = tmp_path / "empty.txt", write(tmp_path / "flagged.txt", [(*row, 0) for row in A])
    empty.write_text("")
    binary = tmp_path / "binary.txt"
    binary.write_bytes(b"\xff\xd8\xff\xe0")
    later = write(tmp_path / "later.txt", [(frame, 1, 1, 1, 9, 9) for frame in (11, 12)])
    even = write(tmp_path / "even.txt", [(frame, 1, 1, 1, 9, 9) for frame in (2, 4)])
    for call, message in [
        ((tmp_path / "none.txt", tracks), "GT must be .* no .*none.txt"),
        ((gt, tmp_path / "none.txt"), "TRACKS must be .* no .*none.txt"),
        ((tmp_path, tracks), "folder with gt/gt.txt or NAME/gt/gt.txt in it"),
        ((empty, tracks), "in .*empty.txt the file has no rows"),
        ((flagged, tracks), "all 4 of its rows are flagged 0"),
        ((gt, binary), "binary.txt must be a MOT text file"),
        ((gt, later), r"frames of TRACKS run 11..12, of GT 1..4"),
        ((gt, even, 2), r"share a frame of frames 1, 3, 5, ... .--stride 2.: frames of TRACKS run 2..4, of GT 1..4"),
        ((even, gt, 2), r"GT must have a row on frames 1, 3, 5, .* has 2..4"),
        ((gt, tracks, 0), "--stride must be a whole number of at least 1, got 0"),
        ((gt, tracks, 1, 0.0), "--iou must be above 0 and at most 1, got 0"),
        ((gt, tracks, 1, float("nan")), "--iou must be above 0 and at most 1, got nan"),
    ]:
        if call[0] == tmp_path:  # gt.txt would make the folder itself a truth
            call = (write(tmp_path / "folder" / "x.txt", A).parent, *call[1:])
        with pytest.raises(InputError, match=message):
            evaluate(*call)
    assert evaluate(gt, empty).combined.mota == 0


def test_layouts_of_folders(tmp_path):
    one = write(tmp_path / "all" / "One" / "gt" / "gt.txt", A)
    two = write(tmp_path / "all" / "Two" / "gt" / "gt.txt", B)
    (tmp_path / "all" / "seqmaps").mkdir()
    run = write(tmp_path / "run" / "tracks.txt", A)
    for gt in (one, one.parent, one.parent.parent):
        for tracks in (run, run.parent):
            assert [(p.name, p.gt, p.tracks) for p in find_pairs(gt, tracks)] == [("One", one, run)]

    flat = [write(tmp_path / "flat" / f"{name}.txt", A) for name in ("One", "Two", "Three")]
    deep = [write(tmp_path / "deep" / name / "tracks.txt", A) for name in ("One", "Two")]
    write(tmp_path / "deep" / "One" / "log.txt", A)  # tracks.txt goes before
    odd = [write(tmp_path / "odd" / name / file, A) for name, file in (("One", "One.txt"), ("Two", "result.txt"))]
    for files, folder in ((flat, "flat"), (deep, "deep"), (odd, "odd")):
        pairs = find_pairs(tmp_path / "all", tmp_path / folder)
        assert [(p.name, p.gt, p.tracks) for p in pairs] == [("One", one, files[0]), ("Two", two, files[1])]


def test_sequences_without_tracks_are_named(tmp_path):
    for name in ("One", "Two", "Three"):
        write(tmp_path / "all" / name / "gt" / "gt.txt", A)
    write(tmp_path / "runs" / "One.txt", A)
    with pytest.raises(InputError, match=r"nothing for 2 of GT's 3 sequences: Three, Two "):
        find_pairs(tmp_path / "all", tmp_path / "runs")
    with pytest.raises(InputError, match=r"TRACKS must be a folder, as GT has 3 sequences"):
        find_pairs(tmp_path / "all", tmp_path / "runs" / "One.txt")
    for name in ("Two", "Three"):
        write(tmp_path / "runs" / name / "a.txt", A)
        write(tmp_path / "runs" / name / "b.txt", A)
    with pytest.raises(InputError, match=r"one text file for Three, but .* has a.txt, b.txt"):
        find_pairs(tmp_path / "all", tmp_path / "runs")
    # The truth is never taken for tracks that are missing.
    with pytest.raises(InputError, match=r"nothing for 3 of GT's 3 sequences"):
        find_pairs(tmp_path / "all", tmp_path / "all")


def test_table(tmp_path):
    evaluation = score_sequences({"a": (rows_of(A), rows_of(A)), "longer": (rows_of(B), rows_of([]))}, stride=1)
    lines = format_table(evaluation).splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["sequence", "a", "longer", "COMBINED"]
    assert len({len(line) for line in lines[:4]}) == 1
    columns = [dict(zip(lines[0].split(), line.split(), strict=True)) for line in lines[1:4]]
    assert (columns[0]["MOTA"], columns[1]["HOTA"], columns[2]["IDF1"]) == ("1.000", "0.000", "0.667")
    assert (columns[2]["FN"], columns[2]["GT_ids"], columns[2]["ids"], columns[2]["frames"]) == ("4", "2", "1", "8")
    single = format_table(score_sequences({"a": (rows_of(A), rows_of(A))}, stride=10))
    assert "COMBINED" not in single
    assert "frames 1, 11, 21, ..." in single


def test_nothing_in_memory_to_score():
    with pytest.raises(ValueError, match="at least one"):
        score_sequences({})
    with pytest.raises(ValueError, match="truth in it"):
        score_sequences({"a": (rows_of([]), rows_of(A))})


@pytest.mark.slow
def test_the_package_is_imported_without_the_libraries():
    heavy = "{'pandas', 'motmetrics', 'trackeval', 'torch', 'matplotlib'}"
    code = f"import sys, masa_track.evaluation; print(sorted({heavy} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "idf1", "mota", "hota", "switches"),
    [("TUD-Campus", 0.8719, 0.9972, 0.9182, 1), ("PETS09-S2L1", 0.8695, 0.9978, 0.9140, 10)],
)
def test_the_official_masa_r50(shared, tmp_path, name, idf1, mota, hota, switches):
    gt, tracks = shared / "clips" / "mot15" / name, shared / "results" / "masa_r50_mot15" / f"{name}_masa.txt"
    scores = evaluate(gt, tracks).combined
    assert scores.idf1 == pytest.approx(idf1, abs=1e-4)  # .87 in docs/method.md, from another script
    assert scores.mota == pytest.approx(mota, abs=1e-4)
    assert scores.hota == pytest.approx(hota, abs=1e-4)
    assert scores.switches == switches
    for source, copy in ((gt / "gt" / "gt.txt", f"gt/{name}/gt/gt.txt"), (tracks, f"tracks/data/{name}.txt")):
        (tmp_path / copy).parent.mkdir(parents=True)
        (tmp_path / copy).write_bytes(source.read_bytes())
    theirs = run_trackeval(tmp_path, {name: scores.frames})[name]
    assert_hota_and_idf1(scores, theirs)
    assert_same_as_trackeval(scores, theirs["CLEAR"], theirs["Identity"])


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "boxes", "ids", "flagged"),
    [("TUD-Campus", 359, 8, 0), ("PETS09-S3-MF1", 620, 7, 0), ("PETS09-S2L1", 4476, 19, 174)],
)
def test_truth_against_itself(shared, name, boxes, ids, flagged):
    gt = shared / "clips" / "mot15" / name
    scores = evaluate(gt, gt / "gt" / "gt.txt").combined
    assert (scores.truth_boxes, scores.truth_ids) == (boxes, ids)
    # Rows flagged 0 are no truth; as tracks they are boxes like any other.
    assert (scores.false_positives, scores.misses, scores.switches) == (flagged, 0, 0)
    if not flagged:
        perfect = (scores.hota, scores.det_a, scores.ass_a, scores.loc_a, scores.mota, scores.idf1)
        assert perfect == pytest.approx((1,) * 6)
