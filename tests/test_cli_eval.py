"""`masa-track eval`: its help, its table, its JSON, and its one-line errors."""

import argparse
import json
import os
from pathlib import Path

import pytest

from masa_track.cli import eval as command
from masa_track.errors import InputError
from masa_track.evaluation import evaluate

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
    with pytest.raises(InputError, match=r"tracks.txt, line 9: id 1 is twice in frame 1 .first on line 1."):
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
