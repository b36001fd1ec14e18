"""Public detections: npz as read by `track`, and the authors' pickles turned into it without running them."""

from __future__ import annotations

import io
import json
import os
import pickle
import pickletools
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from masa_track.errors import InputError
from masa_track.formats.detections import read_detections
from masa_track.formats.joining import Numbering
from masa_track.formats.npz import read_npz, write_npz
from masa_track.formats.safe_pickle import read_pickle
from masa_track.masks import decode_mask

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "convert_public_detections.py"
ENTRY = {
    "det_bboxes": np.array([[1, 2, 30, 40, 0.5], [5.5, 6, 50, 60, 0.25]], np.float32),
    "det_labels": np.array([3, 1]),
}


def video(**facts):
    known = {"name": "clip", "width": 640, "height": 480, "length": None, "last_number": None, "file_names": ()}
    return SimpleNamespace(**{**known, **facts})


def pickled(path: Path, content: object, protocol: int = 4, core: str = "numpy._core") -> Path:
    """A pickle as numpy 2 (``numpy._core``) or numpy 1 (``numpy.core``) writes it: they differ in the module's name."""
    data = pickle.dumps(content, protocol)
    if core != "numpy._core":
        data = renamed(data, core)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def renamed(data: bytes, core: str) -> bytes:
    """The same pickle, with a module's name written anew where it is an operand (its length stands before it)."""
    out, begin = io.BytesIO(), 0
    for op, argument, place in pickletools.genops(data):
        assert place is not None
        if op.name in ("GLOBAL", "SHORT_BINUNICODE", "BINUNICODE") and "numpy._core" in str(argument):
            new = str(argument).replace("numpy._core", core).encode()
            out.write(data[begin:place])
            if op.name == "GLOBAL":
                out.write(b"c" + new.replace(b" ", b"\n") + b"\n")
                begin = place + 1 + len(str(argument)) + 1
            elif op.name == "SHORT_BINUNICODE":
                out.write(b"\x8c" + bytes([len(new)]) + new)
                begin = place + 2 + len(str(argument))
            else:
                out.write(b"X" + len(new).to_bytes(4, "little") + new)
                begin = place + 5 + len(str(argument))
    out.write(data[begin:])
    done = out.getvalue()
    if data[2:3] == b"\x95":  # a frame, whose length has changed
        done = done[:3] + (len(done) - 11).to_bytes(8, "little") + done[11:]
    return done


def same(found: object, wanted: object) -> bool:
    if isinstance(wanted, np.ndarray):
        alike = isinstance(found, np.ndarray) and (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
        return alike and np.array_equal(found, wanted)
    if isinstance(wanted, dict):
        return (
            isinstance(found, dict) and found.keys() == wanted.keys() and all(same(found[k], wanted[k]) for k in wanted)
        )
    if isinstance(wanted, list | tuple):
        return type(found) is type(wanted) and all(same(a, b) for a, b in zip(found, wanted, strict=True))
    return type(found) is type(wanted) and found == wanted


@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
@pytest.mark.parametrize("protocol", range(6))
def test_pickles_of_arrays_are_read_whatever_wrote_them(tmp_path, protocol, core):
    content = {
        **ENTRY,
        "fortran": np.asfortranarray(np.arange(12, dtype=">i4").reshape(3, 4)),
        "flags": np.array([True, False]),
        "names": np.array(["a", "bcd"]),
        "empty": np.zeros((0, 5), np.float64),
        "scalar": np.float32(0.25),
        "whole": np.int64(7),
        "plain": [1, 2.5, None, True, "text", b"bytes", (1, (2,)), {"a": []}],
        "none": b"",
    }
    assert same(read_pickle(pickled(tmp_path / "a.pkl", content, protocol, core)), content)
    if core == "numpy.core":
        assert b"numpy._core" not in (tmp_path / "a.pkl").read_bytes()


def test_a_pickle_of_python_2(tmp_path):
    # As Python 2.7 with numpy 1 wrote np.array([1., 2.]) by protocol 0: text where bytes are today.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\np0\n(cnumpy\nndarray\np1\n(I0\ntp2\nS'b'\np3\ntp4\nRp5\n(I1\n(I2\ntp6\n"
        b"cnumpy\ndtype\np7\n(S'f8'\np8\nI0\nI1\ntp9\nRp10\n(I3\nS'<'\np11\nNNNI-1\nI-1\nI0\ntp12\nbI00\n"
        b"S'\\x00\\x00\\x00\\x00\\x00\\x00\\xf0?\\x00\\x00\\x00\\x00\\x00\\x00\\x00@'\np13\ntp14\nb."
    )
    (tmp_path / "old.pkl").write_bytes(array)
    assert read_pickle(tmp_path / "old.pkl").tolist() == [1, 2]


class Runs:
    """A pickle that would call something."""

    def __init__(self, call, *args):
        self.call = (call, args)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    ("call", "name"),
    [
        (os.system, r"\w+\.system"),
        (eval, r"\w+\.eval"),
        (getattr, r"\w+\.getattr"),
        (subprocess.Popen, r"(subprocess|commands)\.Popen"),
        (np.load, r"numpy\.load"),
        (np.fromfile, r"numpy.*fromfile"),
        (bytearray, r"\w+\.bytearray"),
    ],
)
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol, call, name):
    trace = tmp_path / "trace"
    argument = f"touch {trace}" if call in (os.system, subprocess.Popen) else f"open({str(trace)!r}, 'w')"
    evil = pickled(tmp_path / "evil.pth", {**ENTRY, "det_masks": Runs(call, argument)}, protocol)
    with pytest.raises(InputError, match=rf"evil.pth is refused: it names {name}, and only numpy .*nothing was run"):
        read_pickle(evil)
    assert not trace.exists()
    if call is os.system:  # the pickle is a real one
        pickle.loads(evil.read_bytes())
        assert trace.exists()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (pickle.dumps(np.array([{}, None], object)), r"an array of 'O8'"),
        (pickle.dumps(np.zeros(2, [("a", "f4")])), "an array of 'V4'|an array of records"),
        (pickle.dumps(np.datetime64("2020-01-01")), "an array of 'M8"),
        (pickle.dumps(1j), "names builtins.complex"),
        (pickle.dumps(np.ma.masked_array([1.0])), "names numpy.ma"),
        (pickle.dumps(ENTRY)[:-20], "no whole pickle"),
        (b"", "no whole pickle"),
        (b"PK\x03\x04torch", "is a zip archive"),
        (b"1,-1,3,4,5,6,.5\n", "no whole pickle"),
        (b"\x80\x04\x8c\x05thingQ.", "names an object outside the file"),
        # An array of 2**40 numbers in 8 bytes.
        (pickle.dumps(np.zeros(1)).replace(b"K\x01\x85\x94h", b"\x8a\x06\0\0\0\0\0\x01\x85\x94h"), "have the bytes"),
        # Puts something into numpy's reconstruction itself.
        (b"cnumpy._core.multiarray\n_reconstruct\n}(S'a'\nI1\nub.", "it alters what it names"),
        (b"cnumpy\nndarray\n((I2\nttR.", "makes an array by another way"),
        (b"c_codecs\nencode\n(S'x'\nS'zip'\ntR.", "encodes text as 'zip'"),
        (b"cnumpy\nndarray\n.", "it holds a _Call"),
        (b"(lp0\ng0\na.", "RecursionError"),
    ],
)
def test_whatever_else_a_pickle_holds_is_refused(tmp_path, data, message):
    (tmp_path / "x.pkl").write_bytes(data)
    with pytest.raises(InputError, match=f"x.pkl.*{message}"):
        read_pickle(tmp_path / "x.pkl")


def test_missing_pickle(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*none.pkl: No such file"):
        read_pickle(tmp_path / "none.pkl")


def run_tool(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(TOOL), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_tool_turns_a_tree_of_pickles_into_a_file_a_video(tmp_path):
    source, out = tmp_path / "dets", tmp_path / "npz"
    nothing = {"det_bboxes": np.zeros((0, 5)), "det_labels": np.zeros(0, np.int64)}
    bare = {"det_bboxes": [[1.0, 2, 3, 4]], "det_labels": [0]}
    for name, entry in (("8", ENTRY), ("9", nothing), ("10", bare)):
        pickled(source / "val" / "day" / f"img-{name}.pth", entry, core="numpy.core")
    pickled(source / "val" / "night" / "a.pth", ENTRY)
    (tmp_path / "names.txt").write_text("person\ncar\nbus\nvan\n")
    done = run_tool(source, out, "--class-names", tmp_path / "names.txt")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("2 videos, 4 frames, 5 boxes")
    found = read_npz(out / "val" / "day.npz")
    assert found.file_names == ("img-8", "img-9", "img-10")  # in natural order
    assert found.frames.tolist() == [1, 1, 3]
    assert found.boxes.tolist() == [[1, 2, 30, 40], [5.5, 6, 50, 60], [1, 2, 3, 4]]
    assert (found.scores.tolist(), found.labels.tolist()) == ([0.5, 0.25, 1], [3, 1, 0])
    assert found.class_names == {0: "person", 1: "car", 2: "bus", 3: "van"}
    assert found.of_image("val/day/img-10.jpg").tolist() == [2]
    with pytest.raises(InputError, match=r"no image 'img-7.jpg'"):
        found.of_image("img-7.jpg")
    assert sorted(path.name for path in out.rglob("*")) == ["day.npz", "night.npz", "val"]


def test_class_names_of_the_truths_categories(tmp_path):
    """As of LVIS: ids that do not begin at 0, in any order."""
    pickled(tmp_path / "in" / "day" / "1.pth", ENTRY)
    names = tmp_path / "truth.json"
    categories = [
        {"id": 9, "name": "van"},
        {"id": 2, "name": "car"},
        {"id": 1, "name": "person"},
        {"id": 5, "name": "bus"},
    ]
    names.write_text(json.dumps({"categories": categories}))
    assert run_tool(tmp_path / "in", tmp_path / "out", "--class-names", names).returncode == 0
    assert read_npz(tmp_path / "out" / "day.npz").class_names == {0: "person", 1: "car", 2: "bus", 3: "van"}
    names.write_text(json.dumps({"images": []}))
    done = run_tool(tmp_path / "in", tmp_path / "out", "--class-names", names)
    assert (done.returncode, "must be text, or json with categories" in done.stderr) == (2, True)


def test_masks_are_kept(tmp_path):
    coco = pytest.importorskip("pycocotools.mask")
    masks = np.random.default_rng(0).random((3, 48, 64)) < 0.5
    rles = [coco.encode(np.asfortranarray(mask, np.uint8)) for mask in masks]
    uncompressed = {"size": [48, 64], "counts": [10, 48 * 64 - 10]}
    entries = {
        "a/1": {**ENTRY, "det_masks": masks[:2]},
        "a/2": {"det_bboxes": [[1, 2, 3, 4]], "det_labels": [0], "det_masks": [rles[2]]},
        "a/3": {"det_bboxes": np.zeros((0, 5)), "det_labels": [], "det_masks": []},
        "b/1": {**ENTRY, "det_masks": [rles[0], uncompressed]},
    }
    assert run_tool(pickled(tmp_path / "all.pkl", entries), tmp_path / "out").returncode == 0
    found = read_detections(tmp_path / "out" / "a.npz", video(width=64, height=48))
    assert [len(found.masks_at(number)) for number in (1, 2, 3)] == [2, 1, 0]
    decoded = [decode_mask(mask) for number in (1, 2) for mask in found.masks_at(number)]
    assert np.array_equal(decoded, masks)
    runs = read_npz(tmp_path / "out" / "b.npz").masks[1]
    assert decode_mask(runs).T.ravel().tolist() == [False] * 10 + [True] * (48 * 64 - 10)


def test_masks_of_coco_json_are_of_their_boxes(tmp_path):
    """Also where the file's frames are in another order."""
    polygon, rle = [[1, 1, 9, 1, 9, 9]], {"size": [48, 64], "counts": [0, 48 * 64]}
    box = {"bbox": [0, 0, 5, 5], "category_id": 1}
    rows = [{"image_id": 2, **box, "segmentation": polygon}, {"image_id": 1, **box, "segmentation": rle}]
    rows += [{"image_id": 2, **box}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = read_detections(tmp_path / "a.json", video())
    assert found.masks_at(1) == (rle,)
    assert found.masks_at(2) == (polygon, None)
    (tmp_path / "b.json").write_text(json.dumps([{"image_id": 1, **box}]))
    assert read_detections(tmp_path / "b.json", video()).masks == ()


def test_the_tool_reads_one_pickle_of_all(tmp_path):
    one = pickled(tmp_path / "all.pkl", {"day/000002": ENTRY, "day/000001": ENTRY, "night/1": ENTRY})
    assert run_tool(one, tmp_path / "out").returncode == 0
    assert read_npz(tmp_path / "out" / "day.npz").file_names == ("000001", "000002")
    assert len(read_npz(tmp_path / "out" / "night.npz").boxes) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a/1": Runs(os.system, "true")}, "names posix.system"),
        ({"a/1": {"boxes": []}}, "a/1 must be a dict with det_bboxes and det_labels, got boxes"),
        ({"a/1": {"det_bboxes": np.zeros((2, 5)), "det_labels": np.zeros(1)}}, r"got \(2, 5\) and \(1,\)"),
        ({"a/1": {"det_bboxes": [["x"] * 5], "det_labels": [0]}}, "must be numbers"),
        ({"../up/1": ENTRY}, "outside OUT"),
        ({"a/1": {**ENTRY, "det_masks": [np.ones((4, 4), bool)]}}, "det_masks must be one a box, 2, got 1"),
        ({"a/1": {**ENTRY, "det_masks": [np.ones(4)] * 2}}, r"must be COCO RLEs or arrays \(H, W\)"),
        ({"a/1": {**ENTRY, "det_masks": [{"size": [4, 5], "counts": b"x"}] * 2}}, "they are damaged"),
        ({"a/1": {**ENTRY, "det_masks": np.ones((2, 4, 4))}, "a/2": ENTRY}, "must have masks of one size, or none"),
        (ENTRY, "must be a folder, or a pickle of a dict by VIDEO/FRAME"),
    ],
)
def test_the_tool_refuses(tmp_path, content, message):
    done = run_tool(pickled(tmp_path / "in.pkl", content), tmp_path / "out")
    assert done.returncode == 2
    assert re.search(rf"error: .*{message}", done.stderr), done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.npz"))


def test_npz_is_read_as_detections(tmp_path):
    path = tmp_path / "det.npz"
    write_npz(
        path, [2, 1, 2], [[1, 2, 31, 42], [0, 0, 5, 5], [9, 9, 12, 12]], [0.5, 0.9, 0.7], [1, 0, 1], (), ["a", "b"]
    )
    found = read_detections(path, video())
    assert found.at(2).xyxy.tolist() == [[1, 2, 31, 42], [9, 9, 12, 12]]
    assert found.at(2).confidence.tolist() == pytest.approx([0.5, 0.7])
    assert found.at(1).class_id.tolist() == [0]
    assert found.class_names == {0: "a", 1: "b"}


def test_npz_of_some_images_of_the_video(tmp_path):
    path = tmp_path / "det.npz"
    np.savez(path, boxes=np.array([[0, 0, 9, 9], [1, 1, 8, 8]]), frames=[1, 2], file_names=["x/0002.jpg", "0030"])
    names = [f"{i:04d}.png" for i in range(1, 41)]
    found = read_detections(path, video(file_names=names, length=40, last_number=40))
    assert found.frames.tolist() == [2, 30]
    found = read_detections(path, video(file_names=names[:9], length=9, last_number=9))
    assert found.frames.tolist() == [2], "the other image is not in the folder"
    assert "1 of its 2 images are not in the source" in found.notes[0]
    with pytest.raises(InputError, match=r"image 1 is frame 2 of clip if .*, and frame 3 if .*--frame-base"):
        read_detections(path, video())
    assert read_detections(path, video(), Numbering(base=1)).frames.tolist() == [2, 30]


def _saved(path: Path, **arrays: object) -> Path:
    good = {"boxes": np.array([[0, 0, 5, 5]] * 2), "frames": np.array([1, 2])}
    np.savez(path, **{key: value for key, value in {**good, **arrays}.items() if value is not None})
    return path


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"frames": None}, "must have frames, got boxes"),
        ({"boxes": np.zeros((2, 5))}, r"boxes must be \(N, 4\) xyxy, got \(2, 5\)"),
        ({"boxes": np.zeros(4)}, r"boxes must be 2-dimensional numbers, got \(4,\)"),
        ({"frames": np.array([1.5, 2])}, "frames must be whole numbers"),
        ({"frames": np.array([0, 2])}, r"box 0: frames are whole numbers from 1, got 0"),
        ({"boxes": np.array([[0, 0, 5, 5], [5, 5, 5, 9]])}, "box 1: width and height must be above 0"),
        ({"scores": np.ones(3)}, r"scores must have a value a box \(2\), got 3"),
        ({"names": np.ones(3)}, "unknown array 'names'"),
        ({"masks": np.array([b"1"] * 2)}, r"masks must be one a box \(2\), with mask_size"),
        ({"masks": np.array(["1"] * 2)}, "masks must be 1-dimensional bytes"),
        ({"labels": np.array([object(), None])}, "no npz of plain arrays: Object arrays cannot be loaded"),
        ({"file_names": np.array(["a"])}, "frames must count the 1 file_names from 1"),
    ],
)
def test_a_wrong_npz_is_refused(tmp_path, arrays, message):
    with pytest.raises(InputError, match=message):
        read_detections(_saved(tmp_path / "d.npz", **arrays), video())
