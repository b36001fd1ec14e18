"""Networks of scenes: tiny, with random weights, called as real ones; early fusion against HIPIE's numbers."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny_scene

from masa_track.cli.main import main
from masa_track.errors import InputError
from masa_track.formats.panoptic import read_panoptic
from masa_track.formats.run import read_run
from masa_track.parts.hierarchy import parse_hierarchy

transformers = pytest.importorskip("transformers")
torch = pytest.importorskip("torch")

from masa_track.parts.models import (  # noqa: E402
    ClipNames,
    TransformersSegmenter,
    TransformersStuff,
    phrase_embeddings,
    plain_names,
)

GOLDENS = Path(os.environ.get("MASA_GOLDENS", Path(__file__).parent / "goldens")) / "hipie"
IMAGE = np.random.default_rng(0).integers(0, 255, (50, 80, 3), dtype=np.uint8)
TREE = parse_hierarchy("person[head]. dog", stuff="road, sky, meadow=grass")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """The folder of a network, made when it is first wanted."""
    base = tmp_path_factory.mktemp("networks")

    def of(name: str) -> str:
        place = base / name
        if not place.exists():
            if name == "siglip2":
                tiny_scene.siglip(place, second=True)
            else:
                getattr(tiny_scene, name)(place)
        return str(place)

    return of


@pytest.mark.slow
def test_early_fusion_is_transformers_layer() -> None:
    """HIPIE's bi-directional attention of picture and text, with both masks: the layer that Grounding DINO runs."""
    from transformers.models.grounding_dino.modeling_grounding_dino import GroundingDinoFusionLayer

    with np.load(GOLDENS / "hipie_fusion_official.npz") as file:
        data = {key: file[key] for key in file.files}
    config = transformers.GroundingDinoConfig(d_model=64, encoder_ffn_dim=256, encoder_attention_heads=8)
    layer = GroundingDinoFusionLayer(config).eval()
    names = {"layer_norm_vision": "layer_norm_v", "layer_norm_text": "layer_norm_l", "vision_param": "gamma_v"}
    names |= {"text_param": "gamma_l", "attn.vision_proj": "attn.v_proj", "attn.text_proj": "attn.l_proj"}
    names |= {"attn.values_vision_proj": "attn.values_v_proj", "attn.values_text_proj": "attn.values_l_proj"}
    names |= {"attn.out_vision_proj": "attn.out_v_proj", "attn.out_text_proj": "attn.out_l_proj"}
    for name, value in layer.named_parameters():
        stem, _, last = name.rpartition(".")
        official = f"{names[stem]}.{last}" if stem in names else names[name]
        x = np.random.default_rng([0, zlib.crc32(official.encode())]).standard_normal(tuple(value.shape))
        x = x.astype(np.float32)
        if "gamma" in official:
            x = 0.5 + 0.2 * x
        elif value.ndim == 2:
            x = x / np.sqrt(value.shape[-1]) * 1.5
        else:
            x = 1 + 0.1 * x if last == "weight" else 0.1 * x
        value.data = torch.from_numpy(np.asarray(x, np.float32))
    given = {key: torch.from_numpy(value) for key, value in data.items()}
    with torch.no_grad():
        (vision, _), (text, _) = layer(given["vision"], given["text"], attention_mask_text=given["text_mask"] == 0)
    np.testing.assert_allclose(vision.numpy(), data["out_vision"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(text.numpy(), data["out_text"], rtol=0, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sam", "sam2"])
def test_masks_by_boxes_and_points(folder, name: str) -> None:
    segmenter = TransformersSegmenter(folder(name), "cpu")
    boxes = np.array([[5, 5, 40, 30], [0, 0, 20, 20], [90, 90, 99, 99]], np.float32)
    masks = segmenter.segment(IMAGE, boxes)
    assert (masks.shape, masks.dtype) == ((3, 50, 80), bool)
    assert not masks[2].any()  # outside of the picture
    np.testing.assert_array_equal(segmenter.segment(IMAGE, boxes[[2, 1, 0]]), masks[[2, 1, 0]])
    assert segmenter.segment(IMAGE, boxes[:0]).shape == (0, 50, 80)
    points = np.array([[10, 10], [40, 30]], np.float32)
    found = segmenter.segment_points(IMAGE, points)
    assert found.shape == (6, 50, 80)
    np.testing.assert_array_equal(segmenter.segment_points(IMAGE, points[::-1]), found[[3, 4, 5, 0, 1, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mask2former", "oneformer", "eomt"])
def test_stuff(folder, name: str) -> None:
    """Known names alone; then with an unknown one, by CLIP."""
    finder = TransformersStuff(folder(name), TREE, "cpu")
    scores, masks = finder.find(IMAGE)
    assert (scores.shape, masks.shape) == ((6, 3), (6, 50, 80))
    assert (scores > 0).all()
    assert (scores < 1).all()
    assert (masks > 0).all()
    assert (masks < 1).all()
    wide = IMAGE[:, :32].repeat(4, axis=1)
    assert finder.find(wide)[1].shape == (6, 50, 128)
    unknown = parse_hierarchy("person", stuff="road, water")
    with pytest.raises(InputError, match="has no class 'water'"):
        TransformersStuff(folder(name), unknown, "cpu")
    named = TransformersStuff(folder(name), unknown, "cpu", ClipNames(folder("clip"), "cpu"))
    scores, _ = named.find(IMAGE)
    assert scores.shape == (6, 2)
    assert np.isfinite(scores).all()
    assert named.known.tolist() == [True, False]


def test_an_unknown_name_has_what_the_network_gives_to_other_classes(folder) -> None:
    finder = TransformersStuff(folder("eomt"), parse_hierarchy("person", stuff="road"), "cpu")
    scores, _ = finder.find(IMAGE)

    class Even:
        def mask_logits(self, image, masks, names) -> np.ndarray:
            return np.zeros((len(masks), len(names)), np.float32)

    both = TransformersStuff(folder("eomt"), parse_hierarchy("person", stuff="road, water"), "cpu", Even())  # type: ignore[arg-type]
    found, _ = both.find(IMAGE)
    np.testing.assert_allclose(found[:, 0], scores[:, 0] ** 0.65 * 0.5**0.35, rtol=1e-5)
    output = both.network(
        pixel_values=both.processor(images=[IMAGE[..., ::-1].copy()], return_tensors="pt").pixel_values
    )
    p = output.class_queries_logits[0].softmax(-1).detach().numpy()
    rest = p[:, [0, 1, 3, 4]].sum(axis=1)
    np.testing.assert_allclose(found[:, 1], rest**0.3 * 0.5**0.7, rtol=1e-5)


@pytest.mark.parametrize("name", ["clip", "siglip", "siglip2"])
def test_names_of_masks(folder, name: str) -> None:
    names = ClipNames(folder(name), "cpu")
    masks = np.zeros((3, 50, 80), np.float32)
    masks[0, :25], masks[1, 30:, 40:], masks[2, 0, 0] = 1, 1, 1
    logits = names.mask_logits(IMAGE, masks, ["a head", "dog"])
    assert logits.shape == (3, 2)
    np.testing.assert_allclose(
        names.mask_logits(IMAGE, masks[::-1].copy(), ["dog", "a head"]), logits[::-1, ::-1], atol=1e-4
    )
    assert np.abs(logits[0] - logits[1]).max() > 1e-4  # the pixels under a mask decide
    text, pictures = names.text(["a head", "dog"]), names.pictures([IMAGE, IMAGE[:20, :10]])
    for one in (text, pictures):
        np.testing.assert_allclose(np.linalg.norm(one, axis=1), 1, atol=1e-5)
    assert text.shape == pictures.shape


def test_class_names_of_networks() -> None:
    assert plain_names("sky-other-merged") == {"sky-other-merged", "sky"}
    assert plain_names("Pavement_merged") == {"pavement_merged", "pavement"}
    assert {"path", "trail"} <= plain_names("path, trail")


def test_models_of_other_kinds_are_refused(folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="kinds sam, sam2, got clip"):
        TransformersSegmenter(folder("clip"), "cpu")
    with pytest.raises(InputError, match="kinds clip, siglip, siglip2"):
        ClipNames(folder("sam"), "cpu")
    with pytest.raises(InputError, match="cannot be loaded"):
        TransformersStuff(str(tmp_path), TREE, "cpu")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("segmenter", "stuff", "parts_by"), [("sam2", "mask2former", "boxes"), ("sam", "eomt", "votes")]
)
def test_the_command_with_networks(
    folder, tmp_path: Path, segmenter: str, stuff: str, parts_by: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Random weights find nothing that is true; forms of files are checked, and that parts lie below things."""
    (tmp_path / "film").mkdir()
    for number in range(1, 5):
        cv2.imwrite(str(tmp_path / "film" / f"{number:06d}.png"), np.roll(IMAGE, number, axis=1))
    given = [
        "track",
        str(tmp_path / "film"),
        "--detector",
        f"transformers:{folder('grounding_dino')}",
        "--device",
        "cpu",
    ]
    given += ["--text", "person:0.01[head:0.01, left hand:0.01]. dog:0.01", "--stuff", "road, water"]
    given += ["--stuff-model", folder(stuff), "--clip", folder("clip"), "--masks", f"transformers:{folder(segmenter)}"]
    given += ["--parts-by", parts_by, "--out", str(tmp_path / "run")]
    assert main(given) == 0, capsys.readouterr().err
    run = read_run(tmp_path / "run")
    assert run.class_names == {0: "person", 1: "person head", 2: "person left hand", 3: "dog", 4: "road", 5: "water"}
    assert len(run.ids)
    things = set(run.ids[np.isin(run.classes, [0, 3])].tolist())
    parts = np.isin(run.classes, [1, 2])
    assert set(run.parent_ids[parts].tolist()) <= things
    assert all(mask is not None for mask in run.masks)
    maps = read_panoptic(tmp_path / "run")
    for frame in maps.videos["film"]:
        frame.numbers()


def test_embeddings_of_phrases(folder) -> None:
    """The mean over a phrase's own tokens: padding and other phrases make no difference."""
    network = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder("grounding_dino")).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder("grounding_dino"))
    found = phrase_embeddings(network, tokenizer, ["person", "person left hand"])
    alone = phrase_embeddings(network, tokenizer, ["person"])
    np.testing.assert_allclose(found[0], alone[0], atol=1e-5)
    assert np.abs(found[0] - found[1]).max() > 1e-3
