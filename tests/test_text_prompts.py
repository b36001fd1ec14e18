"""What a text detector looks for: lists of names, and captions that are longer than the network takes."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from masa_track.boxes import box_iou
from masa_track.cli.main import main
from masa_track.detectors.nanodet import COCO_NAMES
from masa_track.detectors.phrases import read_prompt
from masa_track.errors import InputError

PHRASES = [" ".join(words) for words in product(("a", "red", "car", "dog"), repeat=4)]  # 256 of 4 tokens
FRAME = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)


def test_lists_by_name() -> None:
    lvis = read_prompt("lvis")
    assert len(lvis.names) == len(set(lvis.names)) == len(lvis.phrases) == 1203
    assert (lvis.names[0], lvis.names[1202]) == ("aerosol_can", "zucchini")
    assert lvis == read_prompt(" TAO ")
    # Two classes with one phrase keep their numbers.
    bow = [index for index, phrase in enumerate(lvis.phrases) if phrase == "bow"]
    assert [lvis.names[index] for index in bow] == ["bow_(weapon)", "bow_(decorative_ribbons)"]
    assert lvis.phrases[lvis.names.index("monitor_(computer_equipment) computer_monitor")] == "monitor computer monitor"
    assert all(phrase and "(" not in phrase and "_" not in phrase for phrase in lvis.phrases)
    assert read_prompt("coco").names == tuple(COCO_NAMES)
    assert read_prompt("a Coco. lvis").names == ("a coco", "lvis")  # phrases


def test_lists_from_files(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Traffic_light\n\n  dog \n")
    prompt = read_prompt(str(tmp_path / "names.txt"))
    assert prompt.names == ("Traffic_light", "dog")
    assert prompt.phrases == ("traffic light", "dog")
    categories = [{"id": 9, "name": "cat_(animal)"}, {"id": 2, "name": "bus"}]
    (tmp_path / "truth.json").write_text(json.dumps({"images": [], "categories": categories}))
    prompt = read_prompt(str(tmp_path / "truth.json"))
    assert (prompt.names, prompt.phrases) == (("bus", "cat_(animal)"), ("bus", "cat"))
    for name, text, said in (
        ("no.txt", None, "cannot be read as a list of names"),
        ("empty.txt", "\n", "must have a name for each class"),
        ("bad.json", "[]", "categories, each with id and name"),
    ):
        if text is not None:
            (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match=said):
            read_prompt(str(tmp_path / name))


def test_a_bad_list_is_named_before_the_model_is_loaded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("transformers")
    arguments = ["track", "v.mp4", "--text", str(tmp_path / "no.json"), "--model", "gdino-swinb"]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "cannot be read as a list of names" in said
    assert "loading model" not in said


@pytest.fixture(scope="module")
def parts() -> tuple[Any, Any, Any]:
    """A small model, the detector on its backbone, and its tokenizer."""
    transformers = pytest.importorskip("transformers")
    from tiny_grounding import WORDS, tiny_embedder, tiny_text_detector

    embedder = tiny_embedder()
    tokenizer = transformers.BertTokenizerFast(vocab={word: i for i, word in enumerate(WORDS)})
    return embedder, tiny_text_detector(embedder), tokenizer


def detector(parts: tuple[Any, Any, Any], phrases: list[str]) -> Any:
    from masa_track.detectors.grounded import TextDetector

    embedder, other, tokenizer = parts
    return TextDetector(embedder, other.network, tokenizer, ". ".join(phrases), threshold=0.0)


def test_groups_are_filled_in_order(parts: tuple[Any, Any, Any]) -> None:
    from masa_track.detectors.grounded import MAX_TOKENS, text_groups, tokenize

    _, _, tokenizer = parts
    device = torch.device("cpu")
    groups = text_groups(tokenizer, PHRASES, device)
    assert [group.first for group in groups] == [0, 50, 100, 150, 200, 250]  # (256 - 2) // 5 phrases each
    assert sum(len(group.tokens_of) for group in groups) == len(PHRASES)
    for group in groups:
        size = group.encoding["input_ids"].shape[1]
        assert size <= MAX_TOKENS
        encoding, tokens_of = tokenize(tokenizer, PHRASES[group.first : group.first + len(group.tokens_of)], device)
        assert torch.equal(group.encoding["input_ids"], encoding["input_ids"])
        assert group.tokens_of == tokens_of
    # A caption that just fits is one group, and one token more makes two.
    just = [*PHRASES[:50], "a dog"]  # 2 + 50 * 5 + 3 = 255
    assert len(text_groups(tokenizer, just, device)) == 1
    assert len(text_groups(tokenizer, [*just[:-1], "a red car"], device)) == 1
    assert len(text_groups(tokenizer, [*just[:-1], "a red car dog"], device)) == 2
    with pytest.raises(InputError, match="at most 253 tokens, got 'dog dog"):
        text_groups(tokenizer, ["a", "dog " * 254], device)


def test_one_group_is_one_caption(parts: tuple[Any, Any, Any]) -> None:
    """The same boxes, scores and classes as of the network's own output for the whole caption."""
    from masa_track.detectors.grounded import phrase_scores, tokenize

    phrases = ["a red car", "a dog"]
    embedder, _, tokenizer = parts
    one = detector(parts, phrases)
    found = one.detect([FRAME])[0]
    encoded = embedder.encode([FRAME])[0].data
    encoding, tokens_of = tokenize(tokenizer, phrases, torch.device("cpu"))
    one.given.maps = encoded.maps
    mask = torch.zeros(encoded.image[:, 0].shape, dtype=torch.long)
    mask[:, : encoded.size[0], : encoded.size[1]] = 1
    with torch.inference_mode():
        output = one.network(pixel_values=encoded.image, pixel_mask=mask, **encoding)
    scores, labels = phrase_scores(output.logits[0], tokens_of).max(dim=1)
    order = scores.argsort(descending=True, stable=True)
    assert np.allclose(found.confidence, scores[order].numpy())
    assert found.class_id.tolist() == labels[order].tolist()
    assert len(found) == 20  # overlapping boxes of one group stay


def test_groups_keep_the_numbers_of_classes(parts: tuple[Any, Any, Any]) -> None:
    """Each group by itself, its classes shifted; of boxes that overlap by more than half, the best one remains."""
    phrases = PHRASES[:75]
    whole = detector(parts, phrases)
    assert [group.first for group in whole.groups] == [0, 50]
    assert whole.class_names == dict(enumerate(phrases))
    found = whole.detect([FRAME])[0]
    first, second = (detector(parts, part).detect([FRAME])[0] for part in (phrases[:50], phrases[50:]))
    rows = [(float(s), int(c), b) for s, c, b in zip(first.confidence, first.class_id, first.xyxy, strict=True)]
    rows += [
        (float(s), int(c) + 50, b) for s, c, b in zip(second.confidence, second.class_id, second.xyxy, strict=True)
    ]
    kept: list[tuple[float, int, np.ndarray]] = []
    for row in sorted(rows, key=lambda row: -row[0]):
        if all(box_iou(row[2][None], other[2][None])[0, 0] <= 0.5 for other in kept):
            kept.append(row)
    assert {label >= 50 for _, label, _ in kept} == {True, False}
    assert len(kept) < len(rows)
    assert found.class_id.tolist() == [label for _, label, _ in kept]
    assert np.allclose(found.confidence, [score for score, _, _ in kept])
    assert np.allclose(found.xyxy, np.stack([box for _, _, box in kept]), atol=1e-3)
