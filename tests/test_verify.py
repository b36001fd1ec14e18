"""`masa-track verify`: the same weights pass, other weights fail, and what is missing is said before any work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from official_recipe import official_state_dict
from safetensors.torch import save_file
from sam2_networks import goldens, official_weights
from tiny_grounding import TinyMasa

from masa_track import MasaTracker, load, registry
from masa_track.cli.main import main
from masa_track.contracts import Frame, Prompt
from masa_track.errors import InputError
from masa_track.evaluation import evaluate
from masa_track.evaluation.jf import boundary_accuracy, region_similarity
from masa_track.evaluation.proofs import COMBINED, PROOFS, Expected, Proof, compare, read_expected
from masa_track.formats.davis import write_index_picture
from masa_track.masklets.session import MaskletSession, SessionOptions
from masa_track.masklets.weights import load_network
from masa_track.registry import ModelSpec, register_model, spec_of

NAMES = ("walk", "cross")
TOLERANCE = {"each": {"idf1": 0.01, "hota": 0.01}, "combined": {"idf1": 0.005}}


def sequence(folder: Path, frames: int, seed: int = 0) -> None:
    """Three squares of different textures that change places now and then: position misleads, appearance does not."""
    random = np.random.default_rng(seed)
    textures = [random.integers(0, 255, (24, 24, 3), dtype=np.uint8) // (1 + n) for n in range(3)]
    (folder / "img1").mkdir(parents=True)
    (folder / "gt").mkdir()
    rows = []
    for number in range(1, frames + 1):
        picture = np.full((64, 128, 3), 90, np.uint8)
        places = np.roll(np.arange(3), number // 2)
        for identity, place in enumerate(places.tolist()):
            x = 8 + 40 * place
            picture[20:44, x : x + 24] = textures[identity]
            rows.append(f"{number},{identity + 1},{x + 1},21,24,24,1,-1,-1,-1")
        rows.append(f"{number},9,1,1,5,5,0,-1,-1,-1")  # flagged: neither tracked nor scored
        cv2.imwrite(str(folder / "img1" / f"{number:06d}.png"), picture)
    (folder / "gt" / "gt.txt").write_text("\n".join(rows) + "\n")


def measured(model: object, data: Path, names: tuple[str, ...], out: Path) -> dict[str, dict[str, float]]:
    """The results by the public tracker and the scores of written files, without the code under test."""
    for name in names:
        tracker = MasaTracker(model, "demo")
        table = np.loadtxt(data / name / "gt" / "gt.txt", delimiter=",")
        table = table[table[:, 6] == 1]
        lines = []
        for number in range(1, int(table[:, 0].max()) + 1):
            xywh = table[table[:, 0] == number, 2:6]
            boxes = np.concatenate((xywh[:, :2] - 1, xywh[:, :2] - 1 + xywh[:, 2:]), axis=1)
            found = tracker.update(boxes, cv2.imread(str(data / name / "img1" / f"{number:06d}.png")))
            lines += [
                f"{number},{i},{x},{y},{w},{h},1,-1,-1,-1"
                for i, (x, y, w, h) in zip(found.tracker_id.tolist(), xywh.tolist(), strict=True)
                if i >= 0
            ]
        out.mkdir(exist_ok=True)
        (out / f"{name}.txt").write_text("\n".join(lines) + "\n")
    scores = evaluate(data, out)
    every = {**scores.sequences, COMBINED: scores.combined}
    return {name: {"idf1": one.idf1, "hota": one.hota, "track_ids": one.track_ids} for name, one in every.items()}


def expected_file(path: Path, results: dict[str, dict[str, float]]) -> Path:
    content = {"origin": "a test", "settings": {"preset": "demo"}, "tolerance": TOLERANCE, "results": results}
    path.write_text(json.dumps(content))
    return path


def without_appearance(state: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    """Other weights of the same network: all that begins with ``prefix`` is zero, so all embeddings are the same."""
    return {key: torch.zeros_like(value) if key.startswith(prefix) else value for key, value in state.items()}


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with data, the weights of a small model, other weights, and the expected results of the first."""
    spec = ModelSpec("tiny-verify", builder="tiny_grounding:TinyMasa")
    register_model(spec, replace=True)
    for seed, name in enumerate(NAMES):
        sequence(tmp_path / "data" / name, 8, seed)
    torch.manual_seed(1)
    state = TinyMasa().state_dict()
    save_file(state, tmp_path / "good.safetensors", {"model": "tiny-verify"})
    save_file(without_appearance(state, "backbone"), tmp_path / "other.safetensors", {"model": "tiny-verify"})
    model = load(tmp_path / "good.safetensors", device="cpu")
    results = measured(model, tmp_path / "data", NAMES, tmp_path / "tracks")
    expected = expected_file(tmp_path / "expected.json", results)
    r50 = PROOFS["r50"]
    proof = Proof("tiny", "tiny-verify", "made in the test", expected, r50.check, r50.run, r50.needs)
    monkeypatch.setitem(PROOFS, "tiny", proof)
    return tmp_path


def verify(folder: Path, *options: object, weights: str = "good", name: str = "tiny") -> int:
    checkpoint = folder / f"{weights}.safetensors"
    line = ["verify", name, "--data", folder / "data", "--checkpoint", checkpoint, "--device", "cpu", *options]
    return main([str(part) for part in line])


def test_the_same_weights_pass_and_the_report_says_how(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tiny, "--report", tiny / "report.md") == 0
    text = (tiny / "report.md").read_text()
    assert capsys.readouterr().out == text
    assert text.startswith("# masa-track verify tiny: PASS")
    report = json.loads((tiny / "report.json").read_text())
    assert report["verdict"] == "pass"
    assert report["device"].startswith("cpu")
    assert report["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert len(report["checkpoint"]["sha256"]) == 64
    assert report["checkpoint"]["sha256_is"] == "not known before"
    assert report["seconds"] > 0
    rows = {(row["item"], row["measure"]): row for row in report["comparison"]}
    assert set(rows) == {(item, m) for item in (*NAMES, COMBINED) for m in ("idf1", "hota", "track_ids")}
    assert all(row["difference"] == 0 for row in rows.values())
    assert rows["walk", "track_ids"]["tolerance"] is None
    expected = read_expected(tiny / "expected.json").results
    assert {k: rows["cross", k]["found"] for k in expected["cross"]} == pytest.approx(expected["cross"])


@pytest.mark.slow
def test_other_weights_fail(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their embeddings are all the same, so identities follow places."""
    assert verify(tiny, "--report", tiny / "bad.json", weights="other") == 1
    assert "FAIL: " in capsys.readouterr().out
    report = json.loads((tiny / "bad.json").read_text())
    assert report["verdict"] == "fail"
    wrong = [row for row in report["comparison"] if not row["equal"]]
    assert {row["item"] for row in wrong} == {*NAMES, COMBINED}
    assert not (tiny / "bad.md").exists()
    # The report of one machine is what another one is compared with, checkpoint included.
    assert verify(tiny, "--expected", tiny / "bad.json", weights="other") == 0
    assert "as known" in capsys.readouterr().out
    assert verify(tiny, "--expected", tiny / "bad.json") == 1
    assert "another one" in capsys.readouterr().out


def test_some_sequences(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tiny, "--sequences", "cross") == 0
    said = capsys.readouterr().out
    assert "| cross |" in said
    assert "walk" not in said
    assert COMBINED not in said  # is of all sequences


def test_bad_input(tiny: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(*options: object, **more: str) -> str:
        assert verify(tiny, *options, **more) == 2
        return capsys.readouterr().err

    assert main(["verify", "r50"]) == 2
    assert "verify r50 needs --data DIR: the training sequences of MOT15" in capsys.readouterr().err
    assert main(["verify", "r51"]) == 2
    assert "did you mean 'r50'" in capsys.readouterr().err
    assert "https://motchallenge.net/data/MOT15" in refused(name="r50")
    assert "unknown item in --sequences 'wlk': did you mean 'walk'" in refused("--sequences", "wlk")
    assert "must end in .md or .json" in refused("--report", tiny / "x.html")
    assert "overwrite" in refused("--expected", tiny / "expected.json", "--report", tiny / "expected.json")
    (tiny / "half.json").write_text('{"results": {}}')
    assert "must have the fields" in refused("--expected", tiny / "half.json")
    (tiny / "data" / "walk" / "img1" / "000008.png").unlink()
    assert "has 7 frames, but its truth goes to frame 8" in refused()
    (tiny / "data" / "walk" / "gt" / "gt.txt").unlink()
    assert "has no walk. The data are made in the test" in refused()


def test_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify"]) == 0
    assert capsys.readouterr().out.startswith("r50  model r50 on the training sequences of MOT15")


def test_scores_of_all_sequences_together_need_all_sequences(capsys: pytest.CaptureFixture[str]) -> None:
    """Otherwise nothing would be compared, and that would pass."""
    assert main(["verify", "edgetam", "--data", "DAVIS", "--sequences", "dog,camel"]) == 2
    assert "--sequences must be left out: what is known of edgetam" in capsys.readouterr().err
    assert main(["verify", "edgetam", "--data", "nowhere"]) == 2
    assert "https://davischallenge.org" in capsys.readouterr().err


def test_the_known_results_of_masklets_are_readable() -> None:
    for name, jf, count in (("edgetam", 0.877, 30), ("sam2.1-hiera-tiny", 0.765, 0)):
        known = read_expected(PROOFS[name].expected)
        assert len(known.items) == count
        assert known.results[COMBINED] == {"jf": jf}
        assert "jf" in known.combined_tolerance


def test_tolerances() -> None:
    expected = Expected("a", {}, {"idf1": 0.02}, {"idf1": 0.01}, {"a": {"idf1": 0.9}, COMBINED: {"idf1": 0.9}})
    equal = [row.is_equal for row in compare(expected, {"a": {"idf1": 0.885}, COMBINED: {"idf1": 0.885}}, ["a"])]
    assert equal == [True, False]
    with pytest.raises(InputError, match="does not measure"):
        compare(expected, {"a": {"hota": 1.0}}, ["a"])


@pytest.mark.slow
@pytest.mark.shared_data
def test_the_known_results_are_those_of_the_official_tracks(shared: Path, tmp_path: Path) -> None:
    """Each number of the data file is scored again from the tracks."""
    known = read_expected(PROOFS["r50"].expected)
    assert len(known.items) == 9
    for name in known.items:
        folder = next(p for p in (shared / "clips" / c / name for c in ("mot15", "mot15_gt_only")) if p.is_dir())
        tracks = shared / "results" / "masa_r50_mot15" / f"{name}_masa.txt"
        for text, copy in ((folder / "gt" / "gt.txt", f"gt/{name}/gt/gt.txt"), (tracks, f"tracks/{name}.txt")):
            (tmp_path / copy).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / copy).write_bytes(text.read_bytes())
    scores = evaluate(tmp_path / "gt", tmp_path / "tracks")
    for name, values in known.results.items():
        own = scores.combined if name == COMBINED else scores.sequences[name]
        assert {measure: getattr(own, measure) for measure in values} == pytest.approx(values, abs=6e-5)


@pytest.mark.slow
@pytest.mark.shared_data
def test_another_model_fails(shared: Path) -> None:
    """nano gives other identities on TUD-Campus than the official MASA-R50, and that is seen."""
    from masa_track.evaluation.proof_mot15 import run

    expected = read_expected(PROOFS["r50"].expected)
    found = run(load("nano", device="cpu"), shared / "clips" / "mot15", ["TUD-Campus"], expected.settings)
    assert not all(row.is_equal for row in compare(expected, found, ["TUD-Campus"]))


@pytest.mark.slow
def test_a_checkpoint_in_the_official_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """r50 by `masa-track verify r50` with a .pth of official keys in place of the download; its input is small."""
    small = replace(spec_of("r50").preprocessing, long_side=128, short_side=128)
    monkeypatch.setitem(registry._MODELS, "r50", replace(spec_of("r50"), preprocessing=small))
    parts = ("backbone.", "masa_adapter.", "rpn_head.", "roi_head.", "track_head.")
    state = official_state_dict("r50", parts)
    torch.save({"state_dict": state, "meta": {}}, tmp_path / "good.pth")
    torch.save({"state_dict": without_appearance(state, "track_head.embed_head.fc_embed")}, tmp_path / "other.pth")
    sequence(tmp_path / "data" / "walk", 4)
    results = measured(load(tmp_path / "good.pth", device="cpu"), tmp_path / "data", ("walk",), tmp_path / "tracks")
    expected = expected_file(tmp_path / "expected.json", results)
    line = ["verify", "r50", "--data", str(tmp_path / "data"), "--expected", str(expected), "--device", "cpu"]
    assert main([*line, "--checkpoint", str(tmp_path / "good.pth")]) == 0
    assert main([*line, "--checkpoint", str(tmp_path / "other.pth")]) == 1


def vos_data(root: Path, layout: str) -> None:
    """Two sequences of two textured squares that move, with the masks of all frames."""
    images, masks = {"davis": ("JPEGImages/480p", "Annotations/480p"), "sav": ("JPEGImages_24fps", "Annotations_6fps")}[
        layout
    ]
    random = np.random.default_rng(0)
    for name, step in (("slow", 2), ("fast", 6)):
        for number in range(5):
            picture = np.full((96, 128, 3), 120, np.uint8)
            numbers = np.zeros((96, 128), np.uint8)
            for k in (1, 2):
                x, y = 10 + step * number, 10 + 44 * (k - 1)
                picture[y : y + 30, x : x + 30] = random.integers(0, 255, 3) // 32 * 32
                numbers[y : y + 30, x : x + 30] = k
            (root / images / name).mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(root / images / name / f"{number:05d}.png"), picture)
            for k in (0, 1) if layout == "sav" else (None,):
                folder = root / masks / name / ("" if k is None else f"{k:03d}")
                folder.mkdir(parents=True, exist_ok=True)
                write_index_picture(folder / f"{number:05d}.png", numbers if k is None else (numbers == k + 1) * 1)


def jf_of(checkpoint: Path, root: Path, overlap: bool) -> dict[str, dict[str, float]]:
    """J and F of all sequences by a session of its own, without the code under test."""
    network = load_network("sam2.1-hiera-tiny", checkpoint, "cpu", side=128)
    found: dict[str, list[tuple[float, float]]] = {}
    for name in ("slow", "fast"):
        session = MaskletSession(network, SessionOptions(overlap=overlap))
        frames = [cv2.imread(str(p)) for p in sorted(root.glob(f"JPEG*/**/{name}/*.png"))]
        x = 10 + {"slow": 2, "fast": 6}[name] * np.arange(5)
        scores: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
        for number, image in enumerate(frames):
            truth = {}
            for k in scores:
                truth[k] = np.zeros((96, 128), bool)
                truth[k][10 + 44 * (k - 1) : 40 + 44 * (k - 1), x[number] : x[number] + 30] = True
            shown = session.propose(Frame(number + 1, 0.0, (128, 96), image=image))
            for k in scores if number == 0 else ():
                session.prompt(k, Prompt(mask=truth[k]))
            session.commit()
            if 0 < number < 4:
                for k, mask in zip(shown.ids.tolist(), shown.masks, strict=True):
                    mask = np.asarray(mask)
                    scores[k].append((region_similarity(mask, truth[k]), boundary_accuracy(mask, truth[k])))
        found[name] = [tuple(np.mean(values, axis=0)) for values in scores.values()]
    every = {**found, COMBINED: [pair for pairs in found.values() for pair in pairs]}
    return {name: {"jf": float(np.mean(pairs))} for name, pairs in every.items()}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["davis", "sav"])
def test_masklets_of_an_official_checkpoint(layout: str, tmp_path: Path) -> None:
    """SAM 2.1 tiny by a .pt of official keys with random weights, on a small side; objects are visible."""
    info = goldens("sam2.1_hiera_tiny_512")[1]
    state = official_weights(info)
    state["sam_mask_decoder.pred_obj_score_head.layers.2.bias"] += 100
    torch.save({"model": state}, tmp_path / "good.pt")
    torch.manual_seed(1)
    other = {
        k: torch.randn_like(v) * v.std() if "sam_mask_decoder" in k and v.ndim > 1 else v for k, v in state.items()
    }
    torch.save({"model": other}, tmp_path / "other.pt")
    vos_data(tmp_path / "data", layout)
    results = jf_of(tmp_path / "good.pt", tmp_path / "data", layout == "sav")
    assert results[COMBINED]["jf"] > 0.02
    tolerance = {"each": {"jf": 0.002}, "combined": {"jf": 0.002}}
    settings = {"layout": layout, "overlap": layout == "sav", "side": 128}
    together = {COMBINED: results[COMBINED]}
    line = ["verify", "sam2.1-hiera-tiny", "--data", str(tmp_path / "data"), "--device", "cpu", "--expected"]
    for name, known in (("each", results), ("together", together)):
        content = {"origin": "a test", "settings": settings, "tolerance": tolerance, "results": known}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    report = tmp_path / "report.json"
    good, bad = ["--checkpoint", str(tmp_path / "good.pt")], ["--checkpoint", str(tmp_path / "other.pt")]
    assert main([*line, str(tmp_path / "each.json"), *good, "--report", str(report)]) == 0
    if layout == "sav":  # the rest is the same
        return
    assert main([*line, str(tmp_path / "together.json"), *good]) == 0
    assert main([*line, str(tmp_path / "together.json"), *bad]) == 1
    assert main([*line, str(report), *good]) == 0
    content["settings"] = {**settings, "sequences": 3}
    (tmp_path / "few.json").write_text(json.dumps(content))
    assert main([*line, str(tmp_path / "few.json"), *good]) == 2
