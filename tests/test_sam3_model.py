"""SAM 3's networks: one pass of the vision encoder, phrases, exemplars, propagation beside transformers' own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sam3_networks import SIDE, image_model, network, tokenizer, video_model

from masa_track.contracts import Frame, Prompt
from masa_track.errors import InputError

pytest.importorskip("transformers")
torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow  # transformers' SAM 3 takes seconds to import

SIZE = (160, 96)
BOX = np.array([[20.0, 10, 60, 80]])


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)


def calls(model: Any) -> list[int]:
    """Grows by one for each pass of the vision encoder."""
    seen: list[int] = []
    model.detector.vision_encoder.register_forward_hook(lambda *_: seen.append(1))
    return seen


def test_one_pass_for_phrases_exemplars_and_propagation() -> None:
    model = video_model()
    from masa_track.masklets.sam3 import Sam3Network

    both = Sam3Network(model.detector_model, tokenizer(), "x", (model.tracker_model, model.tracker_neck))
    seen, session = calls(both), both.propagator()
    for number in (1, 2, 3):
        features = both.encode([picture(number)])[0]
        frame = Frame(number, number / 10, SIZE, image=picture(number))
        session.propose(frame, features)
        if number == 1:
            for identity in (1, 2):
                session.prompt(identity, Prompt(box=BOX[0]))
        for phrase in ("red car", "dog", "person"):
            both.detect(features, phrase)
        both.detect(features, "dog", BOX)
        both.encode_exemplars(features, BOX)
        session.commit()
        assert len(seen) == number


def test_score_is_presence_times_local_score() -> None:
    model = image_model()
    features = model.encode([picture()])[0]
    found = model.detect(features, "red car", least_score=0.2)
    assert len(found.scores) > 2
    np.testing.assert_allclose(found.scores, found.presence * found.local_scores, rtol=1e-5)
    assert (found.scores > 0.2).all()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [*SIZE, *SIZE]).all()
    assert found.logits.shape == (len(found.scores), 32, 32)
    assert found.semantic is None
    semantic = model.detect(features, "red car", semantic=True).semantic
    assert semantic is not None
    assert semantic.shape == (32, 32)
    none = model.detect(features, "red car", least_score=1.0)
    assert none.boxes.shape == (0, 4)
    assert none.presence == found.presence


def test_prompts_change_what_is_found() -> None:
    model = image_model()
    features = model.encode([picture()])[0]

    def scores(*args: Any, **more: Any) -> np.ndarray:
        return np.asarray(model.detect(features, *args, least_score=-1, **more).scores)

    plain = scores("red car")
    carried = [model.encode_exemplars(model.encode([picture(1)])[0], BOX)]
    others = [
        scores("dog"),
        scores("red car", BOX),
        scores("red car", BOX, np.array([False])),
        scores(None, BOX),
        scores("red car", carried=carried),
        scores(None, carried=carried),
    ]
    for place, one in enumerate(others):
        for other in [plain, *others[:place]]:
            assert np.abs(one - other).max() > 1e-3
    np.testing.assert_array_equal(scores("red car"), plain)  # nothing is left of them


def test_phrases_that_are_too_long() -> None:
    model = image_model()
    fits, long = " ".join(["car"] * 30), " ".join(["car"] * 31)
    model.check_phrase(fits)
    with pytest.raises(InputError, match=r"at most 30 tokens, got 31.*--truncate"):
        model.check_phrase(long)
    with pytest.raises(InputError, match="at most 30 tokens"):
        model.detect(model.encode([picture()])[0], long)
    with pytest.raises(InputError, match="name something"):
        model.check_phrase(" ")
    from masa_track.masklets.sam3 import Sam3Network

    cuts = Sam3Network(model.detector, tokenizer(), "x", truncate=True)
    features = cuts.encode([picture()])[0]
    one, other = (cuts.detect(features, phrase, least_score=-1) for phrase in (fits, f"{long} dog"))
    np.testing.assert_array_equal(one.scores, other.scores)


def test_exemplars_that_cannot_be_used() -> None:
    model = image_model()
    features = model.encode([picture()])[0]
    for box in ([170, 10, 200, 60], [30, 10, 30, 60], [np.nan, 1, 2, 3]):
        with pytest.raises(InputError, match="area inside of the picture of 160 x 96"):
            model.detect(features, None, np.array([box]))
    with pytest.raises(InputError, match="neither"):
        model.detect(features, None)
    with pytest.raises(InputError, match=r"\(n, 4\)"):
        model.encode_exemplars(features, np.zeros((0, 4)))
    with pytest.raises(InputError, match="each of the 1 boxes"):
        model.detect(features, None, BOX, np.array([True, False]))
    with pytest.raises(InputError, match="encode the picture with that model"):
        network().detect(features, "dog")
    with pytest.raises(InputError, match="uint8"):
        model.encode([picture().astype(np.float32)])
    with pytest.raises(InputError, match="no propagator"):
        model.propagator()


def test_a_small_text_encoder() -> None:
    """Sam3LiteText: another text encoder, the rest is the same."""
    model = image_model(lite=True)
    features = model.encode([picture()])[0]
    one, other = (model.detect(features, phrase, least_score=-1) for phrase in ("dog", "red car"))
    assert len(one.scores) == 12
    assert np.isfinite(one.logits).all()
    assert np.abs(one.scores - other.scores).max() > 1e-3


def test_lower_precision() -> None:
    from masa_track.masklets.sam3 import Sam3Network

    model = video_model()
    exact, rounded = (
        Sam3Network(model.detector_model, tokenizer(), "x", (model.tracker_model, model.tracker_neck), precision)
        for precision in (None, "bf16")
    )
    assert rounded.key != exact.key
    found = rounded.detect(rounded.encode([picture()])[0], "dog", BOX, least_score=-1)
    assert found.logits.dtype == found.scores.dtype == np.float32
    session = rounded.propagator()
    session.propose(Frame(1, 0.0, SIZE, image=picture()))
    session.prompt(1, Prompt(box=BOX[0]))
    session.commit()
    assert np.isfinite(session.propose(Frame(2, 0.1, SIZE, image=picture(1))).logits).all()
    with pytest.raises(InputError, match="fp16 needs a GPU"):
        Sam3Network(model.detector_model, tokenizer(), "x", precision="fp16")


def started() -> tuple[Any, np.ndarray]:
    session = network().propagator()
    session.propose(Frame(1, 0.0, SIZE, image=picture()))
    mask = np.zeros(SIZE[::-1], bool)
    mask[20:60, 30:90] = True
    session.prompt(1, Prompt(mask=mask))
    session.commit()
    return session, mask


def test_committed_logits() -> None:
    """Logits of any resolution go into the memory as they are; without a pixel above 0 the object is absent."""
    results = {}
    for name, commit in {
        "proposed": lambda logits: None,
        "same": lambda logits: {1: logits},
        "finer": lambda logits: {1: np.kron(logits, np.ones((2, 2), np.float32))},
        "other": lambda logits: {1: np.where(np.arange(32) < 16, 5.0, -5.0).astype(np.float32) * np.ones((32, 1))},
        "empty": lambda logits: {1: np.full_like(logits, -10)},
    }.items():
        session, _ = started()
        shown = session.propose(Frame(2, 0.1, SIZE, image=picture(1)))
        assert shown.logits.shape == (1, 32, 32)
        session.commit(commit(shown.logits[0]))
        assert (session.entry(1, 2).score > 0) == (name != "empty") if name != "proposed" else True
        results[name] = session.propose(Frame(3, 0.2, SIZE, image=picture(2))).logits
    np.testing.assert_array_equal(results["same"], results["proposed"])
    assert np.abs(results["finer"] - results["proposed"]).max() < 1.0
    for name in ("other", "empty"):
        assert np.abs(results[name] - results["proposed"]).max() > 1e-3
    session, _ = started()
    session.propose(Frame(2, 0.1, SIZE, image=picture(1)))
    with pytest.raises(InputError, match=r"masks\[1\].*finite"):
        session.commit({1: np.full((4, 4), np.nan)})


def test_what_is_forgotten_is_not_needed() -> None:
    """Bit for bit the masks of a session that keeps everything, with prompts time and again."""
    from masa_track.masklets.session import MaskletSession

    session: Any = network().propagator()
    keeps = MaskletSession(session.network, replace(session.options, bounded=False, max_prompted_frames=100))
    mask = np.zeros(SIZE[::-1], bool)
    mask[20:60, 30:90] = True
    features = network().encode([picture(0), picture(1)])
    for number in range(1, 46):
        frame = Frame(number, number / 10, SIZE)
        one, other = (each.propose(frame, features[number % 2]) for each in (session, keeps))
        np.testing.assert_array_equal(one.logits, other.logits)
        for each in (session, keeps):
            if number % 5 == 1:
                each.prompt(1, Prompt(mask=np.roll(mask, number)))
            each.commit({} if number % 7 else {1: np.full((32, 32), -10, np.float32)})  # hidden now and then
        assert session.memory_bytes() <= session.most_bytes_per_object()
    assert keeps.memory_bytes() > 2 * session.memory_bytes()


def transformers_twin(model: Any) -> Any:
    """``Sam3TrackerVideoModel`` as a whole, with the same networks."""
    from transformers import Sam3TrackerVideoModel

    twin = Sam3TrackerVideoModel(model.config.tracker_config).eval()
    lacking = twin.load_state_dict(model.tracker_model.state_dict(), strict=False)
    assert all(key.startswith("vision_encoder") for key in lacking.missing_keys)
    twin.vision_encoder.backbone = model.detector_model.vision_encoder.backbone
    twin.vision_encoder.neck = model.tracker_neck
    return twin


@torch.no_grad()
def test_parts_equal_those_of_transformers() -> None:
    """Memory attention, mask decoder and memory encoder; what differs is what transformers does with them.

    transformers makes the pointer of a given mask from the best of three candidates, officially it is that of the
    single mask; and it scales masks to the input's size before they are encoded.
    """
    from transformers.models.sam3_tracker_video.modeling_sam3_tracker_video import Sam3TrackerVideoInferenceSession

    from masa_track.masklets.sam3 import Sam3Network

    model = video_model(1.0)
    both = Sam3Network(model.detector_model, tokenizer(), "x", (model.tracker_model, model.tracker_neck))
    twin = transformers_twin(model)
    pictures = torch.cat([both.prepare(picture(seed)) for seed in (0, 1)])
    square = np.zeros((SIDE, SIDE), bool)
    square[20:60, 30:90] = True
    theirs = Sam3TrackerVideoInferenceSession(
        video=pictures, video_height=SIDE, video_width=SIDE, inference_device="cpu", dtype=torch.float32
    )
    theirs.add_mask_inputs(theirs.obj_id_to_idx(1), 0, torch.from_numpy(square)[None, None].float())
    theirs.obj_with_new_inputs = [1]
    twin(inference_session=theirs, frame_idx=0)
    expected = twin(inference_session=theirs, frame_idx=1).pred_masks.reshape(32, 32).numpy()
    first = theirs.output_dict_per_obj[0]["cond_frame_outputs"][0]

    session: Any = both.propagator()
    features = [both.encode([picture(seed)])[0] for seed in (0, 1)]
    features = [replace(one, size=(SIDE, SIDE)) for one in features]
    session.propose(Frame(1, 0.0, (SIDE, SIDE)), features[0])
    session.prompt(1, Prompt(mask=square))
    session.commit()
    memory = session._objects[1]
    memory.prompted[1] = replace(
        memory.prompted[1],
        memory=first["maskmem_features"].reshape(64, 64).to(torch.bfloat16),
        pointer=first["object_pointer"].flatten(),
    )
    # transformers has seen one frame, and scales distances of pointers by it
    session._pointers = 1
    found = session.propose(Frame(2, 0.1, (SIDE, SIDE)), features[1]).logits[0]
    assert np.abs(found - expected).max() < 1e-4 * np.abs(expected).max()

    maps = features[0].data
    logits = 5 * torch.randn(3, 32, 32, generator=torch.Generator().manual_seed(0))
    scores = torch.tensor([2.0, -1.0, 0.5])
    tokens = maps.coarse.flatten(2).permute(2, 0, 1).expand(-1, 3, -1)
    large = torch.nn.functional.interpolate(logits[:, None], (128, 128), mode="bilinear")
    for hard in (False, True):
        theirs_encoded, _ = twin._encode_new_memory(tokens, large, scores[:, None, None], hard)
        ours = session.network.memorise(maps, logits, torch.full((3,), hard), scores)
        torch.testing.assert_close(ours, theirs_encoded.permute(1, 0, 2), rtol=1e-2, atol=1e-2)
