"""Grounding DINO and MASA on one backbone: the same as apart, and the backbone runs once a frame."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from official_recipe import official_keys, official_state_dict

from masa_track.detectors.grounded import (
    TextDetector,
    official_detector,
    open_text_detector,
    phrase_scores,
    tokenize,
)
from masa_track.detectors.phrases import split_phrases
from masa_track.encoders.embedder import Embedder
from masa_track.errors import InputError
from masa_track.models.grounding_keys import to_transformers
from masa_track.registry import build_model

transformers = pytest.importorskip("transformers")
pytestmark = pytest.mark.slow  # all build the networks
PARTS = ("detector.backbone.", "masa_adapter.", "rpn_head.", "roi_head.", "track_head.")
TEXT = "a yellow minion. a dog"
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", "a", "yellow", "min", "##ion", "dog", "cat", "the"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("bert") / "vocab.txt"
    file.write_text("\n".join(WORDS))
    return transformers.BertTokenizerFast(vocab_file=str(file), vocab={w: i for i, w in enumerate(WORDS)})


@pytest.fixture(scope="module")
def embedder():
    network = build_model("gdino-swinb")
    network.load_official_state_dict(official_state_dict("gdino-swinb", PARTS))
    return Embedder(network, "gdino-swinb", "cpu")


def small_detector():
    """A whole Swin-B under a small Grounding DINO with random weights."""
    torch.manual_seed(0)
    swin = transformers.SwinConfig(
        embed_dim=128,
        depths=[2, 2, 18, 2],
        num_heads=[4, 8, 16, 32],
        window_size=12,
        image_size=384,
        out_indices=[2, 3, 4],
    )
    bert = transformers.BertConfig(
        vocab_size=len(WORDS), hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32
    )
    config = transformers.GroundingDinoConfig(
        backbone_config=swin, text_config=bert, encoder_layers=1, decoder_layers=2, num_queries=30
    )
    return transformers.GroundingDinoForObjectDetection(config).eval()


def into_transformers(backbone, encoder):
    """Our Swin-B's weights in transformers' encoder."""
    ours, state = backbone.state_dict(), encoder.model.state_dict()
    names = {"norm1": "layernorm_before", "norm2": "layernorm_after", "mlp.0": "mlp.fc1", "mlp.3": "mlp.fc2"}
    names |= {"attn.proj": "attention.o_proj"}
    filled = set()

    def put(key, value):
        assert state[key].shape == value.shape, key
        state[key].copy_(value)
        filled.add(key)

    for key, value in ours.items():
        parts = key.split(".")
        kind = parts[-1]
        if parts[0] == "norms":
            put(f"hidden_states_norms.stage{int(parts[1]) + 2}.{kind}", value)
        elif parts[1] == "0":
            put(f"swin.embeddings.{'patch_embeddings.projection' if parts[2] == '0' else 'norm'}.{kind}", value)
        elif int(parts[1]) % 2 == 0:
            put(f"swin.encoder.layers.{int(parts[1]) // 2 - 1}.downsample.{parts[2]}.{kind}", value)
        else:
            block = f"swin.encoder.layers.{int(parts[1]) // 2}.blocks.{parts[2]}"
            inner = ".".join(parts[3:-1])
            if kind == "relative_position_bias_table":
                put(f"{block}.attention.relative_position_bias.{kind}", value)
            elif inner == "attn.qkv":
                for name, third in zip("qkv", value.chunk(3), strict=True):
                    put(f"{block}.attention.{name}_proj.{kind}", third)
            else:
                put(f"{block}.{names[inner]}.{kind}", value)
    left = {k for k in state if k not in filled and not k.endswith("relative_position_index")}
    assert left <= {"swin.layernorm.weight", "swin.layernorm.bias"}


@pytest.mark.slow
def test_one_pass_gives_the_same_as_two(embedder, tokenizer, monkeypatch):
    frame = np.random.default_rng(0).integers(0, 255, (26, 26, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
    monkeypatch.setattr(embedder.network, "long_side", 416)
    apart = small_detector()
    with torch.no_grad():
        into_transformers(embedder.network.backbone, apart.model.backbone.conv_encoder)
        image = embedder.encode([frame])[0].data.image
        encoding, tokens_of = tokenize(tokenizer, split_phrases(TEXT), torch.device("cpu"))
        output = apart(pixel_values=image, pixel_mask=torch.ones(image[:, 0].shape, dtype=torch.long), **encoding)
        scores, labels = phrase_scores(output.logits[0], tokens_of).max(dim=1)
        x, y, w, h = output.pred_boxes[0].unbind(1)
        boxes = torch.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], dim=1).clamp(0, 1)
        boxes = boxes.numpy() * 416
        given = np.array([[10, 10, 200, 300], [150, 100, 400, 390]], np.float32)
        levels = embedder.network.pyramid(image)
        embeddings = embedder.network.embed(levels, [torch.from_numpy(given)]).numpy()

    calls = []
    forward = embedder.network.backbone.forward
    monkeypatch.setattr(embedder.network.backbone, "forward", lambda images: calls.append(1) or forward(images))
    detector = TextDetector(embedder, small_detector(), tokenizer, TEXT, threshold=0.0)
    assert detector.class_names == {0: "a yellow minion", 1: "a dog"}
    (features,) = embedder.encode([frame])
    (found,) = detector.detect([frame], [features])
    ours = embedder.embed_features(features, given)
    assert len(calls) == 1
    order = scores.argsort(descending=True, stable=True).numpy()
    assert len(found) == 30
    np.testing.assert_allclose(found.confidence, scores.numpy()[order], atol=1e-4)
    same = np.abs(found.xyxy - boxes[order]).max(axis=1) < 0.1
    assert same.mean() > 0.9  # queries of equal score may change places
    assert (found.class_id == labels.numpy()[order])[same].all()
    np.testing.assert_allclose(ours, embeddings, atol=1e-3 * np.abs(embeddings).max())


def test_classes_come_from_the_tokenizers_offsets(tokenizer):
    encoding, tokens_of = tokenize(tokenizer, split_phrases("A yellow  minion . a dog..the cat"), torch.device("cpu"))
    assert tokenizer.convert_ids_to_tokens(encoding["input_ids"][0].tolist()) == [
        *("[CLS]", "a", "yellow", "min", "##ion", ".", "a", "dog", ".", "the", "cat", ".", "[SEP]")
    ]
    assert tokens_of == [[1, 2, 3, 4], [6, 7], [9, 10]]
    logits = torch.full((2, 13), -20.0)
    logits[0, 1:5] = 0.0  # half of each token of the first phrase
    logits[1, 7] = 20.0  # one of two tokens
    torch.testing.assert_close(
        phrase_scores(logits, tokens_of), torch.tensor([[0.5, 0, 0], [0, 0.5, 0]]), atol=1e-6, rtol=0
    )


def test_bad_prompts(embedder, tokenizer):
    with pytest.raises(InputError, match="must name something"):
        split_phrases(" . .. ")
    with pytest.raises(InputError, match="at most 256 tokens, got 3"):
        tokenize(tokenizer, ["a dog"] * 100, torch.device("cpu"))
    other = Embedder(torch.nn.Linear(1, 1), "r50", "cpu")
    with pytest.raises(InputError, match="backbone of Grounding DINO, gdino-swinb, got 'r50'"):
        open_text_detector(other, TEXT)


def test_official_detector_keys_fill_transformers_model():
    """Every official key of the detector's head has one place, and every place one key."""
    state = {k: torch.empty(s, device="meta") for k, s in official_keys("gdino-swinb").items()}
    left = [
        key
        for key in state
        if key.startswith("detector.")
        and not key.startswith(("detector.backbone.", "detector.dn_query_generator."))
        and ".pooler." not in key
        and not to_transformers({key: state[key]})
    ]
    assert left == []
    with torch.device("meta"):
        network = official_detector(state)
    own = {k: tuple(v.shape) for k, v in network.state_dict().items() if ".conv_encoder." not in k}
    assert {k: tuple(v.shape) for k, v in to_transformers(state).items()} == own
    del state["detector.memory_trans_fc.bias"]
    with torch.device("meta"), pytest.raises(InputError, match=r"1 tensors are missing.*model\.enc_output\.bias"):
        official_detector(state)
