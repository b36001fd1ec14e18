"""tools/test_mot.py for real, on clips: figures of masa-track track and masa-track eval; interrupted and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from mot_clips import CONFIG, ROOT, clip, options, run_tool

from masa_track.cli.main import main as masa_track
from masa_track.evaluation import evaluate

NAMES = ("hota", "det_a", "ass_a", "loc_a", "mota", "idf1")


@pytest.fixture(scope="module")
def short(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three short sequences: two of MOT15, one of MOT17."""
    root = tmp_path_factory.mktemp("short")
    for source, frames in (("mot15/TUD-Campus", 12), ("mot15/PETS09-S3-MF1", 8), ("mot17_mini/MOT17-05-FRCNN", 6)):
        clip(clips / source, root / Path(source).name, frames)
    return root


@pytest.fixture(scope="module")
def one_process(short: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("one")
    assert run_tool(CONFIG, "--work-dir", work, "--out", work / "out.json", *options(short)) == 0
    assert "COMBINED" in (work / "tracks" / "scores.txt").read_text()
    return work


@pytest.mark.shared_data
@pytest.mark.slow
def test_figures_are_those_of_the_command_line(short: Path, one_process: Path, tmp_path: Path) -> None:
    for sequence in sorted(short.iterdir()):
        detections, out = sequence / "det" / "det.txt", tmp_path / sequence.name
        arguments = ["track", sequence, "--detections", detections, "--out", out, "--no-video", "--device", "cpu"]
        assert masa_track([str(argument) for argument in arguments]) == 0
        ours = (tmp_path / sequence.name / "tracks.txt").read_text()
        assert (one_process / "tracks" / f"{sequence.name}.txt").read_text() == ours
        assert ours.count("\n") > 5
    expected = evaluate(short, tmp_path).combined
    scores = json.loads((one_process / "tracks" / "scores.json").read_text())
    assert {name: scores[name] for name in NAMES} == {name: getattr(expected, name) for name in NAMES}
    assert scores["switches"] == expected.switches


@pytest.mark.shared_data
@pytest.mark.slow
def test_all_tracks_as_tao_results(short: Path, one_process: Path) -> None:
    rows = json.loads((one_process / "out.json").read_text())
    texts = {path.stem: path.read_text().splitlines() for path in (one_process / "tracks").glob("*-*.txt")}
    assert len(rows) == sum(len(text) for text in texts.values())
    identities: dict[int, set[int]] = {}
    for row in rows:
        identities.setdefault(row["video_id"], set()).add(row["track_id"])
    assert sum(len(ids) for ids in identities.values()) == len(set.union(*identities.values()))  # in no two videos
    assert len(identities) == len(texts) == 3


@pytest.mark.shared_data
@pytest.mark.slow
def test_true_boxes_and_resuming(short: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Interrupted in the second video, as a full disk or a power cut would; then the same command."""
    truth, work = "{video}".join((f"{short}/", "/gt/gt.txt")), tmp_path / "work"
    image = short / "PETS09-S3-MF1" / "img1" / "000008.jpg"
    image = image if image.exists() else sorted(image.parent.iterdir())[-1]
    kept = image.read_bytes()
    order = [path.name for path in sorted(short.iterdir())]
    assert order.index("PETS09-S3-MF1") == 1
    try:
        image.write_bytes(b"")
        with pytest.raises(Exception, match=r"PETS09-S3-MF1|imdecode|empty|NoneType"):
            run_tool(CONFIG, "--work-dir", work, *options(short, truth))
    finally:
        image.write_bytes(kept)
    parts = work / "tracks" / "parts"
    assert [path.stem for path in parts.iterdir()] == order[:1]
    before = (parts / f"{order[0]}.json").stat().st_mtime_ns
    assert run_tool(CONFIG, "--work-dir", work, "--show-dir", tmp_path / "drawn", *options(short, truth)) == 0
    assert (parts / f"{order[0]}.json").stat().st_mtime_ns == before
    scores = json.loads((work / "tracks" / "scores.json").read_text())
    assert scores["mota"] > 0.9  # true boxes: only identities can be wrong
    drawn = sorted(path.relative_to(tmp_path / "drawn").as_posix() for path in (tmp_path / "drawn").rglob("*.*"))
    assert len(drawn) == sum(len(list((short / name / "img1").iterdir())) for name in order[1:])

    assert run_tool(CONFIG, "--work-dir", work, *options(short)) == 2  # other boxes
    assert "results of another run (it differs in model)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "no such configuration: nowhere.py"),
        ([CONFIG, "nowhere.pth"], "no such checkpoint: nowhere.pth"),
        ([CONFIG, "--cfg-options", "modle.network=nano"], "did you mean 'model'?"),
        ([CONFIG, "--cfg-options", "model.netwrok=nano"], "did you mean 'network'?"),
        ([ROOT / "configs" / "nano.py"], "no configuration of a test"),
        ([ROOT / "configs" / "mmdet" / "mot_r50_own.py"], "CHECKPOINT is needed"),
    ],
)
def test_mistakes_are_named(
    arguments: list[Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_tool(*arguments, "--work-dir", tmp_path) == 2
    assert message in capsys.readouterr().err
