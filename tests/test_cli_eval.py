"""`masa-track eval`: its help, its table, its JSON, and its one-line errors."""

import argparse
import json
import os
from pathlib import Path

import pytest

from masa_track.cli import eval as command
from masa_track.errors import InputError
from masa_track.evaluation import evaluate
from masa_track.evaluation.metrics import measure

TRUTH = "".join(f"{frame},{person},{person * 100},10,20,40,1\n" for frame in (1, 2, 3, 4) for person in (1, 2))
SWITCHED = TRUTH.replace("3,1,", "3,9,").replace("4,1,", "4,9,")


def parse(*argv: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="masa-track")
    command.add_parser(parser.add_subparsers(dest="command"))
    return parser.parse_args(["eval", *map(str, argv)])


def eval_(*argv: object) -> int:
    args = parse(*argv)
    return args.run(args)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    gt, tracks = tmp_path / "Street" / "gt" / "gt.txt", tmp_path / "run" / "tracks.txt"
    for file, text in ((gt, TRUTH), (tracks, SWITCHED)):
        file.parent.mkdir(parents=True)
        file.write_text(text)
    return gt.parent.parent, tracks.parent


def test_table_on_stdout(files, capsys):
    assert eval_(*files) == 0
    out, err = capsys.readouterr()
    head, row = (line.split() for line in out.splitlines()[:2])
    found = dict(zip(head, row, strict=True))
    assert found["sequence"] == "Street"
    assert (found["MOTA"], found["IDF1"], found["IDSW"], found["AssA"]) == ("0.875", "0.750", "1", "0.750")
    assert err == ""


def test_options_reach_the_scores(files, capsys):
    eval_(*files, "--stride", 2, "--iou", 0.7)
    out = capsys.readouterr().out
    assert out.splitlines()[1].split()[-1] == "2"
    assert "frames 1, 3, 5, ...; MOTA, IDF1 and counts at IoU 0.7" in out


def test_json_is_what_the_api_gives(files, tmp_path, capsys):
    target = tmp_path / "scores.json"
    target.write_text("an earlier run's")
    assert eval_(*files, "--json", target) == 0
    found = json.loads(target.read_text())
    assert found == evaluate(*files).as_dict()
    assert found["sequences"]["Street"] == found["combined"]
    assert found["combined"]["switches"] == 1
    assert type(found["combined"]["switches"]) is int
    assert found["combined"]["hota"] == pytest.approx(0.75**0.5)
    assert (found["stride"], found["iou"]) == (1, 0.5)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["Street", "run", "scores.json"]  # no part left behind


def test_json_of_several_sequences(files, tmp_path, capsys):
    gt, _ = files
    (tmp_path / "Square" / "gt").mkdir(parents=True)
    (tmp_path / "Square" / "gt" / "gt.txt").write_text(TRUTH)
    runs = tmp_path / "runs"
    runs.mkdir()
    (runs / "Street.txt").write_text(SWITCHED)
    (runs / "Square.txt").write_text("")
    eval_(gt.parent, runs, "--json", tmp_path / "s.json")
    found = json.loads((tmp_path / "s.json").read_text())
    assert list(found["sequences"]) == ["Square", "Street"]
    assert found["combined"]["mota"] == pytest.approx(1 - (8 + 1) / 16)
    assert capsys.readouterr().out.splitlines()[3].startswith("COMBINED")


def test_a_json_that_cannot_be_written_is_refused_before_any_work(files, tmp_path, monkeypatch):
    monkeypatch.setattr("masa_track.evaluation.metrics.measure", lambda *a, **k: pytest.fail("worked first"))
    gt, run = files
    tracks = run / "tracks.txt"
    for target, message in [
        (tmp_path / "none" / "s.json", "in a folder that is there, but there is no .*none"),
        (tmp_path, "must name a file, got .*, a folder"),
        (tracks, "would overwrite TRACKS"),
        (gt / "gt" / "gt.txt", "would overwrite GT"),
    ]:
        with pytest.raises(InputError, match=f"^--json {message}|^--json must be {message}"):
            eval_(gt, run, "--json", target)
    assert tracks.read_text() == SWITCHED


def test_a_json_folder_that_cannot_be_written(files, monkeypatch):
    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.NamedTemporaryFile", refuse)  # root, who runs CI, may write anywhere
    with pytest.raises(InputError, match=r"in a folder that can be written, got .*: Permission denied"):
        eval_(*files, "--json", files[0] / "s.json")


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="needs /proc")
def test_a_json_on_proc(files):
    with pytest.raises(InputError, match="in a folder that can be written"):
        eval_(*files, "--json", "/proc/s.json")


def test_bad_input_is_an_input_error(files):
    gt, run = files
    (run / "tracks.txt").write_text(TRUTH + "1,1,5,5,5,5\n")
    with pytest.raises(InputError, match=r"tracks.txt, line 9: id 1 occurs twice in frame 1 .first on line 1."):
        eval_(gt, run)
    with pytest.raises(InputError, match="--stride"):
        eval_(gt, run, "--stride", 0)


@pytest.mark.parametrize("argv", [["--stride", "x"], ["--iou", "x"], ["--unknown"]])
def test_bad_options_exit_with_2(files, argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        eval_(*files, *argv)
    assert "usage: masa-track" in capsys.readouterr().err


def test_help_teaches(capsys):
    with pytest.raises(SystemExit, match="0"):
        parse("--help")
    out = capsys.readouterr().out
    assert "masa-track eval TUD-Campus runs/campus" in out
    assert "frame,id,left,top,width,height" in out
    assert "flag" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.shared_data
def test_on_real_video(shared, capsys):
    results = shared / "results" / "masa_r50_mot15"
    eval_(shared / "clips" / "mot15" / "TUD-Campus" / "gt" / "gt.txt", results / "TUD-Campus_masa.txt", "--stride", 10)
    head, row = (line.split() for line in capsys.readouterr().out.splitlines()[:2])
    found = dict(zip(head, row, strict=True))
    assert (found["sequence"], found["IDF1"], found["frames"]) == ("TUD-Campus", "0.875", "8")


def test_tracks_that_end_early_are_reported(tmp_path, capsys):
    """As after `track --max-frames 20`; and GT in a folder of any name is called as its video."""
    rows = [f"{frame},1,10,10,20,30,1,-1,-1,-1" for frame in range(1, 41)]
    gt, run = tmp_path / "new" / "gt.txt", tmp_path / "run"
    gt.parent.mkdir()
    run.mkdir()
    (run / "tracks.json").write_text('{"info":{},\n"videos":[{"id":1,"name":"street","width":1}],\n"images":[]}')
    gt.write_text("\n".join(rows))
    for done, told in ((40, False), (37, False), (20, True)):
        (run / "tracks.txt").write_text("\n".join(rows[:done]))
        assert eval_(gt, run) == 0
        said = capsys.readouterr()
        assert "street" in said.out
        assert ("note: tracks of street end at frame 20 of 40" in said.err) == told


def many(tmp_path: Path) -> tuple[Path, Path]:
    """TrackEval's folders: three sequences and a tracker, perfect but for one switch in the second sequence."""
    for name, text in (("A-1", TRUTH), ("A-2", SWITCHED), ("A-3", TRUTH)):
        for file, rows in (
            (tmp_path / "gt" / "set" / name / "gt" / "gt.txt", TRUTH),
            (tmp_path / "trackers" / "set" / "mine" / "data" / f"{name}.txt", text),
        ):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(rows)
    return tmp_path / "gt" / "set", tmp_path / "trackers" / "set" / "mine"


def test_the_folders_of_trackeval(tmp_path, capsys):
    assert eval_(*many(tmp_path)) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines()[:5]]
    assert [row[0] for row in rows] == ["sequence", "A-1", "A-2", "A-3", "COMBINED"]
    assert [row[rows[0].index("IDSW")] for row in rows[1:]] == ["0", "1", "0", "1"]


def test_some_sequences(tmp_path, capsys):
    gt, tracks = many(tmp_path)
    (tracks / "data" / "A-3.txt").unlink()
    with pytest.raises(InputError, match="nothing for 1 of GT's 3 sequences: A-3"):
        eval_(gt, tracks)
    seqmap = tmp_path / "seqmap.txt"
    seqmap.write_text("name\nA-2\nA-1\n")
    kitti = tmp_path / "kitti.txt"
    kitti.write_text("A-1 empty 000000 000154\nA-2 empty 000000 000154\n")
    for given in ("A-1,A-2", " A-2, A-1", seqmap, kitti):
        assert eval_(gt, tracks, "--sequences", given, "--json", tmp_path / "s.json") == 0
        assert [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:4]] == ["A-1", "A-2", "COMBINED"]
    for given, message in (
        ("A-1,B", "GT does not have B; it has A-1, A-2, A-3"),
        ("A-1,A-1", "has 'A-1' twice"),
        ("A-1,,A-2", "must be names with commas between"),
    ):
        with pytest.raises(InputError, match=message):
            eval_(gt, tracks, "--sequences", given)


def test_some_videos_of_json(tmp_path):
    images = [
        {"id": 10 * v + f, "video_id": v, "frame_id": f, "file_name": f"{v}/{f}.jpg"} for v in (1, 2) for f in (0, 1)
    ]
    rows = [{"id": i["id"], "image_id": i["id"], "category_id": 1, "track_id": 1, "bbox": [1, 1, 9, 9]} for i in images]
    videos = [{"id": 1, "name": "left"}, {"id": 2, "name": "right"}]
    content = {"images": images, "annotations": rows, "videos": videos, "categories": [{"id": 1, "name": "car"}]}
    (tmp_path / "gt.json").write_text(json.dumps(content))
    (tmp_path / "t.json").write_text(
        json.dumps({**content, "videos": [{"id": 1, "name": "left"}, {"id": 2, "name": "x"}]})
    )
    found = measure(tmp_path / "gt.json", tmp_path / "t.json", sequences=["left"])
    assert list(found.evaluation.sequences) == ["left"]
    assert found.evaluation.combined.idf1 == 1


def test_each_class_of_text(tmp_path, capsys):
    truth = "".join(f"{f},{i},{100 * i},10,30,40,1,{c},1\n" for f in (1, 2, 3) for i, c in ((1, 1), (2, 3), (3, 3)))
    tracks = truth.replace("3,3,300,10,30,40,1,3", "3,3,300,10,30,40,0,1").replace("1,1,1\n", "0.5,1,1\n")
    (tmp_path / "gt.txt").write_text(truth)
    (tmp_path / "tracks.txt").write_text(tracks)
    assert eval_(tmp_path / "gt.txt", tmp_path / "tracks.txt", "--per-class", "--json", tmp_path / "s.json") == 0
    out = capsys.readouterr().out
    lines = [line.split() for line in out.splitlines() if line.startswith(("class", "MEAN"))]
    assert [line[0] for line in lines] == ["class", "class_1", "class_3", "MEAN"]
    columns = [dict(zip(lines[0], line, strict=True)) for line in lines[1:]]
    assert [(row["FP"], row["FN"]) for row in columns] == [("1", "0"), ("0", "1"), ("1", "1")]
    scores = json.loads((tmp_path / "s.json").read_text())
    assert scores["combined"]["idf1"] == 1, "without classes all is right"
    assert scores["classes"]["class 3"]["combined"]["misses"] == 1
    (tmp_path / "tracks.txt").write_text(tracks.replace(",3,1\n", ",-1,-1\n"))
    with pytest.raises(InputError, match="TRACKS must have a class in column 8 of each row"):
        eval_(tmp_path / "gt.txt", tmp_path / "tracks.txt", "--per-class")
    with pytest.raises(InputError, match="--per-class takes all classes, but --rules mot17 scores one"):
        eval_(tmp_path / "gt.txt", tmp_path / "tracks.txt", "--per-class", "--rules", "mot17")
